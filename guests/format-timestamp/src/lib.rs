//! A Weir transform that writes a time as a date.
//!
//! The time comes from a field of the JSON value, a number or a string, or from the record's own timestamp. The date
//! goes to a field of the value, as ISO 8601 or by a strftime pattern. With
//! `{ from = "timestamp", rename = "event_time", to = "iso_date" }`
//!
//! ```text
//! {"stock_name":"BTC-USD","stock_value":37812.759521484375,"timestamp":1634221557011}
//! ```
//! becomes
//! ```text
//! {"stock_name":"BTC-USD","stock_value":37812.759521484375,"event_time":1634221557011,"iso_date":"2021-10-14T14:25:57.011Z"}
//! ```
//!
//! `schema.json` describes the settings, and what becomes of records that don't fit them.

mod config;
pub mod instant;
pub mod iso;
mod pattern;

use weir_guest::json::{Fields, Found, Kind, Object, Raw};
use weir_guest::{Needs, Record, Refusal, Transform, Verdict, refuse};

use config::{After, Existing, Missing, Output, Plan, Reading, Source};
use instant::{Instant, NumberError};

pub use config::{Config, SCHEMA};

/// The transform.
pub struct FormatTimestamp {
    plan: Plan,
    fields: Fields,
    found: Found,
    /// Where a pattern writes a date, so that it's allocated once.
    text: String,
}

/// Where the fields are in [`Fields`]; `FROM` and `RENAME` only if the config has them.
const TO: usize = 0;
const FROM: usize = 1;
const RENAME: usize = 2;

impl Transform for FormatTimestamp {
    type Config = Config;

    const SCHEMA: &'static str = SCHEMA;

    fn new(config: Config) -> Result<FormatTimestamp, String> {
        let plan = Plan::try_from(config)?;
        let mut paths = vec![plan.to.as_str()];
        if let Source::Field { path, after, .. } = &plan.source {
            paths.push(path);
            if let After::Rename(path) = after {
                paths.push(path);
            }
        }
        let fields = Fields::new(&paths)?;
        if fields.len() > RENAME && !fields.are_siblings(FROM, RENAME) {
            return Err(format!(
                "rename is a path, {:?}, but the field stays in its object: use a name, with \\. for a dot",
                fields.path(RENAME)
            ));
        }
        Ok(FormatTimestamp {
            plan,
            fields,
            found: Found::default(),
            text: String::new(),
        })
    }

    fn needs(&self) -> Needs {
        match self.plan.source {
            Source::Record => Needs::VALUES | Needs::TIMESTAMPS,
            Source::Field { .. } => Needs::VALUES,
        }
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        let plan = &mut self.plan;
        let Some(value) = record.value() else {
            return plan.tombstones.verdict();
        };
        let mut object = self.fields.scan(value, &mut self.found)?;
        let instant = match &plan.source {
            Source::Record => record.timestamp().map(Instant::from_millis),
            Source::Field { path, reading, .. } => match object.get(FROM) {
                Some(time) if time.kind() != Kind::Null => Some(read(time, path, reading)?),
                _ => None,
            },
        };
        let Some(instant) = instant else {
            return match plan.missing {
                Missing::Refuse => Err(missing(&object, &plan.source)),
                Missing::Keep => Ok(Verdict::Keep),
                Missing::Drop => Ok(Verdict::Drop),
            };
        };
        // The field that the time is read from may be the one that the date goes to.
        let mut replaces_source = false;
        if let Source::Field { path, after, .. } = &plan.source {
            match after {
                After::Keep => replaces_source = *path == plan.to,
                After::Drop => object.remove(FROM),
                After::Rename(_) => {
                    object.rename(FROM, RENAME)?;
                }
            }
        }
        if plan.existing != Existing::Replace && !replaces_source && object.has(TO) {
            if plan.existing == Existing::Refuse {
                return Err(refuse(format!("`{}` exists already", plan.to)));
            }
        } else {
            match &mut plan.output {
                Output::Iso(iso) => match iso.write(instant) {
                    Some(json) => object.set(TO, json),
                    None => return Err(out_of_range(&object, plan, instant)),
                },
                Output::Pattern(writer) => {
                    self.text.clear();
                    match writer.write(instant, &mut self.text) {
                        Some(()) => object.set_str(TO, &self.text),
                        None => return Err(out_of_range(&object, plan, instant)),
                    }
                }
            }
        }
        record.set_value_json(&mut object)?;
        Ok(Verdict::Keep)
    }
}

weir_guest::export!(FormatTimestamp);

/// The point in time that a field tells.
#[inline]
fn read(time: Raw<'_>, path: &str, reading: &Reading) -> Result<Instant, Refusal> {
    match (reading, time.kind()) {
        (Reading::Number(unit), Kind::Number) => Instant::from_number(time.as_bytes(), *unit)
            .map_err(|error| unread_number(time, path, reading, error)),
        (Reading::Text(reader), Kind::String) => {
            let text = time.as_str().unwrap_or_default();
            reader.read(&text).map_err(|error| {
                let time = shown(time);
                refuse(format!(
                    "`{path}` is {time}, which parse doesn't read as a date: {error}"
                ))
            })
        }
        (_, kind) => Err(unexpected(time, path, reading, kind)),
    }
}

#[cold]
fn unread_number(time: Raw<'_>, path: &str, reading: &Reading, error: NumberError) -> Refusal {
    let time = shown(time);
    match error {
        NumberError::OutOfRange => refuse(format!(
            "`{path}` is {time}, which as {} lies outside the years 1 to 9999",
            expected(reading)
        )),
        NumberError::NotANumber => refuse(format!(
            "`{path}` is {time}, which isn't {}",
            expected(reading)
        )),
    }
}

#[cold]
fn unexpected(time: Raw<'_>, path: &str, reading: &Reading, kind: Kind) -> Refusal {
    let hint = match (reading, kind) {
        (Reading::Number(_), Kind::String) => " (parse reads strings)",
        (Reading::Text(_), Kind::Number) => " (without parse, numbers are read)",
        _ => "",
    };
    refuse(format!(
        "`{path}` is {kind}, {}, not {}{hint}",
        shown(time),
        expected(reading)
    ))
}

#[cold]
fn missing(object: &Object<'_, '_>, source: &Source) -> Refusal {
    match source {
        Source::Record => refuse("the record has no timestamp"),
        Source::Field { path, reading, .. } => {
            let what = match object.has(FROM) {
                true => "null",
                false => "missing",
            };
            refuse(format!(
                "`{path}` is {what}: expected {}",
                expected(reading)
            ))
        }
    }
}

#[cold]
fn out_of_range(object: &Object<'_, '_>, plan: &Plan, instant: Instant) -> Refusal {
    let zone = match plan.offset {
        0 => "UTC",
        _ => "its zone",
    };
    let (what, time) = match &plan.source {
        Source::Field { path, .. } => (
            format!("`{path}`"),
            object.get(FROM).map(shown).unwrap_or_default(),
        ),
        Source::Record => (
            "the record's timestamp".to_owned(),
            format!("{} seconds since 1970", instant.seconds),
        ),
    };
    refuse(format!(
        "{what} is {time}, which in {zone} lies outside the years 1 to 9999"
    ))
}

fn expected(reading: &Reading) -> String {
    match reading {
        Reading::Number(unit) => format!("a number of {} since 1970", unit.name()),
        Reading::Text(_) => "a string that tells a date".to_owned(),
    }
}

/// A value as a refusal shows it, cut short.
fn shown(value: Raw<'_>) -> String {
    const MAX_CHARS: usize = 64;
    let mut text: String = value.text().chars().take(MAX_CHARS).collect();
    if text.len() < value.text().len() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests;
