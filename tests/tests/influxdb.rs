//! Metrics in a real InfluxDB: the same numbers as at `/metrics`, and nothing of it stands in a record's way.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;

use weir_tests::{Influx, MINUTE, Pipeline, Record, Scratch, Topic, Weir, config, eventually};

struct Site {
    scratch: Scratch,
    input: Topic,
    output: Topic,
    pipeline: Pipeline,
}

impl Site {
    fn new() -> Site {
        let (input, output) = (Topic::create(2), Topic::create(2));
        let pipeline = Pipeline::new("p", &input, &output)
            .set("workers = 2")
            .transform("even", "filter", "config = { keep = \"n % 2 == 0\" }");
        Site {
            scratch: Scratch::new(),
            input,
            output,
            pipeline,
        }
    }

    /// Weir with these lines in [influxdb].
    fn start(&self, lines: &str) -> Weir {
        let text = config(&[&self.pipeline]);
        let text = text.replace("[kafka]", &format!("[influxdb]\n{lines}\n\n[kafka]"));
        let mut weir = Weir::start(&self.scratch, &text);
        weir.wait_ready();
        weir
    }

    /// So many records go through, whatever becomes of the metrics.
    fn pass(&self, weir: &mut Weir, count: u64) {
        let before = self.output.len();
        self.input.produce((0..count).map(|n| {
            let value = format!("{{\"n\":{n}}}");
            Record::new(Some(b"key"), Some(value.as_bytes()))
        }));
        weir.wait_done(&self.input, self.pipeline.group());
        assert_eq!(self.output.len(), before + count as usize / 2);
    }
}

fn points(weir: &Weir, result: &str) -> u64 {
    let result = format!("result=\"{result}\"");
    weir.counter("weir_influxdb_points_total", &[&result])
}

#[test]
fn values_are_those_of_the_counters() {
    let site = Site::new();
    let influx = Influx::start_with_login(&site.scratch, "weir", "it's a secret");
    influx.create("metrics");
    let lines = format!(
        "url = {:?}\ndatabase = \"metrics\"\nusername = \"weir\"\npassword = \"it's a secret\"\ninterval = \"200ms\"\ntags = {{ site = \"a b,c\" }}",
        influx.url()
    );
    let mut weir = site.start(&lines);
    site.pass(&mut weir, 1_000);
    for (name, labels) in [
        ("weir_records_in_total", &["pipeline"][..]),
        (
            "weir_records_out_total",
            &["pipeline", "topic", "partition"],
        ),
        ("weir_bytes_in_total", &["pipeline"]),
        ("weir_records_dropped_total", &["transform", "version"]),
        ("weir_transform_batches_total", &["transform"]),
    ] {
        let counted = weir.counter(name, &["pipeline=\"p\""]) as f64;
        assert!(counted > 0.0, "{name}");
        let read = eventually(name, MINUTE, || {
            let tags: Vec<String> = labels.iter().map(|it| format!("{it:?}")).collect();
            let query = format!(
                "SELECT last(value) FROM {name} WHERE pipeline = 'p' AND site = 'a b,c' GROUP BY {}, \"partition\"",
                tags.join(", ")
            );
            let rows = influx.rows("metrics", &query);
            let sum: f64 = rows.iter().filter_map(|it| it[1].as_f64()).sum();
            (sum == counted).then_some(sum)
        });
        assert_eq!(read, counted, "{name}");
    }
    let query = "SELECT last(count), last(sum), last(\"+Inf\") FROM weir_transform_batch_duration_seconds WHERE pipeline = 'p'";
    let rows = influx.rows("metrics", query);
    let batches = weir.counter("weir_transform_batches_total", &[]) as f64;
    assert_eq!(
        (rows[0][1].as_f64(), rows[0][3].as_f64()),
        (Some(batches), Some(batches)),
        "{rows:?}"
    );
    assert!(rows[0][2].as_f64() > Some(0.0), "{rows:?}");
    assert!(points(&weir, "written") > 0);
    assert_eq!(points(&weir, "lost"), 0);
    assert!(!weir.log().contains("it's a secret"));
}

#[test]
fn what_could_not_be_written_comes_later() {
    let site = Site::new();
    let mut influx = Influx::start(&site.scratch);
    influx.create("metrics");
    let lines = format!(
        "url = {:?}\ndatabase = \"metrics\"\ninterval = \"100ms\"",
        influx.url()
    );
    let mut weir = site.start(&lines);
    weir.wait_until("points are written", MINUTE, |weir| {
        (points(weir, "written") > 0).then_some(())
    });
    influx.stop();
    // It may answer with an error of its own while it ends; then it's gone, twice at least.
    weir.wait_until("writes fail three times", MINUTE, |weir| {
        (weir.counter("weir_influxdb_failures_total", &[]) >= 3).then_some(())
    });
    // Records flow on, and each cause is said once.
    site.pass(&mut weir, 100);
    let log = weir.log();
    let said = log
        .lines()
        .filter_map(|it| it.split_once("InfluxDB doesn't take the metrics: "));
    let said: Vec<&str> = said.map(|(_, cause)| cause).collect();
    let away = said.iter().filter(|it| it.contains("Connection refused"));
    assert_eq!(away.count(), 1, "{log}");
    assert_eq!(
        said.iter().collect::<BTreeSet<_>>().len(),
        said.len(),
        "{log}"
    );
    let waiting = weir.counter("weir_influxdb_buffered_points", &[]);
    assert!(waiting > 0);
    influx.start_again();
    weir.wait_log(&["InfluxDB takes the metrics again"]);
    assert_eq!(points(&weir, "lost"), 0);
    // One that takes a connection and says nothing holds nothing up either.
    influx.pause();
    site.pass(&mut weir, 100);
    influx.resume();
    assert_eq!(weir.terminate(), Some(0));
    // The last write is after the last record.
    let query =
        "SELECT last(value) FROM weir_records_in_total WHERE pipeline = 'p' GROUP BY \"partition\"";
    let rows = influx.rows("metrics", query);
    let sum: f64 = rows.iter().filter_map(|it| it[1].as_f64()).sum();
    assert_eq!(sum, 200.0, "{rows:?}");
}

#[test]
fn a_full_buffer_is_told_of_and_counted() {
    let site = Site::new();
    let mut influx = Influx::start(&site.scratch);
    influx.create("metrics");
    influx.stop();
    let lines = format!(
        "url = {:?}\ndatabase = \"metrics\"\ninterval = \"100ms\"\nbuffer = \"64KiB\"",
        influx.url()
    );
    let mut weir = site.start(&lines);
    weir.wait_log(&[
        "the buffer for InfluxDB is full",
        "weir_influxdb_points_total",
    ]);
    site.pass(&mut weir, 1_000);
    weir.wait_until("points are lost", MINUTE, |weir| {
        (points(weir, "lost") > 1_000).then_some(())
    });
    // No line has fewer bytes than this.
    let waiting = weir.counter("weir_influxdb_buffered_points", &[]);
    assert!((1..64 * 1024 / 50).contains(&waiting), "{waiting}");
    let full = weir
        .log()
        .matches("the buffer for InfluxDB is full")
        .count();
    assert_eq!(full, 1, "{}", weir.log());
    assert_eq!(points(&weir, "written"), 0);
    // The newest are there once it's back.
    influx.start_again();
    weir.wait_until("points are written", MINUTE, |weir| {
        (points(weir, "written") > 0).then_some(())
    });
    assert_eq!(weir.terminate(), Some(0));
    let sum = influx.last_sum("metrics", "weir_records_in_total", "value", &[]);
    assert_eq!(sum, Some(1_000.0));
}

#[test]
fn who_is_not_let_in_is_told_what_to_do() {
    let site = Site::new();
    let influx = Influx::start_with_login(&site.scratch, "weir", "right");
    for (place, words) in [
        (
            "database = \"metrics\"\nusername = \"weir\"\npassword = \"wrong\"",
            ["401", "check `username` and `password`"],
        ),
        (
            "database = \"nowhere\"\nusername = \"weir\"\npassword = \"right\"",
            ["404", "CREATE DATABASE"],
        ),
        (
            "org = \"o\"\nbucket = \"b\"\ntoken = \"t\"",
            ["404", "check `org`, `bucket` and `url`"],
        ),
    ] {
        let lines = format!("url = {:?}\n{place}\ninterval = \"100ms\"", influx.url());
        let mut weir = site.start(&lines);
        weir.wait_log(&words);
        site.pass(&mut weir, 10);
        assert_eq!(points(&weir, "written"), 0);
        assert!(weir.counter("weir_influxdb_failures_total", &[]) > 0);
        assert_eq!(weir.terminate(), Some(0));
    }
}

/// Stands in for an InfluxDB 2, which Debian has no package of: reads a request whole and answers with this status and
/// body. The request's head, in lower case, and body.
fn answer(listener: &TcpListener, status: &str, body: &str) -> (String, String) {
    let (stream, _) = eventually("a request", MINUTE, || listener.accept().ok());
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|it| it.strip_prefix("content-length: "));
    let mut lines = vec![0; length.unwrap().parse().unwrap()];
    reader.read_exact(&mut lines).unwrap();
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    (&stream).write_all(answer.as_bytes()).unwrap();
    (head, String::from_utf8(lines).unwrap())
}

#[test]
fn version_2_gets_its_own_request() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Nobody waits for ever for a request that doesn't come.
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let lines = format!(
        "url = \"{url}/\"\norg = \"my org\"\nbucket = \"b/1\"\ntoken = \"secret-token\"\ninterval = \"100ms\""
    );
    let mut weir = site.start(&lines);
    // As InfluxDB 2 says it to whom it doesn't know.
    let stranger = "{\"code\":\"unauthorized\",\"message\":\"unauthorized access\"}";
    let (head, body) = answer(&listener, "401 Unauthorized", stranger);
    assert!(
        head.starts_with("post /api/v2/write?org=my%20org&bucket=b%2f1&precision=ms http/1.1")
            || head.starts_with("post /api/v2/write?org=my+org&bucket=b%2f1&precision=ms http/1.1"),
        "{head}"
    );
    assert!(head.contains("authorization: token secret-token"), "{head}");
    assert!(
        body.starts_with("process_") || body.starts_with("weir_"),
        "{body}"
    );
    weir.wait_log(&["401", "unauthorized access", "`token`"]);
    assert!(weir.counter("weir_influxdb_failures_total", &[]) > 0);
    // Its own limit, and then the token is right.
    let (_, whole) = answer(&listener, "413 Request Entity Too Large", "");
    let (_, half) = answer(&listener, "204 No Content", "");
    let lines = |body: &str| body.lines().count();
    assert_eq!(lines(&half), lines(&whole).div_ceil(2));
    assert!(whole.starts_with(&half), "in their order: {half}");
    thread::spawn(move || {
        loop {
            answer(&listener, "204 No Content", "");
        }
    });
    weir.wait_log(&["fewer points at once", "takes the metrics again"]);
    site.pass(&mut weir, 10);
    weir.wait_until("points count as written", MINUTE, |weir| {
        (points(weir, "written") > lines(&whole) as u64).then_some(())
    });
    assert_eq!(points(&weir, "lost"), 0);
    assert!(!weir.log().contains("secret-token"));
    assert_eq!(weir.terminate(), Some(0));
}
