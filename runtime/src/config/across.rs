//! The rules across fields and pipelines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;

use super::document::{Problems, Text};
use super::settings::Settings;
use super::units::show_duration;
use super::{Delivery, Input, Pipeline};

/// A pipeline, and the places in the file that rules across pipelines point at.
pub(super) struct Built {
    pub(super) pipeline: Pipeline,
    pub(super) written: Vec<Written>,
}

/// A topic that a pipeline writes.
pub(super) struct Written {
    /// What for.
    pub(super) what: &'static str,
    pub(super) line: usize,
    pub(super) topic: Text,
}

/// `max.poll.interval.ms` of librdkafka, if it isn't set.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// `transaction.timeout.ms`, if it isn't set.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Of a transaction's time, the part that may pass before its commit begins: the rest is for a batch under way, for its
/// deliveries, and for brokers that take their time.
const TRANSACTION_SHARE: u32 = 3;

/// While a worker drains it still polls, so the session lives on; but the group waits for it no longer than
/// `max.poll.interval.ms`, and then gives its partitions away with records in flight.
pub(super) fn check_drain(
    line: usize,
    drain: Duration,
    consumer: &Settings,
    problems: &mut Problems,
) {
    let interval = milliseconds(consumer, "max.poll.interval.ms", MAX_POLL_INTERVAL);
    if drain >= interval {
        problems.at(
            line,
            format!(
                "\"drain_timeout\" is {}, and must be below the consumer's max.poll.interval.ms, {}",
                show_duration(drain),
                show_duration(interval)
            ),
        );
    }
}

/// With exactly-once, brokers give up on a transaction that isn't committed in time, and it could never be if its own
/// interval, or one call of a guest, took longer.
pub(super) fn check_transactions(commit_line: usize, pipeline: &Pipeline, problems: &mut Problems) {
    let Pipeline {
        name,
        commit_interval,
        consumer,
        producer,
        transforms,
        ..
    } = pipeline;
    const KEY: &str = "transaction.timeout.ms";
    let timeout = milliseconds(producer, KEY, TRANSACTION_TIMEOUT);
    if *commit_interval > timeout / TRANSACTION_SHARE {
        problems.at(
            commit_line,
            format!(
                "\"commit_interval\" is {}, and with exactly-once must be at most a third of the producer's {KEY}, {}; lower it, or raise that",
                show_duration(*commit_interval),
                show_duration(timeout)
            ),
        );
    }
    for transform in transforms {
        let deadline = transform.limits.deadline;
        if deadline + *commit_interval >= timeout {
            problems.at(
                transform.line,
                format!(
                    "the \"deadline\" of transform \"{}\" and the \"commit_interval\" come to {}, and with exactly-once must stay below the producer's {KEY}, {}; lower them, or raise that",
                    transform.name,
                    show_duration(deadline + *commit_interval),
                    show_duration(timeout)
                ),
            );
        }
    }
    let (from, to) = (servers(consumer), servers(producer));
    // Without servers there's a problem already.
    if from != to && !from.is_empty() && !to.is_empty() {
        let setting = |settings: &Settings| {
            settings
                .iter()
                .find(|it| is_servers(&it.key))
                .map(|it| it.line)
        };
        let line = setting(producer).max(setting(consumer));
        problems.at(
            line.unwrap_or(pipeline.line),
            format!(
                "pipeline \"{name}\" reads from one cluster and writes to another, and exactly-once can't reach across: offsets and outputs are committed in one transaction, which one cluster keeps; give consumer and producer the same \"bootstrap.servers\", or take delivery = \"at-least-once\""
            ),
        );
    }
}

pub(super) fn check_servers(pipelines: &[Built], problems: &mut Problems) {
    for Built { pipeline, .. } in pipelines {
        for (client, settings) in [
            ("consumer", &pipeline.consumer),
            ("producer", &pipeline.producer),
        ] {
            if servers(settings).is_empty() {
                problems.at(
                    pipeline.line,
                    format!(
                        "the {client} of pipeline \"{}\" has no \"bootstrap.servers\"; put it into [kafka], such as \"bootstrap.servers\" = \"localhost:9092\"",
                        pipeline.name
                    ),
                );
            }
        }
    }
}

pub(super) fn check_groups(pipelines: &[Built], problems: &mut Problems) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for Built { pipeline, .. } in pipelines {
        if let Some(other) = names.insert(&pipeline.group, &pipeline.name) {
            problems.at(
                pipeline.line,
                format!(
                    "pipelines \"{other}\" and \"{}\" have the same group; they would take each other's partitions: give each a \"group\" of its own",
                    pipeline.name
                ),
            );
        }
    }
}

/// What was replayed of a pipeline's dead letters is kept in a group of its own.
pub(super) fn check_replay_groups(pipelines: &[Built], problems: &mut Problems) {
    for Built {
        pipeline: replayed, ..
    } in pipelines.iter().filter(|it| has_replays(it))
    {
        let name = replayed.replay_group();
        for Built { pipeline, .. } in pipelines {
            if pipeline.group == name {
                problems.at(
                    pipeline.line,
                    format!(
                        "the group of pipeline \"{}\", \"{name}\", is the one that keeps which dead letters of pipeline \"{}\" were replayed; give one another \"group\"",
                        pipeline.name, replayed.name
                    ),
                );
            }
        }
    }
}

/// Brokers keep transactions by a name that is made of group and pipeline: `a` and `b-c` make the same as `a-b` and `c`.
/// Replays have transactions whatever the delivery is, under names that no worker has.
pub(super) fn check_transaction_names(pipelines: &[Built], problems: &mut Problems) {
    let is_exact = |it: &Built| it.pipeline.delivery == Delivery::ExactlyOnce;
    let (mut workers, mut replays) = (BTreeMap::new(), BTreeMap::new());
    for built in pipelines {
        let pipeline = &built.pipeline;
        let of_workers = is_exact(built).then(|| name_transactions(pipeline, &mut workers));
        let of_replays = has_replays(built).then(|| name_transactions(pipeline, &mut replays));
        let (other, what) = match (of_workers.flatten(), of_replays.flatten()) {
            (Some(other), _) => (other, ""),
            (None, Some(other)) => (other, " for replays of dead letters"),
            (None, None) => continue,
        };
        problems.at(
            pipeline.line,
            format!(
                "the groups and names of pipelines \"{other}\" and \"{}\" make the same \"transactional.id\"{what}, and they would shut each other out; give one another \"group\"",
                pipeline.name
            ),
        );
    }
}

/// Adds the name of a pipeline's transactions, and gives the pipeline that has it already.
fn name_transactions<'a>(
    pipeline: &'a Pipeline,
    names: &mut BTreeMap<String, &'a str>,
) -> Option<&'a str> {
    let name = format!("{}-{}", pipeline.group, pipeline.name);
    names.insert(name, &pipeline.name)
}

fn has_replays(built: &Built) -> bool {
    built.pipeline.dead_letter.is_some()
}

/// What is written must not be an input of the same cluster.
pub(super) fn check_loops(pipelines: &[Built], problems: &mut Problems) {
    for writer in pipelines {
        for Built {
            pipeline: reader, ..
        } in pipelines
        {
            if servers(&writer.pipeline.producer).is_disjoint(&servers(&reader.consumer)) {
                continue;
            }
            for Written { what, line, topic } in &writer.written {
                let inputs = &reader.inputs;
                if let Some(input) = inputs.iter().find(|input| takes(input, &topic.value)) {
                    problems.at(
                        *line,
                        format!(
                            "the {what} topic \"{topic}\" is an input of pipeline \"{}\" (\"{input}\"), and records could go round for ever; write to another topic, or put the transforms into one chain",
                            reader.name
                        ),
                    );
                }
            }
        }
    }
}

fn takes(input: &Input, topic: &str) -> bool {
    match input {
        Input::Topic(name) => name == topic,
        // A pattern that doesn't parse is a problem already.
        Input::Pattern(pattern) => Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(topic)),
    }
}

/// The bootstrap servers.
fn servers(settings: &Settings) -> BTreeSet<String> {
    let setting = settings.iter().find(|it| is_servers(&it.key));
    setting
        .map_or("", |it| &it.value)
        .split(',')
        .map(|server| server.trim().to_lowercase())
        .filter(|server| !server.is_empty())
        .collect()
}

/// Either of librdkafka's names for them.
fn is_servers(key: &str) -> bool {
    matches!(key, "bootstrap.servers" | "metadata.broker.list")
}

/// A setting in milliseconds. What isn't a number is librdkafka's to refuse.
fn milliseconds(settings: &Settings, key: &str, default: Duration) -> Duration {
    let given = settings.get(key).and_then(|text| text.trim().parse().ok());
    given.map_or(default, Duration::from_millis)
}
