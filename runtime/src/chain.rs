//! A pipeline's transforms, in order, on one worker. Knows guests and records, and nothing of Kafka.

mod canary;
mod version;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};

use self::canary::Part;
pub use self::canary::{Percent, Share, Unit};
pub use self::version::{Seen, Sight, Version};
use crate::guest::{Fault, Guest, Log, Output, UNCHOSEN, thread_cpu_time};
use crate::letter::Class;
use crate::record::{Batch, Kept, TimestampType};
use crate::shadow::Tap;

/// The chain of one worker.
pub struct Chain {
    steps: Vec<Step>,
}

/// One transform: the version that runs, and what is tried beside it.
pub struct Step {
    active: Lane,
    canary: Option<(Share, Lane)>,
    tap: Option<Tap>,
}

/// A version, and the guest that runs it here.
struct Lane {
    version: Arc<Version>,
    /// `None` after a fault, or where none was brought: it's started with the next batch.
    guest: Option<Guest>,
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
    /// What each version did that was given records.
    pub counts: Vec<Count>,
}

/// An input record that can't be processed, or whose output can't be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its offset.
    pub offset: u64,
    /// The step that it failed in, from 0; `None` if all took it, and Kafka doesn't take what came of it.
    pub step: Option<usize>,
    /// Whether it failed in the step's canary.
    pub canary: bool,
    /// How.
    pub class: Class,
    /// Why.
    pub reason: String,
}

/// What a version did with the records of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The step, from 0.
    pub step: usize,
    /// Whether it's the step's canary.
    pub canary: bool,
    /// Records that went in.
    pub records_in: u64,
    /// Records that came out.
    pub records_out: u64,
    /// Records that it decided to drop.
    pub dropped: u64,
    /// Records that it refused.
    pub refused: u64,
    /// Lines for the log.
    pub log_lines: u64,
    /// Lines for the log that were too many.
    pub log_lines_dropped: u64,
    /// The CPU time that it took.
    pub took: Duration,
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
    /// Whether it's the step's canary that broke.
    pub canary: bool,
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

impl Step {
    /// A step that runs this version, with a guest of it if there's one.
    pub fn new(version: Arc<Version>, guest: Option<Guest>) -> Step {
        Step {
            active: Lane { version, guest },
            canary: None,
            tap: None,
        }
    }

    /// Has a share of the records go through another version, with a guest of it if there's one.
    pub fn with_canary(self, share: Share, version: Arc<Version>, guest: Option<Guest>) -> Step {
        Step {
            canary: Some((share, Lane { version, guest })),
            ..self
        }
    }

    /// Offers what the step is given to a shadow.
    pub fn with_tap(self, tap: Tap) -> Step {
        Step {
            tap: Some(tap),
            ..self
        }
    }

    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        let canary = self.canary.as_mut().map(|(_, lane)| lane);
        std::iter::once(&mut self.active).chain(canary)
    }
}

impl Chain {
    /// Starts a guest for each version.
    pub fn new(versions: &[Arc<Version>]) -> Result<Chain> {
        let step = |version: &Arc<Version>| {
            let guest = version.guest()?;
            Ok(Step::new(version.clone(), Some(guest)))
        };
        Ok(Chain {
            steps: versions.iter().map(step).collect::<Result<_>>()?,
        })
    }

    /// Starts a guest of each version that has none, and tells how long each took.
    pub fn start_guests(&mut self, tell: &mut dyn FnMut(&Version, Duration)) -> Result<()> {
        for lane in self.steps.iter_mut().flat_map(Step::lanes) {
            if lane.guest.is_none() {
                let began = Instant::now();
                lane.guest = Some(lane.version.guest()?);
                tell(&lane.version, began.elapsed());
            }
        }
        Ok(())
    }

    /// A chain of these steps.
    pub fn of(steps: Vec<Step>) -> Chain {
        Chain { steps }
    }

    /// The active versions, in order.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.steps.iter().map(|step| &*step.active.version)
    }

    /// The version that a record failed in, if it failed in one.
    pub fn version_of(&self, failed: &Failed) -> Option<&Version> {
        let step = self.steps.get(failed.step?)?;
        match (&step.canary, failed.canary) {
            (Some((_, lane)), true) => Some(&lane.version),
            _ => Some(&step.active.version),
        }
    }

    /// The version of the canary of a step, if it has one.
    pub fn canary(&self, step: usize) -> Option<&Version> {
        let (_, lane) = self.steps.get(step)?.canary.as_ref()?;
        Some(&lane.version)
    }

    /// Takes over from another chain the guests of the versions that both have, where this one brings none.
    pub fn inherit(&mut self, from: &mut Chain) {
        let missing = self.steps.iter_mut().flat_map(Step::lanes);
        for lane in missing.filter(|it| it.guest.is_none()) {
            let mut lanes = from.steps.iter_mut().flat_map(Step::lanes);
            if let Some(same) = lanes.find(|it| Arc::ptr_eq(&it.version, &lane.version)) {
                lane.guest = same.guest.take();
            }
        }
    }

    /// Whether its id keys are another chain's too.
    pub fn has_ids_of(&self, other: &Chain) -> bool {
        self.versions()
            .map(|it| &it.ids)
            .eq(other.versions().map(|it| &it.ids))
    }

    /// The id keys of a partition, to be made once. `cluster` is the id of its cluster.
    pub fn id_keys(
        &self,
        cluster: &str,
        topic_id: &[u8; 16],
        topic: &str,
        partition: i32,
    ) -> IdKeys {
        let key = |version: &Version| {
            let names = version.ids.as_ref()?;
            Some(names.base(cluster).key(topic_id, topic, partition))
        };
        IdKeys(self.versions().map(key).collect())
    }

    /// Passes a batch through all steps. `log` gets the guests' log lines with the record's offset. Where the batch is part
    /// of one that a guest broke on, `full` is how many records that had, and each guest gets a share of its deadline;
    /// otherwise 0.
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
                break;
            }
            let key = match keys.0.get(index).copied().flatten() {
                Some(key) => key,
                None => fresh_key().map_err(Unprocessed::Host)?,
            };
            if let Some(tap) = &step.tap {
                tap.offer(&batch, &key);
            }
            let mut notes = Notes {
                step: index,
                full,
                failed: &mut failed,
                counts: &mut counts,
                log,
            };
            (batch, take) = step.run(batch, &key, &mut notes)?;
            if !failed.is_empty() {
                failed.sort_by_key(|it| it.offset);
                failed.dedup_by_key(|it| it.offset);
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

/// What is noted of a batch on its way through a step.
struct Notes<'a> {
    step: usize,
    full: usize,
    failed: &'a mut Vec<Failed>,
    counts: &'a mut Vec<Count>,
    log: &'a mut dyn FnMut(&Version, u64, &Log),
}

/// A batch, or the choice among its records.
type Passed<'a> = (Cow<'a, Batch>, Option<Vec<u32>>);

impl Step {
    fn run<'a>(
        &mut self,
        batch: Cow<'a, Batch>,
        key: &[u8; 32],
        notes: &mut Notes<'_>,
    ) -> Result<Passed<'a>, Unprocessed> {
        let Some((share, canary)) = &mut self.canary else {
            let output = self.active.run(&batch, false, key, notes)?;
            return Ok(apply(batch, output));
        };
        match share.of(&batch) {
            Part::None => {
                let output = self.active.run(&batch, false, key, notes)?;
                Ok(apply(batch, output))
            }
            Part::All => {
                let output = canary.run(&batch, true, key, notes)?;
                Ok(apply(batch, output))
            }
            Part::Some { ours, others } => {
                let mut run = |lane: &mut Lane, is_canary, take: Vec<u32>| {
                    let part = batch.gather(&take);
                    let output = lane.run(&part, is_canary, key, notes)?;
                    // Where each record that comes out stood in the batch.
                    let from: Vec<u32> = output.take.iter().map(|&it| take[it as usize]).collect();
                    let (part, choice) = apply(Cow::Owned(part), output);
                    let part = match choice {
                        Some(take) => part.gather(&take),
                        None => part.into_owned(),
                    };
                    Ok::<_, Unprocessed>((part, from))
                };
                let kept = run(&mut self.active, false, others)?;
                let tried = run(canary, true, ours)?;
                Ok((Cow::Owned(merge(kept, tried)), None))
            }
        }
    }
}

/// The records of two parts of a batch in the order of those that they come from.
fn merge((one, from): (Batch, Vec<u32>), (other, other_from): (Batch, Vec<u32>)) -> Batch {
    let all = one.followed_by(&other);
    let mut order: Vec<(u32, u32)> = from.into_iter().chain(other_from).zip(0..).collect();
    // What comes of one record is all in one part, and stays in its order.
    order.sort_unstable();
    let take: Vec<u32> = order.into_iter().map(|(_, index)| index).collect();
    let mut batch = all.gather(&take);
    batch.ordinals = ordinals(&batch.offsets);
    batch
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

impl Lane {
    /// Passes a batch through the guest, and notes what it did.
    fn run(
        &mut self,
        batch: &Batch,
        canary: bool,
        key: &[u8; 32],
        notes: &mut Notes<'_>,
    ) -> Result<Output, Unprocessed> {
        let version = &*self.version;
        let mut guest = match self.guest.take() {
            Some(guest) => guest,
            // It has begun before, with this config: no record is to blame.
            None => version
                .guest()
                .with_context(|| {
                    let name = &version.transform;
                    format!("transform \"{name}\": can't start its guest anew")
                })
                .map_err(Unprocessed::Host)?,
        };
        // All of one input record's descendants are one record.
        let records = match batch.offsets.first() == batch.offsets.last() {
            true => 1,
            false => batch.len(),
        };
        let deadline = version
            .limits
            .deadline_for(records, notes.full.max(records));
        let began = thread_cpu_time();
        let output = guest.transform(batch, key, deadline);
        let took = thread_cpu_time().saturating_sub(began);
        let mut output = match output {
            Ok(output) => output,
            // What broke is never entered again.
            Err(fault) => {
                version.seen.broke(took);
                return Err(Unprocessed::Broken(Broken {
                    step: notes.step,
                    canary,
                    fault,
                    offsets: (batch.offsets[0], batch.offsets[batch.len() - 1]),
                }));
            }
        };
        self.guest = Some(guest);
        for line in &output.logs {
            (notes.log)(version, batch.offsets[line.index as usize], line);
        }
        let count = Count {
            step: notes.step,
            canary,
            took,
            ..count(&output, batch.len())
        };
        version.seen.passed(count.records_in, count.refused, took);
        notes.counts.push(count);
        let refused = output.refused.drain(..).map(|(at, reason)| Failed {
            offset: batch.offsets[at as usize],
            step: Some(notes.step),
            canary,
            class: Class::Refused,
            reason,
        });
        notes.failed.extend(refused);
        Ok(output)
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
        log_lines: output.logs.len() as u64,
        log_lines_dropped: output.log_lines_dropped as u64,
        ..Count::default()
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
