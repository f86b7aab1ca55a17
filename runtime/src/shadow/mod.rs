//! A version that sees the same batches as the active one, and writes nothing.
//!
//! Workers offer copies of what the active version is about to be given, and never wait: what there's no room for is
//! dropped and counted. One thread that gives way to all others runs both versions on each copy and compares what they
//! make of it, so that all that a worker does for it is to copy its input. The copies are whole, since a guest may replace
//! a column that it doesn't read, and then the input's own is what that's compared with.

mod compare;
mod json;
mod queue;
mod report;
mod sides;
mod tell;
mod text;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle, Thread};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::chain::Version;
use crate::record::Batch;
use queue::Queue;
use report::Findings;
pub use report::{Counts, Difference, Differs, Kind, Kinds, Report};
use sides::Sides;

/// A version that's tried beside the active one. Dropping it ends its thread and waits for that: at most for the call of
/// a guest that's running, which has its deadline. That counts CPU time, of which the thread is the last to get any.
pub struct Shadow {
    tap: Tap,
    since: DateTime<Utc>,
    /// There until it's joined.
    thread: Option<JoinHandle<()>>,
}

/// Where a worker offers its batches.
#[derive(Clone)]
pub struct Tap {
    shared: Arc<Shared>,
    thread: Thread,
}

/// What passes between the thread and the others.
#[derive(Default)]
struct Shared {
    queue: Queue,
    findings: Mutex<Findings>,
}

impl Shadow {
    /// Starts a guest of each version, and the thread that calls them. Both are versions of one transform.
    pub fn start(active: Arc<Version>, tried: Arc<Version>) -> Result<Shadow> {
        ensure!(
            active.setup.outputs == tried.setup.outputs,
            "the versions of the transform {:?} choose among different outputs and can't be compared; \
             try one that's for the pipeline's outputs",
            active.transform
        );
        let sides = Sides::new(&active, &tried)?;
        let shared = Arc::new(Shared::default());
        let working = shared.clone();
        let thread = Builder::new()
            .name("shadow".into())
            .spawn(move || working.work(sides))
            .context("starting the shadow's thread")?;
        Ok(Shadow {
            tap: Tap {
                shared,
                thread: thread.thread().clone(),
            },
            since: Utc::now(),
            thread: Some(thread),
        })
    }

    /// A tap for a worker.
    pub fn tap(&self) -> Tap {
        self.tap.clone()
    }

    /// What was found out so far.
    pub fn report(&self) -> Report {
        let dropped_batches = self.tap.shared.queue.dropped();
        let findings = self.tap.shared.findings();
        Report {
            since: self.since,
            ended: findings.ended.clone(),
            batches: findings.batches,
            dropped_batches,
            counts: findings.counts,
            last_fault: findings.last_fault.clone(),
            active_ns_per_record: findings.active.per_record(),
            tried_ns_per_record: findings.tried.per_record(),
            differences: findings.differences.clone(),
        }
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.tap.shared.queue.close();
        self.tap.thread.unpark();
        if let Some(thread) = self.thread.take() {
            // A panic of it was told in the report, which nobody asks for any more.
            let _ = thread.join();
        }
    }
}

impl Tap {
    /// Offers what the active version is about to be given, with the key of its ids. Never waits: without room for it the
    /// batch is dropped and counted, before anything is copied.
    pub fn offer(&self, batch: &Batch, id_key: &[u8; 32]) {
        if self.shared.queue.offer(batch, id_key) {
            self.thread.unpark();
        }
    }
}

impl Shared {
    /// The thread's life. However it ends, no more batches are taken.
    fn work(&self, mut sides: Sides) {
        yield_to_all();
        let looking = catch_unwind(AssertUnwindSafe(|| self.look(&mut sides)));
        self.queue.close();
        let ended = match looking {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(format!("{why:#}")),
            Err(panic) => Some(format!("its thread panicked: {}", panic_text(&*panic))),
        };
        self.findings().add(Findings {
            ended,
            ..Findings::default()
        });
        while self.queue.take().is_some() {}
    }

    /// Looks at one batch after the other until told to stop.
    fn look(&self, sides: &mut Sides) -> Result<()> {
        let stop = || self.queue.is_closed();
        while !stop() {
            let Some(offered) = self.queue.take() else {
                thread::park();
                continue;
            };
            let findings = sides.look_at(&offered.batch, &offered.id_key, &stop)?;
            self.queue.let_go(offered);
            self.findings().add(findings);
        }
        Ok(())
    }

    /// Held for the time of a few additions.
    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the calling thread run where no other wants to: a worker that wakes up takes the core from it at once, which it
/// doesn't from a thread that's merely nice.
fn yield_to_all() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // It's a courtesy; without it the result is the same.
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it gave no reason")
}
