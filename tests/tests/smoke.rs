//! The broker and the harness, without Weir: if these fail, no other test here can be believed.

use weir_tests::{Consumed, Record, Topic};

/// Record `n`: every kind of null, empty and non-UTF-8 bytes, in turn.
fn record(n: i64) -> Record {
    let bytes = n.to_be_bytes();
    let some = |kind: i64| match kind % 3 {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some([&bytes[..], b"\xff\x00\xfe"].concat()),
    };
    let record = Record {
        key: some(n),
        value: some(n / 3),
        ..Record::default()
    };
    let record = record
        .partition((n % 4) as i32)
        // Years before any retention time: the broker must keep them all the same.
        .timestamp(1_000 + n);
    match n % 5 {
        0 => record,
        1 => record.header(b"one", Some(&bytes)),
        2 => record.header(b"null", None).header(b"empty", Some(b"")),
        3 => record
            .header(b"same", Some(b"1"))
            .header(b"other", Some(b"2"))
            .header(b"same", Some(b"3")),
        _ => record.header(b"\xff\xfe", Some(b"\x00\xff")),
    }
}

#[test]
fn what_was_produced_is_consumed_byte_for_byte() {
    let topic = Topic::create(4);
    topic.produce((0..1_000).map(record));

    let consumed = topic.consume();
    assert_eq!(consumed.len(), 1_000);
    let mut expected = Vec::new();
    for partition in 0..4 {
        for offset in 0..250 {
            let record = record(offset * 4 + i64::from(partition));
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
