//! A replay: each pending letter that is meant passes once, and what comes of it is committed together with the fact.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Error, Result, anyhow, bail};

use super::passage::{Failure, Fate, Outcome, Passage};
use super::post::{Post, Unposted};
use super::progress::Walk;
use super::{DeadLetters, Entry, Filter, Found, Partition};
use crate::letter::Class;

/// Letters of one transaction at most: what a replay that's killed does again.
const LETTERS: usize = 500;

/// Bytes of letters of one transaction; a single one may be larger.
const BYTES: usize = 4 << 20;

/// What a replay is to do.
pub struct Job<'a> {
    /// Which letters are meant.
    pub filter: &'a Filter,
    /// How many at most.
    pub limit: u64,
    /// Where they go.
    pub passage: Passage,
    /// What writes it; `None` to see what would become of them.
    pub post: Option<Post>,
    /// Ends it between two transactions.
    pub stop: &'a AtomicBool,
}

/// What a replay has done, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Letters that records came of.
    pub out: u64,
    /// Records that came of them.
    pub records: u64,
    /// Letters that the chain dropped.
    pub dropped: u64,
    /// Letters whose records went back to their topics.
    pub back: u64,
    /// Letters that became dead letters again, by class and transform.
    pub again: BTreeMap<(Class, Option<String>), u64>,
    /// Letters that failed again and were passed over by policy.
    pub skipped: u64,
    /// Letters that can't be replayed, by what is the matter.
    pub left: BTreeMap<String, u64>,
    /// Pending letters that the filter left out.
    pub filtered: u64,
    /// Letters of other pipelines.
    pub others: BTreeMap<String, u64>,
    /// Records that are no letters.
    pub foreign: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// What a replay shows on its way.
pub enum Seen<'a> {
    /// How far it is: records of the dead letter topic that it has gone through, and all that there are to go through.
    At(u64, u64, &'a Report),
    /// What became of a letter, or would.
    Fate(&'a Entry, &'a Fate),
}

impl Report {
    /// Letters that are replayed now.
    pub fn replayed(&self) -> u64 {
        self.out + self.dropped + self.back + self.skipped + self.again.values().sum::<u64>()
    }

    fn add(&mut self, fate: &Fate) {
        match fate {
            Fate::Out(0) => self.dropped += 1,
            Fate::Out(records) => {
                self.out += 1;
                self.records += *records as u64;
            }
            Fate::Back => self.back += 1,
            Fate::Again(failure) => {
                let transform = failure.transform.as_ref().map(|(name, _)| name.clone());
                *self.again.entry((failure.class, transform)).or_default() += 1;
            }
            Fate::Skipped(_) => self.skipped += 1,
            Fate::Left(why) => *self.left.entry(why.clone()).or_default() += 1,
            Fate::Halt(_) => {}
        }
    }
}

/// Replays letters, partition by partition. What it has done shows in `report` also if it fails.
pub fn replay(
    letters: &mut DeadLetters,
    job: Job<'_>,
    report: &mut Report,
    show: &mut dyn FnMut(Seen<'_>) -> Result<()>,
) -> Result<()> {
    let partitions: Vec<Partition> = (0..letters.partitions())
        .map(|number| letters.partition(number))
        .collect::<Result<_>>()?;
    let mut walks: Vec<Walk> = Vec::with_capacity(partitions.len());
    for partition in &partitions {
        let mut walk = Walk::new(partition.progress.clone());
        // What retention has removed can't be replayed any more.
        walk.pass(partition.offsets.start);
        walks.push(walk);
    }
    let left = |(walk, partition): (&Walk, &Partition)| partition.offsets.end - walk.at();
    let mut run = Run {
        total: walks.iter().zip(&partitions).map(left).sum(),
        gone: 0,
        taken: 0,
        job,
        report,
        show,
    };
    for (number, (partition, mut walk)) in partitions.iter().zip(walks).enumerate() {
        let number = number as i32;
        let mut chunk = Chunk::default();
        let from = walk.at();
        let mut at = from;
        let ended = letters.scan(number, from..partition.offsets.end, &mut |offset, found| {
            at = offset + 1;
            match found {
                Found::Others(pipeline) => *run.report.others.entry(pipeline).or_default() += 1,
                Found::Mark(_) => {}
                Found::Foreign => run.report.foreign += 1,
                Found::Letter(entry) => {
                    let is_done = partition.progress.is_done(offset);
                    run.sort(&mut chunk, *entry, is_done);
                }
            }
            if chunk.is_full() {
                run.finish(number, &mut walk, &mut chunk)?;
            }
            run.at(at - from)?;
            Ok(match run.ends() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
        run.finish(number, &mut walk, &mut chunk)?;
        run.gone += partition.offsets.end - from;
        if ended.is_break() {
            break;
        }
        run.at(0)?;
    }
    run.report.stopped = run.job.stop.load(Ordering::Relaxed);
    Ok(())
}

struct Run<'a, 'b> {
    job: Job<'a>,
    report: &'b mut Report,
    show: &'b mut dyn FnMut(Seen<'_>) -> Result<()>,
    /// Letters that were taken to be replayed.
    taken: u64,
    /// Records in the partitions that it is through with, and in all.
    gone: u64,
    total: u64,
}

/// Letters in the order of their offsets, among them those to be replayed together.
#[derive(Default)]
struct Chunk {
    steps: Vec<Step>,
    entries: Vec<Entry>,
    bytes: usize,
}

enum Step {
    /// A letter that stays as it is: its offset, and whether it's done.
    Passed(u64, bool),
    /// The next of the entries.
    Entry,
}

impl Chunk {
    fn is_full(&self) -> bool {
        /// Letters that stay as they are take little, but not nothing.
        const STEPS: usize = 100_000;
        self.entries.len() >= LETTERS || self.bytes >= BYTES || self.steps.len() >= STEPS
    }
}

impl Run<'_, '_> {
    /// Takes a letter into the chunk: to be replayed, or to stay as it is.
    fn sort(&mut self, chunk: &mut Chunk, entry: Entry, is_done: bool) {
        let is_meant = self.job.filter.takes(&entry.letter);
        if is_done || !is_meant {
            self.report.filtered += u64::from(!is_done);
            chunk.steps.push(Step::Passed(entry.offset, is_done));
            return;
        }
        self.taken += 1;
        chunk.bytes += entry.bytes();
        chunk.steps.push(Step::Entry);
        chunk.entries.push(entry);
    }

    /// Whether no more letters are to be taken.
    fn ends(&self) -> bool {
        self.taken >= self.job.limit || self.job.stop.load(Ordering::Relaxed)
    }

    fn at(&mut self, read: u64) -> Result<()> {
        (self.show)(Seen::At(self.gone + read, self.total, self.report))
    }

    /// Replays the chunk's letters and empties it.
    fn finish(&mut self, partition: i32, walk: &mut Walk, chunk: &mut Chunk) -> Result<()> {
        let Chunk { steps, entries, .. } = std::mem::take(chunk);
        let (mut steps, mut entries) = (&steps[..], &entries[..]);
        loop {
            // The chain first: nobody knows how long it takes, and a transaction has its time.
            let outcomes = self.job.passage.pass(entries)?;
            let (now, later) = entries.split_at(outcomes.len());
            let count = before(steps, now.len()).len();
            self.write(partition, walk, &steps[..count], now, outcomes)?;
            if later.is_empty() {
                return Ok(());
            }
            (steps, entries) = (&steps[count..], later);
        }
    }

    /// Writes what came of letters.
    fn write(
        &mut self,
        partition: i32,
        walk: &mut Walk,
        steps: &[Step],
        entries: &[Entry],
        mut outcomes: Vec<Outcome>,
    ) -> Result<()> {
        let halt = outcomes
            .iter()
            .position(|it| matches!(it.fate, Fate::Halt(_)));
        let count = halt.unwrap_or(entries.len());
        let steps = before(steps, count);
        let news = outcomes[..count].iter().any(is_done);
        let delivered = match &mut self.job.post {
            Some(post) if news => {
                let mut whole = walk.clone();
                advance(&mut whole, steps, entries, &outcomes);
                let all = outcomes[..count].iter().map(|it| &it.parcels[..]);
                post.deliver(all, partition, &whole.progress())
            }
            _ => Ok(()),
        };
        match delivered {
            Ok(()) => {
                advance(walk, steps, entries, &outcomes);
                for (entry, outcome) in entries.iter().zip(&outcomes[..count]) {
                    self.tell(entry, outcome)?;
                }
            }
            Err(Unposted::Lost(why) | Unposted::Failed(why)) => return Err(why),
            // The brokers fail what was sent along with a refused record too: each by itself shows which one it is.
            Err(Unposted::Refused(_)) => {
                self.one_by_one(partition, walk, steps, entries, &mut outcomes)?;
            }
        }
        match halt.map(|at| (&entries[at], &outcomes[at].fate)) {
            Some((entry, Fate::Halt(failure))) => bail!(halted(entry, failure)),
            _ => Ok(()),
        }
    }

    /// Replays letters in a transaction each. What the brokers don't take of a letter makes it a dead letter again.
    fn one_by_one(
        &mut self,
        partition: i32,
        walk: &mut Walk,
        steps: &[Step],
        entries: &[Entry],
        outcomes: &mut [Outcome],
    ) -> Result<()> {
        let mut letters = entries.iter().zip(outcomes);
        for step in steps {
            let (entry, outcome) = match step {
                Step::Passed(offset, is_done) => {
                    walk.letter(*offset, *is_done);
                    continue;
                }
                Step::Entry => match letters.next() {
                    Some(letter) => letter,
                    None => break,
                },
            };
            walk.letter(entry.offset, is_done(outcome));
            let progress = walk.progress();
            if let Some(post) = &mut self.job.post
                && is_done(outcome)
            {
                let mut deliver = |it: &Outcome| {
                    post.deliver([&it.parcels[..]].into_iter(), partition, &progress)
                };
                match deliver(outcome) {
                    Ok(()) => {}
                    Err(Unposted::Lost(why) | Unposted::Failed(why)) => return Err(why),
                    Err(Unposted::Refused(why)) => {
                        let failure = Failure {
                            class: Class::Output,
                            transform: None,
                            reason: format!("{why:#}"),
                        };
                        *outcome = self.job.passage.again(entry, failure);
                        deliver(outcome).map_err(|unposted| match unposted {
                            Unposted::Lost(_) | Unposted::Failed(_) => unposted.into_cause(),
                            Unposted::Refused(why) => why.context(format!(
                                "the dead letter topic doesn't take the letter at {}:{} again",
                                entry.partition, entry.offset
                            )),
                        })?;
                    }
                }
            }
            self.tell(entry, outcome)?;
        }
        Ok(())
    }

    fn tell(&mut self, entry: &Entry, outcome: &Outcome) -> Result<()> {
        self.report.add(&outcome.fate);
        (self.show)(Seen::Fate(entry, &outcome.fate))
    }
}

/// Whether a letter counts as replayed with this.
fn is_done(outcome: &Outcome) -> bool {
    !matches!(outcome.fate, Fate::Left(_) | Fate::Halt(_))
}

/// The steps before entry number `count`.
fn before(steps: &[Step], count: usize) -> &[Step] {
    let entries = steps.iter().enumerate();
    let mut entries = entries.filter(|(_, step)| matches!(step, Step::Entry));
    let end = entries.nth(count).map_or(steps.len(), |(at, _)| at);
    &steps[..end]
}

/// Takes a walk past steps.
fn advance(walk: &mut Walk, steps: &[Step], entries: &[Entry], outcomes: &[Outcome]) {
    let mut letters = entries.iter().zip(outcomes);
    for step in steps {
        match step {
            Step::Passed(offset, is_done) => walk.letter(*offset, *is_done),
            Step::Entry => {
                if let Some((entry, outcome)) = letters.next() {
                    walk.letter(entry.offset, is_done(outcome));
                }
            }
        }
    }
}

fn halted(entry: &Entry, failure: &Failure) -> Error {
    let transform = failure.transform.as_ref().map(|(name, _)| name.as_str());
    anyhow!(
        "the replay ends before the letter at {}:{}, as the policy \"stop\" says: transform {:?} fails on it again ({}): {}",
        entry.partition,
        entry.offset,
        transform.unwrap_or_default(),
        failure.class,
        failure.reason
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::*;

    fn outcome(fate: Fate) -> Outcome {
        Outcome {
            fate,
            parcels: Vec::new(),
        }
    }

    #[test]
    fn what_stays_is_not_done() {
        let at = |offset| Entry {
            offset,
            ..entry(&[], 0)
        };
        let entries = [at(2), at(6), at(9)];
        let outcomes = [
            outcome(Fate::Out(1)),
            outcome(Fate::Left("no topic".into())),
            outcome(Fate::Out(0)),
        ];
        let steps = [
            Step::Passed(0, true),
            Step::Entry,
            Step::Passed(4, false),
            Step::Entry,
            Step::Passed(8, true),
            Step::Entry,
            Step::Passed(10, false),
        ];
        assert_eq!(before(&steps, 0).len(), 1);
        assert_eq!(before(&steps, 2).len(), 5);
        assert_eq!(before(&steps, 3).len(), 7);
        let mut walk = Walk::new(Default::default());
        advance(&mut walk, &steps, &entries, &outcomes);
        let progress = walk.progress();
        let done: Vec<u64> = [0, 2, 4, 6, 8, 9, 10]
            .into_iter()
            .filter(|&offset| progress.is_done(offset))
            .collect();
        assert_eq!(done, [0, 2, 8, 9]);
    }
}
