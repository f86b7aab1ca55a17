//! CEL's standard functions: which there are, how they are called, and what they do.

use std::borrow::Cow;

use weir_guest::json::Raw;

use crate::fault::Why;
use crate::time::{self, Duration, Part, Timestamp};
use crate::value::{Kind, Value};

/// A function of one or two arguments; for one called on a value, that value is the first. `matches` is compiled apart
/// (`pattern.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `size(x)`, `x.size()`
    Size,
    /// `text.contains(part)`
    Contains,
    /// `text.startsWith(part)`
    StartsWith,
    /// `text.endsWith(part)`
    EndsWith,
    /// `int(x)`
    Int,
    /// `uint(x)`
    Uint,
    /// `double(x)`
    Double,
    /// `string(x)`
    String,
    /// `bytes(x)`
    Bytes,
    /// `bool(x)`
    Bool,
    /// `timestamp(x)`
    Timestamp,
    /// `duration(x)`
    Duration,
    /// `dyn(x)`
    Dyn,
    /// `json(text)`, Weir's own
    Json,
    /// `time.getFullYear()` and the like, with a zone as second argument if it has one
    Get(Part),
}

/// How a function is called.
struct Signature {
    name: &'static str,
    function: Function,
    /// The shape shown to who calls it in another way.
    usage: &'static str,
    /// The number of arguments as `name(…)`.
    global: &'static [usize],
    /// The number of arguments as `value.name(…)`, the value not counted.
    member: &'static [usize],
}

const fn conversion(name: &'static str, function: Function, usage: &'static str) -> Signature {
    Signature {
        name,
        function,
        usage,
        global: &[1],
        member: &[],
    }
}

const fn on_text(name: &'static str, function: Function, usage: &'static str) -> Signature {
    Signature {
        name,
        function,
        usage,
        global: &[],
        member: &[1],
    }
}

const fn accessor(name: &'static str, part: Part, usage: &'static str) -> Signature {
    Signature {
        name,
        function: Function::Get(part),
        usage,
        global: &[],
        member: &[0, 1],
    }
}

#[rustfmt::skip]
const SIGNATURES: [Signature; 24] = [
    Signature { name: "size", function: Function::Size, usage: "size(x) or x.size()", global: &[1], member: &[0] },
    on_text("contains", Function::Contains, "text.contains(part)"),
    on_text("startsWith", Function::StartsWith, "text.startsWith(part)"),
    on_text("endsWith", Function::EndsWith, "text.endsWith(part)"),
    conversion("int", Function::Int, "int(x)"),
    conversion("uint", Function::Uint, "uint(x)"),
    conversion("double", Function::Double, "double(x)"),
    conversion("string", Function::String, "string(x)"),
    conversion("bytes", Function::Bytes, "bytes(x)"),
    conversion("bool", Function::Bool, "bool(x)"),
    conversion("timestamp", Function::Timestamp, "timestamp(x)"),
    conversion("duration", Function::Duration, "duration(x)"),
    conversion("dyn", Function::Dyn, "dyn(x)"),
    conversion("json", Function::Json, "json(text)"),
    accessor("getFullYear", Part::FullYear, "time.getFullYear() or time.getFullYear(zone)"),
    accessor("getMonth", Part::Month, "time.getMonth() or time.getMonth(zone)"),
    accessor("getDate", Part::Date, "time.getDate() or time.getDate(zone)"),
    accessor("getDayOfMonth", Part::DayOfMonth, "time.getDayOfMonth() or time.getDayOfMonth(zone)"),
    accessor("getDayOfWeek", Part::DayOfWeek, "time.getDayOfWeek() or time.getDayOfWeek(zone)"),
    accessor("getDayOfYear", Part::DayOfYear, "time.getDayOfYear() or time.getDayOfYear(zone)"),
    accessor("getHours", Part::Hours, "time.getHours() or time.getHours(zone)"),
    accessor("getMinutes", Part::Minutes, "time.getMinutes() or time.getMinutes(zone)"),
    accessor("getSeconds", Part::Seconds, "time.getSeconds() or time.getSeconds(zone)"),
    accessor("getMilliseconds", Part::Milliseconds, "time.getMilliseconds() or time.getMilliseconds(zone)"),
];

impl Function {
    /// The function called in this way; an error says how it is called, or which one may have been meant.
    pub fn find(name: &str, is_member: bool, arguments: usize) -> Result<Function, String> {
        let Some(signature) = SIGNATURES.iter().find(|known| known.name == name) else {
            let near = SIGNATURES
                .iter()
                .map(|known| known.name)
                .chain([
                    "matches",
                    "has",
                    "all",
                    "exists",
                    "exists_one",
                    "map",
                    "filter",
                ])
                .find(|known| known.eq_ignore_ascii_case(&name.replace('_', "")));
            return Err(match near {
                Some(near) => format!("there is no function `{name}`; did you mean `{near}`?"),
                None => format!("there is no function `{name}`"),
            });
        };
        let counts = if is_member {
            signature.member
        } else {
            signature.global
        };
        if !counts.contains(&arguments) {
            return Err(format!("`{name}` is called as {}", signature.usage));
        }
        Ok(signature.function)
    }

    /// The function's name.
    pub fn name(self) -> &'static str {
        SIGNATURES
            .iter()
            .find(|known| known.function == self)
            .map_or("", |known| known.name)
    }

    /// The type of the result for arguments of these types, or `None` if the function isn't defined for them. For
    /// `dyn` and `json` any type, which isn't asked for here.
    pub fn result(self, first: Kind, second: Option<Kind>) -> Option<Kind> {
        use Kind as K;
        let number = first.is_number();
        match self {
            Function::Size => {
                matches!(first, K::String | K::Bytes | K::List | K::Map).then_some(K::Int)
            }
            Function::Contains | Function::StartsWith | Function::EndsWith => {
                (first == K::String && second == Some(K::String)).then_some(K::Bool)
            }
            Function::Int => {
                (number || matches!(first, K::String | K::Timestamp)).then_some(K::Int)
            }
            Function::Uint => (number || first == K::String).then_some(K::Uint),
            Function::Double => (number || first == K::String).then_some(K::Double),
            Function::String => (!matches!(first, K::Null | K::List | K::Map)).then_some(K::String),
            Function::Bytes => matches!(first, K::Bytes | K::String).then_some(K::Bytes),
            Function::Bool => matches!(first, K::Bool | K::String).then_some(K::Bool),
            Function::Timestamp => {
                matches!(first, K::Timestamp | K::String | K::Int).then_some(K::Timestamp)
            }
            Function::Duration => matches!(first, K::Duration | K::String).then_some(K::Duration),
            Function::Dyn => Some(first),
            Function::Json => matches!(first, K::String | K::Bytes).then_some(K::Map),
            Function::Get(part) => {
                let of_time = first == K::Timestamp && matches!(second, None | Some(K::String));
                let of_duration = first == K::Duration
                    && second.is_none()
                    && matches!(
                        part,
                        Part::Hours | Part::Minutes | Part::Seconds | Part::Milliseconds
                    );
                (of_time || of_duration).then_some(K::Int)
            }
        }
    }

    /// Calls it.
    pub fn call<'a>(self, first: Value<'a>, second: Option<Value<'a>>) -> Result<Value<'a>, Why> {
        match (self, first, second) {
            (Function::Size, value, None) => size(&value).map(Value::Int),
            (Function::Contains, Value::String(text), Some(Value::String(part))) => {
                Ok(Value::Bool(text.contains(part.as_ref())))
            }
            (Function::StartsWith, Value::String(text), Some(Value::String(part))) => {
                Ok(Value::Bool(text.starts_with(part.as_ref())))
            }
            (Function::EndsWith, Value::String(text), Some(Value::String(part))) => {
                Ok(Value::Bool(text.ends_with(part.as_ref())))
            }
            (Function::Dyn, value, None) => Ok(value),
            (Function::Json, Value::String(text), None) => json(match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
            (Function::Json, Value::Bytes(bytes), None) => json(bytes),
            (Function::Get(part), Value::Timestamp(time), None) => {
                Ok(Value::Int(time.part(part, 0)))
            }
            (Function::Get(part), Value::Timestamp(time), Some(Value::String(zone))) => {
                let offset = time::zone_offset(&zone).ok_or_else(|| {
                    Why::other(format!(
                        "{} isn't a time zone: it is \"UTC\" or an offset such as \"+02:00\"",
                        quoted(&zone)
                    ))
                })?;
                Ok(Value::Int(time.part(part, offset)))
            }
            (Function::Get(part), Value::Duration(length), None) => {
                let none = Why::NoOverload(self.name(), Kind::Duration, None);
                length.part(part).map(Value::Int).ok_or(none)
            }
            (_, value, None) => self.convert(value),
            (_, first, second) => {
                let second = second.map(|value| value.kind());
                Err(Why::NoOverload(self.name(), first.kind(), second))
            }
        }
    }

    fn convert(self, value: Value<'_>) -> Result<Value<'_>, Why> {
        let overflow = || Why::Overflow(self.name());
        let unreadable =
            |text: &str| Why::other(format!("{} can't be read as {}", quoted(text), self.name()));
        Ok(match (self, value) {
            (Function::Int, value @ Value::Int(_))
            | (Function::Uint, value @ Value::Uint(_))
            | (Function::Double, value @ Value::Double(_))
            | (Function::String, value @ Value::String(_))
            | (Function::Bytes, value @ Value::Bytes(_))
            | (Function::Bool, value @ Value::Bool(_))
            | (Function::Timestamp, value @ Value::Timestamp(_))
            | (Function::Duration, value @ Value::Duration(_)) => value,

            (Function::Int, Value::Uint(number)) => {
                Value::Int(i64::try_from(number).map_err(|_| overflow())?)
            }
            // -2^63 would fit, but CEL's reference implementation refuses both ends.
            (Function::Int, Value::Double(number))
                if number.abs() < 9_223_372_036_854_775_808.0 =>
            {
                Value::Int(number as i64)
            }
            (Function::Int, Value::Double(_)) => return Err(overflow()),
            (Function::Int, Value::Timestamp(time)) => Value::Int(time.seconds()),
            (Function::Int, Value::String(text)) => {
                Value::Int(text.parse().map_err(|_| unreadable(&text))?)
            }

            (Function::Uint, Value::Int(number)) => {
                Value::Uint(u64::try_from(number).map_err(|_| overflow())?)
            }
            (Function::Uint, Value::Double(number))
                if (0.0..18_446_744_073_709_551_616.0).contains(&number) =>
            {
                Value::Uint(number as u64)
            }
            (Function::Uint, Value::Double(_)) => return Err(overflow()),
            (Function::Uint, Value::String(text)) => {
                Value::Uint(text.parse().map_err(|_| unreadable(&text))?)
            }

            (Function::Double, Value::Int(number)) => Value::Double(number as f64),
            (Function::Double, Value::Uint(number)) => Value::Double(number as f64),
            (Function::Double, Value::String(text)) => {
                Value::Double(text.parse().map_err(|_| unreadable(&text))?)
            }

            (Function::String, Value::Bool(truth)) => Value::String(truth.to_string().into()),
            (Function::String, Value::Int(number)) => Value::String(number.to_string().into()),
            (Function::String, Value::Uint(number)) => Value::String(number.to_string().into()),
            (Function::String, Value::Double(number)) => Value::String(number.to_string().into()),
            (Function::String, Value::Timestamp(time)) => Value::String(time.to_string().into()),
            (Function::String, Value::Duration(length)) => Value::String(length.to_string().into()),
            (Function::String, Value::Bytes(Cow::Borrowed(bytes))) => {
                let text = std::str::from_utf8(bytes).map_err(|_| not_utf8())?;
                Value::String(Cow::Borrowed(text))
            }
            (Function::String, Value::Bytes(Cow::Owned(bytes))) => {
                Value::String(String::from_utf8(bytes).map_err(|_| not_utf8())?.into())
            }

            (Function::Bytes, Value::String(Cow::Borrowed(text))) => {
                Value::Bytes(Cow::Borrowed(text.as_bytes()))
            }
            (Function::Bytes, Value::String(Cow::Owned(text))) => {
                Value::Bytes(Cow::Owned(text.into_bytes()))
            }

            (Function::Bool, Value::String(text)) => match text.as_ref() {
                "true" | "True" | "TRUE" | "t" | "T" | "1" => Value::Bool(true),
                "false" | "False" | "FALSE" | "f" | "F" | "0" => Value::Bool(false),
                _ => return Err(unreadable(&text)),
            },

            (Function::Timestamp, Value::Int(seconds)) => {
                Value::Timestamp(Timestamp::from_seconds(seconds).ok_or_else(overflow)?)
            }
            (Function::Timestamp, Value::String(text)) => {
                Value::Timestamp(Timestamp::parse(&text).ok_or_else(|| unreadable(&text))?)
            }
            (Function::Duration, Value::String(text)) => {
                Value::Duration(Duration::parse(&text).ok_or_else(|| unreadable(&text))?)
            }
            (_, value) => return Err(Why::NoOverload(self.name(), value.kind(), None)),
        })
    }
}

/// A record's text for a message: in quotes, and cut short.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn size(value: &Value<'_>) -> Result<i64, Why> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.size(),
        Value::Map(map) => map.size(),
        other => return Err(Why::NoOverload("size", other.kind(), None)),
    };
    Ok(size as i64)
}

fn json(text: Cow<'_, [u8]>) -> Result<Value<'_>, Why> {
    let malformed = |error: weir_guest::json::Error| Why::other(error.to_string());
    match text {
        Cow::Borrowed(text) => Raw::parse(text).map(Value::from).map_err(malformed),
        Cow::Owned(text) => Raw::parse(&text)
            .map(|raw| Value::from(raw).into_static())
            .map_err(malformed),
    }
}

fn not_utf8() -> Why {
    Why::other("the bytes aren't UTF-8")
}
