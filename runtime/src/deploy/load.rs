//! What a process starts with: the config file's versions, or those of the store.

use std::sync::Arc;

use anyhow::{Context, Error, Result};
use tracing::{info, warn};

use super::{Deployment, Standing, State, Transform, now};
use crate::chain::{Seen, Share, Version};
use crate::config::{self, Problem, Template};
use crate::guest::{Digest, Host, Module, Setup};
use crate::metrics::Metrics;
use crate::shadow::Shadow;
use crate::store::{By, Cause, Content, FILE_CHANGED, Known, Record, Start, Store, TrialKind};

/// What deployments are made of beside the config.
#[derive(Clone)]
pub struct Means {
    /// The sandbox.
    pub host: Host,
    /// Where versions are kept.
    pub store: Store,
    /// Where workers count.
    pub metrics: Metrics,
    /// What makes stable ids impossible to foresee, if anything does.
    pub id_key: Option<config::Secret>,
}

impl Deployment {
    /// Loads the modules and hands each its config, so that wrong ones are known, all of them, before Kafka is asked for
    /// anything. Where the config file says what it said at the last swap, what was active comes back.
    pub fn load(means: Means, config: &config::Pipeline) -> Result<Deployment, Vec<Problem>> {
        let problem = |line: usize, why: Error| Problem {
            line: Some(line),
            message: format!("pipeline {:?}, {why:#}", config.name),
        };
        let record = means.store.load(&config.name);
        let record = record.map_err(|why| vec![problem(config.line, why)])?;
        let Means {
            host,
            store,
            metrics,
            id_key,
        } = means;
        let deployment = Deployment {
            host,
            store,
            metrics,
            pipeline: config.name.clone(),
            outputs: config.outputs.iter().map(|it| it.name.clone()).collect(),
            id_key,
            shared: Arc::default(),
            state: std::sync::Mutex::new(State {
                transforms: Vec::new(),
                crew: Vec::new(),
                record: Record::default(),
                shown: Vec::new(),
                partitions: Vec::new(),
                retired: false,
            }),
            changing: tokio::sync::Mutex::default(),
        };
        let (mut record, mut transforms, mut problems) = (record, Vec::new(), Vec::new());
        let by = By::from(Cause::ConfigFile);
        for transform in &config.transforms {
            match deployment.start_of(transform, &mut record, &by, FILE_CHANGED) {
                Ok(it) => transforms.push(it),
                Err(why) => {
                    let why = transform.config.hide(&why);
                    problems.push(problem(transform.line, why));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        deployment.shared.set_paused(record.paused.is_some());
        let mut state = deployment.state();
        state.transforms = transforms;
        state.record = record;
        drop(state);
        Ok(deployment)
    }

    /// What a transform is to run by what its files say and what was active. Changes the record accordingly.
    pub(super) fn start_of(
        &self,
        transform: &config::Transform,
        record: &mut Record,
        by: &By,
        why: &str,
    ) -> Result<Transform> {
        let bytes = Module::read(&transform.module, transform.limits.max_module_bytes);
        let bytes = bytes.with_context(|| unusable(transform))?;
        let file = Content {
            digest: Digest::of(&bytes),
            config: transform.config.typed().clone(),
        };
        let history = record.transforms.entry(transform.name.clone()).or_default();
        let start = history.look(&file, by.clone(), why, now());
        let (pipeline, name) = (&self.pipeline, &transform.name);
        if let Start::FileChanged { was } = start {
            info!(
                pipeline,
                transform = name,
                was,
                "the config file or the module has changed: it's what runs"
            );
        }
        let active = history
            .active()
            .context("its history has no active version")?;
        let active = match active.content == file {
            true => self.version(transform, active, transform.config.clone(), &bytes)?,
            false => {
                info!(
                    pipeline,
                    transform = name,
                    version = active.number,
                    "not the config file's version, but the one that was active"
                );
                self.stored(transform, active)?
            }
        };
        // The guest's own error names its transform.
        active.guest()?;
        // So that there's a way back to it once the file is another one.
        if let Err(why) = self.store.put_module(&bytes) {
            warn!(
                pipeline,
                transform = name,
                "the module can't be kept, so there's no way back to it later: {why:#}"
            );
        }
        let mut started = Transform {
            config: transform.clone(),
            active: Arc::new(active),
            canary: None,
            shadow: None,
            probation: None,
            busy: None,
        };
        started.probation = transform
            .probation
            .zip(history.probation.as_ref())
            .and_then(|(bounds, kept)| Standing::resumed(bounds, kept, &started.active));
        if let Some(trial) = history.trial.clone() {
            let tried = history.known(trial.version).context("it isn't known");
            let tried = tried.and_then(|it| self.stored(transform, it));
            let on = tried.and_then(|it| started.try_out(&trial.kind, Arc::new(it)));
            if let Err(why) = on {
                let why = transform.config.hide(&why);
                warn!(
                    pipeline,
                    transform = name,
                    version = trial.version,
                    "this version was tried, and can't be any more: {why:#}"
                );
                history.end_trial();
            }
        }
        Ok(started)
    }

    /// A version whose module is in the store.
    pub(super) fn stored(&self, transform: &config::Transform, known: &Known) -> Result<Version> {
        let number = known.number;
        let context = || {
            format!(
                "transform {:?}: version {number} can't be used",
                transform.name
            )
        };
        let bytes = self
            .store
            .module(&known.content.digest)
            .with_context(context)?;
        let config = transform
            .config
            .fill_in(&known.content.config)
            .map_err(|why| anyhow::anyhow!("its config: {why}"))
            .with_context(context)?;
        self.version(transform, known, config, &bytes)
    }

    /// Loads a version's module.
    pub(super) fn version(
        &self,
        transform: &config::Transform,
        known: &Known,
        config: Template,
        bytes: &[u8],
    ) -> Result<Version> {
        let module = Module::load(&self.host, bytes, &transform.limits);
        let module = module.with_context(|| unusable(transform))?;
        if let Some(took) = module.compile_time() {
            self.metrics
                .compiled(&self.pipeline, &transform.name, known.number, took);
        }
        Ok(Version {
            transform: transform.name.clone(),
            number: known.number,
            module,
            setup: Setup {
                config: config.filled().to_string(),
                outputs: self.outputs.clone(),
            },
            limits: transform.limits,
            ids: self.names(transform),
            seen: Seen::default(),
        })
    }
}

impl Transform {
    /// Tries a version out beside the active one.
    pub(super) fn try_out(&mut self, kind: &TrialKind, version: Arc<Version>) -> Result<()> {
        match kind {
            TrialKind::Shadow => {
                let shadow = Shadow::start(self.active.clone(), version.clone())?;
                self.shadow = Some((version, Arc::new(shadow)));
            }
            TrialKind::Canary { percent, unit } => {
                let share = Share::new(*percent, *unit);
                let share = share.with_context(|| format!("{percent}% is no share"))?;
                version.guest()?;
                self.canary = Some((share, version));
            }
        }
        Ok(())
    }
}

fn unusable(transform: &config::Transform) -> String {
    format!(
        "transform {:?}: the module {} can't be used",
        transform.name,
        transform.module.display()
    )
}
