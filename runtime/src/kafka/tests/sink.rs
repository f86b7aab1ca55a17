use super::*;

#[test]
fn every_tag_comes_back_once() {
    let cluster = cluster(4);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    let headers = Headers::default();
    for tag in 0..20_000u64 {
        let key = tag.to_string();
        let record = Outgoing {
            key: Some(key.as_bytes()),
            ..outgoing(None, b"value", &headers, tag << 32 | tag)
        };
        writer.sink.send(&record).unwrap();
        if tag % 1_000 == 0 {
            writer.serve();
        }
    }
    writer.settle(20_000);
    writer.serve();
    for tag in 0..20_000u64 {
        assert_eq!(writer.settled[&(tag << 32 | tag)], [Ok(())]);
    }
}

#[test]
fn a_purge_settles_what_no_broker_takes() {
    let cluster = cluster(1);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    writer.numbers(1, 0..10);
    cluster.stop_brokers().unwrap();
    let headers = Headers::default();
    for tag in 0..100 {
        writer
            .sink
            .send(&outgoing(Some(0), b"value", &headers, tag))
            .unwrap();
    }
    writer.serve();
    assert_eq!(writer.settled.len(), 10);
    writer.sink.purge();
    writer.settle(110);
    for tag in 0..100 {
        let results = &writer.settled[&tag];
        assert_eq!(results.len(), 1);
        assert!(
            results[0].as_ref().unwrap_err().contains("PURGE"),
            "{results:?}"
        );
    }
}

#[test]
fn records_that_cannot_be_sent_are_refused_one_by_one() {
    let cluster = cluster(2);
    let mut writer = Writer::new(&producer(&cluster, &[("message.max.bytes", "1000")]));
    writer.numbers(2, 0..2);
    let headers = Headers::default();
    let refusal = |writer: &mut Writer, record: &Outgoing<'_>| match writer.sink.send(record) {
        Err(SendError::Record(error)) => format!("{error:#}"),
        other => panic!("{other:?}"),
    };
    let large = vec![0; 2_000];
    let text = refusal(&mut writer, &outgoing(None, &large, &headers, 0));
    assert!(
        text.contains("takes 2070 bytes") && text.contains("message.max.bytes"),
        "{text}"
    );
    let record = Outgoing {
        timestamp: -5,
        ..outgoing(None, b"", &headers, 0)
    };
    assert!(refusal(&mut writer, &record).contains("timestamp -5"));
    let record = Outgoing {
        output: 1,
        ..outgoing(None, b"", &headers, 0)
    };
    assert!(refusal(&mut writer, &record).contains("no output 1"));
    writer.numbers(2, 2..4);
}

#[test]
fn a_record_that_the_broker_never_takes_is_told_from_one_to_try_again() {
    let cluster = cluster(1);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    writer.numbers(1, 0..1);
    cluster.fail(Request::Produce, &[Code::MSG_SIZE_TOO_LARGE]);
    let headers = Headers::default();
    let record = outgoing(Some(0), b"value", &headers, 7);
    writer.sink.send(&record).unwrap();
    writer.settle(2);
    let why = writer.settled[&7][0].clone().unwrap_err();
    assert!(
        why.starts_with("for good: ") && why.contains("max.message.bytes"),
        "{why}"
    );
}

#[test]
fn a_full_queue_takes_more_once_it_is_served() {
    let cluster = cluster(1);
    let mut settings = producer(&cluster, &[]);
    settings.push("queue.buffering.max.messages", 10);
    let mut writer = Writer::new(&settings);
    writer.numbers(1, 0..1);
    let headers = Headers::default();
    let mut refused = 0;
    for tag in 0..1_000 {
        loop {
            match writer
                .sink
                .send(&outgoing(Some(0), b"value", &headers, tag))
            {
                Ok(()) => break,
                Err(SendError::Full) => {
                    refused += 1;
                    writer.waker.wait(PATIENCE).unwrap();
                    writer.serve();
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    writer.settle(1_001);
    assert!(refused > 0);
}

#[test]
fn keys_go_where_javas_partitioner_puts_them() {
    let cluster = cluster(8);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    let headers = Headers::default();
    // From Kafka's own DefaultPartitioner: (murmur2(key) & 0x7fffffff) % 8, with the hashes of Kafka's UtilsTest.
    let expected: [(&[u8], i32); 5] = [
        (b"21", (-973_932_308i32 & i32::MAX) % 8),
        (b"foobar", (-790_332_482i32 & i32::MAX) % 8),
        (
            b"a-little-bit-long-string",
            (-985_981_536i32 & i32::MAX) % 8,
        ),
        (
            b"a-little-bit-longer-string",
            (-1_486_304_829i32 & i32::MAX) % 8,
        ),
        (b"abc", (479_470_107 & i32::MAX) % 8),
    ];
    for (tag, (key, _)) in expected.iter().enumerate() {
        let record = Outgoing {
            key: Some(key),
            ..outgoing(None, b"value", &headers, tag as u64)
        };
        writer.sink.send(&record).unwrap();
    }
    writer.settle(expected.len());
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.until(|reader| reader.count() >= expected.len());
    for (key, partition) in expected {
        let batch = reader
            .batches
            .iter()
            .find(|batch| batch.keys.iter().any(|found| found == Some(key)))
            .unwrap();
        assert_eq!(
            batch.partition,
            partition,
            "{}",
            String::from_utf8_lossy(key)
        );
    }
}
