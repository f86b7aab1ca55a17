//! What of each partition is in flight, and how far it's settled.
//!
//! The invariant of delivery lives here: a partition's watermark passes an offset only when every record at or below
//! it was delivered, dead-lettered, or dropped by a decision. Batches stand in one ring for each partition, oldest first,
//! and only the oldest may leave it; a batch without output stands in it too.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::held::Held;
use crate::chain::IdKeys;
use crate::io::{ReadLimit, TopicPartition, Undelivered};
use crate::record::Batch;

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
    /// Where it's read again from when a transaction is aborted: what the group has, or where it started.
    restart: u64,
    /// Batches that were read and have not gone through the chain.
    held: VecDeque<Held>,
    /// Set while records are looked for that the broker refuses.
    cautious: Option<Cautious>,
    /// What came of these records was refused by the broker all alone, and why: known when they're read again.
    condemned: BTreeMap<u64, String>,
    /// A record whose dead letter is refused too, and why.
    hopeless: Option<(u64, String)>,
    /// Why a delivery failed; nothing more is read until all that's in flight came back.
    failed: Option<Undelivered>,
    /// Failures since the last success, for the back-off.
    failures: u32,
    /// Nothing is read before this.
    pause: Option<Instant>,
}

/// librdkafka fails a whole set of records for one that the broker refuses. So they're sent again in smaller batches, each
/// with nothing else in flight, until the one is alone.
struct Cautious {
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
struct InFlight {
    sending: Sending,
    /// Records that have not come back.
    pending: usize,
    failed: bool,
    /// Why the broker doesn't take one of its records.
    refused: Option<String>,
    /// Nothing else was in flight.
    alone: bool,
}

/// The partitions of a worker, each in a slot that its deliveries find it by.
#[derive(Default)]
pub(super) struct Partitions {
    slots: Vec<Slot>,
    /// Bytes in flight.
    bytes: usize,
    /// Records that reached the outputs, and were not asked for yet.
    outputs: u64,
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

/// The pause after so many failures in a row.
pub(super) fn back_off(failures: u32) -> Duration {
    (BACK_OFF * 2u32.saturating_pow(failures).min(1000)).min(MAX_BACK_OFF)
}

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
            restart: start,
            held: VecDeque::new(),
            cautious: None,
            condemned: BTreeMap::new(),
            hopeless: None,
            failed: None,
            failures: 0,
            pause: None,
        }
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
    fn end(&self) -> u64 {
        self.ring
            .back()
            .map_or(self.watermark, |it| it.sending.next)
    }

    /// Whether all that was read is also sent or decided on.
    fn caught_up(&self) -> bool {
        self.read == Some(self.end()) && self.held.is_empty()
    }

    /// Lets the oldest batches go that are wholly delivered; returns their bytes, and the records that came out.
    fn advance(&mut self) -> (usize, u64) {
        let (mut bytes, mut outputs) = (0, 0);
        while let Some(batch) = self.ring.front().filter(|it| it.pending == 0 && !it.failed) {
            self.watermark = batch.sending.next;
            bytes += batch.sending.bytes;
            outputs += batch.sending.outputs as u64;
            self.base = self.base.wrapping_add(1);
            self.ring.pop_front();
            self.failures = 0;
            let watermark = self.watermark;
            self.cautious = self.cautious.take().filter(|it| watermark < it.until);
            if let Some(cautious) = &mut self.cautious {
                cautious.records = cautious.records.saturating_mul(2);
            }
        }
        (bytes, outputs)
    }

    /// Takes from the ring which records the broker refuses, or among which they have to be looked for.
    fn doubt(&mut self) {
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
    fn clear(&mut self) -> usize {
        let bytes = self.ring.iter().map(|it| it.sending.bytes).sum();
        self.base = self.base.wrapping_add(self.ring.len() as u32);
        self.ring.clear();
        self.held.clear();
        self.read = None;
        bytes
    }

    /// Notes what the group has.
    fn set_committed(&mut self, offset: u64) {
        self.committed = Some(offset);
        self.restart = offset;
        self.condemned = self.condemned.split_off(&offset);
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
                self.bytes -= partition
                    .ring
                    .iter()
                    .map(|it| it.sending.bytes)
                    .sum::<usize>();
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

    /// The slots to read from, each turn beginning with another one. While a partition is cautious, it alone, and only
    /// once nothing is in flight.
    pub(super) fn readable(&mut self) -> Vec<u32> {
        let ready =
            |(slot, it): (usize, &mut Slot)| it.get_mut()?.is_ready().then_some(slot as u32);
        let mut slots: Vec<u32> = self
            .slots
            .iter_mut()
            .enumerate()
            .filter_map(ready)
            .collect();
        let cautious = |slot: &&u32| self.get(**slot).is_some_and(|it| it.cautious.is_some());
        if let Some(&slot) = slots.iter().find(cautious) {
            return match self.in_flight(None) {
                true => Vec::new(),
                false => vec![slot],
            };
        }
        if !slots.is_empty() {
            self.turn = (self.turn + 1) % slots.len();
            slots.rotate_left(self.turn);
        }
        slots
    }

    /// Whether records are looked for that the broker refuses.
    pub(super) fn is_cautious(&self) -> bool {
        self.live().any(|it| it.cautious.is_some())
    }

    /// Notes a batch on its way; its deliveries carry the tag that's returned.
    pub(super) fn begin(&mut self, slot: u32, sending: Sending) -> u64 {
        let alone = !self.in_flight(None);
        let Some(partition) = self.slots.get_mut(slot as usize).and_then(Slot::get_mut) else {
            return u64::MAX;
        };
        let sequence = partition.base.wrapping_add(partition.ring.len() as u32);
        partition.ring.push_back(InFlight {
            sending,
            pending: sending.outputs + sending.letters,
            failed: false,
            refused: None,
            alone: alone && partition.cautious.is_some(),
        });
        self.bytes += sending.bytes;
        self.advance(slot);
        u64::from(slot) << 32 | u64::from(sequence)
    }

    /// Takes back what was noted of a batch whose last `unsent` records can't be sent: it ends before `offset`.
    pub(super) fn cut(&mut self, tag: u64, offset: u64, unsent: usize) {
        let slot = (tag >> 32) as u32;
        if let Some(batch) = self.get_mut(slot).and_then(|it| it.at(tag as u32)) {
            batch.sending.next = offset;
            batch.pending -= unsent;
        }
        self.advance(slot);
    }

    /// Notes that a record that came of `offset` can't be sent, for this reason, nor the last `unsent` of its batch before
    /// it's dealt with.
    pub(super) fn condemn(&mut self, tag: u64, offset: u64, unsent: usize, reason: String) {
        let Some(partition) = self.get_mut((tag >> 32) as u32) else {
            return;
        };
        partition.condemned.insert(offset, reason.clone());
        partition.failed = Some(Undelivered::Refused(anyhow::anyhow!(reason)));
        if let Some(batch) = partition.at(tag as u32) {
            batch.pending -= unsent;
            batch.failed = true;
        }
    }

    /// Takes in a delivery.
    pub(super) fn settle(&mut self, tag: u64, result: Result<(), Undelivered>) {
        let slot = (tag >> 32) as usize;
        let partition = match self.slots.get_mut(slot) {
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
            if let Undelivered::Refused(cause) = &cause {
                batch.refused.get_or_insert_with(|| format!("{cause:#}"));
            }
            if partition.failed.is_none() || matches!(cause, Undelivered::Refused(_)) {
                partition.failed = Some(cause);
            }
        }
        if settled {
            self.advance(slot as u32);
        }
    }

    /// A partition with a failed delivery of which nothing is in flight any more, and where to read it again from. It's
    /// read again after a pause, or at once if the broker refuses a record.
    pub(super) fn rewind(&mut self) -> Option<(TopicPartition, u64, Undelivered)> {
        let back = |it: &&mut Partition| {
            it.failed.is_some() && it.ring.iter().all(|batch| batch.pending == 0)
        };
        let partition = self.slots.iter_mut().filter_map(Slot::get_mut).find(back)?;
        let cause = partition.failed.take()?;
        let offset = partition.ring.front()?.sending.first;
        partition.doubt();
        self.bytes -= partition.clear();
        if let Undelivered::Failed(_) = cause {
            let pause = back_off(partition.failures);
            partition.pause = Some(Instant::now() + pause);
            partition.failures = partition.failures.saturating_add(1);
        }
        Some((partition.id.clone(), offset, cause))
    }

    /// Why a delivery failed, if one has.
    pub(super) fn failure(&mut self) -> Option<Undelivered> {
        let mut failures: Vec<Undelivered> = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.get_mut()?.failed.take())
            .collect();
        let refused = |it: &Undelivered| matches!(it, Undelivered::Refused(_));
        match failures.iter().position(refused) {
            Some(at) => Some(failures.swap_remove(at)),
            None => failures.pop(),
        }
    }

    /// A record that neither comes out nor becomes a dead letter, and why.
    pub(super) fn hopeless(&self) -> Option<(&TopicPartition, u64, &str)> {
        self.live().find_map(|it| {
            let (offset, reason) = it.hopeless.as_ref()?;
            Some((&it.id, *offset, reason.as_str()))
        })
    }

    /// Whether a delivery failed.
    pub(super) fn has_failed(&self) -> bool {
        self.live().any(|it| it.failed.is_some())
    }

    /// Sends all partitions back to what the group has; what is in flight is none of theirs any more. Returns which have to
    /// be read again, and where from; they are after `pause`.
    pub(super) fn roll_back(&mut self, pause: Option<Duration>) -> Vec<(TopicPartition, u64)> {
        let mut again = Vec::new();
        for partition in self.slots.iter_mut().filter_map(Slot::get_mut) {
            if partition.read == Some(partition.restart) && partition.end() == partition.restart {
                continue;
            }
            partition.doubt();
            self.bytes -= partition.clear();
            partition.failed = None;
            partition.watermark = partition.restart;
            partition.pause = pause.map(|it| Instant::now() + it);
            again.push((partition.id.clone(), partition.restart));
        }
        again
    }

    /// Notes what the brokers say that the group has, before a roll-back. What a client that's gone had in flight won't
    /// come back.
    pub(super) fn restart_from(&mut self, committed: &[(TopicPartition, Option<u64>)]) {
        for slot in &mut self.slots {
            match slot {
                Slot::Leaving(_) => *slot = Slot::Free,
                Slot::Taken(partition) => {
                    let of = |(id, offset): &(_, Option<u64>)| {
                        (*id == partition.id).then_some(*offset).flatten()
                    };
                    // Wherever it stands, it's to be read again.
                    partition.read = None;
                    if let Some(offset) = committed.iter().find_map(of) {
                        partition.set_committed(offset);
                    }
                }
                Slot::Free => {}
            }
        }
    }

    /// Whether something of these partitions (or of any) is in flight.
    pub(super) fn in_flight(&self, ids: Option<&[TopicPartition]>) -> bool {
        self.live()
            .any(|it| !it.ring.is_empty() && ids.is_none_or(|ids| ids.contains(&it.id)))
    }

    /// The records that reached the outputs since this was asked last.
    pub(super) fn take_outputs(&mut self) -> u64 {
        std::mem::take(&mut self.outputs)
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
            let settled = partition.caught_up() && partition.ring.is_empty();
            let stands = settled.then(|| position(&partition.id)).flatten();
            let settled = partition.watermark.max(stands.unwrap_or(0));
            if Some(settled) > partition.committed {
                partition.set_committed(settled);
                offsets.push((partition.id.clone(), settled));
            }
        }
        offsets
    }

    /// What a transaction that ends now commits: all that was sent is part of it, whether it came back or not.
    pub(super) fn ends(
        &self,
        mut position: impl FnMut(&TopicPartition) -> Option<u64>,
    ) -> Vec<(TopicPartition, u64)> {
        let news = |it: &Partition| {
            let stands = it.caught_up().then(|| position(&it.id)).flatten();
            let end = it.end().max(stands.unwrap_or(0));
            (Some(end) > it.committed).then(|| (it.id.clone(), end))
        };
        self.live().filter_map(news).collect()
    }

    /// Notes that the group has these offsets.
    pub(super) fn committed(&mut self, offsets: &[(TopicPartition, u64)]) {
        for partition in self.slots.iter_mut().filter_map(Slot::get_mut) {
            if let Some((_, offset)) = offsets.iter().find(|(id, _)| *id == partition.id) {
                partition.set_committed(*offset);
            }
        }
    }

    /// Has everything committed once more.
    pub(super) fn forget_commits(&mut self) {
        for partition in self.slots.iter_mut().filter_map(Slot::get_mut) {
            partition.committed = None;
        }
    }

    fn advance(&mut self, slot: u32) {
        if let Some(partition) = self.get_mut(slot) {
            let (bytes, outputs) = partition.advance();
            self.bytes -= bytes;
            self.outputs += outputs;
        }
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
