use super::*;

fn committed(cluster: &MockCluster, partitions: i32) -> Vec<Option<u64>> {
    let settings = group_settings(
        &[("bootstrap.servers", &cluster.bootstrap_servers())],
        "weir-test",
    )
    .unwrap();
    let group = GroupOffsets::new(&settings, "weir-test", PATIENCE).unwrap();
    let partitions: Vec<_> = (0..partitions).map(partition).collect();
    group.committed(&partitions).unwrap()
}

/// What two members do: one has all, the other comes and takes half, records go on, the first goes and the other has all.
fn two_members(settings: &[(&str, &str)]) {
    let cluster = cluster(4);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    writer.numbers(4, 0..4_000);
    let mut one = Reader::new(&consumer(&cluster, settings), Start::Earliest);
    one.commits = true;
    one.until(|one| one.count() >= 4_000);
    assert_eq!(one.assigned.len(), 4);

    let mut two = Reader::new(&consumer(&cluster, settings), Start::Earliest);
    two.commits = true;
    let deadline = Instant::now() + PATIENCE;
    while (one.assigned.len(), two.assigned.len()) != (2, 2) {
        assert!(
            Instant::now() < deadline,
            "{:?} {:?}",
            one.assigned,
            two.assigned
        );
        one.serve();
        two.serve();
        two.waker.wait(Duration::from_millis(20)).unwrap();
    }
    writer.numbers(4, 4_000..8_000);
    while one.count() + two.count() < 8_000 {
        assert!(Instant::now() < deadline, "{} {}", one.count(), two.count());
        one.serve();
        two.serve();
        two.waker.wait(Duration::from_millis(20)).unwrap();
    }
    let offsets: Vec<_> = one
        .assigned
        .clone()
        .into_iter()
        .map(|partition| (partition.clone(), one.source.position(&partition).unwrap()))
        .collect();
    one.source.commit(&offsets, true).unwrap();
    let (first, given_up) = (one.batches.clone(), one.assigned.clone());
    drop(one);
    two.until(|two| two.assigned.len() == 4);
    writer.numbers(4, 8_000..12_000);
    two.until(|two| two.numbers(given_up[0].partition).last() >= Some(&11_996));
    two.until(|two| two.count() + first.iter().map(Batch::len).sum::<usize>() >= 12_000);

    // Each record came once, to one of the two, in order.
    for number in 0..4 {
        let mut came: Vec<u64> = Vec::new();
        for batch in first
            .iter()
            .chain(&two.batches)
            .filter(|batch| batch.partition == number)
        {
            came.extend(&batch.offsets);
        }
        assert_eq!(came, (0..3_000).collect::<Vec<u64>>());
    }
}

#[test]
fn two_members_share_the_partitions_cooperatively() {
    two_members(&[]);
}

#[test]
fn two_members_share_the_partitions_eagerly() {
    two_members(&[("partition.assignment.strategy", "range")]);
}

#[test]
fn the_new_group_protocol_works() {
    let cluster = cluster(2);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    writer.numbers(2, 0..100);
    let mut reader = Reader::new(
        &consumer(&cluster, &[("group.protocol", "consumer")]),
        Start::Earliest,
    );
    reader.until(|reader| reader.count() >= 100);
    assert_eq!(
        reader.numbers(1),
        (0..100)
            .filter(|number| number % 2 == 1)
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_static_member_that_comes_back_has_its_partitions() {
    let cluster = cluster(2);
    Writer::new(&producer(&cluster, &[])).numbers(2, 0..100);
    let mut settings = consumer(&cluster, &[]);
    settings.push("group.instance.id", "weir-here-0");
    for _ in 0..2 {
        let mut reader = Reader::new(&settings, Start::Earliest);
        reader.until(|reader| reader.count() >= 100);
    }
}

#[test]
fn patterns_are_subscribed_to() {
    let cluster = cluster(1);
    cluster.create_topic("other", 1).unwrap();
    Writer::new(&producer(&cluster, &[])).numbers(1, 0..10);
    let mut reader = Reader::of(&["^i.$"], &consumer(&cluster, &[]), Start::Earliest);
    reader.until(|reader| reader.count() >= 10);
    assert_eq!(reader.assigned, [partition(0)]);
}

#[test]
fn a_restart_goes_on_at_the_commit() {
    let cluster = cluster(2);
    Writer::new(&producer(&cluster, &[])).numbers(2, 0..200);
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.until(|reader| reader.count() >= 200);
    reader.source.commit(&[(partition(0), 40)], true).unwrap();
    assert_eq!(committed(&cluster, 2), [Some(40), None]);
    // Not waited for: it's there after a while.
    reader.source.commit(&[(partition(1), 70)], false).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while committed(&cluster, 2) != [Some(40), Some(70)] {
        assert!(Instant::now() < deadline);
    }
    drop(reader);

    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.join(2);
    assert_eq!(reader.source.position(&partition(0)), Some(40));
    reader.until(|reader| reader.count() >= 90);
    assert_eq!(reader.numbers(0)[0], 80);
    assert_eq!(reader.numbers(1)[0], 141);
}

#[test]
fn a_commit_that_fails_later_is_trouble() {
    let cluster = cluster(1);
    Writer::new(&producer(&cluster, &[])).numbers(1, 0..10);
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.until(|reader| reader.count() >= 10);
    cluster.fail(Request::OffsetCommit, &[errors::GROUP_AUTHORIZATION_FAILED]);
    reader.source.commit(&[(partition(0), 10)], false).unwrap();
    reader.until(|reader| !reader.troubles.is_empty());
    assert!(
        reader.troubles[0].contains("can't commit offsets"),
        "{:?}",
        reader.troubles
    );
    cluster.fail(Request::OffsetCommit, &[errors::GROUP_AUTHORIZATION_FAILED]);
    assert!(reader.source.commit(&[(partition(0), 10)], true).is_err());
    reader.source.commit(&[(partition(0), 10)], true).unwrap();
}

#[test]
fn start_says_where_a_new_group_begins() {
    let cluster = cluster(1);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    writer.numbers(1, 0..10);
    // The mock cluster finds no record by its time: any time is after the last.
    for (start, first) in [(Start::Earliest, 0), (Start::Time(99_999), 10)] {
        let mut reader = Reader::new(&consumer(&cluster, &[]), start);
        reader.join(1);
        assert_eq!(
            reader.source.position(&partition(0)),
            Some(first),
            "{start:?}"
        );
    }
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Latest);
    reader.join(1);
    assert_eq!(reader.source.position(&partition(0)), Some(10));
    writer.numbers(1, 10..11);
    reader.until(|reader| reader.count() >= 1);
    assert_eq!(reader.numbers(0), [10]);
}

#[test]
fn a_member_that_is_dropped_leaves_whatever_its_state() {
    let cluster = cluster(2);
    Writer::new(&producer(&cluster, &[])).numbers(2, 0..100);
    // Before it has joined, with an assignment unanswered, and with records in hand.
    drop(Reader::new(&consumer(&cluster, &[]), Start::Earliest));
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    let deadline = Instant::now() + PATIENCE;
    while !matches!(reader.source.event(), Some(Event::Assigned(_))) {
        assert!(Instant::now() < deadline);
        reader.waker.wait(PATIENCE).unwrap();
    }
    drop(reader);
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.join(2);
    let limit = ReadLimit {
        records: 10,
        bytes: 1,
    };
    while reader.source.read(&partition(0), limit).unwrap().is_none() {
        assert!(Instant::now() < deadline);
        reader.waker.wait(PATIENCE).unwrap();
        reader.events();
    }
    drop(reader);
    // It left, so the next doesn't wait for its session to end.
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.until(|reader| reader.count() >= 100);
    cluster.stop_brokers().unwrap();
    drop(reader);
}
