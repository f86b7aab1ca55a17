//! A store without a folder.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use super::UNNAMED;
use super::record::Record;
use crate::guest::Digest;

/// What's known for as long as the process lives.
#[derive(Default)]
pub(super) struct Memory(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    modules: HashMap<Digest, Module>,
    records: HashMap<String, Record>,
}

struct Module {
    bytes: Vec<u8>,
    put: Instant,
}

impl Memory {
    pub(super) fn put_module(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let module = Module {
            bytes: bytes.to_vec(),
            put: Instant::now(),
        };
        self.contents().modules.insert(digest, module);
        digest
    }

    pub(super) fn module(&self, digest: &Digest) -> Result<Vec<u8>> {
        let contents = self.contents();
        let module = contents.modules.get(digest);
        let module = module.with_context(|| {
            format!("the module {digest} isn't there: nothing is kept from one run to the next; bring its file again")
        })?;
        Ok(module.bytes.clone())
    }

    pub(super) fn load(&self, pipeline: &str) -> Record {
        let record = self.contents().records.get(pipeline).cloned();
        record.unwrap_or_default()
    }

    pub(super) fn save(&self, pipeline: &str, record: &Record) {
        let mut contents = self.contents();
        contents
            .records
            .insert(pipeline.to_string(), record.clone());
    }

    pub(super) fn prune(&self, now: Instant) {
        let mut contents = self.contents();
        let Contents { modules, records } = &mut *contents;
        let named: HashSet<Digest> = records.values().flat_map(Record::digests).collect();
        modules.retain(|digest, module| {
            named.contains(digest) || now.saturating_duration_since(module.put) < UNNAMED
        });
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}
