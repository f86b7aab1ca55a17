//! Columns that break the contract, each in one way.

use weir_guest::LogLevel;
use weir_guest::bindings::{Batch, Column, Output};

use crate::{empty_column, empty_headers, refuse};

/// What `lie:WHAT` can be told about.
pub const LIES: [&str; 30] = [
    // Output records.
    "take-decreases",
    "take-index",
    // Columns of values: their number, their ends, their bytes, their null bits.
    "too-few-values",
    "too-many-values",
    "too-many-keys",
    "ends-decrease",
    "data-too-long",
    "data-too-short",
    "end-too-large",
    "nulls-too-short",
    "nulls-too-long",
    "null-bit-past-end",
    "null-with-bytes",
    // Headers.
    "header-counts",
    "header-sum",
    "header-sum-overflow",
    "header-values",
    "header-name-null",
    // Timestamps and outputs.
    "timestamps",
    "timestamp-range",
    "outputs",
    "output-index",
    // Refusals.
    "refused-and-taken",
    "refused-twice",
    "refused-index",
    "reason-count",
    "reason-utf8",
    "reason-null",
    // Logs.
    "log-index",
    "log-utf8",
];

/// Changes what has been done for a batch into a lie. The record at `index` has been taken.
pub(crate) fn tell(
    lie: &str,
    index: u32,
    batch: &Batch,
    output: &mut Output,
) -> Result<(), String> {
    let rows = output.take.len();
    // Values, keys and so on that would be right.
    let right = |count: usize| {
        let mut column = empty_column();
        (0..count).for_each(|_| column.push(Some(b"abc")));
        column
    };
    let last = output.take.last().copied().unwrap_or(index);
    let mut values = right(rows);
    let mut headers = empty_headers();
    headers.counts = vec![1; rows];
    headers.names = right(rows);
    headers.values = right(rows);
    match lie {
        "take-decreases" => output.take = vec![batch.count.max(2) - 1, 0],
        "take-index" => output.take.push(batch.count),
        "too-few-values" => output.values = Some(right(rows - 1)),
        "too-many-values" => output.values = Some(right(rows + 1)),
        "too-many-keys" => output.keys = Some(right(rows + 1)),
        "ends-decrease" => {
            values = right(rows.max(2));
            values.ends[0] = u32::MAX;
            output.take.resize(rows.max(2), last);
            output.values = Some(values);
        }
        "data-too-long" => {
            values.data.push(b'!');
            output.values = Some(values);
        }
        "data-too-short" => {
            values.data.pop();
            output.values = Some(values);
        }
        "end-too-large" => {
            values.ends[rows - 1] = u32::MAX;
            output.values = Some(values);
        }
        "nulls-too-short" => {
            output.take.resize(rows.max(9), last);
            values = right(rows.max(9));
            values.nulls = vec![0];
            output.values = Some(values);
        }
        "nulls-too-long" => {
            values.nulls = vec![0; rows / 8 + 2];
            output.values = Some(values);
        }
        "null-bit-past-end" => {
            let rows = (rows / 8 + 1) * 8 - 1;
            output.take.resize(rows, last);
            values = right(rows);
            values.nulls = vec![0; rows / 8 + 1];
            values.nulls[rows / 8] = 0x80;
            output.values = Some(values);
        }
        "null-with-bytes" => {
            values.nulls = vec![0; rows.div_ceil(8)];
            values.nulls[0] = 1;
            output.values = Some(values);
        }
        "header-counts" => {
            headers.counts.push(0);
            output.headers = Some(headers);
        }
        "header-sum" => {
            headers.counts[0] = 2;
            output.headers = Some(headers);
        }
        "header-sum-overflow" => {
            // In 32 bits their sum is the right number.
            headers.counts = vec![0; rows.max(2)];
            headers.counts[0] = u32::MAX;
            headers.counts[1] = rows as u32 + 1;
            output.take.resize(rows.max(2), last);
            output.headers = Some(headers);
        }
        "header-values" => {
            headers.values = right(rows + 1);
            output.headers = Some(headers);
        }
        "header-name-null" => {
            headers.names = Column {
                data: Vec::new(),
                ends: vec![0; rows],
                nulls: vec![0; rows.div_ceil(8)],
            };
            headers.names.nulls[0] = 1;
            output.headers = Some(headers);
        }
        "timestamps" => output.timestamps = Some(vec![0; rows + 1]),
        "timestamp-range" => output.timestamps = Some(vec![-2; rows]),
        "outputs" => output.outputs = Some(vec![0; rows + 1]),
        "output-index" => output.outputs = Some(vec![1000; rows]),
        "refused-and-taken" => refuse(output, index, "taken too"),
        "refused-twice" => {
            output.take.retain(|&taken| taken != index);
            refuse(output, index, "once");
            refuse(output, index, "and once more");
        }
        "refused-index" => refuse(output, batch.count, "no such record"),
        "reason-count" => {
            output.take.retain(|&taken| taken != index);
            output.refused.indexes.push(index);
        }
        "reason-utf8" => {
            output.take.retain(|&taken| taken != index);
            output.refused.indexes.push(index);
            output.refused.reasons.push(Some(b"\xff"));
        }
        "reason-null" => {
            output.take.retain(|&taken| taken != index);
            output.refused.indexes.push(index);
            output.refused.reasons.push(None);
        }
        "log-index" => log(output, batch.count, b"no such record"),
        "log-utf8" => log(output, index, b"\xff"),
        _ => return Err(format!("no such lie: `{lie}`")),
    }
    Ok(())
}

fn log(output: &mut Output, index: u32, text: &[u8]) {
    output.logs.levels.push(LogLevel::Info);
    output.logs.indexes.push(index);
    output.logs.messages.push(Some(text));
}
