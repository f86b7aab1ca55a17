//! `redact`: removes, masks, hashes or replaces what must not be read downstream: fields of the JSON value, the key,
//! headers. What no entry names goes out byte for byte.
//!
//! ```toml
//! [[pipelines.orders.transforms]]
//! name = "privacy"
//! module = "redact.wasm"
//!
//! [pipelines.orders.transforms.config]
//! key = "${HASH_KEY}"
//! fields = [
//!     { path = "customer.email", action = "hash" },
//!     { path = "items[*].card", action = "mask", keep_last = 4 },
//!     { path = "note", action = "remove" },
//!     { path = "country", action = "replace", with = "XX" },
//!     { target = "key", action = "hash" },
//!     { target = "header", name = "x-user", action = "remove" },
//! ]
//! ```
//!
//! # Config
//!
//! | key | |
//! |---|---|
//! | `fields` | what is to be hidden; of each: |
//! | ` target` | `"value"` (default), `"key"` or `"header"` |
//! | ` name` | the header's name; all headers of that name are meant |
//! | ` path` | the field: `customer.email`, `items[*].card`; needed for the value. Without one a key or header is meant as a whole, whatever it holds |
//! | ` action` | `"remove"`, `"mask"`, `"hash"` or `"replace"` |
//! | ` key`, ` length` | of a hash: its key of at least 16 bytes, and how many hexadecimal digits are kept, 16 to 64 (default) |
//! | ` keep_first`, ` keep_last`, ` with` | of a mask: how many characters stay at either end (0), and what the others become (`"*"`) |
//! | ` with` | of a replacement: any JSON value; null without it |
//! | `key` | the key of all hashes that have none of their own |
//! | `missing` | what becomes of a record that lacks a field, key or header: `"skip"` (default) or `"refuse"` |
//! | `tombstones` | what becomes of a null value: `"pass"` (default; key and headers are redacted all the same), `"drop"` or `"refuse"` |
//!
//! # Actions
//!
//! - **`remove`** takes the field with its name and comma. Of `tags[*]` an empty array stays. A key becomes null: records
//!   are then spread over the partitions at random, and compacted topics refuse them. A header goes.
//! - **`mask`** counts Unicode characters. A text that is no longer than what would stay at its ends is masked whole. A
//!   number or boolean becomes a string of its masked text.
//! - **`hash`** is HMAC-SHA256 (RFC 2104) in lower-case hexadecimal digits, a string. What is hashed is what a string says,
//!   however it's escaped, or the text of a number or boolean as it stands there (`1` and `1.0` differ); for a whole key or
//!   header its bytes. The same text has the same hash under the same key, wherever it stands, so that what was joined by
//!   it still can be. Whoever has the key can find out what stands behind a hash by trying.
//! - **`replace`** gives the field a fixed value, whatever it had.
//!
//! Null has nothing to mask or hash, and stays. An array or object has no text: to mask or hash one refuses the record,
//! and so does a path that goes on where a value is neither the object nor the array that it needs, null aside. What is to
//! be hidden may be in it in another form, so such records don't go on, whatever `missing` says. Paths for both forms can
//! be given: `contact.email` and `contact[*].email`.
//!
//! A name that stands several times in an object has its last value, and the others are taken out of what is edited:
//! other readers might look at them.
//!
//! No refusal holds a key or a value, only paths and kinds. But a refused record may become a dead letter, which keeps it
//! as it came in.

mod action;
mod config;
mod path;
mod plan;
#[cfg(test)]
mod tests;

use std::ops::Range;

use weir_guest::{Needs, Record, Refusal, Tombstones, Transform, Verdict, refuse};

use crate::action::Action;
use crate::config::{Checked, Config, Part};
use crate::plan::Redacted;

weir_guest::export!(Redact);

/// Hides parts of records.
pub struct Redact {
    config: Checked,
    /// Where the new values of headers are written.
    scratch: Vec<u8>,
}

/// A header's value on its way out.
enum HeaderValue<'b> {
    Same(Option<&'b [u8]>),
    /// These bytes of the scratch.
    New(Range<usize>),
}

impl Transform for Redact {
    type Config = Config;

    const SCHEMA: &'static str = include_str!("schema.json");

    fn new(config: Config) -> Result<Redact, String> {
        Ok(Redact {
            config: config.check()?,
            scratch: Vec::new(),
        })
    }

    fn needs(&self) -> Needs {
        let Checked {
            value,
            key,
            headers,
            tombstones,
            ..
        } = &self.config;
        // A policy on tombstones has to see them.
        [
            (
                value.is_some() || *tombstones != Tombstones::Pass,
                Needs::VALUES,
            ),
            (key.is_some(), Needs::KEYS),
            (!headers.is_empty(), Needs::HEADERS),
        ]
        .into_iter()
        .filter(|(is_needed, _)| *is_needed)
        .fold(Needs::NONE, |needs, (_, column)| needs | column)
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        let tombstones = self.config.tombstones;
        if self.config.value.is_some() || tombstones != Tombstones::Pass {
            match (record.value(), &mut self.config.value) {
                (None, _) => {
                    if tombstones.verdict()? == Verdict::Drop {
                        return Ok(Verdict::Drop);
                    }
                }
                (Some(value), Some(plan)) => match plan.redact(value)? {
                    Redacted::Same => {}
                    Redacted::Object(mut object) => record.set_value_json(&mut object)?,
                    Redacted::Text(text) => record.set_value(Some(&text)),
                },
                (Some(_), None) => {}
            }
        }
        if self.config.key.is_some() {
            self.redact_key(record)?;
        }
        if !self.config.headers.is_empty() {
            self.redact_headers(record)?;
        }
        Ok(Verdict::Keep)
    }
}

impl Redact {
    fn redact_key(&mut self, record: &mut Record<'_>) -> Result<(), Refusal> {
        let is_missing_refused = self.config.is_missing_refused;
        let (Some(part), Some(key)) = (&mut self.config.key, record.key()) else {
            return match is_missing_refused {
                true => Err(refuse("the key is missing")),
                false => Ok(()),
            };
        };
        match part {
            Part::Json(plan) => match plan.redact(key)? {
                Redacted::Same => {}
                Redacted::Object(mut object) => record.set_key_json(&mut object)?,
                Redacted::Text(text) => record.set_key(Some(&text)),
            },
            Part::Whole(action) => {
                self.scratch.clear();
                let written = action
                    .write_bytes(key, &mut self.scratch)
                    .map_err(|_| refuse("the key isn't UTF-8, and has no characters to mask"))?;
                record.set_key(written.then_some(&self.scratch));
            }
        }
        Ok(())
    }

    fn redact_headers(&mut self, record: &mut Record<'_>) -> Result<(), Refusal> {
        let Checked {
            headers: parts,
            is_missing_refused,
            ..
        } = &mut self.config;
        for (name, _) in parts.iter() {
            if *is_missing_refused && record.header(name).is_none() {
                return Err(refuse(format!("the header `{name}` is missing")));
            }
        }
        self.scratch.clear();
        let mut is_changed = false;
        let mut headers: Vec<(&[u8], HeaderValue<'_>)> = Vec::with_capacity(record.headers().len());
        for (name, value) in record.headers() {
            let part = parts
                .iter_mut()
                .find(|(wanted, _)| wanted.as_bytes() == name);
            // Null has nothing to mask, hash or step into.
            let bytes = match &part {
                Some((_, Part::Whole(Action::Remove | Action::Replace(_)))) => {
                    Some(value.unwrap_or_default())
                }
                _ => value,
            };
            let (Some((shown, part)), Some(bytes)) = (part, bytes) else {
                headers.push((name, HeaderValue::Same(value)));
                continue;
            };
            let start = self.scratch.len();
            let new = match part {
                Part::Whole(Action::Remove) => None,
                Part::Whole(action) => {
                    let written = action.write_bytes(bytes, &mut self.scratch).map_err(|_| {
                        refuse(format!(
                            "the header `{shown}` isn't UTF-8, and has no characters to mask"
                        ))
                    })?;
                    Some(match written {
                        true => HeaderValue::New(start..self.scratch.len()),
                        false => HeaderValue::Same(None),
                    })
                }
                Part::Json(plan) => {
                    let redacted = plan.redact(bytes)?;
                    if redacted.is_same() {
                        headers.push((name, HeaderValue::Same(value)));
                        continue;
                    }
                    redacted.write(&mut self.scratch)?;
                    Some(HeaderValue::New(start..self.scratch.len()))
                }
            };
            is_changed = true;
            if let Some(new) = new {
                headers.push((name, new));
            }
        }
        if is_changed {
            let scratch = &self.scratch;
            record.set_headers(headers.into_iter().map(|(name, value)| match value {
                HeaderValue::Same(value) => (name, value),
                HeaderValue::New(range) => (name, Some(&scratch[range])),
            }));
        }
        Ok(())
    }
}
