//! The contract's types and export functions, generated from `wit/transform.wit`. For transforms that work on whole
//! columns, which implement [`Guest`] and are exported with
//! `weir_guest::bindings::export_guest!(MyGuest with_types_in weir_guest::bindings);`; others use
//! [`Record`](crate::Record).
#![allow(missing_docs, clippy::all)]

wit_bindgen::generate!({
    path: "wit",
    world: "transform",
    pub_export_macro: true,
    export_macro_name: "export_guest",
    default_bindings_module: "weir_guest::bindings",
    runtime_path: "weir_guest::bindings::rt",
});

pub use exports::weir::transform::guest::*;

/// Stands in `output.outputs` for a record that goes where an earlier transform sent it.
pub const UNCHOSEN: u32 = u32::MAX;

#[doc(hidden)]
pub use wit_bindgen::rt;
