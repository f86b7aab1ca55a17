//! `filter`: keeps or drops records by an expression in [CEL](https://cel.dev), the Common Expression Language.
//!
//! ```toml
//! [[pipelines.stocks.transforms]]
//! name = "even"
//! module = "filter.wasm"
//! config = { keep = "event_time % 2 == 0" }
//! ```
//!
//! # Config
//!
//! | key | |
//! |---|---|
//! | `keep` | the records for which this expression is true go on; the others are dropped |
//! | `drop` | the records for which this expression is true are dropped; exactly one of `keep` and `drop` is given |
//! | `missing` | what becomes of a record that lacks what the expression needs: `"refuse"` (default), `"drop"` or `"keep"` |
//! | `tombstones` | what becomes of a null value, if the expression reads the value: `"pass"` (default), `"drop"` or `"refuse"` |
//!
//! An expression that can be seen to be wrong fails `init`, with line and column: one that can't be parsed, calls what
//! there isn't, uses an operator on types that it isn't defined for, or never gives a bool. What only shows with a
//! record (a string where a number is needed, an overflow, a division by zero) refuses that record, with the place and
//! the reason. A record goes out as it came in, byte for byte; nothing but its index crosses back.
//!
//! # What an expression can read
//!
//! | name | type | |
//! |---|---|---|
//! | `event_time`, `a.b.c`, `tags[0]`, `a["b-c"]` | any of JSON's | the fields of the JSON value |
//! | `record.value` | any of JSON's | the whole JSON value, of whatever kind |
//! | `record.key` | bytes, or null | |
//! | `record.headers` | map from string to bytes, or null | by name; of several of a name, the last; names that aren't UTF-8 are left out |
//! | `record.timestamp` | timestamp | absent if the record has none |
//! | `record.topic` | string | |
//! | `record.partition`, `record.offset` | int | |
//!
//! Only what is named is handed to the guest: a filter on `record.headers` never sees a value, and works for values that
//! aren't JSON. If the expression reads the value, all of it must be well-formed JSON, and for fields an object.
//!
//! - A field whose name is no identifier is reached by index or in backticks: `record.value["event-time"]`,
//!   `a.` + `` `b-c` ``. A field called `record` is `record.value.record`; likewise one that has the name of a reserved
//!   word (`in`, `package`, `import`, …): `record.value["in"]`.
//! - A field that stands several times in an object has its last value.
//! - Keys and headers are bytes: `string(record.key) == "BTC-USD"`, `record.headers.source == b"mobile"`. If they are
//!   JSON: `json(record.key).stock_name == "BTC-USD"`.
//! - `has(a.b)` tells whether `a` has a field `b`, `has(record.value.b)` whether the value itself has one,
//!   `"x" in record.headers` or `has(record.headers.x)` whether there is such a header. A field that is null is there.
//!
//! # Missing
//!
//! A name, a field, a key or an element that the record doesn't have is an error of CEL, unless the rest of the
//! expression decides without it (`absent > 1 || other == 2`). If it isn't decided, `missing` says what becomes of the
//! record. It covers what is absent from the record only: not a field of the wrong type, and not a null.
//!
//! # Types
//!
//! `int` (64 bits, signed), `uint` (`1u`), `double`, `bool`, `string`, `bytes` (`b"\xff"`), `null`, `list`, `map`,
//! `timestamp`, `duration`. A JSON number written without fraction and exponent is an int if it fits, else a uint if
//! that fits; every other number is a double. (So `event_time % 2` is defined; CEL's own mapping of JSON would make a
//! double of each.)
//!
//! Arithmetic is between numbers of the same type, and an overflow is an error; `int(x)`, `uint(x)`, `double(x)`
//! convert. Comparisons are between numbers of all types, by what they are worth: `1 == 1.0`, `2u > 1`. Values of
//! different types are otherwise never equal, and have no order.
//!
//! # Operators and functions
//!
//! | | |
//! |---|---|
//! | `! - * / % + < <= > >= == != in && \|\| ?: [] .` | as CEL defines them; `&&` and `\|\|` give a value if either side decides, even if the other is an error |
//! | `size(x)` | characters of a string, bytes, elements of a list, entries of a map; also `x.size()` |
//! | `s.contains(t)`, `s.startsWith(t)`, `s.endsWith(t)` | of strings |
//! | `s.matches(regex)` | whether the regular expression matches anywhere in the string; RE2's syntax without `\p{…}`, and `(?i)` for ASCII only |
//! | `int(x)`, `uint(x)`, `double(x)`, `bool(x)`, `string(x)`, `bytes(x)` | conversions; of a string by reading it, of bytes as UTF-8 |
//! | `timestamp(x)` | of RFC 3339 text, or of seconds since 1970: `timestamp(event_time / 1000)` |
//! | `duration(x)` | of text such as `"1h30m"`, `"250ms"` |
//! | `t.getFullYear()`, `getMonth` (from 0), `getDate` (from 1), `getDayOfMonth` (from 0), `getDayOfWeek` (0 is Sunday), `getDayOfYear` (from 0), `getHours`, `getMinutes`, `getSeconds`, `getMilliseconds` | of a timestamp, in UTC or in a zone: `t.getHours("+02:00")`; zones by name aren't known. The last four also of a duration, all of it in that unit |
//! | `timestamp - timestamp`, `timestamp + duration`, `duration + duration`, … | |
//! | `type(x) == int` | also `uint`, `double`, `bool`, `string`, `bytes`, `list`, `map`, `null_type`, `google.protobuf.Timestamp`, `google.protobuf.Duration`. These are names of types only there: elsewhere they are fields |
//! | `dyn(x)` | `x`, of no known type |
//! | `json(x)` | the JSON value that a string or bytes hold (not part of CEL) |
//! | `list.all(v, …)`, `exists`, `exists_one`, `filter`, `map(v, …)`, `map(v, condition, …)` | `v` is each element of a list, each key of a map |
//!
//! There are no message types, no optional values (`a.?b`) and no `bind`. An expression has at most 32 KiB, brackets 32
//! deep, and 128 operators and calls on top of each other, where `&&`, `||` and commas start anew.

mod check;
pub mod compile;
mod evaluate;
pub mod fault;
mod fold;
mod functions;
pub mod input;
mod operators;
pub mod parse;
mod pattern;
pub mod program;
pub mod time;
pub mod value;

use serde::Deserialize;
use weir_guest::json::{Fields, Found, Raw};
use weir_guest::{Needs, Record, Refusal, Tombstones, Transform, Verdict, refuse};

use crate::fault::Fault;
use crate::input::{Headers, Input};
use crate::parse::Place;
use crate::program::Program;
use crate::time::Timestamp;

weir_guest::export!(Filter);

/// Keeps or drops records by an expression.
pub struct Filter {
    program: Program,
    /// The program's fields.
    fields: Fields,
    found: Found,
    /// The expression's text, for messages.
    source: String,
    /// What becomes of the records for which the expression is true.
    hit: Verdict,
    missing: Missing,
    tombstones: Tombstones,
}

/// The config of a [`Filter`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The records for which this expression is true go on.
    keep: Option<String>,
    /// The records for which this expression is true are dropped.
    drop: Option<String>,
    /// What becomes of a record that lacks what the expression needs.
    #[serde(default)]
    missing: Missing,
    /// What becomes of a null value, if the expression reads the value.
    #[serde(default)]
    tombstones: Tombstones,
}

/// What becomes of a record that lacks what the expression needs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// It is refused.
    #[default]
    Refuse,
    /// It is dropped.
    Drop,
    /// It goes on.
    Keep,
}

impl Transform for Filter {
    type Config = Config;

    const SCHEMA: &'static str = include_str!("schema.json");

    fn new(config: Config) -> Result<Filter, String> {
        let (name, source, hit) = match (config.keep, config.drop) {
            (Some(source), None) => ("keep", source, Verdict::Keep),
            (None, Some(source)) => ("drop", source, Verdict::Drop),
            (Some(_), Some(_)) => {
                return Err("`keep` and `drop` are both given; give one of them".to_owned());
            }
            (None, None) => {
                return Err(
                    "`keep` or `drop` is needed: a CEL expression, such as keep = \"price > 100\""
                        .to_owned(),
                );
            }
        };
        let program = compile::compile(&source)
            .map_err(|error| format!("`{name}`, {}", error.show(&source)))?;
        let fields = Fields::new(&program.paths())?;
        Ok(Filter {
            program,
            fields,
            found: Found::default(),
            source,
            hit,
            missing: config.missing,
            tombstones: config.tombstones,
        })
    }

    fn needs(&self) -> Needs {
        let reads = self.program.reads;
        [
            (self.reads_value(), Needs::VALUES),
            (reads.key, Needs::KEYS),
            (reads.headers, Needs::HEADERS),
            (reads.timestamp, Needs::TIMESTAMPS),
            (reads.offset, Needs::POSITIONS),
        ]
        .into_iter()
        .filter(|(is_read, _)| *is_read)
        .fold(Needs::NONE, |needs, (_, column)| needs | column)
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        let reads = self.program.reads;
        let mut input = Input {
            topic: record.topic(),
            partition: record.partition(),
            ..Input::NONE
        };
        let object;
        if self.reads_value() {
            let Some(value) = record.value() else {
                return self.tombstones.verdict();
            };
            match self.fields.scan(value, &mut self.found) {
                Ok(scanned) => {
                    object = scanned;
                    input.whole = Some(object.root());
                    input.object = Some(&object);
                }
                // Well-formed but no object, which an expression on the whole value may deal with.
                Err(error) if reads.value && error.at().is_none() => {
                    input.whole = Some(Raw::parse(value)?);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if reads.key {
            input.key = record.key();
        }
        if reads.timestamp {
            input.timestamp = record.timestamp().and_then(Timestamp::from_millis);
        }
        if reads.offset {
            input.offset = record.offset();
        }
        let result = match reads.headers {
            true => holds_with_headers(&self.program, input, record),
            false => self.program.holds(&input),
        };
        let verdict = match result {
            Ok(truth) => Ok(if truth { self.hit } else { opposite(self.hit) }),
            Err(fault) if fault.is_missing() && self.missing != Missing::Refuse => {
                Ok(match self.missing {
                    Missing::Drop => Verdict::Drop,
                    _ => Verdict::Keep,
                })
            }
            Err(fault) => Err(fault),
        };
        verdict.map_err(|fault| refusal(&fault, self.hit, &self.source))
    }
}

impl Filter {
    #[inline]
    fn reads_value(&self) -> bool {
        self.program.reads.value || !self.fields.is_empty()
    }
}

/// Whether an expression that reads headers holds; apart, so that others don't pay for the headers' place.
#[inline(never)]
fn holds_with_headers(
    program: &Program,
    input: Input<'_>,
    record: &Record<'_>,
) -> Result<bool, Fault> {
    // The usual number of headers has its place on the stack.
    const FEW: usize = 16;
    let mut few: [(&[u8], Option<&[u8]>); FEW] = [(&[], None); FEW];
    let many: Vec<_>;
    let headers = record.headers();
    let count = headers.len();
    let headers = Headers(if count <= FEW {
        for (place, header) in few.iter_mut().zip(headers) {
            *place = header;
        }
        &few[..count]
    } else {
        many = headers.collect();
        &many
    });
    program.holds(&Input { headers, ..input })
}

fn opposite(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Keep => Verdict::Drop,
        Verdict::Drop => Verdict::Keep,
    }
}

#[cold]
fn refusal(fault: &Fault, hit: Verdict, source: &str) -> Refusal {
    let name = match hit {
        Verdict::Keep => "keep",
        Verdict::Drop => "drop",
    };
    let place = Place::of(source, fault.at as usize);
    refuse(format!("`{name}`, {place}: {}", fault.why))
}
