//! `cargo xtask kafka`: a real Kafka broker, without a container.

use std::path::PathBuf;

use anyhow::{Error, ensure};
use clap::{Args, Subcommand};
use xtask::broker::{self, Broker};

const EXAMPLES: &str = "\
Examples:
  cargo xtask kafka                     # download the jars, print their folder
  cargo xtask kafka run                 # a broker on 127.0.0.1:9092, until Ctrl-C
  cargo xtask kafka run --port 19092
  WEIR_TEST_BOOTSTRAP=127.0.0.1:19092 cargo xtask test kafka";

/// Download Kafka's broker by Maven, or run it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a broker in the foreground.
    Run {
        /// The port for clients on 127.0.0.1.
        #[arg(long, default_value_t = 9092)]
        port: u16,
        /// Where the broker's data and log go; topics that are there already stay [default: target/kafka/run-PORT].
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    broker::java()?;
    let library = broker::download()?;
    match &arguments.action {
        None => {
            println!("{}", library.display());
            Ok(())
        }
        Some(Action::Run { port, folder }) => foreground(*port, folder.clone()),
    }
}

fn foreground(port: u16, folder: Option<PathBuf>) -> Result<(), Error> {
    let folder = match folder {
        Some(folder) => std::path::absolute(folder)?,
        None => xtask::root().join(format!("target/kafka/run-{port}")),
    };
    println!("Kafka starts in {}", folder.display());
    let mut broker = Broker::start(&broker::Options {
        folder,
        port: Some(port),
        remove_folder: false,
        authorizer: false,
    })?;
    println!("Kafka serves {} until Ctrl-C", broker.bootstrap());
    println!("its log: {}", broker.log().display());
    let status = broker.wait()?;
    ensure!(status.success(), "the broker ended ({status}); see its log");
    Ok(())
}
