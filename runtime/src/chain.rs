//! A pipeline's transforms, in order, on one worker. Knows guests and records, and nothing of Kafka.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, Error, Result};

use crate::guest::{Fault, Guest, Limits, Log, Module, Output, Setup, UNCHOSEN};
use crate::ids::Base;
use crate::letter::Class;
use crate::record::{Batch, Kept, TimestampType};

/// A version of a transform: a module and its config, with what the pipeline says about it.
pub struct Version {
    /// The transform's name in the pipeline.
    pub transform: String,
    /// The code.
    pub module: Module,
    /// The config, and the outputs that it may choose from.
    pub setup: Setup,
    /// What its guests may use.
    pub limits: Limits,
    /// What its ids are drawn from; `None` for fresh randomness with each batch (`ids = "random"`).
    pub ids: Option<Base>,
}

impl Version {
    /// Starts a guest, which takes the config.
    pub fn guest(&self) -> Result<Guest> {
        Guest::new(&self.module, &self.setup, &self.limits)
            .with_context(|| format!("transform {:?}, module {:?}", self.transform, self.module))
    }
}

/// The chain of one worker.
pub struct Chain {
    steps: Vec<Step>,
}

struct Step {
    version: Arc<Version>,
    guest: Guest,
}

/// The id keys of one partition, one for each step of the chain.
#[derive(Default)]
pub struct IdKeys(Vec<Option<[u8; 32]>>);

/// What became of a batch.
#[derive(Debug)]
pub struct Processed {
    /// The records that came out, if `take` is empty; otherwise they're those of its records that `take` names. `None` if
    /// no step changed any: they're the input's own.
    pub batch: Option<Batch>,
    /// The last step's choice, where it chose and changed nothing: so that a filter at the end copies no bytes.
    pub take: Option<Vec<u32>>,
    /// The input records that failed, in the order of their offsets; nothing of them comes out.
    pub failed: Vec<Failed>,
    /// What each step did.
    pub counts: Vec<Count>,
}

/// An input record that can't be processed, or whose output can't be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its offset.
    pub offset: u64,
    /// The step that it failed in, from 0; `None` if all took it, and Kafka doesn't take what came of it.
    pub step: Option<usize>,
    /// How.
    pub class: Class,
    /// Why.
    pub reason: String,
}

/// What one step did with the records of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Records that went in.
    pub records_in: u64,
    /// Records that came out.
    pub records_out: u64,
    /// Records that it decided to drop.
    pub dropped: u64,
    /// Records that it refused.
    pub refused: u64,
    /// Lines for the log that were too many.
    pub log_lines_dropped: u64,
}

/// Why a batch didn't go through; nothing of it came out.
#[derive(Debug)]
pub enum Unprocessed {
    /// A guest broke on it.
    Broken(Broken),
    /// The host failed: there's no room for a guest, or no randomness for ids. No record is to blame.
    Host(Error),
}

/// How a guest broke on a batch.
#[derive(Debug)]
pub struct Broken {
    /// The step, from 0.
    pub step: usize,
    /// How.
    pub fault: Fault,
    /// The offsets of the first and the last record of the batch.
    pub offsets: (u64, u64),
}

impl Processed {
    /// The records that came out, of an input that this is about.
    pub fn records(self, input: &Batch) -> Batch {
        match (self.batch, self.take) {
            (batch, Some(take)) => batch.as_ref().unwrap_or(input).gather(&take),
            (Some(batch), None) => batch,
            (None, None) => input.clone(),
        }
    }
}

impl Chain {
    /// Starts a guest for each version.
    pub fn new(versions: &[Arc<Version>]) -> Result<Chain> {
        let step = |version: &Arc<Version>| {
            Ok(Step {
                version: version.clone(),
                guest: version.guest()?,
            })
        };
        Ok(Chain {
            steps: versions.iter().map(step).collect::<Result<_>>()?,
        })
    }

    /// The versions, in order.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.steps.iter().map(|step| &*step.version)
    }

    /// The id keys of a partition, to be made once.
    pub fn id_keys(&self, topic_id: &[u8; 16], topic: &str, partition: i32) -> IdKeys {
        let key = |version: &Version| {
            let base = version.ids.as_ref()?;
            Some(base.key(topic_id, topic, partition))
        };
        IdKeys(self.versions().map(key).collect())
    }

    /// Passes a batch through all steps. `log` gets the guests' log lines with the step and the record's offset. Where the
    /// batch is part of one that a guest broke on, `full` is how many records that had, and each guest gets a share of its
    /// deadline; otherwise 0.
    pub fn run(
        &mut self,
        input: &Batch,
        full: usize,
        keys: &IdKeys,
        log: &mut dyn FnMut(&Version, u64, &Log),
    ) -> Result<Processed, Unprocessed> {
        // The input is the caller's, who has yet to write its failed records down: it's copied where a step changes it.
        let mut batch = Cow::Borrowed(input);
        let mut take: Option<Vec<u32>> = None;
        let mut failed: Vec<Failed> = Vec::new();
        let mut counts = Vec::with_capacity(self.steps.len());
        for (index, step) in self.steps.iter_mut().enumerate() {
            if let Some(take) = take.take() {
                batch = Cow::Owned(batch.gather(&take));
            }
            if batch.is_empty() {
                counts.push(Count::default());
                continue;
            }
            let output = step.run(&batch, full, keys.0.get(index).copied().flatten());
            let mut output = output.map_err(|why| match why {
                Unrun::Fault(fault) => Unprocessed::Broken(Broken {
                    step: index,
                    fault,
                    offsets: (batch.offsets[0], batch.offsets[batch.len() - 1]),
                }),
                Unrun::Host(cause) => Unprocessed::Host(cause),
            })?;
            for line in &output.logs {
                log(&step.version, batch.offsets[line.index as usize], line);
            }
            counts.push(count(&output, batch.len()));
            if !output.refused.is_empty() {
                let news = output.refused.drain(..).map(|(at, reason)| Failed {
                    offset: batch.offsets[at as usize],
                    step: Some(index),
                    class: Class::Refused,
                    reason,
                });
                failed.extend(news);
                failed.sort_by_key(|it| it.offset);
                failed.dedup_by_key(|it| it.offset);
            }
            (batch, take) = apply(batch, output);
            if !failed.is_empty() {
                take = without(&batch, take, &failed);
            }
        }
        Ok(Processed {
            batch: match batch {
                Cow::Borrowed(_) => None,
                Cow::Owned(batch) => Some(batch),
            },
            take,
            failed,
            counts,
        })
    }
}

/// What's left of a choice without what came of failed records: an input comes out whole or not at all, so that one
/// descendant's refusal withholds its siblings.
fn without(batch: &Batch, take: Option<Vec<u32>>, failed: &[Failed]) -> Option<Vec<u32>> {
    let good = |&at: &u32| {
        let offset = batch.offsets[at as usize];
        failed
            .binary_search_by_key(&offset, |it| it.offset)
            .is_err()
    };
    match take {
        Some(take) => Some(take.into_iter().filter(good).collect()),
        None => {
            let kept: Vec<u32> = (0..batch.len() as u32).filter(good).collect();
            (kept.len() < batch.len()).then_some(kept)
        }
    }
}

/// Why a step didn't process a batch.
enum Unrun {
    Fault(Fault),
    Host(Error),
}

impl Step {
    fn run(&mut self, batch: &Batch, full: usize, key: Option<[u8; 32]>) -> Result<Output, Unrun> {
        if !self.guest.is_live() {
            // It has begun before, with this config: no record is to blame.
            let guest = self.version.guest().with_context(|| {
                format!(
                    "transform \"{}\": can't start its guest anew",
                    self.version.transform
                )
            });
            self.guest = guest.map_err(Unrun::Host)?;
        }
        let key = match key {
            Some(key) => key,
            None => fresh_key().map_err(Unrun::Host)?,
        };
        // All of one input record's descendants are one record.
        let records = match batch.offsets.first() == batch.offsets.last() {
            true => 1,
            false => batch.len(),
        };
        let deadline = self.version.limits.deadline_for(records, full.max(records));
        let output = self.guest.transform(batch, &key, deadline);
        output.map_err(Unrun::Fault)
    }
}

/// Randomness from the operating system.
fn fresh_key() -> Result<[u8; 32], Error> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).context("the operating system gives no randomness for ids")?;
    Ok(key)
}

fn count(output: &Output, inputs: usize) -> Count {
    let takes = output.take.len();
    let again = output
        .take
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .count();
    let refused = output.refused.len();
    Count {
        records_in: inputs as u64,
        records_out: takes as u64,
        dropped: (inputs - (takes - again) - refused) as u64,
        refused: refused as u64,
        log_lines_dropped: output.log_lines_dropped as u64,
    }
}

/// What comes out of a step: new columns where the guest made some, the input's own elsewhere. A choice among
/// unchanged records stays a choice.
pub(crate) fn apply(batch: Cow<'_, Batch>, output: Output) -> (Cow<'_, Batch>, Option<Vec<u32>>) {
    let take = output.take;
    let all = take.len() == batch.len() && take.iter().zip(0..).all(|(&at, index)| at == index);
    let changed = output.keys.is_some()
        || output.values.is_some()
        || output.headers.is_some()
        || output.timestamps.is_some()
        || output.outputs.is_some();
    let split = take.windows(2).any(|pair| pair[0] == pair[1]);
    if !changed && !split && batch.ordinals.is_empty() {
        return (batch, (!all).then_some(take));
    }
    // What the guest replaces needn't be copied first.
    let kept = Kept {
        keys: output.keys.is_none(),
        values: output.values.is_none(),
        headers: output.headers.is_none(),
        timestamps: output.timestamps.is_none(),
    };
    let mut batch = match (all, batch) {
        (true, Cow::Owned(batch)) => batch,
        (true, Cow::Borrowed(batch)) => batch.part(kept),
        (false, batch) => batch.gather_part(&take, kept),
    };
    if let Some(keys) = output.keys {
        batch.keys = keys;
    }
    if let Some(values) = output.values {
        batch.values = values;
    }
    if let Some(headers) = output.headers {
        batch.headers = headers;
    }
    if let Some(timestamps) = output.timestamps {
        batch.timestamp_types = types(&timestamps);
        batch.timestamps = timestamps;
    }
    if let Some(outputs) = output.outputs {
        batch.outputs = chosen(outputs, &batch.outputs);
    }
    if split || !batch.ordinals.is_empty() {
        batch.ordinals = ordinals(&batch.offsets);
    }
    (Cow::Owned(batch), None)
}

/// Where records go after a step that chose for some of them.
fn chosen(mut outputs: Vec<u32>, before: &[u32]) -> Vec<u32> {
    for (index, output) in outputs.iter_mut().enumerate() {
        if *output == UNCHOSEN {
            *output = before.get(index).copied().unwrap_or(0);
        }
    }
    outputs
}

/// A timestamp that a guest sets is the producer's: Weir's own.
fn types(timestamps: &[i64]) -> Vec<TimestampType> {
    if timestamps.iter().all(|&it| it >= 0) {
        return Vec::new();
    }
    let of = |&it: &i64| match it {
        -1 => TimestampType::NotAvailable,
        _ => TimestampType::CreateTime,
    };
    timestamps.iter().map(of).collect()
}

/// Numbers the records of each offset anew, from 0.
fn ordinals(offsets: &[u64]) -> Vec<u32> {
    let mut ordinals = Vec::with_capacity(offsets.len());
    let mut before = None;
    let mut next = 0;
    for &offset in offsets {
        next = if before == Some(offset) { next + 1 } else { 0 };
        before = Some(offset);
        ordinals.push(next);
    }
    if ordinals.iter().all(|&it| it == 0) {
        ordinals.clear();
    }
    ordinals
}
