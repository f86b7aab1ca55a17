//! Weir: a WebAssembly transform runtime for Apache Kafka.

pub mod admin;
pub mod chain;
pub mod cli;
pub mod config;
pub mod fake;
pub mod guest;
pub mod ids;
pub mod io;
pub mod kafka;
pub mod metrics;
pub mod record;
pub mod status;
pub mod wake;
pub mod worker;
