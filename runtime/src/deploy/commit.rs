//! How a change is committed: written down, published, and waited for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;
use tracing::info;

use super::change::{Done, Order, Refused};
use super::crew::Waiting;
use super::step::{Step, blocking};
use super::{Deployment, Standing, now};
use crate::guest::{Digest, Module};
use crate::store::{Cause, Content, Entry, Record, Trial};

/// How long an answer waits for the workers. A worker that waits for its brokers takes a change up once they are back.
const PATIENCE: Duration = Duration::from_secs(30);

impl Deployment {
    /// Writes a change down and publishes it: from here on nothing can fail but the writing.
    pub(super) async fn commit(
        self: &Arc<Self>,
        order: Order,
        step: Step,
        content: Option<Content>,
    ) -> Result<Done, Refused> {
        let Order {
            transform: name,
            action,
            by,
            note,
        } = &order;
        // Nobody who goes back by himself has looked at it.
        let file = match (&step, by.cause) {
            (Step::Activate { .. }, cause) if cause != Cause::Probation => self.file_of(name).await,
            _ => None,
        };
        let changing = self.changing.lock().await;
        let mut record = self.state().record.clone();
        let history = record.transforms.entry(name.to_string()).or_default();
        let standing = self.standing(name, &step);
        let was = history.active().map_or(0, |it| it.number);
        let ended = history.trial.clone();
        let number = match &content {
            Some(content) => history.number(content, now()),
            None => was,
        };
        let about = match (&step, &ended) {
            (Step::EndTrial, Some(trial)) => trial.version,
            _ => number,
        };
        // A version whose trial ends may be forgotten by that.
        let known = history.known(about).map(|it| it.content.digest);
        let digest = known.ok_or_else(|| self.state().unknown(&self.pipeline, name))?;
        match &step {
            Step::Activate { because, .. } => {
                if was != number {
                    history.activate(number, by.clone(), note.clone(), now(), because);
                    history.probation = standing.as_ref().map(Standing::kept);
                }
                history.end_trial();
            }
            Step::Try { kind, .. } => history.try_out(Trial {
                version: number,
                since: now(),
                by: by.clone(),
                note: note.clone(),
                kind: *kind,
            }),
            Step::EndTrial => drop(history.end_trial()),
        }
        // From now on it's what a restart compares with.
        if let Some(file) = &file {
            history.file_says(file, now());
        }
        let entry = self.entry(
            action,
            Some(name),
            Some((about, Some(digest))),
            by,
            note.clone(),
        );
        let kept = self.keep(&record, entry).await;
        self.or_tell(kept, &order)?;

        let (waiting, active) = {
            let mut state = self.state();
            state.record = record;
            let unknown = state.unknown(&self.pipeline, name);
            let transform = state.transform_mut(name).ok_or(unknown)?;
            // A shadow's thread ends once its guest has; that's not waited for here.
            let ended = transform.shadow.take();
            let guests = transform.turn(step, standing);
            let active = transform.active.number;
            tokio::task::spawn_blocking(move || drop(ended));
            (self.publish(&state, guests), active)
        };
        drop(changing);
        self.show_versions();
        self.metrics.swap(&self.pipeline, name, true);
        if by.cause.goes_back() {
            self.metrics.rolled_back(&self.pipeline, name);
        }
        let workers = waiting.len();
        let (taken, pauses) = wait_for(waiting).await;
        let pauses_us: Vec<u64> = pauses.iter().map(|it| it.as_micros() as u64).collect();
        pauses
            .iter()
            .for_each(|it| self.metrics.swap_pause(&self.pipeline, *it));
        info!(
            pipeline = self.pipeline,
            transform = name,
            version = about,
            active,
            was,
            by = %by,
            workers,
            taken,
            ?pauses_us,
            "{action}"
        );
        Ok(Done {
            pipeline: self.pipeline.clone(),
            transform: name.to_string(),
            active,
            was,
            version: about,
            digest,
            what: action.to_string(),
            workers,
            taken,
            pauses_us,
        })
    }

    /// What the files say of a transform now; `None` if they can't be read.
    async fn file_of(self: &Arc<Self>, name: &str) -> Option<Content> {
        let (transform, _) = self.config_of(name).ok()?;
        let reading = move || {
            let most = transform.limits.max_module_bytes;
            let bytes = Module::read(&transform.module, most)?;
            Ok(Content {
                digest: Digest::of(&bytes),
                config: transform.config.typed().clone(),
            })
        };
        blocking(reading).await.ok()
    }

    /// Writes the audit log and then the record. What's in the log and not in the record was about to be done.
    pub(super) async fn keep(
        self: &Arc<Self>,
        record: &Record,
        entry: Entry,
    ) -> Result<(), Refused> {
        let (this, record) = (self.clone(), record.clone());
        let before = self.state().record.clone();
        let keeping = move || {
            this.store.audit(&entry).context("writing the audit log")?;
            this.store.save(&this.pipeline, &record).inspect_err(|_| {
                // It may be there already, and only not be sure to stay.
                let _ = this.store.save(&this.pipeline, &before);
            })
        };
        blocking(keeping).await.map_err(Refused::Unkept)
    }
}

/// Waits until workers have a chain: how many have, and the pauses. A worker that has ended counts as one that has it.
pub(super) async fn wait_for(waiting: Waiting) -> (usize, Vec<Duration>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (mut taken, mut pauses, mut left) = (0, Vec::new(), Vec::new());
    for (_, told) in waiting {
        let patience = deadline.saturating_duration_since(tokio::time::Instant::now());
        match timeout(patience, told).await {
            Ok(Ok(it)) => {
                pauses.push(it.pause);
                left.push(it.before);
                taken += 1;
            }
            Ok(Err(_)) => taken += 1,
            Err(_) => {}
        }
    }
    // Guests' memory is given back here, and not on a worker.
    let thrown_away = tokio::task::spawn_blocking(move || drop(left));
    let _ = thrown_away.await;
    (taken, pauses)
}
