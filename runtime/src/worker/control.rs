//! What passes between the control side and a worker: flags, and a way to wake it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Error;

use crate::kafka::Waker;

/// What the control side tells a worker, and learns from it.
#[derive(Debug)]
pub struct Control {
    waker: Waker,
    stop: AtomicBool,
    hurry: AtomicBool,
    joined: AtomicBool,
    trouble: Mutex<Option<String>>,
}

impl Control {
    /// Control over a worker that sleeps on `waker`.
    pub fn new(waker: Waker) -> Control {
        Control {
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
