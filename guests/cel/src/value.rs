//! CEL's values, borrowed from the record or the program wherever they can be.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::{Display, Formatter};
use std::rc::Rc;

use weir_guest::json::{self, Raw};

use crate::input::Headers;
use crate::time::{Duration, Timestamp};

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint`
    Uint(u64),
    /// `double`
    Double(f64),
    /// `string`
    String(Cow<'a, str>),
    /// `bytes`
    Bytes(Cow<'a, [u8]>),
    /// `timestamp`
    Timestamp(Timestamp),
    /// `duration`
    Duration(Duration),
    /// `list`
    List(List<'a>),
    /// `map`
    Map(Map<'a>),
}

impl<'a> Value<'a> {
    /// The value's type.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Uint(_) => Kind::Uint,
            Value::Double(_) => Kind::Double,
            Value::String(_) => Kind::String,
            Value::Bytes(_) => Kind::Bytes,
            Value::Timestamp(_) => Kind::Timestamp,
            Value::Duration(_) => Kind::Duration,
            Value::List(_) => Kind::List,
            Value::Map(_) => Kind::Map,
        }
    }

    /// The same value, borrowed: no text is copied.
    #[inline]
    pub fn reborrow<'b>(&'b self) -> Value<'b>
    where
        'a: 'b,
    {
        match self {
            Value::String(text) => Value::String(Cow::Borrowed(text)),
            Value::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
            other => other.clone(),
        }
    }

    /// The same value, owned: nothing of the record or the program is borrowed any more.
    pub fn into_static(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(truth) => Value::Bool(truth),
            Value::Int(number) => Value::Int(number),
            Value::Uint(number) => Value::Uint(number),
            Value::Double(number) => Value::Double(number),
            Value::String(text) => Value::String(Cow::Owned(text.into_owned())),
            Value::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Value::Timestamp(time) => Value::Timestamp(time),
            Value::Duration(length) => Value::Duration(length),
            Value::List(list) => {
                Value::List(List::Values(list.iter().map(Value::into_static).collect()))
            }
            Value::Map(map) => Value::Map(Map::Entries(
                map.iter()
                    .map(|(key, value)| (key.into_static(), value.into_static()))
                    .collect(),
            )),
        }
    }

    /// Whether the two are equal. Never an error: values of different types are not equal, but numbers are compared
    /// by what they are worth, whatever their types.
    pub fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::List(a), Value::List(b)) => {
                let (mut a, mut b) = (a.iter(), b.iter());
                loop {
                    match (a.next(), b.next()) {
                        (None, None) => return true,
                        (Some(a), Some(b)) if a.equals(&b) => {}
                        _ => return false,
                    }
                }
            }
            (Value::Map(a), Value::Map(b)) => {
                a.size() == b.size()
                    && a.iter()
                        .all(|(key, value)| b.get(&key).is_some_and(|found| value.equals(&found)))
            }
            _ => self.number_order(other) == Some(Ordering::Equal),
        }
    }

    /// How the two compare: an error if their types have no order between them, `None` if one is a NaN, which has no
    /// order either.
    pub fn order(&self, other: &Value<'_>) -> Result<Option<Ordering>, NoOrder> {
        Ok(match (self, other) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            _ if self.kind().is_number() && other.kind().is_number() => self.number_order(other),
            _ => return Err(NoOrder),
        })
    }

    /// The order of two numbers on one number line, exact for all types; `None` for NaN and for what isn't a number.
    fn number_order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
            (&Value::Double(a), b) => integer_order(b.integer()?, a).map(Ordering::reverse),
            (a, &Value::Double(b)) => integer_order(a.integer()?, b),
            (a, b) => Some(a.integer()?.cmp(&b.integer()?)),
        }
    }

    /// An int or uint in a type that holds both.
    fn integer(&self) -> Option<i128> {
        match self {
            Value::Int(number) => Some(i128::from(*number)),
            Value::Uint(number) => Some(i128::from(*number)),
            _ => None,
        }
    }
}

/// A JSON value. A number written without fraction and exponent is an int if it fits, else a uint if that fits;
/// every other number is a double.
impl<'a> From<Raw<'a>> for Value<'a> {
    #[inline]
    fn from(raw: Raw<'a>) -> Value<'a> {
        match raw.kind() {
            json::Kind::Null => Value::Null,
            json::Kind::Bool => Value::Bool(raw.as_bool() == Some(true)),
            json::Kind::Number => match raw.as_i64() {
                Some(number) => Value::Int(number),
                None => raw
                    .as_u64()
                    .map(Value::Uint)
                    .unwrap_or_else(|| Value::Double(raw.as_f64().unwrap_or(f64::NAN))),
            },
            json::Kind::String => Value::String(raw.as_str().unwrap_or_default()),
            json::Kind::Array => Value::List(List::Json(raw)),
            json::Kind::Object => Value::Map(Map::Json(raw)),
        }
    }
}

/// Two values whose types have no order between them.
#[derive(Clone, Copy, Debug)]
pub struct NoOrder;

/// A list, of the record's JSON or made by the expression.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// A JSON array.
    Json(Raw<'a>),
    /// Values.
    Values(Rc<[Value<'a>]>),
}

impl<'a> List<'a> {
    /// The number of elements.
    pub fn size(&self) -> usize {
        match self {
            List::Json(raw) => raw.elements().into_iter().flatten().count(),
            List::Values(values) => values.len(),
        }
    }

    /// The element at an index from 0.
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Json(raw) => raw.elements()?.nth(index).map(Value::from),
            List::Values(values) => values.get(index).cloned(),
        }
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> {
        let (json, values) = match self {
            List::Json(raw) => (raw.elements(), None),
            List::Values(values) => (None, Some(values.clone())),
        };
        let made = values
            .into_iter()
            .flat_map(|values| (0..values.len()).map(move |index| values[index].clone()));
        json.into_iter().flatten().map(Value::from).chain(made)
    }
}

/// A map, of the record's JSON, its headers, or made by the expression.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// A JSON object.
    Json(Raw<'a>),
    /// A record's headers by name.
    Headers(Headers<'a>),
    /// Entries in the order of the expression; no key stands twice.
    Entries(Rc<[(Value<'a>, Value<'a>)]>),
}

impl<'a> Map<'a> {
    /// The number of entries.
    pub fn size(&self) -> usize {
        match self {
            Map::Entries(entries) => entries.len(),
            _ => self.iter().count(),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Json(_) | Map::Headers(_), Value::String(name)) => self.get_name(name),
            (Map::Json(_) | Map::Headers(_), _) => None,
            (Map::Entries(entries), _) => entries
                .iter()
                .find(|(found, _)| found.equals(key))
                .map(|(_, value)| value.clone()),
        }
    }

    /// The value of a key that is a string.
    pub fn get_name(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Json(raw) => raw.member(name).map(Value::from),
            Map::Headers(headers) => headers.get(name),
            Map::Entries(entries) => entries
                .iter()
                .find(|(key, _)| matches!(key, Value::String(key) if key == name))
                .map(|(_, value)| value.clone()),
        }
    }

    /// The entries, each key once.
    pub fn iter(&self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> {
        let entries: Rc<[(Value<'a>, Value<'a>)]> = match self {
            Map::Json(raw) => {
                let members = raw.members().into_iter().flatten();
                unique(members.filter_map(|(name, raw)| Some((name.as_str()?, Value::from(raw)))))
            }
            Map::Headers(headers) => unique(headers.iter()),
            Map::Entries(entries) => entries.clone(),
        };
        (0..entries.len()).map(move |index| entries[index].clone())
    }
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `null_type`
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// `google.protobuf.Duration`
    Duration,
    /// `list`
    List,
    /// `map`
    Map,
}

impl Kind {
    /// All types.
    pub const ALL: [Kind; 11] = [
        Kind::Null,
        Kind::Bool,
        Kind::Int,
        Kind::Uint,
        Kind::Double,
        Kind::String,
        Kind::Bytes,
        Kind::Timestamp,
        Kind::Duration,
        Kind::List,
        Kind::Map,
    ];

    /// Whether it is int, uint or double.
    pub fn is_number(self) -> bool {
        matches!(self, Kind::Int | Kind::Uint | Kind::Double)
    }

    /// The type with its article: `an int`.
    pub fn with_article(self) -> String {
        match self {
            Kind::Null => "null".to_owned(),
            Kind::Bytes => "bytes".to_owned(),
            Kind::Int => "an int".to_owned(),
            other => format!("a {other}"),
        }
    }

    /// Whether a map's key can be of this type.
    pub fn is_key(self) -> bool {
        matches!(self, Kind::Bool | Kind::Int | Kind::Uint | Kind::String)
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Uint => "uint",
            Kind::Double => "double",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Timestamp => "timestamp",
            Kind::Duration => "duration",
            Kind::List => "list",
            Kind::Map => "map",
        })
    }
}

/// The entries of a map that may repeat a name: each name once, where it first stands, with the value that counts.
fn unique<'a>(
    entries: impl Iterator<Item = (Cow<'a, str>, Value<'a>)>,
) -> Rc<[(Value<'a>, Value<'a>)]> {
    let mut kept: Vec<(Value<'a>, Value<'a>)> = Vec::new();
    let mut places: HashMap<Cow<'a, str>, usize> = HashMap::new();
    for (name, value) in entries {
        match places.get(&name) {
            Some(&place) => kept[place].1 = value,
            None => {
                places.insert(name.clone(), kept.len());
                kept.push((Value::String(name), value));
            }
        }
    }
    kept.into()
}

/// How an integer compares to a double.
fn integer_order(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // A cast saturates, far outside of all integers that there are.
    let whole = double.trunc() as i128;
    Some(integer.cmp(&whole).then_with(|| {
        0.0_f64
            .partial_cmp(&double.fract())
            .unwrap_or(Ordering::Equal)
    }))
}
