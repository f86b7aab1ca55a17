//! Modules written by hand, for what no Rust guest does: they start, describe themselves and transform as the test says.

use std::fmt::Write;

use wasmparser::{Parser, Payload};

use crate::util::wasm;

/// The parts of a module in the text format; all that's left empty does no harm: it drops every record.
#[derive(Clone, Copy)]
pub struct Hand<'a> {
    /// Pages of memory at the start; at least 2.
    pub pages: u32,
    /// Tables, globals and functions.
    pub fields: &'a str,
    /// What runs when the module is instantiated.
    pub start: &'a str,
    /// What runs before `describe` and `init` answer.
    pub describe: &'a str,
    pub init: &'a str,
    /// What runs in `transform`, which may return the address of its answer: a `result<output, string>`. The batch's
    /// address is `$batch`.
    pub transform: &'a str,
}

impl Default for Hand<'_> {
    fn default() -> Self {
        Hand {
            pages: 2,
            fields: "",
            start: "",
            describe: "",
            init: "",
            transform: "",
        }
    }
}

impl Hand<'_> {
    /// The module, with its functions' names.
    pub fn wasm(&self) -> Vec<u8> {
        let Hand {
            pages,
            fields,
            start,
            describe,
            init,
            transform,
        } = self;
        // From address 16 on there are zeros: four empty strings; flags from 64 on: the values are needed; an output
        // without anything from 128 on. What the host passes in is laid from 65536 on.
        let text = format!(
            r#"(module
                (memory (export "memory") {pages})
                (global $heap (mut i32) (i32.const 65536))
                (data (i32.const 68) "\02")
                {fields}
                (func $start {start})
                (start $start)
                (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    global.get $heap
                    (global.set $heap
                        (i32.and
                            (i32.add (i32.add (global.get $heap) (local.get 3)) (i32.const 15))
                            (i32.const -16))))
                (func $describe (export "weir:transform/guest@0.1.0#describe") (result i32)
                    {describe}
                    i32.const 16)
                (func $init (export "weir:transform/guest@0.1.0#init") (param i32 i32 i32 i32) (result i32)
                    {init}
                    i32.const 64)
                (func $transform (export "weir:transform/guest@0.1.0#transform") (param $batch i32) (result i32)
                    (global.set $heap (i32.const 65536))
                    {transform}
                    i32.const 128))"#
        );
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
        // What says that it's a transform is the same in every module.
        let faulty = wasm("faulty");
        for (id, name, content) in sections(&faulty) {
            if name.starts_with("component-type") {
                push_section(&mut module, id, content);
            }
        }
        module
    }
}

/// A module without its functions' names.
pub fn stripped(module: &[u8]) -> Vec<u8> {
    let mut bare = module[..8].to_vec();
    for (id, name, content) in sections(module) {
        if name != "name" {
            push_section(&mut bare, id, content);
        }
    }
    bare
}

/// Bytes as a string of the text format.
pub fn quoted(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}

/// The sections of a module: id, name if it's a custom one, and content.
fn sections(module: &[u8]) -> Vec<(u8, String, &[u8])> {
    let mut sections = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.unwrap();
        let name = match &payload {
            Payload::CustomSection(it) => it.name().to_string(),
            _ => String::new(),
        };
        if let Some((id, range)) = payload.as_section() {
            sections.push((id, name, &module[range]));
        }
    }
    sections
}

fn push_section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    let mut rest = content.len();
    loop {
        let more = rest > 0x7f;
        module.push((rest & 0x7f) as u8 | if more { 0x80 } else { 0 });
        rest >>= 7;
        if !more {
            break;
        }
    }
    module.extend_from_slice(content);
}
