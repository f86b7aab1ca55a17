//! `weir demo`: the seed job on made-up records, through a mock cluster in this process or a real Kafka.
//!
//! What runs is what `weir run` runs: the same config, pipeline and workers. Only the screen is the demo's own.

mod screen;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::watch;

pub use screen::{After, Mode, Sample, Screen, Snapshot, Step};

use super::args::{Demo, Produce};
use super::produce::{Feed, Progress, produce};
use super::run::{runtime, signals};
use crate::chain::{Chain, Unprocessed};
use crate::cluster::{self, Cluster};
use crate::config::{Config, ConfigError, Surroundings};
use crate::deploy::Means;
use crate::fake::Subject;
use crate::guest::{Compiler, Host};
use crate::kafka::{
    Admin, KafkaSink, MockCluster, ProducerOptions, Waker, admin_settings, producer_settings,
};
use crate::metrics::{Family, Metrics, RECORDS_DROPPED, RECORDS_IN, RECORDS_OUT, RECORDS_REFUSED};
use crate::pipeline::{Phase, Pipeline};
use crate::record::Batch;
use crate::status::{State, Status};
use crate::store::Store;

/// Partitions of the demo's topics. The mock cluster takes about 5 MB for each.
const PARTITIONS: usize = 4;

/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Records whose way is shown.
const SAMPLES: usize = 3;

/// Runs the demo.
pub fn run(args: &Demo) -> Result<()> {
    let (servers, mock, label) = match &args.bootstrap {
        Some(servers) => (servers.clone(), None, format!("Kafka at {servers}")),
        None => {
            let mock = MockCluster::start(1)?;
            (
                mock.bootstrap_servers(),
                Some(mock),
                "a mock cluster in this process".into(),
            )
        }
    };
    // A run of its own each time: the topics of an earlier one are left as they are.
    let run = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |it| it.as_secs());
    let suffix = if mock.is_some() {
        String::new()
    } else {
        format!("-{run}")
    };
    let (input, output) = match &mock {
        Some(_) => ("realstock".to_string(), "stocks".to_string()),
        None => (
            format!("weir-demo-realstock{suffix}"),
            format!("weir-demo-stocks{suffix}"),
        ),
    };
    for topic in [&input, &output] {
        match &mock {
            Some(mock) => mock.create_topic(topic, PARTITIONS)?,
            None => {
                let admin = Admin::new(
                    &admin_settings(&[("bootstrap.servers", &servers)])?,
                    cluster::TIMEOUT,
                )?;
                admin
                    .cluster_id()
                    .with_context(|| format!("Kafka at {servers} can't be asked"))?;
                admin.create_topic(topic, PARTITIONS)?;
            }
        }
    }
    let config = config(&servers, &input, &output, &suffix, mock.is_some())?;
    let metrics = Metrics::default();
    let means = Means {
        host: Host::new(Compiler::this_program(), cache())?,
        store: Store::in_memory(),
        metrics: metrics.clone(),
        id_key: None,
    };
    let path = config.path.clone();
    let pipeline = Pipeline::load(means, &config.pipelines[0], "demo")
        .map_err(|problems| ConfigError { path, problems })?;
    let pipeline = Arc::new(pipeline);
    let demo = Running {
        args,
        servers: &servers,
        label: &label,
        pipeline: &pipeline,
        metrics,
        status: Status::default(),
        made: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    demo.run()
}

struct Running<'a> {
    args: &'a Demo,
    servers: &'a str,
    label: &'a str,
    pipeline: &'a Arc<Pipeline>,
    metrics: Metrics,
    status: Status,
    /// Records that were made so far.
    made: AtomicU64,
    /// No more are to be made.
    stop: AtomicBool,
}

impl Running<'_> {
    fn run(&self) -> Result<()> {
        thread::scope(|scope| {
            let making = scope.spawn(|| self.make());
            let shown = runtime()?.block_on(self.show());
            self.stop.store(true, Ordering::Relaxed);
            let made = making
                .join()
                .map_err(|_| anyhow!("making records panicked; the message is above"))?;
            shown.and(made)
        })
    }

    /// Writes made-up records to the input topic.
    fn make(&self) -> Result<()> {
        let topics = [self.pipeline.config().inputs[0].to_string()];
        let options = ProducerOptions {
            user: &[("bootstrap.servers", self.servers)],
            in_flight: 8 << 20,
            transactional_id: None,
            max_message_bytes: &[],
        };
        let waker = Waker::new()?;
        let sink = KafkaSink::new(&producer_settings(&options)?, &topics, &waker)?;
        let mut feed = Feed::new(sink, waker);
        produce(&self.source(), Progress::Silent, &self.stop, |fake| {
            feed.send(fake, Some(partition_of(fake.key)))?;
            self.made.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        feed.flush()
    }

    /// Draws the table until all records went through, or it's time to stop.
    async fn show(&self) -> Result<()> {
        let (phase, phases) = watch::channel(Phase::Run);
        let (metrics, status, pipeline) = (
            self.metrics.clone(),
            self.status.add(&self.pipeline.config().name),
            self.pipeline.clone(),
        );
        let mut running = tokio::spawn(async move { pipeline.run(metrics, &status, phases).await });
        let mut signals = signals()?;
        let mut screen = Screen::stdout();
        let mut began = None;
        let mut samples = Vec::new();
        let mut ended = None;
        // Whoever reads may leave: the pipeline is stopped in good order all the same.
        let mut seen = Ok(());
        loop {
            tokio::select! {
                () = tokio::time::sleep(FRAME) => {}
                Some(()) = signals.recv() => break,
                result = &mut running => {
                    ended = Some(result);
                    break;
                }
            }
            if samples.is_empty() && self.is_running() {
                samples = self.samples()?;
            }
            let made = self.made.load(Ordering::Relaxed);
            if made > 0 {
                began.get_or_insert_with(Instant::now);
            }
            let snapshot = self.snapshot(began, &samples);
            seen = screen.draw(&snapshot);
            if seen.is_err() {
                break;
            }
            let wanted = self.args.records.get();
            let late = self
                .args
                .seconds
                .is_some_and(|most| snapshot.elapsed >= most);
            if late {
                self.stop.store(true, Ordering::Relaxed);
            }
            let dealt: u64 = snapshot.records_out
                + snapshot
                    .steps
                    .iter()
                    .map(|it| it.dropped + it.refused)
                    .sum::<u64>();
            if (made >= wanted || late)
                && snapshot.records_in >= made
                && dealt >= snapshot.records_in
            {
                break;
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        phase.send_replace(Phase::Stop);
        let result = match ended {
            Some(result) => result,
            None => running.await,
        };
        seen.and_then(|()| screen.finish(&self.snapshot(began, &samples)))
            .map_err(super::unsaid)?;
        result.context("the pipeline's task")?
    }

    fn is_running(&self) -> bool {
        let pipelines = self.status.pipelines();
        pipelines.iter().any(|it| it.state() == State::Running)
    }

    fn snapshot(&self, began: Option<Instant>, samples: &[Sample]) -> Snapshot {
        let config = self.pipeline.config();
        let of = |metric: &Family, transform: &str| {
            let labels = [("pipeline", config.name.as_str()), ("transform", transform)];
            self.metrics.sum(
                metric.name,
                &labels[..if transform.is_empty() { 1 } else { 2 }],
            )
        };
        let records_in = of(&RECORDS_IN, "");
        let mut flow = records_in;
        let versions = self.pipeline.deployment().versions();
        let steps = config
            .transforms
            .iter()
            .zip(&versions)
            .map(|(transform, version)| {
                let (dropped, refused) = (
                    of(&RECORDS_DROPPED, &transform.name),
                    of(&RECORDS_REFUSED, &transform.name),
                );
                let records_in = flow;
                flow = flow.saturating_sub(dropped + refused);
                let description = version.module.description();
                Step {
                    name: transform.name.clone(),
                    module: format!("{} {}", description.name, description.version),
                    records_in,
                    records_out: flow,
                    dropped,
                    refused,
                }
            });
        Snapshot {
            steps: steps.collect(),
            elapsed: began.map_or(Duration::ZERO, |it| it.elapsed()),
            cluster: self.label.into(),
            input: config.inputs[0].to_string(),
            output: config.outputs[0].topic.clone(),
            wanted: Some(self.args.records.get()),
            records_in,
            records_out: of(&RECORDS_OUT, ""),
            samples: samples.to_vec(),
        }
    }

    /// The first records' way through the same chain, with the ids that the pipeline gives them: ids depend on where a
    /// record stands and on nothing else.
    fn samples(&self) -> Result<Vec<Sample>> {
        let cluster = Cluster::look(self.pipeline.config())?;
        let versions = self.pipeline.deployment().versions();
        let mut chain = Chain::new(&versions)?;
        let mut samples = Vec::new();
        let mut offsets = [0u64; PARTITIONS];
        let (mut records, stop) = (self.source(), AtomicBool::new(false));
        records.count = std::num::NonZeroU64::new(SAMPLES as u64);
        records.rate = super::args::Rate::Max;
        let topic = &cluster.inputs[0];
        produce(&records, Progress::Silent, &stop, |fake| {
            let partition = partition_of(fake.key);
            let offset = &mut offsets[partition as usize];
            let mut batch = Batch::new(topic.name.as_str().into(), partition);
            batch.keys.push(Some(fake.key));
            batch.values.push(fake.value);
            batch.timestamps.push(fake.timestamp);
            batch.offsets.push(*offset);
            *offset += 1;
            let keys = chain.id_keys(&cluster.id, &topic.id, &topic.name, partition);
            let processed = chain.run(&batch, 0, &keys, &mut |_, _, _| {});
            let processed = processed.map_err(|why| match why {
                Unprocessed::Broken(broken) => {
                    let transform = &versions[broken.step].transform;
                    anyhow!("{transform}: {}", broken.fault)
                }
                Unprocessed::Host(cause) => cause,
            })?;
            let dropped = processed.counts.iter().find(|it| it.dropped > 0);
            let dropped = dropped.map(|it| it.step);
            let after = match (processed.failed.first(), dropped) {
                (Some(failed), _) => After::Refused {
                    transform: failed
                        .step
                        .map_or_else(String::new, |step| versions[step].transform.clone()),
                    reason: failed.reason.clone(),
                },
                (None, Some(step)) => After::Dropped(versions[step].transform.clone()),
                (None, None) => {
                    let out = processed.records(&batch);
                    After::Value(out.values.iter().next().flatten().map(<[u8]>::to_vec))
                }
            };
            samples.push(Sample {
                before: fake.value.map(<[u8]>::to_vec),
                after,
            });
            Ok(())
        })?;
        Ok(samples)
    }

    /// What `weir produce` would be told.
    fn source(&self) -> Produce {
        Produce {
            subject: Subject::RealStock,
            topic: String::new(),
            bootstrap: self.servers.into(),
            settings: Vec::new(),
            rate: self.args.rate,
            count: Some(self.args.records),
            seed: Some(self.args.seed),
            bad: 0.0,
        }
    }
}

/// Records of one key go to one partition; the demo's own choice, so that it knows where the samples stand.
fn partition_of(key: &[u8]) -> i32 {
    (key.iter().map(|&byte| usize::from(byte)).sum::<usize>() % PARTITIONS) as i32
}

fn config(servers: &str, input: &str, output: &str, suffix: &str, is_mock: bool) -> Result<Config> {
    let guests = guests()?;
    // librdkafka's mock takes a session's timeout less a second to form a group, and a fetch's longest wait to see a new
    // record. With a timeout of a second it may end a waiting member's session just before it answers, and never answer.
    let patience = match is_mock {
        true => {
            r#"
[pipelines.demo.consumer]
"session.timeout.ms" = 2000
"heartbeat.interval.ms" = 200
"fetch.wait.max.ms" = 50
"#
        }
        false => "",
    };
    let text = format!(
        r#"
modules = {guests:?}

[kafka]
"bootstrap.servers" = {servers:?}

[pipelines.demo]
input = [{input:?}]
output = {output:?}
group = "weir-demo{suffix}"

[[pipelines.demo.transforms]]
name = "id"
module = "add-uuid.wasm"
config = {{ field = "id" }}

[[pipelines.demo.transforms]]
name = "date"
module = "format-timestamp.wasm"
config = {{ from = "timestamp", rename = "event_time", to = "iso_date" }}

[[pipelines.demo.transforms]]
name = "even"
module = "filter.wasm"
config = {{ keep = "event_time % 2 == 0" }}
{patience}"#
    );
    let surroundings = Surroundings {
        variable: &|_| None,
        setting: &super::permitted,
    };
    Ok(Config::parse(
        Path::new("the demo's config"),
        &text,
        surroundings,
    )?)
}

/// The folder of the guests that come with Weir.
fn guests() -> Result<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("WEIR_GUESTS")
        .into_iter()
        .map(PathBuf::from)
        .collect();
    if let Ok(exe) = std::env::current_exe() {
        // Beside the program; beside cargo's folder of it; where packages put data.
        folders.extend(exe.parent().map(|it| it.join("guests")));
        folders.extend(exe.ancestors().nth(2).map(|it| it.join("guests")));
        folders.extend(
            exe.ancestors()
                .nth(2)
                .map(|it| it.join("share/weir/guests")),
        );
    }
    let found = folders.iter().find(|it| it.join("add-uuid.wasm").is_file());
    match found {
        Some(folder) => Ok(folder.clone()),
        None => {
            let looked: Vec<String> = folders.iter().map(|it| it.display().to_string()).collect();
            bail!(
                "the guests that come with Weir are in none of {}: build them with `cargo xtask guests`, or name their folder in WEIR_GUESTS",
                looked.join(", ")
            )
        }
    }
}

/// Where compiled code is kept without a config's `data`.
fn cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    base.filter(|it| it.is_absolute())
        .map(|it| it.join("weir/compiled"))
}
