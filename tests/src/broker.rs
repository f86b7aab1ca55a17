//! The Kafka that the tests of one process share.

use std::sync::OnceLock;

use anyhow::Error;
use xtask::broker::{Broker as Process, Options};

/// The environment variable that names a broker to use instead of starting one.
const BOOTSTRAP: &str = "WEIR_TEST_BOOTSTRAP";

/// A running Kafka.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    /// Ends with the test process, by its watchdog, which removes its folder too.
    _process: Option<Process>,
}

impl Broker {
    /// What clients put into `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

/// The broker of this test run: started by the first test that asks for it, unless `WEIR_TEST_BOOTSTRAP` names one
/// that runs already.
///
/// # Panics
/// If there's no broker to be had, with what to do about it.
#[track_caller]
pub fn broker() -> &'static Broker {
    static BROKER: OnceLock<Result<Broker, Error>> = OnceLock::new();
    match BROKER.get_or_init(start) {
        Ok(broker) => broker,
        Err(error) => panic!("no Kafka to test against: {error:#}"),
    }
}

fn start() -> Result<Broker, Error> {
    if let Ok(bootstrap) = std::env::var(BOOTSTRAP) {
        return Ok(Broker {
            bootstrap,
            _process: None,
        });
    }
    let folder = tempfile::Builder::new().prefix("weir-kafka-").tempdir()?;
    let process = Process::start(&Options {
        folder: folder.path().to_path_buf(),
        port: None,
        remove_folder: true,
        authorizer: true,
    })?;
    // Statics aren't dropped: from here on the folder is the watchdog's.
    let _ = folder.keep();
    Ok(Broker {
        bootstrap: process.bootstrap(),
        _process: Some(process),
    })
}
