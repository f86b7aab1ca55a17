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
    let _ = writer.try_serve();
    match result {
        Ok(()) => {}
        Err(TransactionError::Abort(_)) => abort(&mut writer).unwrap(),
        Err(TransactionError::Fatal(_) | TransactionError::Fenced(_)) => {
            assert_ne!(kind(&abort(&mut writer)), "abort");
            open(&mut writer).unwrap();
        }
    }
    transaction(&mut writer, 3, 3).unwrap();
    writer.settle(3);
    assert!(writer.settled.values().all(|results| results.len() == 1));
    assert_eq!(writer.settled[&3], [Ok(())], "{what}");
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
    check(Request::Produce, &[OUT_OF_ORDER_SEQUENCE_NUMBER], "abort");
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
