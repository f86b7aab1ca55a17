//! A record as a transform sees it: a view of the batch's columns, and of what goes out.

use std::ops::Range;

use crate::bindings::{Batch, Headers, LogLevel, Logs, Refusals, TimestampType, UNCHOSEN};
use crate::column::{HeaderWriter, Writer, empty};
use crate::ids::{self, Ids};
use crate::{Needs, OutputId, Outputs, Refusal, Uuid, bytes, json, refuse};

/// One record: what came in, and what goes out in its place.
///
/// The getters give what came in, whatever has been set since. The setters change what goes out; what isn't set goes
/// out as it came in, byte for byte.
pub struct Record<'b> {
    pub(crate) batch: &'b Batch,
    pub(crate) needs: Needs,
    pub(crate) out: &'b mut Out,
    pub(crate) index: usize,
    /// Where its headers are in `batch.headers`.
    pub(crate) headers: Range<usize>,
}

/// What goes out of a batch, in the making.
pub(crate) struct Out {
    pub(crate) take: Vec<u32>,
    pub(crate) keys: Writer,
    pub(crate) values: Writer,
    pub(crate) headers: HeaderWriter,
    pub(crate) timestamps: Option<Vec<i64>>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) outputs: Option<Vec<u32>>,
    pub(crate) output: Option<u32>,
    pub(crate) output_names: Outputs,
    pub(crate) refused: Refusals,
    pub(crate) logs: Logs,
    pub(crate) ids: Ids,
}

impl<'b> Record<'b> {
    /// The topic that the record was consumed from.
    pub fn topic(&self) -> &'b str {
        &self.batch.topic
    }

    /// The partition that the record was consumed from.
    pub fn partition(&self) -> u32 {
        self.batch.partition
    }

    /// The offset of the record, or of the one that an earlier transform made it of.
    ///
    /// # Panics
    /// Without [`Needs::POSITIONS`].
    #[inline]
    pub fn offset(&self) -> u64 {
        self.check(Needs::POSITIONS, "POSITIONS");
        self.batch.offsets[self.index]
    }

    /// Which one of those that earlier transforms made of one input record this is, from 0.
    ///
    /// # Panics
    /// Without [`Needs::POSITIONS`].
    #[inline]
    pub fn ordinal(&self) -> u32 {
        self.check(Needs::POSITIONS, "POSITIONS");
        self.batch.ordinals.get(self.index).copied().unwrap_or(0)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z; `None` if the record has no timestamp.
    ///
    /// # Panics
    /// Without [`Needs::TIMESTAMPS`].
    #[inline]
    pub fn timestamp(&self) -> Option<i64> {
        self.check(Needs::TIMESTAMPS, "TIMESTAMPS");
        let timestamp = self.batch.timestamps[self.index];
        (timestamp != -1).then_some(timestamp)
    }

    /// Who set the timestamp.
    ///
    /// # Panics
    /// Without [`Needs::TIMESTAMPS`].
    #[inline]
    pub fn timestamp_type(&self) -> TimestampType {
        self.check(Needs::TIMESTAMPS, "TIMESTAMPS");
        let types = &self.batch.timestamp_types;
        types
            .get(self.index)
            .copied()
            .unwrap_or(TimestampType::CreateTime)
    }

    /// The key; null isn't empty.
    ///
    /// # Panics
    /// Without [`Needs::KEYS`].
    #[inline]
    pub fn key(&self) -> Option<&'b [u8]> {
        self.check(Needs::KEYS, "KEYS");
        self.batch.keys.get(self.index)
    }

    /// The value; null, which marks a tombstone, isn't empty.
    ///
    /// # Panics
    /// Without [`Needs::VALUES`].
    #[inline]
    pub fn value(&self) -> Option<&'b [u8]> {
        self.check(Needs::VALUES, "VALUES");
        self.batch.values.get(self.index)
    }

    /// The headers in order, as name and value. A name may come several times and needn't be UTF-8.
    ///
    /// # Panics
    /// Without [`Needs::HEADERS`].
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'b [u8], Option<&'b [u8]>)> + use<'b> {
        self.check(Needs::HEADERS, "HEADERS");
        let Headers { names, values, .. } = &self.batch.headers;
        self.headers
            .clone()
            .map(|index| (names.get(index).unwrap_or_default(), values.get(index)))
    }

    /// The value of the last header of that name, which may be null; `None` if there is no such header.
    ///
    /// # Panics
    /// Without [`Needs::HEADERS`].
    pub fn header(&self, name: &str) -> Option<Option<&'b [u8]>> {
        self.headers()
            .filter(|&(other, _)| other == name.as_bytes())
            .last()
            .map(|(_, value)| value)
    }

    /// Sets the key. Unless all records' keys are set, needs [`Needs::KEYS`] for those that aren't; so with the other
    /// setters.
    pub fn set_key(&mut self, key: Option<&[u8]>) {
        bytes::append(self.key_data(key.is_none()), key.unwrap_or_default());
    }

    /// Sets the key to the bytes that `write` appends, which go straight to where they belong.
    ///
    /// # Panics
    /// If `write` takes away bytes that it didn't append.
    #[inline]
    pub fn set_key_with<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        append(self.key_data(false), write)
    }

    /// Sets the value; null makes the record a tombstone.
    pub fn set_value(&mut self, value: Option<&[u8]>) {
        bytes::append(self.value_data(value.is_none()), value.unwrap_or_default());
    }

    /// Sets the value to the bytes that `write` appends, which go straight to where they belong.
    ///
    /// # Panics
    /// If `write` takes away bytes that it didn't append.
    #[inline]
    pub fn set_value_with<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        append(self.value_data(false), write)
    }

    /// Sets the value to an object with its edits. Without edits nothing changes.
    ///
    /// # Errors
    /// As [`json::Object::write`]; the record must be refused or its value set again.
    #[inline]
    pub fn set_value_json(&mut self, object: &mut json::Object<'_, '_>) -> Result<(), json::Error> {
        match object.is_edited() {
            true => self.set_value_with(|out| object.write(out)),
            false => Ok(()),
        }
    }

    /// Sets the key to an object with its edits. Without edits nothing changes.
    ///
    /// # Errors
    /// As [`json::Object::write`]; the record must be refused or its key set again.
    #[inline]
    pub fn set_key_json(&mut self, object: &mut json::Object<'_, '_>) -> Result<(), json::Error> {
        match object.is_edited() {
            true => self.set_key_with(|out| object.write(out)),
            false => Ok(()),
        }
    }

    /// Replaces all headers.
    pub fn set_headers<'a>(
        &mut self,
        headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        self.check_begin(self.out.headers.is_begun(), Needs::HEADERS, "HEADERS");
        self.out.headers.begin(&self.batch.headers, &self.out.take);
        for (name, value) in headers {
            self.out.headers.add(name, value);
        }
    }

    /// Adds a header after those that are there, or have been set.
    ///
    /// # Panics
    /// Without [`Needs::HEADERS`], unless headers have been set.
    pub fn add_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        if !self.out.headers.is_pending() {
            let headers = self.headers();
            self.set_headers(headers);
        }
        self.out.headers.add(name, value);
    }

    /// Sets the timestamp, in milliseconds since 1970-01-01T00:00:00Z and never below -1, which Kafka doesn't take; with
    /// `None` the time of writing is set.
    pub fn set_timestamp(&mut self, timestamp: Option<i64>) {
        let is_begun = self.out.timestamps.is_some();
        self.check_begin(is_begun, Needs::TIMESTAMPS, "TIMESTAMPS");
        if !is_begun {
            let taken = |&index: &u32| self.batch.timestamps[index as usize];
            let mut timestamps = Vec::with_capacity(self.batch.count as usize);
            timestamps.extend(self.out.take.iter().map(taken));
            self.out.timestamps = Some(timestamps);
        }
        self.out.timestamp = Some(timestamp.unwrap_or(-1));
    }

    /// Sends the record to the output of that name, one that comes with the record: names that the config gives are
    /// better looked up once, in [`Transform::connect`](crate::Transform::connect). See [`Record::send_to`].
    ///
    /// # Errors
    /// There is no output of that name: the record is to be refused, `record.set_output(name)?`. The reason lists
    /// those that there are.
    #[must_use = "a record for an output that there isn't must be refused"]
    pub fn set_output(&mut self, name: &str) -> Result<(), Refusal> {
        let output = self.out.output_names.find(name)?;
        self.send_to(output);
        Ok(())
    }

    /// Sends the record to one of the pipeline's outputs. Without a choice it goes where an earlier transform sent it,
    /// or to the first output.
    #[inline]
    pub fn send_to(&mut self, OutputId(output): OutputId) {
        if self.out.outputs.is_none() {
            let mut outputs = Vec::with_capacity(self.batch.count as usize);
            outputs.resize(self.out.take.len(), UNCHOSEN);
            self.out.outputs = Some(outputs);
        }
        self.out.output = Some(output);
    }

    /// Sends the record out as it stands, and begins anew from what came in: so several come out of one.
    #[inline]
    pub fn emit(&mut self) {
        // A record that keeps what it had, beside others that don't, needs the column to keep it from.
        if self.out.keys.keeps() {
            self.check(Needs::KEYS, "KEYS");
        }
        if self.out.values.keeps() {
            self.check(Needs::VALUES, "VALUES");
        }
        if self.out.headers.keeps() {
            self.check(Needs::HEADERS, "HEADERS");
        }
        if self.out.timestamps.is_some() && self.out.timestamp.is_none() {
            self.check(Needs::TIMESTAMPS, "TIMESTAMPS");
        }
        let Out {
            take,
            keys,
            values,
            headers,
            timestamps,
            timestamp,
            outputs,
            output,
            ..
        } = &mut *self.out;
        take.push(self.index as u32);
        keys.emit(&self.batch.keys, self.index);
        values.emit(&self.batch.values, self.index);
        headers.emit(&self.batch.headers, self.headers.clone());
        if let Some(timestamps) = timestamps {
            let kept = || self.batch.timestamps[self.index];
            timestamps.push(timestamp.take().unwrap_or_else(kept));
        }
        if let Some(outputs) = outputs {
            outputs.push(output.take().unwrap_or(UNCHOSEN));
        }
    }

    /// Writes a line to the host's log.
    pub fn log(&mut self, level: LogLevel, text: &str) {
        let logs = &mut self.out.logs;
        logs.levels.push(level);
        logs.indexes.push(self.index as u32);
        logs.messages.push(Some(text.as_bytes()));
    }

    /// A random id (version 4). Ids are drawn from a stream of the record's own: each call gives another one, and a
    /// record that is processed again gets the same ones again, unless the pipeline says `ids = "random"`.
    ///
    /// # Panics
    /// Without [`Needs::POSITIONS`].
    #[inline]
    pub fn uuid_v4(&mut self) -> Uuid {
        ids::v4(self.draw())
    }

    /// A random id that sorts by the record's timestamp (version 7). Drawn as [`Record::uuid_v4`].
    ///
    /// # Errors
    /// The record has no timestamp, or one that isn't between 1970 and 10889, which is what 48 bits hold.
    ///
    /// # Panics
    /// Without [`Needs::POSITIONS`] and [`Needs::TIMESTAMPS`].
    #[inline]
    pub fn uuid_v7(&mut self) -> Result<Uuid, Refusal> {
        let Some(timestamp) = self.timestamp() else {
            return Err(refuse(
                "the record has no timestamp, which a version 7 id needs",
            ));
        };
        ids::v7(timestamp, self.draw()).ok_or_else(|| {
            refuse(format!(
                "the record's timestamp {timestamp} is outside of the years 1970 to 10889, which a version 7 id holds"
            ))
        })
    }

    /// The id of a name in a namespace (version 5): the same name always gives the same id.
    pub fn uuid_v5(&self, namespace: &Uuid, name: &[u8]) -> Uuid {
        Uuid::new_v5(namespace, name)
    }

    /// Random bytes, from the same stream as [`Record::uuid_v4`].
    ///
    /// # Panics
    /// Without [`Needs::POSITIONS`].
    pub fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(16) {
            chunk.copy_from_slice(&self.draw()[..chunk.len()]);
        }
        bytes
    }

    /// The next sixteen bytes of the record's stream.
    #[inline(always)]
    fn draw(&mut self) -> [u8; 16] {
        let (offset, ordinal) = (self.offset(), self.ordinal());
        self.out.ids.draw(offset, ordinal)
    }

    /// Begins the record's new key.
    #[inline]
    fn key_data(&mut self, is_null: bool) -> &mut Vec<u8> {
        self.check_begin(self.out.keys.is_begun(), Needs::KEYS, "KEYS");
        let Out { keys, take, .. } = &mut *self.out;
        keys.begin(is_null, &self.batch.keys, take)
    }

    /// Begins the record's new value.
    #[inline]
    fn value_data(&mut self, is_null: bool) -> &mut Vec<u8> {
        self.check_begin(self.out.values.is_begun(), Needs::VALUES, "VALUES");
        let Out { values, take, .. } = &mut *self.out;
        values.begin(is_null, &self.batch.values, take)
    }

    /// The records before the first one that changes need the column to keep what they had.
    #[inline(always)]
    fn check_begin(&self, is_begun: bool, needed: Needs, name: &str) {
        if !is_begun && !self.out.take.is_empty() {
            self.check(needed, name);
        }
    }

    #[inline(always)]
    fn check(&self, needed: Needs, name: &str) {
        if !self.needs.contains(needed) {
            not_asked_for(name);
        }
    }
}

impl Out {
    pub(crate) fn new(batch: &Batch, output_names: Outputs) -> Out {
        Out {
            take: Vec::with_capacity(batch.count as usize),
            keys: Writer::default(),
            values: Writer::default(),
            headers: HeaderWriter::default(),
            timestamps: None,
            timestamp: None,
            outputs: None,
            output: None,
            output_names,
            refused: Refusals {
                indexes: Vec::new(),
                reasons: empty(),
            },
            logs: Logs {
                levels: Vec::new(),
                indexes: Vec::new(),
                messages: empty(),
            },
            ids: Ids::new(&batch.id_key),
        }
    }

    /// Takes back what hasn't been sent, and all that has been from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.take.truncate(len);
        self.keys.truncate(len);
        self.values.truncate(len);
        self.headers.truncate(len);
        self.timestamp = None;
        self.output = None;
        if let Some(timestamps) = &mut self.timestamps {
            timestamps.truncate(len);
        }
        if let Some(outputs) = &mut self.outputs {
            outputs.truncate(len);
        }
    }
}

#[cold]
#[inline(never)]
fn not_asked_for(name: &str) -> ! {
    panic!(
        "the transform's needs() must ask for Needs::{name}: without it the column isn't handed over"
    )
}

#[inline(always)]
fn append<R>(data: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let before = data.len();
    let result = write(data);
    assert!(
        data.len() >= before,
        "bytes of other records were taken away"
    );
    result
}
