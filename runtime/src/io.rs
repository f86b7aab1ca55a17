//! Where a worker's records come from and go to. Two implementations each: Kafka's (`kafka/`), and the fakes of the
//! tests, which can be corked and fail on demand.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Error;

use crate::record::{Batch, Headers};

/// One partition of an input topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, not negative.
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What happened to a source beside records.
#[derive(Debug)]
pub enum Event {
    /// The group gave these partitions to this worker; none, if there are more members than partitions. The worker
    /// answers with [`Source::assign`].
    Assigned(Vec<TopicPartition>),
    /// The group takes these partitions away. The worker settles them and answers with [`Source::unassign`].
    Revoked {
        /// The partitions to give up.
        partitions: Vec<TopicPartition>,
        /// Whether they are somebody else's already, so that nothing can be committed for them any more.
        lost: bool,
    },
    /// A commit came too late for the group's generation, as happens while partitions move; it has to be made again.
    Uncommitted,
    /// Something is wrong that the client goes on with by itself (a broker is down, say), worth a line in the log.
    Trouble(Error),
    /// The client can't go on; the worker stops with this cause.
    Fatal(Error),
}

/// How much to read at once.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Records, at least 1.
    pub records: usize,
    /// Bytes of keys, values and headers; a single record may be larger.
    pub bytes: usize,
}

/// Consumes records, one partition at a time.
pub trait Source {
    /// Serves the client and returns the next thing that happened, or `None` once nothing has. Never blocks, and must
    /// be called often enough to stay in the group (`max.poll.interval.ms`).
    fn event(&mut self) -> Option<Event>;

    /// Kafka's id of a topic, which tells a topic from one that was deleted and made again under the same name. All
    /// zeros where Kafka doesn't say.
    fn topic_id(&mut self, topic: &str) -> Result<[u8; 16], Error>;

    /// Takes partitions on and starts to fetch: from the group's committed offset, or from the pipeline's `start`.
    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Gives partitions up; what was fetched of them and not read is forgotten.
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Records of one partition that wait, in order, without blocking; `None` if none do. All have offsets above those
    /// read before, or at and above the last seek.
    fn read(
        &mut self,
        partition: &TopicPartition,
        limit: ReadLimit,
    ) -> Result<Option<Batch>, Error>;

    /// Goes back (or on) to an offset: the next record read is the first at or above it.
    fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error>;

    /// The offset after the last record that was read, or passed over as none of the consumer's business (control
    /// records): before the first read where the partition starts, after a seek where that went.
    fn position(&mut self, partition: &TopicPartition) -> Option<u64>;

    /// Commits, for each partition, the offset of the next record to process. With `wait`, returns when the group has
    /// it; otherwise at once, and a failure comes back as an [`Event::Trouble`].
    fn commit(&mut self, offsets: &[(TopicPartition, u64)], wait: bool) -> Result<(), Error>;
}

/// A record on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Which of the pipeline's outputs, by index.
    pub output: usize,
    /// The partition to write to, or `None` for the partitioner's choice by key.
    pub partition: Option<i32>,
    /// The key; null isn't empty.
    pub key: Option<&'a [u8]>,
    /// The value; null isn't empty.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since 1970-01-01T00:00:00Z, or -1 for the time of sending.
    pub timestamp: i64,
    /// The batch's headers.
    pub headers: &'a Headers,
    /// Which of `headers` are this record's.
    pub header_range: (usize, usize),
    /// Comes back with the delivery.
    pub tag: u64,
}

impl Outgoing<'_> {
    /// The record's own headers as a range of `headers`.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let range: Range<usize> = self.header_range.0..self.header_range.1;
        self.headers.range(range)
    }
}

/// Why a record couldn't be handed over for sending.
#[derive(Debug)]
pub enum SendError {
    /// The send queue is full: serve deliveries and try again.
    Full,
    /// This record can't be sent, whatever happens (it's larger than the client may send, for example).
    Record(Error),
    /// The client can't go on; the worker stops with this cause.
    Fatal(Error),
}

/// Why a record that was handed over wasn't delivered.
#[derive(Debug)]
pub enum Undelivered {
    /// Another try may go well.
    Failed(Error),
    /// The broker doesn't take this record, or one that was sent along with it, however often it's sent.
    Refused(Error),
}

impl Undelivered {
    /// The cause, whichever kind it is.
    pub fn into_cause(self) -> Error {
        match self {
            Undelivered::Failed(cause) | Undelivered::Refused(cause) => cause,
        }
    }
}

/// What became of a record that was handed over: its tag, and why it wasn't delivered if it wasn't.
pub type Delivery = (u64, Result<(), Undelivered>);

/// Produces records.
pub trait Sink {
    /// Hands a record over for sending; its bytes are copied. Never blocks.
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), SendError>;

    /// Serves the client and hands every delivery that is known by now to `settle`, each tag exactly once. Never
    /// blocks.
    fn deliveries(&mut self, settle: &mut dyn FnMut(Delivery)) -> Result<(), Error>;

    /// Gives up on all that was handed over and not yet sent or acknowledged; its deliveries come as failures.
    fn purge(&mut self);
}
