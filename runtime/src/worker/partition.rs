//! What of one partition is in flight, and how far it's settled.
//!
//! The invariant of delivery lives here: a partition's watermark passes an offset only when every record at or below
//! it was delivered, dead-lettered, or dropped by a decision. Batches stand in one ring for each partition, oldest first,
//! and only the oldest may leave it; a batch without output stands in it too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::held::Held;
use crate::chain::IdKeys;
use crate::io::{ReadLimit, TopicPartition, Undelivered};
use crate::metrics::{self, Tally};
use crate::record::Batch;

/// A partition that this worker has.
pub(super) struct Partition {
    pub(super) id: TopicPartition,
    pub(super) topic_id: [u8; 16],
    pub(super) keys: IdKeys,
    pub(super) ring: VecDeque<InFlight>,
    /// The sequence number of the ring's first batch.
    pub(super) base: u32,
    /// All below this offset is settled.
    pub(super) watermark: u64,
    /// The offset after the last record read. What was read and is not settled may be in no ring: a batch that a guest
    /// refused or broke on. Unknown after a rewind, until something is read again.
    pub(super) read: Option<u64>,
    /// What was committed last.
    pub(super) committed: Option<u64>,
    /// Where it's read again from when a transaction is aborted: what the group has, or where it started.
    pub(super) restart: u64,
    /// Batches that were read and have not gone through the chain.
    pub(super) held: VecDeque<Held>,
    /// Set while records are looked for that the broker refuses.
    pub(super) cautious: Option<Cautious>,
    /// What came of these records was refused by the broker all alone, and why: known when they're read again.
    pub(super) condemned: BTreeMap<u64, String>,
    /// A record whose dead letter is refused too, and why.
    pub(super) hopeless: Option<(u64, String)>,
    /// Why a delivery failed; nothing more is read until all that's in flight came back.
    pub(super) failed: Option<Undelivered>,
    /// Failures since the last success, for the back-off.
    pub(super) failures: u32,
    /// Nothing is read before this.
    pub(super) pause: Option<Instant>,
    /// Of what has settled and was not asked for yet.
    pub(super) settled: Vec<Tally>,
    /// What is counted of it.
    pub(super) metrics: Option<Arc<metrics::Partition>>,
    /// The offset after the last record that can be read, as far as it's known.
    pub(super) readable: Option<u64>,
}

/// librdkafka fails a whole set of records for one that the broker refuses. So they're sent again in smaller batches, each
/// with nothing else in flight, until the one is alone.
pub(super) struct Cautious {
    /// The offset after the last record in doubt.
    until: u64,
    /// Records to a batch.
    records: usize,
}

/// A batch on its way out.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    /// The offset of its first record.
    pub(super) first: u64,
    /// The offset after its last record.
    pub(super) next: u64,
    /// Its input records.
    pub(super) inputs: usize,
    /// Records for the outputs.
    pub(super) outputs: usize,
    /// Records for the dead letter topic.
    pub(super) letters: usize,
    /// What it takes of the window.
    pub(super) bytes: usize,
}

/// A batch that was sent.
pub(super) struct InFlight {
    pub(super) sending: Sending,
    /// Records that have not come back.
    pub(super) pending: usize,
    /// What is counted once it has settled.
    pub(super) tally: Tally,
    pub(super) failed: bool,
    /// Why the broker doesn't take one of its records.
    pub(super) refused: Option<String>,
    /// Nothing else was in flight.
    pub(super) alone: bool,
}

/// The first pause after a failed delivery; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The longest pause.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);

/// The pause after so many failures in a row.
pub(super) fn back_off(failures: u32) -> Duration {
    (BACK_OFF * 2u32.saturating_pow(failures).min(1000)).min(MAX_BACK_OFF)
}

impl Partition {
    /// A partition that's read from `start` on. What stands before isn't this group's to process, or was: it counts as
    /// settled, and is committed even if nothing after it is. Where `start = "latest"` chose it, another choice after a
    /// crash would pass over what came meanwhile.
    pub(super) fn new(
        id: TopicPartition,
        topic_id: [u8; 16],
        keys: IdKeys,
        start: u64,
    ) -> Partition {
        Partition {
            id,
            topic_id,
            keys,
            ring: VecDeque::new(),
            base: 0,
            watermark: start,
            read: Some(start),
            committed: None,
            restart: start,
            held: VecDeque::new(),
            cautious: None,
            condemned: BTreeMap::new(),
            hopeless: None,
            failed: None,
            failures: 0,
            pause: None,
            settled: Vec::new(),
            metrics: None,
            readable: None,
        }
    }

    /// Counts what becomes of it here.
    pub(super) fn counted(self, metrics: Arc<metrics::Partition>) -> Partition {
        Partition {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Records that can be read and aren't settled, as far as it's known. `position` is where the consumer stands.
    pub(super) fn lag(&self, position: impl FnOnce() -> Option<u64>) -> Option<u64> {
        let end = self.readable?;
        // What's none of a consumer's business (control records) may stand at the end.
        let is_through = self.ring.is_empty() && self.held.is_empty() && position() >= Some(end);
        Some(match is_through {
            true => 0,
            false => end.saturating_sub(self.watermark),
        })
    }

    /// The next batch that was read and not processed.
    pub(super) fn take_held(&mut self) -> Option<Held> {
        self.held.pop_front()
    }

    /// Takes a batch back, in front of all others.
    pub(super) fn hold(&mut self, held: Held) {
        self.held.push_front(held);
    }

    /// Takes a batch in that was read. Records of which it's known that the broker refuses what comes of them stand alone.
    pub(super) fn take_in(&mut self, batch: Batch) {
        let (Some(&first), Some(&last)) = (batch.offsets.first(), batch.offsets.last()) else {
            return;
        };
        self.read = Some(last + 1);
        let mut start = 0;
        for (offset, reason) in self.condemned.range(first..=last) {
            let Ok(at) = batch.offsets.binary_search(offset) else {
                continue;
            };
            if start < at {
                self.held.push_back(Held::new(batch.slice(start..at)));
            }
            let alone = batch.slice(at..at + 1);
            self.held.push_back(Held::condemned(alone, reason.clone()));
            start = at + 1;
        }
        match start {
            0 => self.held.push_back(Held::new(batch)),
            start if start < batch.len() => {
                self.held
                    .push_back(Held::new(batch.slice(start..batch.len())));
            }
            _ => {}
        }
    }

    /// How much to read at once.
    pub(super) fn limit(&self, limit: ReadLimit) -> ReadLimit {
        let records = self
            .cautious
            .as_ref()
            .map_or(limit.records, |it| it.records);
        ReadLimit {
            records: records.min(limit.records),
            ..limit
        }
    }

    /// The offset after the last record that was sent or decided on.
    pub(super) fn end(&self) -> u64 {
        self.ring
            .back()
            .map_or(self.watermark, |it| it.sending.next)
    }

    /// Whether all that was read is also sent or decided on.
    pub(super) fn caught_up(&self) -> bool {
        self.read == Some(self.end()) && self.held.is_empty()
    }

    /// Lets the oldest batches go that are wholly delivered; returns their bytes, and the records that came out.
    pub(super) fn advance(&mut self) -> usize {
        let mut bytes = 0;
        while let Some(batch) = self
            .ring
            .front_mut()
            .filter(|it| it.pending == 0 && !it.failed)
        {
            self.watermark = batch.sending.next;
            bytes += batch.sending.bytes;
            self.settled.push(std::mem::take(&mut batch.tally));
            self.base = self.base.wrapping_add(1);
            self.ring.pop_front();
            self.failures = 0;
            let watermark = self.watermark;
            self.cautious = self.cautious.take().filter(|it| watermark < it.until);
            if let Some(cautious) = &mut self.cautious {
                cautious.records = cautious.records.saturating_mul(2);
            }
        }
        bytes
    }

    /// Takes from the ring which records the broker refuses, or among which they have to be looked for.
    pub(super) fn doubt(&mut self) {
        let mut until = self.cautious.as_ref().map_or(0, |it| it.until);
        let mut records = usize::MAX;
        for batch in &self.ring {
            let Some(reason) = &batch.refused else {
                continue;
            };
            records = records.min((batch.sending.inputs / 2).max(1));
            until = until.max(batch.sending.next);
            if batch.alone && batch.sending.inputs == 1 {
                let first = batch.sending.first;
                match self.condemned.contains_key(&first) {
                    true => self.hopeless = Some((first, reason.clone())),
                    false => drop(self.condemned.insert(first, reason.clone())),
                }
            }
        }
        if records < usize::MAX {
            self.cautious = Some(Cautious { until, records });
        }
    }

    /// Forgets what is in flight or held; returns its bytes.
    pub(super) fn clear(&mut self) -> usize {
        let bytes = self.ring.iter().map(|it| it.sending.bytes).sum();
        self.base = self.base.wrapping_add(self.ring.len() as u32);
        self.ring.clear();
        self.held.clear();
        self.read = None;
        bytes
    }

    /// Notes what the group has.
    pub(super) fn set_committed(&mut self, offset: u64) {
        self.committed = Some(offset);
        self.restart = offset;
        self.condemned = self.condemned.split_off(&offset);
    }

    pub(super) fn at(&mut self, sequence: u32) -> Option<&mut InFlight> {
        self.ring.get_mut(sequence.wrapping_sub(self.base) as usize)
    }

    /// Whether records may be read now. A pause that's over is forgotten here and nowhere else, so that one that ends
    /// right after this still wakes the worker.
    pub(super) fn is_ready(&mut self) -> bool {
        self.pause = self.pause.filter(|&until| Instant::now() < until);
        self.failed.is_none() && self.pause.is_none()
    }
}
