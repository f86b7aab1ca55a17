//! All metrics: names, help, labels. Workers count here, once, in plain atomic counters, and `/metrics` renders them.

use std::sync::Arc;

use metrics::{
    Counter, Gauge, counter, describe_counter, describe_gauge, gauge, with_local_recorder,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::chain::{Count, Version};

/// Records consumed. Label: `pipeline`.
pub const RECORDS_IN: &str = "weir_records_in_total";
/// Records produced and acknowledged. Label: `pipeline`.
pub const RECORDS_OUT: &str = "weir_records_out_total";
/// Records that a transform decided to drop. Labels: `pipeline`, `transform`, `version`.
pub const RECORDS_DROPPED: &str = "weir_records_dropped_total";
/// Records that a transform refused. Labels: `pipeline`, `transform`, `version`.
pub const RECORDS_REFUSED: &str = "weir_records_refused_total";
/// 1 while a pipeline's workers all run. Label: `pipeline`.
pub const PIPELINE_UP: &str = "weir_pipeline_up";

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
    /// One for each transform of the chain, in order.
    pub transforms: Vec<TransformCounters>,
}

/// What a worker counts of one transform.
#[derive(Clone)]
pub struct TransformCounters {
    dropped: Counter,
    refused: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            describe_counter!(RECORDS_IN, "Records consumed from the input topics.");
            describe_counter!(
                RECORDS_OUT,
                "Records produced to the output topics and acknowledged."
            );
            describe_counter!(RECORDS_DROPPED, "Records that a transform decided to drop.");
            describe_counter!(RECORDS_REFUSED, "Records that a transform refused.");
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
        let series = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        let ours = series.filter(|(series, _)| labels.iter().all(|it| series.contains(it)));
        ours.filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum()
    }

    /// The counters of a pipeline with this chain.
    pub fn counters<'a>(
        &self,
        pipeline: &str,
        chain: impl Iterator<Item = &'a Version>,
    ) -> Counters {
        let pipeline = pipeline.to_string();
        with_local_recorder(&*self.recorder, || Counters {
            records_in: counter!(RECORDS_IN, "pipeline" => pipeline.clone()),
            records_out: counter!(RECORDS_OUT, "pipeline" => pipeline.clone()),
            transforms: chain
                .map(|version| {
                    let labels = [
                        ("pipeline", pipeline.clone()),
                        ("transform", version.transform.clone()),
                        ("version", version.module.digest().short()),
                    ];
                    TransformCounters {
                        dropped: counter!(RECORDS_DROPPED, &labels),
                        refused: counter!(RECORDS_REFUSED, &labels),
                    }
                })
                .collect(),
        })
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

impl TransformCounters {
    /// Adds what a step did with a batch.
    pub fn add(&self, count: &Count) {
        self.dropped.increment(count.dropped);
        self.refused.increment(count.refused);
    }
}
