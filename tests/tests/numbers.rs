//! What Prometheus and InfluxDB have of a run, against what can be read from the topics: also after a crash, and after a
//! transaction that was aborted.

use std::net::SocketAddr;

use weir_tests::{
    Consumed, Influx, MINUTE, Pipeline, Prometheus, Record, Scratch, Topic, Weir, config,
    eventually, seed,
};
use xtask::broker::port;

/// What was done with records, summed over partitions, transforms and versions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Numbers {
    records_in: f64,
    bytes_in: f64,
    records_out: f64,
    bytes_out: f64,
    dropped: f64,
    dead_lettered: f64,
    /// What the first transform was given.
    given: f64,
}

impl Numbers {
    /// From sums of metrics over the series with these labels.
    fn of(sum: impl Fn(&str, &[(&str, &str)]) -> Option<f64>) -> Option<Numbers> {
        Some(Numbers {
            records_in: sum("weir_records_in_total", &[])?,
            bytes_in: sum("weir_bytes_in_total", &[])?,
            records_out: sum("weir_records_out_total", &[])?,
            bytes_out: sum("weir_bytes_out_total", &[])?,
            dropped: sum("weir_records_dropped_total", &[])?,
            dead_lettered: sum("weir_records_dead_lettered_total", &[])?,
            given: sum("weir_transform_records_in_total", &[("transform", "id")])?,
        })
    }

    fn minus(&self, other: &Numbers) -> Numbers {
        Numbers {
            records_in: self.records_in - other.records_in,
            bytes_in: self.bytes_in - other.bytes_in,
            records_out: self.records_out - other.records_out,
            bytes_out: self.bytes_out - other.bytes_out,
            dropped: self.dropped - other.dropped,
            dead_lettered: self.dead_lettered - other.dead_lettered,
            given: self.given - other.given,
        }
    }
}

/// The seed job exactly-once, with a Prometheus and an InfluxDB that see one process after the other.
struct Site {
    input: Topic,
    output: Topic,
    dead: Topic,
    pipeline: Pipeline,
    prometheus: Prometheus,
    influx: Influx,
    /// Where the processes listen, as Prometheus knows them.
    addresses: Vec<SocketAddr>,
    scratch: Scratch,
}

impl Site {
    /// With these settings of the pipeline and its producer.
    fn new(processes: usize, settings: &str, producer: &str) -> Site {
        let scratch = Scratch::new();
        let (input, output) = (Topic::create(2), Topic::create(2));
        let dead = Topic::create_for_dead_letters(1);
        let pipeline = Pipeline::new("stocks", &input, &output)
            .set("delivery = \"exactly-once\"")
            .set(settings)
            .set(&format!("dead_letter = \"{dead}\""))
            .consumer("\"session.timeout.ms\" = 6000")
            .producer(producer)
            .seed("");
        let ports = port::free(processes).unwrap();
        let addresses: Vec<SocketAddr> = ports
            .into_iter()
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect();
        let influx = Influx::start(&scratch);
        influx.create("metrics");
        Site {
            prometheus: Prometheus::start(&scratch, &addresses),
            influx,
            input,
            output,
            dead,
            pipeline,
            addresses,
            scratch,
        }
    }

    fn start(&self, process: usize) -> Weir {
        let text = config(&[&self.pipeline]);
        let influxdb = format!(
            "[influxdb]\nurl = {:?}\ndatabase = \"metrics\"\ninterval = \"200ms\"\ntags = {{ process = \"{process}\" }}\n\n[kafka]",
            self.influx.url()
        );
        let listen = self.addresses[process].to_string();
        let text = text.replace("[kafka]", &influxdb);
        // Under the same name the next one ends at once what the one before left.
        let arguments = ["--listen", &listen, "--instance", self.input.name()];
        let mut weir = Weir::start_plain(&self.scratch, &text, &arguments);
        weir.wait_ready();
        weir
    }

    /// The last that Prometheus heard of a process.
    fn in_prometheus(&self, process: usize) -> Option<Numbers> {
        let instance = self.addresses[process].to_string();
        Numbers::of(|name, labels| {
            let mut selector = format!("{name}{{instance=\"{instance}\"");
            for (label, value) in labels {
                selector += &format!(",{label}=\"{value}\"");
            }
            // A process that's gone has no value now.
            self.prometheus
                .number(&format!("sum(last_over_time({selector}}}[1h]))"))
        })
    }

    /// The last that InfluxDB heard of a process.
    fn in_influx(&self, process: usize) -> Option<Numbers> {
        let process = process.to_string();
        Numbers::of(|name, labels| {
            let tags = [&[("process", process.as_str())], labels].concat();
            self.influx.last_sum("metrics", name, "value", &tags)
        })
    }

    /// What committed transactions have done so far, as the topics say.
    fn ledger(&self) -> Numbers {
        let done = self.input.committed(self.pipeline.group());
        let done = |it: &Consumed| done[it.partition as usize].is_some_and(|end| it.offset < end);
        let inputs: Vec<Consumed> = self.input.consume().into_iter().filter(done).collect();
        let (outputs, letters) = (self.output.consume(), self.dead.consume());
        let is_dropped = |it: &&Consumed| seed::expected(it).is_none();
        let bytes = |records: &[Consumed]| records.iter().map(size).sum::<usize>() as f64;
        Numbers {
            records_in: inputs.len() as f64,
            bytes_in: bytes(&inputs),
            records_out: outputs.len() as f64,
            bytes_out: bytes(&outputs),
            dropped: inputs.iter().filter(is_dropped).count() as f64,
            dead_lettered: letters.len() as f64,
            // A record that only Kafka refuses goes to the dead letters without going through the transforms again.
            given: (inputs.len() - letters.len()) as f64,
        }
    }

    /// Waits until both have exactly this of a process.
    #[track_caller]
    fn wait_equal(&self, weir: &mut Weir, process: usize, expected: &Numbers) {
        let seen = || [self.in_prometheus(process), self.in_influx(process)];
        weir.wait_until("both have all records", MINUTE, |_| {
            let has_all =
                |it: &Option<Numbers>| it.is_some_and(|it| it.records_in == expected.records_in);
            seen().iter().all(has_all).then_some(())
        });
        assert_eq!(seen(), [Some(*expected); 2]);
    }
}

/// As the metrics count it: key, value, and headers' names and values.
fn size(record: &Consumed) -> usize {
    let length = |it: &Option<Vec<u8>>| it.as_ref().map_or(0, Vec::len);
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + length(value))
        .sum();
    length(&record.key) + length(&record.value) + headers
}

#[test]
fn they_are_those_of_the_topics_also_after_crashes() {
    let site = Site::new(
        3,
        "workers = 1\ncommit_interval = \"5s\"",
        "\"transaction.timeout.ms\" = 15000",
    );
    // One that is killed with nothing left to do.
    let mut first = site.start(0);
    site.input.produce(seed::records(0..3_000));
    first.wait_done(&site.input, site.pipeline.group());
    let after_first = site.ledger();
    assert_eq!(after_first.records_in, 3_000.0);
    site.wait_equal(&mut first, 0, &after_first);
    first.kill();

    // One that is killed in the midst of a transaction: it has just committed another one, and has its time.
    let mut second = site.start(1);
    site.input.produce(seed::records(3_000..4_000));
    second.wait_until("these are committed", MINUTE, |weir| {
        (weir.counter("weir_records_in_total", &[]) == 1_000).then_some(())
    });
    site.input.produce(seed::records(4_000..5_000));
    second.wait_until("both have heard, and all is sent", MINUTE, |_| {
        let heard = |it: Option<Numbers>| it.is_some_and(|it| it.records_in == 1_000.0);
        let heard = heard(site.in_prometheus(1)) && heard(site.in_influx(1));
        (heard && site.output.consume_uncommitted().len() == 2_500).then_some(())
    });
    second.kill();
    // What it left open is over before its offsets are told.
    let ledger = eventually("the transaction's end", MINUTE, || {
        let (one, other) = (site.ledger(), site.ledger());
        (one == other && one.records_out + one.dropped == one.records_in).then_some(one)
    });
    assert_eq!(ledger.records_in, 4_000.0, "it was cut off in time");
    let of_second = Some(ledger.minus(&after_first));
    assert_eq!(
        [site.in_prometheus(1), site.in_influx(1)],
        [of_second; 2],
        "what was sent and not committed isn't counted"
    );

    // One that does the rest.
    let mut third = site.start(2);
    third.wait_done(&site.input, site.pipeline.group());
    let all = site.ledger();
    assert_eq!(all.records_in, 5_000.0);
    site.wait_equal(&mut third, 2, &all.minus(&ledger));
    assert_eq!(third.terminate(), Some(0));
    let outputs = site.output.consume();
    let sent = site.output.consume_uncommitted().len();
    assert_eq!(sent, outputs.len() + 500, "these were aborted");
    seed::check(&site.input.consume(), &outputs);
}

#[test]
fn what_an_aborted_transaction_did_is_counted_once() {
    let site = Site::new(
        1,
        "workers = 1\ncommit_interval = \"10s\"\nbatch = { records = 50 }",
        "\"transaction.timeout.ms\" = 30000\n\"batch.size\" = 8000",
    );
    let mut weir = site.start(0);
    // It has just committed, and has its time.
    site.input.produce(seed::records(0..10));
    weir.wait_until("these are committed", MINUTE, |_| {
        (site.output.consume().len() == 5).then_some(())
    });
    // Nobody tells the worker, and so a transaction with a record that's larger is aborted, and its records come again.
    site.output.alter("max.message.bytes", "20000");
    let large = |n: usize| {
        let name = "X".repeat(30_000);
        let value = format!("{{\"stock_name\":\"{name}\",\"stock_value\":1.5,\"timestamp\":{n}}}");
        Record::new(Some(format!("key {n}").as_bytes()), Some(value.as_bytes()))
    };
    site.input.produce(seed::records(10..1_000));
    weir.wait_until("much of a transaction is sent", MINUTE, |_| {
        (site.output.consume_uncommitted().len() == 500).then_some(())
    });
    assert_eq!(site.output.consume().len(), 5, "it isn't committed");
    site.input.produce((0..3).map(|n| large(2 * n)));
    site.input.produce(seed::records(1_000..3_000));
    weir.wait_done(&site.input, site.pipeline.group());
    let ledger = site.ledger();
    assert_eq!((ledger.records_in, ledger.dead_lettered), (3_003.0, 3.0));
    assert_eq!(
        ledger.records_out + ledger.dropped + ledger.dead_lettered,
        ledger.records_in
    );
    site.wait_equal(&mut weir, 0, &ledger);
    let ended = |result: &str| {
        weir.counter(
            "weir_transactions_total",
            &[&format!("result=\"{result}\"")],
        )
    };
    let (committed, aborted) = (ended("committed"), ended("aborted"));
    assert!(committed >= 1 && aborted >= 1, "{committed} and {aborted}");
    for (result, count) in [("committed", committed), ("aborted", aborted)] {
        let selector = format!("sum(weir_transactions_total{{result=\"{result}\"}})");
        let seen = eventually("Prometheus has them", MINUTE, || {
            site.prometheus
                .number(&selector)
                .filter(|it| *it == count as f64)
        });
        assert_eq!(seen, count as f64, "{result}");
    }
    assert_eq!(weir.terminate(), Some(0));
}
