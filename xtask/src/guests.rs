//! `cargo xtask guests`: the modules, from Rust to Wasm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, bail, ensure};
use clap::Args;

use crate::cargo::{self, Workspace};

const TARGET: &str = "wasm32-unknown-unknown";

const EXAMPLES: &str = "\
Examples:
  cargo xtask guests
  weir inspect target/guests/add-uuid.wasm";

/// Build the guests to target/guests/NAME.wasm.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {}

/// Runs the task: builds all, and prints name and size of each.
pub fn run() -> Result<(), Error> {
    let modules = build()?;
    let width = modules.iter().map(|module| module.name.len()).max();
    for Module {
        name,
        bytes,
        changed,
        ..
    } in &modules
    {
        println!(
            "{name:width$}  {:>7.1} KB  {}",
            *bytes as f64 / 1e3,
            if *changed { "new" } else { "unchanged" },
            width = width.unwrap_or(0)
        );
    }
    println!("in {}", folder().display());
    Ok(())
}

/// Builds all guests quietly, for tasks that need them.
pub fn build() -> Result<Vec<Module>, Error> {
    ensure_target()?;
    cargo::run(Workspace::Guests.cargo().args([
        "build",
        "--release",
        "--workspace",
        "--lib",
        "--target",
        TARGET,
    ]))?;
    let built = Workspace::Guests
        .folder()
        .join(format!("target/{TARGET}/release"));
    fs::create_dir_all(folder()).with_context(|| format!("can't make {}", folder().display()))?;
    let mut modules = Vec::new();
    for (package, target) in Workspace::Guests.targets("cdylib")? {
        let from = built.join(format!("{}.wasm", target.replace('-', "_")));
        let to = folder().join(format!("{package}.wasm"));
        let (bytes, changed) = put(&from, &to)?;
        modules.push(Module {
            name: package,
            bytes,
            changed,
        });
    }
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(!modules.is_empty(), "guests/ has no package with a cdylib");
    Ok(modules)
}

/// A guest that was built.
pub struct Module {
    name: String,
    bytes: usize,
    changed: bool,
}

/// Where the modules go.
pub fn folder() -> PathBuf {
    xtask::root().join("target/guests")
}

/// Copies a module if it differs from what is there, in one step: somebody may watch the file. Returns its size and
/// whether it was copied.
fn put(from: &Path, to: &Path) -> Result<(usize, bool), Error> {
    let bytes = fs::read(from).with_context(|| format!("can't read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok((bytes.len(), false));
    }
    let part = to.with_extension("wasm.part");
    fs::write(&part, &bytes).with_context(|| format!("can't write {}", part.display()))?;
    fs::rename(&part, to).with_context(|| format!("can't write {}", to.display()))?;
    Ok((bytes.len(), true))
}

/// Adds the Wasm target to the toolchain, unless it's there.
fn ensure_target() -> Result<(), Error> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(Workspace::Guests.folder())
        .output()
        .context("can't run `rustc`; see https://rustup.rs")?;
    let library = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && Path::new(library.trim()).is_dir() {
        return Ok(());
    }
    let mut attempt = 1;
    loop {
        let status = Command::new("rustup")
            .args(["target", "add", TARGET])
            .current_dir(Workspace::Guests.folder())
            .stdin(Stdio::null())
            .status();
        match status {
            Ok(status) if status.success() => return Ok(()),
            // The first try may time out.
            Ok(_) if attempt == 1 => attempt += 1,
            Ok(status) => bail!("`rustup target add {TARGET}` failed twice ({status}); see above"),
            Err(error) => bail!(
                "this toolchain can't build for {TARGET}, and there's no `rustup` to add it ({error}): \
                 install rustup (https://rustup.rs), or the target's standard library by your package manager"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_replaced_only_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (
            folder.path().join("a_b.wasm"),
            folder.path().join("a-b.wasm"),
        );
        fs::write(&from, "one").unwrap();
        assert_eq!(put(&from, &to).unwrap(), (3, true));
        let before = fs::metadata(&to).unwrap().modified().unwrap();
        assert_eq!(put(&from, &to).unwrap(), (3, false));
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), before);
        fs::write(&from, "three").unwrap();
        assert_eq!(put(&from, &to).unwrap(), (5, true));
        assert_eq!(fs::read(&to).unwrap(), b"three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
