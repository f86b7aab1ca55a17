//! `cargo xtask bench observe`: what being watched costs, and how soon the admin side answers while every worker is busy.
//!
//! The seed job reads a full topic, round by round with everything on (Prometheus's scrapes and writes to InfluxDB each
//! second, logs as JSON) and with nothing on. What workers count is counted in both.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, ensure};
use clap::Args;
use serde_json::Value;
use xtask::http;
use xtask::wait::eventually;

use super::process::cpu_seconds;
use super::site::{ROUND_DEADLINE, Site};
use super::spread::{Spread, number};

const PARTITIONS: u32 = 4;

/// As often as most Prometheus servers that are in a hurry.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench observe
  cargo xtask bench observe --rounds 9 --records 6000000";

/// Measure the seed job with metrics, InfluxDB and logs for programs, beside the same with none of it.
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
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Runs the task and prints its table.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    ensure!(
        arguments.warmup < arguments.records,
        "--warmup {} leaves nothing of --records {} to measure",
        arguments.warmup,
        arguments.records
    );
    let site = Site::prepare()?;
    let input = site.name("in-observe");
    site.create_topic(&input, PARTITIONS, &[])?;
    println!("writing {} records", number(arguments.records as f64, 0));
    let count = arguments.records.to_string();
    let arguments_of_producer = ["--rate", "max", "--count", &count];
    site.produce(&input, &arguments_of_producer)?
        .wait_success()?;
    let influxdb = drain()?;
    let (mut off, mut on, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        // Neither is always the first.
        for turn in 0..2 {
            match (round + turn) % 2 {
                0 => off.push(measure(
                    &site,
                    arguments,
                    &input,
                    round,
                    None,
                    &mut answers,
                )?),
                _ => on.push(measure(
                    &site,
                    arguments,
                    &input,
                    round,
                    Some(influxdb),
                    &mut answers,
                )?),
            }
        }
        let last = |of: &[f64]| of.last().copied().unwrap_or(f64::NAN);
        println!(
            "round {round}: {:.3} us of CPU a record with nothing on, {:.3} with everything",
            last(&off),
            last(&on)
        );
    }
    let ratio = Spread::of(on.iter().zip(&off).map(|(on, off)| on / off));
    let answers: Vec<f64> = answers.iter().map(|it| it.as_secs_f64() * 1e3).collect();
    println!("\n{:24} {:>24}", "", "us of CPU a record");
    println!("{:24} {:>24}", "nothing on", Spread::of(off).text(3));
    println!("{:24} {:>24}", "everything on", Spread::of(on).text(3));
    println!("with, of without: {}", ratio.text(3));
    println!(
        "an answer of /metrics while all workers are busy, ms: {}",
        Spread::of(answers).text(1)
    );
    Ok(())
}

/// One round; microseconds of CPU a record.
fn measure(
    site: &Site,
    arguments: &Arguments,
    input: &str,
    round: u32,
    influxdb: Option<SocketAddr>,
    answers: &mut Vec<Duration>,
) -> Result<f64, Error> {
    let name = format!(
        "{input}-{}-{round}",
        if influxdb.is_some() { "on" } else { "off" }
    );
    site.create_topic(&name, PARTITIONS, &[])?;
    let mut config = site.seed_job(input, &name, "workers = 2");
    if let Some(address) = influxdb {
        config = format!(
            "{}\n[influxdb]\nurl = \"http://{address}\"\ndatabase = \"weir\"\ninterval = \"1s\"\n",
            config
        );
    }
    let options: &[&str] = match influxdb {
        Some(_) => &["--log-format", "json"],
        None => &["--log", "error"],
    };
    let mut weir = site.run_weir_with(&name, &config, options)?;
    let (admin, pid) = (weir.admin, weir.running.child.id());
    let mut scraped = Instant::now();
    let mut wait = |what: &str, most: u64| {
        eventually(what, ROUND_DEADLINE, || {
            if influxdb.is_some() && scraped.elapsed() >= SCRAPE_EVERY {
                scraped = Instant::now();
                http::get(admin, "/metrics")?;
                answers.push(scraped.elapsed());
            }
            let records = passed(admin).unwrap_or(0);
            thread::sleep(Duration::from_millis(50));
            Ok((records >= most).then_some(records))
        })
    };
    let before = wait("the warm-up", arguments.warmup)?;
    let cpu_before = cpu_seconds(pid)?;
    let after = wait("all records", arguments.records)?;
    let cpu = cpu_seconds(pid)? - cpu_before;
    weir.running.terminate()?;
    Ok(cpu * 1e6 / (after - before) as f64)
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
