//! Where a producer's transactions stand.

use std::time::{Duration, Instant};

use anyhow::{Error, anyhow};

use super::caller::{Answer, Call, Caller};
use super::ffi::{Code, Failure, Reports, Undone};
use super::wake::Waker;
use crate::fold::Fold;
use crate::io::{Progress, TransactionError};

/// A producer's transactions: which call is under way, and what came of it. While one is, it has the producer's reports.
pub(super) struct Transactions {
    caller: Caller,
    stage: Stage,
    /// What is to be done next, and what became of it before if it's to be done again.
    next: Option<(Call, Option<Code>)>,
    /// What came of a call, for whoever asks next.
    answer: Option<(Call, Result<(), Undone>)>,
    /// How long a transaction's end may take, and a call be under way, before it's given up with its client.
    patience: Duration,
    /// When the transaction was first asked to end.
    ending: Option<Instant>,
    /// What has been said of calls that go on.
    fold: Fold<Code>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The client is new.
    New,
    /// Between two transactions.
    Ready,
    /// In a transaction, also while it ends.
    Begun,
    /// The client can't go on.
    Failed,
}

impl Transactions {
    /// What a call gets beside the time that a transaction may last: after that nothing that it does can count any more.
    const SLACK: Duration = Duration::from_secs(5);

    /// Those of a new client, whose transactions last for `timeout` at most. Whenever an answer of [`Progress::Pending`] may
    /// have become another, `waker` wakes.
    pub(super) fn new(waker: &Waker, timeout: Duration) -> Result<Transactions, Error> {
        Ok(Transactions {
            caller: Caller::new(waker)?,
            stage: Stage::New,
            next: None,
            answer: None,
            patience: timeout + Transactions::SLACK,
            ending: None,
            fold: Fold::default(),
        })
    }

    /// Whether a call is under way that won't end any more.
    pub(super) fn is_stuck(&self) -> bool {
        self.caller
            .busy_for()
            .is_some_and(|time| time > self.patience)
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Begins one, or says why the client can't.
    pub(super) fn begin(&mut self, begun: Result<(), Undone>) -> Result<(), TransactionError> {
        match begun {
            Ok(()) => {
                self.stage = Stage::Begun;
                self.ending = None;
                Ok(())
            }
            // There's nothing to abort.
            Err(Undone::Again(failure) | Undone::Abort(failure) | Undone::Fatal(failure)) => {
                self.stage = Stage::Failed;
                Err(sort(Undone::Fatal(failure)).context("beginning a transaction"))
            }
        }
    }

    /// Forgets the client that can't go on, for a new one. No call is under way, or it's left alone.
    pub(super) fn renew(&mut self, waker: &Waker) -> Result<(), Error> {
        if self.is_stuck() {
            self.caller.abandon();
            self.caller = Caller::new(waker)?;
        }
        self.stage = Stage::New;
        self.ending = None;
        (self.next, self.answer) = (None, None);
        Ok(())
    }

    /// Has a call made by the next [`Transactions::drive`], unless one goes on.
    pub(super) fn prepare(&mut self, call: Call) {
        if !matches!(call, Call::Init) {
            self.ending.get_or_insert_with(Instant::now);
        }
        self.next = Some((call, None));
    }

    /// Whether a call goes on: it's under way, or to be made again, or its answer was never asked for.
    pub(super) fn is_busy(&self, reports: &Option<Reports>) -> bool {
        reports.is_none() || self.next.is_some() || self.answer.is_some()
    }

    /// Takes in the answer of the call that's under way, if it's there within `patience`. Returns whether none is under
    /// way any more.
    pub(super) fn take_in(
        &mut self,
        reports: &mut Option<Reports>,
        patience: Duration,
    ) -> Result<bool, TransactionError> {
        if reports.is_some() {
            return Ok(true);
        }
        let answer = self.caller.answer(patience);
        let Some(answer) = answer.map_err(TransactionError::Fatal)? else {
            if self.is_stuck() && self.stage != Stage::Failed {
                self.stage = Stage::Failed;
                return Err(TransactionError::Fatal(anyhow!(
                    "the producer's transaction has had no answer for {:?}",
                    self.patience
                )));
            }
            return Ok(false);
        };
        let Answer {
            call,
            reports: back,
            result,
        } = answer;
        *reports = Some(back);
        self.answer = Some((call, result));
        Ok(true)
    }

    /// Has the call that was prepared made, again if that's what it takes, until it's done.
    pub(super) fn drive(
        &mut self,
        reports: &mut Option<Reports>,
        deadline: Instant,
    ) -> Result<Progress, TransactionError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.take_in(reports, left)? {
                return Ok(Progress::Pending);
            }
            match self.answer.take() {
                Some((_, Ok(()))) => {
                    self.stage = Stage::Ready;
                    return Ok(Progress::Done);
                }
                Some((call, Err(Undone::Again(failure)))) => {
                    // The brokers have ended it by now. librdkafka may not hear of that, and would ask for ever.
                    if self.ending.is_some_and(|it| it.elapsed() > self.patience) {
                        return Err(self.failed(&call, Undone::Fatal(failure)));
                    }
                    if self.fold.tells(failure.code, Instant::now()).is_some() {
                        tracing::warn!(target: "kafka", "{}: {failure}; it goes on", call.name());
                    }
                    self.next = Some((call, Some(failure.code)));
                }
                Some((call, Err(undone))) => return Err(self.failed(&call, undone)),
                None => {}
            }
            let (Some((call, after)), Some(mine)) = (self.next.take(), reports.take()) else {
                return Err(TransactionError::Fatal(anyhow!("no call was prepared")));
            };
            self.caller.call(call, mine, after);
        }
    }

    /// Readies for an abort, whatever goes on; whether there's anything to abort. No call is under way.
    pub(super) fn turn_back(&mut self) -> Result<bool, TransactionError> {
        match (&self.answer, &self.next) {
            (Some((Call::Abort, _)), _) | (_, Some((Call::Abort, _))) => Ok(true),
            // Nobody knows what became of it, or it went well already.
            (Some((Call::Commit { asked: true, .. }, Ok(()) | Err(Undone::Again(_)))), _)
            | (_, Some((Call::Commit { asked: true, .. }, _))) => {
                self.stage = Stage::Failed;
                Err(TransactionError::Fatal(anyhow!(
                    "a transaction can't be aborted once it's being committed"
                )))
            }
            _ if self.stage != Stage::Begun => Ok(false),
            _ => {
                self.answer = None;
                self.prepare(Call::Abort);
                Ok(true)
            }
        }
    }

    /// Takes note of a call that failed for good, and says what's to be done.
    fn failed(&mut self, call: &Call, undone: Undone) -> TransactionError {
        let undone = match (call, undone) {
            // There is no way back but a new client, whose first call aborts what this one has begun.
            (Call::Init | Call::Abort, Undone::Abort(failure)) => Undone::Fatal(failure),
            (_, undone) => undone,
        };
        let error = sort(undone);
        if !matches!(error, TransactionError::Abort(_)) {
            self.stage = Stage::Failed;
        }
        error.context(call.name())
    }
}

/// Sorts the failure of a client that can't go on.
pub(super) fn fatal(failure: Failure) -> TransactionError {
    sort(Undone::Fatal(failure))
}

/// Sorts a failure by what has to be done.
fn sort(undone: Undone) -> TransactionError {
    let (failure, kind): (Failure, fn(Error) -> TransactionError) = match undone {
        Undone::Again(failure) | Undone::Abort(failure) => (failure, TransactionError::Abort),
        Undone::Fatal(failure) => (failure, TransactionError::Fatal),
    };
    match failure.code {
        Code::FENCED | Code::PRODUCER_FENCED | Code::INVALID_PRODUCER_EPOCH => {
            TransactionError::Fenced(Error::from(failure).context(
                "another producer has taken over the \"transactional.id\", or a transaction took longer than \"transaction.timeout.ms\"",
            ))
        }
        Code::FENCED_INSTANCE => TransactionError::Fenced(
            Error::from(failure).context("another member has taken over the \"group.instance.id\""),
        ),
        Code::TRANSACTIONAL_ID_DENIED => kind(Error::from(failure).context(
            "this user may not write transactions; exactly-once needs Write and Describe on transactional ids that start with \"weir-\"",
        )),
        Code::TOPIC_DENIED => kind(Error::from(failure).context(
            "this user may not write to an output, or not read an input; allow Write on the outputs and the dead letter topic, and Read on the inputs",
        )),
        Code::GROUP_DENIED => kind(Error::from(failure).context(
            "this user may not commit the group's offsets; allow Read and Describe on the group",
        )),
        Code::TRANSACTION_TIMEOUT_DENIED => kind(Error::from(failure).context(
            "the producer's \"transaction.timeout.ms\" is more than the brokers' \"transaction.max.timeout.ms\"; lower it",
        )),
        _ => kind(failure.into()),
    }
}
