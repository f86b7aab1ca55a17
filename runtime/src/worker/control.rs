//! What passes between the control side and a worker: flags, the chain to come, and a way to wake it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// Told when the worker has it; dropped if it never will.
    pub taken: oneshot::Sender<Taken>,
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

/// What the control side tells a worker, and learns from it.
#[derive(Debug)]
pub struct Control {
    waker: Waker,
    stop: AtomicBool,
    hurry: AtomicBool,
    joined: AtomicBool,
    trouble: Mutex<Option<String>>,
    /// Of the pipeline.
    shared: Arc<Shared>,
    next: Mutex<Option<Box<Next>>>,
}

impl Control {
    /// Control over a worker that sleeps on `waker`.
    pub fn new(waker: Waker, shared: Arc<Shared>) -> Control {
        Control {
            shared,
            next: Mutex::default(),
            waker,
            stop: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            trouble: Mutex::new(None),
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

    /// Why the worker can't deliver at the moment, if it can't.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
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
        }
        *slot = Some(Box::new(next));
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
