//! What the files say now: modules that changed, and a chain that the config file has otherwise than before.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, Result};
use tracing::{info, warn};

use super::commit::wait_for;
use super::crew::Guests;
use super::{Deployment, Standing, State, Transform};
use crate::chain::Version;
use crate::config;
use crate::shadow::Shadow;
use crate::store::{By, Cause, Entry, Record};

/// How often it's looked whether a transform is still busy with something else.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the files say, built and proven, and not yet taken up. Its transforms are busy until it's taken up or dropped.
pub struct Prepared {
    by: By,
    rebuilt: Rebuilt,
    occupied: Occupied,
}

impl Deployment {
    /// Builds what these transforms of the config file and their modules are now. What is as it was won't be touched. On an
    /// error all is as it was.
    pub async fn prepare(
        self: &Arc<Self>,
        transforms: Vec<config::Transform>,
        cause: Cause,
    ) -> Result<Prepared> {
        let occupied = self.occupy().await;
        let by = By::from(cause);
        let (this, cause) = (self.clone(), by.clone());
        let building = move || this.rebuilt(transforms, &cause);
        let rebuilt = tokio::task::spawn_blocking(building).await;
        match rebuilt.map_err(Error::from).and_then(|it| it) {
            Ok(rebuilt) => Ok(Prepared {
                by,
                rebuilt,
                occupied,
            }),
            Err(why) => {
                self.tell_refused(&by, &why);
                Err(why)
            }
        }
    }

    /// Writes down that what the files say isn't taken up.
    fn tell_refused(&self, by: &By, why: &Error) {
        let entry = Entry {
            outcome: format!("refused: {why:#}"),
            ..self.entry("files changed", None, None, by, None)
        };
        if let Err(why) = self.store.audit(&entry) {
            warn!(
                pipeline = self.pipeline,
                "the audit log can't be written: {why:#}"
            );
        }
        self.metrics.swap(&self.pipeline, "", false);
    }

    /// Waits until no transform is busy, and has them all be.
    async fn occupy(self: &Arc<Self>) -> Occupied {
        loop {
            {
                let mut state = self.state();
                if state.transforms.iter().all(|it| it.busy.is_none()) {
                    let busy = || Some("a change of its files".to_string());
                    state.transforms.iter_mut().for_each(|it| it.busy = busy());
                    return Occupied(self.clone());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for the changes that are under way, and has none made from then on: another deployment is to take its place,
    /// and goes on with what this one has written down.
    pub async fn retire(self: &Arc<Self>) {
        let occupied = self.occupy().await;
        let changing = self.changing.lock().await;
        self.state().retired = true;
        drop(changing);
        drop(occupied);
    }

    async fn take_in(self: &Arc<Self>, rebuilt: Rebuilt, by: &By) -> Result<()> {
        let changing = self.changing.lock().await;
        let Rebuilt {
            transforms,
            mut record,
            guests,
            made,
            news,
        } = rebuilt;
        // A pause is all that may have changed since it was built.
        record.paused = self.state().record.paused.clone();
        if news.is_empty() {
            // The file may say by now what runs already.
            return self.note(record).await;
        }
        let what = news.join(", ");
        let entry = self.entry("files changed", None, None, by, Some(what.clone()));
        self.keep(&record, entry).await.map_err(Error::from)?;
        let waiting = {
            let mut state = self.state();
            let before = std::mem::replace(&mut state.transforms, transforms);
            // With the threads of shadows that have ended.
            tokio::task::spawn_blocking(move || drop(before));
            state.record = record;
            self.publish(&state, guests)
        };
        drop(changing);
        self.show_versions();
        made.iter()
            .for_each(|it| self.metrics.swap(&self.pipeline, it, true));
        let workers = waiting.len();
        let (taken, pauses) = wait_for(waiting).await;
        pauses
            .iter()
            .for_each(|it| self.metrics.swap_pause(&self.pipeline, *it));
        info!(pipeline = self.pipeline, by = %by, workers, taken, "{what}");
        Ok(())
    }

    /// Writes down a record that says nothing new of what runs.
    async fn note(self: &Arc<Self>, record: Record) -> Result<()> {
        if self.state().record == record {
            return Ok(());
        }
        let (this, kept) = (self.clone(), record.clone());
        tokio::task::spawn_blocking(move || this.store.save(&this.pipeline, &kept)).await??;
        self.state().record = record;
        Ok(())
    }

    /// All that's new, built and proven.
    fn rebuilt(&self, wanted: Vec<config::Transform>, by: &By) -> Result<Rebuilt> {
        let mut record = self.state().record.clone();
        let why = match by.cause {
            Cause::ModuleFile => "the module's file changed",
            _ => "the config file changed",
        };
        let (mut transforms, mut guests, mut news) = (Vec::new(), Guests::new(), Vec::new());
        let (mut made, mut left) = (Vec::new(), Vec::new());
        for config in wanted {
            let hidden = |why: Error| config.config.hide(&why);
            let mut built = self
                .start_of(&config, &mut record, by, why)
                .map_err(hidden)?;
            let name = &config.name;
            let state = self.state();
            let before = state.transform(name);
            match before {
                None => news.push(format!("transform {name:?} is new")),
                Some(before) => left.extend(self.keep_of(before, &mut built, &mut news)),
            }
            let starts = before.is_none_or(|it| !Arc::ptr_eq(&it.active, &built.active));
            let canary = built.canary.as_ref().filter(|(_, tried)| {
                let same = |it: &(_, Arc<Version>)| Arc::ptr_eq(&it.1, tried);
                !before.is_some_and(|it| it.canary.as_ref().is_some_and(same))
            });
            let canary = canary.map(|(_, tried)| tried.clone());
            // What is tried goes on, though it couldn't be begun anew.
            let trial = state.record.transforms.get(name);
            if (built.canary.is_some() || built.shadow.is_some())
                && record
                    .transforms
                    .get(name)
                    .is_some_and(|it| it.trial.is_none())
                && let Some(before) = trial
            {
                record.transforms.insert(name.clone(), before.clone());
            }
            drop(state);
            if let Some(history) = record.transforms.get_mut(name) {
                history.probation = built.probation.as_ref().map(Standing::kept);
            }
            if starts {
                let proven = self.prove(&built.active).map_err(hidden)?;
                guests.push((built.active.clone(), proven));
                made.push(name.clone());
            }
            if let Some(tried) = canary {
                let proven = self.prove(&tried).map_err(hidden)?;
                guests.push((tried, proven));
            }
            built.busy = Some("a change of its files".into());
            transforms.push(built);
        }
        let state = self.state();
        for gone in &state.transforms {
            if !transforms
                .iter()
                .any(|it| it.config.name == gone.config.name)
            {
                news.push(format!("transform {:?} is gone", gone.config.name));
            }
        }
        let order = |transforms: &[Transform]| -> Vec<String> {
            transforms.iter().map(|it| it.config.name.clone()).collect()
        };
        if news.is_empty() && order(&transforms) != order(&state.transforms) {
            news.push("the transforms' order is another one".into());
        }
        drop(state);
        Ok(Rebuilt {
            transforms,
            record,
            guests,
            made,
            news,
        })
    }

    /// Keeps what a transform has of what runs already, and notes what is new. A shadow that was begun for nothing is
    /// returned: its end takes a while.
    fn keep_of(
        &self,
        before: &Transform,
        built: &mut Transform,
        news: &mut Vec<String>,
    ) -> Option<(Arc<Version>, Arc<Shadow>)> {
        let name = &built.config.name;
        let alike = before.active.number == built.active.number
            && before.active.module.digest() == built.active.module.digest()
            && before.active.setup == built.active.setup
            && before.active.limits == built.active.limits
            && before.active.ids == built.active.ids;
        if alike {
            built.active = before.active.clone();
            built.canary = before.canary.clone();
            let left = std::mem::replace(&mut built.shadow, before.shadow.clone());
            built.probation = before.probation.clone();
            let (mut one, mut other) = (before.config.clone(), built.config.clone());
            (one.line, other.line) = (0, 0);
            if one != other {
                news.push(format!("transform {name:?} has other settings"));
            }
            return left;
        }
        let (was, is) = (before.active.number, built.active.number);
        match was == is {
            true => news.push(format!("transform {name:?} has other settings")),
            false => {
                news.push(format!(
                    "transform {name:?} has version {is} instead of {was}"
                ));
                if let Some(bounds) = built.config.probation {
                    built.probation = Some(Standing::new(bounds, &before.active, &built.active));
                }
            }
        }
        None
    }

    /// Writes down what a process starts with.
    pub async fn keep_start(self: &Arc<Self>) {
        let this = self.clone();
        let changing = self.changing.lock().await;
        let keeping = move || {
            let record = this.state().record.clone();
            this.store.save(&this.pipeline, &record)?;
            this.store.prune();
            Ok(())
        };
        let kept = tokio::task::spawn_blocking(keeping).await;
        if let Err(why) = kept.map_err(Error::from).and_then(|it| it) {
            warn!(
                pipeline = self.pipeline,
                "what runs can't be written down, so the next start won't know of it: {why:#}"
            );
        }
        drop(changing);
        self.show_versions();
    }

    /// The configs of its transforms, in the order of the chain.
    pub fn configs(&self) -> Vec<config::Transform> {
        let state = self.state();
        state
            .transforms
            .iter()
            .map(|it| it.config.clone())
            .collect()
    }
}

impl Prepared {
    /// Writes it down and publishes it: from here on nothing can fail but the writing. Resolves once the workers have it.
    pub async fn take_up(self) -> Result<()> {
        // On a task of its own, so that it isn't left half way through.
        let task = tokio::spawn(async move {
            let deployment = &self.occupied.0;
            let done = deployment.take_in(self.rebuilt, &self.by).await;
            done.inspect_err(|why| deployment.tell_refused(&self.by, why))
        });
        task.await.map_err(Error::from).and_then(|it| it)
    }
}

/// All transforms are busy, as long as this lives.
struct Occupied(Arc<Deployment>);

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.transforms.iter_mut().for_each(|it| it.busy = None);
    }
}

struct Rebuilt {
    transforms: Vec<Transform>,
    record: Record,
    guests: Guests,
    /// The transforms that have another version.
    made: Vec<String>,
    /// What is new, for people; empty if nothing is.
    news: Vec<String>,
}

impl State {
    /// The versions that run, and as what.
    pub(super) fn roles(&self) -> Vec<(Arc<Version>, &'static str)> {
        let mut roles = Vec::new();
        for it in &self.transforms {
            roles.push((it.active.clone(), "active"));
            let canary = it.canary.as_ref().map(|(_, version)| version);
            roles.extend(canary.map(|it| (it.clone(), "canary")));
            let shadow = it.shadow.as_ref().map(|(version, _)| version);
            roles.extend(shadow.map(|it| (it.clone(), "shadow")));
        }
        roles
    }
}
