use super::*;
use crate::io::Unread;

#[test]
fn every_partition_comes_in_order_and_whole() {
    let cluster = cluster(4);
    Writer::new(&producer(&cluster, &[])).numbers(4, 0..40_000);
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.until(|reader| reader.count() >= 40_000);
    for partition in 0..4 {
        let expected: Vec<u64> = (0..40_000)
            .filter(|number| number % 4 == partition)
            .collect();
        assert_eq!(reader.numbers(partition as i32), expected);
        let offsets: Vec<u64> = reader
            .batches
            .iter()
            .filter(|batch| batch.partition == partition as i32)
            .flat_map(|batch| batch.offsets.clone())
            .collect();
        assert_eq!(offsets, (0..10_000).collect::<Vec<u64>>());
    }
}

#[test]
fn a_batch_ends_at_its_limits_and_the_rest_comes_next() {
    let cluster = cluster(1);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    let headers = Headers::default();
    for tag in 0..10 {
        let value = vec![b'0' + tag as u8; 100];
        writer
            .sink
            .send(&outgoing(Some(0), &value, &headers, tag))
            .unwrap();
    }
    writer.settle(10);
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.limit = ReadLimit {
        records: 4,
        bytes: 250,
    };
    reader.until(|reader| reader.count() >= 10);
    let sizes: Vec<usize> = reader.batches.iter().map(Batch::len).collect();
    assert!(sizes.iter().all(|&size| size <= 2), "{sizes:?}");
    let first: Vec<u8> = reader
        .batches
        .iter()
        .flat_map(|batch| {
            batch
                .values
                .iter()
                .map(|value| value.unwrap()[0])
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(first, b"0123456789");

    // A single record may be larger than the limit.
    reader.source.seek(&partition(0), 0).unwrap();
    reader.limit = ReadLimit {
        records: 1000,
        bytes: 1,
    };
    reader.batches.clear();
    reader.until(|reader| reader.count() >= 10);
    assert!(reader.batches.iter().all(|batch| batch.len() == 1));
}

#[test]
fn headers_count_for_the_limit_and_stay_with_their_record() {
    let cluster = cluster(1);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    let mut headers = Headers::default();
    headers.push_record(0, [(&b"name"[..], Some(&[b'x'; 196][..]))]);
    for tag in 0..4 {
        let record = Outgoing {
            header_range: (0, 1),
            appended: &[],
            ..outgoing(Some(0), b"", &headers, tag)
        };
        writer.sink.send(&record).unwrap();
    }
    writer.settle(4);
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.limit = ReadLimit {
        records: 1000,
        bytes: 450,
    };
    reader.until(|reader| reader.count() >= 4);
    for batch in &reader.batches {
        assert!(batch.len() <= 2);
        assert_eq!(batch.headers.counts, vec![1; batch.len()]);
        assert_eq!(batch.headers.names.len(), batch.len());
    }
}

#[test]
fn what_is_sent_comes_back_byte_for_byte() {
    let cluster = cluster(1);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    let mut headers = Headers::default();
    headers.push_record(0, []);
    headers.push_record(
        1,
        [
            (&b"again"[..], Some(&b"1"[..])),
            (b"again", None),
            (b"again", Some(b"")),
            (b"\xff\xfe", Some(b"\x00\xff")),
            (b"", Some(b"no name")),
        ],
    );
    headers.push_record(2, [(&b"last"[..], None)]);
    type Fields = (Option<&'static [u8]>, Option<&'static [u8]>, i64);
    let records: [Fields; 4] = [
        (None, None, 1),
        (Some(b""), Some(b""), 1_634_221_557_011),
        (Some(b"\xff\x00"), None, 9_999_999_999_999),
        (None, Some(b"\x00\x80"), 5),
    ];
    let starts = headers.starts(records.len());
    for (index, (key, value, timestamp)) in records.into_iter().enumerate() {
        let record = Outgoing {
            output: 0,
            partition: Some(0),
            key,
            value,
            timestamp,
            headers: &headers,
            header_range: (starts[index] as usize, starts[index + 1] as usize),
            appended: &[],
            tag: index as u64,
        };
        writer.sink.send(&record).unwrap();
    }
    writer.settle(records.len());
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.until(|reader| reader.count() >= records.len());
    let mut place = 0;
    for batch in &reader.batches {
        let starts_in = batch.headers.starts(batch.len());
        for index in 0..batch.len() {
            let (key, value, timestamp) = records[place];
            assert_eq!(batch.keys.get(index), key);
            assert_eq!(batch.values.get(index), value);
            assert_eq!(batch.timestamps[index], timestamp);
            let came: Vec<_> = batch
                .headers
                .range(starts_in[index] as usize..starts_in[index + 1] as usize)
                .collect();
            let sent: Vec<_> = headers
                .range(starts[place] as usize..starts[place + 1] as usize)
                .collect();
            assert_eq!(came, sent);
            place += 1;
        }
        assert!(batch.timestamp_types.is_empty());
    }
}

#[test]
fn a_seek_goes_back_and_forth_whatever_is_in_hand() {
    let cluster = cluster(2);
    Writer::new(&producer(&cluster, &[])).numbers(2, 0..2_000);
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    // At once after the assignment, when nothing has been fetched.
    reader.join(2);
    reader.source.seek(&partition(0), 900).unwrap();
    assert_eq!(reader.source.position(&partition(0)), Some(900));
    reader.until(|reader| reader.count() >= 1_100);
    assert_eq!(
        reader.numbers(0),
        (900..1_000).map(|offset| offset * 2).collect::<Vec<_>>()
    );
    assert_eq!(reader.source.position(&partition(0)), Some(1_000));
    assert_eq!(reader.source.position(&partition(1)), Some(1_000));

    // Back, with all of it read; then with most of it in hand and in the queue.
    for (limit, back) in [(1_000, 10), (7, 500)] {
        reader.source.seek(&partition(0), 0).unwrap();
        let limit = ReadLimit {
            records: limit,
            bytes: 30,
        };
        let deadline = Instant::now() + PATIENCE;
        let first = loop {
            reader.events();
            if let Some(batch) = reader.source.read(&partition(0), limit).unwrap() {
                break batch;
            }
            assert!(Instant::now() < deadline);
            reader.waker.wait(PATIENCE).unwrap();
        };
        assert_eq!(first.offsets[0], 0);
        let end = first.offsets.last().unwrap() + 1;
        assert_eq!(reader.source.position(&partition(0)), Some(end));
        reader.source.seek(&partition(0), back).unwrap();
        assert_eq!(reader.source.position(&partition(0)), Some(back));
        reader.batches.clear();
        reader.until(|reader| reader.count() as u64 >= 1_000 - back);
        assert_eq!(
            reader.numbers(0),
            (back..1_000).map(|offset| offset * 2).collect::<Vec<_>>()
        );
    }
}

#[test]
fn an_offset_that_is_gone_is_an_error_that_stays() {
    let cluster = cluster(1);
    Writer::new(&producer(&cluster, &[])).numbers(1, 0..10);
    let group = GroupOffsets::new(&group(&cluster), "weir-test", PATIENCE).unwrap();
    group.alter(&[(partition(0), 5_000)]).unwrap();
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.join(1);
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        reader.events();
        match reader.source.read(&partition(0), EVERYTHING) {
            Ok(None) => {}
            Ok(Some(batch)) => panic!("came: {:?}", batch.offsets),
            Err(Unread::Gone(error)) => break format!("{error:#}"),
            Err(Unread::Failed(error)) => panic!("worth another try: {error:#}"),
        }
        assert!(Instant::now() < deadline);
        reader.waker.wait(PATIENCE).unwrap();
    };
    assert!(
        error.contains("in/0 has no offset 5000") && error.contains("weir offsets"),
        "{error}"
    );
    assert!(reader.source.read(&partition(0), EVERYTHING).is_err());
    assert!(reader.source.seek(&partition(0), 0).is_err());
    assert_eq!(reader.source.position(&partition(0)), Some(5_000));
}

#[test]
fn brokers_that_go_and_come_back_are_told_once_and_nothing_is_lost() {
    let cluster = cluster(1);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    writer.numbers(1, 0..10);
    let settings = consumer(&cluster, &[("reconnect.backoff.max.ms", "100")]);
    let mut reader = Reader::new(&settings, Start::Earliest);
    reader.until(|reader| reader.count() >= 10);
    cluster.stop_brokers().unwrap();
    reader.until(|reader| !reader.troubles.is_empty());
    cluster.start_brokers().unwrap();
    writer.numbers(1, 10..20);
    reader.until(|reader| reader.count() >= 20);
    assert_eq!(reader.numbers(0), (0..20).collect::<Vec<_>>());
    let mut kinds = reader.troubles.clone();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), reader.troubles.len(), "{:?}", reader.troubles);
}

fn group(cluster: &MockCluster) -> Settings {
    group_settings(
        &[("bootstrap.servers", &cluster.bootstrap_servers())],
        "weir-test",
    )
    .unwrap()
}
