//! Weir: a WebAssembly transform runtime for Apache Kafka.

pub mod fake;
pub mod io;
pub mod record;
