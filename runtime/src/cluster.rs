//! What a pipeline must know of its cluster before it starts: that its topics are there, and who they are.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::config::{self, Delivery, Input, Partitioning};
use crate::kafka::{
    Admin, ConsumerOptions, ProducerOptions, Refused, Settings, admin_settings, consumer_settings,
    group_settings, producer_settings,
};

pub use crate::kafka::Topic;

/// How long to wait for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// No broker answered.
#[derive(Debug)]
pub struct Unanswered(String);

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unanswered {}

/// A pipeline's part of its cluster, or of two: it may write to another one than it reads from.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The id of the cluster that it reads from.
    pub id: String,
    /// The input topics that there are, those that match a pattern among them.
    pub inputs: Vec<Topic>,
    /// The output topics, in the order of the config.
    pub outputs: Vec<Topic>,
    /// The dead letter topic, if the pipeline has one.
    pub dead_letter: Option<Topic>,
    /// The `max.message.bytes` of the outputs and the dead letter topic, in order, where the cluster says it.
    pub max_message_bytes: Vec<Option<u64>>,
}

/// What a dead letter may be larger than the record that it's made of: its headers, of which the reason is the longest.
const HEADROOM: u64 = 64 << 10;

impl Cluster {
    /// Asks the cluster. The error says what is missing, and what to do.
    pub fn look(pipeline: &config::Pipeline) -> Result<Cluster> {
        let (admin, id) = open(&pipeline.consumer)?;
        let inputs = inputs(&admin, pipeline)?;
        let names: Vec<String> = inputs.iter().map(|it| it.name.clone()).collect();
        let input_bytes = admin.max_message_bytes(&names)?;
        let (admin, home) = match pipeline.producer == pipeline.consumer {
            true => (admin, id.clone()),
            false => open(&pipeline.producer)?,
        };
        if pipeline.delivery == Delivery::ExactlyOnce {
            ensure!(
                home == id,
                "it reads from the cluster {id} and writes to the cluster {home}, and exactly-once can't reach across; give consumer and producer the same \"bootstrap.servers\", or take delivery = \"at-least-once\""
            );
        }
        let outputs = outputs(&admin, pipeline).context("output")?;
        let dead_letter = match &pipeline.dead_letter {
            None => None,
            Some(topic) => {
                let found = all(admin.topics(std::slice::from_ref(topic))?);
                found.context("dead letters")?.pop()
            }
        };
        let names: Vec<String> = outputs
            .iter()
            .chain(&dead_letter)
            .map(|it| it.name.clone())
            .collect();
        let max_message_bytes = admin.max_message_bytes(&names)?;
        if let (Some(topic), Some(&Some(room))) = (&dead_letter, max_message_bytes.last()) {
            let largest = inputs
                .iter()
                .zip(&input_bytes)
                .filter_map(|(input, bytes)| Some((input, (*bytes)?)))
                .max_by_key(|(_, bytes)| *bytes);
            if let Some((input, bytes)) = largest {
                let servers = pipeline.producer.get("bootstrap.servers").unwrap_or("?");
                check_room(topic, room, input, bytes, servers)?;
            }
        }
        for (output, found) in pipeline.outputs.iter().zip(&outputs) {
            if output.partition != Partitioning::Same {
                continue;
            }
            for input in &inputs {
                ensure!(
                    found.partitions >= input.partitions,
                    "partition = \"same\" needs as many partitions in the output {:?} ({}) as in the input {:?} ({})",
                    found.name,
                    found.partitions,
                    input.name,
                    input.partitions
                );
            }
        }
        Ok(Cluster {
            id,
            inputs,
            outputs,
            dead_letter,
            max_message_bytes,
        })
    }

    /// Partitions of all input topics.
    pub fn input_partitions(&self) -> usize {
        self.inputs.iter().map(|it| it.partitions).sum()
    }
}

/// A record that can be read must have room to be a dead letter.
fn check_room(
    dead_letter: &Topic,
    room: u64,
    input: &Topic,
    bytes: u64,
    servers: &str,
) -> Result<()> {
    let needed = bytes.saturating_add(HEADROOM);
    ensure!(
        room >= needed,
        "the dead letter topic {:?} takes records of {room} bytes (its max.message.bytes), and the input {:?} ones of {bytes}; it needs 64 KiB more than that for the headers: kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {} --add-config max.message.bytes={needed}",
        dead_letter.name,
        input.name,
        dead_letter.name
    );
    Ok(())
}

/// A client for questions about the cluster that these settings lead to, and the cluster's id.
fn open(settings: &config::Settings) -> Result<(Admin, String)> {
    let admin = Admin::new(&admin_settings(&pairs(settings))?, TIMEOUT)?;
    let id = admin.cluster_id().map_err(|why| {
        let servers = settings.get("bootstrap.servers").unwrap_or("?");
        Unanswered(format!("Kafka at {servers} can't be asked: {why:#}"))
    })?;
    Ok((admin, id))
}

/// How many members a pipeline's group has.
pub fn members(pipeline: &config::Pipeline) -> Result<usize> {
    let settings = admin_settings(&pairs(&pipeline.consumer))?;
    Admin::new(&settings, TIMEOUT)?.members(&pipeline.group)
}

/// A pipeline's input topics.
pub fn inputs(admin: &Admin, pipeline: &config::Pipeline) -> Result<Vec<Topic>> {
    let mut names = Vec::new();
    for input in &pipeline.inputs {
        match input {
            Input::Topic(name) => names.push(name.clone()),
            Input::Pattern(pattern) => names.extend(admin.matching(pattern)?),
        }
    }
    names.sort();
    names.dedup();
    all(admin.topics(&names)?).context("input")
}

/// A pipeline's output topics, in the order of the config; two outputs may share one.
fn outputs(admin: &Admin, pipeline: &config::Pipeline) -> Result<Vec<Topic>> {
    let mut names: Vec<String> = pipeline.outputs.iter().map(|it| it.topic.clone()).collect();
    names.sort();
    names.dedup();
    let topics = all(admin.topics(&names)?)?;
    let topic = |output: &config::Output| {
        let found = topics.iter().find(|it| it.name == output.topic);
        found
            .cloned()
            .with_context(|| format!("no topic \"{}\"", output.topic))
    };
    pipeline.outputs.iter().map(topic).collect()
}

fn all(topics: Vec<Result<Topic>>) -> Result<Vec<Topic>> {
    topics.into_iter().collect()
}

/// The `max.message.bytes` of topics that the pipeline writes to, where the cluster says.
pub fn max_message_bytes(
    pipeline: &config::Pipeline,
    topics: &[String],
) -> Result<Vec<Option<u64>>> {
    let (admin, _) = open(&pipeline.producer)?;
    admin.max_message_bytes(topics)
}

/// What the consumer of a worker is made with.
pub fn consumer(
    pipeline: &config::Pipeline,
    instance: &str,
    worker: usize,
) -> Result<Settings, Refused> {
    let id = instance_id(pipeline, instance, worker);
    consumer_settings(&ConsumerOptions {
        user: &pairs(&pipeline.consumer),
        group: &pipeline.group,
        instance_id: id.as_deref(),
        buffer: pipeline.buffer.as_usize() as u64,
    })
}

/// What the producer of a worker is made with; `max_message_bytes` as in [`Cluster`], or nothing if no cluster was asked.
pub fn producer(
    pipeline: &config::Pipeline,
    instance: &str,
    worker: usize,
    max_message_bytes: &[Option<u64>],
) -> Result<Settings, Refused> {
    let id = transactional_id(pipeline, instance, worker);
    producer_settings(&ProducerOptions {
        user: &pairs(&pipeline.producer),
        in_flight: pipeline.in_flight.as_usize() as u64,
        transactional_id: id.as_deref(),
        max_message_bytes,
    })
}

/// What the producer of a replay of the pipeline's dead letters is made with. It has transactions whatever the pipeline's
/// delivery is, under a name that all replays of the pipeline share. `max_message_bytes` are those of the topics that it writes to.
pub fn replayer(
    pipeline: &config::Pipeline,
    max_message_bytes: &[Option<u64>],
) -> Result<Settings, Refused> {
    let config::Pipeline { group, name, .. } = pipeline;
    producer_settings(&ProducerOptions {
        user: &pairs(&pipeline.producer),
        in_flight: pipeline.in_flight.as_usize() as u64,
        transactional_id: Some(&format!("weir-{group}-{name}-replay")),
        max_message_bytes,
    })
}

/// What a client is made with that looks at the pipeline's group from outside.
pub fn group(pipeline: &config::Pipeline) -> Result<Settings, Refused> {
    group_settings(&pairs(&pipeline.consumer), &pipeline.group)
}

/// The name under which brokers keep a worker's transactions, with exactly-once.
fn transactional_id(pipeline: &config::Pipeline, instance: &str, worker: usize) -> Option<String> {
    let config::Pipeline { group, name, .. } = pipeline;
    (pipeline.delivery == Delivery::ExactlyOnce)
        .then(|| format!("weir-{group}-{name}-{instance}-{worker}"))
}

/// The name under which the group keeps a worker's place, with static membership. Names are the group's own, so the
/// group isn't part of it; and Kafka takes no more than 249 letters, digits, `.`, `_` and `-`, which a group may not keep
/// to.
fn instance_id(pipeline: &config::Pipeline, instance: &str, worker: usize) -> Option<String> {
    let name = &pipeline.name;
    pipeline
        .static_membership
        .then(|| format!("weir-{name}-{instance}-{worker}"))
}

/// Settings as keys and values, in order.
pub fn pairs(settings: &config::Settings) -> Vec<(&str, &str)> {
    settings
        .iter()
        .map(|it| (it.key.as_str(), it.value.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Surroundings};

    fn pipeline(lines: &str) -> config::Pipeline {
        let text = format!(
            "[kafka]\n\"bootstrap.servers\" = \"x:1\"\n[pipelines.p]\ninput = \"a\"\noutput = \"b\"\n{lines}"
        );
        let surroundings = Surroundings {
            variable: &|_| None,
            setting: &|_, _, _| Ok(()),
        };
        let config = Config::parse(Path::new("weir.toml"), &text, surroundings);
        config.unwrap().pipelines.remove(0)
    }

    #[test]
    fn workers_have_names_where_they_need_them() {
        let plain = pipeline("");
        let consumer_of = |it| consumer(it, "blue", 3).unwrap();
        let producer_of = |it| producer(it, "blue", 3, &[]).unwrap();
        assert_eq!(consumer_of(&plain).get("group.instance.id"), None);
        assert_eq!(producer_of(&plain).get("transactional.id"), None);
        let named =
            pipeline("group = \"a group\"\ndelivery = \"exactly-once\"\nstatic_membership = true");
        assert_eq!(
            consumer_of(&named).get("group.instance.id"),
            Some("weir-p-blue-3")
        );
        let producer = producer_of(&named);
        assert_eq!(
            producer.get("transactional.id"),
            Some("weir-a group-p-blue-3")
        );
        // What the rules of the config count with.
        assert_eq!(producer.get("transaction.timeout.ms"), Some("15000"));
    }
}
