//! Weir: a WebAssembly transform runtime for Apache Kafka.
//!
//! - [`app`], [`pipeline`], [`worker`]: the life of the process, of a pipeline, and a record's way. [`instance`]: the
//!   name of the process among others.
//! - [`guest`], [`chain`]: the sandbox, and a pipeline's transforms in it. Only `guest` names wasmtime.
//! - [`io`], [`kafka`], [`cluster`]: where records come from and go to. Only `kafka` names librdkafka.
//! - [`record`], [`ids`]: records in columns, and the keys that stable ids are drawn from.
//! - [`letter`], [`dead_letters`]: how a dead letter is written, and what can be done with those that there are.
//! - [`config`], [`cli`], [`fake`]: the config file, the commands, and made-up records.
//! - [`admin`], [`status`], [`metrics`], [`fold`]: what can be seen from outside. Only `admin` names axum.

pub mod admin;
pub mod api;
pub mod app;
pub mod chain;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod dead_letters;
pub mod deploy;
pub mod fake;
pub mod fold;
pub mod guest;
pub mod ids;
pub mod influxdb;
pub mod instance;
pub mod io;
pub mod kafka;
pub mod letter;
pub mod metrics;
pub mod pipeline;
pub mod record;
pub mod reload;
pub mod shadow;
pub mod status;
pub mod store;
pub mod watch;
pub mod worker;
