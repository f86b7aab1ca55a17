//! A worker: one thread with a consumer, a chain of guests and a producer.
//!
//! A record's way is `Worker::turn`, read top to bottom: read → chain → send → settle → commit. No other thread touches a
//! record.

mod control;
mod failures;
mod held;
mod partition;
mod partitions;
mod send;
mod transaction;
mod trouble;
mod turn;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error};
use tracing::{debug, info, warn};

use crate::chain::{Broken, Chain, Failed, Processed, Unprocessed, Version};
use crate::guest::{Level, Log};
use crate::io::{
    Event, ReadLimit, Sink, Source, Statistics, TopicPartition, TransactionError, Undelivered,
    Unread,
};
use crate::letter::Class;
use crate::metrics::{Counters, Tally};
use crate::record::Batch;
pub use control::{Control, Next, Shared, Taken};
use failures::Failures;
pub use failures::Rules;
use held::Held;
use partition::Partition;
use partitions::Partitions;
use transaction::Transaction;
use trouble::Trouble;

/// How a worker goes about its work.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The pipeline's name.
    pub pipeline: String,
    /// The worker's number in the pipeline, from 0.
    pub worker: usize,
    /// The id of the cluster that it reads from.
    pub cluster: String,
    /// For each output whether a record keeps the number of its partition there; otherwise the producer's partitioner
    /// chooses by key.
    pub same_partition: Vec<bool>,
    /// What goes into a guest at once.
    pub batch: ReadLimit,
    /// Bytes that may be read and not yet settled; one batch always fits.
    pub in_flight: usize,
    /// Whether outputs, dead letters and offsets go into transactions together.
    pub exactly_once: bool,
    /// Bytes of input after which a transaction ends before its time.
    pub transaction_bytes: usize,
    /// What becomes of records that a transform fails on, for each of the chain's.
    pub rules: Vec<Rules>,
    /// The sink's index of the dead letter topic, if there's one.
    pub dead_letters: Option<usize>,
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
    failures: Failures,
    /// The transaction at hand, if outputs go into transactions.
    transaction: Option<Transaction>,
    /// When offsets were committed last.
    committed: Instant,
    /// When it was first seen that the worker is to stop.
    stopping: Option<Instant>,
    /// How often a chain was published when this worker's was.
    published: u64,
    trouble: Trouble,
    /// When the commit was asked for that has yet to be answered.
    asked: Option<Instant>,
    /// A broker doesn't answer.
    silent: bool,
}

/// A batch that went through the chain, on its way to the producer.
struct Work {
    slot: u32,
    input: Batch,
    processed: Processed,
    /// What goes to the dead letter topic.
    letters: Vec<Failed>,
    /// The offset that it covers the input up to.
    next: u64,
    tally: Tally,
    /// Why the pipeline stops after it.
    halt: Option<Error>,
}

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
        let dead_letters = settings.dead_letters.is_some();
        Worker {
            failures: Failures::new(&settings.pipeline, &chain, &settings.rules, dead_letters),
            transaction: settings.exactly_once.then(Transaction::default),
            published: 0,
            settings,
            source,
            sink,
            chain,
            control,
            counters,
            partitions: Partitions::default(),
            committed: Instant::now(),
            stopping: None,
            trouble: Trouble::new(Instant::now()),
            asked: None,
            silent: false,
        }
    }

    /// Works until told to stop or until it can't go on, then settles what is in flight, commits, and leaves.
    pub fn run(mut self) -> End {
        let end = match self.open() {
            Ok(()) => self.work(),
            Err(end) => end,
        };
        match (self.leave(&end), end) {
            (Err(end), End::Stopped) => end,
            (Err(End::Failed(why) | End::Halted(why)), end) => {
                let (pipeline, worker) = (&self.settings.pipeline, self.settings.worker);
                match &end {
                    // Most likely of the same cause.
                    End::Failed(_) => debug!(pipeline, worker, "leaving: {why:#}"),
                    _ => warn!(pipeline, worker, "leaving: {why:#}"),
                }
                end
            }
            (Ok(()) | Err(End::Stopped), end) => end,
        }
    }

    fn work(&mut self) -> End {
        loop {
            if self.control.stopping() {
                return End::Stopped;
            }
            if let Err(end) = self.turn() {
                return end;
            }
        }
    }

    /// One round: what happened, then a batch of each partition while there's room, then a sleep if there was nothing.
    fn turn(&mut self) -> Result<(), End> {
        while let Some(event) = self.source.event() {
            self.answer(event)?;
        }
        self.settle()?;
        if self.is_due() {
            match self.transaction {
                None => self.commit(false).map_err(End::Failed)?,
                Some(_) => self.commit_transaction()?,
            }
        }
        self.take_up();
        let mut busy = false;
        for slot in self.partitions.readable() {
            if self.partitions.bytes() >= self.settings.in_flight || self.control.is_paused() {
                break;
            }
            busy |= self.pump(slot)?;
            self.take_up();
            // Slow transforms on many partitions must not keep a transaction open beyond its time, nor a stop waiting.
            if self.control.stopping() || self.transaction.is_some() && self.is_due() {
                busy = true;
                break;
            }
        }
        if !busy {
            self.control.sleep(self.patience()).map_err(End::Failed)?;
        }
        Ok(())
    }

    /// Takes a batch of one partition all the way to the producer; whether there was one.
    fn pump(&mut self, slot: u32) -> Result<bool, End> {
        let Some(held) = self.read(slot)? else {
            return Ok(false);
        };
        self.control.set_busy(true);
        let work = self.transform(slot, held);
        self.control.set_busy(false);
        if let Some(work) = work? {
            self.send(work)?;
        }
        Ok(true)
    }

    /// A partition's next batch: one that was read before, or what waits in its queue.
    fn read(&mut self, slot: u32) -> Result<Option<Held>, End> {
        let Some(partition) = self.partitions.get_mut(slot) else {
            return Ok(None);
        };
        if let Some(held) = partition.take_held() {
            return Ok(Some(held));
        }
        let limit = partition.limit(self.settings.batch);
        let batch = self.source.read(&partition.id, limit);
        let batch = batch.map_err(|why| match why {
            Unread::Failed(cause) => End::Failed(cause),
            Unread::Gone(cause) => End::Halted(cause),
        })?;
        if let Some(batch) = batch {
            partition.take_in(batch);
        }
        Ok(partition.take_held())
    }

    /// Passes a batch through the chain, and sorts what failed by policy. `None` if a guest broke on it: it comes again, in
    /// halves.
    fn transform(&mut self, slot: u32, held: Held) -> Result<Option<Work>, End> {
        let Some(partition) = self.partitions.get(slot) else {
            return Ok(None);
        };
        let (settings, id) = (&self.settings, partition.id.clone());
        let metrics = partition.metrics.clone();
        let mut log = |version: &Version, offset: u64, line: &Log| {
            report(settings, &id, version, offset, line)
        };
        let mut processed = match &held.condemned {
            Some(reason) => undeliverable(held.batch.offsets[0], reason.clone()),
            None => match self
                .chain
                .run(&held.batch, held.full, &partition.keys, &mut log)
            {
                Ok(processed) => processed,
                Err(Unprocessed::Broken(broken)) => match self.isolate(slot, &held, broken) {
                    Some(processed) => processed,
                    None => return Ok(None),
                },
                Err(Unprocessed::Host(cause)) => return Err(End::Failed(cause)),
            },
        };
        let verdict = self.failures.judge(&id, &self.chain, &processed);
        let input = held.batch;
        let mut work = Work {
            slot,
            next: input.offsets.last().map_or(0, |last| last + 1),
            tally: Tally {
                partition: metrics,
                counts: std::mem::take(&mut processed.counts),
                ..Tally::default()
            },
            input,
            processed,
            letters: verdict.letters,
            halt: None,
        };
        work.tally.input(&work.input, work.input.len());
        let broken = |it: &&Failed| it.class != Class::Refused;
        let broken = work.processed.failed.iter().filter(broken);
        work.tally.broken = broken
            .filter_map(|it| Some((it.step?, it.canary, it.class)))
            .collect();
        let kind = |it: &Failed| (it.step.map(|step| (step, it.canary)), it.class);
        let kinds = |failed: &[Failed]| failed.iter().map(kind).collect();
        work.tally.letters = kinds(&work.letters);
        work.tally.skipped = kinds(&verdict.skipped);
        if let Some((offset, why)) = verdict.halt {
            // What comes before is good, and goes out.
            work.processed.take = Some(before(&work, offset));
            let good = work.input.offsets.partition_point(|&it| it < offset);
            work.tally.input(&work.input, good);
            work.next = offset;
            work.halt = Some(why);
        }
        Ok(Some(work))
    }

    /// Holds the halves of a batch that a guest broke on, or the record once more that's alone. When its tries are over it
    /// has failed.
    fn isolate(&mut self, slot: u32, held: &Held, broken: Broken) -> Option<Processed> {
        let step = broken.step;
        self.counters.limit_hit(step, &broken.fault);
        let partition = self.partitions.get_mut(slot)?;
        if held.batch.len() > 1 {
            if held.full == 0 {
                self.failures
                    .tell_broken(&partition.id, &self.chain, &broken);
            }
            let (one, other) = held.halves();
            partition.hold(other);
            partition.hold(one);
            return None;
        }
        if held.tries < self.failures.retries(step) {
            partition.hold(Held {
                tries: held.tries + 1,
                full: held.full,
                ..Held::new(held.batch.clone())
            });
            return None;
        }
        Some(nothing_but(Failed {
            offset: broken.offsets.0,
            step: Some(step),
            canary: broken.canary,
            class: broken.fault.class(),
            reason: broken.fault.to_string(),
        }))
    }

    /// Notes what became of records that were sent.
    fn take_deliveries(&mut self) -> Result<(), TransactionError> {
        let partitions = &mut self.partitions;
        let mut heard = false;
        let served = self.sink.deliveries(&mut |(tag, result)| {
            heard |= result.is_ok();
            partitions.settle(tag, result);
        });
        self.watch(heard);
        self.count_settled();
        served.map_err(|why| why.context("serving the producer"))
    }

    /// Counts what has settled: at once, or with its transaction.
    fn count_settled(&mut self) {
        for tally in self.partitions.take_settled() {
            match &mut self.transaction {
                None => self.counters.add(&tally),
                Some(transaction) => transaction.add(tally),
            }
        }
    }

    /// Takes in what became of records that were sent, and has those read again that failed.
    fn settle(&mut self) -> Result<(), End> {
        if let Err(why) = self.take_deliveries() {
            return self.recover(why);
        }
        if self.transaction.is_some() {
            return match self.partitions.failure() {
                Some(cause) => self.roll_back_for(cause),
                None => Ok(()),
            };
        }
        while let Some((id, offset, cause)) = self.partitions.rewind() {
            let lasting = matches!(cause, Undelivered::Failed(_));
            let why = format!("{:#}", cause.into_cause());
            if let Some(more) = self.fails(&why, lasting) {
                let more = (more > 0).then_some(more);
                warn!(
                    pipeline = self.settings.pipeline, topic = %id.topic, partition = id.partition, offset, more,
                    "a delivery failed; reading again from here: {why}"
                );
            }
            self.failures.forget();
            self.source.seek(&id, offset).map_err(End::Failed)?;
        }
        if self.trouble.has_moved() && !self.partitions.is_failing() {
            self.recovered();
        }
        self.check_hope()
    }

    /// Takes in that deliveries failed, for a reason that may last. Whether it's told of: how many like it weren't.
    fn fails(&mut self, why: &str, lasting: bool) -> Option<u64> {
        if !lasting {
            return self.trouble.tells(why, Instant::now());
        }
        self.control.set_trouble(Some(why.to_string()));
        self.trouble.fails(why, Instant::now())
    }

    /// Takes in that all is delivered again.
    fn recovered(&mut self) {
        if !self.trouble.is_on() {
            return;
        }
        self.control.set_trouble(None);
        if let Some((lasted, failures)) = self.trouble.end(Instant::now()) {
            let (pipeline, worker) = (&self.settings.pipeline, self.settings.worker);
            info!(
                pipeline,
                worker, failures, "records are delivered again, after {lasted:.1?}"
            );
        }
    }

    /// Looks whether deliveries come back at all. librdkafka says nothing while it tries again.
    fn watch(&mut self, heard: bool) {
        let now = Instant::now();
        if heard || !self.partitions.in_flight(None) {
            return self.trouble.moves(now);
        }
        if let Some(idle) = self.trouble.stalls(now) {
            let why = format!(
                "nothing was delivered for {idle:.0?}: brokers are away, or a topic that it writes to has fewer replicas in sync than its \"min.insync.replicas\""
            );
            let (pipeline, worker) = (&self.settings.pipeline, self.settings.worker);
            warn!(pipeline, worker, "{why}");
            self.control.set_trouble(Some(why));
        }
    }

    /// Ends the worker if there's a record that neither comes out nor becomes a dead letter.
    fn check_hope(&self) -> Result<(), End> {
        match self.partitions.hopeless() {
            None => Ok(()),
            Some((id, offset, reason)) => Err(End::Halted(anyhow::anyhow!(
                "the dead letter of the record at {id}, offset {offset}, can't be delivered: {reason}"
            ))),
        }
    }

    /// Whether it's time to commit.
    fn is_due(&self) -> bool {
        let late = self.committed.elapsed() >= self.settings.commit_interval;
        late || self.transaction.as_ref().is_some_and(|it| {
            it.bytes() >= self.settings.transaction_bytes
                // A record that may be refused is alone in its transaction.
                || it.is_begun() && self.partitions.is_cautious()
        })
    }

    fn answer(&mut self, event: Event) -> Result<(), End> {
        let Settings {
            pipeline, worker, ..
        } = &self.settings;
        match event {
            Event::Assigned(ids) => {
                info!(pipeline, worker, partitions = %list(&ids), "assigned");
                self.counters.assigned.inc();
                // What follows may wait for the brokers, and for others' transactions.
                if self.transaction.as_ref().is_some_and(Transaction::is_begun) {
                    self.commit_transaction()?;
                }
                let mut topic_ids = HashMap::new();
                for id in &ids {
                    if !topic_ids.contains_key(&id.topic) {
                        let topic_id = self.source.topic_id(&id.topic).map_err(End::Failed)?;
                        topic_ids.insert(id.topic.clone(), topic_id);
                    }
                }
                self.source.assign(&ids).map_err(End::Failed)?;
                for id in ids {
                    let topic_id = topic_ids[&id.topic];
                    let cluster = &self.settings.cluster;
                    let keys = self
                        .chain
                        .id_keys(cluster, &topic_id, &id.topic, id.partition);
                    let start = self.source.position(&id);
                    let start = start
                        .with_context(|| format!("{id} was assigned and has no position"))
                        .map_err(End::Failed)?;
                    let metrics = self.counters.partition(&id);
                    let partition = Partition::new(id, topic_id, keys, start);
                    self.partitions.add(partition.counted(metrics));
                }
                if self.transaction.is_none() {
                    self.commit(false).map_err(End::Failed)?;
                }
                self.control.set_joined(true);
            }
            Event::Revoked { partitions, lost } => {
                info!(pipeline, worker, partitions = %list(&partitions), lost, "revoked");
                if lost {
                    // It has been put out of the group, and comes back with the next assignment.
                    self.control.set_joined(false);
                } else if self.transaction.is_some() {
                    self.commit_transaction()?;
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
                match lost {
                    true => self.counters.lost.inc(),
                    false => self.counters.revoked.inc(),
                }
                self.source.unassign(&partitions).map_err(End::Failed)?;
                self.remove(&partitions);
                // Whatever was wrong may be another worker's now; if not, it shows again.
                self.recovered();
                if lost && self.transaction.as_ref().is_some_and(Transaction::is_begun) {
                    self.roll_back(anyhow::anyhow!(
                        "its partitions are another member's already"
                    ))?;
                }
            }
            Event::Uncommitted => {
                self.count_commit(false);
                self.partitions.forget_commits();
            }
            Event::Committed => self.count_commit(true),
            Event::Statistics(statistics) => self.observe(&statistics),
            Event::Trouble(cause) => {
                let cause = format!("{cause:#}");
                if let Some(more) = self.trouble.tells(&cause, Instant::now()) {
                    let more = (more > 0).then_some(more);
                    warn!(pipeline, worker, more, "{cause}");
                }
                // It may have been a commit.
                self.count_commit(false);
                self.partitions.forget_commits();
            }
            Event::Fatal(cause) => return Err(End::Failed(cause)),
        }
        Ok(())
    }

    /// Gives partitions up, and what they are like isn't shown any more.
    fn remove(&mut self, ids: &[TopicPartition]) {
        for (id, metrics) in self.partitions.remove(ids) {
            self.counters.give_up(&id, &metrics);
        }
    }

    /// Counts a commit that was answered.
    fn count_commit(&mut self, went_well: bool) {
        if let Some(asked) = self.asked.take() {
            self.counters.commit(asked.elapsed(), went_well);
        }
    }

    /// Takes in what the client says of itself, and shows what the partitions are like.
    fn observe(&mut self, statistics: &Statistics) {
        let source = &mut self.source;
        self.partitions.each(|it| {
            it.readable = statistics.ends.get(&it.id).copied().or(it.readable);
            if let Some(metrics) = &it.metrics {
                let lag = it.lag(|| source.position(&it.id));
                metrics.set(lag, it.ring.iter().map(|it| it.sending.bytes).sum());
            }
        });
        let silence = statistics.silent.as_ref().map(|(broker, time)| {
            format!(
                "the broker {broker} hasn't answered for {:.0} s",
                time.as_secs_f64()
            )
        });
        let (pipeline, worker) = (&self.settings.pipeline, self.settings.worker);
        match (self.silent, &silence) {
            (false, Some(silence)) => warn!(pipeline, worker, "{silence}"),
            (true, None) => info!(pipeline, worker, "the brokers answer again"),
            _ => {}
        }
        self.silent = silence.is_some();
        self.control.set_silence(silence);
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
            false => {
                let asked = Instant::now();
                let committed = source.commit(&offsets, wait).context("committing offsets");
                match wait {
                    true => self.counters.commit(asked.elapsed(), committed.is_ok()),
                    false => self.asked = Some(asked),
                }
                committed
            }
        }
    }

    /// Settles, commits and gives up all that's left, each step whatever became of the one before.
    fn leave(&mut self, end: &End) -> Result<(), End> {
        let settled = match self.transaction {
            Some(_) => self.finish(!matches!(end, End::Failed(_))),
            None => {
                let drained = self.drain(None);
                let committed = self.commit(!self.control.hurrying());
                drained.and(committed.map_err(End::Failed))
            }
        };
        let ids = self.partitions.ids();
        let unassigned = self.source.unassign(&ids);
        self.remove(&ids);
        self.sink.purge();
        settled.and(unassigned.map_err(End::Failed))
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
}

/// What comes of a record that failed.
fn nothing_but(failed: Failed) -> Processed {
    Processed {
        batch: None,
        take: Some(Vec::new()),
        failed: vec![failed],
        counts: Vec::new(),
    }
}

/// What comes of a record of which nothing can be delivered.
fn undeliverable(offset: u64, reason: String) -> Processed {
    nothing_but(Failed {
        offset,
        step: None,
        canary: false,
        class: Class::Output,
        reason,
    })
}

/// The choice among a batch's records of those with offsets below `offset`.
fn before(work: &Work, offset: u64) -> Vec<u32> {
    let batch = work.processed.batch.as_ref().unwrap_or(&work.input);
    let good = |&at: &u32| batch.offsets[at as usize] < offset;
    match &work.processed.take {
        Some(take) => take.iter().copied().filter(good).collect(),
        None => (0..batch.len() as u32).filter(good).collect(),
    }
}

/// A guest's line, in the log.
fn report(settings: &Settings, id: &TopicPartition, version: &Version, offset: u64, line: &Log) {
    let (pipeline, transform) = (&settings.pipeline, &version.transform);
    let module = version.module.digest().short();
    let (version, topic, partition, text) =
        (version.number, &*id.topic, id.partition, &line.message);
    macro_rules! event {
        ($level:ident) => {
            tracing::event!(target: "weir::guest", tracing::Level::$level, pipeline, transform, version, module, topic, partition, offset, "{text}")
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
