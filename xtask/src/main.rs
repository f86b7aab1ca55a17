//! `cargo xtask`: build, try, test and measure Weir. Each task does all of its own set-up.

mod kafka;

use std::process::ExitCode;

use anyhow::Error;
use clap::{Parser, Subcommand};

/// Build, try, test and measure Weir.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Kafka(kafka::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<(), Error> {
    match task {
        Task::Kafka(arguments) => kafka::run(&arguments),
    }
}
