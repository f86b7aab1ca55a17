//! Weir: a WebAssembly transform runtime for Apache Kafka.

pub mod guest;
pub mod io;
pub mod record;
