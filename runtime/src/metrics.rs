//! All metrics: names, help, labels. Workers count here, once, in plain atomic counters, and `/metrics` renders them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram, with_local_recorder,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::chain::{Chain, Count, Version};
use crate::guest::{Fault, Limit};
use crate::letter::Class;

/// Records consumed. Label: `pipeline`.
pub const RECORDS_IN: &str = "weir_records_in_total";
/// Records produced and acknowledged. Label: `pipeline`.
pub const RECORDS_OUT: &str = "weir_records_out_total";
/// Records that a transform decided to drop. Labels: `pipeline`, `transform`, `version`.
pub const RECORDS_DROPPED: &str = "weir_records_dropped_total";
/// Records that a transform refused. Labels: `pipeline`, `transform`, `version`.
pub const RECORDS_REFUSED: &str = "weir_records_refused_total";
/// Records that went to the dead letter topic. Labels: `pipeline`, `transform` (empty if none was at fault), `class`.
pub const RECORDS_DEAD_LETTERED: &str = "weir_records_dead_lettered_total";
/// Records that were passed over because a transform failed on them. Labels: as [`RECORDS_DEAD_LETTERED`].
pub const RECORDS_SKIPPED: &str = "weir_records_skipped_total";
/// Transactions that ended. Labels: `pipeline`, `result` (`committed` or `aborted`).
pub const TRANSACTIONS: &str = "weir_transactions_total";
/// Records that broke a transform's guest all alone. Labels: `pipeline`, `transform`, `version`, `class`.
pub const RECORDS_BROKEN: &str = "weir_records_broken_total";
/// Calls of a guest that ended at a limit. Labels: `pipeline`, `transform`, `limit`.
pub const LIMIT_HITS: &str = "weir_limit_hits_total";
/// Log lines of guests that were too many. Labels: `pipeline`, `transform`.
pub const LOG_LINES_DROPPED: &str = "weir_log_lines_dropped_total";
/// Modules that were compiled, since the cache had no code of them.
pub const COMPILATIONS: &str = "weir_compilations_total";
/// Changes of a transform's version. Labels: `pipeline`, `transform`, `result` (`made` or `refused`).
pub const SWAPS: &str = "weir_swaps_total";
/// Versions that were rolled back by themselves. Labels: `pipeline`, `transform`.
pub const PROBATIONS_FAILED: &str = "weir_probations_failed_total";
/// How long a worker stood still for a swap, in seconds. Label: `pipeline`.
pub const SWAP_PAUSE: &str = "weir_swap_pause_seconds";
/// 1 for versions that run now, otherwise 0. Labels: `pipeline`, `transform`, `version`, `module` (the start of its digest),
/// `role` (`active`, `canary` or `shadow`).
pub const VERSION: &str = "weir_version_info";
/// 1 while a pipeline's workers all run. Label: `pipeline`.
pub const PIPELINE_UP: &str = "weir_pipeline_up";

/// Bounds of the buckets of [`SWAP_PAUSE`].
const PAUSES: [f64; 10] = [
    0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0,
];

/// The process's metrics.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

/// What a worker counts. Counters of the same labels are the same counter, whoever asks for them.
#[derive(Clone)]
pub struct Counters {
    /// See [`RECORDS_IN`].
    pub records_in: Counter,
    /// See [`RECORDS_OUT`].
    pub records_out: Counter,
    /// For each transform of the chain, in order, its active version's and its canary's.
    transforms: Vec<(TransformCounters, Option<TransformCounters>)>,
    /// See [`TRANSACTIONS`].
    pub transactions_committed: Counter,
    /// See [`TRANSACTIONS`].
    pub transactions_aborted: Counter,
    /// Of records that no transform failed on and Kafka didn't take.
    undeliverable: Fates,
}

/// What a worker did, to be counted once it's certain.
#[derive(Debug, Default)]
pub struct Tally {
    /// Records consumed.
    pub records_in: u64,
    /// Records produced to the outputs and acknowledged.
    pub records_out: u64,
    /// What each version did that was given records.
    pub counts: Vec<Count>,
    /// Records that went to the dead letter topic: the step that failed on each, if one did, and how.
    pub letters: Vec<(Option<usize>, Class)>,
    /// Records that were passed over, likewise.
    pub skipped: Vec<(Option<usize>, Class)>,
    /// Records that broke their guest all alone: the step, whether it was its canary, and how.
    pub broken: Vec<(usize, bool, Class)>,
}

/// What became of failed records: one counter for each class.
#[derive(Clone)]
struct Fates {
    dead_lettered: HashMap<Class, Counter>,
    skipped: HashMap<Class, Counter>,
}

/// What a worker counts of one version of a transform.
#[derive(Clone)]
struct TransformCounters {
    dropped: Counter,
    refused: Counter,
    fates: Fates,
    log_lines_dropped: Counter,
    broken: Vec<(Class, Counter)>,
    limit_hits: Vec<(&'static str, Counter)>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let pause = Matcher::Full(SWAP_PAUSE.to_string());
        let builder = PrometheusBuilder::new();
        // Fails for empty buckets alone.
        let builder = match builder.set_buckets_for_metric(pause, &PAUSES) {
            Ok(builder) => builder,
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        with_local_recorder(&recorder, || {
            describe_counter!(RECORDS_IN, "Records consumed from the input topics.");
            describe_counter!(
                RECORDS_OUT,
                "Records produced to the output topics and acknowledged."
            );
            describe_counter!(RECORDS_DROPPED, "Records that a transform decided to drop.");
            describe_counter!(RECORDS_REFUSED, "Records that a transform refused.");
            describe_counter!(
                RECORDS_DEAD_LETTERED,
                "Records that went to the dead letter topic."
            );
            describe_counter!(
                RECORDS_SKIPPED,
                "Records that were passed over because a transform failed on them."
            );
            describe_counter!(TRANSACTIONS, "Transactions that ended.");
            describe_counter!(
                RECORDS_BROKEN,
                "Records that broke a transform's guest all alone, by how: trap, deadline, memory or output."
            );
            describe_counter!(
                LIMIT_HITS,
                "Calls of a transform's guest that ended at a limit, by the limit's setting. Looking for the record takes several."
            );
            describe_counter!(
                LOG_LINES_DROPPED,
                "Log lines of a transform's guests that were dropped, since they were more than max_log_lines a second."
            );
            describe_counter!(
                COMPILATIONS,
                "Modules that were compiled, since the cache had no code of them."
            );
            // There from the start, so that a start without compiling shows 0.
            counter!(COMPILATIONS).absolute(0);
            describe_counter!(SWAPS, "Changes of a transform's version, made or refused.");
            describe_counter!(
                PROBATIONS_FAILED,
                "Versions that were rolled back by themselves, since they were past a bound of their probation."
            );
            describe_histogram!(
                SWAP_PAUSE,
                "How long a worker stood still for a swap, in seconds."
            );
            describe_gauge!(
                VERSION,
                "1 for versions of transforms that run now, by role: active, canary or shadow. Otherwise 0."
            );
            describe_gauge!(
                PIPELINE_UP,
                "1 while all of the pipeline's workers run, otherwise 0."
            );
        });
        Metrics {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
        }
    }
}

impl Metrics {
    /// The metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// The sum of a metric's values over all series with these labels, read off the rendered text.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let text = self.render();
        let series = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            match rest.strip_prefix('{') {
                Some(series) => series.split_once("} "),
                None => Some(("", rest.strip_prefix(' ')?)),
            }
        });
        let ours = series.filter(|(series, _)| labels.iter().all(|it| series.contains(it)));
        ours.filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum()
    }

    /// The counters of a pipeline with this chain.
    pub fn counters(&self, pipeline: &str, chain: &Chain) -> Counters {
        let of = |(step, active): (usize, &Version)| {
            let canary = chain.canary(step);
            (
                TransformCounters::new(pipeline, active),
                canary.map(|it| TransformCounters::new(pipeline, it)),
            )
        };
        let pipeline = pipeline.to_string();
        with_local_recorder(&*self.recorder, || Counters {
            records_in: counter!(RECORDS_IN, "pipeline" => pipeline.clone()),
            records_out: counter!(RECORDS_OUT, "pipeline" => pipeline.clone()),
            transactions_committed: counter!(TRANSACTIONS, "pipeline" => pipeline.clone(), "result" => "committed"),
            transactions_aborted: counter!(TRANSACTIONS, "pipeline" => pipeline.clone(), "result" => "aborted"),
            undeliverable: Fates::new(&pipeline, "", &[Class::Output]),
            transforms: chain.versions().enumerate().map(of).collect(),
        })
    }

    /// A module was compiled.
    pub fn compiled(&self) {
        with_local_recorder(&*self.recorder, || counter!(COMPILATIONS).increment(1));
    }

    /// A change of a transform's version was made, or refused.
    pub fn swap(&self, pipeline: &str, transform: &str, made: bool) {
        let result = if made { "made" } else { "refused" };
        let labels = [
            ("pipeline", pipeline.to_string()),
            ("transform", transform.to_string()),
            ("result", result.to_string()),
        ];
        with_local_recorder(&*self.recorder, || counter!(SWAPS, &labels).increment(1));
    }

    /// A version was rolled back by itself.
    pub fn probation_failed(&self, pipeline: &str, transform: &str) {
        let labels = [
            ("pipeline", pipeline.to_string()),
            ("transform", transform.to_string()),
        ];
        with_local_recorder(&*self.recorder, || {
            counter!(PROBATIONS_FAILED, &labels).increment(1)
        });
    }

    /// A worker stood still for a swap.
    pub fn swap_pause(&self, pipeline: &str, pause: Duration) {
        let pipeline = pipeline.to_string();
        with_local_recorder(&*self.recorder, || {
            histogram!(SWAP_PAUSE, "pipeline" => pipeline).record(pause)
        });
    }

    /// A version runs in this role, or doesn't any more.
    pub fn version(&self, pipeline: &str, version: &Version, role: &str, runs: bool) {
        let labels = [
            ("pipeline", pipeline.to_string()),
            ("transform", version.transform.clone()),
            ("version", version.number.to_string()),
            ("module", version.module.digest().short()),
            ("role", role.to_string()),
        ];
        with_local_recorder(&*self.recorder, || {
            gauge!(VERSION, &labels).set(u8::from(runs))
        });
    }

    /// The gauge of a pipeline's state.
    pub fn pipeline_up(&self, pipeline: &str) -> Gauge {
        let pipeline = pipeline.to_string();
        with_local_recorder(
            &*self.recorder,
            || gauge!(PIPELINE_UP, "pipeline" => pipeline),
        )
    }
}

impl Counters {
    /// Counts what was done.
    pub fn add(&self, tally: &Tally) {
        self.records_in.increment(tally.records_in);
        self.records_out.increment(tally.records_out);
        for count in &tally.counts {
            self.of(count.step, count.canary)
                .inspect(|it| it.add(count));
        }
        let fates = |step: Option<usize>| match step {
            Some(step) => self.of(step, false).map(|it| &it.fates),
            None => Some(&self.undeliverable),
        };
        for (step, class) in &tally.letters {
            let counter = fates(*step).and_then(|it| it.dead_lettered.get(class));
            counter.inspect(|it| it.increment(1));
        }
        for (step, class) in &tally.skipped {
            let counter = fates(*step).and_then(|it| it.skipped.get(class));
            counter.inspect(|it| it.increment(1));
        }
        for (step, canary, class) in &tally.broken {
            let broken = self.of(*step, *canary).map(|it| &it.broken);
            let counter = broken.and_then(|it| it.iter().find(|(it, _)| it == class));
            counter.inspect(|(_, it)| it.increment(1));
        }
    }

    /// Adds a fault of a step's guest, if it's one at a limit.
    pub fn limit_hit(&self, step: usize, fault: &Fault) {
        let Some(counters) = self.of(step, false) else {
            return;
        };
        let limit = fault.limit();
        let counter = counters
            .limit_hits
            .iter()
            .find(|(it, _)| Some(*it) == limit);
        counter.inspect(|(_, it)| it.increment(1));
    }

    fn of(&self, step: usize, canary: bool) -> Option<&TransformCounters> {
        let (active, tried) = self.transforms.get(step)?;
        match (canary, tried) {
            (true, Some(tried)) => Some(tried),
            _ => Some(active),
        }
    }
}

impl Fates {
    /// To be called with the recorder in place.
    fn new(pipeline: &str, transform: &str, classes: &[Class]) -> Fates {
        let of = |name: &'static str| {
            let counter = |&class: &Class| {
                let labels = [
                    ("pipeline", pipeline.to_string()),
                    ("transform", transform.to_string()),
                    ("class", class.to_string()),
                ];
                (class, counter!(name, &labels))
            };
            classes.iter().map(counter).collect()
        };
        Fates {
            dead_lettered: of(RECORDS_DEAD_LETTERED),
            skipped: of(RECORDS_SKIPPED),
        }
    }
}

/// How a guest breaks: a refusal is counted elsewhere.
const BROKEN: [Class; 4] = [Class::Trap, Class::Deadline, Class::Memory, Class::Output];

impl TransformCounters {
    /// All series are there from the start, at 0.
    fn new(pipeline: &str, version: &Version) -> TransformCounters {
        let labels = [
            ("pipeline", pipeline.to_string()),
            ("transform", version.transform.clone()),
        ];
        let with = |label: &'static str, value: String| {
            let [pipeline, transform] = labels.clone();
            [pipeline, transform, (label, value)]
        };
        let version = with("version", version.number.to_string());
        let broken = |class: Class| {
            let [pipeline, transform, version] = version.clone();
            let labels = [pipeline, transform, version, ("class", class.to_string())];
            (class, counter!(RECORDS_BROKEN, &labels))
        };
        let limit_hits = |limit: Limit| {
            let labels = with("limit", limit.name().to_string());
            (limit.name(), counter!(LIMIT_HITS, &labels))
        };
        TransformCounters {
            dropped: counter!(RECORDS_DROPPED, &version),
            refused: counter!(RECORDS_REFUSED, &version),
            log_lines_dropped: counter!(LOG_LINES_DROPPED, &labels),
            broken: BROKEN.into_iter().map(broken).collect(),
            limit_hits: Limit::ALL.into_iter().map(limit_hits).collect(),
            fates: Fates::new(pipeline, &labels[1].1, &Class::ALL),
        }
    }

    fn add(&self, count: &Count) {
        self.dropped.increment(count.dropped);
        self.refused.increment(count.refused);
        if count.log_lines_dropped > 0 {
            self.log_lines_dropped.increment(count.log_lines_dropped);
        }
    }
}
