//! What `/metrics` and `/readyz` say of a process: in Prometheus's form, true, and in time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use weir_tests::{
    MINUTE, Pipeline, Record, Scratch, Topic, Weir, config, config_at, promtool, seed,
};
use xtask::broker::{Cluster, ClusterOptions};
use xtask::http;

/// A gauge's or counter's value by its exact labels, if it's there.
fn value(weir: &Weir, series: &str) -> Option<f64> {
    let metrics = weir.get("/metrics")?.body;
    let line = metrics.lines().find_map(|it| it.strip_prefix(series))?;
    line.trim().parse().ok()
}

#[test]
fn promtool_has_nothing_to_say() {
    let (input, output) = (Topic::create(4), Topic::create(4));
    let pipeline = Pipeline::new("stocks", &input, &output).seed("");
    let scratch = Scratch::new();
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_ready();
    input.produce(seed::records(0..1_000));
    weir.wait_done(&input, pipeline.group());
    let metrics = weir.get("/metrics").unwrap().body;
    let (good, said) = promtool(&["check", "metrics"], &metrics);
    assert!(good && said.trim().is_empty(), "{said}");
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "weir_build_info",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "{name}");
    }
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn lag_age_and_bytes_are_those_of_the_records() {
    let (input, output) = (Topic::create(1), Topic::create(1));
    let pipeline = Pipeline::new("p", &input, &output);
    let scratch = Scratch::new();
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_ready();
    let now = chrono::Utc::now().timestamp_millis();
    let record = |age_ms: i64| {
        Record::new(Some(b"key"), Some(b"value"))
            .header(b"name", Some(b"header"))
            .timestamp(now - age_ms)
    };
    input.produce([record(3_600_000), record(7_200_000)]);
    weir.wait_done(&input, pipeline.group());
    let labels = format!(
        "{{partition=\"0\",pipeline=\"p\",topic=\"{}\"}}",
        input.name()
    );
    let of = |weir: &Weir, name: &str| value(weir, &format!("{name}{labels}"));
    assert_eq!(of(&weir, "weir_records_in_total"), Some(2.0));
    // Key, value, and the header's name and value.
    assert_eq!(of(&weir, "weir_bytes_in_total"), Some(2.0 * 18.0));
    assert_eq!(of(&weir, "weir_records_out_total"), Some(2.0));
    assert_eq!(of(&weir, "weir_bytes_out_total"), Some(2.0 * 18.0));
    let age = of(&weir, "weir_record_age_seconds").unwrap();
    assert!((3_600.0..3_700.0).contains(&age), "the newest one's: {age}");
    weir.wait_until("nothing is left to do", MINUTE, |weir| {
        (of(weir, "weir_lag_records") == Some(0.0)).then_some(())
    });

    // Paused, all that comes is left to do, and nothing is read.
    let admin = weir.admin().unwrap();
    let json = [("content-type", "application/json")];
    http::request(admin, "POST", "/v1/pipelines/p/pause", &json, b"{}").unwrap();
    input.produce((0..10).map(|_| record(0)));
    weir.wait_until("what came is left to do", MINUTE, |weir| {
        (of(weir, "weir_lag_records") == Some(10.0)).then_some(())
    });
    assert_eq!(
        value(&weir, "weir_pipeline_paused{pipeline=\"p\"}"),
        Some(1.0)
    );
    let later = of(&weir, "weir_record_age_seconds").unwrap();
    assert!(later > age, "it gets older: {later}");
    http::request(admin, "POST", "/v1/pipelines/p/resume", &json, b"{}").unwrap();
    weir.wait_until("all is done", MINUTE, |weir| {
        let young = of(weir, "weir_record_age_seconds") < Some(600.0);
        (young && of(weir, "weir_lag_records") == Some(0.0)).then_some(())
    });
    // A timestamp that's yet to come hides nothing: its age is that since it was done with.
    input.produce([record(-3_000_000)]);
    weir.wait_until("it's done and gets older", MINUTE, |weir| {
        let done = of(weir, "weir_records_in_total") == Some(13.0);
        (done && of(weir, "weir_record_age_seconds") > Some(0.0)).then_some(())
    });
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn a_partition_that_went_to_another_process_is_not_shown_any_more() {
    let (input, output) = (Topic::create(2), Topic::create(2));
    let pipeline = Pipeline::new("p", &input, &output).set("workers = 1");
    let scratch = Scratch::new();
    let text = config(&[&pipeline]);
    let mut one = Weir::start(&scratch, &text);
    one.wait_ready();
    let has = |weir: &Weir| value(weir, "weir_partitions_assigned{pipeline=\"p\"}");
    assert_eq!(has(&one), Some(2.0));
    let mut other = Weir::start_with(&scratch, &text, &["--instance", "other"]);
    other.wait_ready();
    one.wait_until("each has one", MINUTE, |one| {
        (has(one) == Some(1.0) && has(&other) == Some(1.0)).then_some(())
    });
    let lags = |weir: &Weir| {
        let metrics = weir.get("/metrics").unwrap().body;
        metrics.matches("\nweir_in_flight_bytes{").count()
    };
    one.wait_until("each shows one", MINUTE, |one| {
        (lags(one) == 1 && lags(&other) == 1).then_some(())
    });
    assert!(one.counter("weir_rebalances_total", &["event=\"revoked\""]) >= 1);
    assert_eq!((one.terminate(), other.terminate()), (Some(0), Some(0)));
}

/// A cluster of its own with three brokers, and topics whose partitions each of them leads one of.
struct Three {
    cluster: Cluster,
    input: Topic,
    output: Topic,
}

impl Three {
    fn start(scratch: &Scratch) -> Three {
        let cluster = Cluster::start(&ClusterOptions {
            folder: scratch.path().join("kafka"),
            brokers: 3,
            remove_folder: false,
        })
        .unwrap();
        let bootstrap = cluster.bootstrap();
        Three {
            input: Topic::create_at(&bootstrap, 3, &[]),
            output: Topic::create_at(&bootstrap, 3, &[]),
            cluster,
        }
    }

    fn pipeline(&self, name: &str) -> Pipeline {
        Pipeline::new(name, &self.input, &self.output).set("workers = 3")
    }

    /// A record for each partition.
    fn produce(&self) {
        let record = |partition| Record::new(None, Some(b"{}")).partition(partition);
        self.input.produce((0..3).map(record));
    }

    /// Two pipelines, one of each guarantee, whose workers have a partition each.
    fn run(&self, scratch: &Scratch) -> Weir {
        let exactly = self.pipeline("exactly").set("delivery = \"exactly-once\"");
        let pipelines = [&self.pipeline("least"), &exactly];
        let text = config_at(&self.cluster.bootstrap(), &pipelines);
        let mut weir = Weir::start(scratch, &text);
        weir.wait_ready();
        self.produce();
        weir.wait_until("a record of each is through", MINUTE, |weir| {
            (weir.counter("weir_records_out_total", &[]) == 6).then_some(())
        });
        weir
    }
}

fn ages(weir: &Weir) -> Vec<f64> {
    let metrics = weir.get("/metrics").expect("metrics").body;
    let ages = metrics
        .lines()
        .filter_map(|it| it.strip_prefix("weir_record_age_seconds{"));
    let ages = ages.filter_map(|it| it.rsplit_once(' ')?.1.parse().ok());
    ages.collect()
}

#[test]
fn a_broker_that_a_worker_has_nothing_from_is_no_trouble() {
    let scratch = Scratch::new();
    let three = Three::start(&scratch);
    let mut weir = three.run(&scratch);
    // Long enough for what would be said.
    weir.wait_until("the records are old", MINUTE, |weir| {
        assert_eq!(weir.not_ready(), None);
        let ages = ages(weir);
        (ages.len() == 6 && ages.iter().all(|it| *it > 9.0)).then_some(())
    });
    assert!(!weir.log().contains("hasn't answered"), "{}", weir.log());
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn brokers_that_stand_still_show_within_ten_seconds() {
    let scratch = Scratch::new();
    let three = Three::start(&scratch);
    let mut weir = three.run(&scratch);
    let before = ages(&weir);
    // One transaction is to be committed while they stand still.
    three.produce();
    (0..3).for_each(|it| three.cluster.pause(it).unwrap());
    let began = Instant::now();
    let why = weir.wait_not_ready(&["least: ", "exactly: "]);
    let took = began.elapsed();
    assert!(took.as_secs() < 10, "{took:?}: {why}");
    assert!(ages(&weir).iter().sum::<f64>() > before.iter().sum());
    for pipeline in ["least", "exactly"] {
        let ready = format!("weir_pipeline_ready{{pipeline=\"{pipeline}\"}}");
        assert_eq!(value(&weir, &ready), Some(0.0));
    }
    (0..3).for_each(|it| three.cluster.resume(it).unwrap());
    weir.wait_ready();
    weir.wait_log(&["the brokers answer again"]);
    weir.wait_until("all is through", MINUTE, |weir| {
        (weir.counter("weir_records_out_total", &[]) >= 12).then_some(())
    });
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn a_guest_that_spins_shows_within_ten_seconds() {
    let (input, output) = (Topic::create(1), Topic::create(1));
    let pipeline = Pipeline::new("p", &input, &output).transform(
        "act",
        "faulty",
        "deadline = \"60s\"\nrecord_deadline = \"60s\"",
    );
    let scratch = Scratch::new();
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_ready();
    input.produce([Record::new(None, Some(b"keep"))]);
    weir.wait_until("it's through", MINUTE, |weir| {
        (weir.counter("weir_records_out_total", &[]) == 1).then_some(())
    });
    let labels = format!(
        "{{partition=\"0\",pipeline=\"p\",topic=\"{}\"}}",
        input.name()
    );
    let age = |weir: &Weir| value(weir, &format!("weir_record_age_seconds{labels}"));
    let before = age(&weir).unwrap();
    input.produce([Record::new(None, Some(b"spin"))]);
    let began = Instant::now();
    let why = weir.wait_not_ready(&["busy with one batch for"]);
    assert!(began.elapsed().as_secs() < 10, "{why}");
    assert!(age(&weir).unwrap() >= before + 4.0);
    weir.kill();
}

/// Asks for `/metrics` again and again and reads no answer, until it's hung up on.
fn hang(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(MINUTE)).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: weir\r\n\r\n".repeat(1_000);
    while stream.write_all(&request).is_ok() {}
}

#[test]
fn scrapers_that_hang_hold_nothing_up() {
    const SCRAPERS: u64 = 20;
    let (input, output) = (Topic::create(2), Topic::create(2));
    let pipeline = Pipeline::new("stocks", &input, &output).seed("");
    let scratch = Scratch::new();
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_ready();
    let address = weir.admin().unwrap();
    let hanging: Vec<_> = (0..SCRAPERS)
        .map(|_| thread::spawn(move || hang(address)))
        .collect();
    // One begins a request with a body that never comes.
    let mut waiting = TcpStream::connect(address).unwrap();
    waiting.set_read_timeout(Some(MINUTE)).unwrap();
    let head = "POST /v1/pipelines/stocks/transforms/even/rollback HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    waiting.write_all(head.as_bytes()).unwrap();
    input.produce(seed::records(0..10_000));
    weir.wait_done(&input, pipeline.group());
    // Nobody else waits for them.
    assert_eq!(weir.get("/readyz").map(|it| it.status), Some(200));
    hanging.into_iter().for_each(|it| it.join().unwrap());
    let dropped = |weir: &Weir, reason: &str| {
        let reason = format!("reason=\"{reason}\"");
        weir.counter("weir_admin_connections_dropped_total", &[&reason])
    };
    weir.wait_until("all are counted", MINUTE, |weir| {
        (dropped(weir, "unread") == SCRAPERS).then_some(())
    });
    let unread = "doesn't read its answer";
    weir.wait_log(&[unread]);
    assert!(weir.log().matches(unread).count() <= 3, "{}", weir.log());

    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("the body didn't come"),
        "{answer}"
    );

    // More than there is room for, and none says a word: they give way to whoever does.
    let silent: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let ready = http::get(address, "/readyz").expect("it's heard at once");
    assert_eq!(ready.status, 200);
    weir.wait_log(&["all connections of the admin endpoints are taken"]);
    assert!(dropped(&weir, "surplus") > 300 - 256);
    input.produce(seed::records(10_000..20_000));
    weir.wait_done(&input, pipeline.group());
    drop(silent);
    assert_eq!(weir.terminate(), Some(0));
    seed::check(&input.consume(), &output.consume());
}

#[test]
fn each_part_logs_at_its_level() {
    let (input, output) = (Topic::create(1), Topic::create(1));
    let pipeline = Pipeline::new("p", &input, &output);
    let scratch = Scratch::new();
    let text = config(&[&pipeline]);
    // "starting" and "assigned" are said by others than the app.
    for (filter, others) in [("info", 2), ("warn,weir::app=info", 0)] {
        let mut weir = Weir::start_with(&scratch, &text, &["--log", filter]);
        weir.wait_ready();
        assert_eq!(weir.terminate(), Some(0));
        let log = weir.log();
        assert!(log.contains(" INFO weir::app: "), "{filter}: {log}");
        let said = [
            " INFO weir::pipeline: starting",
            " INFO weir::worker: assigned",
        ];
        let said = said.into_iter().filter(|it| log.contains(it)).count();
        assert_eq!(said, others, "{filter}: {log}");
    }
}

#[test]
fn the_log_for_programs_is_an_object_a_line() {
    let (input, output) = (Topic::create(1), Topic::create(1));
    let pipeline = Pipeline::new("p", &input, &output).transform("act", "faulty", "");
    let scratch = Scratch::new();
    let text = config(&[&pipeline]);
    let mut weir = Weir::start_with(&scratch, &text, &["--log-format", "json"]);
    weir.wait_log(&["admin endpoints"]);
    input.produce([
        Record::new(None, Some(b"keep")),
        Record::new(None, Some(b"log:2")),
    ]);
    weir.wait_log(&["weir::guest"]);
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    let log = weir.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|it| serde_json::from_str(it).unwrap_or_else(|why| panic!("{why}: {it}")))
        .collect();
    let guests: Vec<_> = lines
        .iter()
        .filter(|it| it["target"] == "weir::guest")
        .collect();
    assert_eq!(guests.len(), 2, "{log}");
    let it = guests[0];
    for (key, value) in [
        ("pipeline", "p".into()),
        ("transform", "act".into()),
        ("version", 1.into()),
        ("topic", input.name().into()),
        ("partition", 0.into()),
        ("offset", 1.into()),
        ("level", "INFO".into()),
    ] {
        let value: serde_json::Value = value;
        assert_eq!(it[key], value, "{key}: {it}");
    }
    assert!(
        it["message"].is_string() && it["timestamp"].is_string(),
        "{it}"
    );

    // What it ends with, too.
    let arguments = ["run", "-c", "nowhere.toml", "--log-format", "json"];
    let finished = Weir::command(&scratch, MINUTE, &arguments);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    let end: serde_json::Value = serde_json::from_str(finished.stderr.trim()).unwrap();
    let message = end["message"].as_str().unwrap();
    assert!(message.contains("nowhere.toml"), "{end}");
}
