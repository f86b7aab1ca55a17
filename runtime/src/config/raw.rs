//! What was typed: the keys that there are, and the type of each.

use std::time::Duration;

use super::document::{Field, Problems, Text, Value};
use super::settings::Setting;
use super::table::Reader;
use super::template::Template;
use super::units::ByteSize;
use super::{Delivery, Ids, Partitioning, Policy};

/// A kind of table in the file, and its keys.
pub(super) struct Section {
    /// How `docs/config.md` names it.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test of the docs"))]
    pub(super) title: &'static str,
    pub(super) keys: &'static [&'static str],
}

pub(super) const TOP: Section = Section {
    title: "Top of the file",
    keys: &[
        "modules",
        "data",
        "instance",
        "id_key",
        "watch",
        "admin",
        "influxdb",
        "kafka",
        "pipelines",
    ],
};
pub(super) const ADMIN: Section = Section {
    title: "[admin]",
    keys: &["listen", "token", "tls"],
};
pub(super) const INFLUXDB: Section = Section {
    title: "[influxdb]",
    keys: &[
        "url", "database", "username", "password", "org", "bucket", "token", "interval", "buffer",
        "tags",
    ],
};
pub(super) const TLS: Section = Section {
    title: "[admin.tls]",
    keys: &["cert", "key"],
};
pub(super) const PIPELINE: Section = Section {
    title: "[pipelines.NAME]",
    keys: &[
        "input",
        "output",
        "outputs",
        "partition",
        "dead_letter",
        "group",
        "static_membership",
        "start",
        "delivery",
        "workers",
        "buffer",
        "in_flight",
        "batch",
        "commit_interval",
        "transaction_bytes",
        "drain_timeout",
        "consumer",
        "producer",
        "transforms",
    ],
};
pub(super) const OUTPUT: Section = Section {
    title: "[pipelines.NAME.outputs.OUTPUT]",
    keys: &["partition"],
};
pub(super) const BATCH: Section = Section {
    title: "[pipelines.NAME.batch]",
    keys: &["records", "bytes"],
};
pub(super) const TRANSFORM: Section = Section {
    title: "[[pipelines.NAME.transforms]]",
    keys: &[
        "name",
        "module",
        "config",
        "ids",
        "on_refused",
        "on_broken",
        "retries",
        "max_refused",
        "probation",
        "deadline",
        "record_deadline",
        "memory",
        "max_output_bytes",
        "max_output_records",
        "max_bytes_per_input",
        "max_records_per_input",
        "max_table_elements",
        "max_log_lines",
        "max_module_bytes",
        "max_config_bytes",
    ],
};
pub(super) const MAX_REFUSED: Section = Section {
    title: "[pipelines.NAME.transforms.max_refused]",
    keys: &["share", "of"],
};

pub(super) const PROBATION: Section = Section {
    title: "[pipelines.NAME.transforms.probation]",
    keys: &["for", "max_refused", "max_broken", "max_latency"],
};

/// A value and its line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// The file. A key that isn't there, or whose value was of the wrong type (a problem then), is `None`.
pub(super) struct Raw {
    pub(super) modules: Option<Located<Text>>,
    pub(super) data: Option<Located<Text>>,
    pub(super) instance: Option<Located<Text>>,
    pub(super) id_key: Option<Located<Text>>,
    pub(super) watch: Option<Located<bool>>,
    pub(super) listen: Option<Located<Text>>,
    pub(super) token: Option<Located<Text>>,
    pub(super) tls: Option<RawTls>,
    pub(super) influxdb: Option<RawInfluxDb>,
    pub(super) kafka: Vec<Setting>,
    pub(super) pipelines: Vec<RawPipeline>,
}

/// `[admin.tls]`
pub(super) struct RawTls {
    pub(super) cert: Option<Located<Text>>,
    pub(super) key: Option<Located<Text>>,
}

/// `[influxdb]`
pub(super) struct RawInfluxDb {
    pub(super) line: usize,
    pub(super) url: Option<Located<Text>>,
    pub(super) database: Option<Located<Text>>,
    pub(super) username: Option<Located<Text>>,
    pub(super) password: Option<Located<Text>>,
    pub(super) org: Option<Located<Text>>,
    pub(super) bucket: Option<Located<Text>>,
    pub(super) token: Option<Located<Text>>,
    pub(super) interval: Option<Located<Duration>>,
    pub(super) buffer: Option<Located<ByteSize>>,
    pub(super) tags: Vec<(String, Text)>,
}

/// `[pipelines.NAME]`
pub(super) struct RawPipeline {
    pub(super) name: Located<String>,
    pub(super) input: Option<Located<Vec<Located<Text>>>>,
    pub(super) output: Option<Located<Vec<RawOutput>>>,
    pub(super) outputs: Vec<RawOutputSettings>,
    pub(super) partition: Option<Located<Partitioning>>,
    pub(super) dead_letter: Option<Located<Text>>,
    pub(super) group: Option<Located<Text>>,
    pub(super) static_membership: Option<Located<bool>>,
    pub(super) start: Option<Located<Text>>,
    pub(super) delivery: Option<Located<Delivery>>,
    pub(super) workers: Option<Located<u64>>,
    pub(super) buffer: Option<Located<ByteSize>>,
    pub(super) in_flight: Option<Located<ByteSize>>,
    pub(super) batch_records: Option<Located<u64>>,
    pub(super) batch_bytes: Option<Located<ByteSize>>,
    pub(super) commit_interval: Option<Located<Duration>>,
    pub(super) transaction_bytes: Option<Located<ByteSize>>,
    pub(super) drain_timeout: Option<Located<Duration>>,
    pub(super) consumer: Vec<Setting>,
    pub(super) producer: Vec<Setting>,
    pub(super) transforms: Vec<RawTransform>,
}

/// One name and topic of `output`, which may be a topic alone.
pub(super) struct RawOutput {
    /// `None` for a topic alone.
    pub(super) name: Option<String>,
    pub(super) topic: Located<Text>,
}

/// `[pipelines.NAME.outputs.OUTPUT]`
pub(super) struct RawOutputSettings {
    pub(super) name: Located<String>,
    pub(super) partition: Option<Located<Partitioning>>,
}

/// `[[pipelines.NAME.transforms]]`
pub(super) struct RawTransform {
    pub(super) line: usize,
    pub(super) name: Option<Located<Text>>,
    pub(super) module: Option<Located<Text>>,
    pub(super) config: Template,
    pub(super) ids: Option<Located<Ids>>,
    pub(super) on_refused: Option<Located<Policy>>,
    pub(super) on_broken: Option<Located<Policy>>,
    pub(super) retries: Option<Located<u64>>,
    pub(super) max_refused_share: Option<Located<f64>>,
    pub(super) max_refused_of: Option<Located<u64>>,
    pub(super) probation: Option<RawProbation>,
    pub(super) deadline: Option<Located<Duration>>,
    pub(super) record_deadline: Option<Located<Duration>>,
    pub(super) memory: Option<Located<ByteSize>>,
    pub(super) max_output_bytes: Option<Located<ByteSize>>,
    pub(super) max_output_records: Option<Located<u64>>,
    pub(super) max_bytes_per_input: Option<Located<ByteSize>>,
    pub(super) max_records_per_input: Option<Located<u64>>,
    pub(super) max_table_elements: Option<Located<u64>>,
    pub(super) max_log_lines: Option<Located<u64>>,
    pub(super) max_module_bytes: Option<Located<ByteSize>>,
    pub(super) max_config_bytes: Option<Located<ByteSize>>,
}

/// `[pipelines.NAME.transforms.probation]`
pub(super) struct RawProbation {
    pub(super) lasts: Option<Located<Duration>>,
    pub(super) max_refused: Option<Located<f64>>,
    pub(super) max_broken: Option<Located<u64>>,
    pub(super) max_latency: Option<Located<f64>>,
}

/// Reads what was typed.
pub(super) fn read(fields: &[Field], problems: &mut Problems) -> Raw {
    let mut top = Reader::new("the top level", &TOP, fields, problems);
    let modules = top.text("modules");
    let data = top.text("data");
    let instance = top.text("instance");
    let id_key = top.text("id_key");
    let kafka = top.settings("kafka");
    let watch = top.flag("watch");
    let (mut listen, mut token, mut tls) = (None, None, None);
    if let Some(admin) = top.table("admin") {
        let mut admin = Reader::new("[admin]", &ADMIN, admin.value, top.problems);
        listen = admin.text("listen");
        token = admin.text("token");
        if let Some(fields) = admin.table("tls") {
            let mut table = Reader::new("[admin.tls]", &TLS, fields.value, admin.problems);
            table.require(fields.line, TLS.keys);
            tls = Some(RawTls {
                cert: table.text("cert"),
                key: table.text("key"),
            });
        }
    }
    let influxdb = top.table("influxdb").map(|fields| {
        let mut table = Reader::new("[influxdb]", &INFLUXDB, fields.value, top.problems);
        table.require(fields.line, &["url"]);
        RawInfluxDb {
            line: fields.line,
            url: table.text("url"),
            database: table.text("database"),
            username: table.text("username"),
            password: table.text("password"),
            org: table.text("org"),
            bucket: table.text("bucket"),
            token: table.text("token"),
            interval: table.duration("interval"),
            buffer: table.size("buffer"),
            tags: table.named_texts("tags"),
        }
    });
    let is_given = top.field("pipelines").is_some();
    let pipelines = top.table("pipelines").map(|table| table.value);
    if !is_given || pipelines.is_some_and(<[Field]>::is_empty) {
        top.problems
            .in_file("no pipeline: add a [pipelines.NAME] with `input` and `output`");
    }
    let pipelines = pipelines
        .unwrap_or_default()
        .iter()
        .filter_map(|field| match &field.node.value {
            Value::Table(fields) => Some(read_pipeline(field, fields, problems)),
            other => {
                problems.at(
                    field.line,
                    format!(
                        "\"{}\" in [pipelines] must be a table [pipelines.{}], not {}",
                        field.key,
                        field.key,
                        other.kind()
                    ),
                );
                None
            }
        })
        .collect();
    Raw {
        modules,
        data,
        instance,
        id_key,
        watch,
        listen,
        token,
        tls,
        influxdb,
        kafka,
        pipelines,
    }
}

fn read_pipeline(named: &Field, fields: &[Field], problems: &mut Problems) -> RawPipeline {
    let name = &named.key;
    let place = format!("[pipelines.{name}]");
    let mut table = Reader::new(&place, &PIPELINE, fields, problems);
    table.require(named.line, &["input", "output"]);
    let batch_place = format!("[pipelines.{name}.batch]");
    let (batch_records, batch_bytes) = match table.table("batch") {
        Some(batch) => {
            let mut batch = Reader::new(&batch_place, &BATCH, batch.value, table.problems);
            (batch.count("records"), batch.size("bytes"))
        }
        None => (None, None),
    };
    RawPipeline {
        name: Located {
            line: named.line,
            value: name.clone(),
        },
        input: table.texts("input"),
        output: table.output(),
        outputs: read_outputs(name, &mut table),
        partition: table.choice("partition", PARTITIONINGS),
        dead_letter: table.text("dead_letter"),
        group: table.text("group"),
        static_membership: table.flag("static_membership"),
        start: table.moment("start"),
        delivery: table.choice(
            "delivery",
            &[
                ("at-least-once", Delivery::AtLeastOnce),
                ("exactly-once", Delivery::ExactlyOnce),
            ],
        ),
        workers: table.count("workers"),
        buffer: table.size("buffer"),
        in_flight: table.size("in_flight"),
        batch_records,
        batch_bytes,
        commit_interval: table.duration("commit_interval"),
        transaction_bytes: table.size("transaction_bytes"),
        drain_timeout: table.duration("drain_timeout"),
        consumer: table.settings("consumer"),
        producer: table.settings("producer"),
        transforms: table
            .tables("transforms", &format!("[[pipelines.{name}.transforms]]"))
            .into_iter()
            .map(|(line, fields)| read_transform(name, line, fields, problems))
            .collect(),
    }
}

const PARTITIONINGS: &[(&str, Partitioning)] =
    &[("key", Partitioning::Key), ("same", Partitioning::Same)];

const POLICIES: &[(&str, Policy)] = &[
    ("dead-letter", Policy::DeadLetter),
    ("skip", Policy::Skip),
    ("stop", Policy::Stop),
];

/// The settings of single outputs.
fn read_outputs(pipeline: &str, table: &mut Reader<'_, '_>) -> Vec<RawOutputSettings> {
    let mut outputs = Vec::new();
    for (output, fields) in table.named_tables("outputs") {
        let place = format!("[pipelines.{pipeline}.outputs.{}]", output.value);
        let mut settings = Reader::new(&place, &OUTPUT, fields, table.problems);
        outputs.push(RawOutputSettings {
            name: output,
            partition: settings.choice("partition", PARTITIONINGS),
        });
    }
    outputs
}

fn read_transform(
    pipeline: &str,
    line: usize,
    fields: &[Field],
    problems: &mut Problems,
) -> RawTransform {
    let place = format!("[[pipelines.{pipeline}.transforms]]");
    let mut table = Reader::new(&place, &TRANSFORM, fields, problems);
    table.require(line, &["name", "module"]);
    let (max_refused_share, max_refused_of) = match table.table("max_refused") {
        Some(fields) => {
            let place = format!("[pipelines.{pipeline}.transforms.max_refused]");
            let mut max = Reader::new(&place, &MAX_REFUSED, fields.value, table.problems);
            (max.number("share"), max.count("of"))
        }
        None => (None, None),
    };
    let probation = table.table("probation").map(|fields| {
        let place = format!("[pipelines.{pipeline}.transforms.probation]");
        let mut table = Reader::new(&place, &PROBATION, fields.value, table.problems);
        RawProbation {
            lasts: table.duration("for"),
            max_refused: table.number("max_refused"),
            max_broken: table.count("max_broken"),
            max_latency: table.number("max_latency"),
        }
    });
    RawTransform {
        line,
        name: table.text("name"),
        module: table.text("module"),
        config: table.template("config"),
        ids: table.choice("ids", &[("stable", Ids::Stable), ("random", Ids::Random)]),
        on_refused: table.choice("on_refused", POLICIES),
        on_broken: table.choice("on_broken", POLICIES),
        retries: table.count("retries"),
        max_refused_share,
        max_refused_of,
        probation,
        deadline: table.duration("deadline"),
        record_deadline: table.duration("record_deadline"),
        memory: table.size("memory"),
        max_output_bytes: table.size("max_output_bytes"),
        max_output_records: table.count("max_output_records"),
        max_bytes_per_input: table.size("max_bytes_per_input"),
        max_records_per_input: table.count("max_records_per_input"),
        max_table_elements: table.count("max_table_elements"),
        max_log_lines: table.count("max_log_lines"),
        max_module_bytes: table.size("max_module_bytes"),
        max_config_bytes: table.size("max_config_bytes"),
    }
}
