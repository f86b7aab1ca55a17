//! A batch that was read and has yet to go through the chain, whole or in parts.

use crate::record::Batch;

/// Records of one partition, read and not processed.
///
/// When a guest breaks on a batch, the batch is halved until the record is alone that it breaks on, so that the neighbours
/// go through. Each half is a batch of its own: it's sent, settled and committed like any other, and the worker looks at
/// its group between two halves.
pub(super) struct Held {
    pub(super) batch: Batch,
    /// The records of the batch that the guest broke on first; 0 if none has.
    pub(super) full: usize,
    /// How often a guest broke on this record alone.
    pub(super) tries: u32,
    /// Why the broker doesn't take what comes of this record.
    pub(super) condemned: Option<String>,
}

impl Held {
    /// A batch as it was read.
    pub(super) fn new(batch: Batch) -> Held {
        Held {
            batch,
            full: 0,
            tries: 0,
            condemned: None,
        }
    }

    /// A record of which the broker doesn't take what comes of it.
    pub(super) fn condemned(batch: Batch, reason: String) -> Held {
        Held {
            condemned: Some(reason),
            ..Held::new(batch)
        }
    }

    /// Two halves, neither of them empty, in order. The batch has two records at least.
    pub(super) fn halves(&self) -> (Held, Held) {
        let half = |batch| Held {
            full: self.full.max(self.batch.len()),
            ..Held::new(batch)
        };
        let middle = self.batch.len() / 2;
        (
            half(self.batch.slice(0..middle)),
            half(self.batch.slice(middle..self.batch.len())),
        )
    }
}
