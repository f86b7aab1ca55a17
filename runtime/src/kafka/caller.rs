//! A transactional producer's calls that wait for brokers, on a thread of their own.
//!
//! librdkafka's calls block. Each takes a timeout and may be made again afterwards, but rdkafka.h says to wait for as
//! long as the transaction may last, and rightly: the answer to a call that was given up can come while the next one is
//! made, and be taken for an answer to that. Measured with librdkafka 2.12.1, 10,000 commits each: called again and again
//! with a timeout of 0, it ends the process by an assertion ("Invalid transaction state transition"); with 2 ms, one
//! transaction was begun that wasn't; with 5 s, all went well. And an offset's way into the transaction can't be resumed
//! at all: it waits for two brokers, whatever the timeout. So a thread makes the calls, gives them time, and wakes the
//! worker when there's an answer.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Error};

use super::ffi::{Code, Failure, Member, PartitionList, Reports, Undone};
use super::wake::Waker;

/// What is to be done.
pub(super) enum Call {
    /// Fences earlier producers of the same `transactional.id`.
    Init,
    /// Commits.
    Commit {
        /// What has to become part of the transaction yet.
        offsets: Option<(PartitionList, Member)>,
        /// Whether the commit itself has been asked for. What it was asked for it may have done, whatever is heard of it.
        asked: bool,
    },
    /// Aborts.
    Abort,
}

impl Call {
    /// What it does, for errors.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Call::Init => "readying the producer for transactions",
            Call::Commit { .. } => "committing a transaction",
            Call::Abort => "aborting a transaction",
        }
    }
}

/// A call and what became of it.
pub(super) struct Answer {
    /// To be made again if it's to be made again.
    pub(super) call: Call,
    /// Whose it was.
    pub(super) reports: Reports,
    /// What became of it.
    pub(super) result: Result<(), Undone>,
}

/// Has calls made, one at a time.
pub(super) struct Caller {
    /// Gone before the thread is joined, which ends it.
    calls: Option<Sender<(Call, Reports, Duration)>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
    /// Since when a call is under way.
    since: Option<Instant>,
}

impl Caller {
    /// How long one call may take before its answer is that it goes on.
    const TIMEOUT: Duration = Duration::from_secs(5);
    /// How long deliveries are waited for before a look at what came.
    const STEP: Duration = Duration::from_millis(100);
    /// How long to wait on drop for a call that's under way.
    const LAST_PATIENCE: Duration = Duration::from_secs(6);
    /// Before what failed in a way that may pass is tried again.
    const PAUSE: Duration = Duration::from_millis(100);

    /// A thread without a call. Each answer wakes `waker`.
    pub(super) fn new(waker: &Waker) -> Result<Caller, Error> {
        let (calls, to_do) = mpsc::channel();
        let (done, answers) = mpsc::channel();
        let waker = waker.clone();
        let thread = thread::Builder::new()
            .name("transaction".to_string())
            .spawn(move || serve(&to_do, &done, &waker))
            .context("can't start a thread")?;
        Ok(Caller {
            calls: Some(calls),
            answers,
            thread: Some(thread),
            since: None,
        })
    }

    /// How long the call that's under way has been, if there's one.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    /// Leaves a call alone that won't end. librdkafka may wait for ever for a group's coordinator that's gone when offsets
    /// go into a transaction (its issues 5456 and 5511): the thread keeps its client, and ends with it or the process.
    pub(super) fn abandon(&mut self) {
        self.calls = None;
        self.thread = None;
        self.since = None;
    }

    /// Has a call made; `after` is what became of it the last time.
    pub(super) fn call(&mut self, call: Call, reports: Reports, after: Option<Code>) {
        self.since = Some(Instant::now());
        let pause = match after {
            None | Some(Code::TIMED_OUT) => Duration::ZERO,
            Some(_) => Caller::PAUSE,
        };
        let calls = self.calls.as_ref();
        // If the thread is gone, so is the answer.
        let _ = calls.map(|calls| calls.send((call, reports, pause)));
    }

    /// The answer to the call, or `None` if it isn't there within `patience`.
    pub(super) fn answer(&mut self, patience: Duration) -> Result<Option<Answer>, Error> {
        match self.answers.recv_timeout(patience) {
            Ok(answer) => {
                self.since = None;
                Ok(Some(answer))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(why @ RecvTimeoutError::Disconnected) => {
                Err(why).context("the thread of the producer's transactions has ended")
            }
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.calls = None;
        if self.since.is_some() && self.answers.recv_timeout(Caller::LAST_PATIENCE).is_err() {
            self.abandon();
        }
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; a panic of its own was told already.
            let _ = thread.join();
        }
    }
}

/// Makes calls until nobody asks any more.
fn serve(calls: &Receiver<(Call, Reports, Duration)>, answers: &Sender<Answer>, waker: &Waker) {
    for (mut call, mut reports, pause) in calls {
        thread::sleep(pause);
        let result = make(&mut call, &mut reports);
        let answer = Answer {
            call,
            reports,
            result,
        };
        if answers.send(answer).is_err() {
            return;
        }
        waker.wake();
    }
}

/// Waits until all records are delivered, or one has failed: the transaction has, too, says the next call, and librdkafka
/// keeps what's behind that record back until its time is over.
fn deliver(reports: &mut Reports) -> Result<(), Undone> {
    let since = Instant::now();
    while !reports.flush(Caller::STEP) && !reports.have_failure() {
        if since.elapsed() >= Caller::TIMEOUT {
            return Err(Undone::Again(Failure {
                code: Code::TIMED_OUT,
                text: "not all records are delivered yet".to_string(),
            }));
        }
    }
    Ok(())
}

fn make(call: &mut Call, reports: &mut Reports) -> Result<(), Undone> {
    match call {
        Call::Init => reports.init_transactions(Caller::TIMEOUT),
        Call::Commit { offsets, asked } => {
            // First, though a commit would do it too: a broker that's still ending the last transaction has a partition
            // wait 20 ms, and offsets 100 ms (`retry.backoff.ms`).
            if !*asked {
                deliver(reports)?;
            }
            if let Some((list, member)) = offsets {
                reports.send_offsets(list, member)?;
            }
            *offsets = None;
            *asked = true;
            reports.commit_transaction(Caller::TIMEOUT)
        }
        Call::Abort => reports.abort_transaction(Caller::TIMEOUT),
    }
}
