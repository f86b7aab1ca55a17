//! Source, sink and settings, against librdkafka's mock cluster.
//!
//! - `admin`: topics, groups and offsets.
//! - `groups`: several members, and where a partition starts.
//! - `sink`: deliveries, and records that can't be sent.
//! - `source`: order, limits, seeks, positions, fidelity.
//! - `transactions`: what a sink does with a transaction's errors, and how it goes on after them.
//! - `waking`: that no wake-up is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ffi::{Code, Request};
use super::*;
use crate::io::{
    Event, Outgoing, ReadLimit, SendError, Sink, Source, TopicPartition, TransactionError,
    Undelivered,
};
use crate::record::{Batch, Headers};

mod admin;
mod groups;
mod sink;
mod source;
mod transactions;
mod waking;

/// What no test needs this long for, unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kafka's numbers of errors that tests have brokers answer with.
mod errors {
    use super::Code;

    pub(super) const MESSAGE_TOO_LARGE: Code = Code(10);
    pub(super) const COORDINATOR_LOAD_IN_PROGRESS: Code = Code(14);
    pub(super) const COORDINATOR_NOT_AVAILABLE: Code = Code(15);
    pub(super) const NOT_COORDINATOR: Code = Code(16);
    pub(super) const NOT_ENOUGH_REPLICAS: Code = Code(19);
    pub(super) const ILLEGAL_GENERATION: Code = Code(22);
    pub(super) const UNKNOWN_MEMBER_ID: Code = Code(25);
    pub(super) const TOPIC_AUTHORIZATION_FAILED: Code = Code(29);
    pub(super) const GROUP_AUTHORIZATION_FAILED: Code = Code(30);
    pub(super) const OUT_OF_ORDER_SEQUENCE_NUMBER: Code = Code(45);
    pub(super) const INVALID_PRODUCER_EPOCH: Code = Code(47);
    pub(super) const INVALID_TXN_STATE: Code = Code(48);
    pub(super) const INVALID_PRODUCER_ID_MAPPING: Code = Code(49);
    pub(super) const INVALID_TRANSACTION_TIMEOUT: Code = Code(50);
    pub(super) const CONCURRENT_TRANSACTIONS: Code = Code(51);
    pub(super) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Code = Code(53);
    pub(super) const FENCED_INSTANCE_ID: Code = Code(82);
    pub(super) const UNSTABLE_OFFSET_COMMIT: Code = Code(88);
    pub(super) const PRODUCER_FENCED: Code = Code(90);
}

const EVERYTHING: ReadLimit = ReadLimit {
    records: 1000,
    bytes: 1 << 20,
};

/// A cluster with one topic, `in`.
fn cluster(partitions: usize) -> MockCluster {
    let cluster = MockCluster::start(1).unwrap();
    cluster.create_topic("in", partitions).unwrap();
    cluster
}

fn consumer(cluster: &MockCluster, more: &[(&str, &str)]) -> Settings {
    let servers = cluster.bootstrap_servers();
    let mut user = vec![
        ("bootstrap.servers", servers.as_str()),
        ("fetch.wait.max.ms", "5"),
    ];
    if !more.iter().any(|(key, _)| *key == "group.protocol") {
        // A rebalance of the mock cluster takes a second less.
        user.extend([
            ("session.timeout.ms", "2500"),
            ("heartbeat.interval.ms", "100"),
        ]);
    }
    user.extend(more);
    let options = ConsumerOptions {
        user: &user,
        group: "weir-test",
        instance_id: None,
        buffer: 16 << 20,
    };
    consumer_settings(&options).unwrap()
}

fn producer(cluster: &MockCluster, more: &[(&str, &str)]) -> Settings {
    let servers = cluster.bootstrap_servers();
    let mut user = vec![("bootstrap.servers", servers.as_str()), ("linger.ms", "0")];
    user.extend(more);
    let options = ProducerOptions {
        user: &user,
        in_flight: 16 << 20,
        transactional_id: None,
        max_message_bytes: &[],
    };
    producer_settings(&options).unwrap()
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition {
        topic: "in".into(),
        partition: number,
    }
}

/// A record for the first output, without headers.
fn outgoing<'a>(
    partition: Option<i32>,
    value: &'a [u8],
    headers: &'a Headers,
    tag: u64,
) -> Outgoing<'a> {
    Outgoing {
        output: 0,
        partition,
        key: None,
        value: Some(value),
        timestamp: 1_634_221_557_011,
        headers,
        header_range: (0, 0),
        appended: &[],
        tag,
    }
}

/// A sink and what became of what it was given.
struct Writer {
    sink: KafkaSink,
    waker: Waker,
    settled: BTreeMap<u64, Vec<Result<(), String>>>,
}

impl Writer {
    fn new(settings: &Settings) -> Writer {
        let waker = Waker::new().unwrap();
        Writer {
            sink: KafkaSink::new(settings, &["in".to_string()], &waker).unwrap(),
            waker,
            settled: BTreeMap::new(),
        }
    }

    fn serve(&mut self) {
        self.try_serve().unwrap();
    }

    fn try_serve(&mut self) -> Result<(), TransactionError> {
        let settled = &mut self.settled;
        self.sink.deliveries(&mut |(tag, result)| {
            let result = result.map_err(|why| match why {
                Undelivered::Failed(cause) => format!("{cause:#}"),
                Undelivered::Refused(cause) => format!("for good: {cause:#}"),
            });
            settled.entry(tag).or_default().push(result);
        })
    }

    /// Serves until `count` tags have come back.
    fn settle(&mut self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        self.serve();
        while self.settled.len() < count {
            assert!(
                Instant::now() < deadline,
                "{} of {count} deliveries came",
                self.settled.len()
            );
            self.waker.wait(PATIENCE).unwrap();
            self.serve();
        }
    }

    /// Writes numbers as values to partitions in turn, and waits for them.
    fn numbers(&mut self, partitions: usize, numbers: std::ops::Range<u64>) {
        let headers = Headers::default();
        let before = self.settled.len();
        let count = (numbers.end - numbers.start) as usize;
        for number in numbers {
            let text = number.to_string();
            let partition = (number as usize % partitions) as i32;
            let tag = self.settled.len() as u64 + number + 1_000_000;
            let record = outgoing(Some(partition), text.as_bytes(), &headers, tag);
            self.sink.send(&record).unwrap();
        }
        self.settle(before + count);
        assert!(self.settled.values().flatten().all(Result::is_ok));
    }
}

/// A member that takes all that it's given and reads all that comes.
struct Reader {
    source: KafkaSource,
    waker: Waker,
    assigned: Vec<TopicPartition>,
    batches: Vec<Batch>,
    limit: ReadLimit,
    /// Whether it commits what it has read at once.
    commits: bool,
    committed: Vec<(TopicPartition, u64)>,
    troubles: Vec<String>,
}

impl Reader {
    fn new(settings: &Settings, start: Start) -> Reader {
        Reader::of(&["in"], settings, start)
    }

    fn of(topics: &[&str], settings: &Settings, start: Start) -> Reader {
        let waker = Waker::new().unwrap();
        let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
        Reader {
            source: KafkaSource::new(settings, &topics, start, &waker).unwrap(),
            waker,
            assigned: Vec::new(),
            batches: Vec::new(),
            limit: EVERYTHING,
            commits: false,
            committed: Vec::new(),
            troubles: Vec::new(),
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.source.event() {
            match event {
                Event::Assigned(partitions) => {
                    self.source.assign(&partitions).unwrap();
                    self.assigned.extend(partitions);
                }
                Event::Revoked { partitions, .. } => {
                    self.source.unassign(&partitions).unwrap();
                    self.assigned
                        .retain(|partition| !partitions.contains(partition));
                }
                Event::Uncommitted => self.committed.clear(),
                Event::Committed | Event::Statistics(_) => {}
                Event::Trouble(error) => self.troubles.push(format!("{error:#}")),
                Event::Fatal(error) => panic!("{error:#}"),
            }
        }
    }

    /// Does all that can be done without waiting.
    fn serve(&mut self) {
        self.events();
        for partition in self.assigned.clone() {
            while let Some(batch) = self.source.read(&partition, self.limit).unwrap() {
                assert!(!batch.is_empty());
                self.batches.push(batch);
            }
        }
        let offsets: Vec<_> = self
            .assigned
            .iter()
            .filter_map(|partition| Some((partition.clone(), self.source.position(partition)?)))
            .collect();
        // While the group rebalances, the mock cluster takes no commits; the next turn tries again.
        if self.commits && offsets != self.committed && self.source.commit(&offsets, true).is_ok() {
            self.committed = offsets;
        }
    }

    /// Serves until `done`, sleeping in between.
    fn until(&mut self, mut done: impl FnMut(&mut Reader) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        self.serve();
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "it took too long; {} records came",
                self.count()
            );
            self.waker.wait(PATIENCE).unwrap();
            self.serve();
        }
    }

    /// Serves events alone until this many partitions are assigned.
    fn join(&mut self, partitions: usize) {
        let deadline = Instant::now() + PATIENCE;
        self.events();
        while self.assigned.len() < partitions {
            assert!(
                Instant::now() < deadline,
                "{} partitions came",
                self.assigned.len()
            );
            self.waker.wait(Duration::from_millis(100)).unwrap();
            self.events();
        }
    }

    fn count(&self) -> usize {
        self.batches.iter().map(Batch::len).sum()
    }

    /// The values of a partition in the order in which they came, as numbers.
    fn numbers(&self, partition: i32) -> Vec<u64> {
        self.batches
            .iter()
            .filter(|batch| batch.partition == partition)
            .flat_map(|batch| batch.values.iter())
            .map(|value| {
                std::str::from_utf8(value.unwrap())
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect()
    }
}
