//! `cargo xtask test`: all tests, ring by ring.

use std::time::{Duration, Instant};

use anyhow::{Error, ensure};
use clap::{Args, ValueEnum};
use xtask::broker;

use crate::cargo::{self, Workspace};
use crate::machine::{self, Need};
use crate::{chaos, guests, image, tidy};

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                      # everything
  cargo xtask test units                # no guests, no broker: the quickest
  cargo xtask test runtime kafka
  cargo xtask test kafka --filter smoke
  WEIR_TEST_BOOTSTRAP=localhost:9092 cargo xtask test kafka";

/// Run the tests: all rings, or those that are named.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// What to run [default: all, in the order below].
    #[arg(value_name = "RING")]
    rings: Vec<Ring>,
    /// Only tests whose path contains this.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
}

/// A ring of tests, the quickest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Ring {
    /// Formatting, lints, and rules about the source tree.
    Tidy,
    /// Unit tests of all packages, the guests' included.
    Units,
    /// The worker with real guests and a fake Kafka.
    Runtime,
    /// The program against a real Kafka, which is brought here unless WEIR_TEST_BOOTSTRAP names one.
    Kafka,
    /// Processes and brokers that crash, a fixed choice of them, and what becomes of every record.
    Chaos,
}

/// Runs the task: every ring, also after one failed, and a line for each at the end.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let rings = rings(&arguments.rings);
    machine::check(&needs(&rings))?;
    let mut outcomes = Vec::new();
    for ring in rings {
        println!("== {}", name(ring));
        let start = Instant::now();
        let result = run_ring(ring, arguments.filter.as_deref());
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        outcomes.push((ring, result.is_ok(), start.elapsed()));
    }
    println!("== summary");
    for (ring, passed, time) in &outcomes {
        println!("{}", summary(*ring, *passed, *time));
    }
    let failed = outcomes.iter().filter(|(_, passed, _)| !passed).count();
    ensure!(failed == 0, "{failed} of {} rings failed", outcomes.len());
    Ok(())
}

fn run_ring(ring: Ring, filter: Option<&str>) -> Result<(), Error> {
    match ring {
        Ring::Tidy => tidy::run(filter),
        Ring::Units => {
            // Both are run and shown, whatever comes of the first.
            let main = test(
                Workspace::Main,
                &["--release", "--lib", "--bins"],
                None,
                filter,
            );
            let guests = test(Workspace::Guests, &[], None, filter);
            main.and(guests)
        }
        Ring::Runtime => {
            guests::build()?;
            integration("weir", None, filter)
        }
        Ring::Kafka => {
            guests::build()?;
            if !external_broker() {
                broker::download()?;
            }
            // Cargo builds a package's programs for its own tests only.
            let programs = cargo::build_programs()?;
            image::build(&programs.join("weir"))?;
            // They wait for Kafka most of the time.
            let cores = std::thread::available_parallelism()?.get();
            integration("weir-tests", Some(cores * 2), filter)
        }
        Ring::Chaos => chaos::check(),
    }
}

/// The integration tests of one package, picked by name out of the whole workspace.
fn integration(package: &str, threads: Option<usize>, filter: Option<&str>) -> Result<(), Error> {
    let targets = tests_of(package)?;
    let mut arguments = vec!["--release"];
    for (_, target) in &targets {
        arguments.extend(["--test", target]);
    }
    test(Workspace::Main, &arguments, threads, filter)
}

fn tests_of(package: &str) -> Result<Vec<(String, String)>, Error> {
    let mut targets = Workspace::Main.targets("test")?;
    targets.retain(|(owner, _)| owner == package);
    ensure!(
        !targets.is_empty(),
        "the package {package} has no integration tests"
    );
    Ok(targets)
}

/// Runs tests, `threads` at once, or as many as there are cores.
fn test(
    workspace: Workspace,
    arguments: &[&str],
    threads: Option<usize>,
    filter: Option<&str>,
) -> Result<(), Error> {
    let mut command = workspace.cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(arguments)
        .arg("--")
        .args(threads.map(|threads| format!("--test-threads={threads}")))
        .args(filter);
    cargo::run(&mut command)
}

/// The rings to run, in order, each once.
fn rings(named: &[Ring]) -> Vec<Ring> {
    let mut rings = match named {
        [] => Ring::value_variants().to_vec(),
        named => named.to_vec(),
    };
    rings.sort();
    rings.dedup();
    rings
}

fn needs(rings: &[Ring]) -> Vec<Need> {
    let mut needs = vec![Need::Build];
    if rings.contains(&Ring::Kafka) {
        needs.push(Need::Containers);
    }
    if rings.contains(&Ring::Chaos) || rings.contains(&Ring::Kafka) && !external_broker() {
        needs.push(Need::Kafka);
    }
    if rings.contains(&Ring::Kafka) {
        needs.push(Need::Monitoring);
    }
    needs
}

fn external_broker() -> bool {
    std::env::var_os("WEIR_TEST_BOOTSTRAP").is_some()
}

fn summary(ring: Ring, passed: bool, time: Duration) -> String {
    let result = if passed { "ok" } else { "FAILED" };
    format!("{:8} {result:6} {:>5.0} s", name(ring), time.as_secs_f64())
}

fn name(ring: Ring) -> String {
    let value = ring.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_run_in_their_order_and_once() {
        let all = [
            Ring::Tidy,
            Ring::Units,
            Ring::Runtime,
            Ring::Kafka,
            Ring::Chaos,
        ];
        assert_eq!(rings(&[]), all);
        let named = [Ring::Kafka, Ring::Units, Ring::Kafka];
        assert_eq!(rings(&named), [Ring::Units, Ring::Kafka]);
    }

    #[test]
    fn a_line_for_each_ring() {
        let time = Duration::from_millis(12_345);
        assert_eq!(summary(Ring::Units, true, time), "units    ok        12 s");
        assert_eq!(summary(Ring::Kafka, false, time), "kafka    FAILED    12 s");
    }
}
