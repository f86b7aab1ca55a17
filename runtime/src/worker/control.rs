//! What passes between the control side and a worker: flags, the chain to come, and a way to wake it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Error;
use tokio::sync::oneshot;

use super::Rules;
use crate::chain::Chain;
use crate::kafka::Waker;
use crate::metrics::Counters;

/// A chain to come, built on the control side.
pub struct Next {
    /// Which publication it's part of ([`Shared::next`]).
    pub publication: u64,
    /// The chain. Of versions that the worker runs already it brings no guests.
    pub chain: Chain,
    /// What becomes of records that a transform fails on, for each of the chain's.
    pub rules: Vec<Rules>,
    /// What the worker counts from then on.
    pub counters: Counters,
    /// Told when the worker has it, with those of a chain that this one took the place of; dropped if it never will.
    pub taken: Vec<oneshot::Sender<Taken>>,
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
    }
}

/// A worker has taken a chain up.
pub struct Taken {
    /// How long it stood still for it.
    pub pause: Duration,
    /// What is left of the chain before, to be thrown away elsewhere.
    pub before: Chain,
}

/// What all workers of a pipeline look at between two batches.
#[derive(Debug, Default)]
pub struct Shared {
    paused: AtomicBool,
    published: AtomicU64,
}

impl Shared {
    /// The number of the next publication.
    pub fn next(&self) -> u64 {
        self.published.load(Ordering::Acquire) + 1
    }

    /// Has all workers take up what [`Control::set_next`] laid down for each before. A worker that sees a partition come from
    /// another one that has taken it up sees this too, so that no partition goes back to an older version.
    pub fn publish(&self) {
        self.published.fetch_add(1, Ordering::AcqRel);
    }

    /// Has the workers read no more, or go on.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// Whether the workers read no more for now.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }
}

/// A worker that has been busy with one batch for so long doesn't get on.
const STALLED: Duration = Duration::from_secs(5);

/// What the control side tells a worker, and learns from it.
#[derive(Debug)]
pub struct Control {
    waker: Waker,
    stop: AtomicBool,
    hurry: AtomicBool,
    joined: AtomicBool,
    trouble: Mutex<Option<String>>,
    /// Why the brokers seem to be away.
    silence: Mutex<Option<String>>,
    /// Since when it's busy with one batch, in milliseconds after `since`, and 1; 0 while it isn't.
    busy: AtomicU64,
    since: Instant,
    /// Of the pipeline.
    shared: Arc<Shared>,
    next: Mutex<Option<Box<Next>>>,
    /// The publication that the worker's chain is of.
    chain_of: AtomicU64,
}

impl Control {
    /// Control over a worker that sleeps on `waker`.
    pub fn new(waker: Waker, shared: Arc<Shared>) -> Control {
        Control {
            shared,
            next: Mutex::default(),
            chain_of: AtomicU64::new(0),
            waker,
            stop: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            trouble: Mutex::new(None),
            silence: Mutex::new(None),
            busy: AtomicU64::new(0),
            since: Instant::now(),
        }
    }

    /// Tells the worker to finish what it has in hand and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Tells a worker that's stopping not to wait for what is in flight.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Release);
        self.stop();
    }

    /// Whether the worker has joined its group and knows its partitions.
    pub fn joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    pub(super) fn set_joined(&self, joined: bool) {
        self.joined.store(joined, Ordering::Release);
    }

    /// Why the worker doesn't get on at the moment, if it doesn't: it can't deliver, its brokers don't answer, or a guest
    /// takes its time.
    pub fn trouble(&self) -> Option<String> {
        let told = |it: &Mutex<Option<String>>| {
            let told = it.lock();
            told.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let busy = self.busy_for().filter(|it| *it >= STALLED);
        told(&self.trouble)
            .or_else(|| told(&self.silence))
            .or_else(|| {
                let busy = busy?.as_secs_f64();
                Some(format!(
                    "a worker has been busy with one batch for {busy:.0} s"
                ))
            })
    }

    /// For how long the worker has been busy with one batch.
    fn busy_for(&self) -> Option<Duration> {
        let began = self.busy.load(Ordering::Relaxed).checked_sub(1)?;
        Some(
            self.since
                .elapsed()
                .saturating_sub(Duration::from_millis(began)),
        )
    }

    /// Notes that a batch goes through the chain, or that it has.
    pub(super) fn set_busy(&self, busy: bool) {
        let now = self.since.elapsed().as_millis() as u64 + 1;
        self.busy
            .store(if busy { now } else { 0 }, Ordering::Relaxed);
    }

    pub(super) fn set_silence(&self, silence: Option<String>) {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = silence;
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Has the worker take this chain up, once it's published for all ([`Shared::publish`]). One that it has not taken yet is
    /// replaced, and leaves its guests to this one.
    pub fn set_next(&self, mut next: Next) {
        let mut slot = self.next();
        if let Some(mut before) = slot.take() {
            next.chain.inherit(&mut before.chain);
            next.taken.append(&mut before.taken);
        }
        *slot = Some(Box::new(next));
    }

    /// Notes that the worker's chain is of this publication, or of a later one.
    pub fn set_chain_of(&self, publication: u64) {
        self.chain_of.fetch_max(publication, Ordering::AcqRel);
    }

    /// Whether another chain was published than the one that the worker has.
    pub fn is_behind(&self) -> bool {
        self.chain_of.load(Ordering::Acquire) < self.published()
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// How often chains were published for all workers.
    pub(super) fn published(&self) -> u64 {
        self.shared.published.load(Ordering::Acquire)
    }

    /// The chain to come, unless it's part of a publication that isn't out yet.
    pub(super) fn take_next(&self, published: u64) -> Option<Box<Next>> {
        self.next().take_if(|it| it.publication <= published)
    }

    /// Whether the pipeline reads no more for now.
    pub(super) fn is_paused(&self) -> bool {
        self.shared.is_paused()
    }

    fn next(&self) -> MutexGuard<'_, Option<Box<Next>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until something may have happened, at most for `timeout`.
    pub(super) fn sleep(&self, timeout: Duration) -> Result<(), Error> {
        self.waker.wait(timeout).map(|_| ())
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn hurrying(&self) -> bool {
        self.hurry.load(Ordering::Acquire)
    }
}
