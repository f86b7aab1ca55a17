//! Weir: a WebAssembly transform runtime for Apache Kafka.

pub mod cli;
pub mod config;
pub mod fake;
pub mod io;
pub mod record;
