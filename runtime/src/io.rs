//! Where a worker's records come from and go to. Two implementations each: Kafka's (`kafka/`), and the fakes of the
//! tests, which can be corked and fail on demand.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

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

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// The group has the offsets of a commit that nobody waited for.
    Committed,
    /// What the client says of itself, about once a second.
    Statistics(Statistics),
    /// Something is wrong that the client goes on with by itself (a broker is down, say), worth a line in the log.
    Trouble(Error),
    /// The client can't go on; the worker stops with this cause.
    Fatal(Error),
}

/// What a source's client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// For partitions that it fetches: the offset after the last record that can be read.
    pub ends: HashMap<TopicPartition, u64>,
    /// A broker that it fetches from and that doesn't answer, and for how long.
    pub silent: Option<(String, Duration)>,
}

/// How much to read at once.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Records, at least 1.
    pub records: usize,
    /// Bytes of keys, values and headers; a single record may be larger.
    pub bytes: usize,
}

/// Why a partition can't be read.
#[derive(Debug)]
pub enum Unread {
    /// Another try may go well.
    Failed(Error),
    /// The records from here on are gone, and somebody has to say where to go on.
    Gone(Error),
}

impl Unread {
    /// The cause, whichever kind it is.
    pub fn into_cause(self) -> Error {
        match self {
            Unread::Failed(cause) | Unread::Gone(cause) => cause,
        }
    }
}

impl From<Error> for Unread {
    fn from(cause: Error) -> Unread {
        Unread::Failed(cause)
    }
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
    ) -> Result<Option<Batch>, Unread>;

    /// Goes back (or on) to an offset: the next record read is the first at or above it.
    fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error>;

    /// The offset after the last record that was read, or passed over as none of the consumer's business (control
    /// records): before the first read where the partition starts, after a seek where that went.
    fn position(&mut self, partition: &TopicPartition) -> Option<u64>;

    /// Commits, for each partition, the offset of the next record to process. With `wait`, returns when the group has
    /// it; otherwise at once, and a failure comes back as an [`Event::Trouble`]. Not for a worker whose sink commits
    /// offsets in its transactions.
    fn commit(&mut self, offsets: &[(TopicPartition, u64)], wait: bool) -> Result<(), Error>;

    /// What the group's offsets are, by what the brokers say now; `None` where there is none. In order.
    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<u64>>, Error>;

    /// This consumer's membership in its group as of now, for [`Sink::commit`]. It changes with every rebalance.
    fn membership(&self) -> Result<Membership, Error>;
}

/// A consumer's membership in its group (KIP-447): the group, the generation and the member, as the source's client
/// writes them down for the sink's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership(pub Vec<u8>);

/// A record on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Which of the pipeline's outputs, by index; the dead letter topic comes after them.
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
    /// Headers that stand after these: a dead letter's.
    pub appended: &'a [(&'static str, String)],
    /// Comes back with the delivery.
    pub tag: u64,
}

impl Outgoing<'_> {
    /// The bytes of its key, value and headers.
    pub fn bytes(&self) -> usize {
        let lengths = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers: usize =
            match self.header_range.0 == self.header_range.1 && self.appended.is_empty() {
                true => 0,
                false => self
                    .headers()
                    .map(|(name, value)| name.len() + lengths(value))
                    .sum(),
            };
        lengths(self.key) + lengths(self.value) + headers
    }

    /// The record's headers in order.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let range: Range<usize> = self.header_range.0..self.header_range.1;
        let appended = self.appended.iter();
        let appended = appended.map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
        self.headers.range(range).chain(appended)
    }
}

/// Why a record couldn't be handed over for sending.
#[derive(Debug)]
pub enum SendError {
    /// The send queue is full: serve deliveries and try again.
    Full,
    /// This record can't be sent, whatever happens (it's larger than the client may send, for example).
    Record(Error),
    /// It can't be sent now (the topic is gone, or not for this user); another try may go well.
    Failed(Error),
    /// The client can't go on; the worker stops with this cause.
    Fatal(Error),
    /// The transaction has failed, or the client has with it.
    Transaction(TransactionError),
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
    /// blocks. Fails if the client can't go on, once and whether or not in a transaction; that a transaction has failed
    /// shows in its deliveries.
    fn deliveries(&mut self, settle: &mut dyn FnMut(Delivery)) -> Result<(), TransactionError>;

    /// Gives up on all that was handed over and not yet sent or acknowledged; its deliveries come as failures.
    fn purge(&mut self);

    /// Readies the sink for transactions, first of all, and again after a fatal error, with a new client: fences any
    /// earlier one of the same `transactional.id` and waits until its last transaction has ended. To be called until
    /// done.
    fn open(&mut self, patience: Duration) -> Result<Progress, TransactionError>;

    /// Begins a transaction. All that's sent until it ends is part of it.
    fn begin(&mut self) -> Result<(), TransactionError>;

    /// Ends the transaction: for each partition the offset of the next record to process becomes the group's, and all
    /// that was sent becomes visible, or neither does. To be called until done, with the same offsets; deliveries come
    /// meanwhile, or once it's done. Nothing may be sent until then.
    fn commit(
        &mut self,
        offsets: &[(TopicPartition, u64)],
        membership: &Membership,
        patience: Duration,
    ) -> Result<Progress, TransactionError>;

    /// Ends the transaction so that nothing of it counts; what wasn't sent yet comes back as failed deliveries. To be
    /// called until done.
    fn abort(&mut self, patience: Duration) -> Result<Progress, TransactionError>;
}

/// Whether a step that takes its time is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// It is.
    Done,
    /// It isn't: the patience is over, and the same call goes on with it.
    Pending,
}

/// Why a transaction can't go on, by what has to be done.
#[derive(Debug)]
pub enum TransactionError {
    /// It must be aborted, and its records read again.
    Abort(Error),
    /// The client can't go on. Whether the last commit went well is unknown: a new client has to be opened, and the
    /// partitions read from where the brokers say that the group is.
    Fatal(Error),
    /// Another producer has taken this one's place, or the brokers have given up on it: the worker must leave its group
    /// and join anew.
    Fenced(Error),
}

impl TransactionError {
    /// The same with what was being done.
    pub fn context(self, what: impl fmt::Display + Send + Sync + 'static) -> TransactionError {
        match self {
            TransactionError::Abort(cause) => TransactionError::Abort(cause.context(what)),
            TransactionError::Fatal(cause) => TransactionError::Fatal(cause.context(what)),
            TransactionError::Fenced(cause) => TransactionError::Fenced(cause.context(what)),
        }
    }

    /// The cause, whichever kind it is.
    pub fn into_cause(self) -> Error {
        match self {
            TransactionError::Abort(cause)
            | TransactionError::Fatal(cause)
            | TransactionError::Fenced(cause) => cause,
        }
    }
}
