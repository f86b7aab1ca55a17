//! Records that more than one test uses.

use weir_tests::Record;

/// Record `n` of those that are hard to keep: every kind of null, empty and non-UTF-8 bytes, in turn, with old timestamps
/// and all kinds of headers. They go to 4 partitions in turn.
pub fn odd(n: i64) -> Record {
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
