//! The author's side of Weir's guest contract: a transform is written record by record, tested natively with plain
//! `cargo test`, and exported with one line.
//!
//! ```
//! use weir_guest::{Needs, Record, Refusal, Transform, Verdict, refuse};
//!
//! /// Drops records whose key starts with a prefix.
//! struct DropKeys {
//!     prefix: Vec<u8>,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     prefix: String,
//! }
//!
//! impl Transform for DropKeys {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<DropKeys, String> {
//!         Ok(DropKeys { prefix: config.prefix.into_bytes() })
//!     }
//!
//!     fn needs(&self) -> Needs {
//!         Needs::KEYS
//!     }
//!
//!     fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
//!         let key = record.key().ok_or_else(|| refuse("the record has no key"))?;
//!         match key.starts_with(&self.prefix) {
//!             true => Ok(Verdict::Drop),
//!             false => Ok(Verdict::Keep),
//!         }
//!     }
//! }
//!
//! weir_guest::export!(DropKeys);
//!
//! // In a test:
//! use weir_guest::testing::{Harness, Input};
//! let mut harness = Harness::<DropKeys>::new(r#"{"prefix":"test-"}"#)?;
//! let outcome = harness.run(&[
//!     Input::value("1").key("test-1"),
//!     Input::value("2").key("live-2"),
//!     Input::value("3"),
//! ]);
//! assert_eq!(outcome.values(), ["2"]);
//! assert_eq!(outcome.refused, [(2, "the record has no key".to_owned())]);
//! # Ok::<(), String>(())
//! ```
//!
//! The crate needs `crate-type = ["cdylib", "rlib"]` and is built with
//! `cargo build --release --target wasm32-unknown-unknown`. The name, the version and the description that Weir shows
//! are those of its Cargo package.

extern crate self as weir_guest;

pub mod bindings;
pub mod bytes;
mod column;
#[doc(hidden)]
pub mod export;
pub mod ids;
pub mod json;
mod needs;
mod outputs;
mod record;
mod runner;
pub mod testing;
mod tombstones;

pub use bindings::{LogLevel, TimestampType};
pub use needs::Needs;
pub use outputs::{OutputId, Outputs};
pub use record::Record;
pub use tombstones::Tombstones;
pub use uuid::Uuid;

/// A transform: made once from its config, then given one record after the other.
///
/// What it remembers from earlier records must never change what comes out: instances are started anew, and records
/// are seen again, at any time.
pub trait Transform: Sized {
    /// The config, as the pipeline's TOML gives it. With `#[serde(deny_unknown_fields)]` a misspelt key is refused.
    type Config: serde::de::DeserializeOwned;

    /// The JSON Schema (2020-12) of the config, for people and tools. `{}` allows anything.
    const SCHEMA: &'static str = "{}";

    /// Takes the config. An error refuses it: it says what is wrong, where, and what would be right.
    fn new(config: Self::Config) -> Result<Self, String>;

    /// Takes the names of the pipeline's outputs, once, after `new`. A transform that sends records to outputs that its
    /// config names looks them up here, so that a wrong name is refused at the start rather than with a record.
    fn connect(&mut self, outputs: &Outputs) -> Result<(), String> {
        let _ = outputs;
        Ok(())
    }

    /// The columns that `apply` reads under this config. What isn't asked for isn't handed over and costs nothing;
    /// reading it is a bug, which panics. Writing a column needs no asking if every
    /// record's is written; otherwise the others' have to come from somewhere.
    fn needs(&self) -> Needs {
        Needs::ALL
    }

    /// Looks at a record, changes it, and says what becomes of it. A refusal is for data that the transform can't
    /// process: the record goes out in no form then, also not as what [`Record::emit`] sent before.
    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal>;
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, with its changes.
    Keep,
    /// It ends here. What was sent with [`Record::emit`] goes on.
    Drop,
}

/// Why a record can't be processed, for the person who has to mend the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

/// A refusal with that reason.
#[cold]
pub fn refuse(reason: impl Into<String>) -> Refusal {
    Refusal(reason.into())
}

impl Refusal {
    /// The reason.
    pub fn reason(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Refusal {
        Refusal(reason.to_owned())
    }
}

impl From<json::Error> for Refusal {
    fn from(error: json::Error) -> Refusal {
        Refusal(error.to_string())
    }
}

/// The transform in the README is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
