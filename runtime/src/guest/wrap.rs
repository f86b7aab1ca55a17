//! What a module file is: core module or component, what it imports, and how the one becomes the other.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

use super::module::INTERFACE;

/// Something that a module wants from its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The module or interface.
    pub module: String,
    /// The function, memory or other thing; empty for an interface.
    pub name: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.is_empty() {
            true => write!(f, "{}", self.module),
            false => write!(f, "{}::{}", self.module, self.name),
        }
    }
}

/// What kind of module a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Straight from `cargo build --target wasm32-unknown-unknown`.
    CoreModule,
    /// Wrapped already.
    Component,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::CoreModule => "core module",
            Shape::Component => "component",
        })
    }
}

/// What a module is and all that it imports; an error if it isn't WebAssembly.
pub fn imports(bytes: &[u8]) -> Result<(Shape, Vec<Import>)> {
    ensure!(
        bytes.starts_with(b"\0asm"),
        "it isn't a WebAssembly module: a binary one starts with the bytes 00 61 73 6d{}",
        if bytes.trim_ascii_start().starts_with(b"(module")
            || bytes.trim_ascii_start().starts_with(b"(component")
        {
            "; this is the text format, which `wasm-tools parse` turns into the binary one"
        } else {
            ""
        }
    );
    let mut shape = None;
    let mut imports = Vec::new();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.context("it's a damaged WebAssembly module")? {
            Payload::Version { encoding, .. } => {
                shape = shape.or(Some(match encoding {
                    Encoding::Module => Shape::CoreModule,
                    Encoding::Component => Shape::Component,
                }));
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(section) if depth == 1 => {
                for import in section.into_imports() {
                    let import = import.context("it's a damaged WebAssembly module")?;
                    imports.push(Import {
                        module: import.module.into(),
                        name: import.name.into(),
                    });
                }
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let import = import.context("it's a damaged WebAssembly component")?;
                    imports.push(Import {
                        module: import.name.name.into(),
                        name: String::new(),
                    });
                }
            }
            _ => {}
        }
    }
    let shape = shape.context("it's a damaged WebAssembly module: it ends before its header")?;
    Ok((shape, imports))
}

/// The component in `bytes`, a core module wrapped if need be. Refuses what Weir can't run, with the reason.
pub(super) fn component(bytes: &[u8]) -> Result<Vec<u8>> {
    let (shape, imports) = imports(bytes)?;
    if !imports.is_empty() {
        let names: Vec<String> = imports.iter().map(Import::to_string).collect();
        bail!(
            "it imports {}, and Weir offers no imports: transforms get all they need with each batch; \
             build it for wasm32-unknown-unknown without clocks, randomness, files or threads",
            names.join(", ")
        );
    }
    let component = match shape {
        Shape::Component => bytes.to_vec(),
        Shape::CoreModule => ComponentEncoder::default()
            .validate(false)
            .module(bytes)
            .and_then(|mut encoder| encoder.encode())
            .context("it can't be wrapped into a component; is it built with weir-guest and its `export!` line?")?,
    };
    let exports = exports(&component)?;
    if !exports.iter().any(|name| name == INTERFACE) {
        let other = exports
            .iter()
            .find(|name| name.starts_with("weir:transform/"));
        match other {
            Some(other) => bail!(
                "it's built for {other}, and this Weir speaks {INTERFACE}: build it with the weir-guest of this version"
            ),
            None => bail!(
                "it doesn't export {INTERFACE}: it isn't a Weir transform, or it lacks weir-guest's `export!` line"
            ),
        }
    }
    Ok(component)
}

fn exports(component: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.context("it's a damaged WebAssembly component")? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export.context("it's a damaged WebAssembly component")?;
                    names.push(export.name.name.to_string());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}
