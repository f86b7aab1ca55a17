//! A pipeline's chain: each transform's module, limits, and what becomes of records that it can't process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bounds::{bounded_count, bounded_duration, bounded_size};
use super::document::Problems;
use super::names::check_name;
use super::raw::{Located, RawProbation, RawTransform};
use super::units::{ByteSize, show_duration};
use super::{BatchLimit, Ids, Limits, MaxRefused, Policy, Probation, Transform};

/// A guest breaks on the same record each time, but for bugs that depend on what it saw before; once more tells them
/// apart.
const RETRIES: usize = 1;

/// What a transform has to fit in with.
pub(super) struct Around<'a> {
    pub(super) pipeline: &'a str,
    /// The folder of modules.
    pub(super) modules: &'a Path,
    pub(super) batch: &'a BatchLimit,
    pub(super) has_dead_letter: bool,
}

pub(super) fn build_transforms(
    raw: Vec<RawTransform>,
    around: &Around<'_>,
    problems: &mut Problems,
) -> Vec<Transform> {
    let pipeline = around.pipeline;
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
        transforms.extend(build_transform(transform, around, problems));
    }
    transforms
}

fn build_transform(
    raw: RawTransform,
    around: &Around<'_>,
    problems: &mut Problems,
) -> Option<Transform> {
    let default = Limits::default();
    let size = |bytes: usize| ByteSize(bytes as u64);
    let deadlines = Duration::from_millis(1)..=Duration::from_secs(60);
    let deadline = bounded_duration(
        "deadline",
        raw.deadline,
        default.deadline,
        deadlines.clone(),
        problems,
    );
    let limits = Limits {
        deadline,
        record_deadline: bounded_duration(
            "record_deadline",
            raw.record_deadline,
            default.record_deadline.min(deadline),
            deadlines,
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
        max_bytes_per_input: bounded_size(
            "max_bytes_per_input",
            raw.max_bytes_per_input,
            size(default.max_bytes_per_input),
            ByteSize::kib(1)..=ByteSize::mib(2_048),
            problems,
        )
        .as_usize(),
        max_records_per_input: bounded_count(
            "max_records_per_input",
            raw.max_records_per_input,
            default.max_records_per_input,
            1..=10_000_000,
            problems,
        ),
        max_table_elements: bounded_count(
            "max_table_elements",
            raw.max_table_elements,
            default.max_table_elements,
            1..=10_000_000,
            problems,
        ),
        max_log_lines: bounded_count(
            "max_log_lines",
            raw.max_log_lines,
            default.max_log_lines,
            0..=1_000_000,
            problems,
        ),
        max_module_bytes: bounded_size(
            "max_module_bytes",
            raw.max_module_bytes,
            size(default.max_module_bytes),
            ByteSize::kib(1)..=ByteSize::mib(1_024),
            problems,
        )
        .as_usize(),
        max_config_bytes: bounded_size(
            "max_config_bytes",
            raw.max_config_bytes,
            size(default.max_config_bytes),
            ByteSize::kib(1)..=ByteSize::mib(64),
            problems,
        )
        .as_usize(),
    };
    check_limits(&raw, &limits, around.batch, problems);
    let on_refused = build_policy("on_refused", raw.on_refused, around, problems);
    let on_broken = build_policy("on_broken", raw.on_broken, around, problems);
    let retries = bounded_count("retries", raw.retries, RETRIES, 0..=10, problems);
    let max_refused = build_max_refused(&raw, problems);
    let probation = raw.probation.as_ref();
    let probation = probation.map(|it| build_probation(it, problems));
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
        module: around.modules.join(PathBuf::from(&module?.value.value)),
        config: raw.config,
        ids: raw.ids.map_or(Ids::Stable, |ids| ids.value),
        limits,
        on_refused,
        on_broken,
        // At most 10.
        retries: retries as u32,
        max_refused,
        probation,
    })
}

/// Never silently lost: without a dead letter topic the pipeline stops, unless it's told to skip.
fn build_policy(
    key: &str,
    given: Option<Located<Policy>>,
    around: &Around<'_>,
    problems: &mut Problems,
) -> Policy {
    let Some(Located {
        line,
        value: policy,
    }) = given
    else {
        return match around.has_dead_letter {
            true => Policy::DeadLetter,
            false => Policy::Stop,
        };
    };
    if policy == Policy::DeadLetter && !around.has_dead_letter {
        let pipeline = around.pipeline;
        problems.at(
            line,
            format!(
                "\"{key}\" is \"dead-letter\", and pipeline \"{pipeline}\" has no topic for dead letters; add dead_letter = \"TOPIC\" to [pipelines.{pipeline}]"
            ),
        );
    }
    policy
}

fn build_max_refused(raw: &RawTransform, problems: &mut Problems) -> MaxRefused {
    let default = MaxRefused::default();
    let share = match raw.max_refused_share {
        // What isn't a number is in no range.
        Some(Located { line, value }) if !(value > 0.0 && value <= 1.0) => {
            let message =
                format!("\"share\" is {value}, and must be above 0 and at most 1, which is all");
            problems.at(line, message);
            default.share
        }
        share => share.map_or(default.share, |share| share.value),
    };
    let of = raw.max_refused_of;
    MaxRefused {
        share,
        of: bounded_count("of", of, default.of, 1..=1_000_000, problems),
    }
}

/// Lets a new version refuse a hundredth of the records more than the one before, break never, and take three times as long.
fn build_probation(raw: &RawProbation, problems: &mut Problems) -> Probation {
    let mut number =
        |key: &str, given: Option<Located<f64>>, default: f64, least: f64, most: f64| {
            let Some(Located { line, value }) = given else {
                return default;
            };
            // What isn't a number is in no range.
            if !(value >= least && value <= most) {
                let message = format!("\"{key}\" is {value}, and must be from {least} to {most}");
                problems.at(line, message);
            }
            value
        };
    let max_refused = number("max_refused", raw.max_refused, 0.01, 0.0, 1.0);
    let max_latency = number("max_latency", raw.max_latency, 3.0, 1.0, 1_000.0);
    Probation {
        lasts: bounded_duration(
            "for",
            raw.lasts,
            Duration::from_secs(60),
            Duration::from_secs(1)..=Duration::from_secs(24 * 3_600),
            problems,
        ),
        max_refused,
        max_broken: bounded_count("max_broken", raw.max_broken, 0, 0..=1_000_000, problems) as u64,
        max_latency,
    }
}

/// A full batch that comes out as it went in must be within the limits.
fn check_limits(raw: &RawTransform, limits: &Limits, batch: &BatchLimit, problems: &mut Problems) {
    if limits.record_deadline > limits.deadline {
        problems.at(
            raw.record_deadline.map_or(raw.line, |limit| limit.line),
            format!(
                "\"record_deadline\" is {}, more than the whole batch's \"deadline\", {}; lower it, or raise that",
                show_duration(limits.record_deadline),
                show_duration(limits.deadline)
            ),
        );
    }
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
