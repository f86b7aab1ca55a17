//! What an expression can read of a record.

use std::borrow::Cow;

use weir_guest::Record;
use weir_guest::json::{Object, Raw};

use crate::program::Reads;
use crate::time::Timestamp;
use crate::value::Value;

/// What an expression can read of a record. Parts that it doesn't read may be left out.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The JSON value with the program's fields found in it, if it reads any and the value is an object.
    pub object: Option<&'a Object<'a, 'a>>,
    /// The whole JSON value.
    pub whole: Option<Raw<'a>>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
    /// The timestamp, if the record has one.
    pub timestamp: Option<Timestamp>,
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

impl Input<'static> {
    /// Nothing at all.
    pub const NONE: Input<'static> = Input {
        object: None,
        whole: None,
        key: None,
        headers: Headers(&[]),
        timestamp: None,
        topic: "",
        partition: 0,
        offset: 0,
    };
}

impl<'a> Input<'a> {
    /// What is read of a record, but for the value, which a scan gives, and the headers.
    #[inline(always)]
    pub fn of(record: &Record<'a>, reads: Reads) -> Input<'a> {
        let mut input = Input {
            topic: record.topic(),
            partition: record.partition(),
            ..Input::NONE
        };
        if reads.key {
            input.key = record.key();
        }
        if reads.timestamp {
            input.timestamp = record.timestamp().and_then(Timestamp::from_millis);
        }
        if reads.offset {
            input.offset = record.offset();
        }
        input
    }
}

/// A record's headers as a map of names that are UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(pub &'a [(&'a [u8], Option<&'a [u8]>)]);

impl<'a> Headers<'a> {
    /// Calls a function with a record's headers. It's never inlined, so that only those pay for the headers' place who
    /// read them.
    #[inline(never)]
    pub fn with<R>(record: &Record<'_>, run: impl FnOnce(Headers<'_>) -> R) -> R {
        // The usual number of headers has its place on the stack.
        const FEW: usize = 16;
        let mut few: [(&[u8], Option<&[u8]>); FEW] = [(&[], None); FEW];
        let many: Vec<_>;
        let headers = record.headers();
        let count = headers.len();
        run(Headers(if count <= FEW {
            for (place, header) in few.iter_mut().zip(headers) {
                *place = header;
            }
            &few[..count]
        } else {
            many = headers.collect();
            &many
        }))
    }

    /// The value of the last header of that name.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        let (_, value) = self
            .0
            .iter()
            .rfind(|(found, _)| *found == name.as_bytes())?;
        Some(header_value(*value))
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> {
        self.0.iter().filter_map(|(name, value)| {
            let name = std::str::from_utf8(name).ok()?;
            Some((Cow::Borrowed(name), header_value(*value)))
        })
    }
}

fn header_value(value: Option<&[u8]>) -> Value<'_> {
    match value {
        Some(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
        None => Value::Null,
    }
}
