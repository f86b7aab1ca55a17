//! The yardstick: what a program costs that does the seed job's reads and half its writes with librdkafka alone.
//!
//! Partition queues read in batches, every second record produced with its timestamp and headers, deliveries by
//! callback, Weir's own client settings; no guests, no columns, no commits. Plain calls of librdkafka, so that Weir is
//! held against what could be had. Prints one line of JSON about the records after the warm-up.

mod client;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, ensure};
use clap::Parser;
use serde_json::json;

use worker::{Progress, Worker};

/// Measure librdkafka alone: read records, produce every second one, print what it took as JSON.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  weir-bench --bootstrap localhost:9092 --input realstock --output alone --records 3000000 --warmup 1000000")]
pub struct Arguments {
    /// Where Kafka is.
    #[arg(long)]
    bootstrap: String,
    /// The topic to read, from its beginning. It must have at least `--records` records.
    #[arg(long)]
    input: String,
    /// The topic to write to.
    #[arg(long)]
    output: String,
    /// The consumer group that the workers share.
    #[arg(long, default_value = "weir-bench")]
    group: String,
    /// Records to read, warm-up included.
    #[arg(long)]
    records: u64,
    /// Records to let through before the measurement starts.
    #[arg(long, default_value_t = 0)]
    warmup: u64,
    /// Worker threads, each with a consumer and a producer.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Bytes that each consumer holds fetched; Weir's `buffer`, with its default.
    #[arg(long, default_value_t = 8 << 20)]
    buffer: u64,
    /// Bytes of records that each producer has in flight; Weir's `in_flight`, with its default.
    #[arg(long, default_value_t = 4 << 20)]
    in_flight: u64,
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.warmup < arguments.records,
        "--warmup {} leaves nothing of --records {} to measure",
        arguments.warmup,
        arguments.records
    );
    let progress = Arc::new(Progress::new(&arguments));
    let workers = (0..arguments.workers as usize)
        .map(|_| Worker::new(&arguments, progress.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let threads: Vec<_> = workers
        .into_iter()
        .map(|worker| std::thread::spawn(move || worker.run()))
        .collect();
    // The clients are kept until the measurement is over: their end is no part of it.
    let ended: Vec<Result<Worker, Error>> = threads
        .into_iter()
        .map(|thread| thread.join().expect("a worker panicked"))
        .collect();
    let end = Usage::now()?;
    for worker in &ended {
        if let Err(error) = worker {
            anyhow::bail!("a worker failed: {error:#}");
        }
    }
    let start = progress.start().context("the warm-up never ended")?;
    println!(
        "{}",
        json!({
            "records": progress.records() - start.records,
            "seconds": (end.time - start.usage.time).as_secs_f64(),
            "cpu_seconds": (end.cpu - start.usage.cpu).as_secs_f64(),
            "peak_rss_bytes": end.peak_rss_bytes,
        })
    );
    Ok(())
}

/// What this process has used up to a point in time.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    time: Instant,
    /// Of all threads, in user and in kernel mode.
    cpu: Duration,
    peak_rss_bytes: u64,
}

impl Usage {
    #[allow(unsafe_code)]
    fn now() -> Result<Usage, Error> {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: getrusage writes to a struct that is ours; zeros are a valid one.
        let usage = unsafe {
            let result = libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            ensure!(
                result == 0,
                "can't read this process's usage: {}",
                std::io::Error::last_os_error()
            );
            usage.assume_init()
        };
        let duration = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        Ok(Usage {
            time: Instant::now(),
            cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
            // Linux counts in KiB.
            peak_rss_bytes: usage.ru_maxrss as u64 * 1024,
        })
    }
}
