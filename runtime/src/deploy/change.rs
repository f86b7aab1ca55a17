//! Changes: built and proven off the record path, written down, published; a failure before that leaves all as it was.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;
use tracing::{info, warn};
use utoipa::ToSchema;

use super::crew::{Guests, Waiting};
use super::{Deployment, Standing, State, Transform, now};
use crate::chain::{Share, Version};
use crate::guest::{Digest, Guest, Module};
use crate::shadow::Shadow;
use crate::store::{By, Content, Entry, History, Known, Paused, Record, Trial, TrialKind};

/// What is to run, or to be tried.
#[derive(Clone, Debug)]
pub struct Change {
    /// The transform's name.
    pub transform: String,
    /// The module.
    pub module: Source,
    /// The config as it's typed in the config file; `None` for the active version's.
    pub config: Option<Value>,
    /// What is done with it.
    pub mode: Mode,
    /// What is new, for people.
    pub note: Option<String>,
    /// Who brings it.
    pub by: By,
}

/// Where a module comes from.
#[derive(Clone)]
pub enum Source {
    /// It's the active version's.
    Active,
    /// Its bytes.
    Bytes(Vec<u8>),
    /// The store has it.
    Digest(Digest),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Active => f.write_str("Active"),
            Source::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Source::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// What is done with a version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// It runs.
    Active,
    /// It's given copies of what the active one is given, and writes nothing.
    Shadow,
    /// It runs for a share of the records.
    Canary(Share),
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Active => f.write_str("active"),
            Mode::Shadow => f.write_str("shadow"),
            Mode::Canary(share) => write!(f, "canary for {share}"),
        }
    }
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// The pipeline's name.
    pub pipeline: String,
    /// The transform's name.
    pub transform: String,
    /// The version that's active now.
    pub active: u64,
    /// The version that was active before.
    pub was: u64,
    /// The version that the change is about.
    pub version: u64,
    /// Its module.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// What was done, for people.
    pub what: String,
    /// The workers of this process.
    pub workers: usize,
    /// Of those, how many have it; the others take it up once they have ended what they do.
    pub taken: usize,
    /// How long each of those stood still for it, in microseconds.
    pub pauses_us: Vec<u64>,
}

/// Why a change wasn't made; all is as it was.
#[derive(Debug)]
pub enum Refused {
    /// There's no such pipeline, transform or version.
    Unknown(String),
    /// Something else is being done to the transform.
    Busy(String),
    /// It makes no sense as things stand.
    Conflict(String),
    /// The version isn't fit to run, and why: it can't be read, compiled, linked, started, or breaks when it's tried.
    Unfit(Error),
    /// It can't be written down.
    Unkept(Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Unknown(what) | Refused::Busy(what) | Refused::Conflict(what) => {
                f.write_str(what)
            }
            Refused::Unfit(why) | Refused::Unkept(why) => write!(f, "{why:#}"),
        }
    }
}

impl std::error::Error for Refused {}

/// How long an answer waits for the workers. A worker that waits for its brokers takes a change up once they are back.
const PATIENCE: Duration = Duration::from_secs(30);

/// A version that's ready to be tried.
pub(super) enum Tried {
    /// As a shadow that has begun.
    Shadow(Arc<Version>, Arc<Shadow>),
    /// For a share of the records.
    Canary(Share, Arc<Version>),
}

/// What a change makes of a transform.
enum Step {
    /// This version runs.
    Activate {
        version: Arc<Version>,
        guests: Vec<Guest>,
        /// Why the one before ends.
        because: String,
        /// Whether it has to prove itself: not if it's gone back to.
        is_new: bool,
    },
    /// This version is tried.
    Try {
        kind: TrialKind,
        trial: Tried,
        guests: Vec<Guest>,
    },
    /// What is tried ends.
    EndTrial,
}

impl Deployment {
    /// Runs a version, or tries it. Resolves once the workers have it, or once it's refused.
    pub async fn change(self: &Arc<Self>, change: Change) -> Result<Done, Refused> {
        let this = self.clone();
        // On a task of its own: who asked may go away half way through.
        let changing = tokio::spawn(async move {
            let doing = format!("a swap by {}", change.by);
            let (transform, by, note) = (
                change.transform.clone(),
                change.by.clone(),
                change.note.clone(),
            );
            let mode = change.mode;
            let busy = this.begin(&transform, doing)?;
            let action = match mode {
                Mode::Active => "swap".to_string(),
                Mode::Shadow | Mode::Canary(_) => mode.to_string(),
            };
            let result = this.bring(change).await;
            let (step, known) = this.or_tell(result, &action, &transform, &by, &note)?;
            let done = this
                .commit(&transform, Some(known), step, &action, by, note)
                .await;
            drop(busy);
            done
        });
        joined(changing.await)
    }

    /// Goes back to a version: to the one before the active one, unless a number is given. A canary ends, too; where there's
    /// one and no number is given, that's all that happens.
    pub async fn roll_back(
        self: &Arc<Self>,
        transform: &str,
        to: Option<u64>,
        by: By,
        why: Option<String>,
    ) -> Result<Done, Refused> {
        let (this, transform) = (self.clone(), transform.to_string());
        let rolling = tokio::spawn(async move {
            let busy = this.begin(&transform, format!("a rollback by {by}"))?;
            let result = this.back(&transform, to, why.as_deref()).await;
            let (step, known) = this.or_tell(result, "rollback", &transform, &by, &why)?;
            let done = this
                .commit(&transform, known, step, "rollback", by, why)
                .await;
            drop(busy);
            done
        });
        joined(rolling.await)
    }

    /// Has the version that's tried run for all records.
    pub async fn promote(self: &Arc<Self>, transform: &str, by: By) -> Result<Done, Refused> {
        let (this, transform) = (self.clone(), transform.to_string());
        let promoting = tokio::spawn(async move {
            let busy = this.begin(&transform, format!("a promotion by {by}"))?;
            let result = this.tried(&transform).await;
            let (step, known) = this.or_tell(result, "promote", &transform, &by, &None)?;
            let done = this
                .commit(&transform, Some(known), step, "promote", by, None)
                .await;
            drop(busy);
            done
        });
        joined(promoting.await)
    }

    /// Ends a shadow.
    pub async fn end_shadow(self: &Arc<Self>, transform: &str, by: By) -> Result<Done, Refused> {
        let (this, transform) = (self.clone(), transform.to_string());
        let ending = tokio::spawn(async move {
            let busy = this.begin(&transform, format!("the end of a shadow by {by}"))?;
            let is_shadow = |it: &Trial| it.kind == TrialKind::Shadow;
            let has_one = this
                .history(&transform)
                .is_some_and(|it| it.trial.as_ref().is_some_and(is_shadow));
            if !has_one {
                let what = format!("{}/{transform} has no shadow", this.pipeline);
                return Err(Refused::Conflict(what));
            }
            let done = this
                .commit(&transform, None, Step::EndTrial, "end of shadow", by, None)
                .await;
            drop(busy);
            done
        });
        joined(ending.await)
    }

    /// Has the workers read no more, or go on. They stay in their group. Says whether that's news.
    pub async fn set_paused(self: &Arc<Self>, paused: bool, by: By) -> Result<bool, Refused> {
        let this = self.clone();
        let setting = tokio::spawn(async move {
            let changing = this.changing.lock().await;
            let mut record = this.state().record.clone();
            if record.paused.is_some() == paused {
                return Ok(false);
            }
            record.paused = paused.then(|| Paused {
                since: now(),
                by: by.clone(),
            });
            let action = if paused { "pause" } else { "resume" };
            this.keep(&record, this.entry(action, None, None, &by, None))
                .await?;
            let mut state = this.state();
            state.record = record;
            this.shared.set_paused(paused);
            state.crew.iter().for_each(|(_, control)| control.wake());
            drop(state);
            drop(changing);
            info!(pipeline = this.pipeline, by = %by, "{action}");
            Ok(true)
        });
        joined(setting.await)
    }

    /// The version that a change brings, proven, with guests for all workers.
    async fn bring(self: &Arc<Self>, change: Change) -> Result<(Step, Content), Refused> {
        let (transform, active) = self.config_of(&change.transform)?;
        let content = Content {
            digest: match &change.module {
                Source::Active => active.digest,
                Source::Digest(digest) => *digest,
                Source::Bytes(bytes) => Digest::of(bytes),
            },
            config: change.config.unwrap_or(active.config.clone()),
        };
        if change.mode != Mode::Active && content == active {
            let what = "it's the active version already: there's nothing to try";
            return Err(Refused::Conflict(what.into()));
        }
        if let Mode::Canary(share) = change.mode {
            self.check_share(&share)?;
        }
        let this = self.clone();
        let brought = content.clone();
        let template = transform.config.clone();
        let proving = move || {
            let config = transform
                .config
                .fill_in(&brought.config)
                .map_err(|why| anyhow::anyhow!("its config: {why}"))?;
            let bytes = match change.module {
                Source::Bytes(bytes) => bytes,
                Source::Active | Source::Digest(_) => this.store.module(&brought.digest)?,
            };
            let most = transform.limits.max_module_bytes;
            anyhow::ensure!(
                bytes.len() <= most,
                "the module has {} bytes, and `max_module_bytes` allows {most}; raise it, or strip the module",
                bytes.len()
            );
            let known = Known {
                number: this.number_of(&transform.name, &brought),
                content: brought,
                first: now(),
            };
            let version = this.version(&transform, &known, config, &bytes)?;
            let guests = version.prove(this.places())?;
            Ok::<_, Error>((Arc::new(version), guests, bytes))
        };
        let proven = blocking(proving).await;
        let (version, guests, bytes) = proven.map_err(|why| Refused::Unfit(template.hide(&why)))?;
        let shadow = match change.mode {
            Mode::Shadow => Some(self.shadow_of(&change.transform, &version).await?),
            Mode::Active | Mode::Canary(_) => None,
        };
        let this = self.clone();
        let put = move || this.store.put_module(&bytes);
        blocking(put).await.map_err(Refused::Unkept)?;
        let step = match (change.mode, shadow) {
            (Mode::Canary(share), _) => Step::Try {
                kind: TrialKind::Canary {
                    percent: share.percent(),
                    unit: share.unit,
                },
                trial: Tried::Canary(share, version),
                guests,
            },
            (_, Some(shadow)) => Step::Try {
                kind: TrialKind::Shadow,
                trial: Tried::Shadow(version, shadow),
                guests: Vec::new(),
            },
            (_, None) => Step::Activate {
                version,
                guests,
                because: "swapped".into(),
                is_new: true,
            },
        };
        Ok((step, content))
    }

    /// A shadow of the active version, begun.
    async fn shadow_of(
        self: &Arc<Self>,
        name: &str,
        version: &Arc<Version>,
    ) -> Result<Arc<Shadow>, Refused> {
        let active = {
            let state = self.state();
            let transform = state.transform(name);
            let transform = transform.ok_or_else(|| state.unknown(&self.pipeline, name))?;
            transform.active.clone()
        };
        let version = version.clone();
        let starting = move || Shadow::start(active, version);
        let shadow = blocking(starting).await.map_err(Refused::Unfit)?;
        Ok(Arc::new(shadow))
    }

    /// What a rollback brings back.
    async fn back(
        self: &Arc<Self>,
        name: &str,
        to: Option<u64>,
        why: Option<&str>,
    ) -> Result<(Step, Option<Content>), Refused> {
        let (transform, _) = self.config_of(name)?;
        let history = self.history(name).unwrap_or_default();
        let is_canary = |it: &Trial| matches!(it.kind, TrialKind::Canary { .. });
        if to.is_none() && history.trial.as_ref().is_some_and(is_canary) {
            return Ok((Step::EndTrial, None));
        }
        let known = match to {
            Some(number) => history.known(number).ok_or_else(|| {
                Refused::Unknown(format!(
                    "{}/{name} has no version {number}, or not any more; `weir versions` lists them",
                    self.pipeline
                ))
            })?,
            None => history.before().ok_or_else(|| {
                Refused::Conflict(format!(
                    "there's no version of {}/{name} before the active one",
                    self.pipeline
                ))
            })?,
        };
        let active = history.active().map(|it| it.number);
        if active == Some(known.number) {
            let what = format!(
                "version {} of {}/{name} is active already",
                known.number, self.pipeline
            );
            return Err(Refused::Conflict(what));
        }
        let (this, known) = (self.clone(), known.clone());
        let content = known.content.clone();
        let template = transform.config.clone();
        let proving = move || {
            let version = this.stored(&transform, &known)?;
            // It ran before; what it's tried with now says no more.
            let guests: Result<Vec<Guest>, _> =
                (0..this.places()).map(|_| version.guest()).collect();
            Ok::<_, Error>((Arc::new(version), guests?))
        };
        let (version, guests) = blocking(proving)
            .await
            .map_err(|why| Refused::Unfit(template.hide(&why)))?;
        let because = match why {
            Some(why) => format!("rolled back: {why}"),
            None => "rolled back".into(),
        };
        let step = Step::Activate {
            version,
            guests,
            because,
            is_new: false,
        };
        Ok((step, Some(content)))
    }

    /// What is tried, to be run.
    async fn tried(self: &Arc<Self>, name: &str) -> Result<(Step, Content), Refused> {
        let (canary, shadow) = {
            let state = self.state();
            let transform = state.transform(name);
            let transform = transform.ok_or_else(|| state.unknown(&self.pipeline, name))?;
            (
                transform.canary.as_ref().map(|(_, it)| it.clone()),
                transform.shadow.as_ref().map(|(it, _)| it.clone()),
            )
        };
        let is_shadow = canary.is_none();
        let Some(version) = canary.or(shadow) else {
            let what = format!("{}/{name} has nothing on trial to promote", self.pipeline);
            return Err(Refused::Conflict(what));
        };
        let history = self.history(name).unwrap_or_default();
        let known = history.known(version.number);
        let content = known.map(|it| it.content.clone());
        let content = content.ok_or_else(|| self.state().unknown(&self.pipeline, name))?;
        // A canary's guests are with the workers already.
        let places = if is_shadow { self.places() } else { 0 };
        let proven = version.clone();
        let guests = blocking(move || proven.prove(places)).await;
        let step = Step::Activate {
            version,
            guests: guests.map_err(Refused::Unfit)?,
            because: "another one was promoted".into(),
            is_new: true,
        };
        Ok((step, content))
    }

    /// Writes a change down and publishes it: from here on nothing can fail but the writing.
    async fn commit(
        self: &Arc<Self>,
        name: &str,
        content: Option<Content>,
        step: Step,
        action: &str,
        by: By,
        note: Option<String>,
    ) -> Result<Done, Refused> {
        let file = self.file_of(name).await;
        let changing = self.changing.lock().await;
        let mut record = self.state().record.clone();
        let history = record.transforms.entry(name.to_string()).or_default();
        let was = history.active().map_or(0, |it| it.number);
        let ended = history.trial.clone();
        let number = match &content {
            Some(content) => history.number(content, now()),
            None => was,
        };
        match &step {
            Step::Activate { because, .. } => {
                if was != number {
                    history.activate(number, by.clone(), note.clone(), now(), because);
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
        let about = match (&step, &ended) {
            (Step::EndTrial, Some(trial)) => trial.version,
            _ => number,
        };
        let digest = history.known(about).map(|it| it.content.digest);
        let entry = self.entry(action, Some(name), Some((about, digest)), &by, note.clone());
        let kept = self.keep(&record, entry).await;
        self.or_tell(kept, action, name, &by, &note)?;

        let (waiting, active) = {
            let mut state = self.state();
            state.record = record;
            let unknown = state.unknown(&self.pipeline, name);
            let transform = state.transform_mut(name).ok_or(unknown)?;
            // A shadow's thread ends once its guest has; that's not waited for here.
            let ended = transform.shadow.take();
            let guests = transform.turn(step);
            let active = transform.active.number;
            tokio::task::spawn_blocking(move || drop(ended));
            (self.publish(&state, guests), active)
        };
        drop(changing);
        self.show_versions();
        self.metrics.swap(&self.pipeline, name, true);
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
            digest: digest.ok_or_else(|| self.state().unknown(&self.pipeline, name))?,
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

    /// Notes what is being done to a transform, until what's returned is dropped.
    fn begin(self: &Arc<Self>, name: &str, doing: String) -> Result<Busy, Refused> {
        let mut state = self.state();
        let unknown = state.unknown(&self.pipeline, name);
        let transform = state.transform_mut(name).ok_or(unknown)?;
        if let Some(other) = &transform.busy {
            let what = format!(
                "{}/{name} is busy with {other}; try again when that's done",
                self.pipeline
            );
            return Err(Refused::Busy(what));
        }
        transform.busy = Some(doing);
        Ok(Busy {
            deployment: self.clone(),
            transform: name.to_string(),
        })
    }

    /// Passes a result on, and writes down that something was refused.
    fn or_tell<T>(
        &self,
        result: Result<T, Refused>,
        action: &str,
        transform: &str,
        by: &By,
        note: &Option<String>,
    ) -> Result<T, Refused> {
        result.inspect_err(|why| {
            warn!(pipeline = self.pipeline, transform, by = %by, "{action} refused: {why}");
            let entry = Entry {
                outcome: format!("refused: {why}"),
                ..self.entry(action, Some(transform), None, by, note.clone())
            };
            if let Err(why) = self.store.audit(&entry) {
                warn!(
                    pipeline = self.pipeline,
                    "the audit log can't be written: {why:#}"
                );
            }
            self.metrics.swap(&self.pipeline, transform, false);
        })
    }

    pub(super) fn entry(
        &self,
        action: &str,
        transform: Option<&str>,
        version: Option<(u64, Option<Digest>)>,
        by: &By,
        note: Option<String>,
    ) -> Entry {
        Entry {
            time: now(),
            action: action.to_string(),
            pipeline: self.pipeline.clone(),
            transform: transform.map(str::to_string),
            version: version.map(|(number, _)| number),
            digest: version.and_then(|(_, digest)| digest),
            by: by.clone(),
            note,
            outcome: "accepted".to_string(),
        }
    }

    /// What the config file says of a transform, and what the active version is.
    fn config_of(&self, name: &str) -> Result<(crate::config::Transform, Content), Refused> {
        let state = self.state();
        let unknown = || state.unknown(&self.pipeline, name);
        let transform = state.transform(name).ok_or_else(unknown)?;
        let active = state.record.transforms.get(name).and_then(History::active);
        let active = active.ok_or_else(unknown)?;
        Ok((transform.config.clone(), active.content.clone()))
    }

    fn history(&self, name: &str) -> Option<History> {
        self.state().record.transforms.get(name).cloned()
    }

    /// The number that a version has or will have. Changes of one transform don't overlap.
    fn number_of(&self, name: &str, content: &Content) -> u64 {
        let mut history = self.history(name).unwrap_or_default();
        history.number(content, now())
    }

    /// How many guests of a version are needed: one for each worker.
    pub(super) fn places(&self) -> usize {
        // One at least, so that a version is proven also where no worker runs yet.
        self.state().crew.len().max(1)
    }

    fn check_share(&self, share: &Share) -> Result<(), Refused> {
        let state = self.state();
        let has_some = |&partitions: &usize| {
            (0..partitions).any(|it| i32::try_from(it).is_ok_and(|it| share.has_partition(it)))
        };
        if share.unit == crate::chain::Unit::Partitions
            && !state.partitions.is_empty()
            && !state.partitions.iter().any(has_some)
        {
            let most = state.partitions.iter().max().copied().unwrap_or(0);
            return Err(Refused::Conflict(format!(
                "{}% of {most} partitions is none; take {:.2}% at least, or a share of keys",
                share.percent(),
                100.0 / most.max(1) as f64
            )));
        }
        Ok(())
    }
}

impl State {
    pub(super) fn unknown(&self, pipeline: &str, transform: &str) -> Refused {
        let names: Vec<&str> = self.transforms.iter().map(|it| &*it.config.name).collect();
        let names = match names.is_empty() {
            true => "it has none".to_string(),
            false => format!("it has: {}", names.join(", ")),
        };
        Refused::Unknown(format!(
            "the pipeline {pipeline:?} has no transform {transform:?}; {names}"
        ))
    }
}

impl Transform {
    /// Makes a change in memory; returns the guests that go with it.
    fn turn(&mut self, step: Step) -> Guests {
        match step {
            Step::Activate {
                version,
                guests,
                is_new,
                ..
            } => {
                self.canary = None;
                self.shadow = None;
                self.probation = None;
                if let Some(bounds) = self.config.probation
                    && is_new
                    && version.number != self.active.number
                {
                    self.probation = Some(Standing::new(bounds, &self.active, &version));
                }
                self.active = version.clone();
                vec![(version, guests)]
            }
            Step::Try { trial, guests, .. } => {
                self.canary = None;
                self.shadow = None;
                match trial {
                    Tried::Canary(share, version) => {
                        self.canary = Some((share, version.clone()));
                        vec![(version, guests)]
                    }
                    Tried::Shadow(version, shadow) => {
                        self.shadow = Some((version, shadow));
                        Vec::new()
                    }
                }
            }
            Step::EndTrial => {
                self.canary = None;
                self.shadow = None;
                Vec::new()
            }
        }
    }
}

/// Something is being done to a transform, as long as this lives.
struct Busy {
    deployment: Arc<Deployment>,
    transform: String,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(transform) = self.deployment.state().transform_mut(&self.transform) {
            transform.busy = None;
        }
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::from)
        .and_then(|it| it)
}

fn joined<T>(ended: Result<Result<T, Refused>, tokio::task::JoinError>) -> Result<T, Refused> {
    // A panic is a mistake of ours; its message is in the log.
    ended.unwrap_or_else(|why| Err(Refused::Unkept(Error::new(why))))
}
