//! Expressions in [CEL](https://cel.dev), the Common Expression Language, over a record: what `filter` keeps records by,
//! and `route` sends them by.
//!
//! [`compile`](compile::compile) makes a [`Program`](program::Program) of an expression's text, once; the program then
//! [holds](program::Program::holds) for a record or not, or has no value for it and says why. Several expressions can
//! share one scan of the record's value, see [`compile_beside`](compile::compile_beside).
//!
//! An expression that can be seen to be wrong isn't compiled, and its error has line and column: one that can't be
//! parsed, calls what there isn't, uses an operator on types that it isn't defined for, or never gives a bool. What only
//! shows with a record (a string where a number is needed, an overflow, a division by zero) is a
//! [`Fault`](fault::Fault), with the place and the reason.
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
//! expression decides without it (`absent > 1 || other == 2`). If it isn't decided, the transform's setting `missing`
//! says what becomes of the record. It covers what is absent from the record only: not a field of the wrong type, and
//! not a null.
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
