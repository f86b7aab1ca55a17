//! `cargo xtask bench`: the yardsticks.

mod latency;
mod observe;
mod process;
mod seed;
mod shadow;
mod site;
mod spread;
mod swap;

pub use process::peak_rss_bytes;

use std::ffi::OsString;

use anyhow::Error;
use clap::{Args, Subcommand};

use crate::cargo::{self, Workspace};
use crate::machine::{self, Need};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench seed                # the seed job beside librdkafka alone
  cargo xtask bench seed --rounds 5
  cargo xtask bench latency             # from append to a reader, by commit interval
  cargo xtask bench swap                # how long workers stand still for a swap
  cargo xtask bench shadow              # the rate with a slow shadow and without
  cargo xtask bench observe             # what metrics, InfluxDB and logs cost
  cargo xtask bench guests              # what crossing and each guest cost
  cargo xtask bench guests chain
  cargo xtask bench guests counting     # what the metrics cost a worker";

/// Measure.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Seed(seed::Arguments),
    Latency(latency::Arguments),
    Swap(swap::Arguments),
    Shadow(shadow::Arguments),
    Observe(observe::Arguments),
    /// Time guests without a broker: the crossing, each guest, the chain, native twins, and counting for the metrics.
    Guests {
        /// Arguments for the benchmark, a filter for example.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    match &arguments.what {
        What::Seed(arguments) => seed::run(arguments),
        What::Latency(arguments) => latency::run(arguments),
        What::Swap(arguments) => swap::run(arguments),
        What::Shadow(arguments) => shadow::run(arguments),
        What::Observe(arguments) => observe::run(arguments),
        What::Guests { arguments } => guests(arguments),
    }
}

fn guests(arguments: &[OsString]) -> Result<(), Error> {
    machine::check(&[Need::Build])?;
    crate::guests::build()?;
    cargo::run(
        Workspace::Main
            .cargo()
            .args(["bench", "--workspace", "--bench", "guests", "--"])
            .args(arguments),
    )
}
