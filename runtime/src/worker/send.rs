//! From a batch that went through the chain to the producer: records and dead letters, in the order of their offsets.

use std::time::Duration;

use anyhow::Error;

use super::failures::letter;
use super::partition::Sending;
use super::{End, Work, Worker, undeliverable};
use crate::chain::Failed;
use crate::io::{Outgoing, SendError, Sink, Source, TransactionError, Undelivered};
use crate::metrics::Tally;
use crate::record::Batch;

/// Why a record wasn't handed over.
enum Unsent {
    /// It can't be sent, whatever happens.
    Record(Error),
    /// It can't be sent now.
    Failed(Error),
    /// The producer can't go on, or the transaction can't.
    Producer(TransactionError),
    /// The worker ends.
    End(End),
    /// The transaction has to be rolled back first.
    Aborted,
}

/// A batch that's being handed over.
#[derive(Clone, Copy)]
struct Going<'a> {
    slot: u32,
    tag: u64,
    input: &'a Batch,
    /// What came out, and the choice among it.
    batch: &'a Batch,
    take: Option<&'a [u32]>,
    letters: &'a [Failed],
}

/// What a record in flight takes beside its bytes, roughly: librdkafka's message and its delivery report.
const RECORD_OVERHEAD: usize = 256;

impl<S: Source, K: Sink> Worker<S, K> {
    /// Hands a batch's records and dead letters to the producer.
    pub(super) fn send(&mut self, work: Work) -> Result<(), End> {
        let Work {
            slot,
            input,
            processed,
            letters,
            next,
            tally,
            halt,
        } = work;
        if !self.begin()? {
            return Ok(());
        }
        let batch = processed.batch.as_ref().unwrap_or(&input);
        let outputs = processed.take.as_ref().map_or(batch.len(), Vec::len);
        let bytes = input.bytes() + input.len() * RECORD_OVERHEAD;
        let first = input.offsets.first().copied().unwrap_or(next);
        let sending = Sending {
            first,
            next,
            inputs: input.len(),
            outputs,
            letters: letters.len(),
            bytes,
        };
        if first < next {
            let tag = self.partitions.begin(slot, sending, tally);
            if let Some(transaction) = &mut self.transaction {
                transaction.add_bytes(bytes);
            }
            let going = Going {
                slot,
                tag,
                input: &input,
                batch,
                take: processed.take.as_deref(),
                letters: &letters,
            };
            let (mut left, mut sent) = (outputs + letters.len(), (0, 0));
            let handed = self.send_all(&going, &mut left, &mut sent);
            if let Some(tally) = self.partitions.tally(tag) {
                (tally.records_out, tally.bytes_out) = sent;
            }
            if let Err((offset, unsent)) = handed {
                // If it's cut there, that's what it was.
                if let Some(tally) = self.partitions.tally(tag) {
                    tally.input(&input, input.offsets.partition_point(|&it| it < offset));
                }
                return self.unsent(tag, offset, left, unsent);
            }
        } else {
            // The first record is what it stops at: what it did is told, and comes again.
            self.counters.add(&Tally {
                broken: tally.broken,
                ..Tally::default()
            });
        }
        match halt {
            Some(why) => Err(End::Halted(why)),
            None => Ok(()),
        }
    }

    /// Hands over a batch's records and dead letters, in the order of their offsets, so that it can be cut at any of them.
    /// `left` is how many have yet to go, and `sent` how many went to the outputs, with their bytes. An error comes with the
    /// offset that it's about.
    fn send_all(
        &mut self,
        going: &Going<'_>,
        left: &mut usize,
        sent: &mut (u64, u64),
    ) -> Result<(), (u64, Unsent)> {
        let Going {
            slot,
            tag,
            input,
            batch,
            take,
            letters,
        } = *going;
        let starts = starts(batch);
        let outputs = take.map_or(batch.len(), <[u32]>::len);
        let mut letters = letters.iter().peekable();
        let (mut last, mut refused) = (None, None);
        for nth in 0..=outputs {
            let index = match (take, nth < outputs) {
                (Some(take), true) => Some(take[nth] as usize),
                (None, true) => Some(nth),
                (_, false) => None,
            };
            let offset = index.map_or(u64::MAX, |index| batch.offsets[index]);
            while let Some(failed) = letters.next_if(|it| it.offset < offset) {
                let handed = self.send_letter(slot, input, failed, tag);
                handed.map_err(|unsent| (failed.offset, unsent))?;
                *left -= 1;
            }
            let Some(index) = index else { break };
            if refused == Some(offset) {
                self.partitions.drop_output(tag);
                *left -= 1;
                continue;
            }
            let output = batch.outputs.get(index).map_or(0, |&it| it as usize);
            let same = self.settings.same_partition.get(output);
            let same = same.is_some_and(|&it| it);
            let outgoing = outgoing(batch, index, starts.as_deref(), output, same, tag);
            match self.hand_over(&outgoing) {
                Ok(()) => {
                    sent.0 += 1;
                    sent.1 += outgoing.bytes() as u64;
                }
                // Nothing of its input record is out yet: a dead letter takes its place.
                Err(Unsent::Record(cause)) if last != Some(offset) => {
                    refused = Some(offset);
                    let refused = self.refuse(slot, input, offset, &cause, tag);
                    refused.map_err(|unsent| (offset, unsent))?;
                }
                Err(unsent) => return Err((offset, unsent)),
            }
            last = Some(offset);
            *left -= 1;
        }
        Ok(())
    }

    /// Does what becomes of an input record of which nothing can be sent.
    fn refuse(
        &mut self,
        slot: u32,
        input: &Batch,
        offset: u64,
        cause: &Error,
        tag: u64,
    ) -> Result<(), Unsent> {
        let Some(partition) = self.partitions.get(slot) else {
            return Ok(());
        };
        let failed = undeliverable(offset, format!("{cause:#}"));
        let verdict = self.failures.judge(&partition.id, &self.chain, &failed);
        if let Some((_, why)) = verdict.halt {
            return Err(Unsent::End(End::Halted(why)));
        }
        for failed in &verdict.letters {
            self.send_letter(slot, input, failed, tag)?;
            let letter = (failed.step.map(|it| (it, failed.canary)), failed.class);
            if let Some(tally) = self.partitions.tally(tag) {
                tally.letters.push(letter);
            }
        }
        Ok(())
    }

    fn send_letter(
        &mut self,
        slot: u32,
        input: &Batch,
        failed: &Failed,
        tag: u64,
    ) -> Result<(), Unsent> {
        let at = input.offsets.binary_search(&failed.offset);
        let (Some(topic), Some(partition), Ok(index)) =
            (self.settings.dead_letters, self.partitions.get(slot), at)
        else {
            return Ok(());
        };
        let id = partition.id.clone();
        let headers = letter(&self.settings.pipeline, &id, &self.chain, failed).headers();
        let outgoing = Outgoing {
            appended: &headers,
            // What can't be sent for its timestamp can still be a dead letter; the reason names it.
            timestamp: input.timestamps[index].max(-1),
            ..outgoing(input, index, starts(input).as_deref(), topic, false, tag)
        };
        self.hand_over(&outgoing).map_err(|unsent| match unsent {
            Unsent::Record(cause) => {
                let offset = failed.offset;
                let what = format!(
                    "the dead letter of the record at {id}, offset {offset}, can't be sent"
                );
                Unsent::End(End::Halted(cause.context(what)))
            }
            unsent => unsent,
        })
    }

    /// Hands a record to the producer, and waits for room if there's none.
    fn hand_over(&mut self, outgoing: &Outgoing<'_>) -> Result<(), Unsent> {
        loop {
            match self.sink.send(outgoing) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) => self.wait_for_room()?,
                Err(SendError::Record(cause)) => return Err(Unsent::Record(cause)),
                Err(SendError::Failed(cause)) => return Err(Unsent::Failed(cause)),
                // Another try may go well.
                Err(SendError::Fatal(cause)) => {
                    return Err(Unsent::Producer(TransactionError::Abort(cause)));
                }
                Err(SendError::Transaction(why)) => return Err(Unsent::Producer(why)),
            }
        }
    }

    /// Deals with a batch of which the last `records` records can't be sent now, from one that came of `offset` on.
    fn unsent(&mut self, tag: u64, offset: u64, records: usize, unsent: Unsent) -> Result<(), End> {
        match unsent {
            Unsent::Record(cause) => {
                // Something of its input record is out already: the batch comes again, and this record not with the others.
                let reason = format!("{cause:#}");
                self.partitions.condemn(tag, offset, records, reason);
                Ok(())
            }
            Unsent::Failed(cause) if self.transaction.is_none() => {
                self.partitions
                    .fail(tag, records, Undelivered::Failed(cause));
                Ok(())
            }
            // What was never sent won't come back either.
            Unsent::Failed(cause) => {
                self.partitions.cut(tag, offset, records);
                self.roll_back(cause)
            }
            Unsent::End(end) => {
                self.partitions.cut(tag, offset, records);
                Err(end)
            }
            Unsent::Producer(why) => {
                self.partitions.cut(tag, offset, records);
                self.recover(why.context("the producer can't go on"))
            }
            Unsent::Aborted => {
                self.partitions.cut(tag, offset, records);
                Ok(())
            }
        }
    }

    fn wait_for_room(&mut self) -> Result<(), Unsent> {
        self.take_deliveries().map_err(Unsent::Producer)?;
        if self.transaction.is_some() && self.partitions.has_failed() {
            return Err(Unsent::Aborted);
        }
        if self.control.hurrying() {
            return Err(Unsent::End(End::Stopped));
        }
        let sleep = self.control.sleep(Duration::from_millis(10));
        sleep.map_err(|cause| Unsent::End(End::Failed(cause)))
    }
}

/// Where the headers of a batch's records start, if there are any.
fn starts(batch: &Batch) -> Option<Vec<u32>> {
    (!batch.headers.is_empty()).then(|| batch.headers.starts(batch.len()))
}

/// A batch's record on its way out.
fn outgoing<'a>(
    batch: &'a Batch,
    index: usize,
    starts: Option<&[u32]>,
    output: usize,
    same: bool,
    tag: u64,
) -> Outgoing<'a> {
    Outgoing {
        output,
        partition: same.then_some(batch.partition),
        key: batch.keys.get(index),
        value: batch.values.get(index),
        timestamp: batch.timestamps[index],
        headers: &batch.headers,
        header_range: starts.map_or((0, 0), |starts| {
            (starts[index] as usize, starts[index + 1] as usize)
        }),
        appended: &[],
        tag,
    }
}
