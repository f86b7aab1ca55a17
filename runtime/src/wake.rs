//! What a worker sleeps on: one eventfd that everything which may give it work writes to.
//!
//! librdkafka's queues signal only when they turn from empty to not empty. So before a worker sleeps, it has read
//! every queue until it was empty, or it's held up by its window and only a delivery can free it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Wakes a worker, from any thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A waker that nothing has woken yet.
    pub fn new() -> Result<Waker> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let fd = eventfd(0, flags).context("making an eventfd")?;
        Ok(Waker(Arc::new(fd)))
    }

    /// Ends the sleep under way, or else the next one at once.
    pub fn wake(&self) {
        // The only possible failure is a full counter, and then the sleeper is awake already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Sleeps until woken, at most for `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            // Whatever else happens: the worker looks at its queues again.
            Ok(_) | Err(_) => {
                let mut count = [0; 8];
                let _ = rustix::io::read(self.0.as_fd(), &mut count);
            }
        }
    }

    /// The file descriptor, for librdkafka to write 8 bytes (a `u64` of 1) to.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
