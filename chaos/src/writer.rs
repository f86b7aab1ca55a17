//! Writes the ledger into the input topic, at its pace, until told to stop.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Error, anyhow, bail};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use crate::config::INPUT;
use crate::kafka;
use crate::ledger::{HEADER, Ledger, PARTITIONS};

/// How long the brokers may take for what is still to be sent at the end.
const FLUSH: Duration = Duration::from_secs(120);

/// A producer on its own thread.
pub struct Writer {
    progress: Arc<Progress>,
    thread: JoinHandle<Result<(), Error>>,
}

/// How far it is.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    sent: AtomicU64,
    /// For each partition the offset after the last record that the brokers have acknowledged.
    ends: [AtomicI64; PARTITIONS],
    /// Why the first record failed that did.
    failed: OnceLock<String>,
}

impl Writer {
    /// Starts to write `rate` records a second to the input topic, with a log of its own in this folder.
    pub fn start(
        bootstrap: &str,
        folder: &Path,
        ledger: Ledger,
        rate: u64,
    ) -> Result<Writer, Error> {
        let log = File::create(folder.join("ledger.log"))?;
        let progress = Arc::new(Progress::default());
        let producer: BaseProducer<Deliveries> = kafka::client(bootstrap)
            .set("enable.idempotence", "true")
            // It's tried for ever: what the brokers have is what was sent, exactly once.
            .set("message.timeout.ms", "0")
            .set("linger.ms", "5")
            // What waited while the brokers were away goes out in batches that the topic takes.
            .set("batch.size", (kafka::INPUT_MESSAGE_BYTES / 2).to_string())
            // What becomes of its sequence numbers.
            .set("debug", "eos")
            .set("log_level", "7")
            .create_with_context(Deliveries {
                progress: progress.clone(),
                log,
            })?;
        let shared = progress.clone();
        let thread = thread::Builder::new()
            .name("ledger".to_string())
            .spawn(move || write(&producer, ledger, rate, &shared))?;
        Ok(Writer { progress, thread })
    }

    /// For each partition the offset after the last record that the brokers have.
    pub fn ends(&self) -> Vec<i64> {
        let ends = self.progress.ends.iter();
        ends.map(|it| it.load(Ordering::SeqCst)).collect()
    }

    /// An error if it has ended by itself.
    pub fn check(&self) -> Result<(), Error> {
        match self.thread.is_finished() {
            true => bail!("the ledger's producer has given up; the end tells why"),
            false => Ok(()),
        }
    }

    /// Ends it, and returns how many records the brokers have: those of the numbers below that.
    pub fn finish(self) -> Result<u64, Error> {
        self.progress.stop.store(true, Ordering::SeqCst);
        let result = self.thread.join();
        result.map_err(|_| anyhow!("the ledger's thread panicked"))??;
        Ok(self.progress.sent.load(Ordering::SeqCst))
    }
}

fn write(
    producer: &BaseProducer<Deliveries>,
    ledger: Ledger,
    rate: u64,
    progress: &Progress,
) -> Result<(), Error> {
    let start = Instant::now();
    let mut number = 0;
    while !progress.stop.load(Ordering::SeqCst) {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        // Some at a time, so that what was held up doesn't come all at once.
        let now = due.min(number + rate.div_ceil(20));
        while number < now {
            send(producer, ledger, number)?;
            number += 1;
        }
        progress.sent.store(number, Ordering::SeqCst);
        // For so long it serves all deliveries; with no time at all it serves a single one.
        producer.poll(Duration::from_millis(5));
        check(producer, progress)?;
    }
    let flushed = producer.flush(FLUSH);
    check(producer, progress)?;
    flushed.context("the brokers don't take the last of the ledger")
}

fn send(producer: &BaseProducer<Deliveries>, ledger: Ledger, number: u64) -> Result<(), Error> {
    let entry = ledger.entry(number);
    let header = Header {
        key: HEADER,
        value: Some(entry.key.as_bytes()),
    };
    let mut record = BaseRecord::to(INPUT)
        .partition(entry.partition)
        .key(&entry.key)
        .payload(&entry.value)
        .timestamp(entry.timestamp)
        .headers(OwnedHeaders::new().insert(header));
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), it)) => {
                record = it;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => bail!("the ledger can't be written: {error}"),
        }
    }
}

fn check(producer: &BaseProducer<Deliveries>, progress: &Progress) -> Result<(), Error> {
    if let Some((_, why)) = producer.client().fatal_error() {
        bail!("the ledger's producer can't go on: {why}");
    }
    match progress.failed.get() {
        None => Ok(()),
        Some(why) => bail!("not all records of the ledger were delivered: {why}"),
    }
}

struct Deliveries {
    progress: Arc<Progress>,
    log: File,
}

impl ClientContext for Deliveries {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0.0, |it| it.as_secs_f64());
        // A log that can't be written is no reason to stop.
        let _ = writeln!(&self.log, "{now:.3} {facility} {message}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(message) => {
                if let Some(end) = self.progress.ends.get(message.partition() as usize) {
                    end.fetch_max(message.offset() + 1, Ordering::SeqCst);
                }
            }
            Err((error, message)) => {
                let partition = message.partition();
                self.progress
                    .failed
                    .get_or_init(|| format!("partition {partition}: {error}"));
            }
        }
    }
}
