//! `cargo xtask bench seed`: the seed job on a real Kafka, beside librdkafka alone doing the same reads and writes.
//!
//! The two take turns, round by round, so that a busy machine is busy for both. CPU time counts, from the moment that a
//! share of the records is through until all are: the time of the wall is also the broker's.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Error, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;
use xtask::http;

use super::process::{cpu_seconds, peak_rss_bytes};
use super::site::{Running, Site, Weir, check_warmup};
use super::spread::{Spread, number};

/// As many partitions as the seed job's tests have.
const PARTITIONS: u32 = 4;

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench seed
  cargo xtask bench seed --records 1000000 --warmup 300000 --rounds 5
  cargo xtask bench seed --delivery exactly-once   # beside at-least-once
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
    /// What is promised; exactly-once is measured beside at-least-once.
    #[arg(long, value_enum, default_value_t = Delivery::AtLeastOnce)]
    delivery: Delivery,
}

/// The guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

/// Who takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    /// librdkafka without Weir.
    Alone,
    /// Weir, with this guarantee.
    Weir(Delivery),
}

/// A contender and its rounds.
type Rounds = (Contender, Vec<Measurement>);

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
    site: &'a Site,
    input: String,
}

/// Runs the task and prints its table.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    check_warmup(arguments.warmup, arguments.records)?;
    let site = Site::prepare()?;
    let bench = Bench {
        arguments,
        // A topic of its own on a broker that is used for other things too.
        input: site.name("realstock"),
        site: &site,
    };
    site.fill(&bench.input, PARTITIONS, arguments.records)?;
    let mut contenders: Vec<Rounds> = vec![
        (Contender::Alone, Vec::new()),
        (Contender::Weir(Delivery::AtLeastOnce), Vec::new()),
    ];
    if arguments.delivery == Delivery::ExactlyOnce {
        contenders.push((Contender::Weir(Delivery::ExactlyOnce), Vec::new()));
    }
    let count = contenders.len();
    for round in 1..=arguments.rounds {
        // None is always the first.
        for turn in 0..count {
            let (contender, rounds) = &mut contenders[(round as usize + turn) % count];
            rounds.push(bench.measure(*contender, round)?);
        }
        let last = contenders.iter().filter_map(|(_, rounds)| rounds.last());
        let micros: Vec<String> = last.map(|it| format!("{:.2}", it.cpu_micros())).collect();
        println!("round {round}: {} us of CPU a record", micros.join(", "));
    }
    print!("{}", table(arguments, &contenders));
    Ok(())
}

impl Bench<'_> {
    fn measure(&self, contender: Contender, round: u32) -> Result<Measurement, Error> {
        match contender {
            Contender::Alone => self.alone(round),
            Contender::Weir(delivery) => self.weir(delivery, round),
        }
    }

    /// One round of `weir-bench`, which measures itself.
    fn alone(&self, round: u32) -> Result<Measurement, Error> {
        let name = format!("{}-alone-{round}", self.input);
        self.site.create_topic(&name, PARTITIONS, &[])?;
        let log = self.site.folder().join(format!("alone-{round}.log"));
        let Arguments {
            records,
            warmup,
            workers,
            ..
        } = self.arguments;
        let stdout = self.site.folder().join(format!("alone-{round}.json"));
        let child = Command::new(self.site.programs.join("weir-bench"))
            .args(["--bootstrap", &self.site.bootstrap])
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
    fn weir(&self, delivery: Delivery, round: u32) -> Result<Measurement, Error> {
        let delivery = delivery.name();
        let name = format!("{}-{delivery}-{round}", self.input);
        self.site.create_topic(&name, PARTITIONS, &[])?;
        let lines = format!(
            "workers = {}\ndelivery = {delivery:?}",
            self.arguments.workers
        );
        let config = self.site.seed_job(&self.input, &name, &lines);
        let mut weir = self.site.run_weir(&name, &config)?;
        let Arguments {
            records, warmup, ..
        } = self.arguments;

        let start = wait_point(&mut weir, "the warm-up", |counts| counts.input >= *warmup)?;
        let end = wait_point(&mut weir, "all records", |counts| {
            counts.input >= *records && counts.settled() >= *records
        })?;
        let peak = peak_rss_bytes(weir.running.child.id())?;
        weir.running.terminate()?;
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
}

impl Delivery {
    /// As in a config.
    fn name(self) -> &'static str {
        match self {
            Delivery::AtLeastOnce => "at-least-once",
            Delivery::ExactlyOnce => "exactly-once",
        }
    }
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Alone => "librdkafka alone",
            Contender::Weir(Delivery::AtLeastOnce) => "weir, seed job",
            Contender::Weir(Delivery::ExactlyOnce) => "weir, exactly once",
        }
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

fn wait_point(
    weir: &mut Weir,
    what: &str,
    enough: impl Fn(Counts) -> bool,
) -> Result<Point, Error> {
    weir.wait(what, |metrics, pid| {
        let counts = Counts::of(metrics);
        if !enough(counts) {
            return Ok(None);
        }
        Ok(Some(Point {
            time: Instant::now(),
            counts,
            cpu_seconds: cpu_seconds(pid)?,
        }))
    })
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

fn table(arguments: &Arguments, contenders: &[Rounds]) -> String {
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
    for (contender, rounds) in contenders {
        let spread = |of: fn(&Measurement) -> f64| Spread::of(rounds.iter().map(of));
        row([
            contender.name(),
            &spread(Measurement::cpu_micros).text(2),
            &spread(Measurement::per_second).text(0),
            &spread(|round| round.peak_rss_bytes / 1e6).text(0),
        ]);
    }
    for pair in contenders.windows(2) {
        let [(before, base), (contender, rounds)] = pair else {
            continue;
        };
        let ratios = base.iter().zip(rounds);
        let ratios = ratios.map(|(base, it)| it.cpu_micros() / base.cpu_micros());
        let ratio = Spread::of(ratios).text(2);
        text.push_str(&format!(
            "{} / {}: {ratio}\n",
            contender.name(),
            before.name()
        ));
    }
    text
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
            delivery: Delivery::AtLeastOnce,
        };
        let text = table(
            &arguments,
            &[
                (Contender::Alone, vec![round(1.0), round(2.0)]),
                (
                    Contender::Weir(Delivery::AtLeastOnce),
                    vec![round(2.0), round(3.0)],
                ),
            ],
        );
        assert!(
            text.contains("weir, seed job / librdkafka alone: 1.75 (1.50-2.00)"),
            "{text}"
        );
        assert!(text.contains("0.75 (0.50-1.00)"), "{text}");
        assert!(text.contains("2,000,000 (2,000,000-2,000,000)"), "{text}");
    }
}
