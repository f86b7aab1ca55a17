//! `cargo xtask bench observe`: what being watched costs, and how soon the admin side answers while every worker is busy.
//!
//! Two processes run the seed job over the same topic at the same time, each with one worker: one with everything on
//! (Prometheus's scrapes and writes to InfluxDB each second, logs as JSON) and one with nothing on. Whatever else the
//! machine does, it does to both, so the ratio of a round is far steadier than the figures that it's made of. What
//! workers count is counted in both; `cargo xtask bench guests counting` tells what that costs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error};
use clap::Args;
use serde_json::Value;
use xtask::http;
use xtask::wait::eventually;

use super::process::{cpu_seconds, cpu_seconds_of_threads};
use super::site::{ROUND_DEADLINE, Site, Weir, check_warmup};
use super::spread::Spread;

const PARTITIONS: u32 = 4;

/// As often as most Prometheus servers that are in a hurry.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench observe
  cargo xtask bench observe --rounds 20 --records 6000000";

/// Measure the seed job with metrics, InfluxDB and logs for programs, beside the same with none of it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Records in the input topic, warm-up included.
    #[arg(long, default_value_t = 6_000_000)]
    records: u64,
    /// Records to let through before the measurement starts.
    #[arg(long, default_value_t = 1_000_000)]
    warmup: u64,
    /// Rounds of both.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Runs the task and prints its table.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    check_warmup(arguments.warmup, arguments.records)?;
    let site = Site::prepare()?;
    let input = site.name("in-observe");
    site.fill(&input, PARTITIONS, arguments.records)?;
    let influxdb = drain()?;
    let (mut off, mut on) = (Vec::new(), Vec::new());
    let (mut threads, mut answers) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        let site = &site;
        let start = |influxdb| Watched::start(site, &input, round, influxdb);
        // Neither is always the first.
        let (without, with) = match round % 2 {
            0 => (start(None)?, start(Some(influxdb))?),
            _ => {
                let with = start(Some(influxdb))?;
                (start(None)?, with)
            }
        };
        let mut pair = [without, with];
        let [(alone, few), (watched, more)] = measure(&mut pair, arguments, &mut answers)?;
        for mut it in pair {
            it.weir.running.terminate()?;
        }
        println!(
            "round {round}: {:.3} us of CPU a record with nothing on, {:.3} with everything, ratio {:.3}",
            alone,
            watched,
            watched / alone
        );
        off.push(alone);
        on.push(watched);
        threads.push(100.0 * (more - few));
    }
    let ratio = Spread::of(on.iter().zip(&off).map(|(on, off)| on / off));
    let answers: Vec<f64> = answers.iter().map(|it| it.as_secs_f64() * 1e3).collect();
    println!("\n{:24} {:>24}", "", "us of CPU a record");
    println!("{:24} {:>24}", "nothing on", Spread::of(off).text(3));
    println!("{:24} {:>24}", "everything on", Spread::of(on).text(3));
    println!("with, of without, by round: {}", ratio.text(3));
    println!(
        "CPU of the threads that answer and write, % more of the whole: {}",
        Spread::of(threads).text(2)
    );
    println!(
        "an answer of /metrics or /readyz while all workers are busy, ms: {}",
        Spread::of(answers).text(1)
    );
    Ok(())
}

/// One of the two processes of a round.
struct Watched {
    weir: Weir,
    /// Whether it's scraped.
    is_on: bool,
}

/// How far a process has come.
#[derive(Clone, Copy)]
struct Point {
    records: u64,
    cpu_seconds: f64,
    /// Of the threads that answer scrapes and write to InfluxDB.
    observers: f64,
}

impl Watched {
    fn start(
        site: &Site,
        input: &str,
        round: u32,
        influxdb: Option<SocketAddr>,
    ) -> Result<Watched, Error> {
        let is_on = influxdb.is_some();
        let name = format!("{input}-{}-{round}", if is_on { "on" } else { "off" });
        site.create_topic(&name, PARTITIONS, &[])?;
        let mut config = site.seed_job(input, &name, "workers = 1");
        if let Some(address) = influxdb {
            config += &format!(
                "\n[influxdb]\nurl = \"http://{address}\"\ndatabase = \"weir\"\ninterval = \"1s\"\n"
            );
        }
        let options: &[&str] = match is_on {
            true => &["--log-format", "json"],
            false => &["--log", "error"],
        };
        let weir = site.run_weir_with(&name, &config, options)?;
        Ok(Watched { weir, is_on })
    }

    fn point(&self) -> Result<Point, Error> {
        let pid = self.weir.running.child.id();
        Ok(Point {
            records: passed(self.weir.admin).unwrap_or(0),
            cpu_seconds: cpu_seconds(pid)?,
            observers: cpu_seconds_of_threads(pid, &["weir", "influxdb"])?,
        })
    }
}

/// Microseconds of CPU a record of each, and the share of it in threads that observe, from when both have had their warm-up
/// to when one has no more to read.
fn measure(
    pair: &mut [Watched; 2],
    arguments: &Arguments,
    answers: &mut Vec<Duration>,
) -> Result<[(f64, f64); 2], Error> {
    let mut scraped = Instant::now();
    let mut wait = |what: &str, reached: &dyn Fn(&[Point; 2]) -> bool| {
        eventually(what, ROUND_DEADLINE, || {
            if scraped.elapsed() >= SCRAPE_EVERY {
                scraped = Instant::now();
                for it in pair.iter().filter(|it| it.is_on) {
                    // It listens a moment after its start.
                    for path in ["/metrics", "/readyz"] {
                        let asked = Instant::now();
                        if http::get(it.weir.admin, path).is_ok() {
                            answers.push(asked.elapsed());
                        }
                    }
                }
            }
            let points = [pair[0].point()?, pair[1].point()?];
            thread::sleep(Duration::from_millis(100));
            Ok(reached(&points).then_some(points))
        })
    };
    let before = wait("the warm-up", &|points| {
        points.iter().all(|it| it.records >= arguments.warmup)
    })?;
    let after = wait("all records", &|points| {
        points.iter().any(|it| it.records >= arguments.records)
    })?;
    let cost = |at: usize| {
        let cpu = after[at].cpu_seconds - before[at].cpu_seconds;
        let observers = after[at].observers - before[at].observers;
        let records = (after[at].records - before[at].records).max(1) as f64;
        (cpu * 1e6 / records, observers / cpu)
    };
    Ok([cost(0), cost(1)])
}

/// The records that the last transform was given.
fn passed(admin: SocketAddr) -> Result<u64, Error> {
    let view = http::get(admin, "/v1/pipelines/stocks")?;
    let view: Value = serde_json::from_str(&view.body)?;
    let records = view["transforms"][2]["active"]["records"].as_u64();
    records.context("no count of records")
}

/// Takes what's written to it, as an InfluxDB does.
fn drain() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream) -> Result<(), Error> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        (&stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}
