//! JSON objects read and edited as text.
//!
//! A record's value is scanned once, from front to back. The scan checks that it is one well-formed JSON object and
//! notes where the wanted fields are; nothing is parsed into a tree. An edit then copies the text and splices its
//! changes in, so that whatever it doesn't touch comes out byte for byte: every digit of a number, the order of
//! fields, unknown fields, whitespace.
//!
//! ```
//! use weir_guest::json::{Fields, Found};
//!
//! const STOCK: usize = 0;
//! const TIME: usize = 1;
//! let fields = Fields::new(&["stock.name", "time"])?;
//! let mut found = Found::default();
//!
//! let text = br#"{"stock":{"name":"BTC-USD"},"price":37812.759521484375}"#;
//! let mut object = fields.scan(text, &mut found)?;
//! assert_eq!(object.get(STOCK).and_then(|name| name.as_str()).as_deref(), Some("BTC-USD"));
//!
//! object.set(STOCK, b"null");
//! object.set_str(TIME, "noon");
//! let mut out = Vec::new();
//! object.write(&mut out)?;
//! assert_eq!(out, br#"{"stock":{"name":null},"price":37812.759521484375,"time":"noon"}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Paths
//! A path names a field of the object, `"id"`, or of an object inside it, `"meta.id"`. A backslash makes a dot part of
//! a name: `r"www\.example\.org"`; and `\\` is a backslash. Arrays can't be stepped into by a path; [`Raw::elements`] goes
//! through one, and [`Raw::write_elements`] writes one anew, each element perhaps with fields of its own.
//!
//! # What is accepted
//! RFC 8259: one object with nothing but whitespace around it, in UTF-8, without a byte order mark, at most
//! [`MAX_DEPTH`] containers deep. Half a surrogate pair is refused, since no reader can make text of it. A number may
//! be of any size, since it's kept as text.
//!
//! # The same name twice
//! RFC 8259 leaves it open; here the last one counts, as with most readers. An edit of the field leaves only one: it
//! changes the last and removes those before it, so that none of them shows what was to be replaced or removed. Where
//! no edit is made, [`Object::is_repeated`] tells of them.

mod block;
mod edit;
mod fields;
mod raw;
mod scan;
mod shape;
mod string;
#[cfg(test)]
mod tests;

use std::fmt;

pub use fields::{Fields, Found, Object};
pub use raw::{Kind, Raw, parse_u64};
pub use string::write_str;

/// How deep objects and arrays may stand inside each other.
pub const MAX_DEPTH: usize = 1024;

/// Why a text isn't what was asked for, or can't be edited as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Cause);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Syntax { at: usize, what: &'static str },
    NotAnObject { kind: Kind },
    Edit(String),
}

impl Error {
    /// Where the text goes wrong, in bytes from its start; `None` if it is well-formed and something else is wrong.
    pub fn at(&self) -> Option<usize> {
        match self.0 {
            Cause::Syntax { at, .. } => Some(at),
            _ => None,
        }
    }

    #[cold]
    pub(crate) fn syntax(at: usize, what: &'static str) -> Error {
        Error(Cause::Syntax { at, what })
    }

    #[cold]
    pub(crate) fn edit(what: String) -> Error {
        Error(Cause::Edit(what))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Syntax { at, what } => write!(f, "malformed JSON at byte {at}: {what}"),
            Cause::NotAnObject { kind } => write!(f, "expected a JSON object, found {kind}"),
            Cause::Edit(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}
