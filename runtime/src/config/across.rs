//! The rules across fields and pipelines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;

use super::document::Problems;
use super::raw::Located;
use super::settings::Settings;
use super::units::show_duration;
use super::{Input, Pipeline};

/// `max.poll.interval.ms` of librdkafka, if it isn't set.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

/// While a worker drains it still polls, so the session lives on; but the group waits for it no longer than
/// `max.poll.interval.ms`, and then gives its partitions away with records in flight.
pub(super) fn check_drain(
    line: usize,
    drain: Duration,
    consumer: &Settings,
    problems: &mut Problems,
) {
    let interval = match consumer.get("max.poll.interval.ms") {
        // What isn't a number is librdkafka's to refuse.
        Some(text) => text
            .parse()
            .map_or(MAX_POLL_INTERVAL, Duration::from_millis),
        None => MAX_POLL_INTERVAL,
    };
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

pub(super) fn check_servers(pipelines: &[Located<Pipeline>], problems: &mut Problems) {
    for Located {
        value: pipeline, ..
    } in pipelines
    {
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

pub(super) fn check_groups(pipelines: &[Located<Pipeline>], problems: &mut Problems) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for Located {
        value: pipeline, ..
    } in pipelines
    {
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

/// An output must not be an input of the same cluster.
pub(super) fn check_loops(pipelines: &[Located<Pipeline>], problems: &mut Problems) {
    for Located {
        line,
        value: writer,
    } in pipelines
    {
        for Located { value: reader, .. } in pipelines {
            if servers(&writer.producer).is_disjoint(&servers(&reader.consumer)) {
                continue;
            }
            for output in &writer.outputs {
                let Some(input) = reader
                    .inputs
                    .iter()
                    .find(|input| takes(input, &output.topic))
                else {
                    continue;
                };
                problems.at(
                    *line,
                    format!(
                        "the output topic \"{}\" is an input of pipeline \"{}\" (\"{input}\"), and records could go round for ever; write to another topic, or put the transforms into one chain",
                        output.topic, reader.name
                    ),
                );
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

/// The bootstrap servers, under either of librdkafka's names for them.
fn servers(settings: &Settings) -> BTreeSet<String> {
    let text = settings
        .get("bootstrap.servers")
        .or_else(|| settings.get("metadata.broker.list"))
        .unwrap_or_default();
    text.split(',')
        .map(|server| server.trim().to_lowercase())
        .filter(|server| !server.is_empty())
        .collect()
}
