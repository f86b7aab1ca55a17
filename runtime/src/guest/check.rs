//! Nothing that a guest returns is used before it was checked here.

use super::bindings;
use super::limits::Limits;
use crate::record::{Batch, Column, Headers};

/// What a guest made of a batch, checked: every index is in range and every column has the length that it must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// For each output record the index of the input that it comes from; never decreasing.
    pub take: Vec<u32>,
    /// New keys, or `None` for the input's.
    pub keys: Option<Column>,
    /// New values, or `None` for the input's.
    pub values: Option<Column>,
    /// New headers, or `None` for the input's.
    pub headers: Option<Headers>,
    /// New timestamps in milliseconds, or `None` for the input's.
    pub timestamps: Option<Vec<i64>>,
    /// Which output each record goes to ([`UNCHOSEN`] for where it went before), or `None` for that for all.
    pub outputs: Option<Vec<u32>>,
    /// Refused inputs and the reasons, by index; none of them is in `take`.
    pub refused: Vec<(u32, String)>,
    /// Lines for the log.
    pub logs: Vec<Log>,
}

/// Stands for an output where a guest leaves a record where it went before.
pub const UNCHOSEN: u32 = u32::MAX;

/// A guest's log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How much it matters.
    pub level: Level,
    /// The index of the record that it's about.
    pub index: u32,
    /// The text.
    pub message: String,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// A guest's text is cut to this many bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// What a header counts beside its bytes: where its name and its value end. Otherwise a million empty ones would be free,
/// however often their record is taken.
const HEADER: usize = 8;

/// Log lines that are kept of one call.
const MAX_LOGS: usize = 100;

/// Checks what a guest returned for `batch`. The error says what is wrong, for the module's author.
pub(super) fn check(
    output: bindings::Output,
    batch: &Batch,
    outputs: usize,
    limits: &Limits,
) -> Result<Output, String> {
    let inputs = batch.len();
    let take = output.take;
    let records = take.len();
    if records > limits.max_output_records {
        return Err(format!(
            "{records} records from {inputs}, and `max_output_records` allows {}",
            limits.max_output_records
        ));
    }
    if !take.is_sorted() {
        return Err("take: an index is below the one before it".into());
    }
    if let Some(&last) = take.last().filter(|&&last| last as usize >= inputs) {
        return Err(format!(
            "take: index {last}, and the batch has {inputs} records"
        ));
    }
    let keys = output
        .keys
        .map(|it| column("keys", it, records))
        .transpose()?;
    let values = output
        .values
        .map(|it| column("values", it, records))
        .transpose()?;
    let headers = output.headers.map(|it| headers(it, records)).transpose()?;
    if let Some(timestamps) = &output.timestamps {
        length("timestamps", timestamps.len(), records)?;
        if let Some(wrong) = timestamps.iter().find(|&&it| it < -1) {
            return Err(format!("timestamps: {wrong}, and Kafka's are -1 or above"));
        }
    }
    if let Some(indexes) = &output.outputs {
        length("outputs", indexes.len(), records)?;
        if let Some(wrong) = indexes
            .iter()
            .find(|&&it| it as usize >= outputs && it != UNCHOSEN)
        {
            return Err(format!(
                "outputs: index {wrong}, and the pipeline has {outputs}"
            ));
        }
    }
    let refused = refused(output.refused, &take, inputs)?;
    let logs = logs(output.logs, inputs)?;
    let output = Output {
        take,
        keys,
        values,
        headers,
        timestamps: output.timestamps,
        outputs: output.outputs,
        refused,
        logs,
    };
    expanded(&output, batch, limits.max_output_bytes)?;
    Ok(output)
}

/// One record may be taken many times, so what counts is each output record's own size, before anything is built.
fn expanded(output: &Output, batch: &Batch, most: usize) -> Result<(), String> {
    let of = |new: Option<&Column>, old: &Column| match new {
        Some(new) => new.data.len(),
        None => output
            .take
            .iter()
            .map(|&index| old.len_of(index as usize))
            .sum(),
    };
    let headers = match &output.headers {
        Some(new) => new.names.data.len() + new.values.data.len() + new.names.len() * HEADER,
        None if batch.headers.is_empty() => 0,
        None => {
            let starts = batch.headers.starts(batch.len());
            let size = |index: usize| {
                (starts[index] as usize..starts[index + 1] as usize)
                    .map(|at| {
                        HEADER + batch.headers.names.len_of(at) + batch.headers.values.len_of(at)
                    })
                    .sum::<usize>()
            };
            output.take.iter().map(|&index| size(index as usize)).sum()
        }
    };
    let bytes =
        of(output.keys.as_ref(), &batch.keys) + of(output.values.as_ref(), &batch.values) + headers;
    match bytes <= most {
        true => Ok(()),
        false => Err(format!(
            "{bytes} bytes in {} records, and `max_output_bytes` allows {most}",
            output.take.len()
        )),
    }
}

fn length(name: &str, actual: usize, expected: usize) -> Result<(), String> {
    match actual == expected {
        true => Ok(()),
        false => Err(format!(
            "{name}: {actual} values where there must be {expected}"
        )),
    }
}

fn column(name: &str, it: bindings::ColumnResult, values: usize) -> Result<Column, String> {
    length(name, it.ends.len(), values)?;
    if !it.ends.is_sorted() {
        return Err(format!("{name}: an end is below the one before it"));
    }
    let end = it.ends.last().map_or(0, |&end| end as usize);
    if end != it.data.len() {
        return Err(format!(
            "{name}: the last value ends at byte {end} of {}",
            it.data.len()
        ));
    }
    let column = Column {
        data: it.data,
        ends: it.ends,
        nulls: it.nulls,
    };
    nulls(name, &column)?;
    Ok(column)
}

fn nulls(name: &str, column: &Column) -> Result<(), String> {
    let (bitmap, values) = (&column.nulls, column.len());
    if bitmap.is_empty() {
        return Ok(());
    }
    if bitmap.len() != values.div_ceil(8) {
        return Err(format!(
            "{name}: a null bitmap of {} bytes where {values} values need {}",
            bitmap.len(),
            values.div_ceil(8)
        ));
    }
    let past = bitmap.last().map_or(0, |&last| match values % 8 {
        0 => 0,
        used => last >> used,
    });
    if past != 0 {
        return Err(format!(
            "{name}: the null bitmap has bits set past the last value"
        ));
    }
    match (0..values).find(|&index| column.is_null(index) && column.len_of(index) > 0) {
        Some(index) => Err(format!("{name}: value {index} is null and has bytes")),
        None => Ok(()),
    }
}

fn headers(it: bindings::HeadersResult, records: usize) -> Result<Headers, String> {
    if !it.counts.is_empty() {
        length("headers.counts", it.counts.len(), records)?;
    }
    let total: u64 = it.counts.iter().map(|&count| u64::from(count)).sum();
    let total = usize::try_from(total).map_err(|_| "headers.counts: too many".to_string())?;
    let names = column("headers.names", it.names, total)?;
    let values = column("headers.values", it.values, total)?;
    if (0..total).any(|index| names.is_null(index)) {
        return Err("headers.names: a name is null".into());
    }
    Ok(Headers {
        counts: if total == 0 { Vec::new() } else { it.counts },
        names,
        values,
    })
}

fn refused(
    it: bindings::Refusals,
    take: &[u32],
    inputs: usize,
) -> Result<Vec<(u32, String)>, String> {
    let reasons = column("refused.reasons", it.reasons, it.indexes.len())?;
    if it.indexes.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("refused.indexes: an index isn't above the one before it".into());
    }
    if let Some(last) = it.indexes.last().filter(|&&last| last as usize >= inputs) {
        return Err(format!(
            "refused.indexes: index {last}, and the batch has {inputs} records"
        ));
    }
    if let Some(both) = it
        .indexes
        .iter()
        .find(|index| take.binary_search(index).is_ok())
    {
        return Err(format!("record {both} is both refused and taken"));
    }
    let texts = (0..reasons.len()).map(|index| text("refused.reasons", &reasons, index));
    it.indexes
        .iter()
        .copied()
        .zip(texts)
        .map(|(index, reason)| Ok((index, reason?)))
        .collect()
}

fn logs(it: bindings::Logs, inputs: usize) -> Result<Vec<Log>, String> {
    let lines = it.levels.len();
    length("logs.indexes", it.indexes.len(), lines)?;
    let messages = column("logs.messages", it.messages, lines)?;
    if let Some(wrong) = it.indexes.iter().find(|&&index| index as usize >= inputs) {
        return Err(format!(
            "logs.indexes: index {wrong}, and the batch has {inputs} records"
        ));
    }
    let mut logs = Vec::with_capacity(lines.min(MAX_LOGS + 1));
    for index in 0..lines.min(MAX_LOGS) {
        logs.push(Log {
            level: it.levels[index].into(),
            index: it.indexes[index],
            message: text("logs.messages", &messages, index)?,
        });
    }
    if lines > MAX_LOGS {
        logs.push(Log {
            level: Level::Warn,
            index: it.indexes[MAX_LOGS],
            message: format!(
                "{} more log lines of this batch were dropped",
                lines - MAX_LOGS
            ),
        });
    }
    Ok(logs)
}

fn text(name: &str, column: &Column, index: usize) -> Result<String, String> {
    let bytes = column
        .get(index)
        .ok_or_else(|| format!("{name}: text {index} is null"))?;
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("{name}: text {index} isn't UTF-8: {error}"))?;
    Ok(one_line(text))
}

/// A guest's text for a log and for a terminal: line ends and what would be a command to a terminal become spaces, so that
/// it can't pass for another line, and a long one is cut.
pub(super) fn one_line(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(MAX_TEXT)];
    let line = cut.replace(
        |c: char| c.is_control() || "\u{2028}\u{2029}".contains(c),
        " ",
    );
    match cut.len() < text.len() {
        true => line + "...",
        false => line,
    }
}

impl From<bindings::LogLevel> for Level {
    fn from(it: bindings::LogLevel) -> Level {
        match it {
            bindings::LogLevel::Error => Level::Error,
            bindings::LogLevel::Warn => Level::Warn,
            bindings::LogLevel::Info => Level::Info,
            bindings::LogLevel::Debug => Level::Debug,
            bindings::LogLevel::Trace => Level::Trace,
        }
    }
}

#[cfg(test)]
mod tests;
