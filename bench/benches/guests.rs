//! What guests cost, without a broker: the crossing, each guest, the seed job's chain of three, and the same
//! functions compiled natively, so that the price of the sandbox shows. And what counting for the metrics costs.
//!
//! All figures are CPU time of the thread for each record, since a wall clock also counts what else the machine does.
//! `cargo xtask bench guests` builds the modules first; a name's part as an argument picks what is measured.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::mem::replace;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use add_uuid::AddUuid;
use anyhow::{Context, Error, Result, bail};
use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{BenchmarkId, Criterion, Throughput};
use filter::Filter;
use format_timestamp::FormatTimestamp;
use redact::Redact;
use route::Route;
use rustix::time::{ClockId, clock_gettime};
use weir::chain::{Chain, Count, IdKeys, Seen, Version};
use weir::fake::{Generator, Subject};
use weir::guest::{Compiler, Host, Limits, Module, Setup, thread_cpu_time};
use weir::ids::Names;
use weir::io::TopicPartition;
use weir::metrics::{Counters, Metrics, Partition, Tally};
use weir::record::Batch;
use weir_guest::Transform;
use weir_guest::bindings::{self, Batch as Columns, Output};
use weir_guest::testing::Harness;

/// Records in a batch. Weir's default is 1,000.
const BATCHES: [usize; 4] = [1, 100, 1_000, 5_000];

/// Records between two looks at the clock, so that the look costs next to nothing.
const TIMED_RECORDS: usize = 2_000;

/// The seed job's guests: name, module and config.
const ID: Step = Step("add-uuid", r#"{"field":"id"}"#);
const DATE: Step = Step(
    "format-timestamp",
    r#"{"from":"timestamp","rename":"event_time","to":"iso_date"}"#,
);
/// As the chain's last step it reads what the second one renamed.
const EVEN: Step = Step("filter", r#"{"keep":"event_time % 2 == 0"}"#);
const EVEN_ALONE: Step = Step("filter", r#"{"keep":"timestamp % 2 == 0"}"#);
/// Needs nothing, keeps everything.
const NOTHING: Step = Step("filter", r#"{"keep":"true"}"#);
/// Needs the keys, and looks at no more than whether they're null.
const KEYS: Step = Step("filter", r#"{"keep":"record.key != null"}"#);

/// Four rules that look at one field; of five stocks the last two are left.
const ROUTE: Step = Step(
    "route",
    r#"{"rules":[
        {"when":"stock_name == 'BTC-USD'","to":"btc"},
        {"when":"stock_name == 'ETH-USD'","to":"eth"},
        {"when":"stock_name == 'BNB-USD'","to":"default"},
        {"when":"stock_value < 0.0","to":"default"}
    ],"default":"other"}"#,
);
const MASK: Step = Step(
    "redact",
    r#"{"fields":[{"path":"stock_name","action":"mask","keep_last":3},{"path":"stock_value","action":"remove"}]}"#,
);
const HASH: Step = Step(
    "redact",
    r#"{"fields":[{"path":"stock_name","action":"hash","key":"0123456789abcdef"}]}"#,
);

/// The outputs that a guest may choose from.
const OUTPUTS: [&str; 4] = ["default", "btc", "eth", "other"];

/// A module's name and its config.
#[derive(Clone, Copy)]
struct Step(&'static str, &'static str);

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .with_measurement(PerRecord)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(30)
        .without_plots()
        .configure_from_args();
    let sandbox = Sandbox::new()?;
    let mut table = Table::default();
    let mut group = criterion.benchmark_group("guests");
    for (name, steps) in [
        ("nothing", &[NOTHING][..]),
        ("keys", &[KEYS]),
        ("add-uuid", &[ID]),
        ("format-timestamp", &[DATE]),
        ("filter", &[EVEN_ALONE]),
        ("route", &[ROUTE]),
        ("redact-mask", &[MASK]),
        ("redact-hash", &[HASH]),
        ("chain", &[ID, DATE, EVEN]),
    ] {
        for records in BATCHES {
            let mut measure = |way: &str, run: &mut dyn FnMut(u64) -> Duration| {
                let name = format!("{name}/{way}");
                group.bench_function(BenchmarkId::new(&name, records), |bencher| {
                    bencher.iter_custom(|batches| {
                        let nanos = run(batches).as_nanos() as f64 / records as f64;
                        table.add(&name, records, nanos / batches as f64);
                        nanos
                    });
                });
            };
            let mut chain = sandbox.chain(steps)?;
            measure("sandbox", &mut |batches| chain.time(records, batches));
            let mut twin = Twin::new(steps)?;
            measure("native", &mut |batches| twin.time(records, batches));
        }
    }
    for records in BATCHES {
        let mut counting = sandbox.chain(&[ID, DATE, EVEN])?.counting();
        group.bench_function(BenchmarkId::new("counting", records), |bencher| {
            bencher.iter_custom(|batches| {
                let nanos = counting.time(records, batches).as_nanos() as f64 / records as f64;
                table.add("counting", records, nanos / batches as f64);
                nanos
            });
        });
    }
    group.finish();
    criterion.final_summary();
    table.print();
    Ok(())
}

/// Records of the seed job.
fn batch(records: usize) -> Batch {
    let mut batch = Batch::new("realstock".into(), 0);
    let mut generator = Generator::new(Subject::RealStock, 1, 1_634_221_557_011);
    for offset in 0..records as u64 {
        let fake = generator.next_record();
        batch.keys.push(Some(fake.key));
        batch.values.push(fake.value);
        batch.timestamps.push(fake.timestamp);
        batch.offsets.push(offset);
    }
    batch
}

/// Where modules come from.
struct Sandbox {
    host: Host,
}

/// Guests in the sandbox, called as a worker calls them.
struct Sandboxed {
    chain: Chain,
    keys: IdKeys,
}

impl Sandbox {
    fn new() -> Result<Sandbox> {
        Ok(Sandbox {
            host: Host::new(Compiler::InProcess, None)?,
        })
    }

    fn chain(&self, steps: &[Step]) -> Result<Sandboxed> {
        let versions = steps.iter().map(|step| self.version(step));
        let chain = Chain::new(&versions.collect::<Result<Vec<_>>>()?)?;
        let keys = chain.id_keys("cluster", &[0; 16], "realstock", 0);
        Ok(Sandboxed { chain, keys })
    }

    fn version(&self, &Step(name, config): &Step) -> Result<Arc<Version>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
        let path = folder.join(name).with_extension("wasm");
        let limits = Limits::default();
        let bytes = Module::read(&path, limits.max_module_bytes)
            .context("build it with `cargo xtask guests`")?;
        Ok(Arc::new(Version {
            transform: name.to_owned(),
            number: 1,
            module: Module::load(&self.host, &bytes, &limits).with_context(|| name.to_owned())?,
            setup: Setup {
                config: config.to_owned(),
                outputs: OUTPUTS.map(str::to_owned).into(),
            },
            limits,
            ids: Some(Names {
                pipeline: "bench".to_owned(),
                transform: name.to_owned(),
                secret: None,
            }),
            seen: Seen::default(),
        }))
    }
}

impl Sandboxed {
    /// The CPU time of some batches.
    fn time(&mut self, records: usize, batches: u64) -> Duration {
        let batch = batch(records);
        timed(
            records,
            batches,
            || batch.clone(),
            |batch| {
                let processed = self.chain.run(&batch, 0, &self.keys, &mut |_, _, _| {});
                match processed {
                    Ok(processed) if processed.failed.is_empty() => {
                        black_box(processed);
                    }
                    other => panic!("the records are good, and yet: {other:?}"),
                }
            },
        )
    }
}

/// What a worker does for the metrics with a batch of the seed job's that went through its chain.
struct Counting {
    counters: Counters,
    partition: Arc<Partition>,
    steps: usize,
}

impl Sandboxed {
    fn counting(&self) -> Counting {
        let counters = Metrics::default().counters("bench", &self.chain);
        Counting {
            partition: counters.partition(&TopicPartition {
                topic: "realstock".into(),
                partition: 0,
            }),
            counters,
            steps: self.chain.versions().count(),
        }
    }
}

impl Counting {
    /// The CPU time of some batches.
    fn time(&mut self, records: usize, batches: u64) -> Duration {
        let batch = batch(records);
        timed(
            records,
            batches,
            || (),
            |()| {
                let counts = (0..self.steps).map(|step| {
                    let began = thread_cpu_time();
                    Count {
                        step,
                        canary: false,
                        records_in: records as u64,
                        records_out: records as u64,
                        dropped: 0,
                        refused: 0,
                        log_lines: 0,
                        log_lines_dropped: 0,
                        took: thread_cpu_time().saturating_sub(began),
                    }
                });
                let mut tally = Tally {
                    partition: Some(self.partition.clone()),
                    counts: counts.collect(),
                    ..Tally::default()
                };
                tally.input(&batch, batch.len());
                (tally.records_out, tally.bytes_out) = (records as u64, tally.bytes_in);
                self.partition.set(Some(records as u64), batch.bytes());
                self.counters.add(&tally);
            },
        )
    }
}

/// The same functions without a sandbox, over the same columns. No host stands between them, nor need it: all but the
/// last change values only and drop nothing.
struct Twin(Vec<Native>);

type Native = Box<dyn FnMut(&Columns) -> Output>;

impl Twin {
    fn new(steps: &[Step]) -> Result<Twin> {
        Ok(Twin(steps.iter().map(native).collect::<Result<_>>()?))
    }

    /// The CPU time of some batches.
    fn time(&mut self, records: usize, batches: u64) -> Duration {
        let mut columns = columns(&batch(records));
        timed(
            records,
            batches,
            || (),
            |()| {
                let mut first = None;
                let mut last = None;
                for step in &mut self.0 {
                    let mut output = step(&columns);
                    assert!(output.refused.indexes.is_empty(), "the records are good");
                    if let Some(values) = output.values.take() {
                        let before = replace(&mut columns.values, values);
                        first.get_or_insert(before);
                    }
                    last = Some(output);
                }
                let made = first.map(|values| replace(&mut columns.values, values));
                black_box((last, made));
            },
        )
    }
}

fn native(&Step(name, config): &Step) -> Result<Native> {
    match name {
        "add-uuid" => runner::<AddUuid>(config),
        "format-timestamp" => runner::<FormatTimestamp>(config),
        "filter" => runner::<Filter>(config),
        "route" => runner::<Route>(config),
        "redact" => runner::<Redact>(config),
        _ => bail!("{name} has no native twin here"),
    }
}

fn runner<T: Transform + 'static>(config: &str) -> Result<Native> {
    let mut harness = Harness::<T>::with_outputs(config, &OUTPUTS).map_err(Error::msg)?;
    Ok(Box::new(move |columns| harness.run_batch(columns)))
}

/// A batch as a guest sees it, with all columns.
fn columns(batch: &Batch) -> Columns {
    let column = |column: &weir::record::Column| bindings::Column {
        data: column.data.clone(),
        ends: column.ends.clone(),
        nulls: column.nulls.clone(),
    };
    Columns {
        topic: batch.topic.to_string(),
        partition: batch.partition as u32,
        id_key: vec![7; 32],
        count: batch.len() as u32,
        keys: column(&batch.keys),
        values: column(&batch.values),
        headers: bindings::Headers {
            counts: Vec::new(),
            names: column(&batch.headers.names),
            values: column(&batch.headers.values),
        },
        timestamps: batch.timestamps.clone(),
        timestamp_types: Vec::new(),
        offsets: batch.offsets.clone(),
        ordinals: batch.ordinals.clone(),
    }
}

/// The CPU time that `run` takes for some batches of so many records. What `prepare` makes of each before isn't counted.
fn timed<T>(
    records: usize,
    batches: u64,
    mut prepare: impl FnMut() -> T,
    mut run: impl FnMut(T),
) -> Duration {
    let at_once = TIMED_RECORDS.div_ceil(records) as u64;
    let mut spent = Duration::ZERO;
    let mut left = batches;
    while left > 0 {
        let now = left.min(at_once);
        let prepared: Vec<T> = (0..now).map(|_| prepare()).collect();
        let start = cpu_time();
        prepared.into_iter().for_each(&mut run);
        spent += cpu_time() - start;
        left -= now;
    }
    spent
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds of CPU time a record.
struct PerRecord;

impl Measurement for PerRecord {
    type Intermediate = ();
    type Value = f64;

    fn start(&self) {}

    fn end(&self, (): ()) -> f64 {
        unreachable!("all benchmarks here take their own time")
    }

    fn add(&self, one: &f64, other: &f64) -> f64 {
        one + other
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, value: &f64) -> f64 {
        *value
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for PerRecord {
    fn scale_values(&self, _typical: f64, _values: &mut [f64]) -> &'static str {
        "ns/record"
    }

    fn scale_throughputs(
        &self,
        _typical: f64,
        _throughput: &Throughput,
        _values: &mut [f64],
    ) -> &'static str {
        "ns/record"
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "ns/record"
    }
}

/// Everything that was measured, in nanoseconds a record: by name and way, then by records in a batch.
#[derive(Default)]
struct Table(Vec<(String, BTreeMap<usize, Vec<f64>>)>);

impl Table {
    fn add(&mut self, name: &str, records: usize, nanos: f64) {
        let row = match self.0.iter().position(|(other, _)| other == name) {
            Some(row) => row,
            None => {
                self.0.push((name.to_owned(), BTreeMap::new()));
                self.0.len() - 1
            }
        };
        self.0[row].1.entry(records).or_default().push(nanos);
    }

    /// Prints the medians, a row for each name.
    fn print(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let width = self.0.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or(0);
        println!("CPU time in ns a record, medians; columns: records in a batch");
        print!("{:width$}", "");
        BATCHES.iter().for_each(|records| print!("{records:>9}"));
        println!();
        for (name, columns) in &mut self.0 {
            print!("{name:width$}");
            for records in BATCHES {
                match columns.get_mut(&records) {
                    Some(samples) => print!("{:>9.1}", median(samples)),
                    None => print!("{:>9}", "-"),
                }
            }
            println!();
        }
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
