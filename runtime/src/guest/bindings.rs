//! Generated from `wit/transform.wit`; the conversions live beside it, in `instance.rs` and `check.rs`.
#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "transform",
    ownership: Borrowing { duplicate_if_necessary: true },
});

pub use exports::weir::transform::guest::*;
