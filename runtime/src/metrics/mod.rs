//! All metrics. Workers count once, in atomic counters; `/metrics` and the InfluxDB writer read the same values.
//!
//! - `catalogue`: every name, unit, label and help.
//! - `worker`: what a worker counts, once it's certain.

mod catalogue;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry, TextEncoder, process_collector::ProcessCollector,
};

pub use self::catalogue::*;
pub use self::worker::{Counters, Partition, Tally};
use crate::chain::Version;
use crate::io::TopicPartition;
use crate::letter::Class;
use crate::status;
use crate::worker::Shared;

/// The process's metrics.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: HashMap<&'static str, Series>,
    live: Mutex<Live>,
}

/// The series of a family.
enum Series {
    Counter(IntCounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

/// What is read off when somebody looks, and which versions have series.
#[derive(Default)]
struct Live {
    partitions: HashMap<(String, TopicPartition), Arc<Partition>>,
    memory: Vec<(Gauge, Arc<Version>)>,
    pipelines: HashMap<String, (Arc<status::Pipeline>, Arc<Shared>)>,
    /// By pipeline and transform, the one that ran last at the end.
    versions: HashMap<(String, String), Vec<u64>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let registry = Registry::new();
        let families = ALL.iter().map(|family| (family.name, series(family)));
        let families: HashMap<&str, Series> = families.collect();
        for it in families.values() {
            register(&registry, it.collector());
        }
        register(&registry, Box::new(ProcessCollector::for_self()));
        let metrics = Metrics(Arc::new(Inner {
            registry,
            families,
            live: Mutex::default(),
        }));
        // There from the start, so that a start without compiling shows 0.
        metrics.counter(&COMPILATIONS, &[]);
        let build = [env!("CARGO_PKG_VERSION"), &crate::kafka::version()];
        let build = metrics.gauge(&BUILD, &build);
        build.set(1.0);
        metrics
    }
}

/// Fails for a name that's there twice, of which the catalogue has none.
fn register(registry: &Registry, collector: Box<dyn Collector>) {
    let registered = registry.register(collector);
    debug_assert!(registered.is_ok(), "{registered:?}");
}

const WHOLE: &str =
    "the catalogue's names, labels and buckets are fit: its test makes a series of each family";

fn series(family: &Family) -> Series {
    let opts = Opts::new(family.name, family.help);
    match family.kind {
        Kind::Counter => Series::Counter(IntCounterVec::new(opts, family.labels).expect(WHOLE)),
        Kind::Gauge => Series::Gauge(GaugeVec::new(opts, family.labels).expect(WHOLE)),
        Kind::Histogram(bounds) => {
            let opts = HistogramOpts::from(opts).buckets(bounds.to_vec());
            Series::Histogram(HistogramVec::new(opts, family.labels).expect(WHOLE))
        }
    }
}

impl Series {
    fn collector(&self) -> Box<dyn Collector> {
        match self {
            Series::Counter(it) => Box::new(it.clone()),
            Series::Gauge(it) => Box::new(it.clone()),
            Series::Histogram(it) => Box::new(it.clone()),
        }
    }

    fn remove(&self, labels: &[&str]) {
        // Fails if it isn't there.
        let _ = match self {
            Series::Counter(it) => it.remove_label_values(labels),
            Series::Gauge(it) => it.remove_label_values(labels),
            Series::Histogram(it) => it.remove_label_values(labels),
        };
    }
}

/// How a family is counted.
impl Metrics {
    fn counter(&self, family: &Family, labels: &[&str]) -> IntCounter {
        match self.0.families.get(family.name) {
            Some(Series::Counter(it)) => it.with_label_values(labels),
            _ => unreachable!("{WHOLE}"),
        }
    }

    fn gauge(&self, family: &Family, labels: &[&str]) -> Gauge {
        match self.0.families.get(family.name) {
            Some(Series::Gauge(it)) => it.with_label_values(labels),
            _ => unreachable!("{WHOLE}"),
        }
    }

    fn histogram(&self, family: &Family, labels: &[&str]) -> Histogram {
        match self.0.families.get(family.name) {
            Some(Series::Histogram(it)) => it.with_label_values(labels),
            _ => unreachable!("{WHOLE}"),
        }
    }

    fn remove(&self, family: &Family, labels: &[&str]) {
        if let Some(it) = self.0.families.get(family.name) {
            it.remove(labels);
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is read.
impl Metrics {
    /// All families with their series as they are now.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let now = Utc::now().timestamp_millis();
        let live = self.live();
        for ((pipeline, id), partition) in &live.partitions {
            let number = id.partition.to_string();
            for (family, value) in partition.gauges(now) {
                self.gauge(family, &[pipeline, &id.topic, &number])
                    .set(value);
            }
        }
        for (name, (status, shared)) in &live.pipelines {
            let flag = |family, is: bool| self.gauge(family, &[name]).set(f64::from(u8::from(is)));
            flag(&PIPELINE_READY, status.not_ready().is_none());
            flag(&PIPELINE_PAUSED, shared.is_paused());
        }
        for (gauge, version) in &live.memory {
            gauge.set(version.module.guest_memory() as f64);
        }
        drop(live);
        let mut families = self.0.registry.gather();
        // The library knows whole seconds alone.
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        let family = families
            .iter_mut()
            .find(|it| it.name() == "process_cpu_seconds_total");
        for it in family.into_iter().flat_map(|it| it.mut_metric()) {
            let mut counter = prometheus::proto::Counter::default();
            counter.set_value(cpu);
            it.set_counter(counter);
        }
        families
    }

    /// The metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        // It writes to memory alone, and all of it is text.
        TextEncoder::new()
            .encode_to_string(&self.gather())
            .unwrap_or_default()
    }

    /// The sum of a counter's or a gauge's values over all series with these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let families = self.gather();
        let family = families.iter().find(|it| it.name() == name);
        let series = family.map(MetricFamily::get_metric).unwrap_or_default();
        let ours = series.iter().filter(|series| {
            labels.iter().all(|(name, value)| {
                let has =
                    |it: &prometheus::proto::LabelPair| it.name() == *name && it.value() == *value;
                series.get_label().iter().any(has)
            })
        });
        let value = |it: &prometheus::proto::Metric| {
            it.get_counter().get_value() + it.get_gauge().get_value()
        };
        ours.map(value).sum::<f64>() as u64
    }
}

/// What the control side counts.
impl Metrics {
    /// A module was compiled for a version.
    pub fn compiled(&self, pipeline: &str, transform: &str, version: u64, took: Duration) {
        let labels = [pipeline, transform, &version.to_string()];
        self.counter(&COMPILATIONS, &[]).inc();
        self.histogram(&COMPILE_DURATION, &labels)
            .observe(took.as_secs_f64());
    }

    /// A guest was started.
    pub fn guest_started(&self, pipeline: &str, version: &Version, took: Duration) {
        let labels = [pipeline, &version.transform, &version.number.to_string()];
        self.histogram(&GUEST_START, &labels)
            .observe(took.as_secs_f64());
    }

    /// A change of a transform's version was made, or refused.
    pub fn swap(&self, pipeline: &str, transform: &str, made: bool) {
        let result = if made { "made" } else { "refused" };
        self.counter(&SWAPS, &[pipeline, transform, result]).inc();
    }

    /// A change went back.
    pub fn rolled_back(&self, pipeline: &str, transform: &str) {
        self.counter(&ROLLBACKS, &[pipeline, transform]).inc();
    }

    /// A version was rolled back by itself.
    pub fn probation_failed(&self, pipeline: &str, transform: &str, reason: Reason) {
        self.counter(&PROBATIONS_FAILED, &[pipeline, transform, reason.as_str()])
            .inc();
    }

    /// A worker stood still for a swap.
    pub fn swap_pause(&self, pipeline: &str, pause: Duration) {
        self.histogram(&SWAP_PAUSE, &[pipeline])
            .observe(pause.as_secs_f64());
    }

    /// A worker failed, and is started anew.
    pub fn worker_restarted(&self, pipeline: &str) {
        self.counter(&WORKER_RESTARTS, &[pipeline]).inc();
    }

    /// Shows from now on whether a pipeline is ready and whether it's paused.
    pub fn watch(&self, name: &str, status: &Arc<status::Pipeline>, shared: Arc<Shared>) {
        self.counter(&WORKER_RESTARTS, &[name]);
        self.histogram(&SWAP_PAUSE, &[name]);
        self.gauge(&PARTITIONS_ASSIGNED, &[name]).set(0.0);
        let mut live = self.live();
        live.pipelines
            .insert(name.to_string(), (status.clone(), shared));
    }

    /// A pipeline isn't there any more.
    pub fn forget_pipeline(&self, name: &str) {
        self.live().pipelines.remove(name);
        for family in [
            &PIPELINE_UP,
            &PIPELINE_READY,
            &PIPELINE_PAUSED,
            &PARTITIONS_ASSIGNED,
        ] {
            self.remove(family, &[name]);
        }
    }

    /// The gauge of a pipeline's state.
    pub fn pipeline_up(&self, pipeline: &str) -> Gauge {
        self.gauge(&PIPELINE_UP, &[pipeline])
    }

    /// The versions of a pipeline that run, and in which roles.
    pub fn versions(&self, pipeline: &str, shown: &[(Arc<Version>, &'static str)], runs: bool) {
        for (version, role) in shown {
            let (number, module) = (version.number.to_string(), version.module.digest().short());
            let transform = &*version.transform;
            let labels = [pipeline, transform, &number, &module, role];
            self.gauge(&VERSION, &labels).set(f64::from(u8::from(runs)));
            let memory = [pipeline, transform, &number];
            let mut live = self.live();
            live.memory.retain(|(_, it)| !Arc::ptr_eq(it, version));
            match runs {
                true => {
                    let gauge = self.gauge(&GUEST_MEMORY, &memory);
                    live.memory.push((gauge, version.clone()));
                    drop(live);
                    self.keep_version(pipeline, version);
                }
                false => self.remove(&GUEST_MEMORY, &memory),
            }
        }
    }

    /// Counters of writes to InfluxDB: points written and lost, and writes that failed; and the gauge of those that wait.
    pub fn influxdb(&self) -> (IntCounter, IntCounter, IntCounter, Gauge) {
        (
            self.counter(&INFLUXDB_POINTS, &["written"]),
            self.counter(&INFLUXDB_POINTS, &["lost"]),
            self.counter(&INFLUXDB_FAILURES, &[]),
            self.gauge(&INFLUXDB_BUFFERED, &[]),
        )
    }

    /// Counters of connections to the admin endpoints that were dropped: those that were too many, and those whose answer
    /// wasn't read.
    pub fn admin_connections_dropped(&self) -> (IntCounter, IntCounter) {
        let dropped = |reason| self.counter(&ADMIN_CONNECTIONS_DROPPED, &[reason]);
        (dropped("surplus"), dropped("unread"))
    }

    /// Notes that a version runs, and forgets series of those that didn't for the longest time.
    fn keep_version(&self, pipeline: &str, version: &Version) {
        let key = (pipeline.to_string(), version.transform.clone());
        let mut live = self.live();
        let known = live.versions.entry(key).or_default();
        known.retain(|it| *it != version.number);
        known.push(version.number);
        let surplus = known.len().saturating_sub(KEPT_VERSIONS);
        let gone: Vec<u64> = known.drain(..surplus).collect();
        drop(live);
        for number in gone {
            self.forget(pipeline, &version.transform, &number.to_string());
        }
    }

    fn forget(&self, pipeline: &str, transform: &str, version: &str) {
        let labels = [pipeline, transform, version];
        for family in [
            &TRANSFORM_IN,
            &TRANSFORM_OUT,
            &RECORDS_DROPPED,
            &RECORDS_REFUSED,
            &TRANSFORM_BATCHES,
            &BATCH_DURATION,
            &RECORD_DURATION,
            &GUEST_MEMORY,
            &COMPILE_DURATION,
            &GUEST_START,
        ] {
            self.remove(family, &labels);
        }
        for class in Class::ALL {
            let labels = [pipeline, transform, version, &class.to_string()];
            for family in [&RECORDS_BROKEN, &RECORDS_DEAD_LETTERED, &RECORDS_SKIPPED] {
                self.remove(family, &labels);
            }
        }
        self.forget_info(pipeline, transform, version);
    }

    /// Its label `module` isn't known any more.
    fn forget_info(&self, pipeline: &str, transform: &str, version: &str) {
        let Some(Series::Gauge(info)) = self.0.families.get(VERSION.name) else {
            return;
        };
        let label = |series: &prometheus::proto::Metric, name: &str| {
            let labels = series.get_label().iter();
            let label = labels.clone().find(|it| it.name() == name);
            label.map(|it| it.value().to_string()).unwrap_or_default()
        };
        for series in info.collect().iter().flat_map(MetricFamily::get_metric) {
            let values = VERSION.labels.iter().map(|name| label(series, name));
            let values: Vec<String> = values.collect();
            if values[..3] == [pipeline, transform, version] {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                self.remove(&VERSION, &values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_series() {
        let metrics = Metrics::default();
        for family in ALL {
            let labels: Vec<&str> = family.labels.iter().map(|_| "x").collect();
            match family.kind {
                Kind::Counter => drop(metrics.counter(family, &labels)),
                Kind::Gauge => drop(metrics.gauge(family, &labels)),
                Kind::Histogram(_) => drop(metrics.histogram(family, &labels)),
            }
        }
        let text = metrics.render();
        for family in ALL {
            let help = format!("# HELP {} {}\n", family.name, family.help);
            assert!(text.contains(&help), "{}", family.name);
        }
        assert!(text.contains("process_cpu_seconds_total"), "{text}");
    }

    #[test]
    fn the_docs_list_every_metric_and_no_other() {
        let docs = include_str!("../../../docs/metrics.md");
        let listed: Vec<&str> = docs
            .lines()
            .filter(|it| it.starts_with("| `weir_"))
            .collect();
        let row = |it: &&Family| {
            let kind = match it.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let labels: Vec<String> = it.labels.iter().map(|it| format!("`{it}`")).collect();
            format!(
                "| `{}` | {kind} | {} | {} |",
                it.name,
                labels.join(", "),
                it.help
            )
        };
        assert_eq!(listed, ALL.iter().map(row).collect::<Vec<_>>());
        assert!(docs.contains(&format!("the last {KEPT_VERSIONS} that ran")));
    }

    #[test]
    fn no_label_can_break_the_text() {
        let metrics = Metrics::default();
        metrics.rolled_back("a\"b\\c\nd", "é");
        let text = metrics.render();
        let series = "weir_rollbacks_total{pipeline=\"a\\\"b\\\\c\\nd\",transform=\"é\"} 1\n";
        assert!(text.contains(series), "{text}");
    }
}
