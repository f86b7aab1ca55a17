//! What is asked of the brokers: topics to make, offsets to look at, whole topics to read.

use std::time::Duration;

use crate::config::INPUT;
use anyhow::{Context, Error, anyhow, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use xtask::wait::eventually;

/// How long a question may take; brokers may be on their way up.
const PATIENCE: Duration = Duration::from_secs(10);

/// For what has to come true once nothing is broken any more.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Settings of every client here.
pub fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        // A broker that comes back is wanted soon.
        .set("reconnect.backoff.max.ms", "500")
        .set("log_level", "2");
    config
}

/// What the input topic takes at once; the others take more, so that dead letters have room for their headers.
pub const INPUT_MESSAGE_BYTES: usize = 500_000;

/// Makes topics, each with so many partitions and replicas, and waits until every partition has a leader.
pub fn create_topics(
    bootstrap: &str,
    names: &[&str],
    partitions: usize,
    replicas: usize,
) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let replicas = replicas as i32;
    let sizes = [1, 2].map(|times| (times * INPUT_MESSAGE_BYTES).to_string());
    let topics: Vec<NewTopic> = names
        .iter()
        .map(|&name| {
            let size = &sizes[usize::from(name != INPUT)];
            let replicas = TopicReplication::Fixed(replicas);
            NewTopic::new(name, partitions as i32, replicas).set("max.message.bytes", size)
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    for result in runtime.block_on(admin.create_topics(&topics, &options))? {
        result.map_err(|(name, code)| anyhow!("can't create the topic {name}: {code}"))?;
    }
    for name in names {
        eventually(&format!("all partitions of {name}"), DEADLINE, || {
            let metadata = admin.inner().fetch_metadata(Some(name), PATIENCE);
            let led = metadata.ok().and_then(|it| {
                let led = it.topics().first()?.partitions().iter();
                Some(led.filter(|it| it.leader() >= 0).count())
            });
            Ok((led == Some(partitions)).then_some(()))
        })?;
    }
    Ok(())
}

/// Waits until every replica of every partition is in sync: then no partition is without a leader when one broker, or
/// all, are gone, while others have theirs.
pub fn wait_in_sync(bootstrap: &str) -> Result<(), Error> {
    let consumer: BaseConsumer = client(bootstrap).create()?;
    eventually("all replicas in sync", DEADLINE, || {
        let Ok(metadata) = consumer.fetch_metadata(None, PATIENCE) else {
            return Ok(None);
        };
        let mut partitions = metadata.topics().iter().flat_map(|it| it.partitions());
        let in_sync = partitions.all(|it| {
            it.error().is_none() && it.leader() >= 0 && it.isr().len() == it.replicas().len()
        });
        Ok(in_sync.then_some(()))
    })
}

/// Looks at where a group is in a topic.
pub struct Group {
    consumer: BaseConsumer,
    topic: String,
    partitions: usize,
}

impl Group {
    /// A look at `group`, which it doesn't join.
    pub fn new(
        bootstrap: &str,
        group: &str,
        topic: &str,
        partitions: usize,
    ) -> Result<Group, Error> {
        Ok(Group {
            consumer: client(bootstrap).set("group.id", group).create()?,
            topic: topic.to_string(),
            partitions,
        })
    }

    /// The offsets of the next records to process, 0 where there's none; `None` while the brokers don't answer.
    pub fn committed(&self) -> Option<Vec<i64>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions as i32 - 1);
        // Soon enough to ask again: a coordinator may move.
        let patience = Duration::from_secs(2);
        let list = self.consumer.committed_offsets(list, patience).ok()?;
        let mut offsets = vec![0; self.partitions];
        for element in list.elements() {
            element.error().ok()?;
            if let Offset::Offset(offset) = element.offset() {
                *offsets.get_mut(element.partition() as usize)? = offset;
            }
        }
        Some(offsets)
    }
}

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All.
    Uncommitted,
    /// Those of transactions that were committed, and those of none.
    Committed,
}

impl Isolation {
    /// As clients know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::Uncommitted => "read_uncommitted",
            Isolation::Committed => "read_committed",
        }
    }
}

/// Waits until no transaction is open in a topic: until a reader of committed records sees the end of each partition.
pub fn wait_transactions_end(bootstrap: &str, topic: &str, partitions: usize) -> Result<(), Error> {
    let end = |isolation: Isolation| -> Result<BaseConsumer, Error> {
        let mut config = client(bootstrap);
        Ok(config.set("isolation.level", isolation.as_str()).create()?)
    };
    let (stable, all) = (end(Isolation::Committed)?, end(Isolation::Uncommitted)?);
    for partition in 0..partitions as i32 {
        let what = format!("the end of every transaction in {topic}/{partition}");
        eventually(&what, DEADLINE, || {
            let of = |consumer: &BaseConsumer| {
                let marks = consumer.fetch_watermarks(topic, partition, PATIENCE);
                marks.ok().map(|(_, end)| end)
            };
            Ok(match (of(&stable), of(&all)) {
                (Some(stable), Some(all)) if stable == all => Some(()),
                _ => None,
            })
        })?;
    }
    Ok(())
}

/// Hands over all records of a topic that are there now: each partition's in the order of their offsets.
pub fn read(
    bootstrap: &str,
    topic: &str,
    partitions: usize,
    isolation: Isolation,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let consumer: BaseConsumer = client(bootstrap)
        .set("group.id", "weir-chaos")
        .set("isolation.level", isolation.as_str())
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions as i32 {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut open = partitions;
    while open > 0 {
        match consumer.poll(DEADLINE) {
            Some(Ok(message)) => each(&message)?,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                let mut one = TopicPartitionList::new();
                one.add_partition(topic, partition);
                consumer.pause(&one)?;
                open -= 1;
            }
            // A connection to a broker that was killed ends now and then; the client goes on by itself.
            Some(Err(error)) => ensure!(
                matches!(
                    error.rdkafka_error_code(),
                    Some(
                        rdkafka::types::RDKafkaErrorCode::BrokerTransportFailure
                            | rdkafka::types::RDKafkaErrorCode::AllBrokersDown
                    )
                ),
                "can't read {topic}: {error}"
            ),
            None => bail!("can't read {topic}: nothing came for {DEADLINE:?}"),
        }
    }
    Ok(())
}

/// Where each partition of a topic ends.
pub fn ends(bootstrap: &str, topic: &str, partitions: usize) -> Result<Vec<i64>, Error> {
    let consumer: BaseConsumer = client(bootstrap).create()?;
    (0..partitions as i32)
        .map(|partition| {
            let marks = consumer.fetch_watermarks(topic, partition, PATIENCE);
            Ok(marks.with_context(|| format!("where does {topic} end"))?.1)
        })
        .collect()
}
