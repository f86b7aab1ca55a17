//! What a pipeline ran and runs, on disk: modules by digest, and a history for each transform.
//!
//! - [`Store`]: the folder, or memory where there is none.
//! - [`Record`]: what's kept of a pipeline; a [`History`] for each transform, with the decisions that are made from it.
//! - [`Entry`]: a line of what was done, by whom.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use tracing::debug;

use crate::guest::Digest;

mod audit;
mod by;
mod disk;
mod folder;
mod history;
mod memory;
mod record;
#[cfg(test)]
mod tests;

pub use audit::Entry;
pub use by::{By, Cause};
pub use history::{
    Activation, Content, Ended, FILE_CHANGED, History, Known, Proving, Start, Trial, TrialKind,
};
pub use record::{FORMAT, Paused, Record};

use disk::Disk;
use memory::Memory;

/// How long a module that no record names is kept: it may have been put by a process that's about to name it, and that
/// takes a compilation and a few calls.
const UNNAMED: Duration = Duration::from_secs(60 * 60);

/// Where versions are kept; clones are the same one.
#[derive(Clone, Debug)]
pub struct Store(Arc<Place>);

#[derive(Debug)]
enum Place {
    Disk(Disk),
    Memory(Memory),
}

impl Store {
    /// Makes or opens `DATA/modules/`, for all processes that share the folder, and `DATA/instances/NAME/` for this
    /// one. Fails if they can't be made or written.
    pub fn open(data: &Path, instance: &str) -> Result<Store> {
        let disk = Disk::open(data, instance)?;
        Ok(Store(Arc::new(Place::Disk(disk))))
    }

    /// Keeps nothing: what it's told is gone with the process.
    pub fn in_memory() -> Store {
        Store(Arc::new(Place::Memory(Memory::default())))
    }

    /// Whether what it's told outlives the process.
    pub fn is_kept(&self) -> bool {
        matches!(*self.0, Place::Disk(_))
    }

    /// Keeps a module's file under its digest. From then on [`prune`](Store::prune) spares it for an hour, so that
    /// there's time to name it in a record.
    pub fn put_module(&self, bytes: &[u8]) -> Result<Digest> {
        match &*self.0 {
            Place::Disk(disk) => disk.put_module(bytes),
            Place::Memory(memory) => Ok(memory.put_module(bytes)),
        }
    }

    /// A module's file, byte for byte as it was put.
    pub fn module(&self, digest: &Digest) -> Result<Vec<u8>> {
        match &*self.0 {
            Place::Disk(disk) => disk.module(digest),
            Place::Memory(memory) => memory.module(digest),
        }
    }

    /// What's known of a pipeline; an empty record if it's a new one. Fails on a record that can't be understood, and
    /// leaves it as it is.
    pub fn load(&self, pipeline: &str) -> Result<Record> {
        match &*self.0 {
            Place::Disk(disk) => disk.load(pipeline),
            Place::Memory(memory) => Ok(memory.load(pipeline)),
        }
    }

    /// Replaces the record of a pipeline: after a crash at any time there's the old one or the new one. Fails before
    /// anything is written if [`load`](Store::load) couldn't read the new one.
    pub fn save(&self, pipeline: &str, record: &Record) -> Result<()> {
        match &*self.0 {
            Place::Disk(disk) => disk.save(pipeline, record),
            Place::Memory(memory) => {
                memory.save(pipeline, record);
                Ok(())
            }
        }
    }

    /// Adds a line to `DATA/instances/NAME/audit.jsonl`. Before that file passes 64 MiB it becomes `audit.1.jsonl`, in
    /// place of the one before it.
    pub fn audit(&self, entry: &Entry) -> Result<()> {
        match &*self.0 {
            Place::Disk(disk) => disk.audit(entry),
            Place::Memory(_) => Ok(()),
        }
    }

    /// Removes modules that no record of any process with this data folder names, an hour after they were last put.
    /// As long as any record can't be read, none is removed.
    pub fn prune(&self) {
        let pruned = match &*self.0 {
            Place::Disk(disk) => disk.prune(SystemTime::now()),
            Place::Memory(memory) => {
                memory.prune(Instant::now());
                Ok(())
            }
        };
        if let Err(why) = pruned {
            debug!("modules that may be in use no more are kept: {why:#}");
        }
    }
}
