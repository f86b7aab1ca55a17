//! The config: what was typed, and what it comes to once its settings are checked against each other.

use chrono::FixedOffset;
use serde::Deserialize;
use weir_guest::Tombstones;

use crate::instant::Unit;
use crate::iso::Iso;
use crate::pattern::{Reader, Writer};

/// The JSON Schema of [`Config`].
pub const SCHEMA: &str = include_str!("schema.json");

/// The config as it's typed. `schema.json` describes each setting.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    from: From,
    to: String,
    unit: Option<Unit>,
    parse: Option<String>,
    format: Option<String>,
    precision: Option<Unit>,
    zone: Option<String>,
    rename: Option<String>,
    #[serde(default)]
    drop: bool,
    #[serde(default)]
    missing: Missing,
    #[serde(default)]
    existing: Existing,
    #[serde(default)]
    tombstones: Tombstones,
}

/// Where the time comes from.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a field's path, such as \"timestamp\", or { record = \"timestamp\" } for the record's own"
)]
enum From {
    Field(String),
    Record {
        #[serde(rename = "record")]
        _part: RecordPart,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecordPart {
    Timestamp,
}

/// What becomes of a record without a time to format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// The record is refused.
    #[default]
    Refuse,
    /// The record comes out as it came in.
    Keep,
    /// The record doesn't come out.
    Drop,
}

/// What becomes of a field that stands where the date is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// The date takes its place.
    #[default]
    Replace,
    /// It stays, and the date isn't written.
    Keep,
    /// The record is refused.
    Refuse,
}

/// The config, checked.
pub struct Plan {
    /// Where the time comes from.
    pub source: Source,
    /// The path of the date.
    pub to: String,
    /// How the date is written.
    pub output: Output,
    /// Seconds east of UTC of the zone that the date is written in.
    pub offset: i32,
    /// See [`Missing`].
    pub missing: Missing,
    /// See [`Existing`].
    pub existing: Existing,
    /// See [`Tombstones`].
    pub tombstones: Tombstones,
}

/// Where the time comes from.
pub enum Source {
    /// The record's own timestamp.
    Record,
    /// A field of the value.
    Field {
        /// Its path.
        path: String,
        /// What it holds.
        reading: Reading,
        /// What becomes of it.
        after: After,
    },
}

/// What a field holds.
pub enum Reading {
    /// A number.
    Number(Unit),
    /// A string.
    Text(Reader),
}

/// What becomes of the source field.
#[derive(Debug, PartialEq, Eq)]
pub enum After {
    /// It stays as it is.
    Keep,
    /// It gets a new name, the last one of this path, and stays in its place.
    Rename(String),
    /// It's taken away.
    Drop,
}

/// How a date is written.
pub enum Output {
    /// ISO 8601
    Iso(Iso),
    /// By a pattern
    Pattern(Writer),
}

impl TryFrom<Config> for Plan {
    type Error = String;

    fn try_from(config: Config) -> Result<Plan, String> {
        let zone = match &config.zone {
            None => parse_zone("UTC"),
            Some(zone) => parse_zone(zone),
        }?;
        let (output, precision) = (output(&config, zone)?, config.precision);
        if precision.is_some() && matches!(output, Output::Pattern(_)) {
            return Err(
                "precision is for iso8601: a pattern says its own, as %.3f for milliseconds"
                    .to_string(),
            );
        }
        let (to, missing) = (config.to.clone(), config.missing);
        let (existing, tombstones) = (config.existing, config.tombstones);
        Ok(Plan {
            source: source(config, zone)?,
            to,
            output,
            offset: zone.local_minus_utc(),
            missing,
            existing,
            tombstones,
        })
    }
}

fn output(config: &Config, zone: FixedOffset) -> Result<Output, String> {
    match config.format.as_deref() {
        None | Some("iso8601" | "rfc3339") => {
            let unit = match config.parse {
                None => config.unit,
                Some(_) => None,
            };
            let precision = config.precision.or(unit).unwrap_or(Unit::Ms);
            Ok(Output::Iso(Iso::new(precision, zone.local_minus_utc())))
        }
        Some(format) if !format.contains('%') => Err(format!(
            "format {format:?} is unknown: use iso8601, rfc3339, or a strftime pattern such as \"%Y-%m-%d\""
        )),
        Some(format) => match Writer::new(format, zone) {
            Ok(writer) => Ok(Output::Pattern(writer)),
            Err(error) => Err(format!("format {format:?} is wrong: {error}")),
        },
    }
}

fn source(config: Config, zone: FixedOffset) -> Result<Source, String> {
    let From::Field(path) = config.from else {
        let set = [
            ("unit", config.unit.is_some()),
            ("parse", config.parse.is_some()),
            ("rename", config.rename.is_some()),
            ("drop", config.drop),
        ];
        return match set.iter().find(|(_, is_set)| *is_set) {
            None => Ok(Source::Record),
            Some((name, _)) => Err(format!(
                "{name} is for a field, but from is the record's own timestamp: leave {name} out"
            )),
        };
    };
    let reading = match config.parse.as_deref() {
        Some(_) if config.unit.is_some() => {
            return Err(
                "unit is for numbers and parse is for strings: leave one of them out".to_string(),
            );
        }
        None => Reading::Number(config.unit.unwrap_or(Unit::Ms)),
        Some("rfc3339" | "iso8601") => Reading::Text(Reader::Rfc3339),
        Some(pattern) => match Reader::new(pattern, zone) {
            Ok(reader) => Reading::Text(reader),
            Err(error) if pattern.contains('%') => {
                return Err(format!("parse {pattern:?} is wrong: {error}"));
            }
            Err(_) => {
                return Err(format!(
                    "parse {pattern:?} is unknown: use rfc3339, or a strftime pattern such as \"%Y-%m-%d %H:%M:%S\""
                ));
            }
        },
    };
    let after = match (config.rename, config.drop) {
        (Some(_), true) => {
            return Err("rename and drop exclude each other: leave one of them out".to_string());
        }
        (None, true) => After::Drop,
        (None, false) => After::Keep,
        (Some(name), false) => After::Rename(sibling(&path, &name)),
    };
    if path == config.to && after != After::Keep {
        let name = match after {
            After::Drop => "drop",
            _ => "rename",
        };
        return Err(format!(
            "from and to are the same field, {path:?}, which the date replaces: leave {name} out, or use another to"
        ));
    }
    let renamed = match &after {
        After::Rename(renamed) => renamed,
        _ => &path,
    };
    for (outer, inner) in [
        (&path, &config.to),
        (&config.to, &path),
        (renamed, &config.to),
    ] {
        if is_inside(inner, outer) {
            return Err(format!(
                "to is {:?}, and {inner:?} would be inside {outer:?}: write the date to a field of its own",
                config.to
            ));
        }
    }
    Ok(Source::Field {
        path,
        reading,
        after,
    })
}

/// Whether a field at the path `inner` would be part of one at `outer`.
fn is_inside(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// The path of a field called `name` beside the one at `path`.
fn sibling(path: &str, name: &str) -> String {
    // A dot after a backslash is part of a name, unless that backslash is escaped itself.
    let mut escaped = false;
    let mut parent = 0;
    for (at, byte) in path.bytes().enumerate() {
        if byte == b'.' && !escaped {
            parent = at + 1;
        }
        escaped = byte == b'\\' && !escaped;
    }
    format!("{}{name}", &path[..parent])
}

/// `UTC`, or an offset such as `+02:00`, less than a day.
fn parse_zone(zone: &str) -> Result<FixedOffset, String> {
    parse_offset(zone).ok_or_else(|| {
        format!(
            "zone {zone:?} is unknown: use UTC or a fixed offset such as \"+02:00\" or \"-09:30\""
        )
    })
}

fn parse_offset(zone: &str) -> Option<FixedOffset> {
    if zone == "UTC" || zone == "Z" {
        return FixedOffset::east_opt(0);
    }
    let &[sign, h1, h2, b':', m1, m2] = zone.as_bytes() else {
        return None;
    };
    if ![h1, h2, m1, m2].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let hours = i32::from(h1 - b'0') * 10 + i32::from(h2 - b'0');
    let minutes = i32::from(m1 - b'0') * 10 + i32::from(m2 - b'0');
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 60 + minutes) * 60;
    match sign {
        b'+' => FixedOffset::east_opt(seconds),
        b'-' => FixedOffset::west_opt(seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plan(config: Value) -> Result<Plan, String> {
        let config: Config = serde_json::from_value(config).map_err(|error| error.to_string())?;
        config.try_into()
    }

    fn check_error(config: Value, expected: &str) {
        let error = plan(config.clone()).err().unwrap_or_default();
        assert!(error.contains(expected), "{config}: {error:?}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let base = json!({"from": "t", "to": "date"});
        let with = |more: Value| {
            let mut config = base.clone();
            config
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            config
        };
        assert!(plan(base.clone()).is_ok());
        check_error(
            with(json!({"unit": "ms", "parse": "%s"})),
            "unit is for numbers",
        );
        check_error(
            with(json!({"rename": "u", "drop": true})),
            "exclude each other",
        );
        check_error(with(json!({"to": "t", "drop": true})), "leave drop out");
        check_error(with(json!({"to": "t", "rename": "u"})), "leave rename out");
        check_error(
            with(json!({"format": "%F", "precision": "ms"})),
            "precision is for iso8601",
        );
        check_error(with(json!({"format": "iso"})), "format \"iso\" is unknown");
        check_error(with(json!({"format": "%Y-%Q"})), "character 4, \"%Q\"");
        check_error(with(json!({"parse": "iso"})), "parse \"iso\" is unknown");
        check_error(with(json!({"parse": "%H:%M"})), "doesn't tell a date");
        check_error(with(json!({"parse": "%Y-%m-%Q"})), "character 7, \"%Q\"");
        check_error(with(json!({"unit": "min"})), "unknown variant `min`");
        check_error(with(json!({"form": "%F"})), "unknown field `form`");
        check_error(
            with(json!({"from": {"record": "key"}})),
            "or { record = \"timestamp\" }",
        );
        check_error(with(json!({"from": 1})), "expected a field's path");
        for (name, value) in [
            ("unit", json!("s")),
            ("parse", json!("%s")),
            ("rename", json!("u")),
            ("drop", json!(true)),
        ] {
            let config = with(json!({"from": {"record": "timestamp"}, name: value}));
            check_error(config, &format!("{name} is for a field"));
        }
        check_error(json!({"from": "t"}), "missing field `to`");
        check_error(json!({"to": "t"}), "missing field `from`");
    }

    #[test]
    fn zones_are_utc_or_offsets() {
        let seconds = |zone| parse_zone(zone).map(|zone| zone.local_minus_utc());
        assert_eq!(seconds("UTC"), Ok(0));
        assert_eq!(seconds("Z"), Ok(0));
        assert_eq!(seconds("+02:00"), Ok(7200));
        assert_eq!(seconds("-09:30"), Ok(-34200));
        assert_eq!(seconds("+23:59"), Ok(86340));
        for zone in [
            "",
            "utc",
            "Europe/Berlin",
            "+2:00",
            "+0200",
            "+24:00",
            "+02:60",
            "02:00 ",
            "*02:00",
            "+\u{e9}:00",
        ] {
            assert!(
                seconds(zone)
                    .unwrap_err()
                    .contains("use UTC or a fixed offset"),
                "{zone}"
            );
        }
    }

    #[test]
    fn a_new_name_stays_in_the_fields_object() {
        assert_eq!(sibling("t", "u"), "u");
        assert_eq!(sibling("a.b.t", "u"), "a.b.u");
        assert_eq!(sibling(r"a\.b", "u"), "u");
        assert_eq!(sibling(r"a\\.b", "u"), r"a\\.u");
        assert_eq!(sibling(r"a.b\.c", "u"), "a.u");
    }

    #[test]
    fn the_schema_lists_the_settings_and_their_values() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert_eq!(schema["additionalProperties"], false);
        let properties = schema["properties"].as_object().unwrap();
        let unknown = plan(json!({"?": 1})).err().unwrap();
        let mut settings: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
        let mut listed: Vec<&str> = properties.keys().map(String::as_str).collect();
        settings.sort();
        listed.sort();
        assert_eq!(listed, settings);
        for name in schema["required"].as_array().unwrap() {
            let mut config = json!({"from": "t", "to": "date"});
            config
                .as_object_mut()
                .unwrap()
                .remove(name.as_str().unwrap());
            check_error(
                config,
                &format!("missing field `{}`", name.as_str().unwrap()),
            );
        }
        for (name, property) in properties {
            assert!(property["description"].is_string(), "{name}");
            let values = ["enum", "examples"]
                .iter()
                .filter_map(|key| property[key].as_array());
            for value in values.flatten().chain(property.get("default")) {
                let mut config = json!({"from": "t", "to": "date"});
                config[name] = value.clone();
                assert!(
                    plan(config).is_ok(),
                    "{name} = {value}: {:?}",
                    plan(json!({"from": "t", "to": "date", name: value})).err()
                );
            }
            if property.get("enum").is_some() {
                check_error(
                    json!({"from": "t", "to": "date", name: "?"}),
                    "unknown variant `?`",
                );
            }
        }
        for example in schema["examples"].as_array().unwrap() {
            assert!(plan(example.clone()).is_ok(), "{example}");
        }
    }
}
