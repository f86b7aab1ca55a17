//! The way of letters through a pipeline's chain, or back to their topics: what would be written, and nothing is.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use chrono::Utc;

use super::{Entry, content_bytes};
use crate::chain::{Chain, IdKeys, Processed, Unprocessed, Version};
use crate::cluster::{self, Cluster, Topic};
use crate::config::{self, Partitioning, Policy};
use crate::guest::{Level, Log};
use crate::io::ReadLimit;
use crate::kafka::{Admin, admin_settings};
use crate::letter::{Class, Letter};
use crate::record::{Batch, Headers, TimestampType};

/// A record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Which of the topics, by index; the dead letter topic comes after them.
    pub output: usize,
    /// The partition to write to, or `None` for the partitioner's choice by key.
    pub partition: Option<i32>,
    /// The key; null isn't empty.
    pub key: Option<Vec<u8>>,
    /// The value; null isn't empty.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970-01-01T00:00:00Z, or -1.
    pub timestamp: i64,
    /// The headers in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Headers that stand after these: a dead letter's.
    pub appended: Vec<(&'static str, String)>,
}

/// How a record failed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub class: Class,
    /// The transform and its module's digest; `None` if Kafka doesn't take what came of the record.
    pub transform: Option<(String, String)>,
    /// Why.
    pub reason: String,
}

/// What becomes of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// So many records come of it; none, if the chain drops it.
    Out(usize),
    /// It goes back to its topic.
    Back,
    /// It fails again, and becomes a dead letter again.
    Again(Failure),
    /// It fails again, and is passed over by policy.
    Skipped(Failure),
    /// It can't be replayed, and stays as it is.
    Left(String),
    /// It fails again, and by policy the replay ends before it.
    Halt(Failure),
}

/// What becomes of a letter, and what's written for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of it.
    pub fate: Fate,
    /// What's written.
    pub parcels: Vec<Parcel>,
}

impl Outcome {
    /// Bytes of what's written.
    fn bytes(&self) -> usize {
        let parcels = self.parcels.iter();
        let bytes = |it: &Parcel| content_bytes(&it.key, &it.value, &it.headers);
        parcels.map(bytes).sum()
    }
}

/// Where letters go.
pub enum Passage {
    /// Through the chain to the outputs.
    Chain(Box<Through>),
    /// Back to the topics that they came from.
    Back(Back),
}

impl Passage {
    /// The topics to write to, the dead letter topic last.
    pub fn topics(&self, pipeline: &config::Pipeline) -> Vec<String> {
        let mut topics: Vec<String> = match self {
            Passage::Chain(_) => pipeline.outputs.iter().map(|it| it.topic.clone()).collect(),
            Passage::Back(back) => back.topics.iter().map(|it| it.name.clone()).collect(),
        };
        topics.extend(pipeline.dead_letter.clone());
        topics
    }

    /// What becomes of letters of one partition of the dead letter topic, in order: one outcome for each, until they come to
    /// `OUT_BYTES`. Those that are left are for the next call.
    pub fn pass(&mut self, entries: &[Entry]) -> Result<Vec<Outcome>> {
        match self {
            Passage::Chain(through) => through.pass(entries),
            Passage::Back(back) => Ok(entries.iter().map(|it| back.outcome(it)).collect()),
        }
    }

    /// The outcome of a letter that fails like this.
    pub fn again(&self, entry: &Entry, failure: Failure) -> Outcome {
        let dead_letters = match self {
            Passage::Chain(through) => through.outputs.len(),
            Passage::Back(back) => back.topics.len(),
        };
        again(entry, failure, dead_letters)
    }
}

/// Bytes that come of letters at which no more of them are passed on at once. One call of a guest may bring more.
const OUT_BYTES: usize = 4 << 20;

/// The way through a chain.
pub struct Through {
    chain: Chain,
    /// The id of the cluster that it reads from.
    cluster: String,
    rules: Vec<Rule>,
    /// For each output whether a record keeps the number of its partition.
    outputs: Vec<bool>,
    /// What goes into a guest at once.
    limit: ReadLimit,
    topics: Admin,
    topic_ids: HashMap<String, [u8; 16]>,
    keys: HashMap<(String, i32), IdKeys>,
    /// Of the next letters, those that broke a guest with others, and go alone.
    alone: usize,
}

/// What came of letters so far.
#[derive(Default)]
struct Passed {
    outcomes: Vec<Outcome>,
    bytes: usize,
}

impl Passed {
    fn add(&mut self, outcomes: Vec<Outcome>) {
        self.bytes += outcomes.iter().map(Outcome::bytes).sum::<usize>();
        self.outcomes.extend(outcomes);
    }

    fn is_full(&self) -> bool {
        self.bytes >= OUT_BYTES
    }
}

struct Rule {
    on_refused: Policy,
    on_broken: Policy,
    retries: u32,
}

impl Through {
    /// A chain of these versions, on the cluster of this id.
    pub fn new(
        pipeline: &config::Pipeline,
        versions: &[Arc<Version>],
        cluster: &str,
    ) -> Result<Through> {
        let rule = |it: &config::Transform| Rule {
            on_refused: it.on_refused,
            on_broken: it.on_broken,
            retries: it.retries,
        };
        let user = cluster::pairs(&pipeline.consumer);
        Ok(Through {
            chain: Chain::new(versions)?,
            cluster: cluster.to_string(),
            rules: pipeline.transforms.iter().map(rule).collect(),
            outputs: pipeline
                .outputs
                .iter()
                .map(|it| it.partition == Partitioning::Same)
                .collect(),
            limit: ReadLimit {
                records: pipeline.batch.records,
                bytes: pipeline.batch.bytes.as_usize(),
            },
            topics: Admin::new(&admin_settings(&user)?, cluster::TIMEOUT)?,
            topic_ids: HashMap::new(),
            keys: HashMap::new(),
            alone: 0,
        })
    }

    fn pass(&mut self, entries: &[Entry]) -> Result<Vec<Outcome>> {
        let mut passed = Passed::default();
        let alone = self.alone.min(entries.len());
        let (broke, rest) = entries.split_at(alone);
        self.one_by_one(broke, &mut passed)?;
        for range in batches(rest, self.limit) {
            if passed.is_full() {
                break;
            }
            let entries = &rest[range];
            self.prepare(&entries[0].letter)?;
            match entries.len() {
                1 => self.one_by_one(entries, &mut passed)?,
                _ => match self.attempt(entries)? {
                    Ok(outcomes) => passed.add(outcomes),
                    // Each alone, so that only who breaks the guest suffers.
                    Err(_) => self.one_by_one(entries, &mut passed)?,
                },
            }
        }
        Ok(passed.outcomes)
    }

    /// Letters by themselves, until there's enough of what came of them.
    fn one_by_one(&mut self, entries: &[Entry], passed: &mut Passed) -> Result<()> {
        self.alone = entries.len();
        for entry in entries {
            if passed.is_full() {
                break;
            }
            let outcome = self.alone(entry)?;
            passed.add(vec![outcome]);
            self.alone -= 1;
        }
        Ok(())
    }

    /// Has the keys that the ids of a letter's partition are drawn from.
    fn prepare(&mut self, letter: &Letter) -> Result<()> {
        let place = (letter.topic.clone(), letter.partition);
        if self.keys.contains_key(&place) {
            return Ok(());
        }
        let id = match self.topic_ids.get(&letter.topic) {
            Some(id) => *id,
            None => {
                let id = self.topics.topic_id(&letter.topic)?;
                if id.is_none() {
                    tracing::warn!(
                        topic = letter.topic,
                        "the topic that letters came from is gone: their stable ids aren't those they'd have had"
                    );
                }
                // All zeros where Kafka doesn't say, for a worker too.
                *self
                    .topic_ids
                    .entry(letter.topic.clone())
                    .or_insert(id.unwrap_or_default())
            }
        };
        let keys = self
            .chain
            .id_keys(&self.cluster, &id, &letter.topic, letter.partition);
        self.keys.insert(place, keys);
        Ok(())
    }

    /// A letter by itself. One that breaks its guest is tried again, as often as its transform says.
    fn alone(&mut self, entry: &Entry) -> Result<Outcome> {
        let mut tries = 0;
        loop {
            let (step, failure) = match self.attempt(std::slice::from_ref(entry))? {
                Ok(mut outcomes) => match outcomes.pop() {
                    Some(outcome) => return Ok(outcome),
                    None => continue,
                },
                Err(broken) => broken,
            };
            if tries >= self.rules.get(step).map_or(0, |it| it.retries) {
                return Ok(self.failed(entry, Some(step), failure));
            }
            tries += 1;
        }
    }

    /// Passes letters of one source partition, whose offsets increase, through the chain; or says which step's guest broke,
    /// and how. An error is the host's.
    fn attempt(&mut self, entries: &[Entry]) -> Result<Result<Vec<Outcome>, (usize, Failure)>> {
        let input = batch(entries);
        let keys = &self.keys[&(input.topic.to_string(), input.partition)];
        let processed = match self.chain.run(&input, 0, keys, &mut report) {
            Ok(processed) => processed,
            Err(Unprocessed::Host(cause)) => return Err(cause),
            Err(Unprocessed::Broken(broken)) => {
                let failure = Failure {
                    class: broken.fault.class(),
                    transform: self.named(broken.step),
                    reason: broken.fault.to_string(),
                };
                return Ok(Err((broken.step, failure)));
            }
        };
        Ok(Ok(self.outcomes(entries, &input, processed)))
    }

    fn outcomes(&self, entries: &[Entry], input: &Batch, mut processed: Processed) -> Vec<Outcome> {
        let failed = std::mem::take(&mut processed.failed);
        let records = processed.records(input);
        let starts = records.headers.starts(records.len());
        let mut next = 0;
        let outcome = |entry: &Entry| {
            let offset = entry.letter.offset;
            if let Ok(at) = failed.binary_search_by_key(&offset, |it| it.offset) {
                let failed = &failed[at];
                let failure = Failure {
                    class: failed.class,
                    transform: failed.step.and_then(|step| self.named(step)),
                    reason: failed.reason.clone(),
                };
                return self.failed(entry, failed.step, failure);
            }
            let mut parcels = Vec::new();
            while next < records.len() && records.offsets[next] == offset {
                let headers = starts[next] as usize..starts[next + 1] as usize;
                parcels.push(self.parcel(&records, next, headers));
                next += 1;
            }
            Outcome {
                fate: Fate::Out(parcels.len()),
                parcels,
            }
        };
        entries.iter().map(outcome).collect()
    }

    fn parcel(&self, records: &Batch, index: usize, headers: Range<usize>) -> Parcel {
        let output = records.outputs.get(index).map_or(0, |&it| it as usize);
        let same = self.outputs.get(output).is_some_and(|&it| it);
        Parcel {
            output,
            partition: same.then_some(records.partition),
            key: records.keys.get(index).map(<[u8]>::to_vec),
            value: records.values.get(index).map(<[u8]>::to_vec),
            timestamp: records.timestamps[index],
            headers: records
                .headers
                .range(headers)
                .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
                .collect(),
            appended: Vec::new(),
        }
    }

    fn failed(&self, entry: &Entry, step: Option<usize>, failure: Failure) -> Outcome {
        let rule = step.and_then(|step| self.rules.get(step));
        let policy = match (rule, failure.class) {
            (None, _) => Policy::DeadLetter,
            (Some(rule), Class::Refused) => rule.on_refused,
            (Some(rule), _) => rule.on_broken,
        };
        let nothing = |fate| Outcome {
            fate,
            parcels: Vec::new(),
        };
        match policy {
            Policy::DeadLetter => again(entry, failure, self.outputs.len()),
            Policy::Skip => nothing(Fate::Skipped(failure)),
            Policy::Stop => nothing(Fate::Halt(failure)),
        }
    }

    fn named(&self, step: usize) -> Option<(String, String)> {
        let version = self.chain.versions().nth(step)?;
        Some((
            version.transform.clone(),
            version.module.digest().to_string(),
        ))
    }
}

/// The way back to the topics that letters came from.
pub struct Back {
    topics: Vec<Topic>,
}

impl Back {
    /// To the input topics of a pipeline. Fails if they are on another cluster than its dead letters, since no transaction
    /// spans two.
    pub fn new(pipeline: &config::Pipeline, cluster: &Cluster) -> Result<Back> {
        let user = cluster::pairs(&pipeline.producer);
        let admin = Admin::new(&admin_settings(&user)?, cluster::TIMEOUT)?;
        let id = admin.cluster_id().context("the producer's cluster")?;
        anyhow::ensure!(
            id == cluster.id,
            "the dead letters of pipeline {:?} are on another cluster than its inputs, and can't be written back in one transaction",
            pipeline.name
        );
        Ok(Back {
            topics: cluster.inputs.clone(),
        })
    }

    fn outcome(&self, entry: &Entry) -> Outcome {
        let Letter {
            topic, partition, ..
        } = &entry.letter;
        let left = |why: String| Outcome {
            fate: Fate::Left(why),
            parcels: Vec::new(),
        };
        let Some(output) = self.topics.iter().position(|it| it.name == *topic) else {
            return left(format!("{topic} is no input of the pipeline (any more)"));
        };
        if *partition as usize >= self.topics[output].partitions {
            return left(format!("{topic} has no partition {partition} (any more)"));
        }
        let parcel = Parcel {
            output,
            partition: Some(*partition),
            key: entry.key.clone(),
            value: entry.value.clone(),
            timestamp: entry.timestamp,
            headers: entry.headers_to_send_back(),
            appended: Vec::new(),
        };
        Outcome {
            fate: Fate::Back,
            parcels: vec![parcel],
        }
    }
}

/// A letter that becomes a dead letter again: as it was, but for what it says of the failure.
fn again(entry: &Entry, failure: Failure, dead_letters: usize) -> Outcome {
    let letter = Letter {
        reason: failure.reason.clone(),
        class: failure.class,
        transform: failure.transform.clone(),
        time: Utc::now().timestamp_millis(),
        replays: entry.letter.replays.saturating_add(1),
        ..entry.letter.clone()
    };
    let parcel = Parcel {
        output: dead_letters,
        partition: None,
        key: entry.key.clone(),
        value: entry.value.clone(),
        timestamp: entry.timestamp,
        headers: entry.headers.clone(),
        appended: letter.headers(),
    };
    Outcome {
        fate: Fate::Again(failure),
        parcels: vec![parcel],
    }
}

/// Letters that go into the chain together: neighbours of one source partition, whose offsets increase there.
fn batches(entries: &[Entry], limit: ReadLimit) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (index, entry) in entries.iter().enumerate() {
        bytes += entry.bytes();
        let goes_on = index > 0 && {
            let (before, letter) = (&entries[index - 1].letter, &entry.letter);
            before.topic == letter.topic
                && before.partition == letter.partition
                && before.offset < letter.offset
        };
        match batches.last_mut() {
            Some(last) if goes_on && last.len() < limit.records && bytes <= limit.bytes => {
                last.end = index + 1;
            }
            _ => {
                bytes = entry.bytes();
                batches.push(index..index + 1);
            }
        }
    }
    batches
}

/// Letters of one source partition as the batch that they would have come in.
fn batch(entries: &[Entry]) -> Batch {
    let first = &entries[0].letter;
    let mut batch = Batch::new(first.topic.as_str().into(), first.partition);
    let mut headers = Headers::default();
    for (index, entry) in entries.iter().enumerate() {
        let own = entry.headers.iter();
        headers.push_record(
            index,
            own.map(|(name, value)| (name.as_slice(), value.as_deref())),
        );
        batch.keys.push(entry.key.as_deref());
        batch.values.push(entry.value.as_deref());
        batch.timestamps.push(entry.timestamp);
        batch.offsets.push(entry.letter.offset);
    }
    batch.headers = headers;
    if batch.timestamps.contains(&-1) {
        let kind = |&it: &i64| match it {
            -1 => TimestampType::NotAvailable,
            _ => TimestampType::CreateTime,
        };
        batch.timestamp_types = batch.timestamps.iter().map(kind).collect();
    }
    batch
}

/// A guest's line, in the log.
fn report(version: &Version, offset: u64, line: &Log) {
    let (transform, text) = (&version.transform, &line.message);
    match line.level {
        Level::Error => tracing::error!(target: "weir::guest", transform, offset, "{text}"),
        Level::Warn => tracing::warn!(target: "weir::guest", transform, offset, "{text}"),
        _ => tracing::debug!(target: "weir::guest", transform, offset, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::*;

    fn from(topic: &str, partition: i32, offset: u64) -> Entry {
        let mut entry = entry(&[], 0);
        entry.value = Some(vec![0; 10]);
        entry.letter.topic = topic.into();
        (entry.letter.partition, entry.letter.offset) = (partition, offset);
        entry
    }

    #[test]
    fn neighbours_go_together() {
        let entries = [
            from("a", 0, 1),
            from("a", 0, 5),
            from("a", 0, 6),
            // Again, and then back: a replay's own dead letters, or an at-least-once worker's.
            from("a", 0, 6),
            from("a", 0, 2),
            from("a", 1, 3),
            from("b", 1, 4),
            from("b", 1, 5),
        ];
        let limit = |records, bytes| ReadLimit { records, bytes };
        assert_eq!(
            batches(&entries, limit(100, 1_000)),
            [0..3, 3..4, 4..5, 5..6, 6..8]
        );
        assert_eq!(batches(&entries[..3], limit(2, 1_000)), [0..2, 2..3]);
        assert_eq!(batches(&entries[..3], limit(100, 20)), [0..2, 2..3]);
        assert_eq!(batches(&entries[..2], limit(100, 1)), [0..1, 1..2]);
        assert!(batches(&[], limit(1, 1)).is_empty());
    }

    #[test]
    fn a_letter_fails_again_as_it_was() {
        let mut first = from("a", 2, 7);
        first.headers = vec![(b"h".to_vec(), None)];
        first.letter.replays = 1;
        let failure = Failure {
            class: Class::Trap,
            transform: Some(("date".into(), "ab".into())),
            reason: "it trapped".into(),
        };
        let outcome = again(&first, failure.clone(), 3);
        assert_eq!(outcome.fate, Fate::Again(failure));
        let [parcel] = &outcome.parcels[..] else {
            panic!("{outcome:?}");
        };
        assert_eq!((parcel.output, parcel.partition), (3, None));
        assert_eq!(
            (&parcel.value, &parcel.headers),
            (&first.value, &first.headers)
        );
        let appended: Vec<(&[u8], Option<&[u8]>)> = parcel
            .appended
            .iter()
            .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())))
            .collect();
        let (letter, own) = Letter::read(&appended).unwrap();
        assert_eq!(own, 0);
        assert_eq!(
            (
                letter.class,
                letter.replays,
                letter.partition,
                letter.offset
            ),
            (Class::Trap, 2, 2, 7)
        );
        assert_eq!(letter.transform.unwrap().0, "date");
    }

    #[test]
    fn what_has_nowhere_to_go_back_to_stays() {
        let topic = Topic {
            name: "a".into(),
            id: [0; 16],
            partitions: 3,
        };
        let back = Back {
            topics: vec![topic],
        };
        let outcome = back.outcome(&from("a", 2, 7));
        assert_eq!(outcome.fate, Fate::Back);
        assert_eq!(outcome.parcels[0].partition, Some(2));
        let headers = &outcome.parcels[0].headers;
        assert_eq!(headers[0], (b"weir.replays".to_vec(), Some(b"1".to_vec())));
        for nowhere in [from("a", 3, 7), from("b", 0, 7)] {
            let outcome = back.outcome(&nowhere);
            assert!(matches!(outcome.fate, Fate::Left(_)), "{outcome:?}");
            assert!(outcome.parcels.is_empty());
        }
    }
}
