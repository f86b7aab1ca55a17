//! `cargo xtask bench latency`: how long a record takes from its input topic to a reader of committed records.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use anyhow::{Context, Error};
use clap::Args;
use serde_json::Value;
use xtask::http;
use xtask::wait::eventually;

use super::site::{ROUND_DEADLINE, Running, Site};
use super::spread::number;

const PARTITIONS: u32 = 4;

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench latency
  cargo xtask bench latency --rate 1000 --seconds 30";

/// Measure how long records of the seed job take, for each guarantee and commit interval.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Records a second.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// For how long they count, after a quarter as long that doesn't.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// One line of the table, in milliseconds.
struct Latency {
    name: String,
    p50: i64,
    p99: i64,
    max: i64,
}

/// Runs the task and prints its table.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let site = Site::prepare()?;
    let mut lines = vec![measure(&site, arguments, "at-least-once", "1s")?];
    for interval in ["10ms", "100ms", "1s"] {
        lines.push(measure(&site, arguments, "exactly-once", interval)?);
    }
    println!(
        "\n{} records/s, 2 workers, {} s: from the append to the input topic to a reader of committed records, ms\n",
        number(arguments.rate as f64, 0),
        arguments.seconds
    );
    println!("{:40} {:>6} {:>6} {:>6}", "", "p50", "p99", "max");
    for Latency {
        name,
        p50,
        p99,
        max,
    } in lines
    {
        println!("{name:40} {p50:>6} {p99:>6} {max:>6}");
    }
    Ok(())
}

fn measure(
    site: &Site,
    arguments: &Arguments,
    delivery: &str,
    interval: &str,
) -> Result<Latency, Error> {
    let name = format!("{delivery}, commit_interval {interval}");
    println!("{name}");
    let topic = |what: &str| site.name(&format!("{what}-{delivery}-{interval}"));
    let (input, output) = (topic("in"), topic("out"));
    site.create_topic(
        &input,
        PARTITIONS,
        &["message.timestamp.type=LogAppendTime"],
    )?;
    site.create_topic(&output, PARTITIONS, &[])?;

    let lines = format!("workers = 2\ndelivery = {delivery:?}\ncommit_interval = {interval:?}");
    let mut weir = site.run_weir(&input, &site.seed_job(&input, &output, &lines))?;
    eventually("weir is ready", ROUND_DEADLINE, || {
        let ready = http::get(weir.admin, "/readyz").is_ok_and(|it| it.status == 200);
        Ok(ready.then_some(()))
    })?;

    // About half of the records come out: a few less are waited for.
    let kept = |seconds: f64| (arguments.rate as f64 * seconds * 0.49) as u64;
    let seconds = arguments.seconds as f64;
    let stdout = site.folder().join(format!("{input}.json"));
    let log = site.folder().join(format!("{input}-reader.log"));
    let reader = Command::new(site.programs.join("weir-latency"))
        .args(["--bootstrap", &site.bootstrap, "--topic", &output])
        .args(["--partitions", &PARTITIONS.to_string()])
        .args(["--warmup", &kept(seconds / 4.0).to_string()])
        .args(["--records", &kept(seconds).to_string()])
        .stdin(Stdio::null())
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&log)?)
        .spawn()
        .context("can't run weir-latency")?;
    let mut reader = Running::new(reader, log)?;
    let count = arguments.rate * arguments.seconds * 5 / 4;
    let (rate, count) = (arguments.rate.to_string(), count.to_string());
    let mut producer = site.produce(&input, &["--rate", &rate, "--count", &count])?;
    producer.wait_success()?;
    reader.wait_success()?;
    weir.running.terminate()?;
    let json = fs::read_to_string(&stdout)?;
    let value: Value = serde_json::from_str(&json)?;
    let field = |name: &str| {
        value[name]
            .as_i64()
            .context("weir-latency printed no number")
    };
    Ok(Latency {
        name,
        p50: field("p50")?,
        p99: field("p99")?,
        max: field("max")?,
    })
}
