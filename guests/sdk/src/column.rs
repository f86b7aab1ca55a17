//! Columns: read value by value, written value by value. An output column begins when a record first changes it.

use crate::bindings::{Column, Headers};
use crate::bytes::append;

impl Column {
    /// Value `index`, or `None` if it is null.
    ///
    /// # Panics
    /// If the column has no such value.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        if self.is_null(index) {
            return None;
        }
        Some(&self.data[self.start(index)..self.ends[index] as usize])
    }

    /// Whether value `index` is null.
    #[inline]
    pub fn is_null(&self, index: usize) -> bool {
        self.nulls
            .get(index / 8)
            .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: Option<&[u8]>) {
        if let Some(value) = value {
            append(&mut self.data, value);
        }
        self.finish(value.is_none());
    }

    /// Ends the value whose bytes have been appended to `data`.
    ///
    /// # Panics
    /// If the column is longer than 4 GiB, which no guest's memory holds.
    #[inline(always)]
    pub(crate) fn finish(&mut self, is_null: bool) {
        if is_null || !self.nulls.is_empty() {
            self.finish_bit(is_null);
        }
        let end = u32::try_from(self.data.len()).expect("a column is shorter than 4 GiB");
        self.ends.push(end);
    }

    /// The bitmap's part of it.
    #[inline(never)]
    fn finish_bit(&mut self, is_null: bool) {
        let index = self.ends.len();
        if is_null {
            self.nulls.resize(index / 8 + 1, 0);
            self.nulls[index / 8] |= 1 << (index % 8);
        } else if index.is_multiple_of(8) {
            self.nulls.push(0);
        }
    }

    /// Takes back all values from `len` on, and what has been appended since the last one.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.data
            .truncate(self.ends.last().map_or(0, |&end| end as usize));
        if !self.nulls.is_empty() {
            self.nulls.truncate(len.div_ceil(8));
            if let Some(last) = self.nulls.last_mut()
                && !len.is_multiple_of(8)
            {
                *last &= (1 << (len % 8)) - 1;
            }
        }
    }

    #[inline]
    pub(crate) fn start(&self, index: usize) -> usize {
        match index {
            0 => 0,
            _ => self.ends[index - 1] as usize,
        }
    }
}

/// What a record adds to a column beyond what it had, for the room that is set aside: an id and its field name, say.
const SLACK: usize = 64;

/// A column of the output, in the making.
#[derive(Default)]
pub(crate) struct Writer {
    /// None while all records keep what they had.
    column: Option<Column>,
    /// Whether the current record has a new value, and whether that is null.
    pending: Option<bool>,
}

impl Writer {
    /// Begins the current record's new value, replacing one begun before. The caller appends its bytes.
    #[inline]
    pub(crate) fn begin(&mut self, is_null: bool, input: &Column, take: &[u32]) -> &mut Vec<u8> {
        let column = self.column.get_or_insert_with(|| taken(input, take));
        if self.pending.is_some() {
            let start = column.ends.last().map_or(0, |&end| end as usize);
            column.data.truncate(start);
        }
        self.pending = Some(is_null);
        &mut column.data
    }

    /// The current record comes out, as it came in or with its new value.
    #[inline(always)]
    pub(crate) fn emit(&mut self, input: &Column, index: usize) {
        if let Some(column) = &mut self.column {
            match self.pending.take() {
                Some(is_null) => column.finish(is_null),
                None => column.push(input.get(index)),
            }
        }
    }

    /// The current record doesn't come out, nor do those from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.pending = None;
        if let Some(column) = &mut self.column {
            column.truncate(len);
        }
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.column.is_some()
    }

    /// Whether the current record keeps what it had while others don't.
    #[inline]
    pub(crate) fn keeps(&self) -> bool {
        self.column.is_some() && self.pending.is_none()
    }

    pub(crate) fn finish(self) -> Option<Column> {
        self.column
    }
}

/// A column with what the records taken so far had, and room for all of the batch.
#[cold]
fn taken(input: &Column, take: &[u32]) -> Column {
    let records = input.ends.len().max(take.len());
    let mut column = Column {
        data: Vec::with_capacity(input.data.len() + SLACK * records.max(1)),
        ends: Vec::with_capacity(records + 1),
        nulls: Vec::new(),
    };
    // Records that were taken one by one from the start, as most are, are copied as a whole.
    let whole = take
        .iter()
        .enumerate()
        .take_while(|&(index, &from)| index == from as usize)
        .count();
    column
        .data
        .extend_from_slice(&input.data[..input.start(whole)]);
    column.ends.extend_from_slice(&input.ends[..whole]);
    column.nulls.extend_from_slice(&input.nulls);
    column.truncate(whole);
    for &index in &take[whole..] {
        column.push(input.get(index as usize));
    }
    column
}

/// The headers of the output, in the making.
#[derive(Default)]
pub(crate) struct HeaderWriter {
    headers: Option<Headers>,
    /// The headers of the records that have come out.
    finished: usize,
    /// Whether the current record has new headers.
    is_pending: bool,
}

impl HeaderWriter {
    /// Begins the current record's new headers, replacing those begun before.
    pub(crate) fn begin(&mut self, input: &Headers, take: &[u32]) {
        let headers = self
            .headers
            .get_or_insert_with(|| taken_headers(input, take));
        if !self.is_pending {
            // Also right where the headers have just been begun.
            self.finished = headers.names.ends.len();
        }
        headers.names.truncate(self.finished);
        headers.values.truncate(self.finished);
        self.is_pending = true;
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.headers.is_some()
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Whether the current record keeps what it had while others don't.
    #[inline]
    pub(crate) fn keeps(&self) -> bool {
        self.headers.is_some() && !self.is_pending
    }

    /// Adds to the current record's new headers.
    pub(crate) fn add(&mut self, name: &[u8], value: Option<&[u8]>) {
        if let Some(headers) = &mut self.headers {
            headers.names.push(Some(name));
            headers.values.push(value);
        }
    }

    /// The current record comes out, as it came in or with its new headers.
    #[inline(always)]
    pub(crate) fn emit(&mut self, input: &Headers, range: std::ops::Range<usize>) {
        if self.headers.is_some() {
            self.emit_begun(input, range);
        }
    }

    fn emit_begun(&mut self, input: &Headers, range: std::ops::Range<usize>) {
        if let Some(headers) = &mut self.headers {
            if !self.is_pending {
                headers.extend(input, range);
            }
            headers
                .counts
                .push((headers.names.ends.len() - self.finished) as u32);
            self.finished = headers.names.ends.len();
        }
        self.is_pending = false;
    }

    /// The current record doesn't come out, nor do those from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.is_pending = false;
        if let Some(headers) = &mut self.headers {
            for count in headers.counts.drain(len..) {
                self.finished -= count as usize;
            }
            headers.names.truncate(self.finished);
            headers.values.truncate(self.finished);
        }
    }

    pub(crate) fn finish(self) -> Option<Headers> {
        self.headers
    }
}

impl Headers {
    fn extend(&mut self, from: &Headers, range: std::ops::Range<usize>) {
        for index in range {
            self.names.push(from.names.get(index));
            self.values.push(from.values.get(index));
        }
    }
}

#[cold]
fn taken_headers(input: &Headers, take: &[u32]) -> Headers {
    let mut headers = Headers {
        counts: Vec::with_capacity(take.len()),
        names: empty(),
        values: empty(),
    };
    let mut start = 0;
    let mut record = 0;
    for &index in take {
        while record < index as usize {
            start += input.counts.get(record).map_or(0, |&count| count as usize);
            record += 1;
        }
        let count = input.counts.get(record).map_or(0, |&count| count as usize);
        headers.extend(input, start..start + count);
        headers.counts.push(count as u32);
    }
    headers
}

/// A column without values.
pub(crate) fn empty() -> Column {
    Column {
        data: Vec::new(),
        ends: Vec::new(),
        nulls: Vec::new(),
    }
}
