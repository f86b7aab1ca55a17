//! How a worker sleeps: one eventfd that every queue writes to, and whoever else has something to say.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Wakes one worker. A clone is a handle for another thread, or for a queue.
///
/// Queues are **edge-triggered**: a queue writes here when something comes and it was empty, and then not again before
/// it is read. So before each [`Waker::wait`] every queue has been read until it said that nothing is left
/// ([`Source::event`](crate::io::Source::event) and [`Source::read`](crate::io::Source::read) return `None`,
/// [`Sink::deliveries`](crate::io::Sink::deliveries) always reads to the end), or the worker has no room for more and
/// a delivery will wake it. What comes between that read and the wait isn't lost: it's in the eventfd.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A waker that nobody has woken.
    pub fn new() -> Result<Waker, Error> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .context("can't make an eventfd")?;
        Ok(Waker(Arc::new(fd)))
    }

    /// Ends the wait that goes on, or the next one.
    pub fn wake(&self) {
        // It fails only if it was written to 2^64 times since the last wait, and then it wakes too.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Sleeps until woken, or for `timeout`. Returns whether it was woken. A signal ends it early, as if by timeout.
    pub fn wait(&self, timeout: Duration) -> Result<bool, Error> {
        // A timeout that the kernel can't count is none.
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error).context("can't wait for the queues"),
        }
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("can't read the eventfd"),
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
