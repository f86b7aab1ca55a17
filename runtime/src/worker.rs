//! A worker: one thread with a consumer, a chain of guests and a producer.
//!
//! A record's way is `Worker::turn`, read top to bottom: read → chain → send → settle → commit. Nothing on it
//! blocks, and no other thread touches a record.

mod control;
mod partition;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow};
use tracing::{info, warn};

use crate::chain::{Broken, Chain, Processed, Refused, Version};
use crate::guest::{Level, Log};
use crate::io::{
    Event, Outgoing, ReadLimit, SendError, Sink, Source, TopicPartition, Undelivered, Unread,
};
use crate::metrics::Counters;
pub use control::Control;
use partition::{Partition, Partitions};

/// How a worker goes about its work.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The pipeline's name.
    pub pipeline: String,
    /// The worker's number in the pipeline, from 0.
    pub worker: usize,
    /// For each output whether a record keeps the number of its partition there; otherwise the producer's partitioner
    /// chooses by key.
    pub same_partition: Vec<bool>,
    /// What goes into a guest at once.
    pub batch: ReadLimit,
    /// Bytes that may be read and not yet settled; one batch always fits.
    pub in_flight: usize,
    /// How often offsets are committed.
    pub commit_interval: Duration,
    /// How long to wait for what is in flight when partitions are given up.
    pub drain: Duration,
}

/// Why a worker ended.
#[derive(Debug)]
pub enum End {
    /// It was told to.
    Stopped,
    /// Data or a transform must be mended first: the pipeline stops. All before the record in question is settled and
    /// committed, nothing after it is.
    Halted(Error),
    /// The host failed (Kafka, the machine): another try may go well.
    Failed(Error),
}

/// A worker, on its own thread.
pub struct Worker<S, K> {
    settings: Settings,
    source: S,
    sink: K,
    chain: Chain,
    control: Arc<Control>,
    counters: Counters,
    partitions: Partitions,
    /// When offsets were committed last.
    committed: Instant,
}

/// What a record in flight takes beside its bytes, roughly: librdkafka's message and its delivery report.
const RECORD_OVERHEAD: usize = 256;

/// How long an idle worker sleeps at most. Everything wakes it; this is for the group's `max.poll.interval.ms`.
const IDLE: Duration = Duration::from_secs(5);

impl<S: Source, K: Sink> Worker<S, K> {
    /// A worker that's ready to run.
    pub fn new(
        settings: Settings,
        source: S,
        sink: K,
        chain: Chain,
        control: Arc<Control>,
        counters: Counters,
    ) -> Worker<S, K> {
        Worker {
            settings,
            source,
            sink,
            chain,
            control,
            counters,
            partitions: Partitions::default(),
            committed: Instant::now(),
        }
    }

    /// Works until told to stop or until it can't go on, then settles what is in flight, commits, and leaves.
    pub fn run(mut self) -> End {
        let end = loop {
            if self.control.stopping() {
                break End::Stopped;
            }
            if let Err(end) = self.turn() {
                break end;
            }
        };
        match (self.leave(), end) {
            (Err(end), End::Stopped) => end,
            (Err(End::Failed(why) | End::Halted(why)), end) => {
                warn!(
                    pipeline = self.settings.pipeline,
                    worker = self.settings.worker,
                    "leaving: {why:#}"
                );
                end
            }
            (Ok(()) | Err(End::Stopped), end) => end,
        }
    }

    /// One round: what happened, then a batch of each partition while there's room, then a sleep if there was nothing.
    fn turn(&mut self) -> Result<(), End> {
        while let Some(event) = self.source.event() {
            self.answer(event)?;
        }
        self.settle()?;
        if self.committed.elapsed() >= self.settings.commit_interval {
            self.commit(false).map_err(End::Failed)?;
        }
        let mut busy = false;
        for slot in self.partitions.readable() {
            if self.partitions.bytes() >= self.settings.in_flight {
                break;
            }
            busy |= self.pump(slot)?;
        }
        if !busy {
            self.control.sleep(self.patience()).map_err(End::Failed)?;
        }
        Ok(())
    }

    /// Takes a batch of one partition all the way to the producer; whether there was one.
    fn pump(&mut self, slot: u32) -> Result<bool, End> {
        let Some(partition) = self.partitions.get_mut(slot) else {
            return Ok(false);
        };
        let batch = self.source.read(&partition.id, self.settings.batch);
        let batch = batch.map_err(|why| match why {
            Unread::Failed(cause) => End::Failed(cause),
            Unread::Gone(cause) => End::Halted(cause),
        });
        let Some(batch) = batch? else {
            return Ok(false);
        };
        let (first, next) = match (batch.offsets.first(), batch.offsets.last()) {
            (Some(&first), Some(&last)) => (first, last + 1),
            _ => return Ok(true),
        };
        partition.read_to(next);
        let bytes = batch.bytes() + batch.len() * RECORD_OVERHEAD;
        self.counters.records_in.increment(batch.len() as u64);
        let (settings, id) = (&self.settings, &partition.id);
        let mut log = |version: &Version, offset: u64, line: &Log| {
            report(settings, id, version, offset, line)
        };
        let processed = self.chain.run(batch, &partition.keys, &mut log);
        let processed = processed.map_err(|broken| End::Halted(self.broken(slot, &broken)))?;
        for (counters, count) in self.counters.transforms.iter().zip(&processed.counts) {
            counters.add(count);
        }
        match processed.refused.first().cloned() {
            None => self.send(slot, processed, first, next, bytes)?,
            Some(refused) => {
                // What comes before the refused record is good, and goes out.
                self.send(
                    slot,
                    before(processed, refused.offset),
                    first,
                    refused.offset,
                    bytes,
                )?;
                return Err(End::Halted(self.refused(slot, &refused)));
            }
        }
        Ok(true)
    }

    /// Hands a batch's records to the producer. The batch covers the offsets from `first` to below `next`.
    fn send(
        &mut self,
        slot: u32,
        processed: Processed,
        first: u64,
        next: u64,
        bytes: usize,
    ) -> Result<(), End> {
        let Processed { batch, take, .. } = processed;
        let records = take.as_ref().map_or(batch.len(), Vec::len);
        let tag = self.partitions.begin(slot, first, next, records, bytes);
        let starts = match batch.headers.is_empty() {
            true => None,
            false => Some(batch.headers.starts(batch.len())),
        };
        for nth in 0..records {
            let index = take.as_ref().map_or(nth, |take| take[nth] as usize);
            let output = batch
                .outputs
                .get(index)
                .map_or(0, |&output| output as usize);
            let same = self
                .settings
                .same_partition
                .get(output)
                .is_some_and(|&it| it);
            let outgoing = Outgoing {
                output,
                partition: same.then_some(batch.partition),
                key: batch.keys.get(index),
                value: batch.values.get(index),
                timestamp: batch.timestamps[index],
                headers: &batch.headers,
                header_range: starts.as_ref().map_or((0, 0), |starts| {
                    (starts[index] as usize, starts[index + 1] as usize)
                }),
                appended: &[],
                tag,
            };
            let sent = loop {
                match self.sink.send(&outgoing) {
                    Ok(()) => break Ok(()),
                    Err(SendError::Full) => match self.wait_for_room() {
                        Ok(()) => {}
                        Err(end) => break Err(end),
                    },
                    Err(SendError::Record(cause)) => {
                        let what = format!(
                            "the record that came of {}/{} at offset {} can't be sent",
                            batch.topic, batch.partition, batch.offsets[index]
                        );
                        break Err(End::Halted(cause.context(what)));
                    }
                    Err(SendError::Fatal(cause)) => {
                        break Err(End::Failed(cause.context("the producer can't go on")));
                    }
                    Err(SendError::Transaction(why)) => {
                        break Err(End::Failed(why.into_cause()));
                    }
                }
            };
            if let Err(end) = sent {
                // What was never sent won't come back either.
                self.partitions
                    .cut(tag, batch.offsets[index], records - nth);
                return Err(end);
            }
        }
        Ok(())
    }

    fn wait_for_room(&mut self) -> Result<(), End> {
        self.settle()?;
        if self.control.hurrying() {
            return Err(End::Stopped);
        }
        self.control
            .sleep(Duration::from_millis(10))
            .map_err(End::Failed)
    }

    /// Takes in what became of records that were sent, and sends a partition back whose records failed.
    fn settle(&mut self) -> Result<(), End> {
        let (partitions, mut delivered) = (&mut self.partitions, 0);
        let served = self.sink.deliveries(&mut |(tag, result)| {
            delivered += u64::from(result.is_ok());
            partitions.settle(tag, result);
        });
        self.counters.records_out.increment(delivered);
        served.map_err(|why| End::Failed(why.into_cause().context("serving the producer")))?;
        while let Some((id, offset, cause)) = self.partitions.rewind() {
            let cause = match cause {
                Undelivered::Failed(cause) => cause,
                Undelivered::Refused(cause) => {
                    let what = format!(
                        "what came of the batch of {id} that starts at offset {offset} can't be delivered"
                    );
                    return Err(End::Halted(cause.context(what)));
                }
            };
            warn!(
                pipeline = self.settings.pipeline, topic = %id.topic, partition = id.partition, offset,
                "a delivery failed; reading again from here: {cause:#}"
            );
            self.source.seek(&id, offset).map_err(End::Failed)?;
        }
        Ok(())
    }

    fn answer(&mut self, event: Event) -> Result<(), End> {
        let Settings {
            pipeline, worker, ..
        } = &self.settings;
        match event {
            Event::Assigned(ids) => {
                info!(pipeline, worker, partitions = %list(&ids), "assigned");
                let mut topic_ids = HashMap::new();
                for id in &ids {
                    if !topic_ids.contains_key(&id.topic) {
                        let topic_id = self.source.topic_id(&id.topic).map_err(End::Failed)?;
                        topic_ids.insert(id.topic.clone(), topic_id);
                    }
                }
                self.source.assign(&ids).map_err(End::Failed)?;
                for id in ids {
                    let keys = self
                        .chain
                        .id_keys(&topic_ids[&id.topic], &id.topic, id.partition);
                    let start = self.source.position(&id);
                    let start = start
                        .with_context(|| format!("{id} was assigned and has no position"))
                        .map_err(End::Failed)?;
                    self.partitions.add(Partition::new(id, keys, start));
                }
                self.commit(false).map_err(End::Failed)?;
                self.control.set_joined(true);
            }
            Event::Revoked { partitions, lost } => {
                info!(pipeline, worker, partitions = %list(&partitions), lost, "revoked");
                if lost {
                    // It has been put out of the group, and comes back with the next assignment.
                    self.control.set_joined(false);
                } else {
                    self.drain(Some(&partitions))?;
                    if let Err(why) = self.commit(true) {
                        warn!(
                            pipeline = self.settings.pipeline,
                            worker = self.settings.worker,
                            "while giving partitions up, so that some records will be processed again: {why:#}"
                        );
                        self.partitions.forget_commits();
                    }
                }
                self.source.unassign(&partitions).map_err(End::Failed)?;
                self.partitions.remove(&partitions);
            }
            Event::Uncommitted => self.partitions.forget_commits(),
            Event::Trouble(cause) => {
                warn!(pipeline, worker, "{cause:#}");
                // It may have been a commit.
                self.partitions.forget_commits();
            }
            Event::Fatal(cause) => return Err(End::Failed(cause)),
        }
        Ok(())
    }

    /// Waits until nothing of these partitions (or of any) is in flight, at most for `drain`.
    fn drain(&mut self, ids: Option<&[TopicPartition]>) -> Result<(), End> {
        let deadline = Instant::now() + self.settings.drain;
        loop {
            self.settle()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.partitions.in_flight(ids) || self.control.hurrying() {
                return Ok(());
            }
            if left.is_zero() {
                warn!(
                    pipeline = self.settings.pipeline,
                    worker = self.settings.worker,
                    "not all deliveries came back within {:?}: some records will be processed again",
                    self.settings.drain
                );
                return Ok(());
            }
            self.control.sleep(left).map_err(End::Failed)?;
        }
    }

    /// Commits what is settled: where that's news, or, with `wait`, all of it.
    fn commit(&mut self, wait: bool) -> Result<(), Error> {
        self.committed = Instant::now();
        if wait {
            // A commit that nobody waited for may fail yet.
            self.partitions.forget_commits();
        }
        let source = &mut self.source;
        let offsets = self.partitions.take_commits(|id| source.position(id));
        match offsets.is_empty() {
            true => Ok(()),
            false => source.commit(&offsets, wait).context("committing offsets"),
        }
    }

    /// Settles, commits and gives up all that's left, each step whatever became of the one before.
    fn leave(&mut self) -> Result<(), End> {
        let drained = self.drain(None);
        let committed = self.commit(!self.control.hurrying());
        let ids = self.partitions.ids();
        let unassigned = self.source.unassign(&ids);
        self.partitions.remove(&ids);
        self.sink.purge();
        drained.and(committed.and(unassigned).map_err(End::Failed))
    }

    /// How long a worker without work may sleep.
    fn patience(&self) -> Duration {
        let commit = match self.partitions.uncommitted() {
            true => self
                .settings
                .commit_interval
                .saturating_sub(self.committed.elapsed()),
            false => IDLE,
        };
        let pause = self
            .partitions
            .next_pause_end()
            .map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
        commit.min(pause).min(IDLE)
    }

    fn refused(&self, slot: u32, refused: &Refused) -> Error {
        let Some(version) = self.chain.versions().nth(refused.step) else {
            return anyhow!("{}", refused.reason);
        };
        anyhow!(
            "transform {:?} ({:?}) refused the record at {}, offset {}: {}",
            version.transform,
            version.module,
            self.name_of(slot),
            refused.offset,
            refused.reason
        )
    }

    fn broken(&self, slot: u32, broken: &Broken) -> Error {
        let (first, last) = broken.offsets;
        let module = self
            .chain
            .versions()
            .nth(broken.step)
            .map(|it| format!(" ({:?})", it.module));
        anyhow!(
            "transform {:?}{} broke on {}, offsets {first} to {last}: {}",
            broken.transform,
            module.unwrap_or_default(),
            self.name_of(slot),
            broken.fault
        )
    }

    fn name_of(&self, slot: u32) -> String {
        self.partitions
            .get(slot)
            .map_or_else(String::new, |it| it.id.to_string())
    }
}

/// The records of a batch with offsets below `offset`.
fn before(mut processed: Processed, offset: u64) -> Processed {
    let batch = &processed.batch;
    let good = |&at: &u32| batch.offsets[at as usize] < offset;
    let take = match processed.take.take() {
        Some(take) => take.into_iter().filter(good).collect(),
        None => (0..batch.len() as u32).filter(good).collect(),
    };
    processed.take = Some(take);
    processed
}

/// A guest's line, in the log.
fn report(settings: &Settings, id: &TopicPartition, version: &Version, offset: u64, line: &Log) {
    let (pipeline, transform) = (&settings.pipeline, &version.transform);
    let module = version.module.digest().short();
    let (topic, partition, text) = (&*id.topic, id.partition, &line.message);
    macro_rules! event {
        ($level:ident) => {
            tracing::event!(target: "weir::guest", tracing::Level::$level, pipeline, transform, module, topic, partition, offset, "{text}")
        };
    }
    match line.level {
        Level::Error => event!(ERROR),
        Level::Warn => event!(WARN),
        Level::Info => event!(INFO),
        Level::Debug => event!(DEBUG),
        Level::Trace => event!(TRACE),
    }
}

fn list(ids: &[TopicPartition]) -> String {
    let names: Vec<String> = ids.iter().map(TopicPartition::to_string).collect();
    match names.is_empty() {
        true => "none".into(),
        false => names.join(" "),
    }
}
