//! A pipeline's dead letters, seen from outside: which there are, which were replayed, and how they are.
//!
//! - `filter`: which of them are meant.
//! - `progress`: which were replayed, as their group keeps it.
//! - `replay`: each letter's way, once: `passage` says what would be written, `post` writes it.

mod filter;
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
use crate::kafka::{Admin, Reader, admin_settings, reader_settings};
use crate::letter::{self, Letter};
use crate::record::Batch;

pub use filter::Filter;
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
    partitions: Vec<Partition>,
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
    /// A record that is no dead letter of Weir's.
    Foreign,
}

/// The group that keeps which dead letters of a pipeline were replayed.
pub fn replay_group(pipeline: &config::Pipeline) -> String {
    format!("{}-replay", pipeline.group)
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
        let group = replay_group(pipeline);
        let reader = Reader::new(&reader_settings(&user, &group)?, topic, PATIENCE)?;
        let mut letters = DeadLetters {
            pipeline: pipeline.name.clone(),
            group,
            reader,
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

    /// The partitions, as they were when this was made or last refreshed.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Asks again which letters there are, and which were replayed.
    pub fn refresh(&mut self) -> Result<()> {
        self.look(self.partitions.len())
    }

    fn look(&mut self, partitions: usize) -> Result<()> {
        // The group first: what it says is never beyond an end that is asked for later.
        let committed = self.reader.committed(partitions)?;
        let bounds = self.reader.bounds(partitions)?;
        let topic = self.reader.topic().clone();
        let mut looked = Vec::with_capacity(partitions);
        for (number, (offsets, noted)) in bounds.into_iter().zip(committed).enumerate() {
            let progress = match noted {
                None => Progress::default(),
                Some(noted) => Progress::read(noted.offset, &noted.note).with_context(|| {
                    format!(
                        "what group {:?} has noted of {topic}/{number} can't be read",
                        self.group
                    )
                })?,
            };
            ensure!(
                progress.offset() <= offsets.end,
                "group {:?} has replayed {topic}/{number} up to offset {}, and it ends at {}: the topic was made anew; \
                 delete the group's offsets (`kafka-consumer-groups --delete-offsets`)",
                self.group,
                progress.offset(),
                offsets.end
            );
            looked.push(Partition { offsets, progress });
        }
        self.partitions = looked;
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
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
        self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + headers.sum::<usize>()
    }
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
        return Found::Foreign;
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
