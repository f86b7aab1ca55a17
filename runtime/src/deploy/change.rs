//! Changes of one transform: asked for, brought, committed; a failure before the last leaves all as it was.

use std::fmt;
use std::sync::Arc;

use anyhow::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};
use utoipa::ToSchema;

use super::step::Step;
use super::{Deployment, State, now};
use crate::chain::Share;
use crate::guest::Digest;
use crate::store::{By, Content, Entry, Paused};

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

/// A change of one transform that was asked for.
pub(super) struct Order {
    pub(super) transform: String,
    /// For the log and the audit log.
    pub(super) action: String,
    pub(super) by: By,
    pub(super) note: Option<String>,
}

/// What a change makes of a transform, and the version that it's about if that has to be written down.
pub(super) type Brought = Result<(Step, Option<Content>), Refused>;

impl Deployment {
    /// Runs a version, or tries it. Resolves once the workers have it, or once it's refused.
    pub async fn change(self: &Arc<Self>, change: Change) -> Result<Done, Refused> {
        let order = Order {
            transform: change.transform.clone(),
            action: match change.mode {
                Mode::Active => "swap".to_string(),
                Mode::Shadow | Mode::Canary(_) => change.mode.to_string(),
            },
            by: change.by.clone(),
            note: change.note.clone(),
        };
        self.make(order, |this| async move { this.bring(change).await })
            .await
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
        let (name, because) = (transform.to_string(), why.clone());
        let order = order(transform, "rollback", by, why);
        self.make(order, move |this| async move {
            this.back(&name, to, because.as_deref()).await
        })
        .await
    }

    /// Has the version that's tried run for all records.
    pub async fn promote(self: &Arc<Self>, transform: &str, by: By) -> Result<Done, Refused> {
        let name = transform.to_string();
        let order = order(transform, "promote", by, None);
        self.make(order, move |this| async move { this.tried(&name).await })
            .await
    }

    /// Ends a shadow.
    pub async fn end_shadow(self: &Arc<Self>, transform: &str, by: By) -> Result<Done, Refused> {
        let name = transform.to_string();
        let order = order(transform, "end of shadow", by, None);
        self.make(order, move |this| async move { this.without_shadow(&name) })
            .await
    }

    /// Has the workers read no more, or go on. They stay in their group. Says whether that's news.
    pub async fn set_paused(self: &Arc<Self>, paused: bool, by: By) -> Result<bool, Refused> {
        let this = self.clone();
        let setting = tokio::spawn(async move {
            let changing = this.changing.lock().await;
            this.state().check_not_retired(&this.pipeline)?;
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

    /// Makes a change, on a task of its own: who asked may go away half way through.
    async fn make<Bringing>(
        self: &Arc<Self>,
        order: Order,
        bring: impl FnOnce(Arc<Self>) -> Bringing + Send + 'static,
    ) -> Result<Done, Refused>
    where
        Bringing: Future<Output = Brought> + Send,
    {
        let this = self.clone();
        let making = tokio::spawn(async move {
            let doing = format!("a {} by {}", order.action, order.by);
            let _busy = this.begin(&order.transform, doing)?;
            let brought = bring(this.clone()).await;
            let (step, content) = this.or_tell(brought, &order)?;
            this.commit(order, step, content).await
        });
        joined(making.await)
    }

    /// Notes what is being done to a transform, until what's returned is dropped.
    fn begin(self: &Arc<Self>, name: &str, doing: String) -> Result<Busy, Refused> {
        let mut state = self.state();
        state.check_not_retired(&self.pipeline)?;
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
    pub(super) fn or_tell<T>(
        &self,
        result: Result<T, Refused>,
        order: &Order,
    ) -> Result<T, Refused> {
        result.inspect_err(|why| {
            let Order {
                transform,
                action,
                by,
                note,
            } = order;
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
}

impl State {
    fn check_not_retired(&self, pipeline: &str) -> Result<(), Refused> {
        match self.retired {
            true => Err(Refused::Busy(format!(
                "{pipeline} ends, or starts anew with other settings; try again when that's done"
            ))),
            false => Ok(()),
        }
    }

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

fn order(transform: &str, action: &str, by: By, note: Option<String>) -> Order {
    Order {
        transform: transform.to_string(),
        action: action.to_string(),
        by,
        note,
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

fn joined<T>(ended: Result<Result<T, Refused>, tokio::task::JoinError>) -> Result<T, Refused> {
    // A panic is a mistake of ours; its message is in the log.
    ended.unwrap_or_else(|why| Err(Refused::Unkept(Error::new(why))))
}
