//! The config: what may be written, and what of it is possible.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use weir_guest::Tombstones;

use crate::action::{Action, Fixed, Hash, Mask};
use crate::path;
use crate::plan::{Plan, Tree};

/// The shortest key of a hash in bytes: 128 bits, if they're random.
const MIN_KEY: usize = 16;
/// The fewest hexadecimal digits of a hash: with 64 bits, different inputs have the same hash once in thousands of
/// millions.
const MIN_DIGITS: usize = 16;
/// All of SHA-256.
const MAX_DIGITS: usize = 64;

/// The config as it's written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    fields: Vec<Entry>,
    key: Option<Secret>,
    #[serde(default)]
    missing: Missing,
    #[serde(default)]
    tombstones: Tombstones,
}

/// One thing that is to be hidden.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    target: Target,
    name: Option<String>,
    path: Option<String>,
    action: Verb,
    key: Option<Secret>,
    length: Option<usize>,
    keep_first: Option<usize>,
    keep_last: Option<usize>,
    with: Option<Value>,
}

/// The part of the record that it's in.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Target {
    #[default]
    Value,
    Key,
    Header,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Remove,
    Mask,
    Hash,
    Replace,
}

/// What becomes of a record that lacks something that is to be hidden.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Missing {
    #[default]
    Skip,
    Refuse,
}

/// A key, which shows in no message.
#[derive(Clone)]
struct Secret(String);

/// The config, checked.
pub struct Checked {
    /// What becomes of the value.
    pub value: Option<Plan>,
    /// What becomes of the key.
    pub key: Option<Part>,
    /// What becomes of headers, by name.
    pub headers: Vec<(String, Part)>,
    pub is_missing_refused: bool,
    pub tombstones: Tombstones,
}

/// What becomes of a key or header.
pub enum Part {
    /// It's bytes or text.
    Whole(Action),
    /// It's JSON.
    Json(Box<Plan>),
}

/// The entries of a key or header, in the making.
enum Entries {
    Whole(Action),
    Paths(Tree),
}

impl Config {
    /// Checks what one field alone doesn't show.
    pub fn check(self) -> Result<Checked, String> {
        if self.fields.is_empty() {
            return Err("config field `fields`: it's empty; an entry is such as \
                 { path = \"customer.email\", action = \"remove\" }"
                .to_owned());
        }
        if let Some(key) = &self.key {
            key.check("key")?;
            let is_used = |entry: &Entry| entry.action == Verb::Hash && entry.key.is_none();
            if !self.fields.iter().any(is_used) {
                return Err(
                    "config field `key`: nothing is hashed with it; leave it out".to_owned(),
                );
            }
        }
        let is_missing_refused = self.missing == Missing::Refuse;
        let mut value: Option<Tree> = None;
        let mut key: Option<Entries> = None;
        let mut headers: Vec<(String, Option<Entries>)> = Vec::new();
        for (index, entry) in self.fields.iter().enumerate() {
            let at = |field: &str, what: &str| {
                Err(format!("config field `fields[{index}].{field}`: {what}"))
            };
            if entry.name.is_some() && entry.target != Target::Header {
                return at(
                    "name",
                    "only headers have one; set target = \"header\", or use `path` for a field",
                );
            }
            let action = entry.action(index, self.key.as_ref())?;
            let steps = match &entry.path {
                None => None,
                Some(path) => match path::steps(path) {
                    Ok(steps) => Some(steps),
                    Err(what) => return at("path", &format!("`{path}`: {what}")),
                },
            };
            let entries = match entry.target {
                Target::Value => {
                    let Some(steps) = steps else {
                        return at(
                            "path",
                            "it's needed: the field of the value that is to be hidden",
                        );
                    };
                    if let Err(what) = value.get_or_insert_default().add(&steps, action) {
                        return at("path", what);
                    }
                    continue;
                }
                Target::Key => &mut key,
                Target::Header => match entry.name.as_deref() {
                    None | Some("") => {
                        return at("name", "it's needed: the name of the header");
                    }
                    Some(name) => {
                        let known = headers.iter().position(|(other, _)| other == name);
                        let index = known.unwrap_or_else(|| {
                            headers.push((name.to_owned(), None));
                            headers.len() - 1
                        });
                        &mut headers[index].1
                    }
                },
            };
            match (entries, steps) {
                (entries @ None, None) => *entries = Some(Entries::Whole(action)),
                (entries, Some(steps)) => {
                    let new = || Entries::Paths(Tree::default());
                    match entries.get_or_insert_with(new) {
                        Entries::Paths(tree) => {
                            if let Err(what) = tree.add(&steps, action) {
                                return at("path", what);
                            }
                        }
                        Entries::Whole(_) => {
                            return at("path", "another entry is about all of it");
                        }
                    }
                }
                (Some(_), None) => {
                    return at(
                        "target",
                        "another entry is about it too; without a `path` an entry is about all of it",
                    );
                }
            }
        }
        let part = |entries, shown: String| {
            Ok::<_, String>(match entries {
                Entries::Whole(action) => Part::Whole(action),
                Entries::Paths(tree) => {
                    let before = format!("{shown}'s ");
                    Part::Json(Box::new(tree.plan(&shown, &before, is_missing_refused)?))
                }
            })
        };
        Ok(Checked {
            value: value
                .map(|tree| tree.plan("the value", "", is_missing_refused))
                .transpose()?,
            key: key.map(|key| part(key, "the key".to_owned())).transpose()?,
            headers: headers
                .into_iter()
                .filter_map(|(name, entries)| Some((name, entries?)))
                .map(|(name, entries)| {
                    let part = part(entries, format!("the header `{name}`"))?;
                    Ok((name, part))
                })
                .collect::<Result<_, String>>()?,
            is_missing_refused,
            tombstones: self.tombstones,
        })
    }
}

impl Entry {
    /// What becomes of a value, with the settings of that action and no others.
    fn action(&self, index: usize, common: Option<&Secret>) -> Result<Action, String> {
        let at = |field: &str, what: &str| {
            Err(format!("config field `fields[{index}].{field}`: {what}"))
        };
        let given = [
            ("key", self.key.is_some(), &[Verb::Hash][..]),
            ("length", self.length.is_some(), &[Verb::Hash]),
            ("keep_first", self.keep_first.is_some(), &[Verb::Mask]),
            ("keep_last", self.keep_last.is_some(), &[Verb::Mask]),
            ("with", self.with.is_some(), &[Verb::Mask, Verb::Replace]),
        ];
        for (field, is_given, verbs) in given {
            if is_given && !verbs.contains(&self.action) {
                return at(
                    field,
                    &format!("{} makes nothing of it; leave it out", self.action.name()),
                );
            }
        }
        Ok(match self.action {
            Verb::Remove => Action::Remove,
            Verb::Replace => Action::Replace(fixed(self.with.as_ref())),
            Verb::Mask => Action::Mask(Mask {
                keep_first: self.keep_first.unwrap_or(0),
                keep_last: self.keep_last.unwrap_or(0),
                with: match &self.with {
                    None => '*',
                    Some(Value::String(text)) if text.chars().count() == 1 => {
                        text.chars().next().unwrap_or('*')
                    }
                    Some(_) => return at("with", "a mask is one character, such as \"*\""),
                },
            }),
            Verb::Hash => {
                let digits = self.length.unwrap_or(MAX_DIGITS);
                if !(MIN_DIGITS..=MAX_DIGITS).contains(&digits) {
                    return at(
                        "length",
                        &format!(
                            "{digits} hexadecimal digits; it's {MIN_DIGITS} to {MAX_DIGITS}, since of fewer \
                             different values would soon have the same hash"
                        ),
                    );
                }
                let Some(key) = self.key.as_ref().or(common) else {
                    return at(
                        "key",
                        &format!(
                            "hash needs one of at least {MIN_KEY} bytes, here or beside `fields` for all; give it as \
                             \"${{NAME}}\" or \"${{file:PATH}}\""
                        ),
                    );
                };
                key.check(&format!("fields[{index}].key"))?;
                Action::Hash(Box::new(Hash::new(key.0.as_bytes(), digits)))
            }
        })
    }
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Remove => "remove",
            Verb::Mask => "mask",
            Verb::Hash => "hash",
            Verb::Replace => "replace",
        }
    }
}

impl Secret {
    fn check(&self, field: &str) -> Result<(), String> {
        match self.0.len() < MIN_KEY {
            true => Err(format!(
                "config field `{field}`: a key has at least {MIN_KEY} bytes, and this one fewer"
            )),
            false => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    // A message of serde's own would show what stands there.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        match Value::deserialize(deserializer) {
            Ok(Value::String(key)) => Ok(Secret(key)),
            _ => Err(D::Error::custom("a key is a string")),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What stands in a value's place; null if nothing is said.
fn fixed(with: Option<&Value>) -> Fixed {
    let with = with.unwrap_or(&Value::Null);
    let json = with.to_string();
    Fixed {
        bytes: match with {
            Value::Null => None,
            Value::String(text) => Some(text.clone().into_bytes()),
            _ => Some(json.clone().into_bytes()),
        },
        json: json.into_bytes(),
    }
}
