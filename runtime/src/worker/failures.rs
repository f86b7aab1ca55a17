//! What becomes of records that a transform can't process: the policy of each, the circuit breaker, dead letters.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

use anyhow::{Error, anyhow};
use tracing::warn;

use crate::chain::{Broken, Chain, Failed, Processed, Version};
use crate::config::{MaxRefused, Policy};
use crate::fold::Fold;
use crate::io::TopicPartition;
use crate::letter::{Class, Letter};

/// What becomes of the records that one transform fails on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Of those that it refuses.
    pub on_refused: Policy,
    /// Of those that it breaks on.
    pub on_broken: Policy,
    /// How often a record that broke its guest all alone is tried again before that.
    pub retries: u32,
    /// When the transform counts as broken itself.
    pub max_refused: MaxRefused,
}

impl Default for Rules {
    /// Whatever fails stops the pipeline.
    fn default() -> Rules {
        Rules {
            on_refused: Policy::Stop,
            on_broken: Policy::Stop,
            retries: 1,
            max_refused: MaxRefused::default(),
        }
    }
}

/// The rules of a chain, and what they have seen so far.
pub(super) struct Failures {
    pipeline: String,
    steps: Vec<Step>,
    /// Of records that the broker refuses what came of.
    on_undeliverable: Policy,
    /// How those are told of.
    told: Fold<()>,
}

struct Step {
    /// The transform, and the number of its version.
    version: (String, u64),
    rules: Rules,
    window: Window,
    told: Fold<()>,
    /// Of batches that its guest broke on.
    told_broken: Fold<()>,
}

/// A batch's verdict.
pub(super) struct Verdict {
    /// What is to be written down, by policy.
    pub(super) letters: Vec<Failed>,
    /// What is passed over, by policy.
    pub(super) skipped: Vec<Failed>,
    /// The offset before which the pipeline stops, and why.
    pub(super) halt: Option<(u64, Error)>,
}

impl Failures {
    /// Rules for each of a chain's steps. Without a dead letter topic a record that can't be delivered stops the pipeline.
    pub(super) fn new(
        pipeline: &str,
        chain: &Chain,
        rules: &[Rules],
        dead_letters: bool,
    ) -> Failures {
        let step = |(index, version): (usize, &Version)| {
            let rules = rules.get(index).copied().unwrap_or_default();
            Step {
                version: (version.transform.clone(), version.number),
                rules,
                window: Window::new(rules.max_refused),
                told: Fold::default(),
                told_broken: Fold::default(),
            }
        };
        Failures {
            pipeline: pipeline.into(),
            steps: chain.versions().enumerate().map(step).collect(),
            on_undeliverable: match dead_letters {
                true => Policy::DeadLetter,
                false => Policy::Stop,
            },
            told: Fold::default(),
        }
    }

    /// Goes on with other rules for another chain. What was seen of a version that's in both isn't forgotten.
    pub(super) fn turn(&mut self, chain: &Chain, rules: &[Rules]) {
        let mut next = Failures::new(&self.pipeline, chain, rules, false);
        for step in &mut next.steps {
            let mut before = self.steps.iter_mut();
            let same = |it: &&mut Step| it.version == step.version && it.rules == step.rules;
            if let Some(same) = before.find(same) {
                std::mem::swap(step, same);
            }
        }
        self.steps = next.steps;
    }

    /// How often a record that breaks this step's guest alone is tried again.
    pub(super) fn retries(&self, step: usize) -> u32 {
        self.steps.get(step).map_or(0, |it| it.rules.retries)
    }

    /// Logs that a step's guest broke on a batch, now and then.
    pub(super) fn tell_broken(&mut self, id: &TopicPartition, chain: &Chain, broken: &Broken) {
        let step = self.steps.get_mut(broken.step);
        let Some(more) = step.and_then(|it| it.told_broken.tells((), Instant::now())) else {
            return;
        };
        let Broken {
            offsets: (first, last),
            fault,
            ..
        } = broken;
        let canary = chain.canary(broken.step).filter(|_| broken.canary);
        let transform = name(canary.or_else(|| chain.versions().nth(broken.step)));
        let more = (more > 0).then_some(more);
        warn!(
            pipeline = self.pipeline,
            more,
            "transform {transform} broke on a record of {id}, offsets {first} to {last}, which is looked for now: {fault}"
        );
    }

    /// Forgets what it has seen: it comes again.
    pub(super) fn forget(&mut self) {
        for step in &mut self.steps {
            step.window = Window::new(step.rules.max_refused);
        }
    }

    /// Sorts a batch's failed records by policy.
    pub(super) fn judge(
        &mut self,
        id: &TopicPartition,
        chain: &Chain,
        processed: &Processed,
    ) -> Verdict {
        let mut verdict = Verdict {
            letters: Vec::new(),
            skipped: Vec::new(),
            halt: None,
        };
        for (index, step) in self.steps.iter_mut().enumerate() {
            let mut of_step = processed.failed.iter().filter(|it| it.step == Some(index));
            let first = of_step.next();
            let failed = of_step.count() + usize::from(first.is_some());
            let counts = processed.counts.iter().filter(|it| it.step == index);
            let records: u64 = counts.map(|it| it.records_in).sum();
            // A record that broke its guest alone is in no count.
            let records = (records as usize).max(failed);
            let Some((failed, of)) = step.window.add(records, failed) else {
                continue;
            };
            let Some(first) = first else { continue };
            let share = step.rules.max_refused.share;
            let why = anyhow!(
                "transform {} failed on {failed} of its last {of} records, more than the share of {share} that `max_refused` allows: \
                 mend the transform, or raise `max_refused`; the last: {}, offset {}: {}",
                name(chain.version_of(first)),
                id,
                first.offset,
                first.reason
            );
            verdict.stop_before(first.offset, why);
        }
        for failed in &processed.failed {
            let policy = match failed.step.and_then(|step| self.steps.get(step)) {
                None => self.on_undeliverable,
                Some(step) if failed.class == Class::Refused => step.rules.on_refused,
                Some(step) => step.rules.on_broken,
            };
            match policy {
                Policy::Stop => verdict.stop_before(failed.offset, said(id, chain, failed)),
                Policy::Skip => verdict.skipped.push(failed.clone()),
                Policy::DeadLetter => verdict.letters.push(failed.clone()),
            }
        }
        if let Some((halt, _)) = verdict.halt {
            verdict.letters.retain(|it| it.offset < halt);
            verdict.skipped.retain(|it| it.offset < halt);
        }
        self.tell(id, chain, &verdict);
        verdict
    }

    /// Logs the first failure of a step, and then now and then how many more there were.
    fn tell(&mut self, id: &TopicPartition, chain: &Chain, verdict: &Verdict) {
        for (failed, fate) in [
            (&verdict.letters, "dead letter"),
            (&verdict.skipped, "skipped"),
        ] {
            for it in failed {
                let step = it.step.and_then(|step| self.steps.get_mut(step));
                let told = step.map_or(&mut self.told, |it| &mut it.told);
                let Some(more) = told.tells((), Instant::now()) else {
                    continue;
                };
                let pipeline = &self.pipeline;
                let why = said(id, chain, it);
                let more = (more > 0).then_some(more);
                warn!(pipeline, more, "{fate}: {why:#}");
            }
        }
    }
}

impl Verdict {
    fn stop_before(&mut self, offset: u64, why: Error) {
        if self.halt.as_ref().is_none_or(|(halt, _)| offset < *halt) {
            self.halt = Some((offset, why));
        }
    }
}

/// What a failed record's dead letter says.
pub(super) fn letter(
    pipeline: &str,
    id: &TopicPartition,
    chain: &Chain,
    failed: &Failed,
) -> Letter {
    let version = chain.version_of(failed);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Letter {
        reason: failed.reason.clone(),
        class: failed.class,
        pipeline: pipeline.into(),
        transform: version.map(|it| (it.transform.clone(), it.module.digest().to_string())),
        topic: id.topic.to_string(),
        partition: id.partition,
        offset: failed.offset,
        time: now.map_or(0, |it| it.as_millis() as i64),
        replays: 0,
    }
}

fn said(id: &TopicPartition, chain: &Chain, failed: &Failed) -> Error {
    let Failed { offset, reason, .. } = failed;
    match (failed.step, failed.class) {
        (None, _) => anyhow!(
            "what came of the record at {id}, offset {offset}, can't be delivered: {reason}"
        ),
        (Some(_), Class::Refused) => {
            let name = name(chain.version_of(failed));
            anyhow!("transform {name} refused the record at {id}, offset {offset}: {reason}")
        }
        (Some(_), _) => {
            let name = name(chain.version_of(failed));
            anyhow!("transform {name} broke on the record at {id}, offset {offset}: {reason}")
        }
    }
}

/// A version's transform and module, for people.
fn name(version: Option<&Version>) -> String {
    version.map_or_else(String::new, |it| {
        format!("{:?} ({:?})", it.transform, it.module)
    })
}

/// The last records of a transform, by batch: how many there were, and how many failed.
struct Window {
    bound: MaxRefused,
    batches: VecDeque<(usize, usize)>,
    records: usize,
    failed: usize,
}

impl Window {
    fn new(bound: MaxRefused) -> Window {
        Window {
            bound,
            batches: VecDeque::new(),
            records: 0,
            failed: 0,
        }
    }

    /// Adds a batch. If too many failed: how many, of how many. A window that isn't full yet counts as if it were, so that
    /// the first bad records of a pipeline don't stop it.
    fn add(&mut self, records: usize, failed: usize) -> Option<(usize, usize)> {
        if records == 0 {
            return None;
        }
        self.batches.push_back((records, failed));
        self.records += records;
        self.failed += failed;
        while let Some(&(records, failed)) = self.batches.front()
            && self.records - records >= self.bound.of
        {
            self.batches.pop_front();
            self.records -= records;
            self.failed -= failed;
        }
        let of = self.records.max(self.bound.of);
        (self.failed as f64 > self.bound.share * of as f64).then_some((self.failed, self.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(share: f64, of: usize) -> Window {
        Window::new(MaxRefused { share, of })
    }

    #[test]
    fn a_share_of_the_last_records_may_fail() {
        let mut it = window(0.2, 1_000);
        // A window that isn't full counts as if it were.
        assert_eq!(it.add(200, 200), None);
        assert_eq!(it.add(1, 1), Some((201, 201)));

        let mut it = window(0.2, 1_000);
        assert_eq!(it.add(1_000, 200), None);
        assert_eq!(it.add(1_000, 200), None);
        assert_eq!(it.add(1_000, 201), Some((201, 1_000)));

        // Larger batches than the window: the share of the batch.
        let mut it = window(0.2, 10);
        assert_eq!(it.add(1_000, 200), None);
        assert_eq!(it.add(1_000, 201), Some((201, 1_000)));

        // What has passed is forgotten.
        let mut it = window(0.5, 10);
        for _ in 0..100 {
            assert_eq!(it.add(1, 1), None);
            assert_eq!(it.add(1, 0), None);
        }
        assert!((0..6).any(|_| it.add(1, 1).is_some()));
    }

    #[test]
    fn a_share_of_one_allows_all() {
        let mut it = window(1.0, 10);
        assert!((0..100).all(|_| it.add(10, 10).is_none()));
    }
}
