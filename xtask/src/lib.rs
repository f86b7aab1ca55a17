//! What the tasks (`cargo xtask …`) and the integration tests share: a real Kafka broker, containers, child processes
//! that never outlive the one who started them, and a small HTTP client.
//!
//! Nothing here knows wasmtime or rdkafka, so that `cargo xtask` is there within seconds on a fresh machine.

pub mod broker;
pub mod container;
pub mod http;
pub mod wait;
pub mod watchdog;

use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask/ lies in the workspace's folder")
        .to_path_buf()
}
