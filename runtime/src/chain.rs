//! A pipeline's transforms, in order, on one worker. Knows guests and records, and nothing of Kafka.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::guest::{Fault, Guest, Limits, Log, Module, Output, Setup, UNCHOSEN};
use crate::ids::Base;
use crate::record::{Batch, TimestampType};

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
pub struct IdKeys(Vec<Option<[u8; 32]>>);

/// What became of a batch.
#[derive(Debug)]
pub struct Processed {
    /// The records that came out, if `take` is empty; otherwise they're those of its records that `take` names.
    pub batch: Batch,
    /// The last step's choice, where it chose and changed nothing: so that a filter at the end copies no bytes.
    pub take: Option<Vec<u32>>,
    /// The input records that were refused, in the order of their offsets; nothing of them is in `batch`.
    pub refused: Vec<Refused>,
    /// What each step did.
    pub counts: Vec<Count>,
}

/// An input record that a transform refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its offset.
    pub offset: u64,
    /// The step that refused it, from 0.
    pub step: usize,
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

/// A guest broke on a batch; nothing of the batch came out.
#[derive(Debug)]
pub struct Broken {
    /// The step, from 0.
    pub step: usize,
    /// The transform's name.
    pub transform: String,
    /// How.
    pub fault: Fault,
    /// The offsets of the first and the last record of the batch.
    pub offsets: (u64, u64),
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

    /// Passes a batch through all steps. `log` gets the guests' log lines with the step and the record's offset.
    pub fn run(
        &mut self,
        mut batch: Batch,
        keys: &IdKeys,
        log: &mut dyn FnMut(&Version, u64, &Log),
    ) -> Result<Processed, Broken> {
        let mut take: Option<Vec<u32>> = None;
        let mut refused: Vec<Refused> = Vec::new();
        let mut counts = Vec::with_capacity(self.steps.len());
        for (index, step) in self.steps.iter_mut().enumerate() {
            if let Some(take) = take.take() {
                batch = batch.gather(&take);
            }
            if batch.is_empty() {
                counts.push(Count::default());
                continue;
            }
            let output = step.run(&batch, keys.0.get(index).copied().flatten());
            let mut output = output.map_err(|fault| Broken {
                step: index,
                transform: step.version.transform.clone(),
                fault,
                offsets: (batch.offsets[0], batch.offsets[batch.len() - 1]),
            })?;
            for line in &output.logs {
                log(&step.version, batch.offsets[line.index as usize], line);
            }
            counts.push(count(&output, batch.len()));
            if !output.refused.is_empty() {
                let news = output.refused.drain(..).map(|(at, reason)| Refused {
                    offset: batch.offsets[at as usize],
                    step: index,
                    reason,
                });
                refused.extend(news);
                refused.sort_by_key(|it| it.offset);
                refused.dedup_by_key(|it| it.offset);
            }
            (batch, take) = apply(batch, output);
            if !refused.is_empty() {
                // An input comes out whole or not at all, so a refusal withholds its siblings.
                let kept = (0..batch.len() as u32).filter(|&at| {
                    let offset = batch.offsets[at as usize];
                    refused
                        .binary_search_by_key(&offset, |it| it.offset)
                        .is_err()
                });
                let kept: Vec<u32> = match take.take() {
                    None => kept.collect(),
                    Some(take) => {
                        let mut ok = vec![false; batch.len()];
                        kept.for_each(|at| ok[at as usize] = true);
                        take.into_iter().filter(|&at| ok[at as usize]).collect()
                    }
                };
                take = (kept.len() < batch.len()).then_some(kept);
            }
        }
        Ok(Processed {
            batch,
            take,
            refused,
            counts,
        })
    }
}

impl Step {
    fn run(&mut self, batch: &Batch, key: Option<[u8; 32]>) -> Result<Output, Fault> {
        if !self.guest.is_live() {
            let guest = self.version.guest();
            self.guest = guest.map_err(|error| Fault::Error(format!("{error:#}")))?;
        }
        let key = match key {
            Some(key) => key,
            None => fresh_key()?,
        };
        self.guest
            .transform(batch, &key, self.version.limits.deadline)
    }
}

/// Randomness from the operating system.
fn fresh_key() -> Result<[u8; 32], Fault> {
    let mut key = [0; 32];
    match getrandom::fill(&mut key) {
        Ok(()) => Ok(key),
        Err(error) => Err(Fault::Error(format!(
            "the operating system gives no randomness for its ids: {error}"
        ))),
    }
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
pub(crate) fn apply(mut batch: Batch, output: Output) -> (Batch, Option<Vec<u32>>) {
    let take = output.take;
    let all = take.len() == batch.len() && take.iter().zip(0..).all(|(&at, index)| at == index);
    let changed = output.keys.is_some()
        || output.values.is_some()
        || output.headers.is_some()
        || output.timestamps.is_some()
        || output.outputs.is_some();
    let split = take.windows(2).any(|pair| pair[0] == pair[1]);
    if !all && !changed && !split && batch.ordinals.is_empty() {
        return (batch, Some(take));
    }
    if !all {
        // What the guest replaces needn't be copied first.
        if output.keys.is_some() {
            batch.keys = Default::default();
        }
        if output.values.is_some() {
            batch.values = Default::default();
        }
        if output.headers.is_some() {
            batch.headers = Default::default();
        }
        batch = batch.gather(&take);
    }
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
    (batch, None)
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
