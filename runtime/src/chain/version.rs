//! A version of a transform, and what was seen of it so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest::{Guest, Limits, Module, Setup};
use crate::ids::Names;
use crate::record::Batch;

/// A version of a transform: a module and its config, with what the pipeline says about it.
pub struct Version {
    /// The transform's name in the pipeline.
    pub transform: String,
    /// Its number in the transform's history, from 1.
    pub number: u64,
    /// The code.
    pub module: Module,
    /// The config, and the outputs that it may choose from.
    pub setup: Setup,
    /// What its guests may use.
    pub limits: Limits,
    /// What its ids are drawn from; `None` for fresh randomness with each batch (`ids = "random"`).
    pub ids: Option<Names>,
    /// What was seen of it, by all workers.
    pub seen: Seen,
}

impl Version {
    /// Starts a guest, which takes the config.
    pub fn guest(&self) -> Result<Guest> {
        Guest::new(&self.module, &self.setup, &self.limits)
            .with_context(|| format!("transform {:?}, module {:?}", self.transform, self.module))
    }

    /// Starts a guest, and sees it take an empty batch and one small record. It may refuse that, but it may not break on it.
    pub fn prove(&self) -> Result<Guest> {
        let mut guest = self.guest()?;
        for (batch, what) in [(probe(false), "an empty batch"), (probe(true), "{}")] {
            let deadline = self.limits.record_deadline;
            let output = guest.transform(&batch, &[0; 32], deadline);
            output.map_err(|fault| {
                anyhow::anyhow!(
                    "transform {:?}, module {:?}: tried with {what}, it breaks: {fault}",
                    self.transform,
                    self.module
                )
            })?;
        }
        Ok(guest)
    }
}

/// What a new version is tried with: no record, or one whose value is an empty JSON object.
fn probe(record: bool) -> Batch {
    let mut batch = Batch::new("weir-smoke-test".into(), 0);
    if record {
        batch.keys.push(None);
        batch.values.push(Some(b"{}"));
        batch.headers.push_record(0, []);
        batch.timestamps.push(0);
        batch.offsets.push(0);
    }
    batch
}

/// What was seen of a version since it was made. Workers add to it once a batch; a batch that is looked through for a
/// record that breaks the guest counts as often as it's tried.
#[derive(Debug, Default)]
pub struct Seen {
    records: AtomicU64,
    refused: AtomicU64,
    faults: AtomicU64,
    nanos: AtomicU64,
}

/// [`Seen`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Records that it was given and took.
    pub records: u64,
    /// Of those, records that it refused.
    pub refused: u64,
    /// How often its guest broke.
    pub faults: u64,
    /// The CPU time that it took.
    pub time: Duration,
}

impl Seen {
    /// Adds a batch that went through.
    pub(super) fn passed(&self, records: u64, refused: u64, took: Duration) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.refused.fetch_add(refused, Ordering::Relaxed);
        self.add_time(took);
    }

    /// Adds a batch that the guest broke on.
    pub(super) fn broke(&self, took: Duration) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        self.add_time(took);
    }

    fn add_time(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was seen until now.
    pub fn now(&self) -> Sight {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Sight {
            records: read(&self.records),
            refused: read(&self.refused),
            faults: read(&self.faults),
            time: Duration::from_nanos(read(&self.nanos)),
        }
    }
}

impl Sight {
    /// What came after an earlier sight of the same version.
    pub fn since(self, earlier: Sight) -> Sight {
        Sight {
            records: self.records.saturating_sub(earlier.records),
            refused: self.refused.saturating_sub(earlier.refused),
            faults: self.faults.saturating_sub(earlier.faults),
            time: self.time.saturating_sub(earlier.time),
        }
    }

    /// The share of records that it refused, from 0 to 1.
    pub fn refused_share(&self) -> f64 {
        self.refused as f64 / self.records.max(1) as f64
    }

    /// CPU time a record, in nanoseconds.
    pub fn nanos_per_record(&self) -> f64 {
        self.time.as_nanos() as f64 / self.records.max(1) as f64
    }
}
