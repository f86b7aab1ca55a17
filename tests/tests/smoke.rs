//! The broker and the harness, without Weir: if these fail, no other test here can be believed.

use weir_tests::{Consumed, Record, Topic};

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
