//! `cargo xtask bench seed`: the seed job on a real Kafka, beside librdkafka alone doing the same reads and writes.
//!
//! The two take turns, round by round, so that a busy machine is busy for both. CPU time counts, from the moment that a
//! share of the records is through until all are: the time of the wall is also the broker's.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, bail, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use xtask::broker::{self, Broker};
use xtask::http;
use xtask::wait::eventually;
use xtask::watchdog::Watchdog;

use super::process::{cpu_seconds, peak_rss_bytes};
use super::spread::{Spread, number};
use crate::machine::{self, Need};
use crate::{cargo, guests};

/// As many partitions as the seed job's tests have.
const PARTITIONS: u32 = 4;

/// A round takes seconds; this is for machines that do something else at the same time.
const ROUND_DEADLINE: Duration = Duration::from_secs(900);

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench seed
  cargo xtask bench seed --records 1000000 --warmup 300000 --rounds 5
  WEIR_TEST_BOOTSTRAP=localhost:9092 cargo xtask bench seed

Only figures of the same run can be compared with each other.";

/// Measure the seed job beside librdkafka alone, on a real Kafka.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Records in the input topic, warm-up included.
    #[arg(long, default_value_t = 3_000_000)]
    records: u64,
    /// Records to let through before the measurement starts.
    #[arg(long, default_value_t = 1_000_000)]
    warmup: u64,
    /// Rounds of both programs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Worker threads of each program.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
}

/// What one program used in one round, after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measurement {
    /// Input records.
    records: f64,
    /// By the clock.
    seconds: f64,
    /// Of all threads.
    cpu_seconds: f64,
    /// From the start of the process on.
    peak_rss_bytes: f64,
}

/// Everything that all rounds share.
struct Bench<'a> {
    arguments: &'a Arguments,
    programs: PathBuf,
    folder: &'a Path,
    bootstrap: String,
    input: String,
}

/// Runs the task and prints its table.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    ensure!(
        arguments.warmup < arguments.records,
        "--warmup {} leaves nothing of --records {} to measure",
        arguments.warmup,
        arguments.records
    );
    machine::check(&[Need::Build, Need::Kafka])?;
    guests::build()?;
    let programs = cargo::build_programs()?;
    broker::download()?;

    let folder = tempfile::Builder::new().prefix("weir-bench-").tempdir()?;
    let started = match std::env::var("WEIR_TEST_BOOTSTRAP") {
        Ok(_) => None,
        Err(_) => Some(Broker::start(&broker::Options {
            folder: folder.path().join("kafka"),
            port: None,
            remove_folder: true,
            authorizer: false,
        })?),
    };
    let bootstrap = match &started {
        Some(broker) => broker.bootstrap(),
        None => std::env::var("WEIR_TEST_BOOTSTRAP")?,
    };
    let bench = Bench {
        arguments,
        programs,
        folder: folder.path(),
        bootstrap,
        // A topic of its own on a broker that is used for other things too.
        input: match started {
            Some(_) => "realstock".to_string(),
            None => format!("realstock-bench-{}", std::process::id()),
        },
    };
    bench.fill()?;
    let (mut alone, mut weir) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        // Neither is always the first.
        if round % 2 == 1 {
            alone.push(bench.alone(round)?);
            weir.push(bench.weir(round)?);
        } else {
            weir.push(bench.weir(round)?);
            alone.push(bench.alone(round)?);
        }
        println!(
            "round {round}: {:.2} and {:.2} us of CPU a record",
            alone[alone.len() - 1].cpu_micros(),
            weir[weir.len() - 1].cpu_micros()
        );
    }
    print!("{}", table(arguments, &alone, &weir));
    Ok(())
}

impl Bench<'_> {
    fn fill(&self) -> Result<(), Error> {
        self.create_topic(&self.input)?;
        println!(
            "writing {} records to {} ({PARTITIONS} partitions) on {}",
            number(self.arguments.records as f64, 0),
            self.input,
            self.bootstrap
        );
        cargo::run(
            Command::new(self.programs.join("weir"))
                .args(["produce", "realstock", "--bootstrap", &self.bootstrap])
                .args(["--topic", &self.input, "--seed", "1", "--rate", "max"])
                .args(["--count", &self.arguments.records.to_string()])
                .stdin(Stdio::null()),
        )
    }

    /// By Kafka's own tool: the tasks know no Kafka client.
    fn create_topic(&self, name: &str) -> Result<(), Error> {
        let output = broker::tool("org.apache.kafka.tools.TopicCommand")?
            .args(["--bootstrap-server", &self.bootstrap])
            .args(["--create", "--topic", name])
            .args(["--partitions", &PARTITIONS.to_string()])
            .args(["--replication-factor", "1"])
            .output()?;
        ensure!(
            output.status.success(),
            "can't create the topic {name}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// One round of `weir-bench`, which measures itself.
    fn alone(&self, round: u32) -> Result<Measurement, Error> {
        let name = format!("{}-alone-{round}", self.input);
        self.create_topic(&name)?;
        let log = self.folder.join(format!("alone-{round}.log"));
        let Arguments {
            records,
            warmup,
            workers,
            ..
        } = self.arguments;
        let stdout = self.folder.join(format!("alone-{round}.json"));
        let child = Command::new(self.programs.join("weir-bench"))
            .args(["--bootstrap", &self.bootstrap])
            .args(["--input", &self.input, "--output", &name, "--group", &name])
            .args(["--records", &records.to_string()])
            .args(["--warmup", &warmup.to_string()])
            .args(["--workers", &workers.to_string()])
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&log)?)
            .spawn()
            .context("can't run weir-bench")?;
        let mut running = Running::new(child, log)?;
        running.wait_success()?;
        let json = fs::read_to_string(&stdout)?;
        measurement(&json).with_context(|| format!("weir-bench printed: {json}"))
    }

    /// One round of `weir run`, measured from outside: its counters and what the kernel says about the process.
    fn weir(&self, round: u32) -> Result<Measurement, Error> {
        let name = format!("{}-weir-{round}", self.input);
        self.create_topic(&name)?;
        let config = self.folder.join(format!("weir-{round}.toml"));
        fs::write(&config, self.config(&name))?;
        let log = self.folder.join(format!("weir-{round}.log"));
        let admin = free_address()?;
        let output = File::create(&log)?;
        let child = Command::new(self.programs.join("weir"))
            .arg("run")
            .arg("-c")
            .arg(&config)
            .args(["--listen", &admin.to_string()])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("can't run weir")?;
        let mut running = Running::new(child, log)?;
        let Arguments {
            records, warmup, ..
        } = self.arguments;

        let start = running.wait_point(admin, "the warm-up", |counts| counts.input >= *warmup)?;
        let end = running.wait_point(admin, "all records", |counts| {
            counts.input >= *records && counts.settled() >= *records
        })?;
        let peak = peak_rss_bytes(running.child.id())?;
        running.terminate()?;
        // Every second timestamp is even, about. A job that dropped all or nothing measured something else.
        let kept = end.counts.output as f64 / end.counts.input as f64;
        ensure!(
            (0.4..0.6).contains(&kept),
            "weir produced {} of {} records, but half of them was expected",
            end.counts.output,
            end.counts.input
        );
        Ok(Measurement {
            records: (end.counts.input - start.counts.input) as f64,
            seconds: (end.time - start.time).as_secs_f64(),
            cpu_seconds: end.cpu_seconds - start.cpu_seconds,
            peak_rss_bytes: peak as f64,
        })
    }

    /// The seed job; see the README.
    fn config(&self, output: &str) -> String {
        format!(
            "\
modules = {modules:?}
data = {data:?}

[kafka]
\"bootstrap.servers\" = {bootstrap:?}

[pipelines.stocks]
input = [{input:?}]
output = {output:?}
group = {output:?}
workers = {workers}

[[pipelines.stocks.transforms]]
name = \"id\"
module = \"add-uuid.wasm\"
config = {{ field = \"id\" }}

[[pipelines.stocks.transforms]]
name = \"date\"
module = \"format-timestamp.wasm\"
config = {{ from = \"timestamp\", rename = \"event_time\", to = \"iso_date\" }}

[[pipelines.stocks.transforms]]
name = \"even\"
module = \"filter.wasm\"
config = {{ keep = \"event_time % 2 == 0\" }}
",
            modules = guests::folder(),
            data = self.folder.join("weir-data"),
            bootstrap = self.bootstrap,
            input = self.input,
            workers = self.arguments.workers,
        )
    }
}

impl Measurement {
    fn cpu_micros(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.records
    }

    fn per_second(&self) -> f64 {
        self.records / self.seconds
    }
}

/// A program under measurement. It's killed when it is dropped, and when this process ends.
struct Running {
    child: Child,
    watchdog: Option<Watchdog>,
    log: PathBuf,
}

/// What `/metrics` counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    input: u64,
    output: u64,
    dropped: u64,
}

/// A look at a running `weir`.
struct Point {
    time: Instant,
    counts: Counts,
    cpu_seconds: f64,
}

impl Counts {
    fn of(metrics: &str) -> Counts {
        let counter = |name| http::counter(metrics, name, &[]).unwrap_or(0.0) as u64;
        Counts {
            input: counter("weir_records_in_total"),
            output: counter("weir_records_out_total"),
            dropped: counter("weir_records_dropped_total"),
        }
    }

    /// Input records that are done with: this job makes one or none of each.
    fn settled(&self) -> u64 {
        self.output + self.dropped
    }
}

impl Running {
    fn new(child: Child, log: PathBuf) -> Result<Running, Error> {
        let watchdog = Watchdog::over(&child, None)?;
        Ok(Running {
            child,
            watchdog: Some(watchdog),
            log,
        })
    }

    fn wait_point(
        &mut self,
        admin: SocketAddr,
        what: &str,
        enough: impl Fn(Counts) -> bool,
    ) -> Result<Point, Error> {
        let Running { child, log, .. } = self;
        eventually(what, ROUND_DEADLINE, || {
            if let Some(status) = child.try_wait()? {
                bail!("weir ended ({status})");
            }
            // It listens a moment after its start.
            let Ok(response) = http::get(admin, "/metrics") else {
                return Ok(None);
            };
            let counts = Counts::of(&response.body);
            if !enough(counts) {
                return Ok(None);
            }
            Ok(Some(Point {
                time: Instant::now(),
                counts,
                cpu_seconds: cpu_seconds(child.id())?,
            }))
        })
        .with_context(|| format!("weir's log says:\n{}", text(log)))
    }

    fn terminate(&mut self) -> Result<(), Error> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("can't stop weir")?;
        self.wait_success()
    }

    fn wait_success(&mut self) -> Result<(), Error> {
        let Running { child, log, .. } = self;
        let status = eventually("its end", ROUND_DEADLINE, || Ok(child.try_wait()?))?;
        ensure!(
            status.success(),
            "it ended with {status}; its log says:\n{}",
            text(log)
        );
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
    }
}

/// The line of JSON that `weir-bench` prints.
fn measurement(json: &str) -> Option<Measurement> {
    let value: Value = serde_json::from_str(json.trim()).ok()?;
    let field = |name: &str| value[name].as_f64();
    Some(Measurement {
        records: field("records")?,
        seconds: field("seconds")?,
        cpu_seconds: field("cpu_seconds")?,
        peak_rss_bytes: field("peak_rss_bytes")?,
    })
}

fn table(arguments: &Arguments, alone: &[Measurement], weir: &[Measurement]) -> String {
    let mut text = format!(
        "\n{} records, {} of them warm-up, {} workers, {} rounds: median (least-greatest)\n\n",
        number(arguments.records as f64, 0),
        number(arguments.warmup as f64, 0),
        arguments.workers,
        arguments.rounds
    );
    let mut row = |cells: [&str; 4]| {
        let [name, cpu, rate, peak] = cells;
        let line = format!("{name:18}  {cpu:>19}  {rate:>33}  {peak:>22}");
        text.push_str(line.trim_end());
        text.push('\n');
    };
    row(["", "CPU us a record", "records/s", "peak memory, MB"]);
    for (name, rounds) in [("librdkafka alone", alone), ("weir, seed job", weir)] {
        let spread = |of: fn(&Measurement) -> f64| Spread::of(rounds.iter().map(of));
        row([
            name,
            &spread(Measurement::cpu_micros).text(2),
            &spread(Measurement::per_second).text(0),
            &spread(|round| round.peak_rss_bytes / 1e6).text(0),
        ]);
    }
    let pairs = alone.iter().zip(weir);
    let ratios = pairs.map(|(alone, weir)| weir.cpu_micros() / alone.cpu_micros());
    row(["ratio", &Spread::of(ratios).text(2), "", ""]);
    text
}

fn free_address() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

fn text(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cpu_seconds: f64) -> Measurement {
        Measurement {
            records: 2_000_000.0,
            seconds: 1.0,
            cpu_seconds,
            peak_rss_bytes: 64e6,
        }
    }

    #[test]
    fn reads_what_weir_bench_prints() {
        let json =
            r#"{"records":2000000,"seconds":1.0,"cpu_seconds":1.2,"peak_rss_bytes":64000000}"#;
        assert_eq!(measurement(&format!("{json}\n")), Some(round(1.2)));
        assert_eq!(measurement(r#"{"records":1}"#), None);
    }

    #[test]
    fn counts_what_is_done_with() {
        let counts = Counts::of(
            "weir_records_in_total{pipeline=\"stocks\"} 10\n\
             weir_records_out_total{pipeline=\"stocks\"} 4\n\
             weir_records_dropped_total{pipeline=\"stocks\",transform=\"even\",version=\"a\"} 5\n",
        );
        assert_eq!((counts.input, counts.settled()), (10, 9));
    }

    #[test]
    fn the_ratio_is_taken_round_by_round() {
        let arguments = Arguments {
            records: 3_000_000,
            warmup: 1_000_000,
            rounds: 2,
            workers: 2,
        };
        let text = table(
            &arguments,
            &[round(1.0), round(2.0)],
            &[round(2.0), round(3.0)],
        );
        assert!(
            text.contains("ratio                  1.75 (1.50-2.00)"),
            "{text}"
        );
        assert!(text.contains("0.75 (0.50-1.00)"), "{text}");
        assert!(text.contains("2,000,000 (2,000,000-2,000,000)"), "{text}");
    }
}
