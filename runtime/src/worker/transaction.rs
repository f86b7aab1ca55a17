//! Exactly-once: outputs, dead letters and offsets in one transaction (KIP-447).
//!
//! A transaction begins with the first batch that's sent after the last, and ends after `commit_interval`. What is aborted is
//! read again from where the group stands.
//!
//! While it commits the worker waits. To have the next batches go through the chain meanwhile measured no faster
//! (`cargo xtask bench seed --delivery exactly-once`, with and without: 468,000 and 508,000 records/s, 1.44 and 1.35 us of
//! CPU, beside 624,000 and 721,000, 1.26 and 1.18 us, of at-least-once in the same runs).

use std::time::{Duration, Instant};

use anyhow::{Context, Error};
use tracing::{error, warn};

use super::partition::back_off;
use super::{End, Worker};
use crate::io::{Progress, Sink, Source, TopicPartition, TransactionError, Undelivered};
use crate::metrics::Tally;

/// The transaction at hand.
#[derive(Default)]
pub(super) struct Transaction {
    begun: bool,
    /// When it began.
    since: Option<Instant>,
    /// Input bytes.
    bytes: usize,
    /// The offsets that it was asked to commit; empty if it wasn't.
    asked: Vec<(TopicPartition, u64)>,
    /// What has to be counted once it's committed.
    tallies: Vec<Tally>,
    /// Those that were aborted in a row and are tried again after a pause.
    aborted: u32,
    /// Nothing more can be done with the client.
    over: bool,
}

impl Transaction {
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    pub(super) fn add(&mut self, tally: Tally) {
        self.tallies.push(tally);
    }

    /// Whether it was committed after all, as far as can be told from what the group has of the partitions that are still
    /// this worker's.
    fn was_committed(&self, committed: &[(TopicPartition, Option<u64>)]) -> bool {
        let has = |(id, offset): &(TopicPartition, u64)| {
            committed
                .iter()
                .any(|(it, at)| it == id && *at >= Some(*offset))
        };
        !self.asked.is_empty() && self.asked.iter().all(has)
    }

    /// It ended; returns what was counted in it.
    fn end(&mut self) -> Vec<Tally> {
        self.begun = false;
        self.since = None;
        self.bytes = 0;
        self.asked.clear();
        std::mem::take(&mut self.tallies)
    }
}

/// How long one step of a transaction is waited for before the worker looks whether it's told to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Brokers that don't answer for so long are told of.
const SLOW: Duration = Duration::from_secs(5);

/// How long an abort may take of a worker that leaves: readers wait for the transaction's end, at most for its timeout.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

impl<S: Source, K: Sink> Worker<S, K> {
    /// Readies the sink for transactions, if outputs go into any.
    pub(super) fn open(&mut self) -> Result<(), End> {
        if self.transaction.is_none() {
            return Ok(());
        }
        loop {
            match self.sink.open(PATIENCE) {
                Ok(Progress::Done) => return Ok(()),
                Ok(Progress::Pending) if self.control.stopping() => {
                    self.give_up();
                    return Err(End::Stopped);
                }
                Ok(Progress::Pending) => {}
                Err(why) => {
                    self.give_up();
                    let cause = why.context("can't ready the producer for transactions");
                    return Err(End::Failed(cause.into_cause()));
                }
            }
        }
    }

    /// Begins a transaction unless one is at hand or none are wanted. `false` if that failed: what is in hand is read again.
    pub(super) fn begin(&mut self) -> Result<bool, End> {
        match &mut self.transaction {
            Some(transaction) if !transaction.begun => match self.sink.begin() {
                Ok(()) => {
                    transaction.begun = true;
                    transaction.since = Some(Instant::now());
                }
                Err(why) => return self.recover(why).map(|()| false),
            },
            _ => {}
        }
        Ok(true)
    }

    /// Commits the transaction at hand, or offsets alone where those are news. What can't be committed is read again.
    pub(super) fn commit_transaction(&mut self) -> Result<(), End> {
        // The producer knows nothing of a record that it never took.
        if let Some(cause) = self.partitions.failure() {
            return self.roll_back_for(cause);
        }
        self.committed = Instant::now();
        let source = &mut self.source;
        let offsets = self.partitions.ends(|id| source.position(id));
        let begun = self.transaction.as_ref().is_some_and(|it| it.begun);
        if offsets.is_empty() && !begun {
            return Ok(());
        }
        if !self.begin()? {
            return Ok(());
        }
        let membership = self.source.membership().map_err(End::Failed)?;
        if let Some(transaction) = &mut self.transaction {
            transaction.asked.clone_from(&offsets);
        }
        let asked = Instant::now();
        loop {
            match self.sink.commit(&offsets, &membership, PATIENCE) {
                Ok(Progress::Done) => break,
                Ok(Progress::Pending) => {}
                Err(why) => {
                    self.counters.commit(asked.elapsed(), false);
                    return self.recover(why);
                }
            }
            if let Err(why) = self.take_deliveries() {
                return self.recover(why);
            }
            if self.is_out_of_time() {
                return Err(End::Stopped);
            }
            self.waits(asked, "a commit");
        }
        self.counters.commit(asked.elapsed(), true);
        self.partitions.committed(&offsets);
        let served = self.take_deliveries();
        self.count_committed();
        self.recovered();
        match served {
            Ok(()) => Ok(()),
            Err(why) => self.recover(why),
        }
    }

    /// Says that the brokers don't answer, if that takes its time.
    fn waits(&mut self, since: Instant, what: &str) {
        let time = since.elapsed();
        if time < SLOW {
            return;
        }
        let why = format!(
            "the brokers haven't answered {what} for {:.0} s",
            time.as_secs_f64()
        );
        if !self.silent {
            let (pipeline, worker) = (&self.settings.pipeline, self.settings.worker);
            warn!(pipeline, worker, "{why}");
        }
        self.silent = true;
        self.control.set_silence(Some(why));
    }

    /// Counts what was in the transaction, which was committed.
    fn count_committed(&mut self) {
        self.count_settled();
        if let Some(transaction) = &mut self.transaction {
            transaction.aborted = 0;
            if let Some(since) = transaction.since {
                let took = since.elapsed().as_secs_f64();
                self.counters.transaction_duration.observe(took);
            }
            for tally in transaction.end() {
                self.counters.add(&tally);
            }
            self.counters.transactions_committed.inc();
        }
    }

    /// Aborts after a delivery failed, and reads again. What the broker refuses for good comes again without a pause, with
    /// the record alone.
    pub(super) fn roll_back_for(&mut self, cause: Undelivered) -> Result<(), End> {
        match cause {
            Undelivered::Failed(cause) => self.roll_back(cause),
            Undelivered::Refused(cause) => self.abort(cause, None),
        }
    }

    /// Aborts, and reads again after a pause.
    pub(super) fn roll_back(&mut self, cause: Error) -> Result<(), End> {
        let aborted = self.transaction.as_ref().map_or(0, |it| it.aborted);
        self.abort(cause, Some(back_off(aborted)))
    }

    /// Does what an error of the producer asks for. Without transactions the worker is started anew.
    pub(super) fn recover(&mut self, why: TransactionError) -> Result<(), End> {
        if self.transaction.is_none() {
            return Err(End::Failed(why.into_cause()));
        }
        match why {
            TransactionError::Abort(cause) => self.roll_back(cause),
            TransactionError::Fatal(cause) => self.replace(cause),
            TransactionError::Fenced(cause) => {
                self.give_up();
                Err(End::Failed(cause))
            }
        }
    }

    fn abort(&mut self, cause: Error, pause: Option<Duration>) -> Result<(), End> {
        let begun = self.transaction.as_ref().is_some_and(|it| it.begun);
        // Without one at hand, what failed is the client itself.
        if !begun {
            return self.replace(cause);
        }
        let asked = Instant::now();
        loop {
            self.waits(asked, "an abort");
            match self.sink.abort(PATIENCE) {
                Ok(Progress::Done) => break,
                Ok(Progress::Pending) if self.is_out_of_time() => {
                    self.give_up();
                    return Err(End::Stopped);
                }
                Ok(Progress::Pending) => {}
                Err(TransactionError::Abort(why) | TransactionError::Fatal(why)) => {
                    return self.replace(why.context(cause));
                }
                Err(TransactionError::Fenced(why)) => {
                    self.give_up();
                    return Err(End::Failed(why.context(cause)));
                }
            }
        }
        // What was on its way has come back by now.
        if let Err(why) = self.take_deliveries() {
            return self.replace(why.into_cause().context(cause));
        }
        // A commit may tell first of a record that the broker refused: nothing gets better by waiting then.
        let is_refused = matches!(self.partitions.failure(), Some(Undelivered::Refused(_)));
        let pause = pause.filter(|_| !is_refused);
        let cause = format!("{cause:#}");
        if let Some(more) = self.fails(&cause, pause.is_some()) {
            let (pipeline, worker) = (&self.settings.pipeline, self.settings.worker);
            let more = (more > 0).then_some(more);
            warn!(
                pipeline,
                worker, more, "a transaction was aborted, and its records are read again: {cause}"
            );
        }
        self.read_again(pause)
    }

    /// Takes a new client in place of one that can't go on. Whether its last commit went well is the brokers' to say.
    fn replace(&mut self, cause: Error) -> Result<(), End> {
        let text = format!("{cause:#}");
        if let Some(more) = self.fails(&text, true) {
            let (pipeline, worker) = (&self.settings.pipeline, self.settings.worker);
            let more = (more > 0).then_some(more);
            error!(
                pipeline,
                worker, more, "the producer can't go on, and a new one takes its place: {text}"
            );
        }
        if self.transaction.as_ref().is_some_and(|it| it.over) {
            return Err(End::Failed(cause));
        }
        self.open()?;
        let ids = self.partitions.ids();
        let committed = self.source.committed(&ids);
        let committed = committed
            .context("can't ask where the group stands")
            .map_err(End::Failed)?;
        let committed: Vec<_> = ids.into_iter().zip(committed).collect();
        if self
            .transaction
            .as_ref()
            .is_some_and(|it| it.was_committed(&committed))
        {
            self.partitions.settle_all();
            self.count_committed();
        }
        self.partitions.restart_from(&committed);
        let aborted = self.transaction.as_ref().map_or(0, |it| it.aborted);
        self.read_again(Some(back_off(aborted)))
    }

    fn read_again(&mut self, pause: Option<Duration>) -> Result<(), End> {
        if let Some(transaction) = &mut self.transaction {
            if transaction.begun {
                self.counters.transactions_aborted.inc();
                if let Some(since) = transaction.since {
                    let took = since.elapsed().as_secs_f64();
                    self.counters.transaction_duration.observe(took);
                }
            }
            transaction.end();
            if pause.is_some() {
                transaction.aborted = transaction.aborted.saturating_add(1);
            }
        }
        self.failures.forget();
        for (id, offset) in self.partitions.roll_back(pause) {
            self.source.seek(&id, offset).map_err(End::Failed)?;
        }
        self.check_hope()
    }

    /// The last commit of a worker that leaves; an abort where there's no time or no way.
    pub(super) fn finish(&mut self, commit: bool) -> Result<(), End> {
        if self.transaction.as_ref().is_none_or(|it| it.over) {
            return Ok(());
        }
        let committed = match commit && !self.is_out_of_time() {
            true => self.commit_transaction(),
            false => Ok(()),
        };
        self.give_up();
        if self.transaction.as_ref().is_some_and(|it| it.begun) {
            // If it fails, the brokers do it once its time is over.
            let _ = self.sink.abort(LAST_PATIENCE);
            self.counters.transactions_aborted.inc();
        }
        committed
    }

    /// Whether the worker is to stop, and has no time left to end its transaction: one deadline for all that this takes.
    fn is_out_of_time(&mut self) -> bool {
        if !self.control.stopping() {
            return false;
        }
        let since = *self.stopping.get_or_insert_with(Instant::now);
        self.control.hurrying() || since.elapsed() > self.settings.drain
    }

    /// From now on nothing is begun or opened any more.
    fn give_up(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.over = true;
        }
    }
}
