//! `cargo xtask`: build, try, test and measure Weir. Each task does all of its own set-up.

mod bench;
mod cargo;
mod chaos;
mod demo;
mod guests;
mod image;
mod kafka;
mod machine;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Error;
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                      # see it work; needs no broker
  cargo xtask test                      # all tests, against a real Kafka too
  cargo xtask test runtime --filter seed";

/// Build, try, test and measure Weir. Each task does all of its own set-up.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Guests(guests::Arguments),
    Demo(demo::Arguments),
    Test(test::Arguments),
    Kafka(kafka::Arguments),
    Bench(bench::Arguments),
    Chaos(chaos::Arguments),
    Image(image::Arguments),
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
        Task::Guests(_) => guests::run(),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Kafka(arguments) => kafka::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Chaos(arguments) => chaos::run(&arguments),
        Task::Image(arguments) => image::run(&arguments),
    }
}
