//! What of each partition is in flight, and how far it's settled.
//!
//! The invariant of delivery lives here: a partition's watermark passes an offset only when every record at or below
//! it was delivered, or dropped by a decision. Batches stand in one ring for each partition, oldest first, and only
//! the oldest may leave it; a batch without output stands in it too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::chain::IdKeys;
use crate::io::{TopicPartition, Undelivered};

/// A partition that this worker has.
pub(super) struct Partition {
    pub(super) id: TopicPartition,
    pub(super) keys: IdKeys,
    ring: VecDeque<InFlight>,
    /// The sequence number of the ring's first batch.
    base: u32,
    /// All below this offset is settled.
    watermark: u64,
    /// The offset after the last record read. What was read and is not settled may be in no ring: a batch that a guest
    /// refused or broke on. Unknown after a rewind, until something is read again.
    read: Option<u64>,
    /// What was committed last.
    committed: Option<u64>,
    /// Why a delivery failed; nothing more is read until all that's in flight came back.
    failed: Option<Undelivered>,
    /// Failures since the last success, for the back-off.
    failures: u32,
    /// Nothing is read before this.
    pause: Option<Instant>,
}

/// A batch that was sent.
struct InFlight {
    /// The offset of its first record.
    first: u64,
    /// The offset after its last record.
    next: u64,
    /// Records that have not come back.
    pending: usize,
    bytes: usize,
    failed: bool,
}

/// The partitions of a worker, each in a slot that its deliveries find it by.
#[derive(Default)]
pub(super) struct Partitions {
    slots: Vec<Slot>,
    /// Bytes in flight.
    bytes: usize,
    /// Where the next turn starts, so that a busy partition can't starve the others.
    turn: usize,
}

enum Slot {
    Free,
    Taken(Box<Partition>),
    /// So many records of a partition that was given up have not come back. Until they have, the slot is nobody else's,
    /// so that they aren't taken for another's.
    Leaving(usize),
}

/// The first pause after a failed delivery; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The longest pause.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);

impl Partition {
    /// A partition that's read from `start` on. What stands before isn't this group's to process, or was: it counts as
    /// settled, and is committed even if nothing after it is. Where `start = "latest"` chose it, another choice after a
    /// crash would pass over what came meanwhile.
    pub(super) fn new(id: TopicPartition, keys: IdKeys, start: u64) -> Partition {
        Partition {
            id,
            keys,
            ring: VecDeque::new(),
            base: 0,
            watermark: start,
            read: Some(start),
            committed: None,
            failed: None,
            failures: 0,
            pause: None,
        }
    }

    /// Notes that the records below `next` were read.
    pub(super) fn read_to(&mut self, next: u64) {
        self.read = Some(next);
    }

    /// Lets the oldest batches go that are wholly delivered; returns their bytes.
    fn advance(&mut self) -> usize {
        let mut bytes = 0;
        while let Some(batch) = self.ring.front().filter(|it| it.pending == 0 && !it.failed) {
            self.watermark = batch.next;
            bytes += batch.bytes;
            self.base = self.base.wrapping_add(1);
            self.ring.pop_front();
            self.failures = 0;
        }
        bytes
    }

    fn at(&mut self, sequence: u32) -> Option<&mut InFlight> {
        self.ring.get_mut(sequence.wrapping_sub(self.base) as usize)
    }

    /// Whether records may be read now. A pause that's over is forgotten here and nowhere else, so that one that ends
    /// right after this still wakes the worker.
    fn is_ready(&mut self) -> bool {
        self.pause = self.pause.filter(|&until| Instant::now() < until);
        self.failed.is_none() && self.pause.is_none()
    }
}

impl Partitions {
    pub(super) fn add(&mut self, partition: Partition) {
        let partition = Slot::Taken(Box::new(partition));
        match self.slots.iter_mut().find(|it| matches!(it, Slot::Free)) {
            Some(slot) => *slot = partition,
            None => self.slots.push(partition),
        }
    }

    pub(super) fn remove(&mut self, ids: &[TopicPartition]) {
        for slot in &mut self.slots {
            if let Some(partition) = slot.get().filter(|it| ids.contains(&it.id)) {
                self.bytes -= partition.ring.iter().map(|it| it.bytes).sum::<usize>();
                *slot = match partition.ring.iter().map(|it| it.pending).sum() {
                    0 => Slot::Free,
                    pending => Slot::Leaving(pending),
                };
            }
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Partition> {
        self.slots.get(slot as usize)?.get()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Partition> {
        self.slots.get_mut(slot as usize)?.get_mut()
    }

    pub(super) fn ids(&self) -> Vec<TopicPartition> {
        self.live().map(|it| it.id.clone()).collect()
    }

    /// Bytes in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The slots to read from, each turn beginning with another one.
    pub(super) fn readable(&mut self) -> Vec<u32> {
        let ready =
            |(slot, it): (usize, &mut Slot)| it.get_mut()?.is_ready().then_some(slot as u32);
        let mut slots: Vec<u32> = self
            .slots
            .iter_mut()
            .enumerate()
            .filter_map(ready)
            .collect();
        if !slots.is_empty() {
            self.turn = (self.turn + 1) % slots.len();
            slots.rotate_left(self.turn);
        }
        slots
    }

    /// Notes a batch of `records` records on its way; their deliveries carry the tag that's returned.
    pub(super) fn begin(
        &mut self,
        slot: u32,
        first: u64,
        next: u64,
        records: usize,
        bytes: usize,
    ) -> u64 {
        let Some(partition) = self.slots.get_mut(slot as usize).and_then(Slot::get_mut) else {
            return u64::MAX;
        };
        let sequence = partition.base.wrapping_add(partition.ring.len() as u32);
        partition.ring.push_back(InFlight {
            first,
            next,
            pending: records,
            bytes,
            failed: false,
        });
        self.bytes += bytes;
        self.bytes -= partition.advance();
        u64::from(slot) << 32 | u64::from(sequence)
    }

    /// Takes back what was noted of a batch whose last `unsent` records can't be sent: it ends before `offset`.
    pub(super) fn cut(&mut self, tag: u64, offset: u64, unsent: usize) {
        let Some(partition) = self.by_tag(tag) else {
            return;
        };
        if let Some(batch) = partition.at(tag as u32) {
            batch.next = offset;
            batch.pending -= unsent;
        }
        self.bytes -= self.by_tag(tag).map_or(0, Partition::advance);
    }

    /// Takes in a delivery.
    pub(super) fn settle(&mut self, tag: u64, result: Result<(), Undelivered>) {
        let partition = match self.slots.get_mut((tag >> 32) as usize) {
            Some(Slot::Taken(partition)) => partition,
            Some(slot @ Slot::Leaving(1)) => return *slot = Slot::Free,
            Some(Slot::Leaving(pending)) => return *pending -= 1,
            Some(Slot::Free) | None => return,
        };
        let Some(batch) = partition.at(tag as u32) else {
            return;
        };
        batch.pending -= 1;
        let settled = batch.pending == 0;
        if let Err(cause) = result {
            batch.failed = true;
            if partition.failed.is_none() || matches!(cause, Undelivered::Refused(_)) {
                partition.failed = Some(cause);
            }
        }
        if settled {
            self.bytes -= self.by_tag(tag).map_or(0, Partition::advance);
        }
    }

    /// A partition with a failed delivery of which nothing is in flight any more, and where to read it again from. It's
    /// read again after a pause.
    pub(super) fn rewind(&mut self) -> Option<(TopicPartition, u64, Undelivered)> {
        let back = |it: &&mut Partition| {
            it.failed.is_some() && it.ring.iter().all(|batch| batch.pending == 0)
        };
        let partition = self.slots.iter_mut().filter_map(Slot::get_mut).find(back)?;
        let cause = partition.failed.take()?;
        let offset = partition.ring.front()?.first;
        self.bytes -= partition.ring.iter().map(|it| it.bytes).sum::<usize>();
        partition.base = partition.base.wrapping_add(partition.ring.len() as u32);
        partition.ring.clear();
        partition.read = None;
        let pause = BACK_OFF * 2u32.saturating_pow(partition.failures).min(1000);
        partition.pause = Some(Instant::now() + pause.min(MAX_BACK_OFF));
        partition.failures = partition.failures.saturating_add(1);
        Some((partition.id.clone(), offset, cause))
    }

    /// Whether something of these partitions (or of any) is in flight.
    pub(super) fn in_flight(&self, ids: Option<&[TopicPartition]>) -> bool {
        self.live()
            .any(|it| !it.ring.is_empty() && ids.is_none_or(|ids| ids.contains(&it.id)))
    }

    /// When the first pause ends.
    pub(super) fn next_pause_end(&self) -> Option<Instant> {
        self.live().filter_map(|it| it.pause).min()
    }

    /// Whether something is settled and not committed.
    pub(super) fn uncommitted(&self) -> bool {
        self.live()
            .any(|it| Some(it.watermark) > it.committed || !it.ring.is_empty())
    }

    /// What to commit, which counts as committed from now on. Where nothing is in flight, that's where the consumer
    /// stands, so that what's none of a consumer's business (control records) doesn't show as lag for ever.
    pub(super) fn take_commits(
        &mut self,
        mut position: impl FnMut(&TopicPartition) -> Option<u64>,
    ) -> Vec<(TopicPartition, u64)> {
        let mut offsets = Vec::new();
        for partition in self.slots.iter_mut().filter_map(Slot::get_mut) {
            // Only once all that was read is settled does the consumer stand where the group may start again.
            let caught_up =
                partition.read == Some(partition.watermark) && partition.ring.is_empty();
            let stands = caught_up.then(|| position(&partition.id)).flatten();
            let settled = partition.watermark.max(stands.unwrap_or(0));
            if Some(settled) > partition.committed {
                partition.committed = Some(settled);
                offsets.push((partition.id.clone(), settled));
            }
        }
        offsets
    }

    /// Has everything committed once more.
    pub(super) fn forget_commits(&mut self) {
        for partition in self.slots.iter_mut().filter_map(Slot::get_mut) {
            partition.committed = None;
        }
    }

    fn by_tag(&mut self, tag: u64) -> Option<&mut Partition> {
        self.get_mut((tag >> 32) as u32)
    }

    fn live(&self) -> impl Iterator<Item = &Partition> {
        self.slots.iter().filter_map(Slot::get)
    }
}

impl Slot {
    fn get(&self) -> Option<&Partition> {
        match self {
            Slot::Taken(partition) => Some(partition),
            Slot::Free | Slot::Leaving(_) => None,
        }
    }

    fn get_mut(&mut self) -> Option<&mut Partition> {
        match self {
            Slot::Taken(partition) => Some(partition),
            Slot::Free | Slot::Leaving(_) => None,
        }
    }
}
