//! The sink of a worker: a producer for the pipeline's outputs.

use std::time::{Duration, Instant};

use anyhow::{Error, anyhow};

use super::caller::Call;
use super::consumer::offset_list;
use super::ffi::{Code, Failure, Message, Producer, Refusal, Reports};
use super::fold::Fold;
use super::membership;
use super::settings::Settings;
use super::transactions::{Stage, Transactions, fatal};
use super::wake::Waker;
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
    waker: Waker,
    /// Before the producer, whose calls it makes.
    transactions: Option<Transactions>,
    producer: Producer,
    /// `None` while a call of a transaction is under way.
    reports: Option<Reports>,
    /// Deliveries of an earlier client, for whoever asks next.
    left: Vec<(u64, Code)>,
    fold: Fold,
}

impl KafkaSink {
    /// How long an old client may take to give back what it had.
    const PURGE_TIMEOUT: Duration = Duration::from_secs(1);

    /// A producer for topics, which [`Outgoing::output`] names by index. Fails on settings that no client can be made
    /// with, not on brokers that don't answer.
    pub fn new(settings: &Settings, topics: &[String], waker: &Waker) -> Result<KafkaSink, Error> {
        let (producer, reports) = Producer::new(settings.conf()?, topics, waker)?;
        let transactions = match settings.get("transactional.id") {
            Some(_) => Some(Transactions::new(waker)?),
            None => None,
        };
        Ok(KafkaSink {
            settings: settings.clone(),
            topics: topics.to_vec(),
            waker: waker.clone(),
            transactions,
            producer,
            reports: Some(reports),
            left: Vec::new(),
            fold: Fold::default(),
        })
    }

    /// Makes a new client in the place of one that can't go on. What the old one had comes back as failed.
    fn renew(&mut self, mut reports: Reports) -> Result<(), Error> {
        self.producer.purge();
        reports.flush(KafkaSink::PURGE_TIMEOUT);
        let left = &mut self.left;
        reports.poll(&mut |tag, code| left.push((tag, code)), &mut |_| {});
        let (producer, reports) = Producer::new(self.settings.conf()?, &self.topics, &self.waker)?;
        self.producer = producer;
        self.reports = Some(reports);
        Ok(())
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
                "a record for \"{topic}\" of {} bytes is larger than the producer's \"message.max.bytes\"",
                record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)
            )),
            Code::UNKNOWN_PARTITION => SendError::Record(anyhow!(
                "topic \"{topic}\" has no partition {}",
                record.partition.unwrap_or(-1)
            )),
            Code::UNKNOWN_TOPIC | Code::UNKNOWN_TOPIC_OR_PART => SendError::Fatal(anyhow!(
                "there is no topic \"{topic}\"; create it, or check the name"
            )),
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
            // There is nothing to settle: a commit's records were before, an abort's come after.
            return Ok(());
        };
        let mut failed = None;
        let fold = &mut self.fold;
        reports.poll(
            &mut |tag, code| settle((tag, delivered(code))),
            &mut |failure| match failure.code {
                Code::FATAL => failed = Some(failure),
                code if fold.tells(code, Instant::now()) => {
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
            if !transactions.take_in(&mut self.reports, patience)? {
                return Ok(Progress::Pending);
            }
            transactions.renew();
            if let Some(reports) = self.reports.take() {
                self.renew(reports).map_err(TransactionError::Fatal)?;
            }
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
            // Here rather than in the call, so that deliveries come meanwhile.
            if let Some(reports) = &mut self.reports
                && !reports.flush(patience)
            {
                return Ok(Progress::Pending);
            }
            let offsets = match offsets {
                [] => None,
                _ => {
                    let list = offset_list(offsets).map_err(TransactionError::Fatal)?;
                    let member = membership::read(membership).map_err(TransactionError::Fatal)?;
                    Some((list, member))
                }
            };
            transactions.prepare(Call::Commit {
                offsets,
                asked: false,
            });
        }
        transactions.drive(&mut self.reports, deadline)
    }

    fn abort(&mut self, patience: Duration) -> Result<Progress, TransactionError> {
        let deadline = Instant::now() + patience;
        let transactions = self
            .transactions
            .as_mut()
            .ok_or_else(without_transactions)?;
        if !transactions.take_in(&mut self.reports, patience)? {
            return Ok(Progress::Pending);
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
        Code::INVALID_TIMESTAMP => Undelivered::Refused(
            cause.context("a timestamp is outside of what the topic takes"),
        ),
        Code::POLICY_VIOLATION => {
            Undelivered::Refused(cause.context("a policy of the cluster refuses a record"))
        }
        _ => Undelivered::Failed(cause),
    })
}
