//! Questions about the cluster, and the changes that commands make to it: for `weir check`, `weir offsets` and the
//! checks before a start. All calls wait for their answer, as long as the timeout they were made with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow};
use regex::Regex;

use super::consumer::{Start, commit_and_wait, committed, look_up, offset_list};
use super::ffi::{Client, Code, Failure, Member};
use super::membership;
use super::settings::Settings;
use crate::io::{Membership, TopicPartition};

/// What the cluster says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The name.
    pub name: String,
    /// Kafka's id of it; a topic that is made anew has a new one. All zero from a broker older than 2.8.
    pub id: [u8; 16],
    /// How many partitions it has.
    pub partitions: usize,
}

/// The setting of a topic that bounds its batches.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// Whether a group is at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// The cluster doesn't know it, or it has no members.
    Stopped,
    /// It has members. Kafka's word for its state.
    Running(String),
}

/// A client for questions about the cluster.
pub struct Admin {
    client: Arc<Client>,
    timeout: Duration,
}

impl Admin {
    /// A client with [`admin_settings`](super::admin_settings). Nothing is asked yet.
    pub fn new(settings: &Settings, timeout: Duration) -> Result<Admin, Error> {
        let client = Client::admin(settings.conf()?)?;
        Ok(Admin { client, timeout })
    }

    /// The cluster's id, which no other cluster has. Fails if no broker answers.
    pub fn cluster_id(&self) -> Result<String, Error> {
        self.client
            .cluster_id(self.timeout)
            .with_context(|| format!("no broker answered within {} s", self.timeout.as_secs()))
    }

    /// The topics of these names, or why one can't be had: it's missing, or not for this user. In order.
    pub fn topics(&self, names: &[String]) -> Result<Vec<Result<Topic, Error>>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let described = self
            .client
            .describe_topics(names, self.timeout)
            .with_context(|| format!("can't ask the cluster about {}", names.join(", ")))?;
        Ok(names
            .iter()
            .map(
                |name| match described.iter().find(|(found, _)| found == name) {
                    Some((_, Ok(topic))) => Ok(Topic {
                        name: topic.name.clone(),
                        id: topic.id,
                        partitions: topic.partitions,
                    }),
                    Some((_, Err(failure))) if failure.code == Code::UNKNOWN_TOPIC_OR_PART => Err(
                        anyhow!("there is no topic \"{name}\"; create it, or check the name"),
                    ),
                    Some((_, Err(failure))) => Err(anyhow!("topic \"{name}\": {failure}")),
                    None => Err(anyhow!("the cluster's answer leaves topic \"{name}\" out")),
                },
            )
            .collect())
    }

    /// Kafka's id of a topic; `None` if there's no topic of this name.
    pub fn topic_id(&self, name: &str) -> Result<Option<[u8; 16]>, Error> {
        let described = self
            .client
            .describe_topics(&[name.to_string()], self.timeout)
            .with_context(|| format!("can't ask the cluster for the id of topic \"{name}\""))?;
        match described.into_iter().next() {
            Some((_, Ok(topic))) => Ok(Some(topic.id)),
            Some((_, Err(failure))) if failure.code == Code::UNKNOWN_TOPIC_OR_PART => Ok(None),
            Some((_, Err(failure))) => Err(anyhow!("topic \"{name}\": {failure}")),
            None => Err(anyhow!("the cluster's answer leaves topic \"{name}\" out")),
        }
    }

    /// The `max.message.bytes` of topics, in order: how large the batch of a record may be there. `None` where the cluster
    /// doesn't say, to this user or to anybody.
    pub fn max_message_bytes(&self, topics: &[String]) -> Result<Vec<Option<u64>>, Error> {
        let mut names = topics.to_vec();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let described = self
            .client
            .describe_setting(&names, MAX_MESSAGE_BYTES, self.timeout);
        let described = match described {
            Err(why)
                if why.downcast_ref().map(|it: &Failure| it.code) == Some(Code::UNSUPPORTED) =>
            {
                Vec::new()
            }
            described => described
                .with_context(|| format!("can't ask the cluster about {}", names.join(", ")))?,
        };
        let of = |topic: &String| {
            let (_, setting) = described.iter().find(|(name, _)| name == topic)?;
            match setting {
                Ok(value) => value.as_ref()?.parse().ok(),
                Err(failure) => {
                    tracing::info!(target: "kafka", topic, "can't ask how large records may be: {failure}");
                    None
                }
            }
        };
        Ok(topics.iter().map(of).collect())
    }

    /// The names of all topics that this user may see and that match a pattern, sorted.
    pub fn matching(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let regex = Regex::new(pattern).with_context(|| format!("not a pattern: {pattern}"))?;
        let topics = self
            .client
            .list_topics(self.timeout)
            .context("can't ask the cluster for its topics")?;
        let mut names: Vec<String> = topics
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| regex.is_match(name))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Makes a topic with the broker's default number of replicas. `false` if there is one of this name.
    pub fn create_topic(&self, name: &str, partitions: usize) -> Result<bool, Error> {
        let context = || format!("can't create topic \"{name}\"");
        let partitions = i32::try_from(partitions).with_context(context)?;
        match self
            .client
            .create_topic(name, partitions, -1, self.timeout)
            .with_context(context)?
        {
            Ok(()) => Ok(true),
            Err(failure) if failure.code == Code::TOPIC_ALREADY_EXISTS => Ok(false),
            Err(failure) => Err(Error::from(failure).context(context())),
        }
    }

    /// How many members a group has, in all processes.
    pub fn members(&self, group: &str) -> Result<usize, Error> {
        let context = || format!("can't ask the cluster for the group {group:?}");
        self.client
            .members(group, self.timeout)
            .with_context(context)
    }

    /// Whether a group has members.
    pub fn group_state(&self, group: &str) -> Result<GroupState, Error> {
        let groups = self
            .client
            .list_groups(self.timeout)
            .context("can't ask the cluster for its groups")?;
        Ok(
            match groups.into_iter().find(|found| found.group == group) {
                Some(found) if !found.is_empty => GroupState::Running(found.state),
                _ => GroupState::Stopped,
            },
        )
    }
}

/// A client for a group's offsets, without being a member of it.
pub struct GroupOffsets {
    client: Arc<Client>,
    group: String,
    timeout: Duration,
}

impl GroupOffsets {
    /// A client with [`group_settings`](super::group_settings) for the same group. Nothing is asked yet.
    pub fn new(settings: &Settings, group: &str, timeout: Duration) -> Result<GroupOffsets, Error> {
        Ok(GroupOffsets {
            client: Client::consumer(settings.conf()?)?,
            group: group.to_string(),
            timeout,
        })
    }

    /// The group's committed offset of each partition, in order; `None` if there is none.
    pub fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<u64>>, Error> {
        committed(&self.client, partitions, self.timeout).with_context(|| {
            format!(
                "can't look up the committed offsets of group \"{}\"",
                self.group
            )
        })
    }

    /// The group without a member, for [`Sink::commit`](crate::io::Sink::commit): the cluster takes it while the group
    /// has none.
    pub fn membership(&self) -> Result<Membership, Error> {
        Ok(membership::write(&Member::of_group(&self.group)?))
    }

    /// The offset that `start` means, by now, for each partition, in order. [`Start::Latest`] gives the end of what is
    /// committed: the offset of the next record, or of the first of an open transaction.
    pub fn offsets(&self, partitions: &[TopicPartition], start: Start) -> Result<Vec<u64>, Error> {
        let names: Vec<(&str, i32)> = partitions
            .iter()
            .map(|partition| (&*partition.topic, partition.partition))
            .collect();
        let offsets = look_up(&self.client, &names, start, Instant::now() + self.timeout)?;
        Ok(offsets.iter().map(|&offset| offset.max(0) as u64).collect())
    }

    /// Sets the group's offsets. The cluster refuses while the group has members.
    pub fn alter(&self, offsets: &[(TopicPartition, u64)]) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let list = offset_list(offsets)?;
        commit_and_wait(&self.client, &list, self.timeout).with_context(|| {
            format!(
                "group \"{}\" keeps its offsets; stop every member of it first",
                self.group
            )
        })
    }
}

impl Drop for GroupOffsets {
    fn drop(&mut self) {
        self.client.close_consumer(self.timeout);
    }
}
