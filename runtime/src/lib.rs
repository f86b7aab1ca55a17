//! Weir: a WebAssembly transform runtime for Apache Kafka.

pub mod io;
pub mod kafka;
pub mod record;
