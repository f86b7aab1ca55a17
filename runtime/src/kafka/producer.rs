//! The sink of a worker: a producer for the pipeline's outputs.

use std::time::{Duration, Instant};

use anyhow::{Error, anyhow};

use super::ffi::{Code, Failure, Message, Producer, Refusal};
use super::fold::Fold;
use super::settings::Settings;
use super::wake::Waker;
use crate::io::{
    Delivery, Membership, Outgoing, Progress, SendError, Sink, TopicPartition, TransactionError,
    Undelivered,
};

/// Produces to a list of topics. What goes wrong with brokers is logged; the client goes on trying by itself.
pub struct KafkaSink {
    producer: Producer,
    topics: Vec<String>,
    fold: Fold,
}

impl KafkaSink {
    /// A producer for topics, which [`Outgoing::output`] names by index. Fails on settings that no client can be made
    /// with, not on brokers that don't answer.
    pub fn new(settings: &Settings, topics: &[String], waker: &Waker) -> Result<KafkaSink, Error> {
        Ok(KafkaSink {
            producer: Producer::new(settings.conf()?, topics, waker)?,
            topics: topics.to_vec(),
            fold: Fold::default(),
        })
    }

    fn refuse(&self, record: &Outgoing<'_>, failure: Failure) -> SendError {
        let topic = &self.topics[record.output];
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
            Code::FATAL => SendError::Fatal(self.producer.fatal_error().unwrap_or(failure).into()),
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

    fn deliveries(&mut self, settle: &mut dyn FnMut(Delivery)) -> Result<(), Error> {
        let mut fatal = None;
        let fold = &mut self.fold;
        self.producer.poll(
            &mut |tag, code| settle((tag, delivered(code))),
            &mut |failure| match failure.code {
                Code::FATAL => fatal = Some(failure),
                code if fold.tells(code, Instant::now()) => {
                    tracing::warn!(target: "kafka", "producer: {failure}");
                }
                _ => {}
            },
        );
        match fatal {
            Some(failure) => Err(self.producer.fatal_error().unwrap_or(failure).into()),
            None => Ok(()),
        }
    }

    fn purge(&mut self) {
        self.producer.purge();
    }

    fn open(&mut self, _: Duration) -> Result<Progress, TransactionError> {
        Err(without_transactions())
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        Err(without_transactions())
    }

    fn commit(
        &mut self,
        _: &[(TopicPartition, u64)],
        _: &Membership,
        _: Duration,
    ) -> Result<Progress, TransactionError> {
        Err(without_transactions())
    }

    fn abort(&mut self, _: Duration) -> Result<Progress, TransactionError> {
        Err(without_transactions())
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
