//! What's kept of a pipeline, and how it's written.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::by::By;
use super::history::History;
use crate::guest::Digest;

/// The format that's written, and the newest that's read. Within a format only fields are added, which a Weir that
/// doesn't know them passes over.
pub const FORMAT: u64 = 1;

/// A pipeline's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// How it's written: [`FORMAT`].
    pub format: u64,
    /// That it's paused, so that it stays so after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The versions of each transform, by its name.
    #[serde(default)]
    pub transforms: BTreeMap<String, History>,
}

/// What every format has.
#[derive(Deserialize)]
struct Head {
    format: u64,
}

const BROKEN: &str =
    "it's broken; restore the file, or move it away to start with what the config file says";

/// That a pipeline is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Paused {
    /// Since when.
    pub since: DateTime<Utc>,
    /// By whom.
    pub by: By,
}

impl Default for Record {
    fn default() -> Record {
        Record {
            format: FORMAT,
            paused: None,
            transforms: BTreeMap::new(),
        }
    }
}

impl Record {
    /// The modules that it names.
    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.transforms.values().flat_map(|history| {
            let versions = history.versions.iter().map(|it| &it.content);
            versions.chain(&history.file).map(|it| it.digest)
        })
    }

    /// Fails on what it doesn't understand as a whole, and says what to do about it.
    pub(super) fn read(text: &[u8]) -> Result<Record> {
        let Head { format } = serde_json::from_slice(text).context(BROKEN)?;
        ensure!(
            format <= FORMAT,
            "it has format {format}, and this Weir reads {FORMAT} at most; run the Weir that wrote it, or move the file away to start with what the config file says"
        );
        let record: Record = serde_json::from_slice(text).context(BROKEN)?;
        record.check().context(BROKEN)?;
        Ok(record)
    }

    /// Fails on what couldn't be read again, such as a config that's nested too deeply.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Record::read(&text).context("the new record couldn't be read again")?;
        Ok(text)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.format == FORMAT,
            "there has never been a format {}",
            self.format
        );
        self.transforms.iter().try_for_each(|(name, history)| {
            history
                .check()
                .with_context(|| format!("in the transform \"{name}\""))
        })
    }
}
