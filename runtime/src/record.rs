//! Records in columns: what crosses between Kafka, the chain and the guests.
//!
//! The shapes are those of the guest contract (`wit/transform.wit`), so that a column goes into a guest as it is.

use std::ops::Range;
use std::sync::Arc;

/// A column of byte strings laid end to end. A null value is zero bytes long, and null isn't empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// The bytes of all values, in order, without gaps.
    pub data: Vec<u8>,
    /// Where each value ends in `data`; never decreasing.
    pub ends: Vec<u32>,
    /// Empty, or one bit for each value, least significant bit first; 1 is null.
    pub nulls: Vec<u8>,
}

impl Column {
    /// An empty column with room for `values` values of `bytes` bytes in all.
    pub fn with_capacity(values: usize, bytes: usize) -> Column {
        Column {
            data: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(values),
            nulls: Vec::new(),
        }
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the column has no values.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends a value. The column must stay below 4 GiB, which a batch's bound in bytes sees to.
    #[inline]
    pub fn push(&mut self, value: Option<&[u8]>) {
        let index = self.ends.len();
        match value {
            Some(bytes) => {
                self.data.extend_from_slice(bytes);
                if !self.nulls.is_empty() && index.is_multiple_of(8) {
                    self.nulls.push(0);
                }
            }
            None => {
                self.nulls.resize(index / 8 + 1, 0);
                self.nulls[index / 8] |= 1 << (index % 8);
            }
        }
        self.ends.push(self.data.len() as u32);
    }

    /// Value `index`, or `None` if it is null.
    ///
    /// # Panics
    /// If `index` isn't below `len()`.
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

    /// The length of value `index` in bytes; 0 if it is null.
    #[inline]
    pub fn len_of(&self, index: usize) -> usize {
        self.ends[index] as usize - self.start(index)
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// A column of the values at `take`, in that order.
    pub fn gather(&self, take: &[u32]) -> Column {
        let bytes = take.iter().map(|&index| self.len_of(index as usize)).sum();
        let mut column = Column::with_capacity(take.len(), bytes);
        for &index in take {
            column.push(self.get(index as usize));
        }
        column
    }

    #[inline]
    fn start(&self, index: usize) -> usize {
        match index {
            0 => 0,
            _ => self.ends[index - 1] as usize,
        }
    }
}

impl<'a> FromIterator<Option<&'a [u8]>> for Column {
    fn from_iter<I: IntoIterator<Item = Option<&'a [u8]>>>(values: I) -> Column {
        let mut column = Column::default();
        values.into_iter().for_each(|value| column.push(value));
        column
    }
}

/// The headers of a batch's records. All three columns are empty if no record has any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// How many headers each record has.
    pub counts: Vec<u32>,
    /// The names, those of the first record first. Bytes, never null.
    pub names: Column,
    /// The values, as many as names; may be null.
    pub values: Column,
}

impl Headers {
    /// Whether no record has headers.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Appends the headers of the next record, the one at `index`.
    pub fn push_record<'a>(
        &mut self,
        index: usize,
        headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        let before = self.names.len();
        for (name, value) in headers {
            self.names.push(Some(name));
            self.values.push(value);
        }
        let count = self.names.len() - before;
        if count > 0 || !self.counts.is_empty() {
            // Records before the first one with headers have none.
            self.counts.resize(index, 0);
            self.counts.push(count as u32);
        }
    }

    /// Where each record's headers start in `names` and `values`; `records + 1` numbers.
    pub fn starts(&self, records: usize) -> Vec<u32> {
        let mut starts = Vec::with_capacity(records + 1);
        let mut start = 0;
        starts.push(start);
        for index in 0..records {
            start += self.counts.get(index).copied().unwrap_or(0);
            starts.push(start);
        }
        starts
    }

    /// The headers of the records at `take`, of `records` in all.
    pub fn gather(&self, take: &[u32], records: usize) -> Headers {
        let mut gathered = Headers::default();
        if self.is_empty() {
            return gathered;
        }
        let starts = self.starts(records);
        for (index, &from) in take.iter().enumerate() {
            let range = starts[from as usize] as usize..starts[from as usize + 1] as usize;
            gathered.push_record(index, self.range(range));
        }
        gathered
    }

    /// The headers at a range of `names`, as pairs.
    pub fn range(&self, range: Range<usize>) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        range.map(|index| {
            (
                self.names.get(index).unwrap_or_default(),
                self.values.get(index),
            )
        })
    }
}

/// Where a timestamp comes from, in Kafka's terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer set it.
    #[default]
    CreateTime,
    /// The broker set it.
    LogAppendTime,
    /// There is none; the timestamp is -1.
    NotAvailable,
}

/// Records of one partition, in the order of their offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The topic they were consumed from.
    pub topic: Arc<str>,
    /// The partition they were consumed from; not negative.
    pub partition: i32,
    /// The records' keys.
    pub keys: Column,
    /// The records' values.
    pub values: Column,
    /// The records' headers.
    pub headers: Headers,
    /// Milliseconds since 1970-01-01T00:00:00Z, or -1.
    pub timestamps: Vec<i64>,
    /// Empty if all are [`TimestampType::CreateTime`].
    pub timestamp_types: Vec<TimestampType>,
    /// The offsets of the input records; never decreasing. One for each record: their number is the batch's.
    pub offsets: Vec<u64>,
    /// Which of its input's descendants each record is, from 0. Empty if all are 0.
    pub ordinals: Vec<u32>,
    /// Which output each record goes to, an index into the pipeline's outputs. Empty if all go to output 0.
    pub outputs: Vec<u32>,
}

impl Batch {
    /// A batch without records.
    pub fn new(topic: Arc<str>, partition: i32) -> Batch {
        Batch {
            topic,
            partition,
            keys: Column::default(),
            values: Column::default(),
            headers: Headers::default(),
            timestamps: Vec::new(),
            timestamp_types: Vec::new(),
            offsets: Vec::new(),
            ordinals: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether the batch has no records.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.keys.data.len()
            + self.values.data.len()
            + self.headers.names.data.len()
            + self.headers.values.data.len()
    }

    /// The records at `take`, in that order. Ordinals are kept as they are.
    pub fn gather(&self, take: &[u32]) -> Batch {
        self.gather_part(take, Kept::ALL)
    }

    /// As [`Batch::gather`], leaving columns empty that are about to be replaced.
    pub fn gather_part(&self, take: &[u32], kept: Kept) -> Batch {
        fn pick<T: Copy>(column: &[T], take: &[u32]) -> Vec<T> {
            if column.is_empty() {
                return Vec::new();
            }
            take.iter().map(|&index| column[index as usize]).collect()
        }
        let mut batch = Batch::new(self.topic.clone(), self.partition);
        batch.offsets = pick(&self.offsets, take);
        batch.ordinals = pick(&self.ordinals, take);
        batch.outputs = pick(&self.outputs, take);
        if kept.keys {
            batch.keys = self.keys.gather(take);
        }
        if kept.values {
            batch.values = self.values.gather(take);
        }
        if kept.headers {
            batch.headers = self.headers.gather(take, self.len());
        }
        if kept.timestamps {
            batch.timestamps = pick(&self.timestamps, take);
            batch.timestamp_types = pick(&self.timestamp_types, take);
        }
        batch
    }

    /// A copy, leaving columns empty that are about to be replaced.
    pub fn part(&self, kept: Kept) -> Batch {
        let mut batch = Batch::new(self.topic.clone(), self.partition);
        batch.offsets.clone_from(&self.offsets);
        batch.ordinals.clone_from(&self.ordinals);
        batch.outputs.clone_from(&self.outputs);
        if kept.keys {
            batch.keys.clone_from(&self.keys);
        }
        if kept.values {
            batch.values.clone_from(&self.values);
        }
        if kept.headers {
            batch.headers.clone_from(&self.headers);
        }
        if kept.timestamps {
            batch.timestamps.clone_from(&self.timestamps);
            batch.timestamp_types.clone_from(&self.timestamp_types);
        }
        batch
    }

    /// These records, and those of another batch of the same partition after them. Offsets needn't be in order then.
    pub fn followed_by(mut self, other: &Batch) -> Batch {
        /// Of a column that may be left empty where all have the default.
        fn append<T: Copy + Default>(ours: &mut Vec<T>, len: usize, theirs: &[T], more: usize) {
            if ours.is_empty() && theirs.is_empty() {
                return;
            }
            ours.resize(len, T::default());
            ours.extend_from_slice(theirs);
            ours.resize(len + more, T::default());
        }
        let (len, more) = (self.len(), other.len());
        append(&mut self.ordinals, len, &other.ordinals, more);
        append(&mut self.outputs, len, &other.outputs, more);
        append(&mut self.timestamp_types, len, &other.timestamp_types, more);
        for index in 0..more {
            self.keys.push(other.keys.get(index));
            self.values.push(other.values.get(index));
        }
        let starts = other.headers.starts(more);
        for (index, bounds) in starts.windows(2).enumerate() {
            let range = bounds[0] as usize..bounds[1] as usize;
            self.headers
                .push_record(len + index, other.headers.range(range));
        }
        self.timestamps.extend_from_slice(&other.timestamps);
        self.offsets.extend_from_slice(&other.offsets);
        self
    }

    /// The records of a range, in order.
    pub fn slice(&self, range: Range<usize>) -> Batch {
        let take: Vec<u32> = range.map(|index| index as u32).collect();
        self.gather(&take)
    }
}

/// The columns of a batch that a copy takes along; those of positions and outputs always come.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The keys.
    pub keys: bool,
    /// The values.
    pub values: bool,
    /// The headers.
    pub headers: bool,
    /// The timestamps and their types.
    pub timestamps: bool,
}

impl Kept {
    /// All columns.
    pub const ALL: Kept = Kept {
        keys: true,
        values: true,
        headers: true,
        timestamps: true,
    };
}
