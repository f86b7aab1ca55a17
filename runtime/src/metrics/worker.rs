//! What a worker counts, once it's certain.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::Utc;
use prometheus::{Histogram, IntCounter};

use super::{
    BATCH_DURATION, BYTES_IN, BYTES_OUT, COMMIT_DURATION, COMMITS, Family, IN_FLIGHT, LAG,
    LIMIT_HITS, LOG_LINES, LOG_LINES_DROPPED, Metrics, PARTITIONS_ASSIGNED, PROBATIONS_FAILED,
    REBALANCES, RECORD_AGE, RECORD_DURATION, RECORDS_BROKEN, RECORDS_DEAD_LETTERED,
    RECORDS_DROPPED, RECORDS_IN, RECORDS_OUT, RECORDS_REFUSED, RECORDS_SKIPPED, ROLLBACKS, Reason,
    SWAPS, TRANSACTION_DURATION, TRANSACTIONS, TRANSFORM_BATCHES, TRANSFORM_IN, TRANSFORM_OUT,
};
use crate::chain::{Chain, Count, Version};
use crate::guest::{Fault, Limit};
use crate::io::TopicPartition;
use crate::letter::Class;
use crate::record::Batch;

/// What a worker counts. Counters of the same labels are the same counter, whoever asks for them.
#[derive(Clone)]
pub struct Counters {
    metrics: Metrics,
    pipeline: String,
    /// See [`super::TRANSACTIONS`].
    pub transactions_committed: IntCounter,
    /// See [`super::TRANSACTIONS`].
    pub transactions_aborted: IntCounter,
    /// See [`super::TRANSACTION_DURATION`].
    pub transaction_duration: Histogram,
    /// Rebalances: partitions that came.
    pub assigned: IntCounter,
    /// Rebalances: partitions that were asked back.
    pub revoked: IntCounter,
    /// Rebalances: partitions that were somebody else's already.
    pub lost: IntCounter,
    committed: IntCounter,
    uncommitted: IntCounter,
    commit_duration: Histogram,
    /// For each transform of the chain, in order, its active version's and its canary's.
    transforms: Vec<(OfVersion, Option<OfVersion>)>,
    /// Of records that no transform failed on and Kafka didn't take.
    undeliverable: Fates,
}

/// What a worker did, to be counted once it's certain.
#[derive(Debug, Default)]
pub struct Tally {
    /// The input partition that it's about.
    pub partition: Option<Arc<Partition>>,
    /// Records consumed.
    pub records_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Records produced to the outputs and acknowledged.
    pub records_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// The newest timestamp of records that are done with, in milliseconds since 1970-01-01T00:00:00Z.
    pub newest: Option<i64>,
    /// What each version did that was given records.
    pub counts: Vec<Count>,
    /// Records that went to the dead letter topic: the step that failed on each, if one did, whether that's its canary, and
    /// how.
    pub letters: Vec<(Option<(usize, bool)>, Class)>,
    /// Records that were passed over, likewise.
    pub skipped: Vec<(Option<(usize, bool)>, Class)>,
    /// Records that broke their guest all alone: the step, whether it was its canary, and how.
    pub broken: Vec<(usize, bool, Class)>,
}

impl Tally {
    /// Has it be about the first `count` records of a batch.
    pub fn input(&mut self, batch: &Batch, count: usize) {
        let bytes = match count == batch.len() {
            true => batch.bytes(),
            false => batch.gather(&(0..count as u32).collect::<Vec<_>>()).bytes(),
        };
        let timestamps = batch.timestamps.iter().take(count).copied();
        (self.records_in, self.bytes_in) = (count as u64, bytes as u64);
        self.newest = timestamps.filter(|&it| it >= 0).max();
    }
}

/// What's counted of an input partition that a worker has.
#[derive(Debug)]
pub struct Partition {
    records_in: IntCounter,
    bytes_in: IntCounter,
    records_out: IntCounter,
    bytes_out: IntCounter,
    /// [`NEVER`] before it's known, as are those that follow.
    lag: AtomicI64,
    in_flight: AtomicI64,
    newest: AtomicI64,
}

const NEVER: i64 = i64::MIN;

/// What became of failed records: one counter for each class.
#[derive(Clone)]
struct Fates {
    dead_lettered: Vec<(Class, IntCounter)>,
    skipped: Vec<(Class, IntCounter)>,
}

/// What a worker counts of one version of a transform.
#[derive(Clone)]
struct OfVersion {
    records_in: IntCounter,
    records_out: IntCounter,
    dropped: IntCounter,
    refused: IntCounter,
    batches: IntCounter,
    batch_duration: Histogram,
    record_duration: Histogram,
    fates: Fates,
    log_lines: IntCounter,
    log_lines_dropped: IntCounter,
    broken: Vec<(Class, IntCounter)>,
    limit_hits: Vec<(&'static str, IntCounter)>,
}

/// How a guest breaks: a refusal is counted elsewhere.
const BROKEN: [Class; 4] = [Class::Trap, Class::Deadline, Class::Memory, Class::Output];

impl Metrics {
    /// The counters of a pipeline with this chain. All series are there from the start, at 0.
    pub fn counters(&self, pipeline: &str, chain: &Chain) -> Counters {
        let of = |(step, active): (usize, &Version)| {
            let canary = chain.canary(step);
            let canary = canary.map(|it| OfVersion::new(self, pipeline, it));
            (OfVersion::new(self, pipeline, active), canary)
        };
        let rebalances = |event| self.counter(&REBALANCES, &[pipeline, event]);
        Counters {
            metrics: self.clone(),
            pipeline: pipeline.to_string(),
            transactions_committed: self.counter(&TRANSACTIONS, &[pipeline, "committed"]),
            transactions_aborted: self.counter(&TRANSACTIONS, &[pipeline, "aborted"]),
            transaction_duration: self.histogram(&TRANSACTION_DURATION, &[pipeline]),
            assigned: rebalances("assigned"),
            revoked: rebalances("revoked"),
            lost: rebalances("lost"),
            committed: self.counter(&COMMITS, &[pipeline, "committed"]),
            uncommitted: self.counter(&COMMITS, &[pipeline, "failed"]),
            commit_duration: self.histogram(&COMMIT_DURATION, &[pipeline]),
            undeliverable: Fates::new(self, [pipeline, "", ""], &[Class::Output]),
            transforms: chain.versions().enumerate().map(of).collect(),
        }
    }
}

impl Counters {
    /// Counts what was done.
    pub fn add(&self, tally: &Tally) {
        if let Some(partition) = &tally.partition {
            partition.add(tally);
        }
        for count in &tally.counts {
            self.of(count.step, count.canary)
                .inspect(|it| it.add(count));
        }
        let fates = |step: Option<(usize, bool)>| match step {
            Some((step, canary)) => self.of(step, canary).map(|it| &it.fates),
            None => Some(&self.undeliverable),
        };
        for (step, class) in &tally.letters {
            fates(*step).inspect(|it| increment(&it.dead_lettered, class));
        }
        for (step, class) in &tally.skipped {
            fates(*step).inspect(|it| increment(&it.skipped, class));
        }
        for (step, canary, class) in &tally.broken {
            self.of(*step, *canary)
                .inspect(|it| increment(&it.broken, class));
        }
    }

    /// Adds a fault of a step's guest, if it's one at a limit.
    pub fn limit_hit(&self, step: usize, fault: &Fault) {
        if let (Some(counters), Some(limit)) = (self.of(step, false), fault.limit()) {
            increment(&counters.limit_hits, &limit);
        }
    }

    /// Adds a commit that was answered.
    pub fn commit(&self, took: Duration, went_well: bool) {
        match went_well {
            true => self.committed.inc(),
            false => self.uncommitted.inc(),
        }
        self.commit_duration.observe(took.as_secs_f64());
    }

    /// What is counted of a partition from now on.
    pub fn partition(&self, id: &TopicPartition) -> Arc<Partition> {
        let number = id.partition.to_string();
        let labels = [&*self.pipeline, &id.topic, &number];
        let partition = Arc::new(Partition {
            records_in: self.metrics.counter(&RECORDS_IN, &labels),
            bytes_in: self.metrics.counter(&BYTES_IN, &labels),
            records_out: self.metrics.counter(&RECORDS_OUT, &labels),
            bytes_out: self.metrics.counter(&BYTES_OUT, &labels),
            lag: AtomicI64::new(NEVER),
            in_flight: AtomicI64::new(0),
            newest: AtomicI64::new(NEVER),
        });
        let key = (self.pipeline.clone(), id.clone());
        let mut live = self.metrics.live();
        live.partitions.insert(key, partition.clone());
        drop(live);
        self.count_partitions();
        partition
    }

    /// A partition is this worker's no more: what was counted stays, what it was like goes.
    pub fn give_up(&self, id: &TopicPartition, partition: &Arc<Partition>) {
        let key = (self.pipeline.clone(), id.clone());
        let mut live = self.metrics.live();
        // Another worker of this process may have it already.
        let is_ours = live
            .partitions
            .get(&key)
            .is_some_and(|it| Arc::ptr_eq(it, partition));
        if is_ours {
            live.partitions.remove(&key);
            let number = id.partition.to_string();
            for family in [&LAG, &RECORD_AGE, &IN_FLIGHT] {
                self.metrics
                    .remove(family, &[&self.pipeline, &id.topic, &number]);
            }
        }
        drop(live);
        self.count_partitions();
    }

    fn count_partitions(&self) {
        let live = self.metrics.live();
        let ours = live.partitions.keys();
        let ours = ours.filter(|(pipeline, _)| *pipeline == self.pipeline);
        let gauge = self.metrics.gauge(&PARTITIONS_ASSIGNED, &[&self.pipeline]);
        gauge.set(ours.count() as f64);
    }

    fn of(&self, step: usize, canary: bool) -> Option<&OfVersion> {
        let (active, tried) = self.transforms.get(step)?;
        match (canary, tried) {
            (true, Some(tried)) => Some(tried),
            _ => Some(active),
        }
    }
}

impl Partition {
    /// Sets how many records can be read and aren't done with, and what was read and isn't settled.
    pub fn set(&self, lag: Option<u64>, in_flight: usize) {
        let known = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        if let Some(lag) = lag {
            self.lag.store(known(lag), Ordering::Relaxed);
        }
        self.in_flight
            .store(known(in_flight as u64), Ordering::Relaxed);
    }

    /// What it's like at a moment, in milliseconds since 1970-01-01T00:00:00Z, as far as it's known: each family and its
    /// value.
    pub(super) fn gauges(&self, now: i64) -> impl Iterator<Item = (&'static Family, f64)> {
        let known = |it: &AtomicI64| Some(it.load(Ordering::Relaxed)).filter(|it| *it != NEVER);
        let age = known(&self.newest).map(|newest| (now - newest).max(0) as f64 / 1e3);
        let gauges = [
            (&LAG, known(&self.lag).map(|it| it as f64)),
            (&IN_FLIGHT, known(&self.in_flight).map(|it| it as f64)),
            (&RECORD_AGE, age),
        ];
        gauges
            .into_iter()
            .filter_map(|(family, value)| Some((family, value?)))
    }

    fn add(&self, tally: &Tally) {
        self.records_in.inc_by(tally.records_in);
        self.bytes_in.inc_by(tally.bytes_in);
        self.records_out.inc_by(tally.records_out);
        self.bytes_out.inc_by(tally.bytes_out);
        if let Some(newest) = tally.newest {
            // A timestamp that's yet to come must not hide a stall until then.
            let newest = newest.min(Utc::now().timestamp_millis());
            self.newest.fetch_max(newest, Ordering::Relaxed);
        }
    }
}

impl Fates {
    fn new(
        metrics: &Metrics,
        [pipeline, transform, version]: [&str; 3],
        classes: &[Class],
    ) -> Fates {
        let of = |family| {
            let counter = |&class: &Class| {
                let labels = [pipeline, transform, version, &class.to_string()];
                (class, metrics.counter(family, &labels))
            };
            classes.iter().map(counter).collect()
        };
        Fates {
            dead_lettered: of(&RECORDS_DEAD_LETTERED),
            skipped: of(&RECORDS_SKIPPED),
        }
    }
}

impl OfVersion {
    fn new(metrics: &Metrics, pipeline: &str, version: &Version) -> OfVersion {
        metrics.keep_version(pipeline, version);
        let (transform, number) = (&*version.transform, version.number.to_string());
        let labels = [pipeline, transform, &number];
        // Not the worker's, and there from the start, so that the first one is seen to come.
        for result in ["made", "refused"] {
            metrics.counter(&SWAPS, &[pipeline, transform, result]);
        }
        metrics.counter(&ROLLBACKS, &labels[..2]);
        for reason in Reason::ALL {
            metrics.counter(&PROBATIONS_FAILED, &[pipeline, transform, reason.as_str()]);
        }
        let broken = |class: Class| {
            let labels = [pipeline, transform, &number, &class.to_string()];
            (class, metrics.counter(&RECORDS_BROKEN, &labels))
        };
        let limit_hits = |limit: Limit| {
            let labels = [pipeline, transform, limit.name()];
            (limit.name(), metrics.counter(&LIMIT_HITS, &labels))
        };
        OfVersion {
            records_in: metrics.counter(&TRANSFORM_IN, &labels),
            records_out: metrics.counter(&TRANSFORM_OUT, &labels),
            dropped: metrics.counter(&RECORDS_DROPPED, &labels),
            refused: metrics.counter(&RECORDS_REFUSED, &labels),
            batches: metrics.counter(&TRANSFORM_BATCHES, &labels),
            batch_duration: metrics.histogram(&BATCH_DURATION, &labels),
            record_duration: metrics.histogram(&RECORD_DURATION, &labels),
            log_lines: metrics.counter(&LOG_LINES, &labels[..2]),
            log_lines_dropped: metrics.counter(&LOG_LINES_DROPPED, &labels[..2]),
            broken: BROKEN.into_iter().map(broken).collect(),
            limit_hits: Limit::ALL.into_iter().map(limit_hits).collect(),
            fates: Fates::new(metrics, labels, &Class::ALL),
        }
    }

    fn add(&self, count: &Count) {
        self.records_in.inc_by(count.records_in);
        self.records_out.inc_by(count.records_out);
        self.dropped.inc_by(count.dropped);
        self.refused.inc_by(count.refused);
        self.batches.inc();
        let took = count.took.as_secs_f64();
        self.batch_duration.observe(took);
        self.record_duration
            .observe(took / count.records_in.max(1) as f64);
        self.log_lines.inc_by(count.log_lines);
        self.log_lines_dropped.inc_by(count.log_lines_dropped);
    }
}

fn increment<T: PartialEq>(counters: &[(T, IntCounter)], of: &T) {
    let counter = counters.iter().find(|(it, _)| it == of);
    counter.inspect(|(_, it)| it.inc());
}
