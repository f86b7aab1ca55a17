//! `cargo xtask bench shadow`: what a pipeline's rate is with a slow shadow, beside its rate without one, in one run.

use std::time::{Duration, Instant};

use anyhow::{Context, Error, ensure};
use clap::Args;
use serde_json::{Value, json};
use xtask::http;

use super::process::cpu_seconds;
use super::site::{Site, Weir};
use super::spread::{Spread, number};

const PARTITIONS: u32 = 4;

/// The filter's own condition and more of the like, all of which hold: it keeps the same, and takes far longer.
const SLOWER: usize = 40;

/// After each change it takes a moment until the shadow has its guests and the queue is full.
const SETTLE: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench shadow
  cargo xtask bench shadow --rate 20000 --turns 10";

/// Measure a pipeline's rate with a slow shadow and without, taking turns in one run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// How often each is measured.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// For how many milliseconds each time.
    #[arg(long, default_value_t = 1_000)]
    milliseconds: u64,
    /// Records a second; without it, as many as the pipeline can take, out of a topic that is full.
    #[arg(long)]
    rate: Option<u64>,
    /// Records in a full topic.
    #[arg(long, default_value_t = 24_000_000)]
    records: u64,
}

/// What was seen in one turn.
struct Turn {
    per_second: f64,
    /// Of all threads, the shadow's too.
    cpu_micros: f64,
}

/// Runs the task and prints its table.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let site = Site::prepare()?;
    let (input, output) = (site.name("in-shadow"), site.name("out-shadow"));
    site.create_topic(&input, PARTITIONS, &[])?;
    site.create_topic(&output, PARTITIONS, &[])?;
    let mut producer = match arguments.rate {
        Some(rate) => Some(site.produce(&input, &["--rate", &rate.to_string()])?),
        None => {
            let count = arguments.records.to_string();
            println!("writing {} records", number(arguments.records as f64, 0));
            let mut producer = site.produce(&input, &["--rate", "max", "--count", &count])?;
            producer.wait_success()?;
            None
        }
    };
    let mut weir = site.run_weir(&input, &site.seed_job(&input, &output, "workers = 2"))?;
    weir.wait("records flow", |metrics, _| {
        Ok((records(metrics) > 100_000).then_some(()))
    })?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut looked_at, mut slower) = (0, Vec::new());
    for turn in 1..=arguments.turns {
        without.push(measure(&mut weir, arguments)?);
        begin(&weir)?;
        with.push(measure(&mut weir, arguments)?);
        let (seen, times) = end(&weir)?;
        slower.push(times);
        println!(
            "turn {turn}: {} and {} records/s; the shadow saw {seen} records",
            number(without.last().map_or(0.0, |it| it.per_second), 0),
            number(with.last().map_or(0.0, |it| it.per_second), 0),
        );
        looked_at += seen;
    }
    ensure!(looked_at > 0, "the shadow saw nothing");
    let metrics = http::get(weir.admin, "/metrics")?.body;
    ensure!(
        arguments.rate.is_some() || records(&metrics) < arguments.records,
        "the topic was empty before the end: raise --records"
    );
    weir.running.terminate()?;
    if let Some(producer) = &mut producer {
        // It ends as well as any other that's told to.
        let _ = producer.terminate();
    }
    let rates = |turns: &[Turn]| Spread::of(turns.iter().map(|it| it.per_second)).text(0);
    let micros = |turns: &[Turn]| Spread::of(turns.iter().map(|it| it.cpu_micros)).text(2);
    let ratio = Spread::of(
        with.iter()
            .zip(&without)
            .map(|(with, without)| with.per_second / without.per_second),
    );
    println!(
        "\n{:20} {:>32} {:>24}",
        "", "records/s", "us of CPU a record"
    );
    for (name, turns) in [
        ("without a shadow", &without),
        ("with a slow shadow", &with),
    ] {
        println!("{name:20} {:>32} {:>24}", rates(turns), micros(turns));
    }
    println!("the rate with, of that without: {}", ratio.text(3));
    println!(
        "the shadow takes {} times as long as the active version",
        Spread::of(slower).text(0)
    );
    Ok(())
}

fn records(metrics: &str) -> u64 {
    http::counter(metrics, "weir_records_in_total", &[]).unwrap_or(0.0) as u64
}

fn measure(weir: &mut Weir, arguments: &Arguments) -> Result<Turn, Error> {
    std::thread::sleep(SETTLE);
    let look = |weir: &mut Weir| {
        weir.wait("its metrics", |metrics, pid| {
            Ok(Some((Instant::now(), records(metrics), cpu_seconds(pid)?)))
        })
    };
    let (begin, before, cpu_before) = look(weir)?;
    std::thread::sleep(Duration::from_millis(arguments.milliseconds));
    let (end, after, cpu_after) = look(weir)?;
    let records = (after - before) as f64;
    ensure!(records > 0.0, "no records flow any more: raise --records");
    Ok(Turn {
        per_second: records / (end - begin).as_secs_f64(),
        cpu_micros: (cpu_after - cpu_before) * 1e6 / records,
    })
}

/// Begins a shadow that is a great deal slower than the active version.
fn begin(weir: &Weir) -> Result<(), Error> {
    let keep = (0..SLOWER).fold("event_time % 2 == 0".to_string(), |keep, it| {
        format!("{keep} && event_time != {it} && event_time * 3 % 7 != {it} + 7")
    });
    let body = json!({"config": {"keep": keep}, "mode": "shadow"}).to_string();
    ask(weir, "POST", "versions", body.as_bytes()).map(drop)
}

/// Ends it; how many records it has seen, and how many times as long it took for one as the active version.
fn end(weir: &Weir) -> Result<(u64, f64), Error> {
    let path = "/v1/pipelines/stocks";
    let view = http::get(weir.admin, path)?;
    let view: Value = serde_json::from_str(&view.body)?;
    let report = &view["transforms"][2]["trial"]["report"];
    let number = |name: &str| {
        let number = report[name].as_u64();
        number.with_context(|| format!("no {name:?} in the shadow's report: {view}"))
    };
    let seen = number("equal")?;
    let times = number("tried_ns_per_record")? as f64 / number("active_ns_per_record")? as f64;
    ask(weir, "DELETE", "shadow", b"")?;
    Ok((seen, times))
}

fn ask(weir: &Weir, method: &str, what: &str, body: &[u8]) -> Result<Value, Error> {
    let answer = http::request(
        weir.admin,
        method,
        &format!("/v1/pipelines/stocks/transforms/even/{what}"),
        &[("content-type", "application/json")],
        body,
    )?;
    ensure!(
        answer.status == 200,
        "{method} {what} was refused: {}",
        answer.body
    );
    Ok(serde_json::from_str(&answer.body)?)
}
