//! A pipeline's dead letters, seen from outside: which there are, which were replayed, and how they are.
//!
//! - `filter`: which of them are meant.
//! - `progress`: which were replayed, as their group keeps it; `mark`, as the topic itself does.
//! - `replay`: each letter's way, once: `passage` says what would be written, `post` writes it.

mod filter;
mod mark;
mod passage;
mod post;
mod progress;
mod replay;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster;
use crate::config;
use crate::io::ReadLimit;
use crate::kafka::{Admin, Noted, Reader, admin_settings, reader_settings};
use crate::letter::{self, Letter};
use crate::record::Batch;

pub use filter::Filter;
pub use mark::Mark;
pub use passage::{Back, Failure, Fate, Passage, Through};
pub use post::Post;
pub use progress::Progress;
pub use replay::{Job, Report, Seen, replay};

/// How long to wait for the next records.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is read at once.
const AT_ONCE: ReadLimit = ReadLimit {
    records: 500,
    bytes: 4 << 20,
};

/// A pipeline's dead letter topic.
pub struct DeadLetters {
    pipeline: String,
    group: String,
    reader: Reader,
    topic_id: [u8; 16],
    partitions: Vec<Looked>,
}

/// What was asked about a partition.
struct Looked {
    offsets: Range<u64>,
    /// As the group has it, or as the last mark does; `None` until marks were looked for.
    progress: Option<Progress>,
}

/// One partition of a dead letter topic.
#[derive(Clone, Debug)]
pub struct Partition {
    /// From the first offset to the end, as of now.
    pub offsets: Range<u64>,
    /// Which letters were replayed.
    pub progress: Progress,
}

/// A dead letter, with the record that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its partition in the dead letter topic.
    pub partition: i32,
    /// Its offset there.
    pub offset: u64,
    /// What it says.
    pub letter: Letter,
    /// The record's key; null isn't empty.
    pub key: Option<Vec<u8>>,
    /// The record's value; null isn't empty.
    pub value: Option<Vec<u8>>,
    /// The record's own headers, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds since 1970-01-01T00:00:00Z, or -1.
    pub timestamp: i64,
}

/// What stands in a dead letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A letter of this pipeline.
    Letter(Box<Entry>),
    /// A letter of another pipeline, whose name this is.
    Others(String),
    /// What a replay left, this pipeline's or another's.
    Mark(Mark),
    /// A record that is neither.
    Foreign,
}

impl DeadLetters {
    /// The dead letters that there are by now of a pipeline that has a dead letter topic.
    pub fn open(pipeline: &config::Pipeline) -> Result<DeadLetters> {
        let topic = pipeline.dead_letter.as_deref().with_context(|| {
            format!("pipeline {:?} has no \"dead_letter\" topic", pipeline.name)
        })?;
        // They are written by the pipeline's producer, which may have a cluster of its own.
        let user = cluster::pairs(&pipeline.producer);
        let admin = Admin::new(&admin_settings(&user)?, cluster::TIMEOUT)?;
        let found = admin.topics(&[topic.to_string()])?;
        let found = found.into_iter().next().context("no answer")??;
        let group = pipeline.replay_group();
        let reader = Reader::new(&reader_settings(&user, &group)?, topic, PATIENCE)?;
        let mut letters = DeadLetters {
            pipeline: pipeline.name.clone(),
            group,
            reader,
            topic_id: found.id,
            partitions: Vec::new(),
        };
        letters.look(found.partitions)?;
        Ok(letters)
    }

    /// The dead letter topic.
    pub fn topic(&self) -> &Arc<str> {
        self.reader.topic()
    }

    /// The group that keeps which were replayed.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// How many partitions the topic had when this was made.
    pub fn partitions(&self) -> i32 {
        self.partitions.len() as i32
    }

    /// A partition, one of [`partitions`](DeadLetters::partitions), as it was when this was made or last refreshed. If its
    /// group has no offset, all of it is read to find what the last replay left.
    pub fn partition(&mut self, number: i32) -> Result<Partition> {
        let looked = &self.partitions[number as usize];
        let offsets = looked.offsets.clone();
        let progress = match &looked.progress {
            Some(progress) => progress.clone(),
            None => {
                let progress = self.last_mark(number, offsets.clone())?;
                self.check(number, &offsets, &progress)?;
                self.partitions[number as usize].progress = Some(progress.clone());
                progress
            }
        };
        Ok(Partition { offsets, progress })
    }

    /// Asks again which letters there are, and which were replayed.
    pub fn refresh(&mut self) -> Result<()> {
        self.look(self.partitions.len())
    }

    fn look(&mut self, partitions: usize) -> Result<()> {
        // The group first: what it says is never beyond an end that is asked for later.
        let committed = self.reader.committed(partitions)?;
        let bounds = self.reader.bounds(partitions)?;
        let mut looked = Vec::with_capacity(partitions);
        for (number, (offsets, noted)) in bounds.into_iter().zip(committed).enumerate() {
            let read = |it: Noted| Progress::read(it.offset, &it.note);
            let progress = noted.map(read).transpose().with_context(|| {
                format!(
                    "what group {:?} has noted of {}/{number} can't be read",
                    self.group,
                    self.topic()
                )
            })?;
            if let Some(progress) = &progress {
                self.check(number as i32, &offsets, progress)?;
            }
            looked.push(Looked { offsets, progress });
        }
        self.partitions = looked;
        Ok(())
    }

    /// What the last replay left in a partition; nothing was replayed if there's no mark.
    fn last_mark(&mut self, partition: i32, offsets: Range<u64>) -> Result<Progress> {
        let (group, topic_id) = (self.group.clone(), self.topic_id);
        let topic = self.topic().clone();
        let mut last = Progress::default();
        let visit = &mut |offset, found| {
            if let Found::Mark(mark) = found {
                let progress = mark.progress(&group, &topic_id).with_context(|| {
                    format!("the mark of a replay in {topic} at {partition}:{offset} can't be read")
                })?;
                if let Some(progress) = progress {
                    last = progress;
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        let _ = self.scan(partition, offsets, visit)?;
        Ok(last)
    }

    fn check(&self, partition: i32, offsets: &Range<u64>, progress: &Progress) -> Result<()> {
        ensure!(
            progress.offset() <= offsets.end,
            "group {:?} has replayed {}/{partition} up to offset {}, and it ends at {}: the topic was made anew; \
             delete the group's offsets (`kafka-consumer-groups --delete-offsets`)",
            self.group,
            self.topic(),
            progress.offset(),
            offsets.end
        );
        Ok(())
    }

    /// Reads a stretch of a partition, and shows what is there, with its offset, until `visit` has seen enough.
    pub fn scan(
        &mut self,
        partition: i32,
        offsets: Range<u64>,
        visit: &mut dyn FnMut(u64, Found) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut reading = self.reader.read(partition, offsets)?;
        while let Some(batch) = reading.next(AT_ONCE)? {
            let starts = batch.headers.starts(batch.len());
            for index in 0..batch.len() {
                let headers = starts[index] as usize..starts[index + 1] as usize;
                let found = find(&batch, index, headers, &self.pipeline);
                if visit(batch.offsets[index], found)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Entry {
    /// How often the record was replayed before: as the letter says, and as its own last header says that a replay to its
    /// topic left.
    pub fn replays(&self) -> u32 {
        let own = self.headers.last().and_then(sent_back).unwrap_or(0);
        self.letter.replays.saturating_add(own)
    }

    /// The headers that a replay to the record's topic sends it with: its own, and how often it was replayed with that.
    pub fn headers_to_send_back(&self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut headers = self.headers.clone();
        if headers.last().and_then(sent_back).is_some() {
            headers.pop();
        }
        let replays = self.replays().saturating_add(1).to_string();
        headers.push((letter::REPLAYS.into(), Some(replays.into())));
        headers
    }

    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        content_bytes(&self.key, &self.value, &self.headers)
    }
}

/// Bytes of key, value and headers.
fn content_bytes(
    key: &Option<Vec<u8>>,
    value: &Option<Vec<u8>>,
    headers: &[(Vec<u8>, Option<Vec<u8>>)],
) -> usize {
    let length = |it: &Option<Vec<u8>>| it.as_ref().map_or(0, Vec::len);
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| name.len() + length(value));
    length(key) + length(value) + headers.sum::<usize>()
}

/// What a replay to the record's topic counted.
fn sent_back((name, value): &(Vec<u8>, Option<Vec<u8>>)) -> Option<u32> {
    let value = value
        .as_ref()
        .filter(|_| name == letter::REPLAYS.as_bytes());
    std::str::from_utf8(value?).ok()?.parse().ok()
}

fn find(batch: &Batch, index: usize, headers: Range<usize>, pipeline: &str) -> Found {
    let headers: Vec<(&[u8], Option<&[u8]>)> = batch.headers.range(headers).collect();
    let Some((letter, own)) = Letter::read(&headers) else {
        let mark = Mark::read(&headers, batch.values.get(index));
        return mark.map_or(Found::Foreign, Found::Mark);
    };
    if letter.pipeline != pipeline {
        return Found::Others(letter.pipeline);
    }
    Found::Letter(Box::new(Entry {
        partition: batch.partition,
        offset: batch.offsets[index],
        letter,
        key: batch.keys.get(index).map(<[u8]>::to_vec),
        value: batch.values.get(index).map(<[u8]>::to_vec),
        headers: headers[..own]
            .iter()
            .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
            .collect(),
        timestamp: batch.timestamps[index],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::Class;

    pub(super) fn entry(headers: &[(&str, Option<&str>)], replays: u32) -> Entry {
        let own = |(name, value): &(&str, Option<&str>)| {
            (name.as_bytes().to_vec(), value.map(|it| it.into()))
        };
        Entry {
            partition: 0,
            offset: 0,
            letter: Letter {
                reason: String::new(),
                class: Class::Refused,
                pipeline: String::new(),
                transform: None,
                topic: String::new(),
                partition: 0,
                offset: 0,
                time: 0,
                replays,
            },
            key: None,
            value: None,
            headers: headers.iter().map(own).collect(),
            timestamp: 0,
        }
    }

    #[test]
    fn replays_of_both_kinds_count() {
        let counted = (letter::REPLAYS.as_bytes().to_vec(), Some(b"1".to_vec()));
        assert_eq!(entry(&[], 0).headers_to_send_back(), [counted]);
        let back = entry(&[("a", None), ("weir.replays", Some("2"))], 1);
        assert_eq!(back.replays(), 3);
        let headers = back.headers_to_send_back();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[1].1.as_deref(), Some(&b"4"[..]));
        // Only the last header is Weir's.
        let own = entry(&[("weir.replays", Some("2")), ("a", None)], 0);
        assert_eq!(own.replays(), 0);
        assert_eq!(own.headers_to_send_back().len(), 3);
        assert_eq!(entry(&[("weir.replays", Some("x"))], 0).replays(), 0);
    }
}
