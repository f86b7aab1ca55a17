//! The versions of a transform: which there are, which ran when and why, and which is next.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::by::{By, Cause};
use crate::chain::Unit;
use crate::guest::Digest;

#[cfg(test)]
mod tests;

/// Activations that are kept; the oldest go first.
const MAX_ACTIVATIONS: usize = 100;

/// Above it not every reader of JSON can tell two numbers apart. Nobody comes this far by swaps.
const MAX_NUMBER: u64 = 1 << 53;

/// Why a version and a trial end when a process starts with another config file, or another module in its place.
pub const FILE_CHANGED: &str = "the config file or the module's file changed while Weir didn't run";

/// What there is and was of a transform.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct History {
    /// No number below it is given again, though its version be forgotten.
    pub next: u64,
    /// The versions that are named below, in the order of their numbers.
    pub versions: Vec<Known>,
    /// What ran, the oldest first; only the last may be without an end.
    pub activations: Vec<Activation>,
    /// What the config file said when it was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Content>,
    /// What's tried beside the active version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// That the active version has to prove itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation: Option<Proving>,
}

/// What makes a version: the same module and config are the same version. The order of keys makes no difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Content {
    /// The SHA-256 of the module's file.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The config as it was typed, `${...}` and all; never with secrets filled in.
    #[schema(value_type = Object)]
    pub config: Value,
}

/// A version that has a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Known {
    /// From 1, never reused within a transform.
    pub number: u64,
    /// What it is.
    pub content: Content,
    /// When it was first seen.
    pub first: DateTime<Utc>,
}

/// That a version ran, or runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Activation {
    /// Its number.
    pub version: u64,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Who made it run.
    pub by: By,
    /// What they said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// None while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// That a version runs no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// Since when.
    pub at: DateTime<Utc>,
    /// What came in between.
    pub why: String,
}

/// A version that's tried beside the active one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trial {
    /// Its number.
    pub version: u64,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Who tries it.
    pub by: By,
    /// What they said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How it's tried.
    #[serde(flatten)]
    pub kind: TrialKind,
}

/// A version that has to prove itself beside the one before it, also after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proving {
    /// The version that it's compared with, and gives way to.
    pub before: u64,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Records that the one before was given and took.
    pub records: u64,
    /// Of those, records that it refused.
    pub refused: u64,
    /// The CPU time that it took for them, in nanoseconds.
    pub nanos: u64,
}

/// How a version is tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TrialKind {
    /// On copies of the records; what comes out is only compared.
    Shadow,
    /// On a share of the records, for real.
    Canary {
        /// The share, from 0 to 100.
        percent: f64,
        /// What's shared out.
        unit: Unit,
    },
}

/// What a process starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The file's version: nothing ran before.
    First,
    /// The file's version: it isn't what it was at the last swap.
    FileChanged {
        /// The version that was active until then.
        was: u64,
    },
    /// The version that was active.
    Kept,
}

impl History {
    /// What runs.
    pub fn active(&self) -> Option<&Known> {
        let last = self.activations.last()?;
        match last.ended {
            None => self.known(last.version),
            Some(_) => None,
        }
    }

    /// The version with this number, unless it's forgotten.
    pub fn known(&self, number: u64) -> Option<&Known> {
        self.versions.iter().find(|it| it.number == number)
    }

    /// The number of a version; a new one gets the next. It's forgotten again at the next change of what's active or
    /// tried, unless that names it.
    pub fn number(&mut self, content: &Content, now: DateTime<Utc>) -> u64 {
        if let Some(known) = self.versions.iter().find(|it| it.content == *content) {
            return known.number;
        }
        let number = self.unused();
        self.versions.push(Known {
            number,
            content: content.clone(),
            first: now,
        });
        number
    }

    /// Decides what a process starts with, and makes that the active version: what the file says, if it said something
    /// else when it was last looked at, and otherwise what was active. A changed file ends the trial too; both end
    /// because of [`FILE_CHANGED`].
    pub fn at_start(&mut self, file: &Content, now: DateTime<Utc>) -> Start {
        self.look(file, Cause::ConfigFile.into(), FILE_CHANGED, now)
    }

    /// As [`History::at_start`], while a process runs: `by` tells what changed, and `why` why the version before ends.
    pub fn look(&mut self, file: &Content, by: By, why: &str, now: DateTime<Utc>) -> Start {
        let start = match self.active() {
            None => Start::First,
            Some(_) if self.file.as_ref() == Some(file) => return Start::Kept,
            // The file has come round to what runs already.
            Some(active) if active.content == *file => {
                self.file_says(file, now);
                return Start::Kept;
            }
            Some(active) => Start::FileChanged { was: active.number },
        };
        self.trial = None;
        let number = self.number(file, now);
        self.activate(number, by, None, now, why);
        start
    }

    /// Notes what the file says where that doesn't change what runs, so that a restart doesn't take it for news.
    pub fn file_says(&mut self, file: &Content, now: DateTime<Utc>) {
        self.number(file, now);
        self.file = Some(file.clone());
        self.forget();
    }

    /// Makes a known version the active one; a number that isn't known changes nothing. If a file is what changed,
    /// this is what it says now.
    pub fn activate(
        &mut self,
        number: u64,
        by: By,
        note: Option<String>,
        now: DateTime<Utc>,
        why_the_last_ends: &str,
    ) {
        let Some(known) = self.known(number) else {
            return;
        };
        if by.cause.is_file() {
            self.file = Some(known.content.clone());
        }
        self.probation = None;
        if let Some(last) = self.activations.last_mut()
            && last.ended.is_none()
        {
            let why = why_the_last_ends.to_string();
            last.ended = Some(Ended { at: now, why });
        }
        self.activations.push(Activation {
            version: number,
            since: now,
            by,
            note,
            ended: None,
        });
        self.forget();
    }

    /// Where a rollback goes: what ran before the active version was first taken up. So rollbacks one after the other
    /// go ever further back, and never to what was just given up. None at the first, or if it's too long ago.
    pub fn before(&self) -> Option<&Known> {
        let active = self.active()?;
        let is_it = |it: &Activation| it.version == active.number;
        let first = self.activations.iter().position(is_it)?;
        let (before, from) = self.activations.split_at(first);
        let is_taking_up = from.first().is_some_and(|it| !it.by.cause.goes_back());
        // A version that's older than all that's kept may have been taken up before that.
        let is_first = self.activations.len() < MAX_ACTIVATIONS
            || before.first().is_some_and(|it| it.since <= active.first);
        match is_taking_up && is_first {
            true => self.known(before.last()?.version),
            false => None,
        }
    }

    /// Begins a trial of a known version, in place of the one that there may be; a number that isn't known changes
    /// nothing.
    pub fn try_out(&mut self, trial: Trial) {
        if self.known(trial.version).is_some() {
            self.trial = Some(trial);
            self.forget();
        }
    }

    /// Ends the trial, if there's one.
    pub fn end_trial(&mut self) -> Option<Trial> {
        let trial = self.trial.take();
        self.forget();
        trial
    }

    /// Whether all that's named is known, and nothing contradicts itself.
    pub(super) fn check(&self) -> Result<()> {
        let mut numbers = BTreeSet::new();
        for Known { number, .. } in &self.versions {
            ensure!(
                (1..MAX_NUMBER).contains(number),
                "no version can have the number {number}"
            );
            ensure!(numbers.insert(*number), "two versions are number {number}");
        }
        ensure!(self.next <= MAX_NUMBER, "`next` is above 2^53");
        let tried = self.trial.iter().map(|it| it.version);
        for number in self.activations.iter().map(|it| it.version).chain(tried) {
            ensure!(
                numbers.contains(&number),
                "it names version {number}, and there's none"
            );
        }
        let open = self.activations.iter().position(|it| it.ended.is_none());
        ensure!(
            open.is_none_or(|it| it + 1 == self.activations.len()),
            "two versions are active"
        );
        Ok(())
    }

    fn unused(&self) -> u64 {
        let highest = self.versions.iter().map(|it| it.number).max().unwrap_or(0);
        self.next.max(highest.saturating_add(1))
    }

    /// Keeps it small.
    fn forget(&mut self) {
        self.next = self.unused();
        let surplus = self.activations.len().saturating_sub(MAX_ACTIVATIONS);
        self.activations.drain(..surplus);
        let tried = self.trial.iter().map(|it| it.version);
        let named: BTreeSet<u64> = self
            .activations
            .iter()
            .map(|it| it.version)
            .chain(tried)
            .collect();
        let file = self.file.as_ref();
        self.versions
            .retain(|it| named.contains(&it.number) || Some(&it.content) == file);
    }
}
