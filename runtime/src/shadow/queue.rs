//! Where batches wait for a shadow: room for a few, and never a wait for those that bring them.
//!
//! A worker must not wait for a thread that gives way to all others, which may hold a lock for as long as others have work
//! to do. So each place has a lock of its own that's only ever tried: a place that somebody is at is passed over.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use crate::record::Batch;

/// A copy of what a step is given.
pub(super) struct Offered {
    pub(super) batch: Batch,
    pub(super) id_key: [u8; 32],
    /// What it counts.
    size: usize,
}

/// Batches on their way from the workers to one thread.
#[derive(Default)]
pub(super) struct Queue {
    places: [Mutex<Option<Offered>>; MOST_BATCHES],
    /// Of what waits, and of what was taken and not yet let go.
    bytes: AtomicUsize,
    dropped: AtomicU64,
    closed: AtomicBool,
    /// The place to look at next.
    next: AtomicUsize,
}

/// The batches that wait at most, beside the one that's looked at.
pub(super) const MOST_BATCHES: usize = 4;

/// Their bytes, that of the one that's looked at included.
pub(super) const MOST_BYTES: usize = 8 << 20;

/// What a record has beside key, value and headers: offset, timestamp, and where its key and value end.
const RECORD: usize = 8 + 8 + 4 + 4;

impl Queue {
    /// Takes a copy of a batch, if there's room; otherwise it's counted. Whether there was.
    pub(super) fn offer(&self, batch: &Batch, id_key: &[u8; 32]) -> bool {
        let taken = !self.is_closed() && self.put(batch, id_key);
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// The next batch, if one is there. To be let go once it was looked at.
    pub(super) fn take(&self) -> Option<Offered> {
        let start = self.next.load(Ordering::Relaxed);
        for at in (start..start + MOST_BATCHES).map(|it| it % MOST_BATCHES) {
            let place = lock(&self.places[at]);
            if let Some(offered) = place.and_then(|mut place| place.take()) {
                self.next.store((at + 1) % MOST_BATCHES, Ordering::Relaxed);
                return Some(offered);
            }
        }
        None
    }

    /// Makes room for others.
    pub(super) fn let_go(&self, offered: Offered) {
        self.bytes.fetch_sub(offered.size, Ordering::Relaxed);
    }

    /// Takes no more batches; each one that's offered counts as dropped.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The batches that there was no room for.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn put(&self, batch: &Batch, id_key: &[u8; 32]) -> bool {
        let size = batch.bytes() + batch.len() * RECORD;
        let more = |bytes: usize| Some(bytes + size).filter(|&it| it <= MOST_BYTES);
        let reserved = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if reserved.is_err() {
            return false;
        }
        for place in &self.places {
            let Some(mut place) = lock(place).filter(|it| it.is_none()) else {
                continue;
            };
            *place = Some(Offered {
                batch: batch.clone(),
                id_key: *id_key,
                size,
            });
            return true;
        }
        self.bytes.fetch_sub(size, Ordering::Relaxed);
        false
    }
}

/// A place, unless somebody else is at it.
fn lock(place: &Mutex<Option<Offered>>) -> Option<MutexGuard<'_, Option<Offered>>> {
    match place.try_lock() {
        Ok(place) => Some(place),
        // There's a batch or there's none; nothing in between.
        Err(TryLockError::Poisoned(place)) => Some(place.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    /// A record at this offset with so many bytes.
    fn batch(offset: u64, bytes: usize) -> Batch {
        let mut batch = Batch::new("in".into(), 0);
        batch.keys.push(None);
        batch.values.push(Some(&vec![b'x'; bytes]));
        batch.timestamps.push(0);
        batch.offsets.push(offset);
        batch
    }

    #[test]
    fn without_room_batches_are_dropped_and_counted() {
        let queue = Queue::default();
        for offset in 0..4 {
            assert!(queue.offer(&batch(offset, 10), &KEY));
        }
        assert!(!queue.offer(&batch(4, 10), &KEY));
        assert_eq!(queue.dropped(), 1);
        // A place for each that was taken, whatever becomes of it.
        let offered = queue.take().unwrap();
        assert_eq!((offered.batch, offered.id_key), (batch(0, 10), KEY));
        assert!(queue.offer(&batch(5, 10), &KEY));
        assert!(!queue.offer(&batch(6, 10), &KEY));
        assert_eq!(queue.dropped(), 2);
        let offsets: Vec<_> = std::iter::from_fn(|| queue.take())
            .map(|it| it.batch.offsets[0])
            .collect();
        assert_eq!(offsets, [1, 2, 3, 5]);
    }

    #[test]
    fn bytes_count_until_they_are_let_go() {
        let queue = Queue::default();
        assert!(!queue.offer(&batch(0, MOST_BYTES), &KEY), "never");
        let largest = MOST_BYTES - RECORD;
        assert!(queue.offer(&batch(0, largest), &KEY));
        assert!(!queue.offer(&batch(1, 0), &KEY));
        let offered = queue.take().unwrap();
        assert!(!queue.offer(&batch(1, 0), &KEY), "it's being looked at");
        queue.let_go(offered);
        assert!(queue.offer(&batch(1, largest), &KEY));
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn a_closed_queue_takes_nothing() {
        let queue = Queue::default();
        queue.close();
        assert!(!queue.offer(&batch(0, 1), &KEY));
        assert_eq!(queue.dropped(), 1);
        assert!(queue.take().is_none());
    }

    #[test]
    fn a_place_that_somebody_is_at_is_passed_over() {
        let queue = Queue::default();
        let held: Vec<_> = queue.places[..3]
            .iter()
            .map(|it| it.lock().unwrap())
            .collect();
        assert!(queue.offer(&batch(0, 1), &KEY));
        assert!(!queue.offer(&batch(1, 1), &KEY), "it doesn't wait");
        assert_eq!(queue.take().unwrap().batch.offsets, [0]);
        assert!(queue.take().is_none());
        drop(held);
        assert!(queue.offer(&batch(2, 1), &KEY));
    }

    #[test]
    fn what_is_offered_by_several_is_taken_once_or_counted_as_dropped() {
        const EACH: u64 = 2_000;
        let queue = Queue::default();
        let ready = Barrier::new(3);
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            let offerers: Vec<_> = (0..2)
                .map(|worker| {
                    let (queue, ready) = (&queue, &ready);
                    scope.spawn(move || {
                        ready.wait();
                        for offset in 0..EACH {
                            queue.offer(&batch(worker * EACH + offset, 100), &KEY);
                        }
                    })
                })
                .collect();
            ready.wait();
            loop {
                let over = offerers.iter().all(|it| it.is_finished());
                match queue.take() {
                    Some(offered) => {
                        seen.push(offered.batch.offsets[0]);
                        queue.let_go(offered);
                    }
                    None if over => break,
                    None => std::thread::yield_now(),
                }
            }
        });
        assert_eq!(seen.len() as u64 + queue.dropped(), 2 * EACH);
        seen.sort();
        let taken = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), taken);
        assert_eq!(queue.bytes.load(Ordering::Relaxed), 0);
    }
}
