//! The contract's types and export functions, generated from `wit/transform.wit`. For transforms that work on whole
//! columns; others use [`Record`](crate::Record).
#![allow(missing_docs, clippy::all)]

wit_bindgen::generate!({
    path: "wit",
    world: "transform",
    pub_export_macro: true,
    export_macro_name: "__export",
    default_bindings_module: "weir_guest::bindings",
    runtime_path: "weir_guest::bindings::rt",
});

pub use exports::weir::transform::guest::*;
#[doc(hidden)]
pub use wit_bindgen::rt;
