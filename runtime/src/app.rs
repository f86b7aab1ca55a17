//! The life of the process: load → listen → start → wait → drain.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::admin::{Admin, Seen};
use crate::config::{Config, ConfigError};
use crate::guest::{Compiler, Host};
use crate::instance::Instance;
use crate::metrics::Metrics;
use crate::pipeline::{Phase, Pipeline};
use crate::status::Status;

/// A process that's ready to start: its config is read, its modules are loaded and have taken their configs.
pub struct App {
    config: Config,
    /// Held until the app has ended.
    instance: Instance,
    pipelines: Vec<Arc<Pipeline>>,
}

impl App {
    /// Does all that can fail without Kafka. An error is a mistake in the config or in a module.
    pub fn load(config: Config, instance: Instance) -> Result<App> {
        let cache: PathBuf = config.data.join("compiled");
        let host = Host::new(Compiler::this_program(), Some(cache))?;
        let (mut pipelines, mut problems) = (Vec::new(), Vec::new());
        for it in &config.pipelines {
            match Pipeline::load(&host, it, config.id_key.as_ref(), instance.name()) {
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
        })
    }

    /// The pipelines, in the order of the config.
    pub fn pipelines(&self) -> &[Arc<Pipeline>] {
        &self.pipelines
    }

    /// Runs until the first message of `stop`, and then drains; the second one ends the wait. An error says which pipelines
    /// failed.
    pub async fn run(self, mut stop: mpsc::UnboundedReceiver<()>) -> Result<()> {
        let metrics = Metrics::default();
        let status = Status::new(self.config.pipelines.iter().map(|it| it.name.as_str()));
        let admin = Admin::bind(self.config.admin.listen).await?;
        info!(instance = self.instance.name(), "the name of this process");
        info!(listen = %admin.address()?, "admin endpoints");
        let (phase, phases) = watch::channel(Phase::Run);
        let (quit, mut quitting) = watch::channel(false);
        let seen = Seen {
            status: status.clone(),
            metrics: metrics.clone(),
        };
        let admin = tokio::spawn(admin.serve(seen, async move {
            // The sender gone means the same.
            let _ = quitting.wait_for(|it| *it).await;
        }));

        let mut pipelines = JoinSet::new();
        for (index, pipeline) in self.pipelines.into_iter().enumerate() {
            let (metrics, status, phases) = (metrics.clone(), status.clone(), phases.clone());
            pipelines.spawn(async move {
                let name = pipeline.config().name.clone();
                let ended = pipeline.run(metrics, status.pipeline(index), phases).await;
                (name, ended)
            });
        }
        let mut failed = Vec::new();
        loop {
            tokio::select! {
                ended = pipelines.join_next() => match ended {
                    None => break,
                    Some(Ok((_, Ok(())))) => {}
                    Some(Ok((name, Err(_)))) => failed.push(name),
                    Some(Err(panic)) => failed.push(panic.to_string()),
                },
                Some(()) = stop.recv() => {
                    let next = match *phase.borrow() {
                        Phase::Run => Phase::Stop,
                        _ => Phase::Hurry,
                    };
                    match next {
                        Phase::Hurry => warn!("not waiting any longer"),
                        _ => info!("stopping: finishing what is in flight; a second signal ends the wait"),
                    }
                    phase.send_replace(next);
                }
            }
        }
        quit.send_replace(true);
        admin.await.context("the admin endpoints' task")??;
        match failed.is_empty() {
            true => Ok(()),
            false => Err(anyhow!("stopped by a failure: {}", failed.join(", "))),
        }
    }
}
