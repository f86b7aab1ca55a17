//! The source of a worker: a member of the consumer group, with a queue for each partition.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow, bail};

use super::ffi::{Client, ClientEvent, Code, Entry, Failure, PartitionList, PartitionQueue, Queue};
use super::settings::Settings;
use super::statistics::Heard;
use super::wake::Waker;
use super::{membership, statistics};
use crate::fold::Fold;
use crate::io::{Event, Membership, ReadLimit, Source, TopicPartition, Unread};
use crate::record::{Batch, Column, TimestampType};

/// Where a partition starts that the group has no offset for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its first record.
    Earliest,
    /// After its last record.
    Latest,
    /// At its first record with this timestamp or a later one, in milliseconds since 1970-01-01T00:00:00Z; after its
    /// last record if there is none.
    Time(i64),
}

/// Consumes as a member of a group.
///
/// An assignment is answered with the offsets that the group has, and with `start` where it has none. An offset that
/// is out of range (its records were deleted, or the topic is a new one of the same name) is an error of
/// [`Source::read`], and never passed over.
///
/// The worker answers each [`Event::Assigned`] and [`Event::Revoked`] with one call that has all its partitions. On
/// drop the member leaves the group; what is still assigned is given up without a commit.
pub struct KafkaSource {
    /// Before the client, since each holds messages of it.
    partitions: HashMap<TopicPartition, Partition>,
    queue: Queue,
    client: Arc<Client>,
    waker: Waker,
    start: Start,
    lookup_timeout: Duration,
    fold: Fold<Code>,
    heard: Heard,
    /// What this user may not read, until it's told.
    denied: Option<String>,
}

struct Partition {
    queue: PartitionQueue,
    /// The offset after the last record read; before the first, where the partition starts.
    next: u64,
    /// What the client says of its position from an earlier assignment or before a seek, until it has forgotten that.
    stale: Option<i64>,
    /// Why nothing can be read any more.
    failed: Option<Failed>,
}

struct Failed {
    code: Code,
    text: String,
}

impl Failed {
    fn unread(&self) -> Unread {
        let cause = anyhow!("{}", self.text);
        match self.code {
            Code::AUTO_OFFSET_RESET => Unread::Gone(cause),
            _ => Unread::Failed(cause),
        }
    }
}

impl KafkaSource {
    /// How long an assignment may wait for the group's offsets and for `start`, beside a transaction's time.
    const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);
    /// How long a commit that is waited for may take.
    const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
    /// How long a seek may wait for a partition whose fetching has not begun.
    const SEEK_TIMEOUT: Duration = Duration::from_secs(10);
    /// How long leaving the group may take.
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

    /// Joins the group and subscribes to topics, or to patterns that start with `^`. Fails on settings that no client can
    /// be made with, not on brokers that don't answer: those are [`Event::Trouble`].
    pub fn new(
        settings: &Settings,
        topics: &[String],
        start: Start,
        waker: &Waker,
    ) -> Result<KafkaSource, Error> {
        /// librdkafka's default, in milliseconds.
        const FETCH_WAIT: u64 = 500;
        let fetch_wait = settings
            .get("fetch.wait.max.ms")
            .and_then(|it| it.parse().ok());
        let fetch_wait = fetch_wait.unwrap_or(FETCH_WAIT);
        let mut settings = settings.clone();
        let interval = statistics::INTERVAL.as_millis();
        settings.push("statistics.interval.ms", interval);
        let client = Client::consumer(settings.conf()?)?;
        let mut queue = Queue::of_consumer(&client).context("a consumer needs a \"group.id\"")?;
        queue.wakes(waker);
        client
            .subscribe(topics)
            .with_context(|| format!("can't subscribe to {}", topics.join(", ")))?;
        Ok(KafkaSource {
            partitions: HashMap::new(),
            queue,
            client,
            waker: waker.clone(),
            start,
            lookup_timeout: KafkaSource::LOOKUP_TIMEOUT,
            fold: Fold::every(TELL_EVERY),
            heard: Heard::new(Duration::from_millis(fetch_wait)),
            denied: None,
        })
    }

    /// Has lookups wait for transactions that last so long: a killed worker's keeps the group's offsets undecided.
    #[must_use]
    pub fn waits_for_transactions(mut self, timeout: Duration) -> KafkaSource {
        self.lookup_timeout = KafkaSource::LOOKUP_TIMEOUT + timeout;
        self
    }

    /// The offsets that partitions start at: the group's, or where `start` says.
    fn starts(&self, partitions: &[TopicPartition]) -> Result<PartitionList, Error> {
        let deadline = Instant::now() + self.lookup_timeout;
        let mut list = KafkaSource::list(partitions)?;
        look_up_committed(&self.client, &list, self.lookup_timeout)
            .context("can't look up the group's committed offsets")?;
        let uncommitted: Vec<(usize, Entry)> = list
            .entries()
            .into_iter()
            .enumerate()
            .filter(|(_, entry)| entry.offset < 0)
            .collect();
        let names: Vec<(&str, i32)> = uncommitted
            .iter()
            .map(|(_, entry)| (entry.topic.as_str(), entry.partition))
            .collect();
        let offsets = look_up(&self.client, &names, self.start, deadline)?;
        for ((index, _), offset) in uncommitted.iter().zip(offsets) {
            list.set_offset(*index, offset);
        }
        Ok(list)
    }

    fn list(partitions: &[TopicPartition]) -> Result<PartitionList, Error> {
        let mut list = PartitionList::new();
        for partition in partitions {
            list.add(&partition.topic, partition.partition, NO_OFFSET)?;
        }
        Ok(list)
    }

    /// What the client says of a partition's position; negative if nothing.
    fn client_position(client: &Client, partition: &TopicPartition) -> i64 {
        let mut list = PartitionList::new();
        if list
            .add(&partition.topic, partition.partition, NO_OFFSET)
            .is_err()
            || !client.position(&list).is_none()
        {
            return NO_OFFSET;
        }
        list.entries()
            .first()
            .map_or(NO_OFFSET, |entry| entry.offset)
    }

    fn trouble(&mut self, failure: Failure) -> Option<Event> {
        self.fold
            .tells(failure.code, Instant::now())
            .map(|_| Event::Trouble(permit(failure.code, failure.into())))
    }
}

impl Source for KafkaSource {
    fn event(&mut self) -> Option<Event> {
        if let Some(denied) = self.denied.take()
            && self
                .fold
                .tells(Code::TOPIC_DENIED, Instant::now())
                .is_some()
        {
            return Some(Event::Trouble(anyhow!(denied)));
        }
        loop {
            let event = match self.queue.poll(Duration::ZERO)? {
                ClientEvent::Revoke(entries) if entries.is_empty() => match self.unassign(&[]) {
                    Ok(()) => None,
                    Err(error) => Some(Event::Fatal(error)),
                },
                // Without partitions, too: it says that this member has joined.
                ClientEvent::Assign(entries) => Some(Event::Assigned(named(&entries))),
                ClientEvent::Revoke(entries) => Some(Event::Revoked {
                    partitions: named(&entries),
                    lost: self.client.is_assignment_lost(),
                }),
                ClientEvent::Commit(Code::NO_OFFSET, _) => None,
                ClientEvent::Commit(
                    Code::ILLEGAL_GENERATION
                    | Code::REBALANCE_IN_PROGRESS
                    | Code::STALE_MEMBER_EPOCH,
                    _,
                ) => Some(Event::Uncommitted),
                ClientEvent::Commit(code, entries) => {
                    let code = entries
                        .iter()
                        .map(|it| it.code)
                        .find(|it| !it.is_none())
                        .unwrap_or(code);
                    let result = commit_result(code, &entries);
                    Some(match result {
                        Ok(()) => Event::Committed,
                        Err(why) => Event::Trouble(permit(code, why)),
                    })
                }
                ClientEvent::Statistics(json) => {
                    let statistics = self.heard.take_in(&json, Instant::now());
                    statistics.map(Event::Statistics)
                }
                ClientEvent::Error(failure) => self.trouble(failure),
                ClientEvent::Fatal(failure) => Some(Event::Fatal(failure.into())),
                ClientEvent::Record(topic, partition) => Some(Event::Fatal(anyhow!(
                    "a record of {topic}/{partition} came outside of its partition's queue; this is an error in Weir"
                ))),
                ClientEvent::Other(name) => {
                    tracing::debug!(target: "kafka", name, "an event that nobody asked for");
                    None
                }
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn topic_id(&mut self, topic: &str) -> Result<[u8; 16], Error> {
        let names = [topic.to_string()];
        let described = self
            .client
            .describe_topics(&names, KafkaSource::LOOKUP_TIMEOUT)
            .with_context(|| format!("can't ask the cluster for the id of topic \"{topic}\""))?;
        match described.into_iter().next() {
            Some((_, Ok(topic))) => Ok(topic.id),
            Some((_, Err(failure))) => {
                Err(Error::from(failure).context(format!("can't have the id of topic \"{topic}\"")))
            }
            None => bail!("the cluster's answer leaves topic \"{topic}\" out"),
        }
    }

    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let list = match partitions.is_empty() {
            true => PartitionList::new(),
            false => self.starts(partitions)?,
        };
        // A client takes a partition's mark before the assignment, and keeps the order of its records only then.
        for (partition, entry) in partitions.iter().zip(list.entries()) {
            let queue = PartitionQueue::split(
                &self.client,
                &partition.topic,
                partition.partition,
                &self.waker,
            )?;
            let stale = KafkaSource::client_position(&self.client, partition);
            let state = Partition {
                queue,
                next: u64::try_from(entry.offset).unwrap_or(0),
                stale: (stale >= 0).then_some(stale),
                failed: None,
            };
            self.partitions.insert(partition.clone(), state);
        }
        match self.client.is_cooperative() {
            true => self.client.incremental_assign(&list),
            false => self.client.assign(Some(&list)),
        }
        .context("can't take partitions on")
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let result = match self.client.is_cooperative() {
            true => self
                .client
                .incremental_unassign(&KafkaSource::list(partitions)?),
            false => self.client.assign(None),
        };
        for partition in partitions {
            if let Some(mut state) = self.partitions.remove(partition) {
                // What has come already is outdated, and goes with this.
                state.queue.free_all();
                while state.queue.fill(DRAIN) {
                    state.queue.free_all();
                }
            }
        }
        result.context("can't give partitions up")
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        limit: ReadLimit,
    ) -> Result<Option<Batch>, Unread> {
        let Some(state) = self.partitions.get_mut(partition) else {
            return Err(anyhow!("{partition} isn't assigned to this worker").into());
        };
        if let Some(failed) = &state.failed {
            return Err(failed.unread());
        }
        while state.queue.fill(limit.records.max(1)) {
            // A rebalance that pauses and resumes a partition while it is read makes librdkafka fetch some records again.
            let old = state
                .queue
                .in_hand()
                .iter()
                .take_while(|message| {
                    message.code().is_none() && message.offset() < state.next as i64
                })
                .count();
            state.queue.free(old);
            let Some(first) = state.queue.in_hand().first() else {
                continue;
            };
            if !first.code().is_none() {
                let text = explain(
                    partition,
                    first.code(),
                    first.offset(),
                    &first.error_text(),
                    state.next,
                );
                let failed = Failed {
                    code: first.code(),
                    text,
                };
                if failed.code == Code::TOPIC_DENIED {
                    // The client goes on trying, each second, and says so once.
                    state.queue.free(1);
                    self.denied = Some(failed.text);
                    self.waker.wake();
                    continue;
                }
                let unread = failed.unread();
                state.failed = Some(failed);
                return Err(unread);
            }
            let batch = state.take(partition, limit)?;
            return Ok(Some(batch));
        }
        Ok(None)
    }

    fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error> {
        let Some(state) = self.partitions.get_mut(partition) else {
            bail!("{partition} isn't assigned to this worker");
        };
        match &state.failed {
            // librdkafka has stopped fetching, and starts again only with a new assignment.
            Some(failed) if failed.code == Code::AUTO_OFFSET_RESET => bail!("{}", failed.text),
            _ => state.failed = None,
        }
        state.queue.free_all();
        state.next = offset;
        state.stale =
            Some(KafkaSource::client_position(&self.client, partition)).filter(|&stale| stale >= 0);
        let raw = i64::try_from(offset)
            .with_context(|| format!("offset {offset} is out of Kafka's range"))?;
        let deadline = Instant::now() + KafkaSource::SEEK_TIMEOUT;
        loop {
            let mut list = PartitionList::new();
            list.add(&partition.topic, partition.partition, raw)?;
            let result = self.client.seek(&list, KafkaSource::SEEK_TIMEOUT);
            let code = match &result {
                Ok(()) => list.entries().first().map_or(Code(0), |entry| entry.code),
                Err(failure) => failure.code,
            };
            match code {
                code if code.is_none() => return Ok(()),
                // An assignment takes librdkafka's threads a moment.
                Code::STATE | Code::PREV_IN_PROGRESS if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                code => bail!("can't go to offset {offset} of {partition}: {code}"),
            }
        }
    }

    fn position(&mut self, partition: &TopicPartition) -> Option<u64> {
        let state = self.partitions.get_mut(partition)?;
        if state.failed.is_some() || !state.queue.in_hand().is_empty() {
            return Some(state.next);
        }
        let position = KafkaSource::client_position(&self.client, partition);
        match state.stale {
            Some(stale) if stale == position => return Some(state.next),
            _ => state.stale = None,
        }
        Some(state.next.max(u64::try_from(position).unwrap_or(0)))
    }

    fn commit(&mut self, offsets: &[(TopicPartition, u64)], wait: bool) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let list = offset_list(offsets)?;
        match wait {
            true => commit_and_wait(&self.client, &list, KafkaSource::COMMIT_TIMEOUT),
            false => self
                .client
                .commit(&list, &self.queue)
                .context("can't commit offsets"),
        }
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<u64>>, Error> {
        committed(&self.client, partitions, self.lookup_timeout)
            .context("can't look up the group's committed offsets")
    }

    fn membership(&self) -> Result<Membership, Error> {
        let member = self.client.member();
        Ok(membership::write(
            &member.context("the consumer isn't a member of its group")?,
        ))
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.partitions.clear();
        leave(&self.client);
    }
}

/// Leaves the group, on a thread of its own: a consumer that closes while its group shares its partitions anew may never
/// answer its last call (seen with librdkafka 2.12.1: `rd_kafka_assign` waits for ever), and is left alone then.
fn leave(client: &Arc<Client>) {
    /// Beside the time that it has itself.
    const SLACK: Duration = Duration::from_secs(2);
    let leaving = client.clone();
    let (done, left) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("leave".to_string())
        .spawn(move || {
            leaving.close_consumer(KafkaSource::CLOSE_TIMEOUT);
            // Before whoever waits goes on, so that the client ends there and not here.
            drop(leaving);
            let _ = done.send(());
        });
    match thread {
        Ok(thread) => match left.recv_timeout(KafkaSource::CLOSE_TIMEOUT + SLACK) {
            Ok(()) => drop(thread.join()),
            Err(_) => tracing::warn!(
                target: "kafka",
                "a consumer doesn't end, and is left alone; its group notices by its session's timeout"
            ),
        },
        Err(_) => client.close_consumer(KafkaSource::CLOSE_TIMEOUT),
    }
}

impl Partition {
    /// See [`take`].
    fn take(&mut self, partition: &TopicPartition, limit: ReadLimit) -> Result<Batch, Error> {
        let batch = take(&mut self.queue, partition, limit)?;
        if let Some(last) = batch.offsets.last() {
            self.next = last + 1;
        }
        Ok(batch)
    }
}

/// Records from those in hand, of which the first is one, up to the limit and to the first that is none.
pub(super) fn take(
    queue: &mut PartitionQueue,
    partition: &TopicPartition,
    limit: ReadLimit,
) -> Result<Batch, Error> {
    let in_hand = queue.in_hand();
    let in_hand = &in_hand[..in_hand.len().min(limit.records.max(1))];
    let (mut keys, mut values) = (0, 0);
    for message in in_hand {
        keys += message.key().map_or(0, <[u8]>::len);
        values += message.value().map_or(0, <[u8]>::len);
    }
    let mut batch = Batch::new(partition.topic.clone(), partition.partition);
    batch.keys = Column::with_capacity(in_hand.len(), keys.min(limit.bytes));
    batch.values = Column::with_capacity(in_hand.len(), values.min(limit.bytes));
    batch.timestamps.reserve(in_hand.len());
    batch.offsets.reserve(in_hand.len());
    let mut bytes = 0;
    for message in in_hand {
        if !message.code().is_none() {
            break;
        }
        let (key, value) = (message.key(), message.value());
        let headers = message.headers().map_err(|code| {
            anyhow!(
                "the headers of {partition} at offset {}: {code}",
                message.offset()
            )
        })?;
        bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        if !headers.is_empty() {
            bytes += headers
                .clone()
                .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len))
                .sum::<usize>();
        }
        let index = batch.len();
        if index > 0 && bytes > limit.bytes {
            break;
        }
        batch.headers.push_record(index, headers);
        batch.keys.push(key);
        batch.values.push(value);
        let (timestamp, kind) = message.timestamp();
        if kind != TimestampType::CreateTime || !batch.timestamp_types.is_empty() {
            batch
                .timestamp_types
                .resize(index, TimestampType::CreateTime);
            batch.timestamp_types.push(kind);
        }
        batch.timestamps.push(timestamp);
        batch.offsets.push(message.offset() as u64);
    }
    let count = batch.len();
    queue.free(count);
    Ok(batch)
}

/// Between two lines about one error code: librdkafka itself repeats a log line no sooner.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(30);

/// librdkafka's "no offset".
pub(super) const NO_OFFSET: i64 = -1001;

/// How many messages at once are read to be forgotten.
const DRAIN: usize = 1000;

/// A list of partitions with the offset of each.
pub(super) fn offset_list(offsets: &[(TopicPartition, u64)]) -> Result<PartitionList, Error> {
    let mut list = PartitionList::new();
    for (partition, offset) in offsets {
        let offset = i64::try_from(*offset)
            .with_context(|| format!("offset {offset} of {partition} is out of Kafka's range"))?;
        list.add(&partition.topic, partition.partition, offset)?;
    }
    Ok(list)
}

/// A group's committed offset of each partition, in order; `None` if there is none.
pub(super) fn committed(
    client: &Client,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Vec<Option<u64>>, Error> {
    let mut list = PartitionList::new();
    for partition in partitions {
        list.add(&partition.topic, partition.partition, NO_OFFSET)?;
    }
    look_up_committed(client, &list, timeout)?;
    let entries = list.entries().into_iter();
    Ok(entries.map(|it| u64::try_from(it.offset).ok()).collect())
}

fn look_up_committed(
    client: &Client,
    list: &PartitionList,
    timeout: Duration,
) -> Result<(), Error> {
    client.committed(list, timeout).into_result()?;
    first_failure(&list.entries())
}

/// The offsets that `start` means, by now, for partitions.
pub(super) fn look_up(
    client: &Client,
    partitions: &[(&str, i32)],
    start: Start,
    deadline: Instant,
) -> Result<Vec<i64>, Error> {
    /// What a list of times takes for the end and for the beginning.
    const END: i64 = -1;
    const BEGINNING: i64 = -2;
    let time = match start {
        Start::Earliest => BEGINNING,
        Start::Latest => END,
        Start::Time(time) => time.max(0),
    };
    let ask = |partitions: &[(&str, i32)], time| -> Result<Vec<i64>, Error> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = PartitionList::new();
        for (topic, partition) in partitions {
            list.add(topic, *partition, time)?;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        client
            .offsets_for_times(&list, left)
            .into_result()
            .and_then(|()| first_failure(&list.entries()))
            .context("can't look up where to start")?;
        Ok(list.entries().iter().map(|entry| entry.offset).collect())
    };
    let mut offsets = ask(partitions, time)?;
    // A time after the last record is the end.
    let late: Vec<usize> = (0..offsets.len())
        .filter(|&index| offsets[index] < 0)
        .collect();
    let names: Vec<(&str, i32)> = late.iter().map(|&index| partitions[index]).collect();
    for (index, offset) in late.iter().zip(ask(&names, END)?) {
        if offset < 0 {
            let (topic, partition) = partitions[*index];
            bail!("can't look up where to start: {topic}/{partition} has no end");
        }
        offsets[*index] = offset;
    }
    Ok(offsets)
}

/// Commits, and waits for the answer.
pub(super) fn commit_and_wait(
    client: &Arc<Client>,
    list: &PartitionList,
    timeout: Duration,
) -> Result<(), Error> {
    let answer = Queue::new(client);
    client
        .commit(list, &answer)
        .context("can't commit offsets")?;
    match answer.poll(timeout) {
        Some(ClientEvent::Commit(code, entries)) => commit_result(code, &entries),
        Some(other) => bail!("can't commit offsets: unexpected answer {other:?}"),
        None => bail!(
            "can't commit offsets: no answer from the group's coordinator in {} s",
            timeout.as_secs()
        ),
    }
}

fn commit_result(code: Code, entries: &[Entry]) -> Result<(), Error> {
    first_failure(entries)
        .and_then(|()| code.into_result())
        .context("can't commit offsets")
}

/// The first partition that something is wrong with.
pub(super) fn first_failure(entries: &[Entry]) -> Result<(), Error> {
    match entries.iter().find(|entry| !entry.code.is_none()) {
        Some(entry) => Err(anyhow!(
            "{}/{}: {}",
            entry.topic,
            entry.partition,
            entry.code
        )),
        None => Ok(()),
    }
}

/// The partitions of a list, with each topic's name once.
fn named(entries: &[Entry]) -> Vec<TopicPartition> {
    let mut topics: Vec<Arc<str>> = Vec::new();
    entries
        .iter()
        .map(|entry| {
            let known = topics
                .iter()
                .find(|topic| ***topic == *entry.topic)
                .cloned();
            let topic = known.unwrap_or_else(|| {
                let topic: Arc<str> = entry.topic.as_str().into();
                topics.push(topic.clone());
                topic
            });
            TopicPartition {
                topic,
                partition: entry.partition,
            }
        })
        .collect()
}

/// The same with what to allow, if that's what is wrong.
fn permit(code: Code, cause: Error) -> Error {
    match code {
        Code::TOPIC_DENIED => {
            cause.context("this user may not read an input; allow Read and Describe on the topic")
        }
        Code::GROUP_DENIED => cause
            .context("this user may not be a member of the group; allow Read and Describe on it"),
        _ => cause,
    }
}

/// What an error in a partition's place means, and what to do.
fn explain(partition: &TopicPartition, code: Code, offset: i64, text: &str, next: u64) -> String {
    let at = u64::try_from(offset).unwrap_or(next);
    match code {
        Code::AUTO_OFFSET_RESET => format!(
            "{partition} has no offset {at} (any more): {text}; its records were deleted before they were processed, or \
             the topic was made anew; choose where to go on with `weir offsets`"
        ),
        Code::TOPIC_DENIED => format!(
            "this user may not read {partition}, at offset {at}: {code}; allow Read and Describe on the topic"
        ),
        _ => format!("can't read {partition} at offset {at}: {code}: {text}"),
    }
}
