//! `weir-chaos`: Weir on a real Kafka while processes and brokers crash, and a judgement of every record.
//!
//! A ledger of unique records goes in at a steady pace ([`writer`]). Faults drawn from the seed happen one after another
//! ([`plan`], [`run`]) to some processes of one consumer group ([`fleet`]) and to the brokers, while versions of a
//! transform are swapped ([`swaps`]). At the end a checker that knows the ledger alone holds the output and the dead
//! letters to it ([`checker`]).

mod checker;
mod config;
mod dice;
mod fleet;
mod kafka;
mod ledger;
mod plan;
mod report;
mod run;
mod swaps;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Weir on a real Kafka under faults. `cargo xtask chaos` builds what it needs, and runs it.
#[derive(Clone, Debug, Parser)]
#[command(name = "weir-chaos")]
pub struct Arguments {
    /// What faults and records follow from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// For how long faults happen.
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// How many faults; without it, as many as there is time for.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    pub faults: usize,
    /// How many brokers; with 3 a record is acknowledged by 2.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub brokers: u8,
    /// What is promised, and judged.
    #[arg(long, value_enum, default_value_t = Delivery::AtLeastOnce)]
    pub delivery: Delivery,
    /// How the processes are members of their group.
    #[arg(long, value_enum, default_value_t = Membership::Classic)]
    pub membership: Membership,
    /// Records a second.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// Keep the folder of configs, logs and brokers' data also when all went well.
    #[arg(long)]
    pub keep: bool,
    /// Print the first faults of the seed instead of running them.
    #[arg(long)]
    pub plan: bool,
    /// The `weir` to run [default: the one beside this program].
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// A delivery guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    /// Nothing is lost, and what comes again has the same id.
    AtLeastOnce,
    /// Every record once, for readers of committed records.
    ExactlyOnce,
}

/// A way to be a member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Membership {
    /// A new member with every start.
    Classic,
    /// The protocol of KIP-848.
    Consumer,
}

fn main() -> ExitCode {
    match run::run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
