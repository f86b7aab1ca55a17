//! What was done to a pipeline, by whom and with what outcome: a line for each, for people and their tools.

use std::io::Write;
use std::os::unix::fs::FileExt;

use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::by::By;
use super::folder::Folder;
use crate::guest::Digest;

pub(super) const FILE: &str = "audit.jsonl";
pub(super) const OLD_FILE: &str = "audit.1.jsonl";

/// The two files together take twice as much at most.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Something that was done, or tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// When.
    pub time: DateTime<Utc>,
    /// What, such as `swap`.
    pub action: String,
    /// To which pipeline.
    pub pipeline: String,
    /// To which of its transforms, if to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<String>,
    /// The number of the version that it's about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The SHA-256 of that version's module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// Who did it.
    pub by: By,
    /// What they said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What came of it: `done`, or why not.
    pub outcome: String,
}

/// Writes it down for good. A line that a crash left unfinished ends before it.
pub(super) fn append(folder: &Folder, entry: &Entry) -> Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let mut file = folder.append(FILE)?;
    let mut length = file.metadata()?.len();
    if length > 0 && length + line.len() as u64 > MAX_BYTES {
        folder.rename(FILE, OLD_FILE)?;
        file = folder.append(FILE)?;
        length = 0;
    }
    if length > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, length - 1)?;
        if last != *b"\n" {
            line.insert(0, b'\n');
        }
    }
    file.write_all(&line)?;
    file.sync_all()?;
    if length == 0 {
        folder.sync()?;
    }
    Ok(())
}
