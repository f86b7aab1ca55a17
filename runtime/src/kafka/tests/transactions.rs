use super::errors::*;
use super::*;
use crate::io::{Membership, Progress, TransactionError};

/// A sink with transactions.
fn exact(cluster: &MockCluster, more: &[(&str, &str)]) -> Writer {
    let servers = cluster.bootstrap_servers();
    let mut user = vec![("bootstrap.servers", servers.as_str()), ("linger.ms", "0")];
    user.extend(more);
    let options = ProducerOptions {
        user: &user,
        in_flight: 16 << 20,
        transactional_id: Some("weir-test-0"),
        max_message_bytes: &[],
    };
    Writer::new(&producer_settings(&options).unwrap())
}

/// Calls until it's done, as a worker does: when it's woken.
fn finish(
    writer: &mut Writer,
    mut step: impl FnMut(&mut KafkaSink) -> Result<Progress, TransactionError>,
) -> Result<(), TransactionError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Progress::Done = step(&mut writer.sink)? {
            return Ok(());
        }
        assert!(Instant::now() < deadline, "it's pending for ever");
        let _ = writer.try_serve();
        writer.waker.wait(PATIENCE).unwrap();
    }
}

fn open(writer: &mut Writer) -> Result<(), TransactionError> {
    finish(writer, |sink| sink.open(Duration::ZERO))
}

fn abort(writer: &mut Writer) -> Result<(), TransactionError> {
    finish(writer, |sink| sink.abort(Duration::ZERO))
}

/// A transaction of one record and one offset.
fn transaction(writer: &mut Writer, tag: u64, offset: u64) -> Result<(), TransactionError> {
    writer.sink.begin()?;
    let headers = Headers::default();
    let record = outgoing(Some(0), b"value", &headers, tag);
    writer.sink.send(&record).unwrap();
    let membership = membership();
    finish(writer, |sink| {
        sink.commit(&[(partition(0), offset)], &membership, Duration::ZERO)
    })
}

/// The test's group, without a member.
fn membership() -> Membership {
    Membership(b"\xff\xff\xff\xffweir-test\0\0".to_vec())
}

fn kind(result: &Result<(), TransactionError>) -> &'static str {
    match result {
        Ok(()) => "done",
        Err(TransactionError::Abort(_)) => "abort",
        Err(TransactionError::Fatal(_)) => "fatal",
        Err(TransactionError::Fenced(_)) => "fenced",
    }
}

/// Meets `errors` on the way, expects `expected`, and goes on as the answer says.
fn check(request: Request, errors: &[Code], expected: &str) {
    let what = format!("{request:?} {errors:?}");
    let cluster = cluster(1);
    let mut writer = exact(&cluster, &[]);
    if let Request::InitProducerId = request {
        cluster.fail(request, errors);
        let opened = open(&mut writer);
        assert_eq!(kind(&opened), expected, "{what}: {opened:?}");
        met(&cluster, request, errors, expected);
        if opened.is_err() {
            open(&mut writer).unwrap();
        }
        transaction(&mut writer, 1, 1).unwrap();
        return;
    }
    open(&mut writer).unwrap();
    transaction(&mut writer, 1, 1).unwrap();
    cluster.fail(request, errors);
    let result = transaction(&mut writer, 2, 2);
    assert_eq!(kind(&result), expected, "{what}: {result:?}");
    met(&cluster, request, errors, expected);
    let _ = writer.try_serve();
    match result {
        Ok(()) => {}
        Err(TransactionError::Abort(_)) => abort(&mut writer).unwrap(),
        Err(TransactionError::Fatal(_) | TransactionError::Fenced(_)) => {
            assert_ne!(kind(&abort(&mut writer)), "abort");
            open(&mut writer).unwrap();
        }
    }
    let mut tag = 3;
    let mut result = transaction(&mut writer, tag, 3);
    if errors == [MESSAGE_TOO_LARGE] {
        // The refused record's sequence number is missing to the broker, and another abort makes the client begin anew.
        assert_eq!(kind(&result), "abort", "{what}: {result:?}");
        abort(&mut writer).unwrap();
        tag = 4;
        result = transaction(&mut writer, tag, 3);
    }
    result.unwrap();
    writer.settle(tag as usize);
    assert!(writer.settled.values().all(|results| results.len() == 1));
    assert_eq!(writer.settled[&tag], [Ok(())], "{what}");
}

/// Checks that as many requests came as there were errors for them, and another one if all went well in the end.
fn met(cluster: &MockCluster, request: Request, errors: &[Code], expected: &str) {
    let requests = cluster.requests(request);
    let least = errors.len() + usize::from(expected == "done");
    assert!(
        requests >= least,
        "{request:?}: {requests} came for {errors:?}"
    );
}

#[test]
fn what_may_pass_is_tried_again() {
    check(
        Request::InitProducerId,
        &[COORDINATOR_LOAD_IN_PROGRESS],
        "done",
    );
    check(
        Request::InitProducerId,
        &[CONCURRENT_TRANSACTIONS; 2],
        "done",
    );
    check(
        Request::AddPartitionsToTxn,
        &[CONCURRENT_TRANSACTIONS; 2],
        "done",
    );
    check(
        Request::AddOffsetsToTxn,
        &[COORDINATOR_NOT_AVAILABLE],
        "done",
    );
    check(Request::TxnOffsetCommit, &[NOT_COORDINATOR], "done");
    check(
        Request::TxnOffsetCommit,
        &[COORDINATOR_LOAD_IN_PROGRESS],
        "done",
    );
    check(Request::EndTxn, &[COORDINATOR_LOAD_IN_PROGRESS; 2], "done");
    check(Request::EndTxn, &[NOT_COORDINATOR], "done");
    check(Request::Produce, &[NOT_ENOUGH_REPLICAS; 2], "done");
}

#[test]
fn what_spoils_the_transaction_alone_is_aborted() {
    check(
        Request::AddPartitionsToTxn,
        &[TOPIC_AUTHORIZATION_FAILED],
        "abort",
    );
    check(
        Request::AddOffsetsToTxn,
        &[GROUP_AUTHORIZATION_FAILED],
        "abort",
    );
    check(Request::TxnOffsetCommit, &[ILLEGAL_GENERATION], "abort");
    check(Request::TxnOffsetCommit, &[UNKNOWN_MEMBER_ID], "abort");
    check(Request::EndTxn, &[INVALID_PRODUCER_ID_MAPPING], "abort");
    check(Request::Produce, &[MESSAGE_TOO_LARGE], "abort");
}

#[test]
fn what_the_client_cannot_survive_needs_a_new_one() {
    check(
        Request::InitProducerId,
        &[TRANSACTIONAL_ID_AUTHORIZATION_FAILED],
        "fatal",
    );
    check(
        Request::InitProducerId,
        &[INVALID_TRANSACTION_TIMEOUT],
        "fatal",
    );
    check(Request::AddPartitionsToTxn, &[INVALID_TXN_STATE], "fatal");
    check(Request::AddOffsetsToTxn, &[INVALID_TXN_STATE], "fatal");
    check(Request::TxnOffsetCommit, &[INVALID_TXN_STATE], "fatal");
    check(Request::EndTxn, &[INVALID_TXN_STATE], "fatal");
    check(Request::Produce, &[OUT_OF_ORDER_SEQUENCE_NUMBER], "fatal");
}

#[test]
fn what_a_cluster_does_not_allow_is_said_with_what_to_do() {
    for (code, words) in [
        (
            TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "needs Write and Describe on transactional ids that start with \"weir-\"",
        ),
        (INVALID_TRANSACTION_TIMEOUT, "transaction.max.timeout.ms"),
    ] {
        let cluster = cluster(1);
        cluster.fail(Request::InitProducerId, &[code]);
        let Err(TransactionError::Fatal(why)) = open(&mut exact(&cluster, &[])) else {
            panic!("{code:?}");
        };
        assert!(format!("{why:#}").contains(words), "{why:#}");
    }
}

#[test]
fn who_is_fenced_is_told_so() {
    check(Request::AddPartitionsToTxn, &[PRODUCER_FENCED], "fenced");
    check(
        Request::AddOffsetsToTxn,
        &[INVALID_PRODUCER_EPOCH],
        "fenced",
    );
    check(Request::AddOffsetsToTxn, &[PRODUCER_FENCED], "fenced");
    check(
        Request::TxnOffsetCommit,
        &[INVALID_PRODUCER_EPOCH],
        "fenced",
    );
    check(Request::TxnOffsetCommit, &[FENCED_INSTANCE_ID], "fenced");
    check(Request::EndTxn, &[PRODUCER_FENCED], "fenced");
    check(Request::Produce, &[INVALID_PRODUCER_EPOCH], "fenced");
}

#[test]
fn deliveries_tell_a_fenced_client_from_another_that_cannot_go_on() {
    for (error, expected) in [(PRODUCER_FENCED, "fenced"), (INVALID_TXN_STATE, "fatal")] {
        let cluster = cluster(1);
        let mut writer = exact(&cluster, &[]);
        open(&mut writer).unwrap();
        writer.sink.begin().unwrap();
        cluster.fail(Request::AddPartitionsToTxn, &[error]);
        let headers = Headers::default();
        writer
            .sink
            .send(&outgoing(Some(0), b"value", &headers, 1))
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let told = loop {
            let told = writer.try_serve();
            if told.is_err() {
                break told;
            }
            assert!(Instant::now() < deadline);
            writer.waker.wait(PATIENCE).unwrap();
        };
        assert_eq!(kind(&told), expected, "{told:?}");
        match writer.sink.send(&outgoing(Some(0), b"value", &headers, 2)) {
            Err(SendError::Transaction(why)) => assert_eq!(kind(&Err(why)), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_failed_transaction_takes_no_more_records() {
    let cluster = cluster(1);
    let mut writer = exact(&cluster, &[]);
    open(&mut writer).unwrap();
    writer.sink.begin().unwrap();
    cluster.fail(Request::AddPartitionsToTxn, &[TOPIC_AUTHORIZATION_FAILED]);
    let headers = Headers::default();
    let record = outgoing(Some(0), b"value", &headers, 1);
    writer.sink.send(&record).unwrap();
    writer.settle(1);
    assert!(writer.settled[&1][0].is_err());
    match writer.sink.send(&outgoing(Some(0), b"value", &headers, 2)) {
        Err(SendError::Transaction(TransactionError::Abort(_))) => {}
        other => panic!("{other:?}"),
    }
    abort(&mut writer).unwrap();
    transaction(&mut writer, 3, 3).unwrap();
}

#[test]
fn an_abort_gives_up_what_no_broker_takes_and_waits_for_none() {
    let cluster = cluster(1);
    let mut writer = exact(&cluster, &[("reconnect.backoff.max.ms", "100")]);
    open(&mut writer).unwrap();
    transaction(&mut writer, 1_000, 1).unwrap();
    writer.settle(1);
    writer.sink.begin().unwrap();
    cluster.stop_brokers().unwrap();
    let headers = Headers::default();
    for tag in 0..100 {
        writer
            .sink
            .send(&outgoing(Some(0), b"value", &headers, tag))
            .unwrap();
    }
    let _ = abort(&mut writer);
    writer.settle(101);
    for tag in 0..100 {
        let why = writer.settled[&tag][0].as_ref().unwrap_err();
        assert!(why.contains("PURGE"), "{why}");
    }
    cluster.start_brokers().unwrap();
    transaction(&mut writer, 1_001, 2).unwrap();
}

/// All that a worker may do with a client that can't go on, while no broker answers.
#[test]
fn a_new_client_takes_over_from_one_with_records_in_flight() {
    let cluster = cluster(1);
    let mut writer = exact(&cluster, &[("reconnect.backoff.max.ms", "100")]);
    open(&mut writer).unwrap();
    transaction(&mut writer, 1_000, 1).unwrap();
    writer.settle(1);
    writer.sink.begin().unwrap();
    cluster.stop_brokers().unwrap();
    let headers = Headers::default();
    for tag in 0..100 {
        writer
            .sink
            .send(&outgoing(Some(0), b"value", &headers, tag))
            .unwrap();
    }
    assert_eq!(writer.sink.open(Duration::ZERO).unwrap(), Progress::Pending);
    writer.serve();
    assert_eq!(writer.settled.len(), 101, "the old client's are back");
    cluster.start_brokers().unwrap();
    open(&mut writer).unwrap();
    transaction(&mut writer, 1_001, 2).unwrap();
    writer.settle(102);
    assert_eq!(writer.settled[&1_001], [Ok(())]);
}

#[test]
fn what_makes_no_sense_is_an_error_and_no_more() {
    let cluster = cluster(1);
    let mut writer = Writer::new(&producer(&cluster, &[]));
    assert_eq!(kind(&open(&mut writer)), "fatal");
    assert_eq!(kind(&writer.sink.begin()), "fatal");
    assert_eq!(kind(&abort(&mut writer)), "fatal");

    let mut writer = exact(&cluster, &[]);
    let headers = Headers::default();
    match writer.sink.send(&outgoing(Some(0), b"value", &headers, 1)) {
        Err(SendError::Transaction(TransactionError::Fatal(_))) => {}
        other => panic!("{other:?}"),
    }
    open(&mut writer).unwrap();
    let commit = writer.sink.commit(&[], &membership(), Duration::ZERO);
    assert_eq!(kind(&commit.map(|_| ())), "fatal");
    abort(&mut writer).unwrap();
    // An empty transaction, and one without records.
    writer.sink.begin().unwrap();
    finish(&mut writer, |sink| {
        sink.commit(&[], &membership(), Duration::ZERO)
    })
    .unwrap();
    writer.sink.begin().unwrap();
    finish(&mut writer, |sink| {
        sink.commit(&[(partition(0), 1)], &membership(), Duration::ZERO)
    })
    .unwrap();
    // One transaction in another.
    writer.sink.begin().unwrap();
    assert_eq!(kind(&writer.sink.begin()), "fatal");
    open(&mut writer).unwrap();
    transaction(&mut writer, 1, 1).unwrap();
}

#[test]
fn a_membership_has_what_the_group_gave() {
    let cluster = cluster(1);
    let mut settings = consumer(&cluster, &[]);
    settings.push("group.instance.id", "weir-h\u{f6}me-0");
    let mut reader = Reader::new(&settings, Start::Earliest);
    assert!(reader.source.membership().is_err(), "it has yet to join");
    reader.join(1);
    let member = membership::read(&reader.source.membership().unwrap()).unwrap();
    assert_eq!(member.group.as_c_str(), c"weir-test");
    assert!(member.generation > 0, "{member:?}");
    assert!(!member.id.is_empty(), "{member:?}");
    assert_eq!(member.instance.as_deref(), Some(c"weir-h\u{f6}me-0"));
}

#[test]
fn an_offset_that_a_transaction_has_yet_to_decide_is_waited_for() {
    let cluster = cluster(1);
    Writer::new(&producer(&cluster, &[])).numbers(1, 0..10);
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.until(|reader| reader.count() >= 10);
    reader.source.commit(&[(partition(0), 7)], true).unwrap();
    // librdkafka asks again, and not only as often as other requests are made again.
    cluster.fail(Request::OffsetFetch, &[UNSTABLE_OFFSET_COMMIT; 8]);
    let committed = reader.source.committed(&[partition(0)]).unwrap();
    assert_eq!(committed, [Some(7)]);
    drop(reader);
    cluster.fail(Request::OffsetFetch, &[UNSTABLE_OFFSET_COMMIT; 8]);
    let mut reader = Reader::new(&consumer(&cluster, &[]), Start::Earliest);
    reader.join(1);
    assert_eq!(reader.source.position(&partition(0)), Some(7));
}

#[test]
fn an_end_that_is_never_reached_is_given_up_with_its_client() {
    let cluster = cluster(1);
    let mut writer = exact(&cluster, &[("transaction.timeout.ms", "1000")]);
    open(&mut writer).unwrap();
    writer.sink.begin().unwrap();
    let headers = Headers::default();
    writer
        .sink
        .send(&outgoing(Some(0), b"value", &headers, 1))
        .unwrap();
    writer.settle(1);
    cluster.stop_brokers().unwrap();
    // It's tried again each few seconds, until no broker would take it any more.
    let result = abort(&mut writer);
    assert_eq!(kind(&result), "fatal", "{result:?}");
    cluster.start_brokers().unwrap();
    open(&mut writer).unwrap();
    transaction(&mut writer, 2, 1).unwrap();
}
