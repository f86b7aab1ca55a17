//! Gives each record an id: a UUID in its value, its key or a header.
//!
//! | config | |
//! |---|---|
//! | `field` | the field or header that gets the id; default `id` |
//! | `version` | 4 (random, default), 5 (from a field), 7 (by the record's timestamp) |
//! | `namespace`, `from` | for version 5: a UUID or `dns`, `url`, `oid`, `x500`; and the field |
//! | `into` | `value` (default), `key`, `header` |
//! | `existing` | `keep` (default), `replace`, `refuse`: a record that has an id there already |
//! | `tombstones` | `pass` (default), `drop`, `refuse`: a record whose value is null |
//!
//! With `into = "key"` the key becomes `{"id":"…"}` whatever it was, text or bytes. A key that is a JSON object with that
//! field counts as one that has an id, and `existing` decides.

mod config;
#[cfg(test)]
mod tests;

use config::{Checked, Config, Existing, Into, Version};
use weir_guest::bytes::append;
use weir_guest::json::{Fields, Found, Kind, Object, Raw};
use weir_guest::{Needs, Record, Refusal, Tombstones, Transform, Uuid, Verdict, ids, refuse};

/// The transform.
pub struct AddUuid {
    config: Checked,
    /// In the value: [`ID`] where ids go into the value, and [`FROM`] for version 5.
    fields: Fields,
    found: Found,
    /// In the key: the id.
    key_fields: Fields,
    /// The key before and after the id.
    key: (Vec<u8>, Vec<u8>),
}

const ID: usize = 0;
const FROM: usize = 1;

impl Transform for AddUuid {
    type Config = Config;

    const SCHEMA: &'static str = config::SCHEMA;

    fn new(config: Config) -> Result<AddUuid, String> {
        let config = config.check()?;
        // A header's name is no path.
        let id = match config.into {
            Into::Header => "id",
            _ => &config.field,
        };
        let key_fields =
            Fields::new(&[id]).map_err(|error| format!("config field `field`: {error}"))?;
        let fields = match &config.version {
            Version::V5 { from, .. } => {
                Fields::new(&[id, from]).map_err(|error| format!("config field `from`: {error}"))?
            }
            _ => key_fields.clone(),
        };
        Ok(AddUuid {
            key: key_around(&key_fields)?,
            config,
            fields,
            found: Found::default(),
            key_fields,
        })
    }

    fn needs(&self) -> Needs {
        // The value shows a tombstone, wherever the id goes.
        let version = match self.config.version {
            Version::V4 => Needs::POSITIONS,
            Version::V5 { .. } => Needs::NONE,
            Version::V7 => Needs::POSITIONS | Needs::TIMESTAMPS,
        };
        let is_every_key_new =
            self.config.existing == Existing::Replace && self.config.tombstones != Tombstones::Pass;
        let into = match self.config.into {
            Into::Key if !is_every_key_new => Needs::KEYS,
            Into::Key | Into::Value => Needs::NONE,
            Into::Header => Needs::HEADERS,
        };
        Needs::VALUES | version | into
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        let Some(value) = record.value() else {
            return self.config.tombstones.verdict();
        };
        match self.config.into {
            Into::Value => self.id_value(record, value)?,
            Into::Key => self.id_key(record, value)?,
            Into::Header => self.id_header(record, value)?,
        }
        Ok(Verdict::Keep)
    }
}

weir_guest::export!(AddUuid);

impl AddUuid {
    fn id_value(&mut self, record: &mut Record<'_>, value: &[u8]) -> Result<(), Refusal> {
        let mut object = self.fields.scan(value, &mut self.found)?;
        if object.has(ID) {
            match self.config.existing {
                Existing::Keep => return Ok(()),
                Existing::Replace => {}
                Existing::Refuse => {
                    return Err(refuse(format!(
                        "the value has a field `{}` already",
                        self.config.field
                    )));
                }
            }
        }
        match &self.config.version {
            // Apart, so that the id goes from the cipher to its text without a stop in memory.
            Version::V4 => {
                let id = record.uuid_v4();
                object.set_with(ID, |out| ids::write_json(&id, out));
            }
            version => {
                let id = match version {
                    Version::V5 { namespace, from } => named(record, namespace, from, &object)?,
                    _ => random(version, record)?,
                };
                object.set_with(ID, |out| ids::write_json(&id, out));
            }
        }
        record.set_value_json(&mut object)?;
        Ok(())
    }

    fn id_key(&mut self, record: &mut Record<'_>, value: &[u8]) -> Result<(), Refusal> {
        if self.config.existing != Existing::Replace
            && let Some(key) = record.key()
            && let Ok(object) = self.key_fields.scan(key, &mut self.found)
            && object.has(ID)
        {
            return match self.config.existing {
                Existing::Refuse => Err(refuse(format!(
                    "the key has a field `{}` already",
                    self.config.field
                ))),
                _ => Ok(()),
            };
        }
        let id = self.id(record, value)?;
        let (before, after) = &self.key;
        record.set_key_with(|key| {
            append(key, before);
            ids::write_text(&id, key);
            append(key, after);
        });
        Ok(())
    }

    fn id_header(&mut self, record: &mut Record<'_>, value: &[u8]) -> Result<(), Refusal> {
        let exists = record.header(&self.config.field).is_some();
        match self.config.existing {
            Existing::Keep if exists => return Ok(()),
            Existing::Refuse if exists => {
                return Err(refuse(format!(
                    "the record has a header `{}` already",
                    self.config.field
                )));
            }
            _ => {}
        }
        let id = self.id(record, value)?;
        let name = self.config.field.as_bytes();
        if exists {
            let others = record.headers().filter(|&(other, _)| other != name);
            record.set_headers(others);
        }
        let mut text = Vec::with_capacity(40);
        ids::write_text(&id, &mut text);
        record.add_header(name, Some(&text));
        Ok(())
    }

    /// The id of a record whose value stays as it is.
    fn id(&mut self, record: &mut Record<'_>, value: &[u8]) -> Result<Uuid, Refusal> {
        match &self.config.version {
            Version::V5 { namespace, from } => {
                let object = self.fields.scan(value, &mut self.found)?;
                named(record, namespace, from, &object)
            }
            version => random(version, record),
        }
    }
}

/// An id that is drawn.
#[inline(always)]
fn random(version: &Version, record: &mut Record<'_>) -> Result<Uuid, Refusal> {
    match version {
        Version::V7 => record.uuid_v7(),
        _ => Ok(record.uuid_v4()),
    }
}

/// The id of what a field says.
fn named(
    record: &Record<'_>,
    namespace: &Uuid,
    from: &str,
    object: &Object<'_, '_>,
) -> Result<Uuid, Refusal> {
    let name = object.get(FROM).ok_or_else(|| {
        refuse(format!(
            "the value has no field `{from}` to make the id from"
        ))
    })?;
    match name.kind() {
        Kind::String => {
            let name = name.as_str().unwrap_or_default();
            Ok(record.uuid_v5(namespace, name.as_bytes()))
        }
        Kind::Number | Kind::Bool => Ok(record.uuid_v5(namespace, name.as_bytes())),
        kind @ (Kind::Null | Kind::Array | Kind::Object) => Err(refuse(format!(
            "field `{from}` is {kind}; an id is made from a string, a number or a boolean"
        ))),
    }
}

/// The text of an object that holds the id and nothing else, cut where the id goes.
fn key_around(fields: &Fields) -> Result<(Vec<u8>, Vec<u8>), String> {
    let mut found = Found::default();
    let mut object = fields
        .scan(b"{}", &mut found)
        .map_err(|error| error.to_string())?;
    object.set(ID, br#""""#);
    let mut text = Vec::new();
    object.write(&mut text).map_err(|error| error.to_string())?;
    // The empty string at its end makes way for the id.
    let depth = text.iter().rev().take_while(|&&byte| byte == b'}').count();
    let after = text.split_off(text.len() - depth - 1);
    debug_assert!(Raw::parse(&[&text[..], &after].concat()).is_ok());
    Ok((text, after))
}
