//! What librdkafka is told: Weir's defaults, then the user's settings, then what Weir must own.
//!
//! Pure functions, so that a config is judged without a broker.

use std::fmt;
use std::time::Duration;

use anyhow::Error;

use super::ffi::{Conf, Property, properties};

/// Settings for one client, in the order in which they are set. `Debug` shows no secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// The value that a key ends up with, under this name of it.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().rev().find(|(name, _)| name == key)?;
        Some(value)
    }

    /// Keys and values in the order in which they are set; a key may come again. Values may be secret.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether librdkafka takes the values. What depends on several keys, on files or on brokers shows only once a client
    /// is made.
    pub fn check(&self) -> Result<(), Error> {
        self.conf().map(|_| ())
    }

    /// Whether a producer compresses what it sends.
    pub(super) fn compresses(&self) -> bool {
        let of = |names: &[&str]| {
            let mut news = self.0.iter().rev();
            let found = news.find(|(key, _)| names.contains(&key.as_str()));
            found.is_some_and(|(_, value)| !value.eq_ignore_ascii_case("none"))
        };
        of(&["compression.codec", "compression.type"])
    }

    /// How long a transaction may last; librdkafka's default where nothing is said.
    pub(crate) fn transaction_timeout(&self) -> Duration {
        let millis = self.get("transaction.timeout.ms");
        let millis = millis.and_then(|text| text.parse().ok());
        Duration::from_millis(millis.unwrap_or(60_000))
    }

    pub(super) fn conf(&self) -> Result<Conf, Error> {
        Conf::new(&self.0, &is_secret)
    }

    pub(super) fn push(&mut self, key: &str, value: impl ToString) {
        self.0.push((key.to_string(), value.to_string()));
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(key, value)| match is_secret(key) {
            true => (key, "(secret)"),
            false => (key, value.as_str()),
        });
        f.debug_map().entries(shown).finish()
    }
}

/// Whom a table of the config is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `[kafka]`: every client takes of it what it has use for.
    Any,
    /// `[pipelines.NAME.consumer]`.
    Consumer,
    /// `[pipelines.NAME.producer]`.
    Producer,
}

/// A setting that the user can't have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The key as the user wrote it.
    pub key: String,
    /// Why, and what to do instead.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" {}", self.key, self.reason)
    }
}

impl std::error::Error for Refused {}

/// A pipeline's consumer.
#[derive(Clone, Copy)]
pub struct ConsumerOptions<'a> {
    /// The user's keys and values in order; the later wins. A producer's keys among them are left out.
    pub user: &'a [(&'a str, &'a str)],
    /// The consumer group.
    pub group: &'a str,
    /// The `group.instance.id` of a static member, which no other of the group has. Without one, each start makes a new
    /// member.
    pub instance_id: Option<&'a str>,
    /// Bytes that the client holds fetched.
    pub buffer: u64,
}

/// A pipeline's producer.
#[derive(Clone, Copy)]
pub struct ProducerOptions<'a> {
    /// The user's keys and values in order; the later wins. A consumer's keys among them are left out.
    pub user: &'a [(&'a str, &'a str)],
    /// Bytes that the worker has in flight at most, beside one record of any size.
    pub in_flight: u64,
    /// The `transactional.id` of a producer with transactions, which no other has.
    pub transactional_id: Option<&'a str>,
    /// The `max.message.bytes` of the topics that it writes to, where that's known.
    pub max_message_bytes: &'a [Option<u64>],
}

/// Whether the user may set this key to this value in such a table.
pub fn permit(scope: Scope, key: &str, value: &str) -> Result<(), Refused> {
    let refused = |reason: String| {
        Err(Refused {
            key: key.to_string(),
            reason,
        })
    };
    let known: Vec<&Property> = properties()
        .iter()
        .filter(|property| property.name == key)
        .collect();
    let Some(first) = known.first() else {
        return refused(match nearest(key) {
            Some(name) => format!("is no setting of librdkafka; did you mean \"{name}\"?"),
            None => "is no setting of librdkafka".to_string(),
        });
    };
    let name = first.alias_of.as_deref().unwrap_or(key);
    if name.ends_with("_cb") || NOT_TEXT.contains(&name) {
        return refused("is for programs, and can't be set by text; leave it out".to_string());
    }
    if let Some(owned) = OWNED.iter().find(|owned| owned.key == name)
        && !owned.harmless.contains(&value)
    {
        return refused(format!("is Weir's to set: {}", owned.reason));
    }
    let for_consumer = known.iter().any(|property| property.consumer);
    let for_producer = known.iter().any(|property| property.producer);
    match scope {
        Scope::Consumer if !for_consumer => {
            refused("is a producer's setting; move it to the pipeline's producer table".to_string())
        }
        Scope::Producer if !for_producer => {
            refused("is a consumer's setting; move it to the pipeline's consumer table".to_string())
        }
        _ => Ok(()),
    }
}

/// What a pipeline's consumer is made with.
pub fn consumer_settings(options: &ConsumerOptions<'_>) -> Result<Settings, Refused> {
    let user = permitted(options.user, |property| property.consumer)?;
    let value_of = |key| {
        user.iter()
            .rev()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    };
    let new_protocol =
        value_of("group.protocol").is_some_and(|value| value.eq_ignore_ascii_case("consumer"));
    let mut settings = Settings::default();
    settings.push("client.id", "weir");
    if new_protocol {
        if let Some((key, _)) = user.iter().find(|(key, _)| CLASSIC.contains(key)) {
            return Err(Refused {
                key: key.to_string(),
                reason:
                    "is the broker's to decide with \"group.protocol\" = \"consumer\"; leave it out"
                        .to_string(),
            });
        }
    } else {
        settings.push("partition.assignment.strategy", "cooperative-sticky");
        // How long a killed worker's partitions rest. The client's default of 45 s is for members that pause for a
        // garbage collector.
        settings.push("session.timeout.ms", 10_000);
    }
    // The default of 1 s is how long a partition rests once its queue is full, which is most of the time when the
    // queue is small.
    settings.push("fetch.queue.backoff.ms", 5);
    // A client has one fetch under way with each broker. One that's sent while a busy partition's queue is full asks only
    // for the idle ones, and holds the busy one up for as long as it waits: the default of 500 ms made 55,000 records a
    // second of 1,500,000. A record that comes is answered at once all the same.
    settings.push("fetch.wait.max.ms", 20);
    for (key, value) in &user {
        settings.push(key, value);
    }
    settings.push("group.id", options.group);
    if let Some(id) = options.instance_id {
        settings.push("group.instance.id", id);
    }
    settings.push("enable.auto.commit", false);
    settings.push("enable.auto.offset.store", false);
    settings.push("enable.partition.eof", false);
    settings.push("isolation.level", "read_committed");
    // Where to start is looked up on assignment; an offset that is gone must not be passed over in silence.
    settings.push("auto.offset.reset", "error");
    let fetch = (options.buffer / FETCH_SHARE).clamp(FETCH_LEAST, FETCH_MOST);
    let queued = (options.buffer / QUEUE_SHARE / 1024).clamp(1, QUEUED_MOST);
    settings.push("fetch.max.bytes", fetch);
    settings.push(
        "max.partition.fetch.bytes",
        (options.buffer / PARTITION_SHARE).clamp(1, FETCH_MOST),
    );
    settings.push("queued.max.messages.kbytes", queued);
    Ok(settings)
}

/// What a pipeline's producer is made with.
pub fn producer_settings(options: &ProducerOptions<'_>) -> Result<Settings, Refused> {
    let user = permitted(options.user, |property| property.producer)?;
    let mut settings = Settings::default();
    settings.push("client.id", "weir");
    // Under load a request is full long before; without load this is the delay that a record sees.
    settings.push("linger.ms", 5);
    for (key, value) in &user {
        settings.push(key, value);
    }
    settings.push("enable.idempotence", true);
    settings.push("acks", "all");
    bound(&mut settings, options.max_message_bytes);
    match options.transactional_id {
        Some(id) => transactional(&mut settings, id)?,
        None => settings.push("message.timeout.ms", 0),
    }
    settings.push("partitioner", "murmur2_random");
    // The worker's window is the bound. The client's own is wider, so that it isn't met: output may be larger than
    // input, and a single record of any size has to fit.
    settings.push("queue.buffering.max.messages", 0);
    let kbytes = (options.in_flight / 1024)
        .saturating_mul(2)
        .saturating_add(SLACK_KBYTES);
    settings.push("queue.buffering.max.kbytes", kbytes.min(i32::MAX as u64));
    Ok(settings)
}

/// Bounds a producer's batches by what topics take. A broker refuses a batch as a whole, so that no record may join one
/// that the topic doesn't take: `batch.size` is at most the smallest topic's. A record that is larger travels alone, and
/// may be as large as the largest topic takes. What the user has set below stays.
fn bound(settings: &mut Settings, topics: &[Option<u64>]) {
    let known = || topics.iter().flatten().copied();
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(smallest) = known().min() {
        let set = settings.get("batch.size").map_or(Some(BATCH_SIZE), number);
        // What isn't a number is librdkafka's to refuse.
        if let Some(size) = set.filter(|&it| it > smallest) {
            settings.push("batch.size", size.min(smallest).max(1));
        }
    }
    // A compressed record may be any size before.
    if settings.compresses() || topics.contains(&None) {
        return;
    }
    if let Some(largest) = known().max() {
        let largest = largest.clamp(MESSAGE_LEAST, MESSAGE_MOST);
        match settings.get("message.max.bytes").map(number) {
            Some(Some(set)) if set > largest => settings.push("message.max.bytes", largest),
            Some(_) => {}
            None => settings.push("message.max.bytes", largest),
        }
    }
}

/// What a producer with transactions has beside.
fn transactional(settings: &mut Settings, id: &str) -> Result<(), Refused> {
    let timeout = settings.get("transaction.timeout.ms");
    let timeout = timeout.map_or(Ok(TRANSACTION_TIMEOUT), |text| {
        let least = text.parse().ok().filter(|&it| it >= LEAST_TIMEOUT);
        least.ok_or_else(|| Refused {
            key: "transaction.timeout.ms".to_string(),
            reason: format!(
                "is a number of milliseconds from {LEAST_TIMEOUT} up, and no more than the brokers' \"transaction.max.timeout.ms\""
            ),
        })
    })?;
    // What librdkafka demands when it makes the client.
    for (key, spare) in [("socket.timeout.ms", 100.0), ("linger.ms", -1.0)] {
        let set: Option<f64> = settings.get(key).and_then(|text| text.parse().ok());
        if set.is_some_and(|it| it > f64::from(timeout) + spare) {
            return Err(Refused {
                key: key.to_string(),
                reason: format!(
                    "has to be below \"transaction.timeout.ms\", which is {timeout}: lower it in the pipeline's producer table, or raise the other"
                ),
            });
        }
    }
    settings.push("transactional.id", id);
    settings.push("transaction.timeout.ms", timeout);
    // No record may outlive its transaction.
    settings.push("message.timeout.ms", timeout);
    Ok(())
}

/// What a client is made with that only asks about the cluster.
pub fn admin_settings(user: &[(&str, &str)]) -> Result<Settings, Refused> {
    let mut settings = Settings::default();
    settings.push("client.id", "weir");
    for (key, value) in permitted(user, |property| property.producer && property.consumer)? {
        settings.push(key, value);
    }
    Ok(settings)
}

/// What a client is made with that asks for a group's offsets, or changes them, without being a member.
pub fn group_settings(user: &[(&str, &str)], group: &str) -> Result<Settings, Refused> {
    let mut settings = admin_settings(user)?;
    settings.push("group.id", group);
    settings.push("enable.auto.commit", false);
    settings.push("isolation.level", "read_committed");
    Ok(settings)
}

/// Whether a value under this key is not for showing: librdkafka's passwords, keys and tokens.
pub fn is_secret(key: &str) -> bool {
    [
        "password",
        "passphrase",
        "secret",
        "token",
        "ssl.key",
        "key.pem",
        "jaas",
        "sasl.oauthbearer.config",
    ]
    .iter()
    .any(|part| key.contains(part))
}

/// The user's settings that a client has use for; all of them must be permitted.
fn permitted<'a>(
    user: &[(&'a str, &'a str)],
    takes: impl Fn(&Property) -> bool,
) -> Result<Vec<(&'a str, &'a str)>, Refused> {
    let mut taken = Vec::new();
    for &(key, value) in user {
        permit(Scope::Any, key, value)?;
        if properties()
            .iter()
            .any(|property| property.name == key && takes(property))
        {
            taken.push((key, value));
        }
    }
    Ok(taken)
}

/// The setting that a misspelt key may have been meant for.
fn nearest(key: &str) -> Option<&'static str> {
    /// Below this, a suggestion is more of a riddle than a help.
    const LIKENESS: f64 = 0.85;
    properties()
        .iter()
        .map(|property| {
            (
                strsim::jaro_winkler(key, &property.name),
                property.name.as_str(),
            )
        })
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

/// A setting that is Weir's, by librdkafka's first name for it.
struct Owned {
    key: &'static str,
    /// Values that say what Weir does anyway.
    harmless: &'static [&'static str],
    reason: &'static str,
}

const fn owned(
    key: &'static str,
    harmless: &'static [&'static str],
    reason: &'static str,
) -> Owned {
    Owned {
        key,
        harmless,
        reason,
    }
}

const COMMITS: &str = "an offset is committed once every record up to it is dealt with; use \"commit_interval\" in the pipeline";
const BUFFER: &str = "use \"buffer\" in the pipeline, which bounds what is held fetched in all";
const IN_FLIGHT: &str = "use \"in_flight\" in the pipeline, which bounds what is on its way in all";

const OWNED: &[Owned] = &[
    owned("group.id", &[], "use \"group\" in the pipeline"),
    owned("auto.offset.reset", &[], "use \"start\" in the pipeline"),
    owned("enable.auto.commit", &["false"], COMMITS),
    owned("auto.commit.enable", &["false"], COMMITS),
    owned("auto.commit.interval.ms", &[], COMMITS),
    owned("enable.auto.offset.store", &["false"], COMMITS),
    owned("offset.store.method", &[], COMMITS),
    owned("offset.store.path", &[], COMMITS),
    owned("offset.store.sync.interval.ms", &[], COMMITS),
    owned(
        "isolation.level",
        &["read_committed"],
        "records of transactions that failed must not be processed; leave it out",
    ),
    owned(
        "enable.partition.eof",
        &["false"],
        "the end of a partition is no record; leave it out",
    ),
    owned("queued.max.messages.kbytes", &[], BUFFER),
    owned("fetch.max.bytes", &[], BUFFER),
    owned("fetch.message.max.bytes", &[], BUFFER),
    owned(
        "group.instance.id",
        &[],
        "it has to be each worker's own; use \"static_membership\" in the pipeline",
    ),
    owned(
        "transactional.id",
        &[],
        "it has to be each worker's own; leave it out",
    ),
    owned(
        "enable.idempotence",
        &["true"],
        "without it a resent record may come twice or out of order; leave it out",
    ),
    owned(
        "request.required.acks",
        &["all", "-1"],
        "an offset is committed only once all replicas in sync have the output; leave it out",
    ),
    owned(
        "message.timeout.ms",
        &["0"],
        "a record is never given up while the worker runs; leave it out",
    ),
    owned(
        "partitioner",
        &["murmur2_random"],
        "use \"partition\" in the pipeline",
    ),
    owned("queue.buffering.max.messages", &[], IN_FLIGHT),
    owned("queue.buffering.max.kbytes", &[], IN_FLIGHT),
    owned(
        "queuing.strategy",
        &["fifo"],
        "records go out in order; leave it out",
    ),
    owned(
        "delivery.report.only.error",
        &["false"],
        "every delivery counts; leave it out",
    ),
    owned(
        "enabled_events",
        &[],
        "it decides what Weir hears; leave it out",
    ),
    owned("log.queue", &["false"], "the log is Weir's; leave it out"),
    owned(
        "statistics.interval.ms",
        &["0"],
        "Weir asks for them itself, see /metrics; leave it out",
    ),
];

/// Settings that hold pointers, beside the callbacks.
const NOT_TEXT: &[&str] = &["opaque", "default_topic_conf", "interceptors"];

/// librdkafka's default of `batch.size`.
const BATCH_SIZE: u64 = 1_000_000;
/// What librdkafka takes for `message.max.bytes`.
const MESSAGE_LEAST: u64 = 1_000;
const MESSAGE_MOST: u64 = 1_000_000_000;

/// Milliseconds. A killed worker's transaction blocks the next owner of its partitions, and all readers, for that long;
/// librdkafka's default of 60,000 is for programs that do more in one.
const TRANSACTION_TIMEOUT: u32 = 15_000;
/// The least that librdkafka takes.
const LEAST_TIMEOUT: u32 = 1_000;

/// Settings that make a client of `group.protocol=consumer` fail.
const CLASSIC: &[&str] = &[
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "group.protocol.type",
];

/// A fetch may bring an eighth of the buffer, and of one partition a sixteenth; each partition's queue stops fetching at
/// a sixteenth. librdkafka counts the values' bytes alone, and keeps about 450 more for each record: with values of 100
/// bytes, three or four busy partitions fill the buffer. Larger shares were measured to save no CPU.
const FETCH_SHARE: u64 = 8;
const PARTITION_SHARE: u64 = 16;
const QUEUE_SHARE: u64 = 16;
/// librdkafka wants `fetch.max.bytes` no smaller than `message.max.bytes`, whose default this is, and raises it if the
/// user raises the other.
const FETCH_LEAST: u64 = 1_000_000;
/// librdkafka's default of `fetch.max.bytes`, which its bound for any answer leaves room for.
const FETCH_MOST: u64 = 52_428_800;
/// The largest that librdkafka takes for `queued.max.messages.kbytes`.
const QUEUED_MOST: u64 = 2_097_151;
/// Room for one record of librdkafka's largest `message.max.bytes`, 1,000,000,000.
const SLACK_KBYTES: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(user: &[(&str, &str)]) -> Result<Settings, Refused> {
        consumer_settings(&ConsumerOptions {
            user,
            group: "weir-stocks",
            instance_id: Some("weir-here-stocks-1"),
            buffer: 16 << 20,
        })
    }

    fn producer(user: &[(&str, &str)]) -> Result<Settings, Refused> {
        producer_settings(&ProducerOptions {
            user,
            in_flight: 8 << 20,
            transactional_id: None,
            max_message_bytes: &[],
        })
    }

    fn transactional(user: &[(&str, &str)]) -> Result<Settings, Refused> {
        producer_settings(&ProducerOptions {
            user,
            in_flight: 8 << 20,
            transactional_id: Some("weir-group-stocks-here-0"),
            max_message_bytes: &[],
        })
    }

    #[test]
    fn librdkafka_takes_what_weir_sets() {
        for buffer in [1, 1 << 20, 16 << 20, 1 << 40] {
            let options = ConsumerOptions {
                user: &[],
                group: "weir-stocks",
                instance_id: None,
                buffer,
            };
            consumer_settings(&options).unwrap().check().unwrap();
        }
        for in_flight in [1, 8 << 20, u64::MAX] {
            let options = ProducerOptions {
                user: &[],
                in_flight,
                transactional_id: None,
                max_message_bytes: &[],
            };
            producer_settings(&options).unwrap().check().unwrap();
        }
        admin_settings(&[]).unwrap().check().unwrap();
        group_settings(&[], "weir-stocks").unwrap().check().unwrap();
    }

    #[test]
    fn what_weir_owns_is_a_setting_of_librdkafka_or_hidden_there() {
        for owned in OWNED {
            let known = properties()
                .iter()
                .find(|property| property.name == owned.key);
            let hidden = ["enabled_events", "offset.store.method", "queuing.strategy"];
            assert!(
                known.is_some() || hidden.contains(&owned.key),
                "{}",
                owned.key
            );
            assert!(
                known.is_none_or(|property| property.alias_of.is_none()),
                "{}",
                owned.key
            );
        }
    }

    #[test]
    fn what_weir_owns_is_refused_under_every_name() {
        for (key, value, reason) in [
            ("group.id", "other", "use \"group\""),
            ("auto.offset.reset", "latest", "use \"start\""),
            ("enable.auto.commit", "true", "commit_interval"),
            (
                "isolation.level",
                "read_uncommitted",
                "transactions that failed",
            ),
            ("max.partition.fetch.bytes", "1", "use \"buffer\""),
            ("fetch.message.max.bytes", "1", "use \"buffer\""),
            ("group.instance.id", "one", "use \"static_membership\""),
            ("transactional.id", "one", "each worker's own"),
            ("enable.idempotence", "false", "twice or out of order"),
            ("acks", "1", "all replicas"),
            ("request.required.acks", "0", "all replicas"),
            ("delivery.timeout.ms", "1000", "never given up"),
            ("partitioner", "random", "use \"partition\""),
            ("queue.buffering.max.kbytes", "1", "use \"in_flight\""),
            ("rebalance_cb", "1", "can't be set by text"),
        ] {
            let refused = permit(Scope::Any, key, value).unwrap_err();
            assert!(refused.to_string().contains(reason), "{refused}");
            let user = [(key, value)];
            assert!(
                consumer(&user).is_err() && producer(&user).is_err(),
                "{key}"
            );
        }
        permit(Scope::Any, "acks", "all").unwrap();
        permit(Scope::Producer, "enable.idempotence", "true").unwrap();
    }

    #[test]
    fn a_misspelt_key_gets_the_nearest() {
        let refused = permit(Scope::Any, "bootstrap.server", "localhost").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "\"bootstrap.server\" is no setting of librdkafka; did you mean \"bootstrap.servers\"?"
        );
        let refused = permit(Scope::Any, "zzz", "").unwrap_err();
        assert_eq!(refused.to_string(), "\"zzz\" is no setting of librdkafka");
    }

    #[test]
    fn each_client_gets_what_it_has_use_for() {
        let user = [
            ("linger.ms", "7"),
            ("fetch.wait.max.ms", "9"),
            ("socket.keepalive.enable", "true"),
        ];
        let (consumer, producer) = (consumer(&user).unwrap(), producer(&user).unwrap());
        assert_eq!(
            (consumer.get("linger.ms"), producer.get("linger.ms")),
            (None, Some("7"))
        );
        assert_eq!(
            (
                consumer.get("fetch.wait.max.ms"),
                producer.get("fetch.wait.max.ms")
            ),
            (Some("9"), None)
        );
        assert_eq!(consumer.get("socket.keepalive.enable"), Some("true"));
        let refused = permit(Scope::Consumer, "linger.ms", "7").unwrap_err();
        assert!(refused.reason.contains("producer's setting"), "{refused}");
        let refused = permit(Scope::Producer, "fetch.wait.max.ms", "9").unwrap_err();
        assert!(refused.reason.contains("consumer's setting"), "{refused}");
    }

    #[test]
    fn the_user_goes_before_defaults_and_the_later_before_the_earlier() {
        let user = [
            ("client.id", "one"),
            ("fetch.queue.backoff.ms", "50"),
            ("client.id", "two"),
        ];
        let settings = consumer(&user).unwrap();
        assert_eq!(settings.get("client.id"), Some("two"));
        assert_eq!(settings.get("fetch.queue.backoff.ms"), Some("50"));
        assert_eq!(
            settings.get("partition.assignment.strategy"),
            Some("cooperative-sticky")
        );
        assert_eq!(settings.get("group.id"), Some("weir-stocks"));
    }

    #[test]
    fn the_new_group_protocol_leaves_the_old_ones_settings_out() {
        let settings = consumer(&[("group.protocol", "consumer")]).unwrap();
        assert_eq!(settings.get("partition.assignment.strategy"), None);
        let refused = consumer(&[
            ("group.protocol", "consumer"),
            ("session.timeout.ms", "10000"),
        ])
        .unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("\"session.timeout.ms\" is the broker's to decide"),
            "{refused}"
        );
        consumer(&[("session.timeout.ms", "10000")]).unwrap();
    }

    #[test]
    fn a_transaction_bounds_what_its_records_may_take() {
        let settings = transactional(&[]).unwrap();
        assert_eq!(
            settings.get("transactional.id"),
            Some("weir-group-stocks-here-0")
        );
        assert_eq!(settings.get("transaction.timeout.ms"), Some("15000"));
        assert_eq!(settings.get("message.timeout.ms"), Some("15000"));
        let settings = transactional(&[
            ("transaction.timeout.ms", "90000"),
            ("message.timeout.ms", "0"),
            ("socket.timeout.ms", "60000"),
        ])
        .unwrap();
        assert_eq!(settings.get("transaction.timeout.ms"), Some("90000"));
        assert_eq!(settings.get("message.timeout.ms"), Some("90000"));
        for (key, value, reason) in [
            ("transaction.timeout.ms", "soon", "a number of milliseconds"),
            ("transaction.timeout.ms", "999", "from 1000 up"),
            ("socket.timeout.ms", "60000", "which is 15000"),
            ("linger.ms", "15000", "which is 15000"),
        ] {
            let refused = transactional(&[(key, value)]).unwrap_err();
            assert!(refused.to_string().contains(reason), "{refused}");
            assert_eq!(refused.key, key);
        }
        // They mean nothing to a producer without transactions.
        let settings = producer(&[("socket.timeout.ms", "60000")]).unwrap();
        assert_eq!(settings.get("message.timeout.ms"), Some("0"));
    }

    #[test]
    fn batches_fit_the_smallest_topic_and_records_the_largest() {
        let sizes = |user: &[(&str, &str)], topics: &[Option<u64>]| {
            let settings = producer_settings(&ProducerOptions {
                user,
                in_flight: 8 << 20,
                transactional_id: None,
                max_message_bytes: topics,
            })
            .unwrap();
            settings.check().unwrap();
            let get = |key| settings.get(key).map(|it| it.parse::<u64>().unwrap());
            (get("batch.size"), get("message.max.bytes"))
        };
        let topics = [Some(50_000), Some(2_000_000)];
        assert_eq!(sizes(&[], &topics), (Some(50_000), Some(2_000_000)));
        assert_eq!(sizes(&[], &[]), (None, None));
        assert_eq!(sizes(&[], &[None]), (None, None));
        // One that's unknown may be larger.
        assert_eq!(sizes(&[], &[Some(50_000), None]), (Some(50_000), None));
        // What a user has set holds if it's smaller.
        let user = [("batch.size", "20000"), ("message.max.bytes", "60000")];
        assert_eq!(sizes(&user, &topics), (Some(20_000), Some(60_000)));
        let user = [("batch.size", "70000"), ("message.max.bytes", "9000000")];
        assert_eq!(sizes(&user, &topics), (Some(50_000), Some(2_000_000)));
        // How large a record is once it's compressed is nobody's to say beforehand.
        let user = [
            ("compression.type", "zstd"),
            ("message.max.bytes", "9000000"),
        ];
        assert_eq!(sizes(&user, &topics), (Some(50_000), Some(9_000_000)));
        // The bounds of librdkafka's own.
        assert_eq!(sizes(&[], &[Some(10)]), (Some(10), Some(1_000)));
        assert_eq!(sizes(&[], &[Some(3 << 30)]), (None, Some(1_000_000_000)));
    }

    #[test]
    fn a_static_member_has_the_id_that_it_was_given() {
        let settings = consumer(&[]).unwrap();
        assert_eq!(
            settings.get("group.instance.id"),
            Some("weir-here-stocks-1")
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = consumer(&[
            ("sasl.password", "hunter2"),
            ("ssl.key.password", "hunter2"),
            (
                "sasl.oauthbearer.assertion.private.key.passphrase",
                "hunter2",
            ),
        ])
        .unwrap();
        let shown = format!("{settings:?}");
        assert!(
            shown.contains("sasl.password") && !shown.contains("hunter2"),
            "{shown}"
        );
        let mut settings = producer(&[]).unwrap();
        settings.push("sasl.oauthbearer.token.endpoint.url", "hunter2\0");
        let error = format!("{:#}", settings.check().unwrap_err());
        assert!(
            error.contains("token.endpoint.url") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn a_value_that_librdkafka_refuses_names_its_key() {
        let error = format!(
            "{:#}",
            consumer(&[("socket.timeout.ms", "soon")])
                .unwrap()
                .check()
                .unwrap_err()
        );
        assert!(error.contains("socket.timeout.ms"), "{error}");
    }
}
