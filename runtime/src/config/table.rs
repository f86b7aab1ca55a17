//! Reads the keys of one table, each by its type.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::{Field, Node, Problems, Text, Value};
use super::names::nearest;
use super::raw::{Located, RawOutput, Section};
use super::settings::{Secret, Setting};
use super::template::Template;
use super::units::{ByteSize, parse_duration};
use crate::kafka::is_secret;

/// Reads the keys of one table.
pub(super) struct Reader<'a, 'p> {
    place: &'p str,
    fields: &'a [Field],
    pub(super) problems: &'p mut Problems,
}

impl<'a, 'p> Reader<'a, 'p> {
    /// Refuses keys that aren't the section's.
    pub(super) fn new(
        place: &'p str,
        section: &Section,
        fields: &'a [Field],
        problems: &'p mut Problems,
    ) -> Reader<'a, 'p> {
        for field in fields {
            if !section.keys.contains(&field.key.as_str()) {
                problems.at(field.line, unknown_key(&field.key, place, section));
            }
        }
        Reader {
            place,
            fields,
            problems,
        }
    }

    pub(super) fn require(&mut self, line: usize, keys: &[&str]) {
        for key in keys {
            if self.field(key).is_none() {
                let message = format!("{} has no \"{key}\"; add it", self.place);
                self.problems.at(line, message);
            }
        }
    }

    pub(super) fn field(&self, key: &str) -> Option<&'a Field> {
        self.fields.iter().find(|field| field.key == key)
    }

    /// The value of a key as `convert` reads it; the error says what it must be.
    fn value<T>(
        &mut self,
        key: &str,
        convert: impl FnOnce(&'a Node) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let field = self.field(key)?;
        if let Value::Broken = field.node.value {
            return None;
        }
        match convert(&field.node) {
            Ok(value) => Some(Located {
                line: field.line,
                value,
            }),
            Err(must_be) => {
                let message = format!("\"{key}\" in {} {must_be}", self.place);
                self.problems.at(field.line, message);
                None
            }
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Option<Located<Text>> {
        self.value(key, as_text)
    }

    /// A string or a list of strings.
    pub(super) fn texts(&mut self, key: &str) -> Option<Located<Vec<Located<Text>>>> {
        self.value(key, |node| match &node.value {
            Value::Array(items) => items
                .iter()
                .filter(|item| !matches!(item.value, Value::Broken))
                .map(|item| match &item.value {
                    Value::String(text) => Ok(Located {
                        line: item.line,
                        value: text.clone(),
                    }),
                    other => Err(format!("must list strings only, and has {}", other.kind())),
                })
                .collect(),
            Value::String(text) => Ok(vec![Located {
                line: node.line,
                value: text.clone(),
            }]),
            other => Err(format!(
                "must be a string or a list of strings, not {}",
                other.kind()
            )),
        })
    }

    /// A topic, or a table of names and topics, in the order of the file.
    pub(super) fn output(&mut self) -> Option<Located<Vec<RawOutput>>> {
        self.value("output", |node| match &node.value {
            Value::String(topic) => Ok(vec![RawOutput {
                name: None,
                topic: Located {
                    line: node.line,
                    value: topic.clone(),
                },
            }]),
            Value::Table(fields) => fields
                .iter()
                .filter(|field| !matches!(field.node.value, Value::Broken))
                .map(|field| match &field.node.value {
                    Value::String(topic) => Ok(RawOutput {
                        name: Some(field.key.clone()),
                        topic: Located {
                            line: field.line,
                            value: topic.clone(),
                        },
                    }),
                    other => Err(format!(
                        "must give \"{}\" a topic's name, not {}",
                        field.key,
                        other.kind()
                    )),
                })
                .collect(),
            other => Err(format!(
                "must be a topic's name or a table of names and topics, not {}",
                other.kind()
            )),
        })
    }

    /// A string, or a date that TOML knows as such.
    pub(super) fn moment(&mut self, key: &str) -> Option<Located<Text>> {
        self.value(key, |node| match &node.value {
            Value::Datetime(text) => Ok(Text {
                references: Vec::new(),
                typed: text.clone(),
                value: text.clone(),
            }),
            _ => as_text(node),
        })
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<Located<T>> {
        self.value(key, |node| {
            let text = as_text(node)?;
            let choice = choices.iter().find(|(name, _)| *name == text.value);
            choice.map(|(_, value)| *value).ok_or_else(|| {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                format!("must be {}, not \"{text}\"", either(&names))
            })
        })
    }

    pub(super) fn count(&mut self, key: &str) -> Option<Located<u64>> {
        self.value(key, |node| match &node.value {
            Value::Integer(number) => {
                u64::try_from(*number).map_err(|_| format!("can't be negative, and is {number}"))
            }
            // A variable's value comes as a string.
            Value::String(text) if text.is_filled_in() => text.value.trim().parse().map_err(|_| {
                format!("must be a whole number, and what \"{text}\" stands for isn't one")
            }),
            other => Err(format!("must be a whole number, not {}", other.kind())),
        })
    }

    /// A number that needn't be whole.
    pub(super) fn number(&mut self, key: &str) -> Option<Located<f64>> {
        self.value(key, |node| match &node.value {
            Value::Float(number) => Ok(*number),
            Value::Integer(number) => Ok(*number as f64),
            Value::String(text) if text.is_filled_in() => {
                text.value.trim().parse().map_err(|_| {
                    format!("must be a number, and what \"{text}\" stands for isn't one")
                })
            }
            other => Err(format!("must be a number, not {}", other.kind())),
        })
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<Located<bool>> {
        self.value(key, |node| match &node.value {
            Value::Bool(value) => Ok(*value),
            Value::String(text) if text.is_filled_in() => text.value.trim().parse().map_err(|_| {
                format!("must be true or false, and what \"{text}\" stands for is neither")
            }),
            other => Err(format!("must be true or false, not {}", other.kind())),
        })
    }

    pub(super) fn size(&mut self, key: &str) -> Option<Located<ByteSize>> {
        self.value(key, |node| match &node.value {
            Value::Integer(number) => u64::try_from(*number)
                .map(ByteSize)
                .map_err(|_| format!("can't be negative, and is {number}")),
            Value::String(text) => ByteSize::parse(&text.value)
                .map_err(|right| format!("is not a size: \"{text}\"; {right}")),
            other => Err(format!(
                "must be a size such as \"16MiB\", not {}",
                other.kind()
            )),
        })
    }

    pub(super) fn duration(&mut self, key: &str) -> Option<Located<Duration>> {
        self.value(key, |node| match &node.value {
            Value::String(text) => parse_duration(&text.value)
                .map_err(|right| format!("is not a duration: \"{text}\"; {right}")),
            Value::Integer(number) => Err(format!(
                "needs a unit: write \"{number}ms\" or \"{number}s\""
            )),
            other => Err(format!(
                "must be a duration such as \"1s\", not {}",
                other.kind()
            )),
        })
    }

    pub(super) fn table(&mut self, key: &str) -> Option<Located<&'a [Field]>> {
        self.value(key, |node| match &node.value {
            Value::Table(fields) => Ok(fields.as_slice()),
            other => Err(format!("must be a table, not {}", other.kind())),
        })
    }

    /// A list of tables, each with its line. `header` is how one is written.
    pub(super) fn tables(&mut self, key: &str, header: &str) -> Vec<(usize, &'a [Field])> {
        let tables = self.value(key, |node| match &node.value {
            Value::Array(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Table(fields) => Ok((item.line, fields.as_slice())),
                    other => Err(format!("must list tables only, and has {}", other.kind())),
                })
                .collect(),
            Value::Table(_) => Err(format!(
                "must be a list of tables; write {header} with two brackets"
            )),
            other => Err(format!(
                "must be a list of tables {header}, not {}",
                other.kind()
            )),
        });
        tables.map_or(Vec::new(), |tables| tables.value)
    }

    /// The tables in a table, each with its name and line.
    pub(super) fn named_tables(&mut self, key: &str) -> Vec<(Located<String>, &'a [Field])> {
        let tables = self.value(key, |node| match &node.value {
            Value::Table(fields) => fields
                .iter()
                .map(|field| match &field.node.value {
                    Value::Table(fields) => {
                        let name = Located {
                            line: field.line,
                            value: field.key.clone(),
                        };
                        Ok((name, fields.as_slice()))
                    }
                    other => Err(format!(
                        "must hold tables only, and \"{}\" is {}",
                        field.key,
                        other.kind()
                    )),
                })
                .collect(),
            other => Err(format!("must be a table of tables, not {}", other.kind())),
        });
        tables.map_or(Vec::new(), |tables| tables.value)
    }

    /// A table of texts; an empty one if it isn't there.
    pub(super) fn named_texts(&mut self, key: &str) -> Vec<(String, Text)> {
        let texts = self.value(key, |node| match &node.value {
            Value::Table(fields) => fields
                .iter()
                .map(|field| match &field.node.value {
                    Value::String(text) => Ok((field.key.clone(), text.clone())),
                    other => Err(format!(
                        "must hold strings only, and \"{}\" is {}",
                        field.key,
                        other.kind()
                    )),
                })
                .collect(),
            other => Err(format!("must be a table, not {}", other.kind())),
        });
        texts.map_or(Vec::new(), |texts| texts.value)
    }

    /// A table as JSON; an empty one if it isn't there.
    pub(super) fn template(&mut self, key: &str) -> Template {
        let object = self.value(key, |node| match &node.value {
            Value::Table(_) => {
                let mut references = BTreeMap::new();
                let filled = to_json(node, &mut |text| {
                    let secrets = text.references.iter().cloned();
                    references.extend(secrets.map(|(name, value)| (name, Secret::new(value))));
                    text.value.clone()
                })?;
                let typed = to_json(node, &mut |text| text.typed.clone())?;
                Ok(Template::new(typed, filled, references))
            }
            other => Err(format!("must be a table, not {}", other.kind())),
        });
        match object {
            Some(object) => object.value,
            None => Template::new(
                serde_json::json!({}),
                serde_json::json!({}),
                BTreeMap::new(),
            ),
        }
    }

    /// librdkafka's settings: keys with dots, in quotes or as nested tables.
    pub(super) fn settings(&mut self, key: &str) -> Vec<Setting> {
        let mut settings = Vec::new();
        if let Some(table) = self.table(key) {
            let place = match self.place.strip_suffix(']') {
                Some(pipeline) => format!("{pipeline}.{key}]"),
                None => format!("[{key}]"),
            };
            flatten("", &place, table.value, &mut settings, self.problems);
        }
        settings
    }
}

fn unknown_key(key: &str, place: &str, section: &Section) -> String {
    let message = format!("unknown key \"{key}\" in {place}");
    match nearest(key, section.keys) {
        Some(known) => format!("{message}; did you mean \"{known}\"?"),
        None => format!("{message}; it knows {}", section.keys.join(", ")),
    }
}

/// `"a", "b" or "c"`
fn either(names: &[&str]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        let before = match index {
            0 => "",
            _ if index + 1 == names.len() => " or ",
            _ => ", ",
        };
        text.push_str(&format!("{before}\"{name}\""));
    }
    text
}

fn as_text(node: &Node) -> Result<Text, String> {
    match &node.value {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("must be a string, not {}", other.kind())),
    }
}

/// `{ a = { b = 1 } }` and `{ "a.b" = 1 }` are the same setting.
fn flatten(
    prefix: &str,
    place: &str,
    fields: &[Field],
    settings: &mut Vec<Setting>,
    problems: &mut Problems,
) {
    for field in fields {
        let key = format!("{prefix}{}", field.key);
        let mut secret = is_secret(&key);
        let value = match &field.node.value {
            Value::Table(nested) => {
                flatten(&format!("{key}."), place, nested, settings, problems);
                continue;
            }
            Value::String(text) => {
                secret |= text.is_filled_in();
                Some(text.value.clone())
            }
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Array(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::String(text) => {
                        secret |= text.is_filled_in();
                        Some(text.value.as_str())
                    }
                    _ => None,
                })
                .collect::<Option<Vec<&str>>>()
                .map(|items| items.join(",")),
            Value::Datetime(_) => None,
            Value::Broken => continue,
        };
        let Some(value) = value else {
            problems.at(
                field.line,
                format!("\"{key}\" in {place} must be a string, a number, true or false, or a list of strings"),
            );
            continue;
        };
        if settings.iter().any(|setting| setting.key == key) {
            problems.at(
                field.line,
                format!("\"{key}\" in {place} is set twice; keep one"),
            );
            continue;
        }
        settings.push(Setting {
            key,
            value,
            line: field.line,
            secret,
        });
    }
}

fn to_json(
    node: &Node,
    string: &mut dyn FnMut(&Text) -> String,
) -> Result<serde_json::Value, String> {
    Ok(match &node.value {
        Value::String(text) => string(text).into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number)
            .ok_or_else(|| format!("can't hold {number}, which JSON has no number for"))?
            .into(),
        Value::Bool(value) => (*value).into(),
        Value::Datetime(text) => text.clone().into(),
        Value::Broken => serde_json::Value::Null,
        Value::Array(items) => items
            .iter()
            .map(|item| to_json(item, string))
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        Value::Table(fields) => serde_json::Value::Object(
            fields
                .iter()
                .map(|field| Ok((field.key.clone(), to_json(&field.node, string)?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}
