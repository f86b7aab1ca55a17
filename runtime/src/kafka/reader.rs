//! Reading a topic from outside: any stretch of any partition, by hand, without joining a group.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, bail};

use super::consumer::{NO_OFFSET, Start, first_failure, look_up, take};
use super::ffi::{Client, ClientEvent, Code, Failure, PartitionList, PartitionQueue, Queue};
use super::settings::{Refused, Settings, group_settings};
use super::wake::Waker;
use crate::io::{ReadLimit, TopicPartition};
use crate::record::Batch;

/// What a [`Reader`] is made with: the user's keys and values that any client has use for, and the group whose offsets
/// it can be asked for.
pub fn reader_settings(user: &[(&str, &str)], group: &str) -> Result<Settings, Refused> {
    let mut settings = group_settings(user, group)?;
    settings.push("enable.auto.offset.store", false);
    // The end shows as such, also where the last records were removed by compaction.
    settings.push("enable.partition.eof", true);
    // What a topic's retention removes meanwhile is passed over.
    settings.push("auto.offset.reset", "earliest");
    // One partition at a time is read, and read at once.
    settings.push("queued.max.messages.kbytes", 8_192);
    settings.push("fetch.queue.backoff.ms", 5);
    settings.push("fetch.wait.max.ms", 20);
    Ok(settings)
}

/// Reads committed records of one topic, one partition after another.
pub struct Reader {
    queue: Queue,
    client: Arc<Client>,
    waker: Waker,
    topic: Arc<str>,
    timeout: Duration,
}

/// A group's offset in a partition, and the note that was committed with it (Kafka's "metadata").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The offset.
    pub offset: u64,
    /// The note; empty if there is none.
    pub note: String,
}

impl Reader {
    /// A client with [`reader_settings`]. Nothing is asked yet; each question, and each wait for the next records, takes
    /// `timeout` at most.
    pub fn new(settings: &Settings, topic: &str, timeout: Duration) -> Result<Reader, Error> {
        let client = Client::consumer(settings.conf()?)?;
        let waker = Waker::new()?;
        let mut queue = Queue::of_consumer(&client).context("a reader needs a \"group.id\"")?;
        queue.wakes(&waker);
        Ok(Reader {
            queue,
            client,
            waker,
            topic: topic.into(),
            timeout,
        })
    }

    /// The topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// From the first offset of each of the first `partitions` partitions to the end of what is committed by now.
    pub fn bounds(&self, partitions: usize) -> Result<Vec<Range<u64>>, Error> {
        let names: Vec<(&str, i32)> = (0..partitions as i32)
            .map(|partition| (&*self.topic, partition))
            .collect();
        let look = |start| look_up(&self.client, &names, start, Instant::now() + self.timeout);
        let (first, end) = (look(Start::Earliest)?, look(Start::Latest)?);
        Ok(first
            .into_iter()
            .zip(end)
            .map(|(first, end)| first.max(0) as u64..end.max(0) as u64)
            .collect())
    }

    /// What the group has committed for each of the first `partitions` partitions.
    pub fn committed(&self, partitions: usize) -> Result<Vec<Option<Noted>>, Error> {
        let mut list = PartitionList::new();
        for partition in 0..partitions as i32 {
            list.add(&self.topic, partition, NO_OFFSET)?;
        }
        let entries = self
            .client
            .committed(&list, self.timeout)
            .into_result()
            .and_then(|()| {
                let entries = list.entries();
                first_failure(&entries).map(|()| entries)
            })
            .context("can't look up the group's committed offsets")?;
        entries
            .iter()
            .zip(list.notes())
            .map(|(entry, note)| match u64::try_from(entry.offset) {
                Err(_) => Ok(None),
                Ok(offset) => {
                    let note = String::from_utf8(note).with_context(|| {
                        format!(
                            "what the group notes of {}/{} isn't text",
                            entry.topic, entry.partition
                        )
                    })?;
                    Ok(Some(Noted { offset, note }))
                }
            })
            .collect()
    }

    /// Begins to read the records of one partition with these offsets.
    pub fn read(&mut self, partition: i32, offsets: Range<u64>) -> Result<Reading<'_>, Error> {
        let id = TopicPartition {
            topic: self.topic.clone(),
            partition,
        };
        let queue = match offsets.is_empty() {
            true => None,
            false => {
                let start = i64::try_from(offsets.start)
                    .with_context(|| format!("offset {} is out of Kafka's range", offsets.start))?;
                // A client takes a partition's mark before the assignment.
                let queue =
                    PartitionQueue::split(&self.client, &self.topic, partition, &self.waker)?;
                let mut list = PartitionList::new();
                list.add(&self.topic, partition, start)?;
                self.client
                    .assign(Some(&list))
                    .with_context(|| format!("can't read {id}"))?;
                Some(queue)
            }
        };
        Ok(Reading {
            reader: self,
            id,
            next: offsets.start,
            end: offsets.end,
            queue,
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.client.close_consumer(self.timeout);
    }
}

/// A stretch of a partition on its way in.
pub struct Reading<'a> {
    reader: &'a mut Reader,
    id: TopicPartition,
    /// The offset after the last record that was read.
    next: u64,
    end: u64,
    /// None once all has been read.
    queue: Option<PartitionQueue>,
}

impl Reading<'_> {
    /// The next records, or `None` at the end of the stretch. Waits for them.
    pub fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>, Error> {
        /// How many messages are taken from the client at once to find the next records.
        const AT_ONCE: usize = 1_000;
        let deadline = Instant::now() + self.reader.timeout;
        let mut trouble: Option<Failure> = None;
        loop {
            let Some(queue) = &mut self.queue else {
                return Ok(None);
            };
            while queue.fill(AT_ONCE) {
                let in_hand = queue.in_hand();
                let within = in_hand.iter().take_while(|it| {
                    it.code().is_none() && u64::try_from(it.offset()).is_ok_and(|at| at < self.end)
                });
                let within = within.count();
                if within > 0 {
                    let limit = ReadLimit {
                        records: limit.records.min(within),
                        ..limit
                    };
                    let batch = take(queue, &self.id, limit)?;
                    self.next = batch.offsets.last().map_or(self.next, |last| last + 1);
                    if self.next >= self.end {
                        self.stop();
                    }
                    return Ok(Some(batch));
                }
                let Some(first) = in_hand.first() else {
                    continue;
                };
                let code = first.code();
                let at_end = u64::try_from(first.offset()).is_ok_and(|at| at >= self.end);
                match code {
                    // A replica that lags behind has an end that isn't ours.
                    Code::PARTITION_EOF if !at_end => queue.free(1),
                    code if code.is_none() || code == Code::PARTITION_EOF => {
                        self.stop();
                        return Ok(None);
                    }
                    code => bail!(
                        "can't read {} at offset {}: {code}: {}",
                        self.id,
                        self.next,
                        first.error_text()
                    ),
                }
            }
            while let Some(event) = self.reader.queue.poll(Duration::ZERO) {
                match event {
                    ClientEvent::Error(failure) => trouble = Some(failure),
                    ClientEvent::Fatal(failure) => {
                        return Err(Error::from(failure).context(format!("can't read {}", self.id)));
                    }
                    _ => {}
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let because = trouble.map(|it| format!(": {it}")).unwrap_or_default();
                bail!(
                    "nothing came of {} from offset {} on for {} s{because}",
                    self.id,
                    self.next,
                    self.reader.timeout.as_secs()
                );
            }
            self.reader.waker.wait(left)?;
        }
    }

    fn stop(&mut self) {
        /// How many messages at once are read to be forgotten.
        const DRAIN: usize = 1_000;
        if let Some(mut queue) = self.queue.take() {
            // It can't fail but for a client that has failed as a whole, which the next call says.
            let _ = self.reader.client.assign(None);
            queue.free_all();
            while queue.fill(DRAIN) {
                queue.free_all();
            }
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
