//! What a replay leaves in the dead letter topic itself: which letters of a partition were replayed by then.
//!
//! The brokers forget the offsets of a group without members in time (`offsets.retention.minutes`, a week unless they're
//! told otherwise), and letters may well stay for longer. A mark is written to the partition that it's about, in the
//! transaction that commits the group's offset: it lies behind all letters that it says were replayed, so that no retention
//! removes it before them.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::passage::Parcel;
use super::progress::Progress;

/// The header that a mark is known by: the group that the progress is of.
const REPLAYED: &str = "weir.replayed";

/// A mark in a dead letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    group: String,
    value: Vec<u8>,
}

/// A mark's value, as JSON.
#[derive(Debug, Deserialize, Serialize)]
struct Content {
    /// Kafka's id of the topic, as its own tools show it: offsets mean nothing in a copy of the topic.
    topic_id: String,
    /// [`Progress::offset`]
    offset: u64,
    /// [`Progress::note`]
    note: String,
}

impl Mark {
    /// The mark that a record is, if it is one.
    pub(super) fn read(headers: &[(&[u8], Option<&[u8]>)], value: Option<&[u8]>) -> Option<Mark> {
        let [(name, Some(group))] = headers else {
            return None;
        };
        (*name == REPLAYED.as_bytes()).then_some(())?;
        Some(Mark {
            group: String::from_utf8(group.to_vec()).ok()?,
            value: value?.to_vec(),
        })
    }

    /// Which letters it says were replayed, if it's of this group, and was written to this very topic.
    pub(super) fn progress(&self, group: &str, topic_id: &[u8; 16]) -> Result<Option<Progress>> {
        if self.group != group {
            return Ok(None);
        }
        let content: Content =
            serde_json::from_slice(&self.value).context("it isn't a mark's JSON")?;
        if content.topic_id != URL_SAFE_NO_PAD.encode(topic_id) {
            return Ok(None);
        }
        Progress::read(content.offset, &content.note).map(Some)
    }
}

/// The record of a mark, for a partition of the dead letter topic, which is output number `output`.
pub(super) fn parcel(
    output: usize,
    partition: i32,
    group: &str,
    topic_id: &[u8; 16],
    progress: &Progress,
    now: i64,
) -> Result<Parcel> {
    let content = Content {
        topic_id: URL_SAFE_NO_PAD.encode(topic_id),
        offset: progress.offset(),
        note: progress.note(),
    };
    Ok(Parcel {
        output,
        partition: Some(partition),
        // A topic that is compacted keeps the last one.
        key: Some(group.into()),
        value: Some(serde_json::to_vec(&content)?),
        timestamp: now,
        headers: vec![(REPLAYED.into(), Some(group.into()))],
        appended: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [7; 16];

    #[test]
    fn a_mark_is_for_its_group_and_topic() {
        let progress = Progress::read(10, "1.A8gB").unwrap();
        let parcel = parcel(2, 3, "stocks-replay", &ID, &progress, 5).unwrap();
        assert_eq!((parcel.output, parcel.partition), (2, Some(3)));
        let headers: Vec<(&[u8], Option<&[u8]>)> = parcel
            .headers
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_deref()))
            .collect();
        let mark = Mark::read(&headers, parcel.value.as_deref()).unwrap();
        let of = |group, id| mark.progress(group, id).unwrap();
        assert_eq!(of("stocks-replay", &ID), Some(progress));
        assert_eq!(of("bets-replay", &ID), None);
        assert_eq!(of("stocks-replay", &[8; 16]), None);
        // Neither a letter with such a header nor a tombstone is one.
        let both = [headers[0], headers[0]];
        assert_eq!(Mark::read(&both, parcel.value.as_deref()), None);
        assert_eq!(Mark::read(&headers, None), None);
        let damaged = Mark::read(&headers, Some(b"{}")).unwrap();
        assert!(damaged.progress("stocks-replay", &ID).is_err());
        assert_eq!(damaged.progress("bets-replay", &ID).unwrap(), None);
    }
}
