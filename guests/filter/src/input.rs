//! What an expression can read of a record.

use std::borrow::Cow;

use weir_guest::json::{Object, Raw};

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

/// A record's headers as a map of names that are UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(pub &'a [(&'a [u8], Option<&'a [u8]>)]);

impl<'a> Headers<'a> {
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
