//! `cargo xtask chaos`: Weir on a real Kafka while processes and brokers crash.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::Error;
use clap::Args;
use xtask::broker;

use crate::machine::{self, Need};
use crate::{cargo, guests};

const EXAMPLES: &str = "\
Examples:
  cargo xtask chaos --seed 1 --minutes 10
  cargo xtask chaos --seed 7 --minutes 60 --faults 200 --brokers 3 --delivery exactly-once
  cargo xtask chaos --help              # what `weir-chaos` takes";

/// Build everything and run `weir-chaos`: faults drawn from a seed, and a judgement of every record.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, disable_help_flag = true)]
pub struct Arguments {
    /// Arguments for `weir-chaos`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the task; it fails if anything isn't as promised.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    machine::check(&[Need::Build, Need::Kafka])?;
    guests::build()?;
    let programs = cargo::build_programs()?;
    broker::download()?;
    let mut command = Command::new(programs.join("weir-chaos"));
    cargo::run(command.args(&arguments.arguments).stdin(Stdio::null()))
}

/// A short run of each guarantee with a fixed seed, for `cargo xtask test`.
pub fn check() -> Result<(), Error> {
    fixed("at-least-once").and(fixed("exactly-once"))
}

fn fixed(delivery: &str) -> Result<(), Error> {
    // A SIGTERM, a zombie, a broker and a process that are killed.
    let fixed = ["--seed", "2", "--faults", "4", "--delivery", delivery];
    run(&Arguments {
        arguments: fixed.iter().map(OsString::from).collect(),
    })
}
