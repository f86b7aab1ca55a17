//! The harness of the tests that run against a real Kafka.
//!
//! A test makes its own [`Topic`]s on the one [`broker`], its own [`Scratch`] folder, starts [`Weir`] in it, and judges
//! what comes out. It never sleeps to wait: [`eventually`] looks at a condition until a deadline.
//!
//! ```no_run
//! use weir_tests::{Pipeline, Record, Scratch, Topic, Weir, config};
//!
//! let scratch = Scratch::new();
//! let (input, output) = (Topic::create(4), Topic::create(4));
//! input.produce((0..1_000).map(|n| Record::new(None, Some(format!("{n}").as_bytes()))));
//! let pipeline = Pipeline::new("copy", &input, &output).set("workers = 2");
//! let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
//! weir.wait_done(&input, pipeline.group());
//! assert_eq!(weir.terminate(), Some(0));
//! assert_eq!(output.consume().len(), 1_000);
//! ```
//!
//! What goes wrong in here is a panic that says what went wrong, so that a test reads as what it does.

mod acl;
mod broker;
mod config;
mod contained;
mod daemon;
mod data;
mod form;
mod influx;
mod prometheus;
mod proxy;
mod raw;
mod scratch;
pub mod seed;
mod topic;
mod weir;

use std::time::Duration;

pub use acl::{Denial, Operation, Resource};
pub use broker::{Broker, broker};
pub use config::{Pipeline, config, config_at, config_in_image};
pub use contained::{Contained, engine};
pub use data::data_of;
pub use influx::Influx;
pub use prometheus::{Prometheus, promtool};
pub use proxy::Proxy;
pub use rustix::process::Signal;
pub use scratch::Scratch;
pub use topic::{Consumed, Header, Record, Topic};
pub use weir::{Finished, Weir, guest};

/// A deadline for what takes seconds on an idle machine.
pub const MINUTE: Duration = Duration::from_secs(60);

/// Looks at a condition until it gives a value, and panics with what was waited for once the deadline is over.
#[track_caller]
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    must(xtask::wait::eventually(what, deadline, || Ok(condition())))
}

/// The value, or a panic with the whole error.
#[track_caller]
fn must<T, E: Into<anyhow::Error>>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{:#}", error.into()),
    }
}
