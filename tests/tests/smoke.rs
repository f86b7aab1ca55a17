//! The broker, the harness and the servers that it starts, without Weir: if these fail, no other test here can be believed.

use weir_tests::{
    Consumed, Influx, MINUTE, Prometheus, Record, Scratch, Topic, eventually, promtool,
};
use xtask::http;

use crate::records::odd;

#[test]
fn what_was_produced_is_consumed_byte_for_byte() {
    let topic = Topic::create(4);
    topic.produce((0..1_000).map(odd));

    let consumed = topic.consume();
    assert_eq!(consumed.len(), 1_000);
    let mut expected = Vec::new();
    for partition in 0..4 {
        for offset in 0..250 {
            let record = odd(offset * 4 + i64::from(partition));
            expected.push(Consumed {
                partition,
                offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: record.headers,
            });
        }
    }
    assert_eq!(consumed, expected);
    assert_eq!(topic.ends(), [250; 4]);
    assert_eq!(topic.consume_uncommitted(), expected);
}

#[test]
fn records_with_a_key_go_where_java_would_put_them() {
    let topic = Topic::create(4);
    // The hashes are those of UtilsTest.testMurmur2 in Apache Kafka; it takes (hash & 0x7fffffff) % partitions.
    let cases = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("abc", 479_470_107),
    ];
    topic.produce(cases.map(|(key, _)| Record::new(Some(key.as_bytes()), None)));
    for record in topic.consume() {
        let key = record.key.as_deref().unwrap_or_default();
        let (_, hash) = cases
            .iter()
            .find(|(case, _)| case.as_bytes() == key)
            .unwrap();
        assert_eq!(record.partition, (hash & 0x7fff_ffff) % 4, "{key:?}");
    }
    assert_eq!(topic.ends().iter().sum::<i64>(), cases.len() as i64);
}

#[test]
fn a_group_that_never_was_has_committed_nothing() {
    let topic = Topic::create(2);
    assert_eq!(topic.committed("weir-tests-nobody"), [None, None]);
}

#[test]
fn what_is_written_to_influxdb_is_read_again_also_after_a_restart() {
    let scratch = Scratch::new();
    let mut influx = Influx::start(&scratch);
    influx.create("weir");
    influx.write(
        "weir",
        "m,a=x value=1 1000\nm,a=y value=2,0.5=7,+Inf=8 1000\nm,a=y value=3 2000",
    );
    let all = |influx: &Influx, field: &str, tags: &[(&str, &str)]| {
        influx.last_sum("weir", "m", field, tags)
    };
    assert_eq!(all(&influx, "value", &[]), Some(4.0));
    assert_eq!(all(&influx, "value", &[("a", "y")]), Some(3.0));
    assert_eq!(all(&influx, "value", &[("a", "z")]), None);
    assert_eq!(all(&influx, "0.5", &[]), Some(7.0));
    assert_eq!(all(&influx, "+Inf", &[]), Some(8.0));
    influx.stop();
    influx.start_again();
    assert_eq!(all(&influx, "value", &[]), Some(4.0));
    let error = influx.try_ask("weir", "SELECT").unwrap_err();
    assert!(error.contains("error parsing query"), "{error}");
}

#[test]
fn without_its_login_nobody_gets_into_influxdb() {
    let scratch = Scratch::new();
    let influx = Influx::start_with_login(&scratch, "weir", "it's secret");
    influx.create("weir");
    influx.write("weir", "m value=1");
    assert_eq!(influx.last_sum("weir", "m", "value", &[]), Some(1.0));
    let write = |path| http::request(influx.address(), "POST", path, &[], b"m value=1");
    let without = write("/write?db=weir").unwrap();
    assert_eq!(without.status, 401, "{}", without.body);
    let wrong = write("/write?db=weir&u=weir&p=other").unwrap();
    assert_eq!(wrong.status, 401, "{}", wrong.body);
}

#[test]
fn prometheus_scrapes_and_answers() {
    let scratch = Scratch::new();
    let other = Prometheus::start(&scratch, &[]);
    let prometheus = Prometheus::start(&scratch, &[other.address()]);
    eventually("a scrape", MINUTE, || {
        prometheus.number("up{job=\"weir\"} == 1")
    });
    let instances = prometheus.label_values("up", "instance");
    assert_eq!(instances, Ok(vec![other.address().to_string()]));
    assert_eq!(prometheus.number("nothing"), None);
    let error = prometheus.query("sum(").unwrap_err();
    assert!(error.starts_with("400"), "{error}");
}

#[test]
fn promtool_tells_right_from_wrong() {
    let metrics = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n";
    let check = |metrics: &str| promtool(&["check", "metrics"], metrics).0;
    assert!(check(metrics));
    assert!(!check(&metrics.replace("a_total", "a")));
}
