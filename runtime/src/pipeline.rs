//! A pipeline's life: wait for Kafka, build the workers, watch them, and end them together.
//!
//! Everything that can fail is built here, on the control side; a worker that starts has its guests already.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use prometheus::Gauge;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use crate::cluster::{self, Cluster, Topic, Unanswered};
use crate::config::{self, Problem};
use crate::deploy::{Deployment, Enlisted, Means};
use crate::fold::{Fold, kind};
use crate::io::ReadLimit;
use crate::kafka::{KafkaSink, KafkaSource, Start, Waker};
use crate::metrics::Metrics;
use crate::status::{self, State};
use crate::worker::{Control, End, Rules, Settings, Worker};

/// A pipeline whose modules are loaded and have taken their configs.
pub struct Pipeline {
    config: config::Pipeline,
    /// The process's name.
    instance: String,
    deployment: Arc<Deployment>,
}

/// The pipelines of the process.
#[derive(Clone, Default)]
pub struct Pipelines(Arc<Mutex<Vec<Arc<Pipeline>>>>);

impl Pipelines {
    /// All of them, in the order of the config.
    pub fn all(&self) -> Vec<Arc<Pipeline>> {
        self.lock().clone()
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Pipeline>> {
        self.lock()
            .iter()
            .find(|it| it.config.name == name)
            .cloned()
    }

    /// Has others in their place.
    pub fn set(&self, pipelines: Vec<Arc<Pipeline>>) {
        *self.lock() = pipelines;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Pipeline>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the process is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It isn't.
    Run,
    /// Finish what is in hand.
    Stop,
    /// Don't wait for it.
    Hurry,
}

/// The first pause after a failure; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_millis(500);

/// The longest pause.
const MAX_BACK_OFF: Duration = Duration::from_secs(30);

/// A worker that ran so long has recovered, and its next failure is a first one again.
const RECOVERED: Duration = Duration::from_secs(60);

/// How often it's looked whether the topics are still there, and still the same. One look takes a client's start and a few
/// requests.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// wasmtime takes 512 KiB of it for the guest's stack; librdkafka and we need little.
const WORKER_STACK: usize = 2 << 20;

impl Pipeline {
    /// Loads the modules and hands each its config, so that wrong ones are known, all of them, before Kafka is asked for
    /// anything.
    pub fn load(
        means: Means,
        config: &config::Pipeline,
        instance: &str,
    ) -> Result<Pipeline, Vec<Problem>> {
        let mut problems = Vec::new();
        let clients = || {
            cluster::consumer(config, instance, 0)?.check()?;
            cluster::producer(config, instance, 0, &[])?.check()?;
            Ok::<_, Error>(())
        };
        if let Err(why) = clients() {
            let why = why.context("its Kafka settings");
            problems.push(Problem {
                line: Some(config.line),
                message: format!("pipeline {:?}, {why:#}", config.name),
            });
        }
        match Deployment::load(means, config) {
            Ok(deployment) if problems.is_empty() => Ok(Pipeline {
                config: config.clone(),
                instance: instance.to_string(),
                deployment: Arc::new(deployment),
            }),
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more);
                Err(problems)
            }
        }
    }

    /// The pipeline's config.
    pub fn config(&self) -> &config::Pipeline {
        &self.config
    }

    /// The versions of its transforms, and how they change.
    pub fn deployment(&self) -> &Arc<Deployment> {
        &self.deployment
    }

    /// How many members its group has, in all processes; `None` if the brokers don't say.
    pub async fn members(self: &Arc<Self>) -> Option<usize> {
        let pipeline = self.clone();
        let asking = tokio::task::spawn_blocking(move || cluster::members(&pipeline.config));
        match asking.await.map_err(Error::from).and_then(|it| it) {
            Ok(members) => Some(members),
            Err(why) => {
                debug!(
                    pipeline = self.config.name,
                    "its group can't be asked for: {why:#}"
                );
                None
            }
        }
    }

    /// Runs until the phase says stop, or until data or a transform must be mended first. The error is why.
    pub async fn run(
        self: Arc<Self>,
        metrics: Metrics,
        status: &status::Pipeline,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<()> {
        let up = metrics.pipeline_up(&self.config.name);
        up.set(0.0);
        let running = async {
            match self.connect(status, &mut phase).await {
                None => Ok(()),
                Some(cluster) => self.supervise(cluster, &metrics, status, phase).await,
            }
        };
        let ended = tokio::select! {
            ended = running => ended,
            () = self.deployment.watch_probations() => Ok(()),
        };
        match &ended {
            Ok(()) => status.set(State::Stopped("asked to".into())),
            Err(why) => {
                error!(pipeline = self.config.name, "stopped: {why:#}");
                status.set(State::Stopped(format!("{why:#}")));
            }
        }
        ended
    }

    /// Waits until Kafka and all topics are there; `None` if told to stop before.
    async fn connect(
        self: &Arc<Self>,
        status: &status::Pipeline,
        phase: &mut watch::Receiver<Phase>,
    ) -> Option<Cluster> {
        let mut pause = BACK_OFF;
        let mut said = String::new();
        loop {
            let pipeline = self.clone();
            let asking = tokio::task::spawn_blocking(move || Cluster::look(&pipeline.config));
            let looked = tokio::select! {
                looked = asking => looked.map_err(Error::from).and_then(|it| it),
                _ = stopping(phase) => return None,
            };
            match looked {
                Ok(cluster) => return Some(cluster),
                Err(why) => {
                    let why = format!("{why:#}");
                    // Once per change, not once per try.
                    if why != said {
                        warn!(pipeline = self.config.name, "waiting: {why}");
                        status.set(State::Waiting(why.clone()));
                        said = why;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_BACK_OFF),
                _ = stopping(phase) => return None,
            }
        }
    }

    /// Starts the workers, starts those anew that the host failed, and ends all when one can't go on.
    async fn supervise(
        self: &Arc<Self>,
        cluster: Cluster,
        metrics: &Metrics,
        status: &status::Pipeline,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<()> {
        let count = self.config.workers.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            // More topics may come to match a pattern.
            let grows = self
                .config
                .inputs
                .iter()
                .any(|it| matches!(it, config::Input::Pattern(_)));
            if grows {
                cores
            } else {
                cores.min(cluster.input_partitions()).max(1)
            }
        });
        info!(
            pipeline = self.config.name,
            workers = count,
            group = self.config.group,
            "starting"
        );
        let (ends, ended) = mpsc::unbounded_channel();
        let mut crew = Crew {
            pipeline: self,
            cluster: cluster.id.clone(),
            topic_ids: HashMap::new(),
            max_message_bytes: Arc::default(),
            wrong: None,
            fold: Fold::default(),
            up: metrics.pipeline_up(&self.config.name),
            metrics,
            status,
            ends,
            running: Vec::new(),
            due: Vec::new(),
            failures: HashMap::new(),
            phase: *phase.borrow_and_update(),
            verdict: Ok(()),
        };
        crew.take_in(cluster);
        status.set(State::Running);
        (0..count).for_each(|number| crew.start(number));
        crew.watch(ended, &mut phase).await;
        crew.verdict
    }

    fn source(&self, worker: usize, waker: &Waker) -> Result<KafkaSource> {
        let topics: Vec<String> = self.config.inputs.iter().map(ToString::to_string).collect();
        let start = match self.config.start {
            config::Start::Earliest => Start::Earliest,
            config::Start::Latest => Start::Latest,
            config::Start::Time(time) => Start::Time(time),
        };
        let settings = cluster::consumer(&self.config, &self.instance, worker)?;
        let source = KafkaSource::new(&settings, &topics, start, waker)?;
        if self.config.delivery == config::Delivery::AtLeastOnce {
            return Ok(source);
        }
        let producer = cluster::producer(&self.config, &self.instance, worker, &[])?;
        Ok(source.waits_for_transactions(producer.transaction_timeout()))
    }

    fn sink(
        &self,
        worker: usize,
        max_message_bytes: &[Option<u64>],
        waker: &Waker,
    ) -> Result<KafkaSink> {
        let topics: Vec<String> = self
            .config
            .outputs
            .iter()
            .map(|it| it.topic.clone())
            .chain(self.config.dead_letter.clone())
            .collect();
        let settings = cluster::producer(&self.config, &self.instance, worker, max_message_bytes)?;
        Ok(KafkaSink::new(&settings, &topics, waker)?.bounded(max_message_bytes))
    }

    fn settings(&self, worker: usize, cluster: String, rules: Vec<Rules>) -> Settings {
        Settings {
            pipeline: self.config.name.clone(),
            worker,
            cluster,
            same_partition: self
                .config
                .outputs
                .iter()
                .map(|it| it.partition == config::Partitioning::Same)
                .collect(),
            batch: ReadLimit {
                records: self.config.batch.records,
                bytes: self.config.batch.bytes.as_usize(),
            },
            in_flight: self.config.in_flight.as_usize(),
            exactly_once: self.config.delivery == config::Delivery::ExactlyOnce,
            transaction_bytes: self.config.transaction_bytes.as_usize(),
            rules,
            dead_letters: self
                .config
                .dead_letter
                .as_ref()
                .map(|_| self.config.outputs.len()),
            commit_interval: self.config.commit_interval,
            drain: self.config.drain_timeout,
        }
    }
}

/// A pipeline's workers and what becomes of them.
struct Crew<'a> {
    pipeline: &'a Arc<Pipeline>,
    /// The id of the cluster that it reads from.
    cluster: String,
    /// Who the input topics are.
    topic_ids: HashMap<String, [u8; 16]>,
    /// What is wrong with the topics, if something is.
    wrong: Option<String>,
    /// How failures of workers are told of.
    fold: Fold<String>,
    /// As in [`Cluster`].
    max_message_bytes: Arc<[Option<u64>]>,
    up: Gauge,
    metrics: &'a Metrics,
    status: &'a status::Pipeline,
    ends: mpsc::UnboundedSender<Ended>,
    running: Vec<Running>,
    /// Workers that failed, and when they're started anew.
    due: Vec<(Instant, usize)>,
    /// Failures in a row, by worker.
    failures: HashMap<usize, u32>,
    phase: Phase,
    verdict: Result<()>,
}

/// A worker's thread.
struct Running {
    number: usize,
    control: Arc<Control>,
    thread: JoinHandle<()>,
    began: Instant,
}

/// A worker's last word.
struct Ended {
    number: usize,
    end: End,
}

impl Crew<'_> {
    /// Takes in how workers end, and starts those anew that the host failed, until all have ended for good.
    async fn watch(
        &mut self,
        mut ended: mpsc::UnboundedReceiver<Ended>,
        phase: &mut watch::Receiver<Phase>,
    ) {
        self.command(self.phase);
        let mut look_at = Instant::now() + LOOK_EVERY;
        let mut looking: Option<Looking> = None;
        while !self.running.is_empty() || !self.due.is_empty() {
            let next = self.due.iter().map(|(at, _)| *at).min();
            tokio::select! {
                Some(Ended { number, end }) = ended.recv() => self.ended(number, end),
                () = tokio::time::sleep_until(look_at.into()), if looking.is_none() => {
                    let pipeline = self.pipeline.clone();
                    looking = Some(tokio::task::spawn_blocking(move || Cluster::look(&pipeline.config)));
                }
                looked = answer(&mut looking) => {
                    looking = None;
                    look_at = Instant::now() + LOOK_EVERY;
                    self.looked(looked);
                }
                Ok(()) = phase.changed() => {
                    let phase = *phase.borrow_and_update();
                    self.command(phase);
                }
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                    let now = Instant::now();
                    let due = self.due.extract_if(.., |(at, _)| *at <= now).map(|(_, number)| number);
                    due.collect::<Vec<_>>().into_iter().for_each(|number| self.start(number));
                }
            }
        }
    }

    /// Takes in what the topics are like by now. A topic that was deleted and made again is another one: what was committed
    /// of the old one says nothing about it, and a consumer may pass over its first records without a word.
    fn looked(&mut self, looked: Result<Cluster>) {
        let pipeline = &self.pipeline.config.name;
        match looked {
            Ok(cluster) => {
                if self.wrong.take().is_some() {
                    info!(pipeline, "its topics are as they must be again");
                    self.status.set_topics(None);
                }
                let other =
                    |it: &&Topic| self.topic_ids.get(&it.name).is_some_and(|id| *id != it.id);
                if let Some(topic) = cluster.inputs.iter().find(other) {
                    let name = &topic.name;
                    return self.give_up(anyhow!(
                        "the input topic \"{name}\" was deleted and made again: what the group {:?} has committed of the old one says nothing about the new one; choose where to go on with `weir offsets`, and restart Weir",
                        self.pipeline.config.group
                    ));
                }
                self.take_in(cluster);
            }
            // The clients say so themselves.
            Err(why) if why.is::<Unanswered>() => {}
            Err(why) => {
                let why = format!("{why:#}");
                // Once per change, not once per look.
                if self.wrong.as_ref() != Some(&why) {
                    warn!(pipeline, "something is wrong with its topics: {why}");
                    self.status.set_topics(Some(why.clone()));
                    self.wrong = Some(why);
                }
            }
        }
    }

    /// Notes what is worth knowing of the cluster, for workers that start from now on.
    fn take_in(&mut self, cluster: Cluster) {
        let partitions = cluster.inputs.iter().map(|it| it.partitions);
        self.pipeline
            .deployment
            .set_partitions(partitions.collect());
        let ids = cluster.inputs.into_iter().map(|it| (it.name, it.id));
        self.topic_ids.extend(ids);
        self.max_message_bytes = cluster.max_message_bytes.into();
    }

    fn ended(&mut self, number: usize, end: End) {
        let Some(at) = self.running.iter().position(|it| it.number == number) else {
            return;
        };
        let Running {
            thread,
            began,
            control,
            ..
        } = self.running.swap_remove(at);
        // It has said its last word, and catches its own panics.
        let _ = thread.join();
        self.pipeline.deployment.discharge(number);
        let pipeline = &self.pipeline.config.name;
        match end {
            End::Stopped => {}
            // What it halted on is replaced already, or is new and goes: the other one has another try.
            End::Halted(why)
                if self.phase < Phase::Stop
                    && (control.is_behind()
                        || self
                            .pipeline
                            .deployment
                            .give_new_ones_back(&format!("{why:#}"))) =>
            {
                self.failed(number, &why);
            }
            End::Halted(why) => self.give_up(why),
            End::Failed(why) if self.phase >= Phase::Stop => {
                warn!(pipeline, worker = number, "while stopping: {why:#}");
            }
            End::Failed(why) => {
                if began.elapsed() > RECOVERED {
                    self.failures.remove(&number);
                }
                self.failed(number, &why);
            }
        }
        self.publish();
    }

    /// Has a worker started anew after a pause.
    fn failed(&mut self, number: usize, why: &Error) {
        let failures = self.failures.entry(number).or_default();
        let pause = (BACK_OFF * 2u32.saturating_pow((*failures).min(16))).min(MAX_BACK_OFF);
        if let Some(more) = self.fold.tells(kind(format!("{why:#}")), Instant::now()) {
            let more = (more > 0).then_some(more);
            error!(
                pipeline = self.pipeline.config.name,
                worker = number,
                more,
                "failed; starting it anew in {pause:?}: {why:#}"
            );
        }
        *failures = failures.saturating_add(1);
        self.metrics.worker_restarted(&self.pipeline.config.name);
        self.due.push((Instant::now() + pause, number));
    }

    /// Ends the pipeline for this reason, unless it's ending for another one.
    fn give_up(&mut self, why: Error) {
        match &self.verdict {
            Ok(()) => {
                self.status.set(State::Stopping(format!("{why:#}")));
                self.verdict = Err(why);
            }
            Err(_) => warn!(pipeline = self.pipeline.config.name, "{why:#}"),
        }
        self.command(Phase::Stop);
    }

    fn command(&mut self, phase: Phase) {
        self.phase = self.phase.max(phase);
        if self.phase >= Phase::Stop {
            self.due.clear();
            if self.verdict.is_ok() {
                self.status.set(State::Stopping("asked to".into()));
            }
        }
        for running in &self.running {
            match self.phase {
                Phase::Run => {}
                Phase::Stop => running.control.stop(),
                Phase::Hurry => running.control.hurry(),
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let controls = self.running.iter().map(|it| it.control.clone()).collect();
        self.status.set_workers(controls, self.due.len());
        let all_run = self.phase == Phase::Run && self.due.is_empty();
        self.up.set(f64::from(u8::from(all_run)));
    }

    fn start(&mut self, number: usize) {
        match self.spawn(number) {
            Ok(running) => self.running.push(running),
            // It has begun before: it's the host that fails by now.
            Err(why) if self.failures.contains_key(&number) => self.failed(number, &why),
            Err(why) => self.give_up(why),
        }
        self.publish();
    }

    fn spawn(&self, number: usize) -> Result<Running> {
        let waker = Waker::new()?;
        let deployment = &self.pipeline.deployment;
        let control = Arc::new(Control::new(waker.clone(), deployment.shared()));
        let Enlisted {
            chain,
            rules,
            counters,
        } = deployment.enlist(number, &control)?;
        let cluster = self.cluster.clone();
        let (pipeline, ours, ends) = (self.pipeline.clone(), control.clone(), self.ends.clone());
        let sizes = self.max_message_bytes.clone();
        let thread = std::thread::Builder::new()
            .name(format!("{}-{number}", self.pipeline.config.name))
            .stack_size(WORKER_STACK)
            .spawn(move || {
                let work = || -> Result<End> {
                    let source = pipeline.source(number, &waker)?;
                    let sink = pipeline.sink(number, &sizes, &waker)?;
                    let settings = pipeline.settings(number, cluster, rules);
                    Ok(Worker::new(settings, source, sink, chain, ours, counters).run())
                };
                let end = match catch_unwind(AssertUnwindSafe(work)) {
                    Ok(Ok(end)) => end,
                    Ok(Err(why)) => End::Failed(why),
                    Err(_) => End::Failed(anyhow!("the worker panicked; its message is above")),
                };
                // The crew outlives its workers.
                let _ = ends.send(Ended { number, end });
            })
            .context("starting a worker thread");
        let thread = thread.inspect_err(|_| self.pipeline.deployment.discharge(number))?;
        Ok(Running {
            number,
            control,
            thread,
            began: Instant::now(),
        })
    }
}

/// The topics, being looked at.
type Looking = tokio::task::JoinHandle<Result<Cluster>>;

/// Resolves once the look that's under way is done.
async fn answer(looking: &mut Option<Looking>) -> Result<Cluster> {
    match looking {
        Some(looking) => looking.await.map_err(Error::from).and_then(|it| it),
        None => std::future::pending().await,
    }
}

/// Resolves once the process is to stop.
async fn stopping(phase: &mut watch::Receiver<Phase>) {
    // The sender gone means the same.
    let _ = phase.wait_for(|it| *it >= Phase::Stop).await;
}
