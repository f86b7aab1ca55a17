//! Writes what comes of letters, each time in one transaction with what is replayed by then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, bail};
use chrono::Utc;

use super::passage::Parcel;
use super::progress::{NOTE_MAX, Progress};
use super::{DeadLetters, Passage, mark};
use crate::cluster;
use crate::config;
use crate::io::{
    Outgoing, Progress as Step, SendError, Sink, TopicPartition, TransactionError, Undelivered,
};
use crate::kafka::{Admin, KafkaSink, Noted, Waker, admin_settings};
use crate::record::Headers;

/// How long one wait for the brokers may take before it's looked at again.
const TICK: Duration = Duration::from_millis(100);

/// How long the brokers may take for one step. Above `transaction.timeout.ms`'s default of 15 s, after which they end the
/// transaction of a replay that was killed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes to the topics of a passage, in transactions.
pub struct Post {
    sink: KafkaSink,
    waker: Waker,
    pipeline: String,
    group: String,
    topic: Arc<str>,
    topic_id: [u8; 16],
    /// The dead letter topic among the topics that the sink writes to.
    dead_letters: usize,
    /// The transaction's number, which its records are tagged with: deliveries of an aborted one may come in the next.
    number: u64,
}

/// Why a transaction came to nothing. Nothing of it counts.
#[derive(Debug)]
pub(super) enum Unposted {
    /// The brokers don't take one of its records.
    Refused(Error),
    /// The transaction failed for another reason, and another try may go well.
    Lost(Error),
    /// The replay can't go on.
    Failed(Error),
}

impl Unposted {
    /// The cause, whichever kind it is.
    pub(super) fn into_cause(self) -> Error {
        match self {
            Unposted::Refused(why) | Unposted::Lost(why) | Unposted::Failed(why) => why,
        }
    }
}

/// The records of a transaction that are on their way, and the first failures among those that came back.
#[derive(Default)]
struct Flight {
    records: usize,
    refused: Option<Error>,
    failed: Option<Error>,
}

impl From<Error> for Unposted {
    fn from(cause: Error) -> Unposted {
        Unposted::Failed(cause)
    }
}

impl Post {
    /// A producer for what a passage writes. It takes the place of any other replay of the pipeline, whose transaction has
    /// ended when this returns: what was replayed is to be looked up after this.
    pub fn open(
        pipeline: &config::Pipeline,
        passage: &Passage,
        letters: &DeadLetters,
    ) -> Result<Post> {
        let waker = Waker::new()?;
        let topics = passage.topics(pipeline);
        let user = cluster::pairs(&pipeline.producer);
        let admin = Admin::new(&admin_settings(&user)?, cluster::TIMEOUT)?;
        let sizes = admin.max_message_bytes(&topics)?;
        let settings = cluster::replayer(pipeline, &sizes)?;
        let mut post = Post {
            sink: KafkaSink::new(&settings, &topics, &waker)?.bounded(&sizes),
            waker,
            pipeline: pipeline.name.clone(),
            group: letters.group().to_string(),
            topic: letters.topic().clone(),
            topic_id: letters.topic_id,
            dead_letters: topics.len() - 1,
            number: 0,
        };
        post.finish("opening the producer", |sink| sink.open(TICK))
            .map_err(|why| post.explain(why))?;
        Ok(post)
    }

    /// Writes what came of letters, each with its parcels, and commits with it what is replayed of a partition.
    pub(super) fn deliver<'a>(
        &mut self,
        letters: impl Iterator<Item = &'a [Parcel]> + Clone,
        partition: i32,
        progress: &Progress,
    ) -> Result<(), Unposted> {
        /// The first transaction after one in which a record was refused fails, since sequence numbers are missing
        /// (librdkafka 2.12.1), and the one after that goes well.
        const TRIES: usize = 3;
        let noted = self.note(partition, progress)?;
        let mark = self.mark(partition, progress)?;
        for _ in 1..TRIES {
            match self.attempt(letters.clone(), &mark, &noted) {
                Err(Unposted::Lost(why)) => tracing::info!("once more: {why:#}"),
                result => return result,
            }
        }
        self.attempt(letters, &mark, &noted)
    }

    /// Writes and commits in one transaction, or rolls it back.
    fn attempt<'a>(
        &mut self,
        letters: impl Iterator<Item = &'a [Parcel]>,
        mark: &Parcel,
        noted: &[(TopicPartition, Noted)],
    ) -> Result<(), Unposted> {
        self.number += 1;
        self.sink.begin().map_err(|why| self.explain(why))?;
        let Err(unposted) = self
            .send_all(letters, mark)
            .and_then(|()| self.commit(noted))
        else {
            return Ok(());
        };
        let aborted = self.finish("aborting", |sink| sink.abort(TICK));
        match (unposted, aborted) {
            (unposted, Ok(())) => Err(unposted),
            (Unposted::Failed(why) | Unposted::Lost(why), Err(TransactionError::Fatal(_))) => {
                Err(Unposted::Failed(why))
            }
            (_, Err(why)) => Err(self.explain(why).into()),
        }
    }

    /// What the group is to have of a partition.
    fn note(&self, partition: i32, progress: &Progress) -> Result<[(TopicPartition, Noted); 1]> {
        let note = progress.note();
        if note.len() > NOTE_MAX {
            bail!(
                "group {:?} can't note which letters of {}/{partition} are replayed: those left out lie between them in too \
                 many places; what is replayed so far stays so; replay with a wider filter, or without any, from offset {} on",
                self.group,
                self.topic,
                progress.offset()
            );
        }
        let id = TopicPartition {
            topic: self.topic.clone(),
            partition,
        };
        let offset = progress.offset();
        Ok([(id, Noted { offset, note })])
    }

    /// The same for the topic, which keeps it for as long as the letters.
    fn mark(&self, partition: i32, progress: &Progress) -> Result<Parcel> {
        let (output, now) = (self.dead_letters, Utc::now().timestamp_millis());
        mark::parcel(
            output,
            partition,
            &self.group,
            &self.topic_id,
            progress,
            now,
        )
    }

    fn send_all<'a>(
        &mut self,
        letters: impl Iterator<Item = &'a [Parcel]>,
        mark: &Parcel,
    ) -> Result<(), Unposted> {
        let mut flight = Flight::default();
        let sent = letters
            .flatten()
            .try_for_each(|parcel| self.send(parcel, &mut flight))
            .and_then(|()| self.send(mark, &mut flight));
        match sent {
            Err(Unposted::Refused(why)) => return Err(Unposted::Refused(why)),
            Err(_) => self.sink.purge(),
            Ok(()) => {}
        }
        // Whatever came of it: what was sent along with a refused record fails with it, and may say so before.
        let drained = self.drain(&mut flight);
        if let Some(why) = flight.refused {
            return Err(Unposted::Refused(why));
        }
        // What the client says of itself tells more than what became of its records.
        drained.and(sent)?;
        match flight.failed {
            Some(why) => Err(Unposted::Lost(why.context("a record wasn't delivered"))),
            None => Ok(()),
        }
    }

    fn send(&mut self, parcel: &Parcel, flight: &mut Flight) -> Result<(), Unposted> {
        let mut headers = Headers::default();
        let own = parcel.headers.iter();
        headers.push_record(
            0,
            own.map(|(name, value)| (name.as_slice(), value.as_deref())),
        );
        let outgoing = Outgoing {
            output: parcel.output,
            partition: parcel.partition,
            key: parcel.key.as_deref(),
            value: parcel.value.as_deref(),
            timestamp: parcel.timestamp,
            headers: &headers,
            header_range: (0, parcel.headers.len()),
            appended: &parcel.appended,
            tag: self.number,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.sink.send(&outgoing) {
                Ok(()) => {
                    flight.records += 1;
                    return Ok(());
                }
                Err(SendError::Full) => {
                    self.settle(flight)?;
                    self.wait(deadline, "making room for a record")?;
                }
                Err(SendError::Record(why)) => return Err(Unposted::Refused(why)),
                Err(SendError::Failed(why) | SendError::Fatal(why)) => return Err(why.into()),
                Err(SendError::Transaction(why)) => return Err(self.unposted(why)),
            }
        }
    }

    /// Waits until nothing is in flight.
    fn drain(&mut self, flight: &mut Flight) -> Result<(), Unposted> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let failed = flight.failed.is_some();
            self.settle(flight)?;
            if flight.records == 0 {
                return Ok(());
            }
            if flight.failed.is_some() && !failed {
                // The transaction is lost with this one.
                self.sink.purge();
            }
            self.wait(deadline, "delivering records")?;
        }
    }

    /// Takes in what came back.
    fn settle(&mut self, flight: &mut Flight) -> Result<(), Unposted> {
        let number = self.number;
        let served = self.sink.deliveries(&mut |(tag, result)| {
            if tag != number {
                return;
            }
            flight.records -= 1;
            match result {
                Ok(()) => {}
                Err(Undelivered::Refused(why)) => {
                    flight.refused.get_or_insert(why);
                }
                Err(Undelivered::Failed(why)) => {
                    flight.failed.get_or_insert(why);
                }
            }
        });
        served.map_err(|why| self.unposted(why))
    }

    fn commit(&mut self, noted: &[(TopicPartition, Noted)]) -> Result<(), Unposted> {
        let group = self.group.clone();
        self.finish("committing", |sink| sink.commit_noted(noted, &group, TICK))
            .map_err(|why| self.unposted(why))
    }

    /// Makes a call of the sink until it's done.
    fn finish(
        &mut self,
        what: &'static str,
        mut call: impl FnMut(&mut KafkaSink) -> Result<Step, TransactionError>,
    ) -> Result<(), TransactionError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match call(&mut self.sink)? {
                Step::Done => return Ok(()),
                Step::Pending => {}
            }
            self.sink.deliveries(&mut |_| {})?;
            self.wait(deadline, what).map_err(TransactionError::Fatal)?;
        }
    }

    fn wait(&self, deadline: Instant, what: &str) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("{what}: the brokers didn't answer within {PATIENCE:?}");
        }
        self.waker.wait(left.min(TICK)).map(|_| ())
    }

    fn unposted(&self, why: TransactionError) -> Unposted {
        match why {
            TransactionError::Abort(_) => Unposted::Lost(self.explain(why)),
            _ => Unposted::Failed(self.explain(why)),
        }
    }

    fn explain(&self, why: TransactionError) -> Error {
        match why {
            TransactionError::Fenced(why) => why.context(format!(
                "another replay of pipeline {:?} has begun and takes this one's place; what this one has committed stays",
                self.pipeline
            )),
            TransactionError::Abort(why) => {
                why.context("the last transaction came to nothing; start the replay again to go on")
            }
            TransactionError::Fatal(why) => why.context(
                "the producer can't go on; start the replay again to go on where it is",
            ),
        }
    }
}
