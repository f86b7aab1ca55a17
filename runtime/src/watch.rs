//! Files that change while the process runs.
//!
//! A file is known by its content: one that's touched, or written anew with the same content, hasn't changed. The
//! operating system's notices say when to look (`folders.rs`), and where it gives none, as on network file systems, a look
//! every few seconds does. Looks are taken off the async threads, and only a file whose metadata is another one is read.

mod file;
mod folders;
mod lookout;
#[cfg(test)]
mod tests;
mod way;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::pending;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep_until, timeout_at};

use file::Look;
use folders::Notices;
use lookout::{Lookout, Seen};

/// How far apart two looks are at least, and for how long a file must be the same to count as finished: whoever copies a
/// file over a network writes again within a few dozen milliseconds, and nobody waits for a swap that takes 0.2 s more.
const QUIET: Duration = Duration::from_millis(200);

/// How often to look without a notice. A look at a file that hasn't changed takes some microseconds.
const EVERY: Duration = Duration::from_secs(5);

/// Says when files have changed.
///
/// Dropping it ends all that it runs.
pub struct Watch {
    lookout: Arc<Mutex<Lookout>>,
    notices: Arc<Notices>,
    /// The files to watch from the next look on, and what was seen of each when that was said.
    wanted: Option<BTreeMap<PathBuf, Look>>,
    /// A look that's under way. It's kept here, so that nothing is lost when nobody waits for it any more.
    look: Option<JoinHandle<Seen>>,
    /// When the last look ended, and whether another one is needed without a notice.
    last: Option<(tokio::time::Instant, bool)>,
    every: Duration,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Watches nothing yet. Where the operating system gives no notices, there's a warning, and it looks every 5 s.
    pub fn new() -> Watch {
        let (notices, stop) = (Arc::<Notices>::default(), Arc::<AtomicBool>::default());
        let lookout = Lookout::new(Arc::clone(&notices), Arc::clone(&stop));
        Watch {
            lookout: Arc::new(Mutex::new(lookout)),
            notices,
            wanted: None,
            look: None,
            last: None,
            every: EVERY,
            stop,
        }
    }

    /// Watches these files from now on and no others. They don't have to exist. Those that are watched already aren't told
    /// of again; of the others, changes from now on are: so watch a file first, and then read it.
    ///
    /// A file that's written to before its content could be read for the first time, which is soon after [`Watch::changed`]
    /// is first waited for, counts as changed whatever was written.
    pub fn set(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut before = self.wanted.take().unwrap_or_default();
        let mut wanted = BTreeMap::new();
        for path in files {
            if let Entry::Vacant(entry) = wanted.entry(path) {
                let first = before.remove(entry.key());
                let first = first.unwrap_or_else(|| Look::at(entry.key()));
                entry.insert(first);
            }
        }
        self.wanted = Some(wanted);
    }

    /// Waits for files whose content is another one than when they were last told of, or first watched, and gives their
    /// paths as they were given to [`Watch::set`]. A file that's gone isn't told of; if it comes back with another content, it
    /// is. Nothing is lost when the future is dropped.
    ///
    /// Files that change together are told of together, once all have come to rest: what's written in parts is told of once,
    /// whole. But a writer that pauses for more than 200 ms can't be told from one that has finished. So whoever reads the
    /// file must cope with half of it; it's told of again when the rest is there.
    pub async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            if let Some(look) = &mut self.look {
                let seen = ended(look).await;
                self.look = None;
                self.last = Some((seen.at.into(), seen.restless));
                let mut changed = seen.changed;
                if let Some(wanted) = &self.wanted {
                    changed.retain(|path| wanted.contains_key(path));
                }
                if !changed.is_empty() {
                    return changed;
                }
            }
            self.due().await;
            let (lookout, wanted) = (Arc::clone(&self.lookout), self.wanted.take());
            self.look = Some(spawn_blocking(move || {
                let mut lookout = lookout.lock().unwrap_or_else(PoisonError::into_inner);
                lookout.look(wanted)
            }));
        }
    }

    /// Waits until it's time for the next look.
    async fn due(&self) {
        let Some((last, restless)) = self.last else {
            return;
        };
        sleep_until(last + QUIET).await;
        if !restless && self.wanted.is_none() {
            // It's time either way.
            let _ = timeout_at(last + self.every, self.notices.bell.notified()).await;
        }
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch::new()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A look that's under way ends before the next piece of a file, and the source of the notices with it.
        self.stop.store(true, Ordering::Release);
    }
}

async fn ended(look: &mut JoinHandle<Seen>) -> Seen {
    match look.await {
        Ok(seen) => seen,
        Err(why) => match why.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is ending, and whoever waits here with it.
            Err(_) => pending().await,
        },
    }
}
