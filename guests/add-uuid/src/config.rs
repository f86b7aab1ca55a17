//! The config: what may be written, and what of it is possible.

use serde::Deserialize;
use weir_guest::{Tombstones, Uuid};

/// The config as it's written.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    field: String,
    version: u8,
    namespace: Option<String>,
    from: Option<String>,
    into: Into,
    existing: Existing,
    tombstones: Tombstones,
}

/// Where the id goes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Into {
    /// A field of the value, a JSON object.
    #[default]
    Value,
    /// The key becomes a JSON object that holds the id and nothing else.
    Key,
    /// A header.
    Header,
}

/// What becomes of a record that has an id there already.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// It keeps it.
    #[default]
    Keep,
    /// It gets the new one instead.
    Replace,
    /// It's refused.
    Refuse,
}

/// How ids are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// At random.
    V4,
    /// From a name, which stands in a field of the value, in a namespace.
    V5 { namespace: Uuid, from: String },
    /// At random after the record's timestamp.
    V7,
}

/// The config, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub field: String,
    pub version: Version,
    pub into: Into,
    pub existing: Existing,
    pub tombstones: Tombstones,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            field: "id".to_owned(),
            version: 4,
            namespace: None,
            from: None,
            into: Into::default(),
            existing: Existing::default(),
            tombstones: Tombstones::default(),
        }
    }
}

impl Config {
    /// Checks what one field alone doesn't show.
    pub fn check(self) -> Result<Checked, String> {
        if self.field.is_empty() {
            return Err("config field `field`: it must not be empty".to_owned());
        }
        let version = match (self.version, self.namespace, self.from) {
            (4, None, None) => Version::V4,
            (7, None, None) => Version::V7,
            (5, Some(namespace), Some(from)) => Version::V5 {
                namespace: parse_namespace(&namespace)?,
                from,
            },
            (5, None, _) => {
                return Err(
                    "config field `namespace`: version 5 needs it: a UUID, or dns, url, oid or x500"
                        .to_owned(),
                );
            }
            (5, _, None) => {
                return Err(
                    "config field `from`: version 5 needs it: the field whose value the id is made from"
                        .to_owned(),
                );
            }
            (version @ (4 | 7), namespace, _) => {
                let field = match namespace {
                    Some(_) => "namespace",
                    None => "from",
                };
                return Err(format!(
                    "config field `{field}`: version {version} makes nothing of it; leave it out, or set version = 5"
                ));
            }
            (version, _, _) => {
                return Err(format!(
                    "config field `version`: there is no version {version} here; use 4, 5 or 7"
                ));
            }
        };
        Ok(Checked {
            field: self.field,
            version,
            into: self.into,
            existing: self.existing,
            tombstones: self.tombstones,
        })
    }
}

/// The namespaces of RFC 9562, section 6.6, or any other.
fn parse_namespace(namespace: &str) -> Result<Uuid, String> {
    match namespace {
        "dns" => Ok(Uuid::NAMESPACE_DNS),
        "url" => Ok(Uuid::NAMESPACE_URL),
        "oid" => Ok(Uuid::NAMESPACE_OID),
        "x500" => Ok(Uuid::NAMESPACE_X500),
        _ => Uuid::parse_str(namespace).map_err(|_| {
            format!(
                "config field `namespace`: `{namespace}` is no UUID, nor one of dns, url, oid and x500"
            )
        }),
    }
}

/// The config's JSON Schema.
pub const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "add-uuid",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "field": {
      "description": "The field that gets the id. In a value or key a path such as `meta.id`; objects that it lacks are made, and `\\.` is a dot in a name. With into = \"header\" the header's name, as it is.",
      "type": "string", "minLength": 1, "default": "id"
    },
    "version": {
      "description": "4: random. 5: made from the value's field `from` in `namespace`. 7: the record's timestamp, then random.",
      "enum": [4, 5, 7], "default": 4
    },
    "namespace": {
      "description": "Version 5 only: a UUID, or dns, url, oid or x500.",
      "type": "string"
    },
    "from": {
      "description": "Version 5 only: the path of the value's field that the id is made from: what a string says, or the text of a number or boolean.",
      "type": "string", "minLength": 1
    },
    "into": {
      "description": "value: a field of the value, which must be a JSON object. key: the key becomes a JSON object with the id and nothing else. header: a header.",
      "enum": ["value", "key", "header"], "default": "value"
    },
    "existing": {
      "description": "What becomes of a record that has an id there already (with into = \"key\": whose key is a JSON object with that field): it keeps its id, it gets a new one, or it is refused.",
      "enum": ["keep", "replace", "refuse"], "default": "keep"
    },
    "tombstones": {
      "description": "What becomes of a record whose value is null: it goes on untouched, it is dropped, or it is refused.",
      "enum": ["pass", "drop", "refuse"], "default": "pass"
    }
  },
  "if": { "properties": { "version": { "const": 5 } }, "required": ["version"] },
  "then": { "required": ["namespace", "from"] },
  "else": { "properties": { "namespace": false, "from": false } }
}"#;
