//! `cargo xtask bench swap`: how long workers stand still for a swap under load, beside a restart of the process.

use std::time::{Duration, Instant};

use anyhow::{Context, Error, ensure};
use clap::Args;
use serde_json::{Value, json};
use xtask::http;

use super::site::{Site, Weir};
use super::spread::number;

const PARTITIONS: u32 = 4;

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench swap
  cargo xtask bench swap --swaps 1000 --rate 50000";

/// Swap the seed job's filter under load, and measure how long workers stand still.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Swaps for each guarantee.
    #[arg(long, default_value_t = 200)]
    swaps: usize,
    /// Records a second.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Restarts of the process for each guarantee.
    #[arg(long, default_value_t = 5)]
    restarts: usize,
}

/// What was measured with one guarantee, in microseconds.
struct Measured {
    delivery: &'static str,
    /// A worker's pause.
    pauses: Vec<f64>,
    /// From the request to the answer: compile (or not), start guests, write down, publish, wait for the workers.
    answers: Vec<f64>,
    /// From SIGTERM to the first record of the process that's started then.
    restarts: Vec<f64>,
    /// From a process's start to its first record.
    starts: Vec<f64>,
}

/// Runs the task and prints its table.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let site = Site::prepare()?;
    let all = ["at-least-once", "exactly-once"]
        .map(|delivery| measure(&site, arguments, delivery))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    println!(
        "\n{} records/s, 2 workers, {PARTITIONS} partitions, {} swaps of the third transform of three, {} restarts; ms\n",
        number(arguments.rate as f64, 0),
        arguments.swaps,
        arguments.restarts
    );
    println!("{:56} {:>10} {:>10} {:>10}", "", "p50", "p99", "max");
    for it in &all {
        for (what, times) in [
            ("a worker stands still for a swap", &it.pauses),
            ("a swap, from request to answer", &it.answers),
            ("a restart, from SIGTERM to the first record", &it.restarts),
            ("of that, from start to the first record", &it.starts),
        ] {
            let name = format!("{}: {what}", it.delivery);
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| at(times, share) / 1_000.0);
            println!("{name:56} {p50:>10.3} {p99:>10.3} {max:>10.3}");
        }
    }
    Ok(())
}

/// The smallest value that so large a share of all is at most.
fn at(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

fn measure(site: &Site, arguments: &Arguments, delivery: &'static str) -> Result<Measured, Error> {
    println!("{delivery}");
    let topic = |what: &str| site.name(&format!("{what}-swap-{delivery}"));
    let (input, output) = (topic("in"), topic("out"));
    site.create_topic(&input, PARTITIONS, &[])?;
    site.create_topic(&output, PARTITIONS, &[])?;
    let lines = format!("workers = 2\ndelivery = {delivery:?}");
    let config = site.seed_job(&input, &output, &lines);
    let start = |number: usize| site.run_weir(&format!("{input}-{number}"), &config);
    let flows = |weir: &mut Weir, most: u64| {
        weir.wait("records flow", |metrics, _| {
            let out = http::counter(metrics, "weir_records_out_total", &[]);
            Ok((out > Some(most as f64)).then_some(()))
        })
    };
    let mut weir = start(0)?;
    let mut producer = site.produce(&input, &["--rate", &arguments.rate.to_string()])?;
    // Two seconds' worth, of which half comes out.
    flows(&mut weir, arguments.rate)?;

    let mut measured = Measured {
        delivery,
        pauses: Vec::new(),
        answers: Vec::new(),
        restarts: Vec::new(),
        starts: Vec::new(),
    };
    for number in 0..arguments.swaps {
        let rest = 1 - number % 2;
        let body = json!({"config": {"keep": format!("event_time % 2 == {rest}")}}).to_string();
        let began = Instant::now();
        let answer = http::request(
            weir.admin,
            "POST",
            "/v1/pipelines/stocks/transforms/even/versions",
            &[("content-type", "application/json")],
            body.as_bytes(),
        )?;
        measured.answers.push(began.elapsed().as_micros() as f64);
        ensure!(answer.status == 200, "a swap was refused: {}", answer.body);
        let done: Value = serde_json::from_str(&answer.body)?;
        let pauses = done["pauses_us"].as_array().context("no pauses")?;
        measured
            .pauses
            .extend(pauses.iter().filter_map(Value::as_f64));
        // Some hundred records between two swaps.
        std::thread::sleep(Duration::from_millis(20));
    }
    for number in 1..=arguments.restarts {
        let began = Instant::now();
        weir.running.terminate()?;
        let started = Instant::now();
        weir = start(number)?;
        flows(&mut weir, 0)?;
        measured.restarts.push(began.elapsed().as_micros() as f64);
        measured.starts.push(started.elapsed().as_micros() as f64);
        let metrics = http::get(weir.admin, "/metrics")?.body;
        let compiled = http::counter(&metrics, "weir_compilations_total", &[]);
        ensure!(compiled == Some(0.0), "a warm start compiled: {compiled:?}");
    }
    weir.running.terminate()?;
    // It ends as well as any other that's told to.
    let _ = producer.terminate();
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let times: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            [0.5, 0.99, 1.0].map(|it| at(&times, it)),
            [50.0, 99.0, 100.0]
        );
        assert_eq!(at(&[7.0], 0.5), 7.0);
    }
}
