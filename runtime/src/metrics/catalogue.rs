//! Every metric: its name, unit, labels, help, and for a histogram its buckets. README's and docs' tables are held against
//! this by a test.
//!
//! How many series there are is bounded by the config and by Kafka: labels are names of pipelines and transforms,
//! partitions of input topics, and words of fixed lists; of a transform's versions the last [`KEPT_VERSIONS`] that ran are
//! kept.

/// A family of metrics.
#[derive(Debug)]
pub struct Family {
    /// Its name, by Prometheus's conventions: base units, and `_total` for counters.
    pub name: &'static str,
    /// What is counted or measured.
    pub unit: Unit,
    /// How.
    pub kind: Kind,
    /// The labels of its series.
    pub labels: &'static [&'static str],
    /// For people.
    pub help: &'static str,
}

/// What a metric counts or measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, which the name says.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// 1 or 0.
    Flag,
}

/// Why a version was rolled back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It broke more often than `max_broken` allows.
    Broken,
    /// It refused more than `max_refused` allows.
    Refused,
    /// It took longer than `max_latency` allows.
    Latency,
    /// The pipeline stopped.
    Stopped,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 4] = [
        Reason::Broken,
        Reason::Refused,
        Reason::Latency,
        Reason::Stopped,
    ];

    /// As it stands in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Broken => "broken",
            Reason::Refused => "refused",
            Reason::Latency => "latency",
            Reason::Stopped => "stopped",
        }
    }
}

/// How a metric counts or measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It's as it is now.
    Gauge,
    /// Measurements, by the upper bounds of buckets.
    Histogram(&'static [f64]),
}

/// Versions of a transform whose series are kept; those that ran least recently go first.
pub const KEPT_VERSIONS: usize = 10;

const PIPELINE: &[&str] = &["pipeline"];
const PARTITION: &[&str] = &["pipeline", "topic", "partition"];
const TRANSFORM: &[&str] = &["pipeline", "transform"];
const VERSION_OF: &[&str] = &["pipeline", "transform", "version"];
const VERSION_AND_CLASS: &[&str] = &["pipeline", "transform", "version", "class"];

/// From 10 us to 1 s: what a worker may stand still for.
const PAUSES: &[f64] = &[
    0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0,
];
/// From 10 us to 3 s: a batch of one record, and one up to the default deadline.
const BATCHES: &[f64] = &[
    0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0,
];
/// From 50 ns to 10 ms.
const RECORDS: &[f64] = &[
    0.000_000_05,
    0.000_000_1,
    0.000_000_2,
    0.000_000_5,
    0.000_001,
    0.000_002,
    0.000_005,
    0.00001,
    0.0001,
    0.001,
    0.01,
];
/// From 1 ms to a minute: what brokers take their time for, and compilers.
const WAITS: &[f64] = &[
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0,
];

macro_rules! families {
    ($($constant:ident = $name:literal, $unit:ident, $kind:expr, $labels:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Family = Family {
                name: $name,
                unit: Unit::$unit,
                kind: $kind,
                labels: $labels,
                help: $help,
            };
        )*
        /// All families but the process's own (`process_…`), in the order of the documentation.
        pub const ALL: &[&Family] = &[$(&$constant),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

families! {
    RECORDS_IN = "weir_records_in_total", Count, Counter, PARTITION,
        "Records consumed and done with, by input partition.";
    BYTES_IN = "weir_bytes_in_total", Bytes, Counter, PARTITION,
        "Bytes of keys, values and headers of records consumed and done with, by input partition.";
    RECORDS_OUT = "weir_records_out_total", Count, Counter, PARTITION,
        "Records produced to the outputs and acknowledged, by the input partition that they come from.";
    BYTES_OUT = "weir_bytes_out_total", Bytes, Counter, PARTITION,
        "Bytes of keys, values and headers of records produced to the outputs, by the input partition that they come from.";
    LAG = "weir_lag_records", Count, Gauge, PARTITION,
        "Records of an input partition that can be read and are not done with.";
    RECORD_AGE = "weir_record_age_seconds", Seconds, Gauge, PARTITION,
        "Now less the timestamp of the newest record of an input partition that is done with.";
    IN_FLIGHT = "weir_in_flight_bytes", Bytes, Gauge, PARTITION,
        "Bytes of an input partition that went through the chain and are not settled, with what keeping them takes.";
    PIPELINE_UP = "weir_pipeline_up", Flag, Gauge, PIPELINE,
        "1 while all of the pipeline's workers run, otherwise 0.";
    PIPELINE_READY = "weir_pipeline_ready", Flag, Gauge, PIPELINE,
        "1 while /readyz has nothing against the pipeline, otherwise 0.";
    PIPELINE_PAUSED = "weir_pipeline_paused", Flag, Gauge, PIPELINE,
        "1 while somebody has paused the pipeline, otherwise 0.";
    PARTITIONS_ASSIGNED = "weir_partitions_assigned", Count, Gauge, PIPELINE,
        "Input partitions that this process has.";
    REBALANCES = "weir_rebalances_total", Count, Counter, &["pipeline", "event"],
        "Times that the group gave a worker partitions, took some, or had put it out before, by event: assigned, revoked or lost.";
    COMMITS = "weir_commits_total", Count, Counter, &["pipeline", "result"],
        "Commits of offsets, in transactions or without, by result: committed or failed.";
    COMMIT_DURATION = "weir_commit_duration_seconds", Seconds, Histogram(WAITS), PIPELINE,
        "How long a commit took, from the request to the brokers' answer.";
    TRANSACTIONS = "weir_transactions_total", Count, Counter, &["pipeline", "result"],
        "Transactions that ended, by result: committed or aborted.";
    TRANSACTION_DURATION = "weir_transaction_duration_seconds", Seconds, Histogram(WAITS), PIPELINE,
        "How long a transaction was open, from its first record to its end.";
    WORKER_RESTARTS = "weir_worker_restarts_total", Count, Counter, PIPELINE,
        "Workers that failed and were started anew.";
    SWAP_PAUSE = "weir_swap_pause_seconds", Seconds, Histogram(PAUSES), PIPELINE,
        "How long a worker stood still for a swap.";
    TRANSFORM_IN = "weir_transform_records_in_total", Count, Counter, VERSION_OF,
        "Records that a version of a transform was given.";
    TRANSFORM_OUT = "weir_transform_records_out_total", Count, Counter, VERSION_OF,
        "Records that came out of a version of a transform.";
    RECORDS_DROPPED = "weir_records_dropped_total", Count, Counter, VERSION_OF,
        "Records that a transform decided to drop.";
    RECORDS_REFUSED = "weir_records_refused_total", Count, Counter, VERSION_OF,
        "Records that a transform refused.";
    RECORDS_BROKEN = "weir_records_broken_total", Count, Counter, VERSION_AND_CLASS,
        "Records that broke a transform's guest all alone, by class: trap, deadline, memory or output.";
    RECORDS_DEAD_LETTERED = "weir_records_dead_lettered_total", Count, Counter, VERSION_AND_CLASS,
        "Records that went to the dead letter topic, by class; transform and version are empty if none was at fault.";
    RECORDS_SKIPPED = "weir_records_skipped_total", Count, Counter, VERSION_AND_CLASS,
        "Records that were passed over because a transform failed on them, by class.";
    TRANSFORM_BATCHES = "weir_transform_batches_total", Count, Counter, VERSION_OF,
        "Batches that a version of a transform was given.";
    BATCH_DURATION = "weir_transform_batch_duration_seconds", Seconds, Histogram(BATCHES), VERSION_OF,
        "CPU time that a version of a transform took for a batch.";
    RECORD_DURATION = "weir_transform_record_duration_seconds", Seconds, Histogram(RECORDS), VERSION_OF,
        "CPU time that a version of a transform took for a record: the mean of each batch.";
    GUEST_MEMORY = "weir_guest_memory_bytes", Bytes, Gauge, VERSION_OF,
        "Linear memory of a version's guests.";
    VERSION = "weir_version_info", Flag, Gauge, &["pipeline", "transform", "version", "module", "role"],
        "1 for versions of transforms that run now, by role: active, canary or shadow; module is the start of its digest.";
    LIMIT_HITS = "weir_limit_hits_total", Count, Counter, &["pipeline", "transform", "limit"],
        "Calls of a transform's guest that ended at a limit, by the limit's setting. Looking for the record takes several.";
    LOG_LINES = "weir_log_lines_total", Count, Counter, TRANSFORM,
        "Log lines of a transform's guests.";
    LOG_LINES_DROPPED = "weir_log_lines_dropped_total", Count, Counter, TRANSFORM,
        "Log lines of a transform's guests that were dropped, since they were more than max_log_lines a second.";
    SWAPS = "weir_swaps_total", Count, Counter, &["pipeline", "transform", "result"],
        "Changes of a transform's version, by result: made or refused.";
    ROLLBACKS = "weir_rollbacks_total", Count, Counter, TRANSFORM,
        "Changes of a transform's version that went back to an earlier one, or ended a canary.";
    PROBATIONS_FAILED = "weir_probations_failed_total", Count, Counter, &["pipeline", "transform", "reason"],
        "Versions that were rolled back by themselves, by reason: broken, refused or latency for the bound of their probation, or stopped for the pipeline.";
    GUEST_START = "weir_guest_start_duration_seconds", Seconds, Histogram(WAITS), VERSION_OF,
        "How long it took to start a guest, and to try it where it's a new version's.";
    COMPILATIONS = "weir_compilations_total", Count, Counter, &[],
        "Modules that were compiled, since the cache had no code of them.";
    COMPILE_DURATION = "weir_compile_duration_seconds", Seconds, Histogram(WAITS), VERSION_OF,
        "How long a module took to compile for the version that needed it first; none for those whose code was cached. What was refused counts under the number that it would have had.";
    ADMIN_CONNECTIONS_DROPPED = "weir_admin_connections_dropped_total", Count, Counter, &["reason"],
        "Connections to the admin endpoints that were closed, by reason: surplus for one that gave way to another since there were too many, or unread for an answer that nobody read.";
    BUILD = "weir_build_info", Flag, Gauge, &["version", "librdkafka"],
        "1; the labels say what this is.";
    INFLUXDB_POINTS = "weir_influxdb_points_total", Count, Counter, &["result"],
        "Points for InfluxDB, by result: written or lost.";
    INFLUXDB_BUFFERED = "weir_influxdb_buffered_points", Count, Gauge, &[],
        "Points that wait to be written to InfluxDB.";
    INFLUXDB_FAILURES = "weir_influxdb_failures_total", Count, Counter, &[],
        "Writes to InfluxDB that failed.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_say_kind_and_unit() {
        let names: BTreeSet<&str> = ALL.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Family {
            name,
            unit,
            kind,
            help,
            ..
        } in ALL
        {
            assert!(name.starts_with("weir_") && help.ends_with('.'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Counter, "{name}");
            assert_eq!(name.contains("_bytes"), *unit == Unit::Bytes, "{name}");
            assert_eq!(name.contains("_seconds"), *unit == Unit::Seconds, "{name}");
            if let Histogram(bounds) = kind {
                assert!(bounds.is_sorted() && *unit == Unit::Seconds, "{name}");
            }
        }
    }
}
