//! The sandbox: the only place that names wasmtime.
//!
//! Three lifetimes, three types: a [`Host`] for the process, a [`Module`] for a version of a transform, a [`Guest`]
//! for a worker. Nothing here knows that Kafka exists.

mod bindings;
mod cache;
mod check;
mod compile;
mod fault;
mod host;
mod instance;
mod limits;
mod log;
mod module;
mod wrap;

pub use check::{Output, UNCHOSEN};
pub use compile::compile_stdin;
pub use fault::Fault;
pub use host::{Compiler, Host};
pub use instance::{Guest, Needs, Setup, thread_cpu_time};
pub use limits::{Limit, Limits};
pub use log::{Level, Log};
pub use module::{Description, Digest, Module};
pub use wrap::{Import, Shape, imports};
