//! Probation: a new version beside the one before it, by what the workers see of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tracing::{error, info};

use super::{Deployment, Refused, now};
use crate::chain::{Sight, Version};
use crate::config::Probation;
use crate::metrics::Reason;
use crate::store::{By, Cause, Proving};

/// A version on probation.
#[derive(Clone, Debug)]
pub struct Standing {
    bounds: Probation,
    /// The new version's number.
    pub version: u64,
    /// The number of the version that it's compared with.
    pub before: u64,
    /// When it passes.
    pub until: DateTime<Utc>,
    deadline: Instant,
    /// It couldn't be written down that the one before is back: not tried again before this.
    retry: Option<Instant>,
    /// What was seen of the one before until the new one came.
    baseline: Sight,
    /// What was seen of the new one before it came: it may have been a canary.
    start: Sight,
}

/// How often versions on probation are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long until a rollback is tried again that couldn't be written down.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// So few records say nothing about shares and times yet: until there are as many, what fails counts as a share of these.
const ENOUGH: u64 = 1_000;

impl Standing {
    pub(super) fn new(bounds: Probation, before: &Version, version: &Version) -> Standing {
        Standing {
            bounds,
            version: version.number,
            before: before.number,
            until: now() + bounds.lasts,
            deadline: Instant::now() + bounds.lasts,
            retry: None,
            baseline: before.seen.now(),
            start: version.seen.now(),
        }
    }

    /// One that goes on after a restart, unless it's over.
    pub(super) fn resumed(
        bounds: Probation,
        kept: &Proving,
        version: &Version,
    ) -> Option<Standing> {
        let left = (kept.until - now()).to_std().ok()?.min(bounds.lasts);
        Some(Standing {
            bounds,
            version: version.number,
            before: kept.before,
            until: kept.until,
            deadline: Instant::now() + left,
            retry: None,
            baseline: Sight {
                records: kept.records,
                refused: kept.refused,
                faults: 0,
                time: Duration::from_nanos(kept.nanos),
            },
            start: version.seen.now(),
        })
    }

    /// As it's written down. What was seen of the new version isn't: that's counted anew.
    pub(super) fn kept(&self) -> Proving {
        Proving {
            before: self.before,
            until: self.until,
            records: self.baseline.records,
            refused: self.baseline.refused,
            nanos: u64::try_from(self.baseline.time.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Why the version must go, if it must: for the metric, and for people.
    fn failing(&self, seen: Sight) -> Option<(Reason, String)> {
        let seen = seen.since(self.start);
        let Probation {
            max_refused,
            max_broken,
            max_latency,
            ..
        } = self.bounds;
        if seen.faults > max_broken {
            let why = format!(
                "it broke {} times, and max_broken allows {max_broken}",
                seen.faults
            );
            return Some((Reason::Broken, why));
        }
        // Of the one before too little is known to be compared with.
        if self.baseline.records < ENOUGH {
            return None;
        }
        let of = seen.records.max(ENOUGH);
        let (share, before) = (
            seen.refused as f64 / of as f64,
            self.baseline.refused_share(),
        );
        if share > before + max_refused {
            let why = format!(
                "it refused {} of {} records, a share of {share:.4}; version {} refused {before:.4}, and max_refused allows {max_refused} more",
                seen.refused, seen.records, self.before
            );
            return Some((Reason::Refused, why));
        }
        if seen.records < ENOUGH {
            return None;
        }
        let (took, before) = (seen.nanos_per_record(), self.baseline.nanos_per_record());
        (took > before * max_latency).then(|| {
            let why = format!(
                "it takes {took:.0} ns a record; version {} took {before:.0}, and max_latency allows {max_latency} times as long",
                self.before
            );
            (Reason::Latency, why)
        })
    }
}

impl Deployment {
    /// Looks after versions on probation; never ends.
    pub async fn watch_probations(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for (transform, verdict) in self.verdicts() {
                match verdict {
                    Verdict::Passed(version) => {
                        let pipeline = &self.pipeline;
                        info!(
                            pipeline,
                            transform, version, "its probation is over, and it stays"
                        );
                    }
                    Verdict::Failed {
                        version,
                        before,
                        why: (reason, why),
                    } => {
                        error!(
                            pipeline = self.pipeline,
                            transform, version, "rolling back, since on probation {why}"
                        );
                        match self.give_back(&transform, before, reason, why).await {
                            Ok(()) => {}
                            // It's looked at again once that's done.
                            Err(Refused::Busy(_)) => {}
                            // The disk is full, say.
                            Err(Refused::Unkept(_)) => self.retry_later(&transform),
                            Err(_) => self.end_probation(&transform, version),
                        }
                    }
                }
            }
        }
    }

    async fn give_back(
        self: &Arc<Self>,
        transform: &str,
        before: Option<u64>,
        reason: Reason,
        why: String,
    ) -> Result<(), Refused> {
        let by = By::from(Cause::Probation);
        self.roll_back(transform, before, by, Some(why)).await?;
        self.metrics
            .probation_failed(&self.pipeline, transform, reason);
        Ok(())
    }

    /// Goes back from all versions that are new, on probation or as a canary, since the pipeline can't go on. Whether there
    /// were any.
    pub fn give_new_ones_back(self: &Arc<Self>, why: &str) -> bool {
        let new: Vec<(String, Option<u64>)> = {
            let state = self.state();
            let new = state.transforms.iter().filter_map(|it| {
                let name = it.config.name.clone();
                match (&it.canary, &it.probation) {
                    (Some(_), _) => Some((name, None)),
                    (None, Some(standing)) => Some((name, Some(standing.before))),
                    (None, None) => None,
                }
            });
            new.collect()
        };
        let any = !new.is_empty();
        for (transform, before) in new {
            let (this, why) = (self.clone(), format!("the pipeline can't go on: {why}"));
            error!(
                pipeline = self.pipeline,
                transform, "rolling back, since {why}"
            );
            tokio::spawn(async move {
                // What is refused is in the log; the next worker that can't go on asks again.
                let _ = this
                    .give_back(&transform, before, Reason::Stopped, why)
                    .await;
            });
        }
        any
    }

    /// There's no way back: what there is to say is in the log.
    fn end_probation(&self, transform: &str, version: u64) {
        if let Some(it) = self.state().transform_mut(transform) {
            it.probation = it.probation.take().filter(|it| it.version != version);
        }
    }

    fn retry_later(&self, transform: &str) {
        let mut state = self.state();
        let transform = state.transform_mut(transform);
        if let Some(standing) = transform.and_then(|it| it.probation.as_mut()) {
            standing.retry = Some(Instant::now() + RETRY_AFTER);
        }
    }

    fn verdicts(&self) -> Vec<(String, Verdict)> {
        let mut verdicts = Vec::new();
        for it in &mut self.state().transforms {
            let Some(standing) = &it.probation else {
                continue;
            };
            let version = standing.version;
            if standing.retry.is_some_and(|it| Instant::now() < it) {
                continue;
            }
            let verdict = match standing.failing(it.active.seen.now()) {
                // It stays on probation until it's gone.
                Some(why) if it.busy.is_none() => Verdict::Failed {
                    version,
                    before: Some(standing.before),
                    why,
                },
                None if Instant::now() >= standing.deadline => {
                    it.probation = None;
                    Verdict::Passed(version)
                }
                Some(_) | None => continue,
            };
            verdicts.push((it.config.name.clone(), verdict));
        }
        verdicts
    }
}

enum Verdict {
    Passed(u64),
    Failed {
        version: u64,
        before: Option<u64>,
        why: (Reason, String),
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(baseline: Sight) -> Standing {
        Standing {
            bounds: Probation {
                lasts: Duration::from_secs(60),
                max_refused: 0.01,
                max_broken: 1,
                max_latency: 3.0,
            },
            version: 2,
            before: 1,
            until: now(),
            deadline: Instant::now(),
            retry: None,
            baseline,
            start: Sight::default(),
        }
    }

    fn sight(records: u64, refused: u64, faults: u64, nanos: u64) -> Sight {
        Sight {
            records,
            refused,
            faults,
            time: Duration::from_nanos(records * nanos),
        }
    }

    #[test]
    fn each_bound_is_held_against_the_version_before() {
        let it = standing(sight(10_000, 100, 0, 100));
        assert_eq!(it.failing(Sight::default()), None);
        assert_eq!(it.failing(sight(10_000, 200, 1, 300)), None);
        for (seen, why) in [
            (sight(10, 0, 2, 100), "broke 2 times"),
            (sight(10_000, 201, 0, 100), "refused 201 of 10000"),
            (sight(10_000, 0, 0, 301), "301 ns"),
        ] {
            let (_, said) = it.failing(seen).unwrap();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_few_records_say_little() {
        let it = standing(sight(10_000, 0, 0, 100));
        // As if a thousand had come.
        assert_eq!(it.failing(sight(10, 10, 0, 900)), None);
        assert!(it.failing(sight(11, 11, 0, 100)).is_some());
        // Nothing is known of the time that the one before took.
        assert_eq!(
            standing(sight(999, 0, 0, 100)).failing(sight(5_000, 0, 0, 900)),
            None
        );
    }
}
