//! What a change makes of a transform: built and proven off the record path.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Error;

use super::change::{Brought, Change, Mode, Refused, Source};
use super::crew::Guests;
use super::{Deployment, Standing, Transform, now};
use crate::chain::{Share, Version};
use crate::guest::{Digest, Guest};
use crate::shadow::Shadow;
use crate::store::{Content, History, Known, Trial, TrialKind};

/// What a change makes of a transform.
pub(super) enum Step {
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

/// A version that's ready to be tried.
pub(super) enum Tried {
    /// As a shadow that has begun.
    Shadow(Arc<Version>, Arc<Shadow>),
    /// For a share of the records.
    Canary(Share, Arc<Version>),
}

impl Deployment {
    /// The version that a change brings, proven, with guests for all workers.
    pub(super) async fn bring(self: &Arc<Self>, change: Change) -> Brought {
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
            let guests = this.prove(&version)?;
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
        Ok((step, Some(content)))
    }

    /// A shadow of the active version, begun.
    async fn shadow_of(
        self: &Arc<Self>,
        name: &str,
        version: &Arc<Version>,
    ) -> Result<Arc<Shadow>, Refused> {
        let (active, template) = {
            let state = self.state();
            let transform = state.transform(name);
            let transform = transform.ok_or_else(|| state.unknown(&self.pipeline, name))?;
            (transform.active.clone(), transform.config.config.clone())
        };
        let version = version.clone();
        let starting = move || Shadow::start(active, version);
        let shadow = blocking(starting)
            .await
            .map_err(|why| Refused::Unfit(template.hide(&why)))?;
        Ok(Arc::new(shadow))
    }

    /// What a rollback brings back.
    pub(super) async fn back(
        self: &Arc<Self>,
        name: &str,
        to: Option<u64>,
        why: Option<&str>,
    ) -> Brought {
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
            let guests = this.start(&version, || version.guest())?;
            Ok::<_, Error>((Arc::new(version), guests))
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
    pub(super) async fn tried(self: &Arc<Self>, name: &str) -> Brought {
        let (canary, shadow, template) = {
            let state = self.state();
            let transform = state.transform(name);
            let transform = transform.ok_or_else(|| state.unknown(&self.pipeline, name))?;
            (
                transform.canary.as_ref().map(|(_, it)| it.clone()),
                transform.shadow.as_ref().map(|(it, _)| it.clone()),
                transform.config.config.clone(),
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
        let (this, proven) = (self.clone(), version.clone());
        let proving = move || match is_shadow {
            true => this.prove(&proven),
            false => Ok(Vec::new()),
        };
        let guests = blocking(proving).await;
        let step = Step::Activate {
            version,
            guests: guests.map_err(|why| Refused::Unfit(template.hide(&why)))?,
            because: "another one was promoted".into(),
            is_new: true,
        };
        Ok((step, Some(content)))
    }

    /// The end of a shadow.
    pub(super) fn without_shadow(&self, name: &str) -> Brought {
        let history = self.history(name).unwrap_or_default();
        let is_shadow = |it: &Trial| it.kind == TrialKind::Shadow;
        if !history.trial.as_ref().is_some_and(is_shadow) {
            let what = format!("{}/{name} has no shadow", self.pipeline);
            return Err(Refused::Conflict(what));
        }
        Ok((Step::EndTrial, None))
    }

    /// The probation that a version begins with that isn't gone back to.
    pub(super) fn standing(&self, name: &str, step: &Step) -> Option<Standing> {
        let Step::Activate {
            version,
            is_new: true,
            ..
        } = step
        else {
            return None;
        };
        let state = self.state();
        let transform = state.transform(name)?;
        let is_other = version.number != transform.active.number;
        let bounds = transform.config.probation.filter(|_| is_other)?;
        Some(Standing::new(bounds, &transform.active, version))
    }

    /// What the config file says of a transform, and what the active version is.
    pub(super) fn config_of(
        &self,
        name: &str,
    ) -> Result<(crate::config::Transform, Content), Refused> {
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

    /// Starts and tries a guest of a version for each worker.
    pub(super) fn prove(&self, version: &Version) -> Result<Vec<Guest>, Error> {
        self.start(version, || version.prove())
    }

    /// Starts a guest for each worker; one at least, so that a version is proven also where no worker runs yet.
    fn start(
        &self,
        version: &Version,
        start: impl Fn() -> Result<Guest, Error>,
    ) -> Result<Vec<Guest>, Error> {
        let places = self.state().crew.len().max(1);
        let guest = |_| {
            let began = Instant::now();
            let guest = start()?;
            self.metrics
                .guest_started(&self.pipeline, version, began.elapsed());
            Ok(guest)
        };
        (0..places).map(guest).collect()
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

impl Transform {
    /// Makes a change in memory; returns the guests that go with it.
    pub(super) fn turn(&mut self, step: Step, standing: Option<Standing>) -> Guests {
        match step {
            Step::Activate {
                version, guests, ..
            } => {
                self.canary = None;
                self.shadow = None;
                // The same once more changes nothing of what is known of it.
                if version.number == self.active.number {
                    return Vec::new();
                }
                self.probation = standing;
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

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::from)
        .and_then(|it| it)
}
