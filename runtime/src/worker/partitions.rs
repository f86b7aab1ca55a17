//! The partitions of a worker, and which delivery belongs to which of them.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::partition::{InFlight, Partition, Sending, back_off};
use crate::io::{TopicPartition, Undelivered};
use crate::metrics::{self, Tally};

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

impl Partitions {
    pub(super) fn add(&mut self, partition: Partition) {
        let partition = Slot::Taken(Box::new(partition));
        match self.slots.iter_mut().find(|it| matches!(it, Slot::Free)) {
            Some(slot) => *slot = partition,
            None => self.slots.push(partition),
        }
    }

    /// Gives partitions up; returns those of which something is counted.
    pub(super) fn remove(
        &mut self,
        ids: &[TopicPartition],
    ) -> Vec<(TopicPartition, Arc<metrics::Partition>)> {
        let mut gone = Vec::new();
        for slot in &mut self.slots {
            if let Some(partition) = slot.get().filter(|it| ids.contains(&it.id)) {
                let metrics = partition.metrics.clone();
                gone.extend(metrics.map(|it| (partition.id.clone(), it)));
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
        gone
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Partition> {
        self.slots.get(slot as usize)?.get()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Partition> {
        self.slots.get_mut(slot as usize)?.get_mut()
    }

    /// Does something to each partition.
    pub(super) fn each(&mut self, does: impl FnMut(&mut Partition)) {
        self.slots
            .iter_mut()
            .filter_map(Slot::get_mut)
            .for_each(does);
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
    /// `tally` is counted once it has settled.
    pub(super) fn begin(&mut self, slot: u32, sending: Sending, tally: Tally) -> u64 {
        let alone = !self.in_flight(None);
        let Some(partition) = self.slots.get_mut(slot as usize).and_then(Slot::get_mut) else {
            return u64::MAX;
        };
        let sequence = partition.base.wrapping_add(partition.ring.len() as u32);
        partition.ring.push_back(InFlight {
            sending,
            pending: sending.outputs + sending.letters,
            tally,
            failed: false,
            refused: None,
            alone: alone && partition.cautious.is_some(),
        });
        self.bytes += sending.bytes;
        self.advance(slot);
        u64::from(slot) << 32 | u64::from(sequence)
    }

    /// What is counted of a batch that has not settled.
    pub(super) fn tally(&mut self, tag: u64) -> Option<&mut Tally> {
        let partition = self.get_mut((tag >> 32) as u32)?;
        Some(&mut partition.at(tag as u32)?.tally)
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

    /// Notes that one of a batch's records for the outputs isn't sent.
    pub(super) fn drop_output(&mut self, tag: u64) {
        let slot = (tag >> 32) as u32;
        if let Some(batch) = self.get_mut(slot).and_then(|it| it.at(tag as u32)) {
            batch.pending -= 1;
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
        self.fail(tag, unsent, Undelivered::Refused(anyhow::anyhow!(reason)));
    }

    /// Notes that the last `unsent` records of a batch can't be sent now, for this reason: the batch comes again.
    pub(super) fn fail(&mut self, tag: u64, unsent: usize, cause: Undelivered) {
        let Some(partition) = self.get_mut((tag >> 32) as u32) else {
            return;
        };
        partition.failed = Some(cause);
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

    /// Whether a partition has not delivered anything since it last failed.
    pub(super) fn is_failing(&self) -> bool {
        self.live().any(|it| it.failed.is_some() || it.failures > 0)
    }

    /// Sends all partitions back to what the group has; what is in flight is none of theirs any more. Returns which have to
    /// be read again, and where from; they are after `pause`.
    pub(super) fn roll_back(&mut self, pause: Option<Duration>) -> Vec<(TopicPartition, u64)> {
        let mut again = Vec::new();
        for partition in self.slots.iter_mut().filter_map(Slot::get_mut) {
            partition.settled.clear();
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

    /// Notes that all that's in flight arrived, whether that was heard of or not.
    pub(super) fn settle_all(&mut self) {
        for partition in self.slots.iter_mut().filter_map(Slot::get_mut) {
            let tallies = partition.ring.iter_mut();
            let tallies = tallies.map(|it| std::mem::take(&mut it.tally));
            partition.settled.extend(tallies);
        }
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

    /// Of what has settled since this was asked last.
    pub(super) fn take_settled(&mut self) -> Vec<Tally> {
        let partitions = self.slots.iter_mut().filter_map(Slot::get_mut);
        partitions.flat_map(|it| it.settled.drain(..)).collect()
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
            self.bytes -= partition.advance();
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
