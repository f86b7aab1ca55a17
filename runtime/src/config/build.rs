//! What is possible: names, bounds, and what goes together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;

use super::across::{
    Built, Written, check_drain, check_groups, check_loops, check_replay_groups, check_servers,
    check_transaction_names, check_transactions,
};
use super::bounds::{bounded_count, bounded_duration, bounded_size};
use super::document::{Problems, Text};
use super::names::{check_instance, check_name};
use super::raw::{Located, Raw, RawOutput, RawPipeline};
use super::settings::{Secret, Setting, Settings, Table};
use super::topics::{build_dead_letter, build_inputs, build_outputs};
use super::transforms::{Around, build_transforms};
use super::units::ByteSize;
use super::{
    Admin, BatchLimit, Config, Delivery, InfluxDb, InfluxDbPlace, Partitioning, Pipeline, Start,
    Surroundings, Tls,
};
use crate::metrics;

/// The group's default is this and the pipeline's name.
const GROUP_PREFIX: &str = "weir-";
/// What librdkafka holds fetched for a worker: some tenths of a second at a million small records a second.
const BUFFER: ByteSize = ByteSize::mib(8);
/// Sixteen batches: enough to cover a produce request's round trip, little enough to read again after a crash.
const IN_FLIGHT: ByteSize = ByteSize::mib(4);
/// A call costs about 2 us, so that from here on it's lost among a thousand records' work.
const BATCH: BatchLimit = BatchLimit {
    records: 1_000,
    bytes: ByteSize::mib(1),
};
/// How much may have to be processed again after a crash, against a request a second.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// With exactly-once, readers of committed records see an output no sooner: a delay that few notice, against two requests
/// ten times a second.
const TRANSACTION_INTERVAL: Duration = Duration::from_millis(100);
/// A second of a hundred thousand records: what an abort has to process again.
const TRANSACTION_BYTES: ByteSize = ByteSize::mib(16);
/// Longer than a broker's leader election, and as long as most service managers wait before they kill.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// As often as Telegraf, InfluxDB's own agent.
const INFLUXDB_INTERVAL: Duration = Duration::from_secs(10);
/// Hours of a usual config's metrics.
const INFLUXDB_BUFFER: ByteSize = ByteSize::mib(16);
/// A secret that is shorter can be tried out.
const MIN_ID_KEY: usize = 16;
/// Likewise.
const MIN_TOKEN: usize = 16;

/// Where Weir keeps what it may keep, unless told otherwise.
const DATA: &str = "weir-data";
/// Tells it so for configs that say nothing, which come from elsewhere in a container.
const DATA_VARIABLE: &str = "WEIR_DATA";

/// Builds the config; `None` if there was a problem.
pub(super) fn build(
    path: &Path,
    raw: Raw,
    surroundings: Surroundings<'_>,
    problems: &mut Problems,
) -> Option<Config> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let modules = match &raw.modules {
        Some(modules) => folder.join(&modules.value.value),
        None => folder.to_path_buf(),
    };
    let data = match (&raw.data, (surroundings.variable)(DATA_VARIABLE)) {
        (Some(data), _) => folder.join(&data.value.value),
        // What a variable says starts from the process's folder, as for every program.
        (None, Some(data)) if !data.is_empty() => PathBuf::from(data),
        (None, _) => folder.join(DATA),
    };
    let admin = build_admin(&raw, folder, problems);
    let influxdb = build_influxdb(&raw, problems);
    let instance = build_instance(&raw, problems);
    let id_key = build_id_key(&raw, problems);
    let rule = surroundings.setting;
    let kafka = build_settings(Table::Kafka, &raw.kafka, rule, problems);
    let pipelines: Vec<Built> = raw
        .pipelines
        .into_iter()
        .filter_map(|pipeline| build_pipeline(pipeline, &modules, &kafka, surroundings, problems))
        .collect();
    check_servers(&pipelines, problems);
    check_groups(&pipelines, problems);
    check_replay_groups(&pipelines, problems);
    check_transaction_names(&pipelines, problems);
    check_loops(&pipelines, problems);
    Some(Config {
        path: path.to_path_buf(),
        admin: admin?,
        influxdb,
        data,
        watch: raw.watch.is_none_or(|it| it.value),
        id_key,
        instance,
        pipelines: pipelines.into_iter().map(|built| built.pipeline).collect(),
    })
}

fn build_admin(raw: &Raw, folder: &Path, problems: &mut Problems) -> Option<Admin> {
    let token = raw.token.as_ref().map(|token| {
        if token.value.value.len() < MIN_TOKEN {
            problems.at(
                token.line,
                format!(
                    "\"token\" in [admin] is {} bytes long; it needs at least {MIN_TOKEN}, of a random source such as `openssl rand -hex 32`",
                    token.value.value.len()
                ),
            );
        }
        Secret::new(token.value.value.clone())
    });
    let tls = raw.tls.as_ref().and_then(|tls| {
        Some(Tls {
            cert: folder.join(&tls.cert.as_ref()?.value.value),
            key: folder.join(&tls.key.as_ref()?.value.value),
        })
    });
    let listen = match &raw.listen {
        None => None,
        Some(listen) => match listen.value.value.parse() {
            Ok(listen) => Some(listen),
            Err(_) => {
                problems.at(
                    listen.line,
                    format!(
                        "\"listen\" in [admin] must be an address and a port such as \"127.0.0.1:8080\" or \"0.0.0.0:8080\", not \"{}\"",
                        listen.value
                    ),
                );
                return None;
            }
        },
    };
    Some(Admin { listen, token, tls })
}

/// `None` also if something is wrong with it.
fn build_influxdb(raw: &Raw, problems: &mut Problems) -> Option<InfluxDb> {
    let raw = raw.influxdb.as_ref()?;
    let text = |text: &Option<Located<Text>>| text.as_ref().map(|it| it.value.value.clone());
    let url = raw.url.as_ref()?;
    let text_of_url = url.value.value.clone();
    if !text_of_url.starts_with("http://") && !text_of_url.starts_with("https://") {
        problems.at(
            url.line,
            format!(
                "\"url\" in [influxdb] must start with http:// or https://, as \"http://localhost:8086\" does, not \"{}\"",
                url.value
            ),
        );
    }
    if text_of_url.contains(['@', '?', '#']) {
        problems.at(
            url.line,
            "\"url\" in [influxdb] holds no user and no query; use \"username\" and \"password\", or \"token\"",
        );
    }
    for (key, _) in &raw.tags {
        let labels = metrics::ALL.iter().flat_map(|it| it.labels);
        let taken = ["", "time", "instance"].into_iter().chain(labels.copied());
        if taken.into_iter().any(|it| it == key) {
            problems.at(
                raw.line,
                format!("\"tags\" in [influxdb] has \"{key}\", which is Weir's to set; take another name"),
            );
        }
    }
    let place = match (&raw.database, &raw.bucket) {
        (Some(database), None) => {
            let login = match (text(&raw.username), text(&raw.password)) {
                (Some(user), Some(password)) => Some((user, Secret::new(password))),
                (None, None) => None,
                _ => {
                    let what = "\"username\" and \"password\" in [influxdb] go together";
                    problems.at(raw.line, what);
                    None
                }
            };
            let others = [("org", &raw.org), ("token", &raw.token)];
            refuse(&others, "\"database\"", problems);
            InfluxDbPlace::Database {
                name: database.value.value.clone(),
                login,
            }
        }
        (None, Some(bucket)) => {
            let others = [("username", &raw.username), ("password", &raw.password)];
            refuse(&others, "\"bucket\"", problems);
            let (Some(org), Some(token)) = (text(&raw.org), text(&raw.token)) else {
                problems.at(
                    raw.line,
                    "with \"bucket\", [influxdb] needs \"org\" and \"token\", too",
                );
                return None;
            };
            InfluxDbPlace::Bucket {
                org,
                bucket: bucket.value.value.clone(),
                token: Secret::new(token),
            }
        }
        _ => {
            problems.at(
                raw.line,
                "[influxdb] needs \"database\" (InfluxDB 1) or \"bucket\", \"org\" and \"token\" (InfluxDB 2), and not both",
            );
            return None;
        }
    };
    let interval = bounded_duration(
        "interval",
        raw.interval,
        INFLUXDB_INTERVAL,
        Duration::from_millis(100)..=Duration::from_secs(3_600),
        problems,
    );
    let buffer = bounded_size(
        "buffer",
        raw.buffer,
        INFLUXDB_BUFFER,
        ByteSize::kib(64)..=ByteSize::mib(1_024),
        problems,
    );
    let tags = raw.tags.iter();
    Some(InfluxDb {
        url: text_of_url,
        place,
        interval,
        buffer,
        tags: tags
            .map(|(key, text)| (key.clone(), text.value.clone()))
            .collect(),
    })
}

/// Tells of keys that don't go with another one.
fn refuse(keys: &[(&str, &Option<Located<Text>>)], other: &str, problems: &mut Problems) {
    for (key, text) in keys {
        if let Some(text) = text {
            let what = format!("\"{key}\" in [influxdb] doesn't go with {other}");
            problems.at(text.line, what);
        }
    }
}

fn build_instance(raw: &Raw, problems: &mut Problems) -> Option<String> {
    let Located { line, value: name } = raw.instance.as_ref()?;
    if let Err(must_be) = check_instance(&name.value) {
        problems.at(*line, format!("the instance name \"{name}\" {must_be}"));
    }
    Some(name.value.clone())
}

fn build_id_key(raw: &Raw, problems: &mut Problems) -> Option<Secret> {
    let id_key = raw.id_key.as_ref()?;
    let text = &id_key.value.value;
    if text.len() < MIN_ID_KEY {
        problems.at(
            id_key.line,
            format!(
                "\"id_key\" is {} bytes long; it needs at least {MIN_ID_KEY}, of a random source such as `openssl rand -hex 32`",
                text.len()
            ),
        );
    }
    Some(Secret::new(text.clone()))
}

fn build_settings(
    table: Table,
    settings: &[Setting],
    rule: super::SettingRule<'_>,
    problems: &mut Problems,
) -> Settings {
    let mut built = Settings::default();
    for setting in settings {
        if let Err(reason) = rule(table, &setting.key, &setting.value) {
            problems.at(setting.line, reason);
        }
        built.put(setting.clone());
    }
    built
}

fn build_pipeline(
    raw: RawPipeline,
    modules: &Path,
    kafka: &Settings,
    surroundings: Surroundings<'_>,
    problems: &mut Problems,
) -> Option<Built> {
    let line = raw.name.line;
    let name = raw.name.value;
    check_name("pipeline", line, &name, &name, problems);
    let rule = surroundings.setting;
    let consumer = build_settings(Table::Consumer, &raw.consumer, rule, problems);
    let producer = build_settings(Table::Producer, &raw.producer, rule, problems);
    let (consumer, producer) = (kafka.merged(&consumer), kafka.merged(&producer));

    let written = written(&raw.output, &raw.dead_letter);
    let inputs = raw.input.map(|inputs| build_inputs(&inputs, problems));
    let partition = raw.partition.map_or(Partitioning::Key, |it| it.value);
    let outputs = raw
        .output
        .map(|outputs| build_outputs(&outputs, &raw.outputs, partition, problems));
    let dead_letter = raw.dead_letter.map(|topic| {
        let outputs = outputs.as_deref().unwrap_or_default();
        build_dead_letter(&topic, outputs, problems)
    });
    let group = match raw.group {
        Some(group) if group.value.value.trim().is_empty() => {
            problems.at(
                group.line,
                "\"group\" is empty; take it out for the default, weir-NAME",
            );
            None
        }
        Some(group) => Some(group.value.value),
        None => Some(format!("{GROUP_PREFIX}{name}")),
    };
    let start = match &raw.start {
        Some(start) => build_start(start, problems),
        None => Some(Start::Earliest),
    };
    let delivery = raw.delivery.map_or(Delivery::AtLeastOnce, |it| it.value);

    let batch = BatchLimit {
        records: bounded_count(
            "records",
            raw.batch_records,
            BATCH.records,
            1..=100_000,
            problems,
        ),
        bytes: bounded_size(
            "bytes",
            raw.batch_bytes,
            BATCH.bytes,
            ByteSize::kib(1)..=ByteSize::mib(256),
            problems,
        ),
    };
    let workers = raw
        .workers
        .map(|_| bounded_count("workers", raw.workers, 1, 1..=1_024, problems));
    let buffer = bounded_size(
        "buffer",
        raw.buffer,
        BUFFER,
        ByteSize::kib(64)..=ByteSize::mib(1_024),
        problems,
    );
    let in_flight = bounded_size(
        "in_flight",
        raw.in_flight,
        IN_FLIGHT,
        ByteSize::kib(64)..=ByteSize::mib(4_096),
        problems,
    );
    let commit_interval = bounded_duration(
        "commit_interval",
        raw.commit_interval,
        match delivery {
            Delivery::AtLeastOnce => COMMIT_INTERVAL,
            Delivery::ExactlyOnce => TRANSACTION_INTERVAL,
        },
        Duration::from_millis(10)..=Duration::from_secs(3_600),
        problems,
    );
    let transaction_bytes = bounded_size(
        "transaction_bytes",
        raw.transaction_bytes,
        TRANSACTION_BYTES,
        ByteSize::kib(64)..=ByteSize::mib(4_096),
        problems,
    );
    let drain_timeout = bounded_duration(
        "drain_timeout",
        raw.drain_timeout,
        DRAIN_TIMEOUT,
        Duration::from_millis(100)..=Duration::from_secs(3_600),
        problems,
    );
    let drain_line = raw.drain_timeout.map_or(line, |drain| drain.line);
    check_drain(drain_line, drain_timeout, &consumer, problems);
    let around = Around {
        pipeline: &name,
        modules,
        batch: &batch,
        has_dead_letter: dead_letter.is_some(),
    };
    let transforms = build_transforms(raw.transforms, &around, problems);

    let pipeline = Pipeline {
        line,
        inputs: inputs?,
        outputs: outputs?,
        group: group?,
        start: start?,
        workers,
        dead_letter,
        transforms,
        consumer,
        producer,
        buffer,
        in_flight,
        batch,
        commit_interval,
        transaction_bytes,
        static_membership: raw.static_membership.is_some_and(|it| it.value),
        drain_timeout,
        delivery,
        name,
    };
    if delivery == Delivery::ExactlyOnce {
        let commit_line = raw.commit_interval.map_or(line, |commit| commit.line);
        check_transactions(commit_line, &pipeline, problems);
    }
    Some(Built { pipeline, written })
}

/// The topics that are written, and where they stand in the file.
fn written(
    outputs: &Option<Located<Vec<RawOutput>>>,
    dead_letter: &Option<Located<Text>>,
) -> Vec<Written> {
    let outputs = outputs.iter().flat_map(|outputs| &outputs.value);
    let outputs = outputs.map(|output| ("output", &output.topic));
    let dead_letter = dead_letter.iter().map(|topic| ("dead letter", topic));
    let written = |(what, topic): (_, &Located<Text>)| Written {
        what,
        line: topic.line,
        topic: topic.value.clone(),
    };
    outputs.chain(dead_letter).map(written).collect()
}

fn build_start(start: &Located<Text>, problems: &mut Problems) -> Option<Start> {
    match start.value.value.as_str() {
        "earliest" => Some(Start::Earliest),
        "latest" => Some(Start::Latest),
        text => match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Some(Start::Time(time.timestamp_millis())),
            Err(_) => {
                problems.at(
                    start.line,
                    format!(
                        "\"start\" must be \"earliest\", \"latest\" or a time with its offset such as \"2026-01-31T00:00:00Z\", not \"{}\"",
                        start.value
                    ),
                );
                None
            }
        },
    }
}
