//! Nothing that a guest returns is used before it was checked here.

use super::bindings;
use super::fault::Fault;
use super::limits::{Exceeded, Limit, Limits};
use super::log::{Allowance, Level, Log, one_line};
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
    /// Lines past what `max_log_lines` allows; gone.
    pub log_lines_dropped: usize,
}

/// Stands for an output where a guest leaves a record where it went before.
pub const UNCHOSEN: u32 = u32::MAX;

/// What a header counts beside its bytes: where its name and its value end. Otherwise a million empty ones would be free,
/// however often their record is taken.
const HEADER: usize = 8;

/// Checks what a guest returned for `batch`. The fault says what is wrong, for the module's author.
pub(super) fn check(
    output: bindings::Output,
    batch: &Batch,
    outputs: usize,
    limits: &Limits,
    allowance: &Allowance,
) -> Result<Output, Fault> {
    let inputs = batch.len();
    let take = output.take;
    let records = take.len();
    if records > limits.max_output_records {
        let what = format_args!("{records} records of {inputs}");
        return Err(Exceeded::output(Limit::OutputRecords, what, limits.max_output_records).into());
    }
    if !take.is_sorted() {
        return Err(Fault::Output(
            "take: an index is below the one before it".into(),
        ));
    }
    if let Some(&last) = take.last().filter(|&&last| last as usize >= inputs) {
        return Err(Fault::Output(format!(
            "take: index {last}, and the batch has {inputs} records"
        )));
    }
    records_per_input(&take, batch, limits.max_records_per_input)?;
    let keys = output
        .keys
        .map(|it| column("keys", it, records))
        .transpose()?;
    let values = output
        .values
        .map(|it| column("values", it, records))
        .transpose()?;
    let headers = output.headers.map(|it| headers(it, records)).transpose()?;
    if let Some(it) = &output.timestamps {
        timestamps(it, records)?;
    }
    if let Some(it) = &output.outputs {
        choices(it, records, outputs)?;
    }
    let refused = refused(output.refused, &take, inputs)?;
    let log_lines_dropped = output.logs.levels.len().saturating_sub(allowance.lines);
    let logs = logs(output.logs, inputs, allowance, limits.max_log_lines)?;
    let output = Output {
        take,
        keys,
        values,
        headers,
        timestamps: output.timestamps,
        outputs: output.outputs,
        refused,
        logs,
        log_lines_dropped,
    };
    Expanded::of(&output, batch).check(limits)?;
    Ok(output)
}

/// What comes of one offset counts together, so that a second transform can't split what a first one split before.
fn records_per_input(take: &[u32], batch: &Batch, most: usize) -> Result<(), Exceeded> {
    if take.len() <= most {
        return Ok(());
    }
    let offset = |&index: &u32| batch.offsets[index as usize];
    match take
        .chunk_by(|a, b| offset(a) == offset(b))
        .find(|records| records.len() > most)
    {
        Some(records) => Err(Exceeded::output(
            Limit::RecordsPerInput,
            format_args!(
                "{} records of the one at offset {}",
                records.len(),
                offset(&records[0])
            ),
            most,
        )),
        None => Ok(()),
    }
}

/// The size of what comes out before anything is built: one record may be taken many times, so what counts is each
/// output record's own size.
struct Expanded<'a> {
    output: &'a Output,
    batch: &'a Batch,
    /// Where headers start by record: output records where the guest made the headers, otherwise input records. Empty
    /// where there are no headers.
    header_starts: Vec<u32>,
}

impl<'a> Expanded<'a> {
    fn of(output: &'a Output, batch: &'a Batch) -> Expanded<'a> {
        let header_starts = match &output.headers {
            None if batch.headers.is_empty() => Vec::new(),
            None => batch.headers.starts(batch.len()),
            Some(new) if new.is_empty() => Vec::new(),
            Some(new) => new.starts(output.take.len()),
        };
        Expanded {
            output,
            batch,
            header_starts,
        }
    }

    fn check(&self, limits: &Limits) -> Result<(), Exceeded> {
        let (take, most) = (&self.output.take, limits.max_output_bytes);
        let bytes = self.bytes();
        if bytes > most {
            let what = format_args!("{bytes} bytes in {} records", take.len());
            return Err(Exceeded::output(Limit::OutputBytes, what, most));
        }
        let most = limits.max_bytes_per_input;
        if bytes <= most {
            return Ok(());
        }
        let offset = |&index: &u32| self.batch.offsets[index as usize];
        let mut at = 0;
        for records in take.chunk_by(|a, b| offset(a) == offset(b)) {
            let bytes: usize = (at..at + records.len()).map(|at| self.bytes_of(at)).sum();
            at += records.len();
            if bytes > most {
                let what = format_args!(
                    "{bytes} bytes in {} records of the one at offset {}",
                    records.len(),
                    offset(&records[0])
                );
                return Err(Exceeded::output(Limit::BytesPerInput, what, most));
            }
        }
        Ok(())
    }

    /// Of all output records.
    fn bytes(&self) -> usize {
        let of = |new: Option<&Column>, old: &Column| match new {
            Some(new) => new.data.len(),
            None => self
                .output
                .take
                .iter()
                .map(|&index| old.len_of(index as usize))
                .sum(),
        };
        let headers = match &self.output.headers {
            Some(new) => new.names.data.len() + new.values.data.len() + new.names.len() * HEADER,
            None if self.header_starts.is_empty() => 0,
            None => (0..self.output.take.len())
                .map(|at| self.header_bytes_of(at))
                .sum(),
        };
        of(self.output.keys.as_ref(), &self.batch.keys)
            + of(self.output.values.as_ref(), &self.batch.values)
            + headers
    }

    /// Of one output record.
    fn bytes_of(&self, at: usize) -> usize {
        let of = |new: Option<&Column>, old: &Column| match new {
            Some(new) => new.len_of(at),
            None => old.len_of(self.output.take[at] as usize),
        };
        of(self.output.keys.as_ref(), &self.batch.keys)
            + of(self.output.values.as_ref(), &self.batch.values)
            + self.header_bytes_of(at)
    }

    fn header_bytes_of(&self, at: usize) -> usize {
        if self.header_starts.is_empty() {
            return 0;
        }
        let (headers, record) = match &self.output.headers {
            Some(new) => (new, at),
            None => (&self.batch.headers, self.output.take[at] as usize),
        };
        (self.header_starts[record] as usize..self.header_starts[record + 1] as usize)
            .map(|at| HEADER + headers.names.len_of(at) + headers.values.len_of(at))
            .sum()
    }
}

fn timestamps(it: &[i64], records: usize) -> Result<(), String> {
    length("timestamps", it.len(), records)?;
    match it.iter().find(|&&it| it < -1) {
        Some(wrong) => Err(format!("timestamps: {wrong}, and Kafka's are -1 or above")),
        None => Ok(()),
    }
}

fn choices(it: &[u32], records: usize, outputs: usize) -> Result<(), String> {
    length("outputs", it.len(), records)?;
    let unknown = |it: u32| it as usize >= outputs && it != UNCHOSEN;
    match it.iter().find(|&&it| unknown(it)) {
        Some(wrong) => Err(format!(
            "outputs: index {wrong}, and the pipeline has {outputs}"
        )),
        None => Ok(()),
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

/// The lines that may be written; the others aren't even looked at.
fn logs(
    it: bindings::Logs,
    inputs: usize,
    allowance: &Allowance,
    most: usize,
) -> Result<Vec<Log>, String> {
    let lines = it.levels.len();
    length("logs.indexes", it.indexes.len(), lines)?;
    let messages = column("logs.messages", it.messages, lines)?;
    if let Some(wrong) = it.indexes.iter().find(|&&index| index as usize >= inputs) {
        return Err(format!(
            "logs.indexes: index {wrong}, and the batch has {inputs} records"
        ));
    }
    let kept = lines.min(allowance.lines);
    let mut logs = Vec::with_capacity(kept + usize::from(allowance.news));
    for index in 0..kept {
        logs.push(Log {
            level: it.levels[index].into(),
            index: it.indexes[index],
            message: text("logs.messages", &messages, index)?,
        });
    }
    if allowance.news && kept < lines {
        logs.push(Log {
            level: Level::Warn,
            index: it.indexes[kept],
            message: format!(
                "more log lines than the {most} a second that `max_log_lines` allows: the others are dropped, and \
                 counted as weir_log_lines_dropped_total"
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

#[cfg(test)]
mod tests;
