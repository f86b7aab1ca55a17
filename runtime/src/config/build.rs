//! What is possible: names, bounds, and what goes together.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;

use super::across::{check_drain, check_groups, check_loops, check_servers};
use super::bounds::{bounded_count, bounded_duration, bounded_size};
use super::document::{Problems, Text};
use super::names::{check_name, check_pattern, check_topic};
use super::raw::{Located, Raw, RawPipeline, RawTransform};
use super::settings::{Secret, Setting, Settings, Table};
use super::units::ByteSize;
use super::{
    Admin, BatchLimit, Config, Delivery, Ids, Input, Limits, MaxRefused, Output, Partitioning,
    Pipeline, Policy, Start, Surroundings, Transform,
};

/// Where the endpoints listen if nothing else is said: on this machine only.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
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
/// A second of a hundred thousand records: what an abort has to process again.
const TRANSACTION_BYTES: ByteSize = ByteSize::mib(16);
/// Longer than a broker's leader election, and as long as most service managers wait before they kill.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// A secret that is shorter can be tried out.
const MIN_ID_KEY: usize = 16;

/// Where Weir keeps what it may keep, unless told otherwise.
const DATA: &str = "weir-data";

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
    let data = folder.join(raw.data.as_ref().map_or(DATA, |data| &data.value.value));
    let admin = build_admin(&raw, problems);
    let id_key = build_id_key(&raw, problems);
    let rule = surroundings.setting;
    let kafka = build_settings(Table::Kafka, &raw.kafka, rule, problems);
    let pipelines: Vec<Located<Pipeline>> = raw
        .pipelines
        .into_iter()
        .filter_map(|pipeline| build_pipeline(pipeline, &modules, &kafka, surroundings, problems))
        .collect();
    check_servers(&pipelines, problems);
    check_groups(&pipelines, problems);
    check_loops(&pipelines, problems);
    Some(Config {
        path: path.to_path_buf(),
        admin: admin?,
        data,
        id_key,
        instance: None,
        pipelines: pipelines
            .into_iter()
            .map(|pipeline| pipeline.value)
            .collect(),
    })
}

fn build_admin(raw: &Raw, problems: &mut Problems) -> Option<Admin> {
    let Some(listen) = &raw.listen else {
        return Some(Admin { listen: LISTEN });
    };
    match listen.value.value.parse() {
        Ok(listen) => Some(Admin { listen }),
        Err(_) => {
            problems.at(
                listen.line,
                format!(
                    "\"listen\" in [admin] must be an address and a port such as \"{LISTEN}\" or \"0.0.0.0:8080\", not \"{}\"",
                    listen.value
                ),
            );
            None
        }
    }
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

/// The line is that of `output`.
fn build_pipeline(
    raw: RawPipeline,
    modules: &Path,
    kafka: &Settings,
    surroundings: Surroundings<'_>,
    problems: &mut Problems,
) -> Option<Located<Pipeline>> {
    let line = raw.name.line;
    let name = raw.name.value;
    check_name("pipeline", line, &name, &name, problems);
    let consumer = build_settings(
        Table::Consumer,
        &raw.consumer,
        surroundings.setting,
        problems,
    );
    let producer = build_settings(
        Table::Producer,
        &raw.producer,
        surroundings.setting,
        problems,
    );
    let consumer = kafka.merged(&consumer);
    let inputs = raw.input.map(|inputs| build_inputs(&inputs, problems));
    let output = raw.output.as_ref().map(|output| {
        check_topic("output", output.line, &output.value, problems);
        Located {
            line: output.line,
            value: output.value.value.clone(),
        }
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
        COMMIT_INTERVAL,
        Duration::from_millis(10)..=Duration::from_secs(3_600),
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
    let transforms = build_transforms(&name, raw.transforms, modules, &batch, problems);
    let output = output?;
    Some(Located {
        line: output.line,
        value: Pipeline {
            line,
            inputs: inputs?,
            outputs: vec![Output {
                name: "default".to_string(),
                topic: output.value,
                partition: raw
                    .partition
                    .map_or(Partitioning::Key, |partition| partition.value),
            }],
            dead_letter: None,
            group: group?,
            start: start?,
            workers,
            transforms,
            consumer,
            producer: kafka.merged(&producer),
            buffer,
            in_flight,
            batch,
            commit_interval,
            transaction_bytes: TRANSACTION_BYTES,
            static_membership: false,
            drain_timeout,
            delivery: raw
                .delivery
                .map_or(Delivery::AtLeastOnce, |delivery| delivery.value),
            name,
        },
    })
}

fn build_inputs(inputs: &Located<Vec<Located<Text>>>, problems: &mut Problems) -> Vec<Input> {
    if inputs.value.is_empty() {
        problems.at(inputs.line, "\"input\" lists no topic; name at least one");
    }
    let mut seen = BTreeSet::new();
    let mut built = Vec::new();
    for input in &inputs.value {
        let text = &input.value;
        if !seen.insert(&text.value) {
            problems.at(
                input.line,
                format!("the input \"{text}\" is listed twice; keep one"),
            );
        }
        if text.value.starts_with('^') {
            if let Err(reason) = check_pattern(&text.value) {
                problems.at(input.line, format!("the input pattern \"{text}\" {reason}"));
            }
            built.push(Input::Pattern(text.value.clone()));
        } else {
            check_topic("input", input.line, text, problems);
            built.push(Input::Topic(text.value.clone()));
        }
    }
    built
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

fn build_transforms(
    pipeline: &str,
    raw: Vec<RawTransform>,
    modules: &Path,
    batch: &BatchLimit,
    problems: &mut Problems,
) -> Vec<Transform> {
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut transforms = Vec::new();
    for transform in raw {
        if let Some(name) = &transform.name {
            check_name(
                "transform",
                name.line,
                &name.value.value,
                &name.value.typed,
                problems,
            );
            if let Some(first) = lines.insert(name.value.value.clone(), name.line) {
                problems.at(
                    name.line,
                    format!(
                        "pipeline \"{pipeline}\" has a transform \"{}\" at line {first} already; give this one a name of its own",
                        name.value
                    ),
                );
            }
        }
        transforms.extend(build_transform(transform, modules, batch, problems));
    }
    transforms
}

fn build_transform(
    raw: RawTransform,
    modules: &Path,
    batch: &BatchLimit,
    problems: &mut Problems,
) -> Option<Transform> {
    let default = Limits::default();
    let size = |bytes: usize| ByteSize(bytes as u64);
    let limits = Limits {
        deadline: bounded_duration(
            "deadline",
            raw.deadline,
            default.deadline,
            Duration::from_millis(1)..=Duration::from_secs(60),
            problems,
        ),
        memory: bounded_size(
            "memory",
            raw.memory,
            size(default.memory),
            ByteSize::mib(1)..=ByteSize::mib(4_096),
            problems,
        )
        .as_usize(),
        max_output_bytes: bounded_size(
            "max_output_bytes",
            raw.max_output_bytes,
            size(default.max_output_bytes),
            ByteSize::kib(1)..=ByteSize::mib(2_048),
            problems,
        )
        .as_usize(),
        max_output_records: bounded_count(
            "max_output_records",
            raw.max_output_records,
            default.max_output_records,
            1..=10_000_000,
            problems,
        ),
        ..default
    };
    check_limits(&raw, &limits, batch, problems);
    let module = raw.module.as_ref();
    if let Some(module) = module.filter(|module| module.value.value.is_empty()) {
        problems.at(
            module.line,
            "\"module\" is empty; name a file such as \"add-uuid.wasm\"",
        );
    }
    Some(Transform {
        name: raw.name?.value.value,
        line: raw.line,
        module: modules.join(PathBuf::from(&module?.value.value)),
        config: raw.config,
        ids: raw.ids.map_or(Ids::Stable, |ids| ids.value),
        limits,
        on_refused: Policy::Stop,
        on_broken: Policy::Stop,
        retries: 1,
        max_refused: MaxRefused::default(),
    })
}

/// A full batch that comes out as it went in must be within the limits.
fn check_limits(raw: &RawTransform, limits: &Limits, batch: &BatchLimit, problems: &mut Problems) {
    if limits.max_output_records < batch.records {
        problems.at(
            raw.max_output_records.map_or(raw.line, |limit| limit.line),
            format!(
                "\"max_output_records\" is {}, less than a batch's {} records; raise it, or lower \"records\" in the pipeline's batch",
                limits.max_output_records, batch.records
            ),
        );
    }
    if limits.max_output_bytes < batch.bytes.as_usize() {
        problems.at(
            raw.max_output_bytes.map_or(raw.line, |limit| limit.line),
            format!(
                "\"max_output_bytes\" is {}, less than a batch's {}; raise it, or lower \"bytes\" in the pipeline's batch",
                ByteSize(limits.max_output_bytes as u64),
                batch.bytes
            ),
        );
    }
    if limits.memory < batch.bytes.as_usize().saturating_mul(2) {
        problems.at(
            raw.memory.map_or(raw.line, |limit| limit.line),
            format!(
                "\"memory\" is {}, less than twice a batch's {} (a guest holds a batch and what it makes of it); raise it, or lower \"bytes\" in the pipeline's batch",
                ByteSize(limits.memory as u64),
                batch.bytes
            ),
        );
    }
}
