//! How large a record is where brokers measure it: in its batch, uncompressed.
//!
//! A topic's `max.message.bytes` bounds a batch with all that belongs to it. The format is Kafka's magic 2
//! (org.apache.kafka.common.record.DefaultRecordBatch and DefaultRecord): a header of fixed length, then for each record
//! its length, attributes, the distances of timestamp and offset from the batch's first, key, value and headers, with
//! numbers as zigzag varints.

use crate::io::Outgoing;

/// A batch before its records: `RECORD_BATCH_OVERHEAD`.
const BATCH_HEADER: u64 = 61;
/// A varint of 32 bits takes no more.
const VARINT_MOST: u64 = 5;
/// Attributes, and the distances from oneself.
const FIXED: u64 = 1 + 1 + 1;

/// Bytes of a batch with this record alone, as it is before compression.
pub(super) fn lone_batch(record: &Outgoing<'_>) -> u64 {
    let (mut count, mut headers) = (0, 0);
    for (name, value) in record.headers() {
        count += 1;
        headers += bytes(name) + nullable(value);
    }
    let body = FIXED + nullable(record.key) + nullable(record.value) + varint(count) + headers;
    BATCH_HEADER + varint(body) + body
}

/// Whether [`lone_batch`] is within a bound, at less expense for nearly all that are.
pub(super) fn fits(record: &Outgoing<'_>, bound: u64) -> bool {
    let (mut count, mut headers) = (0, 0);
    for (name, value) in record.headers() {
        count += 1;
        headers += name.len() + value.map_or(0, <[u8]>::len);
    }
    let length = |it: Option<&[u8]>| it.map_or(0, <[u8]>::len);
    let bytes = (length(record.key) + length(record.value) + headers) as u64;
    let varints = 4 + 2 * count;
    BATCH_HEADER + FIXED + varints * VARINT_MOST + bytes <= bound || lone_batch(record) <= bound
}

fn nullable(value: Option<&[u8]>) -> u64 {
    // Null is a length of -1.
    value.map_or(1, bytes)
}

fn bytes(bytes: &[u8]) -> u64 {
    varint(bytes.len() as u64) + bytes.len() as u64
}

/// Bytes of a number that isn't negative, zigzag.
fn varint(number: u64) -> u64 {
    let bits = u64::BITS - (number << 1).leading_zeros();
    u64::from(bits.div_ceil(7).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;

    fn record<'a>(
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: &'a Headers,
        count: usize,
    ) -> Outgoing<'a> {
        Outgoing {
            output: 0,
            partition: None,
            key,
            value,
            timestamp: 0,
            headers,
            header_range: (0, count),
            appended: &[],
            tag: 0,
        }
    }

    #[test]
    fn varints_grow_where_kafkas_do() {
        for (number, size) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (8191, 2),
            (8192, 3),
            (1_048_575, 3),
            (1_048_576, 4),
        ] {
            assert_eq!(varint(number), size, "{number}");
        }
    }

    /// What it's compared with is measured: `tests/` sends records of exactly a topic's bound, and one byte more.
    #[test]
    fn a_batch_is_as_large_as_kafka_writes_it() {
        let mut headers = Headers::default();
        // DefaultRecordBatch.sizeInBytes of a batch with one empty record: 61, and 1 of length with 6 of body.
        assert_eq!(lone_batch(&record(None, None, &headers, 0)), 68);
        assert_eq!(
            lone_batch(&record(Some(b"k"), Some(b"vv"), &headers, 0)),
            71
        );
        headers.push_record(0, [(&b"name"[..], Some(&b"value"[..])), (b"n", None)]);
        assert_eq!(
            lone_batch(&record(Some(b"k"), Some(b"vv"), &headers, 2)),
            71 + 1 + 4 + 1 + 5 + 1 + 1 + 1
        );
    }

    #[test]
    fn what_fits_is_what_is_not_larger() {
        let headers = Headers::default();
        for length in [0, 1, 60, 200, 10_000] {
            let value = vec![0; length];
            let record = record(None, Some(&value), &headers, 0);
            let exact = lone_batch(&record);
            assert!(fits(&record, exact) && fits(&record, exact + 100));
            assert!(!fits(&record, exact - 1));
        }
    }
}
