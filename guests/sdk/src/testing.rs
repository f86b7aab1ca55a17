//! Transforms under test, natively: records in, what became of them out. The way is that of the exported guest, with
//! the same columns.

use crate::bindings::{Batch, Column, Headers, Output, Setup, TimestampType, UNCHOSEN};
use crate::column::empty;
use crate::runner::Runner;
use crate::{LogLevel, Needs, Transform};

/// A transform with its config, and where its records come from.
pub struct Harness<T> {
    runner: Runner<T>,
    output_names: Vec<String>,
    topic: String,
    partition: u32,
    id_key: [u8; 32],
}

/// A record that goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
    timestamp: i64,
    timestamp_type: TimestampType,
    position: Option<(u64, u32)>,
}

/// A header's name and value.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The index of the input record that it comes from.
    pub from: usize,
    /// The key; null isn't empty.
    pub key: Option<Vec<u8>>,
    /// The value; null isn't empty.
    pub value: Option<Vec<u8>>,
    /// The headers in order.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970-01-01T00:00:00Z, or -1.
    pub timestamp: i64,
    /// The output that was chosen, if one was for any record of the batch.
    pub output: Option<String>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The records that came out, in order.
    pub sent: Vec<Sent>,
    /// The indexes of the refused input records, and why.
    pub refused: Vec<(usize, String)>,
    /// The log lines: level, index of the input record, text.
    pub logs: Vec<(LogLevel, usize, String)>,
    /// The columns that were written anew: the others cost nothing on the way back.
    pub written: Needs,
}

impl<T: Transform> Harness<T> {
    /// Makes a transform from its config, a JSON text; its error is what `init` returns. One output, `default`; records
    /// come from partition 0 of the topic `test`.
    pub fn new(config: &str) -> Result<Harness<T>, String> {
        Harness::with_outputs(config, &["default"])
    }

    /// As [`Harness::new`], with several outputs.
    pub fn with_outputs(config: &str, outputs: &[&str]) -> Result<Harness<T>, String> {
        let output_names: Vec<String> = outputs.iter().map(|&name| name.to_owned()).collect();
        let runner = Runner::new(Setup {
            config: config.to_owned(),
            outputs: output_names.clone(),
        })?;
        Ok(Harness {
            runner,
            output_names,
            topic: "test".to_owned(),
            partition: 0,
            id_key: [7; 32],
        })
    }

    /// The topic and partition that the records come from.
    pub fn from(mut self, topic: &str, partition: u32) -> Harness<T> {
        self.topic = topic.to_owned();
        self.partition = partition;
        self
    }

    /// The key that ids are drawn with.
    pub fn id_key(mut self, key: [u8; 32]) -> Harness<T> {
        self.id_key = key;
        self
    }

    /// The columns that the transform asks for.
    pub fn needs(&self) -> Needs {
        self.runner.needs()
    }

    /// Runs the transform over a batch, with the columns that it asks for and no others.
    ///
    /// # Panics
    /// If the transform panics, or what it returns breaks the contract.
    pub fn run(&mut self, inputs: &[Input]) -> Outcome {
        let output = self.runner.run(&self.batch(inputs));
        if let Err(what) = check(&output, inputs.len(), self.output_names.len()) {
            panic!("what the transform returned breaks the contract: {what}");
        }
        outcome(inputs, &output, &self.output_names)
    }

    /// Runs the transform over one record.
    ///
    /// # Panics
    /// As [`Harness::run`].
    pub fn run_one(&mut self, input: Input) -> Outcome {
        self.run(&[input])
    }

    /// Runs the transform over a batch that [`Harness::batch`] made, and leaves what it returns unread: for benchmarks.
    pub fn run_batch(&mut self, batch: &Batch) -> Output {
        self.runner.run(batch)
    }

    /// The batch that the guest is handed.
    pub fn batch(&self, inputs: &[Input]) -> Batch {
        let needs = self.runner.needs();
        let mut batch = Batch {
            topic: self.topic.clone(),
            partition: self.partition,
            id_key: self.id_key.to_vec(),
            count: inputs.len() as u32,
            keys: empty(),
            values: empty(),
            headers: Headers {
                counts: Vec::new(),
                names: empty(),
                values: empty(),
            },
            timestamps: Vec::new(),
            timestamp_types: Vec::new(),
            offsets: Vec::new(),
            ordinals: Vec::new(),
        };
        let mut next = 0;
        for input in inputs {
            if needs.contains(Needs::KEYS) {
                batch.keys.push(input.key.as_deref());
            }
            if needs.contains(Needs::VALUES) {
                batch.values.push(input.value.as_deref());
            }
            if needs.contains(Needs::HEADERS) {
                batch.headers.counts.push(input.headers.len() as u32);
                for (name, value) in &input.headers {
                    batch.headers.names.push(Some(name));
                    batch.headers.values.push(value.as_deref());
                }
            }
            if needs.contains(Needs::TIMESTAMPS) {
                batch.timestamps.push(input.timestamp);
                batch.timestamp_types.push(input.timestamp_type);
            }
            let (offset, ordinal) = input.position.unwrap_or((next, 0));
            next = offset + 1;
            if needs.contains(Needs::POSITIONS) {
                batch.offsets.push(offset);
                batch.ordinals.push(ordinal);
            }
        }
        // What is left empty if there's nothing to say comes empty from the host too.
        if batch.headers.names.ends.is_empty() {
            batch.headers.counts.clear();
        }
        if batch.ordinals.iter().all(|&ordinal| ordinal == 0) {
            batch.ordinals.clear();
        }
        let is_default = |&kind: &TimestampType| kind == TimestampType::CreateTime;
        if batch.timestamp_types.iter().all(is_default) {
            batch.timestamp_types.clear();
        }
        batch
    }
}

impl Input {
    /// A record with that value and nothing else: null key, no headers, the timestamp 0, the offset after the one before
    /// it in the batch.
    pub fn value(value: impl AsRef<[u8]>) -> Input {
        Input {
            value: Some(value.as_ref().to_vec()),
            ..Input::tombstone()
        }
    }

    /// A record with a null value.
    pub fn tombstone() -> Input {
        Input {
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: 0,
            timestamp_type: TimestampType::CreateTime,
            position: None,
        }
    }

    /// With a key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Input {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// With one more header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Input {
        self.headers
            .push((name.as_ref().to_vec(), Some(value.as_ref().to_vec())));
        self
    }

    /// With one more header, whose value is null.
    pub fn null_header(mut self, name: impl AsRef<[u8]>) -> Input {
        self.headers.push((name.as_ref().to_vec(), None));
        self
    }

    /// With a timestamp, in milliseconds since 1970-01-01T00:00:00Z.
    pub fn timestamp(mut self, timestamp: i64) -> Input {
        self.timestamp = timestamp;
        self
    }

    /// Without a timestamp.
    pub fn no_timestamp(mut self) -> Input {
        self.timestamp = -1;
        self.timestamp_type = TimestampType::NotAvailable;
        self
    }

    /// With that source of its timestamp.
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Input {
        self.timestamp_type = timestamp_type;
        self
    }

    /// With an offset.
    pub fn offset(self, offset: u64) -> Input {
        self.position(offset, 0)
    }

    /// With an offset and an ordinal.
    pub fn position(mut self, offset: u64, ordinal: u32) -> Input {
        self.position = Some((offset, ordinal));
        self
    }
}

impl Outcome {
    /// The values of the records that came out, as text; `null` for a null value.
    pub fn values(&self) -> Vec<String> {
        self.sent.iter().map(|sent| text(&sent.value)).collect()
    }

    /// The keys of the records that came out, as text; `null` for a null key.
    pub fn keys(&self) -> Vec<String> {
        self.sent.iter().map(|sent| text(&sent.key)).collect()
    }

    /// The outputs that were chosen for the records that came out.
    pub fn outputs(&self) -> Vec<Option<&str>> {
        self.sent
            .iter()
            .map(|sent| sent.output.as_deref())
            .collect()
    }

    /// Why the only record of the batch was refused.
    ///
    /// # Panics
    /// If not exactly one was, or another one came out.
    pub fn refusal(&self) -> &str {
        match (&self.refused[..], &self.sent[..]) {
            ([(_, reason)], []) => reason,
            _ => panic!("expected one refusal and nothing else: {self:?}"),
        }
    }
}

fn text(bytes: &Option<Vec<u8>>) -> String {
    match bytes {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "null".to_owned(),
    }
}

/// Checks what a guest returned for a batch of `count` records, in a pipeline with `outputs` outputs, against the contract.
///
/// # Errors
/// What is wrong, and where.
pub fn check(output: &Output, count: usize, outputs: usize) -> Result<(), String> {
    let rows = output.take.len();
    let ensure = |is_right: bool, what: &str| match is_right {
        true => Ok(()),
        false => Err(what.to_owned()),
    };
    let in_batch = |indexes: &[u32]| indexes.iter().all(|&index| (index as usize) < count);
    ensure(output.take.is_sorted(), "take decreases")?;
    ensure(in_batch(&output.take), "take: no such record")?;
    if let Some(keys) = &output.keys {
        check_column(keys, rows, true).map_err(|what| format!("keys: {what}"))?;
    }
    if let Some(values) = &output.values {
        check_column(values, rows, true).map_err(|what| format!("values: {what}"))?;
    }
    if let Some(headers) = &output.headers {
        let is_none = headers.counts.is_empty();
        ensure(
            is_none || headers.counts.len() == rows,
            "headers: one count for each record",
        )?;
        let total = headers.counts.iter().map(|&count| count as usize).sum();
        check_column(&headers.names, total, false).map_err(|what| format!("names: {what}"))?;
        check_column(&headers.values, total, true)
            .map_err(|what| format!("header values: {what}"))?;
    }
    if let Some(timestamps) = &output.timestamps {
        ensure(timestamps.len() == rows, "one timestamp for each record")?;
        ensure(
            timestamps.iter().all(|&millis| millis >= -1),
            "a timestamp is below -1",
        )?;
    }
    if let Some(chosen) = &output.outputs {
        ensure(chosen.len() == rows, "one output for each record")?;
        let exists = |&output: &u32| (output as usize) < outputs || output == UNCHOSEN;
        ensure(chosen.iter().all(exists), "no such output")?;
    }
    let refused = &output.refused.indexes;
    let increases = refused.is_sorted_by(|one, next| one < next);
    ensure(increases, "refused indexes don't increase")?;
    ensure(in_batch(refused), "refused: no such record")?;
    let is_taken = |index: &u32| output.take.binary_search(index).is_ok();
    ensure(
        !refused.iter().any(is_taken),
        "a record is refused and taken",
    )?;
    check_texts(&output.refused.reasons, refused.len())
        .map_err(|what| format!("reasons: {what}"))?;
    let logs = &output.logs;
    ensure(
        logs.indexes.len() == logs.levels.len(),
        "one index for each log line",
    )?;
    ensure(in_batch(&logs.indexes), "a log line: no such record")?;
    check_texts(&logs.messages, logs.levels.len()).map_err(|what| format!("messages: {what}"))
}

fn check_texts(column: &Column, values: usize) -> Result<(), String> {
    check_column(column, values, false)?;
    for index in 0..values {
        if let Err(error) = std::str::from_utf8(column.get(index).unwrap_or_default()) {
            return Err(format!("text {index}: {error}"));
        }
    }
    Ok(())
}

fn check_column(column: &Column, values: usize, may_be_null: bool) -> Result<(), String> {
    let Column { data, ends, nulls } = column;
    if ends.len() != values {
        return Err(format!("{} values instead of {values}", ends.len()));
    }
    if !ends.is_sorted() {
        return Err("ends decrease".to_owned());
    }
    let end = ends.last().copied().unwrap_or(0) as usize;
    if data.len() != end {
        return Err(format!(
            "{} bytes, but the last value ends at {end}",
            data.len()
        ));
    }
    if nulls.is_empty() {
        return Ok(());
    }
    if nulls.len() != values.div_ceil(8) {
        return Err(format!(
            "{} bytes of null bits for {values} values",
            nulls.len()
        ));
    }
    for index in (0..nulls.len() * 8).filter(|&index| column.is_null(index)) {
        if index >= values {
            return Err("a null bit past the last value".to_owned());
        }
        if !may_be_null {
            return Err(format!("value {index} is null"));
        }
        if ends[index] as usize != column.start(index) {
            return Err(format!("value {index} is null, but has bytes"));
        }
    }
    Ok(())
}

/// Reads what a guest returned, which has been checked, as the host does.
fn outcome(inputs: &[Input], output: &Output, names: &[String]) -> Outcome {
    let mut written = Needs::NONE;
    for (is_written, column) in [
        (output.keys.is_some(), Needs::KEYS),
        (output.values.is_some(), Needs::VALUES),
        (output.headers.is_some(), Needs::HEADERS),
        (output.timestamps.is_some(), Needs::TIMESTAMPS),
    ] {
        if is_written {
            written = written | column;
        }
    }
    let mut header = 0;
    let mut sent = Vec::new();
    for (row, &from) in output.take.iter().enumerate() {
        let input = &inputs[from as usize];
        let pick = |column: &Option<Column>, kept: &Option<Vec<u8>>| match column {
            Some(column) => column.get(row).map(<[u8]>::to_vec),
            None => kept.clone(),
        };
        let headers = match &output.headers {
            Some(headers) => {
                let count = headers.counts.get(row).copied().unwrap_or(0) as usize;
                let range = header..header + count;
                header = range.end;
                let pair = |index| {
                    let name = headers.names.get(index).unwrap_or_default().to_vec();
                    (name, headers.values.get(index).map(<[u8]>::to_vec))
                };
                range.map(pair).collect()
            }
            None => input.headers.clone(),
        };
        sent.push(Sent {
            from: from as usize,
            key: pick(&output.keys, &input.key),
            value: pick(&output.values, &input.value),
            headers,
            timestamp: match &output.timestamps {
                Some(timestamps) => timestamps[row],
                None => input.timestamp,
            },
            output: output
                .outputs
                .as_ref()
                .filter(|outputs| outputs[row] != UNCHOSEN)
                .map(|outputs| names[outputs[row] as usize].clone()),
        });
    }
    let utf8 = |column: &Column, row| {
        String::from_utf8_lossy(column.get(row).unwrap_or_default()).into_owned()
    };
    let refused = &output.refused;
    let reason = |(row, &index): (usize, &u32)| (index as usize, utf8(&refused.reasons, row));
    let logs = &output.logs;
    let line = |(row, &level): (usize, &LogLevel)| {
        (level, logs.indexes[row] as usize, utf8(&logs.messages, row))
    };
    Outcome {
        sent,
        refused: refused.indexes.iter().enumerate().map(reason).collect(),
        logs: logs.levels.iter().enumerate().map(line).collect(),
        written,
    }
}
