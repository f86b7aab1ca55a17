//! The life of the process: load → listen → start → wait, taking up what changes → drain.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Error, Result, anyhow};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{error, info, warn};

use crate::admin::{Admin, Seen};
use crate::config::{Config, ConfigError};
use crate::deploy::Means;
use crate::guest::{Compiler, Host};
use crate::influxdb::Writer;
use crate::instance::Instance;
use crate::metrics::Metrics;
use crate::pipeline::{Phase, Pipeline, Pipelines};
use crate::reload::{self, Reload};
use crate::status::{State, Status};
use crate::store::{Cause, Store};
use crate::watch::Watch;

/// A process that's ready to start: its config is read, its modules are loaded and have taken their configs.
pub struct App {
    config: Config,
    /// Held until the app has ended.
    instance: Instance,
    pipelines: Vec<Arc<Pipeline>>,
    means: Means,
    /// The files, watched since before they were read.
    files: Watch,
}

/// What a process is told from outside.
pub enum Signal {
    /// To finish what is in hand and end; the second time, not to wait for it.
    Stop,
    /// To read the config file and the modules again.
    Reload,
}

/// Reads the config file again, as it was read at the start.
pub type Reader = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

impl App {
    /// Does all that can fail without Kafka. An error is a mistake in the config or in a module.
    pub fn load(config: Config, instance: Instance, store: Store) -> Result<App> {
        let cache: PathBuf = config.data.join("compiled");
        let means = Means {
            host: Host::new(Compiler::this_program(), Some(cache))?,
            store,
            metrics: Metrics::default(),
            id_key: config.id_key.clone(),
        };
        let mut files = Watch::new();
        watch_files(&mut files, [&config]);
        let (mut pipelines, mut problems) = (Vec::new(), Vec::new());
        for it in &config.pipelines {
            match Pipeline::load(means.clone(), it, instance.name()) {
                Ok(pipeline) => pipelines.push(Arc::new(pipeline)),
                Err(more) => problems.extend(more),
            }
        }
        if !problems.is_empty() {
            let path = config.path;
            return Err(ConfigError { path, problems }.into());
        }
        Ok(App {
            config,
            instance,
            pipelines,
            means,
            files,
        })
    }

    /// The pipelines, in the order of the config.
    pub fn pipelines(&self) -> &[Arc<Pipeline>] {
        &self.pipelines
    }

    /// Runs until the first signal to stop, and then drains; the second one ends the wait. `read` reads the config file
    /// again when it changes. An error says which pipelines failed.
    pub async fn run(
        self,
        mut signals: mpsc::UnboundedReceiver<Signal>,
        read: Reader,
    ) -> Result<()> {
        let admin = Admin::bind(&self.config.admin).await?;
        info!(instance = self.instance.name(), "the name of this process");
        info!(listen = %admin.address()?, tls = admin.is_secure().then_some(true), "admin endpoints");
        let (quit, mut quitting) = watch::channel(false);
        let mut running = Running {
            config: self.config,
            instance: self.instance,
            means: self.means,
            read,
            pipelines: Pipelines::default(),
            status: Status::default(),
            phase: Phase::Run,
            phases: HashMap::new(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
            failed: Vec::new(),
            files: self.files,
            untaken: Vec::new(),
            revived: Vec::new(),
        };
        let influxdb = running.config.influxdb.as_ref().map(|config| {
            let metrics = running.means.metrics.clone();
            Writer::start(config, running.instance.name(), metrics)
        });
        let influxdb = influxdb.transpose()?;
        let seen = Seen {
            pipelines: running.pipelines.clone(),
            status: running.status.clone(),
            metrics: running.means.metrics.clone(),
        };
        let admin = tokio::spawn(admin.serve(seen, async move {
            // The sender gone means the same.
            let _ = quitting.wait_for(|it| *it).await;
        }));
        running.pipelines.set(self.pipelines.clone());
        self.pipelines.into_iter().for_each(|it| running.start(it));
        loop {
            let changed = tokio::select! {
                ended = running.tasks.join_next_with_id() => match ended {
                    None => break,
                    Some(ended) => {
                        running.ended(ended);
                        continue;
                    }
                },
                Some(signal) = signals.recv() => match signal {
                    Signal::Stop => {
                        running.stop();
                        continue;
                    }
                    Signal::Reload => {
                        info!("told to read the config file again");
                        None
                    }
                },
                changed = running.files.changed() => Some(changed),
            };
            let (mut changed, mut again) = (changed, true);
            while std::mem::take(&mut again) {
                // Who stops needn't wait until all is taken up: each step of it is whole by itself.
                let stopped = tokio::select! {
                    () = running.reload(changed.take()) => false,
                    () = until_stop(&mut signals, &mut again) => true,
                };
                if stopped {
                    running.stop();
                }
            }
        }
        if let Some(writer) = influxdb {
            // With what the drain did.
            let _ = tokio::task::spawn_blocking(move || writer.finish()).await;
        }
        quit.send_replace(true);
        admin.await.context("the admin endpoints' task")??;
        match running.failed.is_empty() {
            true => Ok(()),
            false => Err(anyhow!(
                "stopped by a failure: {}",
                running.failed.join(", ")
            )),
        }
    }
}

/// A process that runs.
struct Running {
    config: Config,
    instance: Instance,
    means: Means,
    read: Reader,
    pipelines: Pipelines,
    status: Status,
    phase: Phase,
    /// How far each pipeline is on its way to its end, by name.
    phases: HashMap<String, watch::Sender<Phase>>,
    tasks: JoinSet<Result<()>>,
    /// The pipeline of each task.
    names: HashMap<Id, String>,
    failed: Vec<String>,
    files: Watch,
    /// Files that changed beside a config file that couldn't be taken up.
    untaken: Vec<PathBuf>,
    /// Pipelines to be started again once they have ended.
    revived: Vec<String>,
}

impl Running {
    fn start(&mut self, pipeline: Arc<Pipeline>) {
        let name = pipeline.config().name.clone();
        let (phase, phases) = watch::channel(self.phase);
        self.phases.insert(name.clone(), phase);
        let (metrics, status) = (self.means.metrics.clone(), self.status.add(&name));
        metrics.watch(&name, &status, pipeline.deployment().shared());
        let task = self.tasks.spawn(async move {
            pipeline.deployment().keep_start().await;
            let ended = pipeline.clone().run(metrics, &status, phases).await;
            pipeline.deployment().hide_versions();
            // It may be the last that has it, and a shadow's thread takes a while to end.
            let _ = tokio::task::spawn_blocking(move || drop(pipeline)).await;
            ended
        });
        self.names.insert(task.id(), name);
    }

    /// Starts a pipeline again that had stopped: what it stopped for may have been mended.
    fn revive(&mut self, pipeline: &Arc<Pipeline>) {
        let name = &pipeline.config().name;
        if self.phases.contains_key(name) {
            // It may be about to stop for what was mended just now.
            let status = self.status.get(name);
            if status.is_some_and(|it| matches!(it.state(), State::Stopping(_))) {
                self.revived.push(name.clone());
            }
            return;
        }
        info!(pipeline = name, "starting it again");
        self.failed.retain(|it| it != name);
        self.start(pipeline.clone());
    }

    fn ended(&mut self, ended: Result<(Id, Result<()>), JoinError>) {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(panic) => (panic.id(), Err(panic.into())),
        };
        let Some(name) = self.names.remove(&id) else {
            return;
        };
        self.phases.remove(&name);
        let revive = self.revived.contains(&name);
        self.revived.retain(|it| *it != name);
        if result.is_ok() {
            return;
        }
        let pipeline = self.pipelines.get(&name).filter(|_| revive);
        match pipeline {
            Some(pipeline) if self.phase == Phase::Run => self.revive(&pipeline),
            _ => self.failed.push(name),
        }
    }

    fn stop(&mut self) {
        self.phase = match self.phase {
            Phase::Run => {
                info!("stopping: finishing what is in flight; a second signal ends the wait");
                Phase::Stop
            }
            Phase::Stop | Phase::Hurry => {
                warn!("not waiting any longer");
                Phase::Hurry
            }
        };
        for phase in self.phases.values() {
            phase.send_replace(self.phase);
        }
    }

    /// Takes up what changed: these files, or whatever has.
    async fn reload(&mut self, changed: Option<Vec<PathBuf>>) {
        if self.phase != Phase::Run {
            return;
        }
        self.revived.clear();
        let mut changed = changed;
        if let Some(changed) = &mut changed {
            changed.append(&mut self.untaken);
        }
        let config_too = changed
            .as_ref()
            .is_none_or(|it| it.contains(&self.config.path));
        if config_too {
            match self.read_again().await {
                Ok(()) => {}
                Err(why) => {
                    error!("the config file isn't taken up, and what ran goes on: {why:#}");
                    // It's about the same, most likely, and is looked at with the next one.
                    let (config, files) = (&self.config.path, changed.unwrap_or_default());
                    self.untaken = files.into_iter().filter(|it| it != config).collect();
                    watch_files(&mut self.files, [&self.config]);
                    return;
                }
            }
        }
        watch_files(&mut self.files, [&self.config]);
        for pipeline in self.pipelines.all() {
            let configs = pipeline.deployment().configs();
            let is_about = |it: &crate::config::Transform| {
                changed.as_ref().is_none_or(|all| all.contains(&it.module))
            };
            if !configs.iter().any(is_about) {
                continue;
            }
            let name = pipeline.config().name.clone();
            let deployment = pipeline.deployment();
            let taken = match deployment.prepare(configs, Cause::ModuleFile).await {
                Ok(built) => built.take_up().await,
                Err(why) => Err(why),
            };
            match taken {
                Ok(()) => self.revive(&pipeline),
                Err(why) => error!(
                    pipeline = name,
                    "a changed module isn't taken up, and what ran goes on: {why:#}"
                ),
            }
        }
    }

    /// Reads the config file, and takes up what is other in it. What's wrong in the file, in a module or with a guest is found
    /// before anything changes.
    async fn read_again(&mut self) -> Result<()> {
        let read = self.read.clone();
        let config = tokio::task::spawn_blocking(move || read()).await??;
        // Before they are read, so that no change is passed over.
        watch_files(&mut self.files, [&self.config, &config]);
        let Reload {
            fresh,
            rechained,
            gone,
        } = reload::compare(&self.config, &config)?;
        // All that can fail comes first.
        let (means, instance) = (self.means.clone(), self.instance.name().to_string());
        let path = config.path.clone();
        let loading = move || {
            let (mut loaded, mut problems) = (Vec::new(), Vec::new());
            for it in fresh {
                match Pipeline::load(means.clone(), &it, &instance) {
                    Ok(pipeline) => loaded.push(Arc::new(pipeline)),
                    Err(more) => problems.extend(more),
                }
            }
            match problems.is_empty() {
                true => Ok(loaded),
                false => Err(Error::from(ConfigError { path, problems })),
            }
        };
        let loaded = tokio::task::spawn_blocking(loading).await??;
        let mut prepared = Vec::new();
        for it in rechained {
            if let Some(pipeline) = self.pipelines.get(&it.name) {
                let transforms = it.transforms.clone();
                let deployment = pipeline.deployment();
                let built = deployment.prepare(transforms, Cause::ConfigFile).await;
                let built = built.with_context(|| format!("pipeline {:?}", it.name))?;
                prepared.push((it, pipeline, built));
            }
        }
        for (it, pipeline, built) in prepared {
            let taken = built.take_up().await;
            taken.with_context(|| format!("pipeline {:?}", it.name))?;
            self.revive(&pipeline);
            // It's what runs, whatever becomes of the others.
            let ours = self.config.pipelines.iter_mut();
            if let Some(ours) = ours.into_iter().find(|ours| ours.name == it.name) {
                *ours = it;
            }
        }
        for name in &gone {
            info!(pipeline = name, "not in the config file any more");
            self.retire(name).await;
            self.status.remove(name);
            self.means.metrics.forget_pipeline(name);
            self.failed.retain(|it| it != name);
        }
        for pipeline in &loaded {
            let name = &pipeline.config().name;
            if self.phases.contains_key(name) {
                info!(
                    pipeline = name,
                    "its settings are others: it ends and starts anew"
                );
            }
            self.retire(name).await;
            self.failed.retain(|it| it != name);
        }
        // Until it ended the old one may have had a change made.
        let (means, instance) = (self.means.clone(), self.instance.name().to_string());
        let loading = move || {
            let again = |it: Arc<Pipeline>| {
                let again = Pipeline::load(means.clone(), it.config(), &instance);
                again.map_or(it, Arc::new)
            };
            loaded.into_iter().map(again).collect::<Vec<_>>()
        };
        let loaded = tokio::task::spawn_blocking(loading).await?;
        let of = |it: &crate::config::Pipeline| {
            let new = loaded.iter().find(|new| new.config().name == it.name);
            new.cloned().or_else(|| self.pipelines.get(&it.name))
        };
        let pipelines = config.pipelines.iter().filter_map(of).collect();
        self.pipelines.set(pipelines);
        loaded.into_iter().for_each(|it| self.start(it));
        self.config = config;
        info!("the config file is taken up");
        Ok(())
    }

    /// Ends one pipeline, and waits until it has. No change of it is made any more.
    async fn retire(&mut self, name: &str) {
        if let Some(pipeline) = self.pipelines.get(name) {
            pipeline.deployment().retire().await;
        }
        if let Some(phase) = self.phases.get(name) {
            phase.send_replace(Phase::Stop);
        }
        while self.phases.contains_key(name) {
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.ended(ended),
                None => return,
            }
        }
    }
}

/// Watches the files of these configs, and no others, if they are to be watched.
fn watch_files<'a>(files: &mut Watch, configs: impl IntoIterator<Item = &'a Config>) {
    let configs = configs.into_iter().filter(|it| it.watch);
    let all = configs.flat_map(|config| {
        let transforms = config.pipelines.iter().flat_map(|it| &it.transforms);
        let modules = transforms.map(|it| it.module.clone());
        modules.chain([config.path.clone()])
    });
    files.set(all.collect::<Vec<_>>());
}

/// Resolves once told to stop; notes if told to read the files again meanwhile.
async fn until_stop(signals: &mut mpsc::UnboundedReceiver<Signal>, again: &mut bool) {
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Stop => return,
            Signal::Reload => *again = true,
        }
    }
    // Nobody will say so any more.
    std::future::pending().await
}
