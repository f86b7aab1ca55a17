//! Weir: a WebAssembly transform runtime for Apache Kafka.

pub mod chain;
pub mod guest;
pub mod ids;
pub mod io;
pub mod metrics;
pub mod record;
pub mod wake;
pub mod worker;
