//! The config file: what a person typed (`raw`) becomes what Weir can do ([`Config`]).
//!
//! - `document`: TOML with line numbers, `${…}` filled in, and the list of problems that a person gets at once.
//! - `raw`: the keys that there are, and the type of each (`table` reads them). Nothing here knows what goes together.
//! - `build`: what is possible: `topics`, `transforms`, `names`, `bounds`, and the rules `across` fields and pipelines.
//! - `settings`, `units`: what goes to librdkafka; durations and sizes.
//!
//! `docs/config.md` describes every key.

mod across;
mod bounds;
mod build;
mod document;
mod names;
mod raw;
mod settings;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod topics;
mod transforms;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::guest::Limits;
pub use document::{ConfigError, Problem};
pub use names::check_instance;
pub use settings::{Secret, Setting, Settings, Table};
pub use template::Template;
pub use units::{ByteSize, parse_duration, show_duration};

/// A config that was checked: whatever can be known to fail without a broker or a module has failed before.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it comes from, as it was given.
    pub path: PathBuf,
    /// The admin API, and the health, readiness and metrics endpoints.
    pub admin: Admin,
    /// Where metrics are written to, if anywhere.
    pub influxdb: Option<InfluxDb>,
    /// The folder that Weir keeps compiled code and versions in; made when it is needed.
    pub data: PathBuf,
    /// Whether module files and the config file are taken up when they change.
    pub watch: bool,
    /// What makes stable ids impossible to foresee (`id_key`), if anything does.
    pub id_key: Option<Secret>,
    /// The name of this process among those that share a group (`instance`); `None` for one made of the host's name.
    pub instance: Option<String>,
    /// The pipelines in the order of the file, at least one.
    pub pipelines: Vec<Pipeline>,
}

/// The endpoints of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where they listen; `None` for the first free port from 8080 on, on this machine only.
    pub listen: Option<SocketAddr>,
    /// What who uses the API has to know, if anything.
    pub token: Option<Secret>,
    /// What TLS is spoken with, if it is.
    pub tls: Option<Tls>,
}

/// An InfluxDB that metrics are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfluxDb {
    /// Where it is: `http://` or `https://`, host and port.
    pub url: String,
    /// Where in it.
    pub place: InfluxDbPlace,
    /// How often.
    pub interval: Duration,
    /// What waits at most while it isn't taken, in bytes of line protocol; the newest values always fit.
    pub buffer: ByteSize,
    /// Tags of all points, beside `instance`.
    pub tags: Vec<(String, String)>,
}

/// Where in an InfluxDB, and who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InfluxDbPlace {
    /// A database of version 1.
    Database {
        /// Its name.
        name: String,
        /// User and password, if it asks for them.
        login: Option<(String, Secret)>,
    },
    /// A bucket of version 2 or later.
    Bucket {
        /// Its organization.
        org: String,
        /// Its name.
        bucket: String,
        /// Who writes.
        token: Secret,
    },
}

impl InfluxDbPlace {
    /// What a request says about who sends it.
    pub fn authorization(&self) -> Option<String> {
        use base64::Engine;
        match self {
            InfluxDbPlace::Database { login, .. } => {
                let (user, password) = login.as_ref()?;
                let login = format!("{user}:{}", password.reveal());
                let login = base64::engine::general_purpose::STANDARD.encode(login);
                Some(format!("Basic {login}"))
            }
            InfluxDbPlace::Bucket { token, .. } => Some(format!("Token {}", token.reveal())),
        }
    }
}

/// A certificate and its key, each a PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The file of the certificate, and of those between it and the authority that clients trust.
    pub cert: PathBuf,
    /// The file of the private key.
    pub key: PathBuf,
}

/// From input topics through a chain to an output topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Unique in the file; lower-case letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The line in the file where it starts.
    pub line: usize,
    /// At least one.
    pub inputs: Vec<Input>,
    /// At least one; the first is the default.
    pub outputs: Vec<Output>,
    /// The consumer group, shared with no other pipeline of the file.
    pub group: String,
    /// Where a partition starts that the group has no offset for.
    pub start: Start,
    /// Worker threads; `None` for the smaller of cores and input partitions.
    pub workers: Option<usize>,
    /// Where records go that a transform refused or broke on, if anywhere.
    pub dead_letter: Option<String>,
    /// The chain, in order. May be empty: the pipeline then copies.
    pub transforms: Vec<Transform>,
    /// For the consumer: `[kafka]`, then `[pipelines.NAME.consumer]`, where the later wins.
    pub consumer: Settings,
    /// For the producer: `[kafka]`, then `[pipelines.NAME.producer]`, where the later wins.
    pub producer: Settings,
    /// Bytes that librdkafka holds fetched for one worker.
    pub buffer: ByteSize,
    /// Bytes of input records that one worker has read and not yet settled; one batch always fits.
    pub in_flight: ByteSize,
    /// How much a guest is handed at once.
    pub batch: BatchLimit,
    /// How often offsets are committed: a transaction each time, with exactly-once.
    pub commit_interval: Duration,
    /// Bytes of input records after which a transaction is committed before its time.
    pub transaction_bytes: ByteSize,
    /// Whether each worker keeps its name in the group over a restart (`group.instance.id`), so that its partitions wait
    /// for it.
    pub static_membership: bool,
    /// How long a worker that stops, or gives partitions up, waits for what is in flight.
    pub drain_timeout: Duration,
    /// What is promised about each record.
    pub delivery: Delivery,
}

impl Pipeline {
    /// The group that keeps which of its dead letters were replayed. It never has members.
    pub fn replay_group(&self) -> String {
        format!("{}-replay", self.group)
    }
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The topic of this name.
    Topic(String),
    /// All topics that match this regular expression, which starts with `^`.
    Pattern(String),
}

impl Input {
    /// As Kafka's subscription takes it: a name, or a pattern that starts with `^`.
    pub fn as_str(&self) -> &str {
        match self {
            Input::Topic(text) | Input::Pattern(text) => text,
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where records go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What guests know it by; `default` if the pipeline has one that is not named.
    pub name: String,
    /// The topic.
    pub topic: String,
    /// Which partition of it a record goes to.
    pub partition: Partitioning,
}

/// Where a partition starts that the group has no offset for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its first record.
    Earliest,
    /// After its last record.
    Latest,
    /// At its first record with this timestamp or a later one, in milliseconds since 1970-01-01T00:00:00Z.
    Time(i64),
}

/// Which partition of the output a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// By the key that the record has after the chain, as Kafka's Java producer does it.
    Key,
    /// The number of the partition it came from.
    Same,
}

impl fmt::Display for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Partitioning::Key => "key",
            Partitioning::Same => "same",
        })
    }
}

/// What is promised about each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// None is lost; after a failure some may come out again, with the same ids.
    AtLeastOnce,
    /// Each counts once for whoever reads committed records alone.
    ExactlyOnce,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delivery::AtLeastOnce => "at-least-once",
            Delivery::ExactlyOnce => "exactly-once",
        })
    }
}

/// What becomes of a record that a transform can't process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It goes to the dead letter topic.
    DeadLetter,
    /// It's passed over, and counted.
    Skip,
    /// The pipeline stops before it.
    Stop,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Policy::DeadLetter => "dead-letter",
            Policy::Skip => "skip",
            Policy::Stop => "stop",
        })
    }
}

/// How many of the last records may fail in a transform before the pipeline stops: the transform, rather than the records,
/// is broken then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxRefused {
    /// The share, above 0; at 1 the pipeline never stops for this.
    pub share: f64,
    /// Of so many records, at least 1.
    pub of: usize,
}

impl Default for MaxRefused {
    /// A fifth of a thousand: beyond what bad data does, long before a topic has drained into dead letters.
    fn default() -> MaxRefused {
        MaxRefused {
            share: 0.2,
            of: 1_000,
        }
    }
}

/// How much a guest is handed at once. A batch ends at whichever bound comes first; a single record may be larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimit {
    /// Records, at least 1.
    pub records: usize,
    /// Bytes of keys, values and headers.
    pub bytes: ByteSize,
}

/// One step of a chain.
#[derive(Clone, PartialEq)]
pub struct Transform {
    /// Unique in its pipeline; lower-case letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The line in the file where it starts.
    pub line: usize,
    /// The module's file, found from the folder that `modules` names.
    pub module: PathBuf,
    /// What the guest is set up with. May hold secrets.
    pub config: Template,
    /// Where its ids come from.
    pub ids: Ids,
    /// What its guests may use.
    pub limits: Limits,
    /// What becomes of records that it refuses.
    pub on_refused: Policy,
    /// What becomes of records that it breaks on.
    pub on_broken: Policy,
    /// How often a record that broke its guest all alone is tried again before that.
    pub retries: u32,
    /// When it counts as broken itself.
    pub max_refused: MaxRefused,
    /// How a new version has to prove itself beside the one before, if it has to.
    pub probation: Option<Probation>,
}

/// Bounds for a new version while it's new; past one, the version before comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probation {
    /// For how long.
    pub lasts: Duration,
    /// How much larger the share of records that it refuses may be, from 0 to 1.
    pub max_refused: f64,
    /// How often its guests may break.
    pub max_broken: u64,
    /// How many times as long a record may take it.
    pub max_latency: f64,
}

impl fmt::Debug for Transform {
    /// The config's keys, but none of its values, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = match self.config.typed() {
            serde_json::Value::Object(object) => object.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        f.debug_struct("Transform")
            .field("name", &self.name)
            .field("line", &self.line)
            .field("module", &self.module)
            .field("config", &keys)
            .field("ids", &self.ids)
            .field("limits", &self.limits)
            .field("on_refused", &self.on_refused)
            .field("on_broken", &self.on_broken)
            .field("retries", &self.retries)
            .field("max_refused", &self.max_refused)
            .field("probation", &self.probation)
            .finish()
    }
}

/// Where a transform's ids come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// From the record's place in Kafka: a record that is processed again gets the same id.
    Stable,
    /// From the operating system, fresh each time.
    Random,
}

/// What a config file may refer to, and who knows about Kafka's settings. A value, so that tests bring their own.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The value of an environment variable, if it is set.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Says no, with the reason, to a setting of librdkafka's that Weir must own: the table, the key, the value.
    pub setting: SettingRule<'a>,
}

/// See [`Surroundings::setting`].
pub type SettingRule<'a> = &'a dyn Fn(Table, &str, &str) -> Result<(), String>;

impl Config {
    /// Reads a config file, with the variables of this process. An error lists all problems, each with its line.
    pub fn load(path: &Path, setting: SettingRule<'_>) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::of_file(path, format!("can't read the config file: {error}"))
        })?;
        let variable = |name: &str| std::env::var(name).ok();
        let surroundings = Surroundings {
            variable: &variable,
            setting,
        };
        Config::parse(path, &text, surroundings)
    }

    /// Reads the text of a config file that is (or would be) at `path`, whose folder relative paths start from.
    pub fn parse(
        path: &Path,
        text: &str,
        surroundings: Surroundings<'_>,
    ) -> Result<Config, ConfigError> {
        let mut problems = document::Problems::new(path);
        let config = document::parse(path, text, surroundings.variable, &mut problems)
            .map(|document| raw::read(&document, &mut problems))
            .and_then(|raw| build::build(path, raw, surroundings, &mut problems));
        problems.into_result()?;
        // What is missing without a problem would be a mistake in `build`; the tests go through every way there.
        config.ok_or_else(|| ConfigError::of_file(path, "can't read the config file".to_string()))
    }
}
