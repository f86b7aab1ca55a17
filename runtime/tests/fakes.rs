//! A source and a sink that a test feeds, corks and fails. Their state is shared with the worker's thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Error, anyhow};
use weir::io::{
    Delivery, Event, Membership, Outgoing, Progress, ReadLimit, SendError, Sink, Source,
    TopicPartition, TransactionError, Undelivered, Unread,
};
use weir::kafka::Waker;
use weir::record::Batch;

/// Everything that a test sees and steers.
#[derive(Clone)]
pub struct Kafka {
    state: Arc<(Mutex<State>, Condvar)>,
    pub waker: Waker,
}

#[derive(Default)]
pub struct State {
    pub events: VecDeque<Event>,
    pub log: BTreeMap<TopicPartition, Vec<Logged>>,
    pub positions: BTreeMap<TopicPartition, u64>,
    pub assigned: Vec<TopicPartition>,
    /// Every commit, in order.
    pub commits: Vec<(TopicPartition, u64)>,
    pub seeks: Vec<(TopicPartition, u64)>,
    pub sent: Vec<Sent>,
    waiting: VecDeque<Delivery>,
    /// What comes back although all is corked.
    ready: VecDeque<Delivery>,
    /// While corked, nothing that is sent comes back.
    pub corked: bool,
    /// Deliveries of these values fail, once each.
    pub fail: Vec<Vec<u8>>,
    /// Deliveries of these values to the output fail for good.
    pub undeliverable: Vec<Vec<u8>>,
    /// Sending these values to the output is refused for good.
    pub refuse: Vec<Vec<u8>>,
    /// Sending these values to the output is refused for good right after the same value, as if it were larger.
    pub refuse_second: Vec<Vec<u8>>,
    /// What holds for the output holds for the dead letter topic too.
    pub everywhere: bool,
    /// So many sends find the queue full.
    pub full: usize,
    pub fail_reads: Option<String>,
    /// The next read finds that the records are gone.
    pub gone: Option<String>,
    /// Commits that nobody waits for get lost on the way, and end up here.
    pub lose_commits: bool,
    pub lost_commits: Vec<(TopicPartition, u64)>,
    /// Commits that are waited for fail.
    pub fail_commits: bool,
    /// So many times, serving the producer fails.
    pub fail_producer: usize,
    /// How often a topic's id was asked for.
    pub topic_ids: usize,
    /// Where a partition starts that has no commit, instead of 0.
    pub starts: BTreeMap<TopicPartition, u64>,
    /// What a reader of committed records alone sees.
    pub visible: Vec<Sent>,
    /// Where in `sent` the transaction at hand begins, if there's one.
    transaction: Option<usize>,
    /// How often a client was made, and how transactions ended.
    pub opened: usize,
    pub commits_done: usize,
    pub aborted: usize,
    /// What goes wrong, at which step of a transaction; once each, in order.
    pub trouble: VecDeque<(Step, Trouble)>,
    /// While the brokers are away, no transaction ends.
    pub away: bool,
    /// So many times, a commit isn't done yet.
    pub slow_commits: usize,
}

/// A step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Open,
    Begin,
    Commit,
    Abort,
}

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Abort,
    Fatal,
    Fenced,
    /// The commit went well, and its answer got lost.
    FatalAfterAll,
}

/// A record of a partition: its offset and its value.
type Logged = (u64, Option<Vec<u8>>);

/// A record as the sink got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub output: usize,
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

pub struct FakeSource(Kafka);
pub struct FakeSink(Kafka);

pub fn partition(number: i32) -> TopicPartition {
    TopicPartition {
        topic: "in".into(),
        partition: number,
    }
}

impl Kafka {
    pub fn new() -> Kafka {
        Kafka {
            state: Arc::default(),
            waker: Waker::new().unwrap(),
        }
    }

    pub fn source(&self) -> FakeSource {
        FakeSource(self.clone())
    }

    pub fn sink(&self) -> FakeSink {
        FakeSink(self.clone())
    }

    /// Appends records to a partition and wakes the worker.
    pub fn feed<'a>(&self, to: i32, values: impl IntoIterator<Item = &'a str>) {
        self.change(|state| {
            let log = state.log.entry(partition(to)).or_default();
            for value in values {
                let offset = log.last().map_or(0, |(offset, _)| offset + 1);
                log.push((offset, Some(value.as_bytes().to_vec())));
            }
        });
    }

    pub fn event(&self, event: Event) {
        self.change(|state| state.events.push_back(event));
    }

    /// Changes the state and wakes the worker.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.state.1.notify_all();
        self.waker.wake();
    }

    /// Waits until the state is so, or fails after a generous deadline.
    pub fn until(&self, what: &str, so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut state = self.lock();
        while !so(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "never came to: {what}; the last of {} sent: {:?}, commits {:?}",
                state.sent.len(),
                texts(state.sent.iter().rev().take(40).rev()),
                state.commits
            );
            state = self.state.1.wait_timeout(state, left).unwrap().0;
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    fn told<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let result = act(&mut self.lock());
        self.state.1.notify_all();
        result
    }
}

impl State {
    /// What goes wrong at this step, if it's due.
    fn trouble(&mut self, step: Step) -> Result<(), TransactionError> {
        let Some((_, trouble)) = self.trouble.pop_front_if(|(at, _)| *at == step) else {
            return Ok(());
        };
        let cause = anyhow!("{step:?}: {trouble:?}");
        Err(match trouble {
            Trouble::Abort => TransactionError::Abort(cause),
            Trouble::Fatal => {
                // The brokers end what its client can't.
                self.transaction = None;
                self.waiting.clear();
                TransactionError::Fatal(cause)
            }
            Trouble::Fenced => TransactionError::Fenced(cause),
            Trouble::FatalAfterAll => TransactionError::Fatal(cause),
        })
    }

    fn make_visible(&mut self, offsets: &[(TopicPartition, u64)]) {
        let from = self.transaction.take().expect("a transaction");
        self.visible.extend_from_slice(&self.sent[from..]);
        self.commits.extend_from_slice(offsets);
        self.commits_done += 1;
    }

    /// Lets the oldest records come back that were sent and have not yet.
    pub fn deliver(&mut self, count: usize) {
        self.ready.extend(self.waiting.drain(..count));
    }
}

/// The values that were sent, as text.
pub fn values(state: &State) -> Vec<String> {
    texts(&state.sent)
}

/// The values of records that were sent, as text.
pub fn texts<'a>(sent: impl IntoIterator<Item = &'a Sent>) -> Vec<String> {
    let text = |it: &Sent| {
        it.value
            .as_ref()
            .map_or("null".into(), |it| String::from_utf8_lossy(it).into_owned())
    };
    sent.into_iter().map(text).collect()
}

/// The last offset that was committed for a partition.
pub fn committed(state: &State, number: i32) -> Option<u64> {
    let of = |(id, offset): &(TopicPartition, u64)| (id.partition == number).then_some(*offset);
    state.commits.iter().rev().find_map(of)
}

impl Source for FakeSource {
    fn event(&mut self) -> Option<Event> {
        self.0.told(|state| state.events.pop_front())
    }

    fn topic_id(&mut self, _topic: &str) -> Result<[u8; 16], Error> {
        self.0.told(|state| state.topic_ids += 1);
        Ok([1; 16])
    }

    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.0.told(|state| {
            for id in partitions {
                state.assigned.push(id.clone());
                let start = state
                    .commits
                    .iter()
                    .rev()
                    .find(|(it, _)| it == id)
                    .map(|it| it.1)
                    .or(state.starts.get(id).copied());
                state.positions.insert(id.clone(), start.unwrap_or(0));
            }
        });
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.0
            .told(|state| state.assigned.retain(|it| !partitions.contains(it)));
        Ok(())
    }

    fn read(&mut self, id: &TopicPartition, limit: ReadLimit) -> Result<Option<Batch>, Unread> {
        self.0.told(|state| {
            if let Some(why) = state.fail_reads.take() {
                return Err(anyhow!("{why}").into());
            }
            if let Some(why) = state.gone.take() {
                return Err(Unread::Gone(anyhow!("{why}")));
            }
            let from = *state
                .positions
                .get(id)
                .ok_or_else(|| anyhow!("{id} isn't assigned"))?;
            let log = state.log.get(id).map_or(&[][..], Vec::as_slice);
            let records = log
                .iter()
                .filter(|(offset, _)| *offset >= from)
                .take(limit.records);
            let mut batch = Batch::new(id.topic.clone(), id.partition);
            for (offset, value) in records {
                crate::util::push(&mut batch, *offset, value.as_deref());
            }
            let Some(last) = batch.offsets.last() else {
                return Ok(None);
            };
            state.positions.insert(id.clone(), last + 1);
            Ok(Some(batch))
        })
    }

    fn seek(&mut self, id: &TopicPartition, offset: u64) -> Result<(), Error> {
        self.0.told(|state| {
            state.positions.insert(id.clone(), offset);
            state.seeks.push((id.clone(), offset));
        });
        Ok(())
    }

    fn position(&mut self, id: &TopicPartition) -> Option<u64> {
        self.0.told(|state| state.positions.get(id).copied())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, u64)], wait: bool) -> Result<(), Error> {
        self.0.told(|state| match wait {
            true if state.fail_commits => Err(anyhow!("the coordinator is gone")),
            false if state.lose_commits => {
                state.lost_commits.extend_from_slice(offsets);
                Ok(())
            }
            _ => {
                state.commits.extend_from_slice(offsets);
                Ok(())
            }
        })
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<u64>>, Error> {
        let of = |state: &State, id| {
            let mut news = state.commits.iter().rev();
            news.find(|(it, _)| it == id).map(|it| it.1)
        };
        self.0
            .told(|state| Ok(partitions.iter().map(|id| of(state, id)).collect()))
    }

    fn membership(&self) -> Result<Membership, Error> {
        Ok(Membership(b"member".to_vec()))
    }
}

impl Sink for FakeSink {
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), SendError> {
        self.0.told(|state| {
            if state.full > 0 {
                state.full -= 1;
                return Err(SendError::Full);
            }
            let value = record.value.map(<[u8]>::to_vec);
            let here = record.output == 0 || state.everywhere;
            let second = state
                .sent
                .last()
                .is_some_and(|it| it.value == value && it.output == record.output);
            let refuses =
                |it| state.refuse.contains(it) || second && state.refuse_second.contains(it);
            if here && value.as_ref().is_some_and(refuses) {
                return Err(SendError::Record(anyhow!("the record is too large")));
            }
            let fails = value
                .as_ref()
                .and_then(|it| state.fail.iter().position(|bad| bad == it));
            let result = match fails {
                Some(at) => {
                    state.fail.remove(at);
                    Err(Undelivered::Failed(anyhow!("the broker said no")))
                }
                None if here
                    && value
                        .as_ref()
                        .is_some_and(|it| state.undeliverable.contains(it)) =>
                {
                    Err(Undelivered::Refused(anyhow!("the broker never takes it")))
                }
                None => Ok(()),
            };
            state.waiting.push_back((record.tag, result));
            state.sent.push(Sent {
                output: record.output,
                partition: record.partition,
                key: record.key.map(<[u8]>::to_vec),
                value,
                timestamp: record.timestamp,
                headers: record
                    .headers()
                    .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
                    .collect(),
            });
            Ok(())
        })
    }

    fn deliveries(&mut self, settle: &mut dyn FnMut(Delivery)) -> Result<(), TransactionError> {
        let (ready, failed) = self.0.told(|state| {
            let mut ready = std::mem::take(&mut state.ready);
            if !state.corked {
                ready.append(&mut state.waiting);
            }
            let failed = state.fail_producer > 0;
            state.fail_producer = state.fail_producer.saturating_sub(1);
            (ready, failed)
        });
        ready.into_iter().for_each(settle);
        match failed {
            true => Err(TransactionError::Fatal(anyhow!("the producer is fenced"))),
            false => Ok(()),
        }
    }

    fn purge(&mut self) {
        self.0.told(|state| state.waiting.clear());
    }

    fn open(&mut self, _patience: Duration) -> Result<Progress, TransactionError> {
        self.0.told(|state| {
            state.opened += 1;
            state.trouble(Step::Open).map(|()| Progress::Done)
        })
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        self.0.told(|state| {
            assert_eq!(state.transaction, None, "a transaction in a transaction");
            state.trouble(Step::Begin)?;
            state.transaction = Some(state.sent.len());
            Ok(())
        })
    }

    fn commit(
        &mut self,
        offsets: &[(TopicPartition, u64)],
        membership: &Membership,
        _patience: Duration,
    ) -> Result<Progress, TransactionError> {
        assert_eq!(membership.0, b"member");
        self.0.told(|state| {
            assert!(state.transaction.is_some(), "no transaction to commit");
            if state.slow_commits > 0 {
                state.slow_commits -= 1;
                return Ok(Progress::Pending);
            }
            // What's on its way arrives first; if it can't, the transaction can only be aborted.
            if state.waiting.iter().any(|(_, result)| result.is_err()) {
                let waiting = std::mem::take(&mut state.waiting);
                state.ready.extend(waiting);
                return Err(TransactionError::Abort(anyhow!("a delivery failed")));
            }
            if state.corked {
                return Ok(Progress::Pending);
            }
            let waiting = std::mem::take(&mut state.waiting);
            state.ready.extend(waiting);
            let lost = state.trouble.front() == Some(&(Step::Commit, Trouble::FatalAfterAll));
            if lost {
                state.make_visible(offsets);
            }
            state.trouble(Step::Commit)?;
            state.make_visible(offsets);
            Ok(Progress::Done)
        })
    }

    fn abort(&mut self, _patience: Duration) -> Result<Progress, TransactionError> {
        self.0.told(|state| {
            state.trouble(Step::Abort)?;
            if state.away {
                return Ok(Progress::Pending);
            }
            assert!(
                state.transaction.take().is_some(),
                "no transaction to abort"
            );
            state.aborted += 1;
            let purged = state.waiting.drain(..).map(|(tag, _)| {
                let cause = Undelivered::Failed(anyhow!("the transaction was aborted"));
                (tag, Err(cause))
            });
            state.ready.extend(purged.collect::<Vec<_>>());
            Ok(Progress::Done)
        })
    }
}
