//! What of each partition is in flight, and how far it's settled.
//!
//! The invariant of delivery lives here: a partition's watermark passes an offset only when every record at or below
//! it was delivered, or dropped by a decision. Batches stand in one ring for each partition, oldest first, and only
//! the oldest may leave it; a batch without output stands in it too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Error;

use crate::chain::IdKeys;
use crate::io::TopicPartition;

/// A partition that this worker has.
pub(super) struct Partition {
    pub(super) id: TopicPartition,
    pub(super) keys: IdKeys,
    ring: VecDeque<InFlight>,
    /// The sequence number of the ring's first batch.
    base: u32,
    /// All below this offset is settled; unknown until the first batch is.
    watermark: Option<u64>,
    /// The offset after the last record read. What was read and is not settled may be in no ring: a batch that a guest
    /// refused or broke on.
    read: Option<u64>,
    /// What was committed last.
    committed: Option<u64>,
    /// Why a delivery failed; nothing more is read until all that's in flight came back.
    failed: Option<Error>,
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

/// The partitions of a worker. Each assignment gets a slot of its own that's never used again, so that a late delivery
/// of an earlier one finds nothing.
#[derive(Default)]
pub(super) struct Partitions {
    slots: Vec<Option<Box<Partition>>>,
    /// Bytes in flight.
    bytes: usize,
    /// Where the next turn starts, so that a busy partition can't starve the others.
    turn: usize,
}

/// The first pause after a failed delivery; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The longest pause.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);

impl Partition {
    pub(super) fn new(id: TopicPartition, keys: IdKeys) -> Partition {
        Partition {
            id,
            keys,
            ring: VecDeque::new(),
            base: 0,
            watermark: None,
            read: None,
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
            self.watermark = Some(batch.next);
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

    fn is_paused(&self) -> bool {
        self.pause.is_some_and(|until| Instant::now() < until)
    }
}

impl Partitions {
    pub(super) fn add(&mut self, partition: Partition) {
        self.slots.push(Some(Box::new(partition)));
    }

    pub(super) fn remove(&mut self, ids: &[TopicPartition]) {
        for slot in &mut self.slots {
            if let Some(partition) = slot.take_if(|it| ids.contains(&it.id)) {
                self.bytes -= partition.ring.iter().map(|it| it.bytes).sum::<usize>();
            }
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Partition> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Partition> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
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
        let ready = |(_, slot): &(usize, &Option<Box<Partition>>)| {
            slot.as_ref()
                .is_some_and(|it| it.failed.is_none() && !it.is_paused())
        };
        let slots = self.slots.iter().enumerate().filter(ready);
        let mut slots: Vec<u32> = slots.map(|(slot, _)| slot as u32).collect();
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
        let Some(partition) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
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
    pub(super) fn settle(&mut self, tag: u64, result: Result<(), Error>) {
        let Some(partition) = self.by_tag(tag) else {
            return;
        };
        let Some(batch) = partition.at(tag as u32) else {
            return;
        };
        batch.pending -= 1;
        let settled = batch.pending == 0;
        if let Err(cause) = result {
            batch.failed = true;
            partition.failed.get_or_insert(cause);
        }
        if settled {
            self.bytes -= self.by_tag(tag).map_or(0, Partition::advance);
        }
    }

    /// A partition with a failed delivery of which nothing is in flight any more, and where to read it again from. It's
    /// read again after a pause.
    pub(super) fn rewind(&mut self) -> Option<(TopicPartition, u64, Error)> {
        let back = |it: &&mut Box<Partition>| {
            it.failed.is_some() && it.ring.iter().all(|batch| batch.pending == 0)
        };
        let partition = self.slots.iter_mut().flatten().find(back)?;
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
        self.live()
            .filter(|it| it.is_paused())
            .filter_map(|it| it.pause)
            .min()
    }

    /// Whether something is settled and not committed.
    pub(super) fn uncommitted(&self) -> bool {
        self.live()
            .any(|it| it.watermark.is_some() && it.watermark > it.committed || !it.ring.is_empty())
    }

    /// What to commit, which counts as committed from now on. Where nothing is in flight, that's where the consumer
    /// stands, so that what's none of a consumer's business (control records) doesn't show as lag for ever.
    pub(super) fn take_commits(
        &mut self,
        mut position: impl FnMut(&TopicPartition) -> Option<u64>,
    ) -> Vec<(TopicPartition, u64)> {
        let mut offsets = Vec::new();
        for partition in self.slots.iter_mut().flatten() {
            // Only once all that was read is settled does the consumer stand where the group may start again.
            let settled = match partition.read == partition.watermark && partition.ring.is_empty() {
                true => position(&partition.id).max(partition.watermark),
                false => partition.watermark,
            };
            if let Some(offset) = settled.filter(|_| settled > partition.committed) {
                partition.committed = Some(offset);
                offsets.push((partition.id.clone(), offset));
            }
        }
        offsets
    }

    /// Has everything committed once more.
    pub(super) fn forget_commits(&mut self) {
        for partition in self.slots.iter_mut().flatten() {
            partition.committed = None;
        }
    }

    fn by_tag(&mut self, tag: u64) -> Option<&mut Partition> {
        self.slots.get_mut((tag >> 32) as usize)?.as_deref_mut()
    }

    fn live(&self) -> impl Iterator<Item = &Partition> {
        self.slots.iter().flatten().map(|it| &**it)
    }
}
