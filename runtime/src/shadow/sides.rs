//! The two versions that are compared, each with a guest of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

use super::compare::{Comparison, Part, compare};
use super::report::{Cost, Findings, MOST_DIFFERENCES};
use crate::chain::Version;
use crate::guest::{Fault, Guest, Limits, Output};
use crate::record::{Batch, Column, Headers};

/// An active and a tried version. Both are run: guests are deterministic, so the active one gives again what the pipeline
/// wrote, but for ids, and those are the same on both sides, and a worker has nothing to copy but its input.
pub(super) struct Sides {
    active: Side,
    tried: Side,
    patience: Patience,
    /// Which one goes first: in turns, since the first one fetches the batch into the processor's cache.
    tried_first: bool,
    /// The differences that were told of.
    told: usize,
}

/// A version and its guest.
struct Side {
    version: Arc<Version>,
    limits: Limits,
    guest: Guest,
    cost: Cost,
}

/// Whether a batch that a version broke on is looked at record by record.
#[derive(Debug, Default)]
struct Patience {
    /// Batches in a row that a version broke on.
    broken: u32,
    /// When the next one is looked at again.
    until: Option<Instant>,
}

/// After so many broken batches in a row more of them would tell nothing new.
const MOST_BROKEN: u32 = 64;

/// How long it isn't worth the time then.
const PAUSE: Duration = Duration::from_secs(60);

/// What looking for the records that a version breaks on may take, in deadlines of a whole batch. A version that spins on
/// every record would keep the thread for `record_deadline` with each.
const DEADLINES: u32 = 2;

impl Sides {
    /// Starts a guest of each version.
    pub(super) fn new(active: &Arc<Version>, tried: &Arc<Version>) -> Result<Sides> {
        Ok(Sides {
            active: Side::new(active)?,
            tried: Side::new(tried)?,
            patience: Patience::default(),
            tried_first: false,
            told: 0,
        })
    }

    /// Runs both versions on a batch and compares what they made of it, until `stop` says so. Fails where the host does.
    pub(super) fn look_at(
        &mut self,
        batch: &Batch,
        id_key: &[u8; 32],
        stop: &dyn Fn() -> bool,
    ) -> Result<Findings> {
        let (active, tried) = self.run(batch, id_key)?;
        let broke = active.is_err() || tried.is_err();
        let alone = self.patience.looks(broke, Instant::now());
        let mut findings = Findings {
            batches: 1,
            ..Findings::default()
        };
        findings.counts.batches_broken_by_active = u64::from(active.is_err());
        findings.counts.batches_broken_by_tried = u64::from(tried.is_err());
        findings.last_fault = tried.as_ref().err().map(Fault::to_string);
        let run = Run {
            batch,
            id_key,
            alone,
            stop,
        };
        let active = self.active.parts(active, &run)?;
        let tried = self.tried.parts(tried, &run)?;
        let last = tried.iter().rev().find_map(|it| it.made.as_ref().err());
        findings.last_fault = last.map(Fault::to_string).or(findings.last_fault);
        let outputs = &self.active.version.setup.outputs;
        let room = MOST_DIFFERENCES.saturating_sub(self.told);
        let Comparison {
            counts,
            differences,
        } = compare(batch, outputs, &active, &tried, room);
        self.told += differences.len();
        findings.counts.uncompared = batch.len() as u64 - counts.records;
        findings.counts.add(&counts);
        findings.differences = differences;
        findings.active = std::mem::take(&mut self.active.cost);
        findings.tried = std::mem::take(&mut self.tried.cost);
        Ok(findings)
    }

    fn run(&mut self, batch: &Batch, id_key: &[u8; 32]) -> Result<(Made, Made)> {
        self.tried_first = !self.tried_first;
        if self.tried_first {
            let tried = self.tried.run(batch, id_key)?;
            return Ok((self.active.run(batch, id_key)?, tried));
        }
        let active = self.active.run(batch, id_key)?;
        Ok((active, self.tried.run(batch, id_key)?))
    }
}

/// What a version made of a batch.
type Made = Result<Output, Fault>;

/// A batch that both versions were given.
struct Run<'a> {
    batch: &'a Batch,
    id_key: &'a [u8; 32],
    /// Whether a version that broke on it is given its records alone.
    alone: bool,
    /// Whether it's not worth going on.
    stop: &'a dyn Fn() -> bool,
}

impl Side {
    fn new(version: &Arc<Version>) -> Result<Side> {
        // A version's guests share the lines that they may write to the log. A shadow's lines go nowhere, and must not be
        // missing elsewhere.
        let limits = Limits {
            max_log_lines: 0,
            ..version.limits
        };
        Ok(Side {
            guest: start(version, &limits)?,
            version: version.clone(),
            limits,
            cost: Cost::default(),
        })
    }

    /// Runs it on a whole batch.
    fn run(&mut self, batch: &Batch, id_key: &[u8; 32]) -> Result<Made> {
        let before = thread_cpu_time();
        let made = self.call(batch, id_key)?;
        // A fault's time says nothing of a record's.
        if made.is_ok() {
            let took = thread_cpu_time().saturating_sub(before);
            self.cost.add(Cost {
                nanoseconds: took.as_nanos() as u64,
                records: batch.len() as u64,
            });
        }
        Ok(made)
    }

    /// What it made of the batch, in parts that can be compared: none of what isn't known by record.
    fn parts(&mut self, made: Made, run: &Run<'_>) -> Result<Vec<Part>> {
        let batch = run.batch;
        // All of one input record's descendants are one record, which is alone then.
        let known = made.is_ok() || batch.offsets.first() == batch.offsets.last();
        match known {
            true => Ok(vec![Part {
                range: 0..batch.len(),
                made,
            }]),
            false if run.alone => self.alone(run),
            false => Ok(Vec::new()),
        }
    }

    /// Runs it on each record alone, as far as time allows.
    fn alone(&mut self, run: &Run<'_>) -> Result<Vec<Part>> {
        let allowed = self.limits.deadline.saturating_mul(DEADLINES);
        let before = thread_cpu_time();
        let mut bytes = 0;
        let mut parts = Vec::new();
        let mut start = 0;
        for records in run.batch.offsets.chunk_by(|one, other| one == other) {
            // All that comes out is kept until it's compared; together no more than may come of a whole batch.
            let over = bytes > self.limits.max_output_bytes
                || thread_cpu_time().saturating_sub(before) > allowed
                || (run.stop)();
            if over {
                break;
            }
            let range = start..start + records.len();
            start = range.end;
            let made = self.call(&run.batch.slice(range.clone()), run.id_key)?;
            bytes += made.as_ref().map_or(0, size);
            parts.push(Part { range, made });
        }
        Ok(parts)
    }

    fn call(&mut self, batch: &Batch, id_key: &[u8; 32]) -> Result<Made> {
        if !self.guest.is_live() {
            self.guest = start(&self.version, &self.limits).context("starting a guest anew")?;
        }
        let records = match batch.offsets.first() == batch.offsets.last() {
            true => 1,
            false => batch.len(),
        };
        let deadline = self.limits.deadline_for(records, records);
        Ok(self.guest.transform(batch, id_key, deadline))
    }
}

fn start(version: &Version, limits: &Limits) -> Result<Guest> {
    let Version {
        transform,
        module,
        setup,
        ..
    } = version;
    Guest::new(module, setup, limits)
        .with_context(|| format!("transform {transform:?}, module {module:?}"))
}

/// The bytes that an output holds.
fn size(output: &Output) -> usize {
    let column = |it: &Column| it.data.len() + it.ends.len() * 4;
    let headers = |it: &Headers| column(&it.names) + column(&it.values) + it.counts.len() * 4;
    output.take.len() * 4
        + output.keys.as_ref().map_or(0, column)
        + output.values.as_ref().map_or(0, column)
        + output.headers.as_ref().map_or(0, headers)
        + output.timestamps.as_ref().map_or(0, |it| it.len() * 8)
        + output.outputs.as_ref().map_or(0, |it| it.len() * 4)
}

impl Patience {
    /// Takes in whether a version broke on a batch, and says whether the batch is then looked at record by record.
    fn looks(&mut self, broke: bool, now: Instant) -> bool {
        if !broke {
            *self = Patience::default();
            return false;
        }
        if self.until.is_some_and(|until| now < until) {
            return false;
        }
        self.broken = self.broken.saturating_add(1);
        if self.broken > MOST_BROKEN {
            self.until = Some(now + PAUSE);
        }
        true
    }
}

/// The CPU time of this thread.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_many_broken_batches_in_a_row_one_a_minute_is_looked_at() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let mut looks =
            |seconds, broke| patience.looks(broke, start + Duration::from_secs(seconds));
        assert!((0..=MOST_BROKEN).all(|_| looks(0, true)));
        assert!(!looks(0, true));
        assert!(!looks(59, true));
        assert!(looks(60, true));
        assert!(!looks(61, true));
        assert!(looks(120, true));
        // Once a batch went well, all is as at first.
        assert!(!looks(121, false));
        assert!((0..=MOST_BROKEN).all(|_| looks(121, true)));
        assert!(!looks(122, true));
    }
}
