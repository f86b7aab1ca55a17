//! The sink of a worker: a producer for the pipeline's outputs.

use std::time::{Duration, Instant};

use anyhow::{Error, anyhow};

use super::caller::Call;
use super::consumer::{TELL_EVERY, offset_list};
use super::ffi::{Code, Failure, Member, Message, PartitionList, Producer, Refusal, Reports};
use super::membership;
use super::reader::Noted;
use super::settings::Settings;
use super::size::{fits, lone_batch};
use super::transactions::{Stage, Transactions, fatal};
use super::wake::Waker;
use crate::fold::Fold;
use crate::io::{
    Delivery, Membership, Outgoing, Progress, SendError, Sink, TopicPartition, TransactionError,
    Undelivered,
};

/// Produces to a list of topics. What goes wrong with brokers is logged; the client goes on trying by itself.
///
/// With a `transactional.id` in its settings it has transactions, and takes no record outside of one. After
/// [`Progress::Pending`] its waker wakes as soon as there's something new. What failed in a way that may pass is tried
/// again a little later, so that a worker that calls whenever it's woken never spins.
pub struct KafkaSink {
    /// For the next client, if this one can't go on.
    settings: Settings,
    topics: Vec<String>,
    /// How large a record's batch may be, for each topic where that's known and can be told beforehand.
    bounds: Vec<Option<u64>>,
    waker: Waker,
    /// Before the producer, whose calls it makes.
    transactions: Option<Transactions>,
    producer: Producer,
    /// `None` while a call of a transaction is under way.
    reports: Option<Reports>,
    /// Deliveries of an earlier client, for whoever asks next.
    left: Vec<(u64, Code)>,
    fold: Fold<Code>,
}

impl KafkaSink {
    /// How long an old client may take to give back what it had.
    const PURGE_TIMEOUT: Duration = Duration::from_secs(1);

    /// A producer for topics, which [`Outgoing::output`] names by index. Fails on settings that no client can be made
    /// with, not on brokers that don't answer.
    pub fn new(settings: &Settings, topics: &[String], waker: &Waker) -> Result<KafkaSink, Error> {
        let (producer, reports) = Producer::new(settings.conf()?, topics, waker)?;
        let transactions = match settings.get("transactional.id") {
            Some(_) => Some(Transactions::new(waker, settings.transaction_timeout())?),
            None => None,
        };
        Ok(KafkaSink {
            settings: settings.clone(),
            topics: topics.to_vec(),
            bounds: vec![None; topics.len()],
            waker: waker.clone(),
            transactions,
            producer,
            reports: Some(reports),
            left: Vec::new(),
            fold: Fold::every(TELL_EVERY),
        })
    }

    /// The same with each topic's `max.message.bytes`, where that's known: a larger record is refused before it's sent,
    /// since a broker refuses all that's sent along with it. With compression only the broker can tell.
    pub fn bounded(mut self, max_message_bytes: &[Option<u64>]) -> KafkaSink {
        let known = max_message_bytes.iter().copied();
        let known = known.map(|bound| bound.filter(|_| !self.settings.compresses()));
        self.bounds = known
            .chain(std::iter::repeat(None))
            .take(self.topics.len())
            .collect();
        self
    }

    /// Makes a new client in the place of one that can't go on. What the old one had comes back as failed, if its reports
    /// are at hand.
    fn renew(&mut self) -> Result<(), Error> {
        if let Some(mut reports) = self.reports.take() {
            self.producer.purge();
            reports.flush(KafkaSink::PURGE_TIMEOUT);
            let left = &mut self.left;
            reports.poll(&mut |tag, code| left.push((tag, code)), &mut |_| {});
        }
        let (producer, reports) = Producer::new(self.settings.conf()?, &self.topics, &self.waker)?;
        self.producer = producer;
        self.reports = Some(reports);
        Ok(())
    }

    /// As [`Sink::commit`], for a group without members, with a note beside each offset (Kafka's "metadata"). The brokers
    /// take notes of 4,096 bytes unless they're told otherwise (`offset.metadata.max.bytes`).
    pub fn commit_noted(
        &mut self,
        offsets: &[(TopicPartition, Noted)],
        group: &str,
        patience: Duration,
    ) -> Result<Progress, TransactionError> {
        self.commit_with(patience, &|| {
            let plain: Vec<(TopicPartition, u64)> = offsets
                .iter()
                .map(|(partition, noted)| (partition.clone(), noted.offset))
                .collect();
            let mut list = offset_list(&plain)?;
            for (index, (_, noted)) in offsets.iter().enumerate() {
                list.set_note(index, &noted.note);
            }
            Ok(Some((list, Member::of_group(group)?)))
        })
    }

    /// Commits with the offsets that `offsets` gives, which is asked once.
    fn commit_with(
        &mut self,
        patience: Duration,
        offsets: &dyn Fn() -> Result<Option<(PartitionList, Member)>, Error>,
    ) -> Result<Progress, TransactionError> {
        let deadline = Instant::now() + patience;
        let transactions = self
            .transactions
            .as_mut()
            .ok_or_else(without_transactions)?;
        if !transactions.is_busy(&self.reports) {
            if transactions.stage() != Stage::Begun {
                return Err(TransactionError::Fatal(anyhow!(
                    "there is no transaction to commit"
                )));
            }
            let offsets = offsets().map_err(TransactionError::Fatal)?;
            transactions.prepare(Call::Commit {
                offsets,
                asked: false,
            });
        }
        transactions.drive(&mut self.reports, deadline)
    }

    fn refuse(&self, record: &Outgoing<'_>, failure: Failure) -> SendError {
        let topic = &self.topics[record.output];
        if failure.code != Code::QUEUE_FULL
            && let Some(failure) = self.producer.fatal_error()
        {
            return match &self.transactions {
                Some(_) => SendError::Transaction(fatal(failure)),
                None => SendError::Fatal(failure.into()),
            };
        }
        match failure.code {
            Code::QUEUE_FULL => SendError::Full,
            Code::MSG_SIZE_TOO_LARGE => SendError::Record(anyhow!(
                "a record for \"{topic}\" takes {} bytes, more than the producer's \"message.max.bytes\" ({}); raise that, or the topics' \"max.message.bytes\" if it isn't set",
                lone_batch(record),
                self.settings.get("message.max.bytes").unwrap_or("1000000")
            )),
            // The client asks anew every few minutes (`topic.metadata.refresh.interval.ms`), and more often while it lacks
            // something.
            Code::UNKNOWN_PARTITION => SendError::Failed(anyhow!(
                "topic \"{topic}\" has no partition {}; give it as many as the input has, or don't set `partition = \"same\"`",
                record.partition.unwrap_or(-1)
            )),
            Code::UNKNOWN_TOPIC | Code::UNKNOWN_TOPIC_OR_PART => SendError::Failed(anyhow!(
                "there is no topic \"{topic}\"; create it, or check the name"
            )),
            Code::TOPIC_DENIED => SendError::Failed(Error::from(failure).context(format!(
                "this user may not write to topic \"{topic}\"; allow Write and Describe on it"
            ))),
            Code::STATE if let Some(transactions) = &self.transactions => {
                SendError::Transaction(match transactions.stage() {
                    Stage::Begun => TransactionError::Abort(anyhow!(
                        "the transaction has failed, and takes no more records"
                    )),
                    _ => TransactionError::Fatal(anyhow!("there is no transaction")),
                })
            }
            _ => SendError::Fatal(
                Error::from(failure).context(format!("can't write to topic \"{topic}\"")),
            ),
        }
    }
}

impl Sink for KafkaSink {
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), SendError> {
        let timestamp = match record.timestamp {
            // librdkafka's 0 is the time of sending.
            -1 => 0,
            timestamp if timestamp < -1 => {
                return Err(SendError::Record(anyhow!(
                    "a record can't have the timestamp {timestamp}; Kafka has none before 1970"
                )));
            }
            timestamp => timestamp,
        };
        if let Some(&Some(bound)) = self.bounds.get(record.output)
            && !fits(record, bound)
        {
            let topic = &self.topics[record.output];
            return Err(SendError::Record(anyhow!(
                "a record for \"{topic}\" takes {} bytes, and the topic takes {bound}; raise its \"max.message.bytes\", and restart Weir",
                lone_batch(record)
            )));
        }
        let message = Message {
            topic: record.output,
            partition: record.partition,
            key: record.key,
            value: record.value,
            timestamp,
            tag: record.tag,
        };
        match self.producer.send(&message, record.headers()) {
            Ok(()) => Ok(()),
            Err(Refusal::NoTopic) => Err(SendError::Record(anyhow!(
                "there is no output {}; the pipeline has {}",
                record.output,
                self.topics.len()
            ))),
            Err(Refusal::Failure(failure)) => Err(self.refuse(record, failure)),
        }
    }

    fn deliveries(&mut self, settle: &mut dyn FnMut(Delivery)) -> Result<(), TransactionError> {
        if let Some(transactions) = &mut self.transactions {
            transactions.take_in(&mut self.reports, Duration::ZERO)?;
        }
        for (tag, code) in self.left.drain(..) {
            settle((tag, delivered(code)));
        }
        let Some(reports) = &mut self.reports else {
            // Whoever makes the call hears them now, and they come once it's done.
            return Ok(());
        };
        let mut failed = None;
        let fold = &mut self.fold;
        reports.poll(
            &mut |tag, code| settle((tag, delivered(code))),
            &mut |failure| match failure.code {
                Code::FATAL => failed = Some(failure),
                code if fold.tells(code, Instant::now()).is_some() => {
                    tracing::warn!(target: "kafka", "producer: {failure}");
                }
                _ => {}
            },
        );
        match failed {
            Some(failure) => Err(fatal(self.producer.fatal_error().unwrap_or(failure))),
            None => Ok(()),
        }
    }

    fn purge(&mut self) {
        self.producer.purge();
    }

    fn open(&mut self, patience: Duration) -> Result<Progress, TransactionError> {
        let deadline = Instant::now() + patience;
        let transactions = self
            .transactions
            .as_mut()
            .ok_or_else(without_transactions)?;
        if transactions.stage() != Stage::New {
            // Whatever the old client is about, it's of no use any more.
            if !transactions.take_in(&mut self.reports, patience)? && !transactions.is_stuck() {
                return Ok(Progress::Pending);
            }
            let renewed = transactions.renew(&self.waker);
            renewed
                .and_then(|()| self.renew())
                .map_err(TransactionError::Fatal)?;
        }
        let transactions = self
            .transactions
            .as_mut()
            .ok_or_else(without_transactions)?;
        if !transactions.is_busy(&self.reports) {
            transactions.prepare(Call::Init);
        }
        transactions.drive(&mut self.reports, deadline)
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        let transactions = self
            .transactions
            .as_mut()
            .ok_or_else(without_transactions)?;
        transactions.begin(self.producer.begin())
    }

    fn commit(
        &mut self,
        offsets: &[(TopicPartition, u64)],
        membership: &Membership,
        patience: Duration,
    ) -> Result<Progress, TransactionError> {
        self.commit_with(patience, &|| match offsets {
            [] => Ok(None),
            _ => Ok(Some((offset_list(offsets)?, membership::read(membership)?))),
        })
    }

    fn abort(&mut self, patience: Duration) -> Result<Progress, TransactionError> {
        let deadline = Instant::now() + patience;
        let transactions = self
            .transactions
            .as_mut()
            .ok_or_else(without_transactions)?;
        if !transactions.take_in(&mut self.reports, patience)? {
            return match transactions.is_stuck() {
                true => Err(TransactionError::Fatal(anyhow!(
                    "a transaction can't be aborted while a call that's part of it won't end"
                ))),
                false => Ok(Progress::Pending),
            };
        }
        match transactions.turn_back()? {
            true => transactions.drive(&mut self.reports, deadline),
            false => Ok(Progress::Done),
        }
    }
}

fn without_transactions() -> TransactionError {
    TransactionError::Fatal(anyhow!("the producer was made without transactions"))
}

/// What a delivery's code means for the record.
fn delivered(code: Code) -> Result<(), Undelivered> {
    code.into_result().map_err(|cause| match code {
        Code::MSG_SIZE_TOO_LARGE | Code::RECORD_LIST_TOO_LARGE => Undelivered::Refused(cause.context(
            "the topic's \"max.message.bytes\" is smaller than the record, or than a request; raise it there, or lower \"batch.size\" in the pipeline's producer table",
        )),
        Code::INVALID_RECORD => Undelivered::Refused(
            cause.context("the broker refuses a record (a compacted topic takes none without a key)"),
        ),
        Code::TOPIC_DENIED => Undelivered::Failed(cause.context(
            "this user may not write to an output or to the dead letter topic; allow Write and Describe on it",
        )),
        Code::UNKNOWN_TOPIC | Code::UNKNOWN_TOPIC_OR_PART | Code::UNKNOWN_PARTITION => {
            Undelivered::Failed(cause.context(
                "an output or the dead letter topic, or a partition of it, isn't there any more; create it again",
            ))
        }
        Code::INVALID_TIMESTAMP => Undelivered::Refused(
            cause.context("a timestamp is outside of what the topic takes"),
        ),
        Code::POLICY_VIOLATION => {
            Undelivered::Refused(cause.context("a policy of the cluster refuses a record"))
        }
        _ => Undelivered::Failed(cause),
    })
}
