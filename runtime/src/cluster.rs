//! What a pipeline must know of its cluster before it starts: that its topics are there, and who they are.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::config::{self, Input, Partitioning};
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
}

impl Cluster {
    /// Asks the cluster. The error says what is missing, and what to do.
    pub fn look(pipeline: &config::Pipeline) -> Result<Cluster> {
        let (admin, id) = open(&pipeline.consumer)?;
        let inputs = inputs(&admin, pipeline)?;
        let admin = match pipeline.producer == pipeline.consumer {
            true => admin,
            false => open(&pipeline.producer)?.0,
        };
        let names: Vec<String> = pipeline.outputs.iter().map(|it| it.topic.clone()).collect();
        let outputs = all(admin.topics(&names)?).context("output")?;
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
        })
    }

    /// Partitions of all input topics.
    pub fn input_partitions(&self) -> usize {
        self.inputs.iter().map(|it| it.partitions).sum()
    }
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

fn all(topics: Vec<Result<Topic>>) -> Result<Vec<Topic>> {
    topics.into_iter().collect()
}

/// What the consumer of a worker is made with; `instance_id` is a static member's.
pub fn consumer(
    pipeline: &config::Pipeline,
    instance_id: Option<&str>,
) -> Result<Settings, Refused> {
    consumer_settings(&ConsumerOptions {
        user: &pairs(&pipeline.consumer),
        group: &pipeline.group,
        instance_id,
        buffer: pipeline.buffer.as_usize() as u64,
    })
}

/// What the producer of a worker is made with; `transactional_id` is that of one with transactions.
pub fn producer(
    pipeline: &config::Pipeline,
    transactional_id: Option<&str>,
) -> Result<Settings, Refused> {
    producer_settings(&ProducerOptions {
        user: &pairs(&pipeline.producer),
        in_flight: pipeline.in_flight.as_usize() as u64,
        transactional_id,
    })
}

/// What a client is made with that looks at the pipeline's group from outside.
pub fn group(pipeline: &config::Pipeline) -> Result<Settings, Refused> {
    group_settings(&pairs(&pipeline.consumer), &pipeline.group)
}

/// Settings as keys and values, in order.
pub fn pairs(settings: &config::Settings) -> Vec<(&str, &str)> {
    settings
        .iter()
        .map(|it| (it.key.as_str(), it.value.as_str()))
        .collect()
}
