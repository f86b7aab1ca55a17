//! What two versions made of a batch, compared record by record.
//!
//! What is compared is what would come out: a column that a version left alone is the input's. Log lines aren't.

use std::fmt;
use std::iter::{repeat_n, zip};
use std::ops::Range;

use super::report::{Counts, Difference, Differs, Kind, Kinds};
use super::tell::{self, Header};
use crate::guest::{Fault, Output, UNCHOSEN};
use crate::record::{Batch, Headers};

/// Some of a batch's records, and what a version made of them as a batch of their own.
#[derive(Debug)]
pub(super) struct Part {
    /// Which ones.
    pub(super) range: Range<usize>,
    pub(super) made: Result<Output, Fault>,
}

/// What became of the records that both versions were given.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) counts: Counts,
    /// The first differences.
    pub(super) differences: Vec<Difference>,
}

/// What differs in a record and is told.
const MOST_DIFFERS: usize = 10;

/// Compares what two versions made of a batch, and tells of the first `room` records that are different. The parts of each
/// begin with the first record and leave none out; records that only one side has a part for aren't compared. `outputs` are
/// the names of the pipeline's.
pub(super) fn compare(
    batch: &Batch,
    outputs: &[String],
    active: &[Part],
    tried: &[Part],
    room: usize,
) -> Comparison {
    let input = Input {
        batch,
        outputs,
        header_starts: header_starts(&batch.headers, batch.len()),
    };
    let active: Vec<Made<'_>> = active.iter().map(Made::of).collect();
    let tried: Vec<Made<'_>> = tried.iter().map(Made::of).collect();
    let mut comparison = Comparison::default();
    for (index, (active, tried)) in zip(verdicts(&active), verdicts(&tried)).enumerate() {
        let pair = Pair {
            input: &input,
            index,
            active,
            tried,
        };
        let different = pair.count(&mut comparison.counts);
        if different && comparison.differences.len() < room {
            comparison.differences.push(pair.difference());
        }
    }
    comparison
}

struct Input<'a> {
    batch: &'a Batch,
    outputs: &'a [String],
    header_starts: Vec<u32>,
}

/// A part's output, and where its records' headers start.
struct Made<'a> {
    part: &'a Part,
    header_starts: Vec<u32>,
}

/// What a version does with one record.
#[derive(Clone, Copy)]
enum Verdict<'a> {
    Kept(Kept<'a>),
    Dropped,
    Refused(&'a str),
    Broken(&'a Fault),
}

/// Records that come of one record, at least one.
#[derive(Clone, Copy)]
struct Kept<'a> {
    output: &'a Output,
    header_starts: &'a [u32],
    /// The first one's place in the output.
    first: usize,
    count: usize,
}

impl<'a> Made<'a> {
    fn of(part: &'a Part) -> Made<'a> {
        let new = part.made.as_ref().ok();
        let new = new.and_then(|it| Some(header_starts(it.headers.as_ref()?, it.take.len())));
        Made {
            part,
            header_starts: new.unwrap_or_default(),
        }
    }
}

/// Empty where there are no headers.
fn header_starts(headers: &Headers, records: usize) -> Vec<u32> {
    match headers.is_empty() {
        true => Vec::new(),
        false => headers.starts(records),
    }
}

/// What a version does with each record, in order.
fn verdicts<'a>(parts: &'a [Made<'a>]) -> Vec<Verdict<'a>> {
    let mut verdicts = Vec::new();
    for Made {
        part,
        header_starts,
    } in parts
    {
        let output = match &part.made {
            Ok(output) => output,
            Err(fault) => {
                verdicts.extend(repeat_n(Verdict::Broken(fault), part.range.len()));
                continue;
            }
        };
        // Both are in order.
        let mut refused = output.refused.iter().peekable();
        let mut first = 0;
        for index in 0..part.range.len() as u32 {
            let takes = output.take[first..].iter();
            let count = takes.take_while(|&&it| it == index).count();
            let kept = Kept {
                output,
                header_starts,
                first,
                count,
            };
            verdicts.push(match refused.next_if(|it| it.0 == index) {
                Some((_, reason)) => Verdict::Refused(reason),
                None if count == 0 => Verdict::Dropped,
                None => Verdict::Kept(kept),
            });
            first += count;
        }
    }
    verdicts
}

/// What both versions do with one record.
struct Pair<'a> {
    input: &'a Input<'a>,
    index: usize,
    active: Verdict<'a>,
    tried: Verdict<'a>,
}

/// A record that comes out.
struct Record<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a Headers,
    header_range: Range<usize>,
    timestamp: i64,
    output: u32,
}

impl<'a> Pair<'a> {
    /// Counts the record; whether it's different.
    fn count(&self, counts: &mut Counts) -> bool {
        let mut kinds = Kinds::default();
        self.differing(&mut |kind, _| *kinds.of(kind) = 1);
        let different = kinds != Kinds::default();
        let is = |it: bool| u64::from(it);
        counts.records += 1;
        counts.different += is(different);
        counts.equal += is(!different);
        counts.kinds.add(&kinds);
        counts.refused_by_active += is(matches!(self.active, Verdict::Refused(_)));
        counts.refused_by_tried += is(matches!(self.tried, Verdict::Refused(_)));
        counts.broken_by_active += is(matches!(self.active, Verdict::Broken(_)));
        counts.broken_by_tried += is(matches!(self.tried, Verdict::Broken(_)));
        different
    }

    /// All that's different, as a list that's cut.
    fn difference(&self) -> Difference {
        let batch = self.input.batch;
        let mut difference = Difference {
            topic: batch.topic.to_string(),
            partition: batch.partition,
            offset: batch.offsets[self.index],
            differs: Vec::new(),
            left_out: 0,
        };
        self.differing(&mut |kind, at| {
            let room = MOST_DIFFERS.saturating_sub(difference.differs.len());
            let (differs, more) = self.tell(kind, at, room);
            difference.left_out += more;
            for it in differs {
                match difference.differs.len() < MOST_DIFFERS {
                    true => difference.differs.push(it),
                    false => difference.left_out += 1,
                }
            }
        });
        difference
    }

    /// Calls `found` for all that's different, with the number of the record that comes out where it's about one.
    fn differing(&self, found: &mut dyn FnMut(Kind, usize)) {
        use Verdict::{Broken, Dropped, Kept, Refused};
        match (&self.active, &self.tried) {
            (Broken(active), Broken(tried)) if active == tried => {}
            (Broken(_), _) | (_, Broken(_)) => found(Kind::Broken, 0),
            (Refused(active), Refused(tried)) if active == tried => {}
            (Refused(_), _) | (_, Refused(_)) => found(Kind::Refused, 0),
            (Dropped, Dropped) => {}
            (Dropped, _) | (_, Dropped) => found(Kind::KeptOrDropped, 0),
            (Kept(active), Kept(tried)) if active.count != tried.count => {
                found(Kind::NumberOfRecords, 0);
            }
            (Kept(active), Kept(tried)) => {
                for at in 0..active.count {
                    self.differing_records(active, tried, at, found);
                }
            }
        }
    }

    fn differing_records(
        &self,
        active: &Kept<'a>,
        tried: &Kept<'a>,
        at: usize,
        found: &mut dyn FnMut(Kind, usize),
    ) {
        let (active, tried) = (self.record(active, at), self.record(tried, at));
        if active.value != tried.value {
            found(Kind::Value, at);
        }
        if active.key != tried.key {
            found(Kind::Key, at);
        }
        if !active.headers().eq(tried.headers()) {
            found(Kind::Headers, at);
        }
        if active.timestamp != tried.timestamp {
            found(Kind::Timestamp, at);
        }
        if active.output != tried.output {
            found(Kind::Output, at);
        }
    }

    fn record(&self, kept: &Kept<'a>, at: usize) -> Record<'a> {
        let (batch, index) = (self.input.batch, self.index);
        let (output, row) = (kept.output, kept.first + at);
        let (headers, starts, of) = match &output.headers {
            Some(new) => (new, kept.header_starts, row),
            None => (&batch.headers, &self.input.header_starts[..], index),
        };
        let start = |at: usize| starts.get(at).map_or(0, |&it| it as usize);
        let chosen = output.outputs.as_ref().map(|new| new[row]);
        Record {
            key: match &output.keys {
                Some(new) => new.get(row),
                None => batch.keys.get(index),
            },
            value: match &output.values {
                Some(new) => new.get(row),
                None => batch.values.get(index),
            },
            headers,
            header_range: start(of)..start(of + 1),
            timestamp: match &output.timestamps {
                Some(new) => new[row],
                None => batch.timestamps[index],
            },
            output: match chosen {
                Some(chosen) if chosen != UNCHOSEN => chosen,
                _ => batch.outputs.get(index).copied().unwrap_or(0),
            },
        }
    }

    /// Tells what is different: at most `room` fields of a value, and how many more there are.
    fn tell(&self, kind: Kind, at: usize, room: usize) -> (Vec<Differs>, usize) {
        let (active, tried) = match (&self.active, &self.tried) {
            (Verdict::Kept(active), Verdict::Kept(tried)) if active.count == tried.count => {
                (active, tried)
            }
            (active, tried) => {
                let told = tell::texts(kind, active.to_string(), tried.to_string());
                return (vec![told], 0);
            }
        };
        let several = active.count > 1;
        let (active, tried) = (self.record(active, at), self.record(tried, at));
        let (mut differs, more) = match kind {
            Kind::Value => tell::values(active.value, tried.value, room),
            Kind::Key => (vec![tell::bytes(kind, active.key, tried.key)], 0),
            Kind::Headers => (vec![tell::headers(active.headers(), tried.headers())], 0),
            Kind::Timestamp => {
                let text = |it: &Record<'_>| it.timestamp.to_string();
                (vec![tell::texts(kind, text(&active), text(&tried))], 0)
            }
            _ => {
                let name = |it: &Record<'_>| self.output_name(it.output);
                (vec![tell::texts(kind, name(&active), name(&tried))], 0)
            }
        };
        for it in &mut differs {
            it.record = several.then_some(at);
        }
        (differs, more)
    }

    fn output_name(&self, output: u32) -> String {
        let name = self.input.outputs.get(output as usize);
        name.map_or_else(|| output.to_string(), String::clone)
    }
}

impl<'a> Record<'a> {
    fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        self.headers.range(self.header_range.clone())
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Kept(Kept { count: 1, .. }) => f.write_str("kept"),
            Verdict::Kept(Kept { count, .. }) => write!(f, "kept as {count} records"),
            Verdict::Dropped => f.write_str("dropped"),
            Verdict::Refused(reason) => write!(f, "refused: {reason}"),
            Verdict::Broken(fault) => write!(f, "broken: {fault}"),
        }
    }
}

#[cfg(test)]
mod tests;
