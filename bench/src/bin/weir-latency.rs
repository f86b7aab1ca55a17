//! How long records take from the append to an input topic to a reader of committed records.
//!
//! The input topic stamps records when they are appended (`message.timestamp.type=LogAppendTime`), and Weir keeps the
//! timestamp. So the time that a record arrives here, less its timestamp, is what fetching, transforming, committing and
//! reading took, on one machine's clock. Prints one line of JSON.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Error, ensure};
use clap::Parser;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;

/// Read a topic as records come, and print how long they took since their timestamps.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where Kafka is.
    #[arg(long)]
    bootstrap: String,
    /// The topic to read, from its beginning.
    #[arg(long)]
    topic: String,
    /// Its partitions.
    #[arg(long)]
    partitions: i32,
    /// Records to let pass before those that count.
    #[arg(long, default_value_t = 0)]
    warmup: usize,
    /// Records that count.
    #[arg(long)]
    records: usize,
    /// Seconds without a record after which it gives up.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.bootstrap)
        .set("group.id", "weir-latency")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..arguments.partitions {
        all.add_partition_offset(&arguments.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut latencies = Vec::with_capacity(arguments.records);
    let mut seen = 0;
    let mut last = Instant::now();
    while latencies.len() < arguments.records {
        ensure!(
            last.elapsed() < Duration::from_secs(arguments.patience),
            "no record for {} s, after {seen}",
            arguments.patience
        );
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message?;
        last = Instant::now();
        seen += 1;
        if seen <= arguments.warmup {
            continue;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let then = message.timestamp().to_millis();
        let then = then.context("a record without a timestamp")?;
        latencies.push(now.as_millis() as i64 - then);
    }
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{}",
        json!({ "records": latencies.len(), "p50": at(0.5), "p99": at(0.99), "max": at(1.0) })
    );
    Ok(())
}
