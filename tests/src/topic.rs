//! Topics of a test's own: what goes in, what comes out, what is committed.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, Timestamp};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use crate::scratch::test_name;
use crate::{MINUTE, broker, eventually, must, raw};

/// A header's name and value; the value may be null.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The partition, or `None` for the one that Java's default partitioner chooses by the key.
    pub partition: Option<i32>,
    /// Milliseconds since 1970-01-01T00:00:00Z, or `None` for the time of sending. librdkafka takes 0 for none.
    pub timestamp: Option<i64>,
    /// The key; null isn't empty.
    pub key: Option<Vec<u8>>,
    /// The value; null isn't empty.
    pub value: Option<Vec<u8>>,
    /// Names are any bytes but NUL.
    pub headers: Vec<Header>,
}

impl Record {
    /// A record of a key and a value, and nothing else.
    pub fn new(key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
        Record {
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            ..Record::default()
        }
    }

    /// The same to one partition.
    pub fn partition(self, partition: i32) -> Record {
        Record {
            partition: Some(partition),
            ..self
        }
    }

    /// The same with a timestamp in milliseconds.
    pub fn timestamp(self, timestamp: i64) -> Record {
        Record {
            timestamp: Some(timestamp),
            ..self
        }
    }

    /// The same with one more header.
    pub fn header(mut self, name: &[u8], value: Option<&[u8]>) -> Record {
        self.headers
            .push((name.to_vec(), value.map(<[u8]>::to_vec)));
        self
    }
}

/// A record as it was consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The partition that it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Milliseconds since 1970-01-01T00:00:00Z, or `None` if it has none.
    pub timestamp: Option<i64>,
    /// The key; null isn't empty.
    pub key: Option<Vec<u8>>,
    /// The value; null isn't empty.
    pub value: Option<Vec<u8>>,
    /// The headers in order.
    pub headers: Vec<Header>,
}

/// A topic that no other test uses. It displays as its name.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its cluster's `bootstrap.servers`.
    bootstrap: String,
    name: String,
    partitions: i32,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Topic {
    /// Makes a topic with a name of its own.
    #[track_caller]
    pub fn create(partitions: i32) -> Topic {
        Topic::create_with(partitions, &[])
    }

    /// Makes a topic with settings, `("max.message.bytes", "4194304")` for example.
    #[track_caller]
    pub fn create_with(partitions: i32, settings: &[(&str, &str)]) -> Topic {
        Topic::create_named(&unique_name(), partitions, settings)
    }

    /// Makes a topic for dead letters, with room for their headers.
    #[track_caller]
    pub fn create_for_dead_letters(partitions: i32) -> Topic {
        Topic::create_with(partitions, &[("max.message.bytes", "2097152")])
    }

    /// Makes a topic whose name matters, to a pattern for example. [`unique_name`] keeps it apart from others.
    ///
    /// [`unique_name`]: Topic::unique_name
    #[track_caller]
    pub fn create_named(name: &str, partitions: i32, settings: &[(&str, &str)]) -> Topic {
        let topic = Topic::existing(name, partitions);
        topic.make(settings);
        topic
    }

    /// Makes a topic with a name of its own on another cluster than the tests' broker, with as many replicas as that
    /// has for a default.
    #[track_caller]
    pub fn create_at(bootstrap: &str, partitions: i32, settings: &[(&str, &str)]) -> Topic {
        let topic = Topic {
            bootstrap: bootstrap.to_string(),
            name: unique_name(),
            partitions,
        };
        topic.make(settings);
        topic
    }

    #[track_caller]
    fn make(&self, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = must(self.client_config().create());
        // -1 is the cluster's default.
        let replicas = TopicReplication::Fixed(-1);
        let mut topic = NewTopic::new(&self.name, self.partitions, replicas);
        topic.config = settings.to_vec();
        let options = AdminOptions::new().operation_timeout(Some(MINUTE));
        for result in block_on(admin.create_topics([&topic], &options)) {
            if let Err((name, code)) = result {
                panic!("can't create the topic {name}: {code}");
            }
        }
        self.wait_led(&admin);
    }

    /// Deletes it, and waits until clients are told that it's gone.
    #[track_caller]
    pub fn delete(&self) {
        let admin: AdminClient<DefaultClientContext> = must(self.client_config().create());
        for result in block_on(admin.delete_topics(&[&self.name], &AdminOptions::new())) {
            if let Err((name, code)) = result {
                panic!("can't delete the topic {name}: {code}");
            }
        }
        eventually(&format!("{self} to be gone"), MINUTE, || {
            let metadata = admin.inner().fetch_metadata(Some(&self.name), TIMEOUT);
            let metadata = metadata.ok()?;
            metadata.topics().first()?.error().map(|_| ())
        });
    }

    /// Makes it anew after [`delete`](Topic::delete), under the same name.
    #[track_caller]
    pub fn create_again(&self) {
        self.make(&[]);
    }

    /// The controller knows it before the broker does, which clients ask.
    #[track_caller]
    fn wait_led(&self, admin: &AdminClient<DefaultClientContext>) {
        eventually(&format!("all partitions of {self}"), MINUTE, || {
            let metadata = admin.inner().fetch_metadata(Some(&self.name), TIMEOUT);
            let metadata = metadata.ok()?;
            let ready = metadata.topics().first()?.partitions();
            let led = ready.iter().filter(|partition| partition.leader() >= 0);
            (led.count() == self.partitions as usize).then_some(())
        });
    }

    /// Gives it more partitions, `partitions` in all.
    #[track_caller]
    pub fn grow(&mut self, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = must(self.client_config().create());
        let grown = NewPartitions::new(&self.name, partitions as usize);
        for result in block_on(admin.create_partitions([&grown], &AdminOptions::new())) {
            if let Err((name, code)) = result {
                panic!("can't give {name} more partitions: {code}");
            }
        }
        self.partitions = partitions;
        self.wait_led(&admin);
    }

    /// Changes one of its settings.
    #[track_caller]
    pub fn alter(&self, key: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> = must(self.client_config().create());
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.name)).set(key, value);
        for result in block_on(admin.alter_configs([&change], &AdminOptions::new())) {
            if let Err((_, code)) = result {
                panic!("can't change {key} of {self}: {code}");
            }
        }
    }

    /// A name that no other test uses.
    pub fn unique_name() -> String {
        unique_name()
    }

    /// A topic that is there already, made by the program under test for example.
    pub fn existing(name: &str, partitions: i32) -> Topic {
        Topic {
            bootstrap: broker().bootstrap().to_string(),
            name: name.to_string(),
            partitions,
        }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of partitions that it was made with.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Produces records in order, and returns once the broker has them all.
    #[track_caller]
    pub fn produce(&self, records: impl IntoIterator<Item = Record>) {
        let context = Deliveries::default();
        let producer: BaseProducer<Deliveries> = must(
            self.client_config()
                .set("enable.idempotence", "true")
                .set("partitioner", "murmur2_random")
                .set("message.max.bytes", "67108864")
                .set("linger.ms", "5")
                .create_with_context(context.clone()),
        );
        let name = raw::c_string(&self.name);
        for record in records {
            while let Err(code) = raw::send(&producer, &name, &record) {
                match code {
                    RDKafkaErrorCode::QueueFull => producer.poll(Duration::from_millis(10)),
                    code => panic!("can't produce to {self}: {code}"),
                }
            }
        }
        must(producer.flush(MINUTE));
        if let Some(error) = context.first_error() {
            panic!("can't produce to {self}: {error}");
        }
    }

    /// All records of the topic that are there now: partition by partition, in the order of their offsets. Records of
    /// transactions that are open or were aborted don't count.
    #[track_caller]
    pub fn consume(&self) -> Vec<Consumed> {
        self.consume_with("read_committed")
    }

    /// As [`consume`](Topic::consume), with the records of all transactions.
    #[track_caller]
    pub fn consume_uncommitted(&self) -> Vec<Consumed> {
        self.consume_with("read_uncommitted")
    }

    /// How many records there are in all partitions, if all were plain ones and none was deleted.
    #[track_caller]
    pub fn len(&self) -> usize {
        self.ends().iter().sum::<i64>() as usize
    }

    /// Whether there are none.
    #[track_caller]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a group has committed: for each partition the offset of the next record to process, or `None`.
    #[track_caller]
    pub fn committed(&self, group: &str) -> Vec<Option<i64>> {
        let consumer: BaseConsumer = must(self.client_config().set("group.id", group).create());
        let what = format!("the committed offsets of {group}");
        let list = eventually(&what, MINUTE, || {
            match consumer.committed_offsets(self.list(Offset::Invalid), TIMEOUT) {
                Err(error) if is_coordinator_on_its_way(&error) => None,
                result => Some(must(result)),
            }
        });
        let offset = |partition| match list.find_partition(&self.name, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        (0..self.partitions).map(offset).collect()
    }

    /// Sets a group without members back to the beginning, as `kafka-consumer-groups --reset-offsets --to-earliest` does.
    #[track_caller]
    pub fn set_back(&self, group: &str) {
        let consumer: BaseConsumer = must(self.client_config().set("group.id", group).create());
        eventually(
            &format!("{group} to be set back"),
            MINUTE,
            || match consumer.commit(&self.list(Offset::Offset(0)), CommitMode::Sync) {
                Err(error) if is_coordinator_on_its_way(&error) => None,
                result => {
                    must(result);
                    Some(())
                }
            },
        );
    }

    /// Deletes a group of the tests' broker, with all that it has committed.
    #[track_caller]
    pub fn forget(group: &str) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker().bootstrap());
        let admin: AdminClient<DefaultClientContext> = must(config.create());
        for result in block_on(admin.delete_groups(&[group], &AdminOptions::new())) {
            if let Err((name, code)) = result {
                panic!("can't delete the group {name}: {code}");
            }
        }
    }

    /// Each partition's end: the offset that its next record gets.
    #[track_caller]
    pub fn ends(&self) -> Vec<i64> {
        let consumer: BaseConsumer = must(self.client_config().create());
        let end = |partition| must(consumer.fetch_watermarks(&self.name, partition, TIMEOUT)).1;
        (0..self.partitions).map(end).collect()
    }

    fn consume_with(&self, isolation: &str) -> Vec<Consumed> {
        let consumer: BaseConsumer = must(
            self.client_config()
                .set("group.id", "weir-tests")
                .set("isolation.level", isolation)
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .create(),
        );
        must(consumer.assign(&self.list(Offset::Beginning)));
        let mut records = Vec::new();
        let mut open = self.partitions;
        while open > 0 {
            match consumer.poll(MINUTE) {
                Some(Ok(message)) => records.push(Consumed {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: match message.timestamp() {
                        Timestamp::NotAvailable => None,
                        Timestamp::CreateTime(time) | Timestamp::LogAppendTime(time) => Some(time),
                    },
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: raw::headers(&message),
                }),
                // The end as this isolation sees it; records behind it are of no concern.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    must(consumer.pause(&self.one(partition)));
                    open -= 1;
                }
                Some(Err(error)) => panic!("can't consume {self}: {error}"),
                None => panic!("can't consume {self}: nothing came for {MINUTE:?}"),
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    fn list(&self, offset: Offset) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            must(list.add_partition_offset(&self.name, partition, offset));
        }
        list
    }

    fn one(&self, partition: i32) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.name, partition);
        list
    }

    fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }
}

/// How long a single request to the broker may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A broker says so until it has made the topic that holds the groups, at the first question about one.
fn is_coordinator_on_its_way(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

fn unique_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let since = must(SystemTime::now().duration_since(UNIX_EPOCH));
    let mut name = test_name();
    // Kafka takes 249 characters.
    name.truncate(150);
    format!(
        "{name}-{}-{}-{}",
        std::process::id(),
        since.as_millis(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

#[track_caller]
fn block_on<T>(future: impl Future<Output = Result<T, KafkaError>>) -> T {
    let runtime = must(tokio::runtime::Builder::new_current_thread().build());
    must(runtime.block_on(future))
}

/// Remembers the first record that the broker didn't take.
#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Option<KafkaError>>>);

impl Deliveries {
    fn first_error(&self) -> Option<KafkaError> {
        self.0.lock().ok()?.clone()
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let (Err((error, _)), Ok(mut first)) = (result, self.0.lock()) {
            first.get_or_insert_with(|| error.clone());
        }
    }
}
