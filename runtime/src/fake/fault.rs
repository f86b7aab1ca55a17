//! What can be wrong with a record's value.

use std::fmt;

use super::dice::Dice;
use super::shape::Vital;

/// One way in which a value is bad. Each but a null value is one that the seed job's transforms must refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The text ends early, as after a crash.
    Truncated,
    /// JSON, but an array, a string, a number or a literal.
    NotAnObject,
    /// The subject's vital field (its time, or a bet's amount) is missing.
    MissingField,
    /// The vital field is neither what it should be nor null.
    WrongType,
    /// A string holds a byte that UTF-8 doesn't have.
    InvalidUtf8,
    /// The value is null: a tombstone where none is expected.
    NullValue,
    /// The vital field is of the right type, but no date or amount is that large.
    OutOfRange,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 7] = [
        Fault::Truncated,
        Fault::NotAnObject,
        Fault::MissingField,
        Fault::WrongType,
        Fault::InvalidUtf8,
        Fault::NullValue,
        Fault::OutOfRange,
    ];

    /// Its name in tables and summaries.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Truncated => "truncated",
            Fault::NotAnObject => "not an object",
            Fault::MissingField => "missing field",
            Fault::WrongType => "wrong type",
            Fault::InvalidUtf8 => "invalid UTF-8",
            Fault::NullValue => "null value",
            Fault::OutOfRange => "out of range",
        }
    }

    /// Makes a good value bad; `vital` says where its vital field is.
    pub(super) fn spoil(self, value: &mut Vec<u8>, vital: Vital, dice: &mut Dice) {
        let quoted = value[vital.value] == b'"';
        let field = vital.value..vital.end;
        match self {
            // At least the opening brace stays, and the closing one goes.
            Fault::Truncated => value.truncate(1 + dice.index(value.len() - 1)),
            Fault::NotAnObject => {
                let other = dice.pick(&["[]", "\"BTC-USD\"", "42", "true", "null", "[{\"id\":1}]"]);
                value.clear();
                value.extend_from_slice(other.as_bytes());
            }
            Fault::MissingField => {
                value.drain(vital.comma..vital.end);
            }
            Fault::WrongType => {
                let other = dice.pick(&["true", "[]", "{\"$date\":1}", "\"soon\""]);
                value.splice(field, other.bytes());
            }
            Fault::InvalidUtf8 => {
                // Every shape has a string as a value.
                let quote = value.windows(2).position(|pair| pair == b":\"");
                let at = quote.map_or(1, |quote| quote + 2);
                let byte = [0xff, 0xc0, 0x80][dice.index(3)];
                value.insert(at, byte);
            }
            Fault::NullValue => value.clear(),
            Fault::OutOfRange => {
                let other = match quoted {
                    true => dice.pick(&["\"2021-13-32 25:61:61\"", "\"0000-00-00 00:00:00\""]),
                    false => dice.pick(&["1634221557011000000000000", "-9e99", "1e400"]),
                };
                value.splice(field, other.bytes());
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
