//! Why an expression has no value for a record.

use std::fmt::{Display, Formatter};

use crate::value::Kind;

/// An error of evaluation, where the expression has it.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The byte of the expression's text where the failing part stands (its operator, its function's parenthesis).
    pub at: u32,
    /// What is wrong.
    pub why: Why,
}

impl Fault {
    /// Whether something of the record that the expression needs is absent.
    pub fn is_missing(&self) -> bool {
        matches!(self.why, Why::Absent(_) | Why::NoKey(_) | Why::NoElement(_))
    }
}

/// What is wrong.
#[derive(Clone, Debug)]
pub enum Why {
    /// The record doesn't have what it is asked for, by its name in the expression.
    Absent(&'static str),
    /// A map of the record has no such key.
    NoKey(Box<str>),
    /// A list of the record has no element at this index.
    NoElement(i64),
    /// An operator or function isn't defined for values of these types.
    NoOverload(&'static str, Kind, Option<Kind>),
    /// The result of an operator or function is out of its type's range.
    Overflow(&'static str),
    /// A division or remainder by zero.
    DivisionByZero,
    /// Anything else, in words.
    Other(Box<str>),
}

impl Why {
    /// A reason in words.
    pub fn other(text: impl Into<Box<str>>) -> Why {
        Why::Other(text.into())
    }
}

impl Display for Why {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Absent(name) => write!(f, "the record has no {name}"),
            Why::NoKey(name) => write!(f, "there is no `{name}`"),
            Why::NoElement(index) => write!(f, "the list has no element {index}"),
            Why::NoOverload(name, kind, None) => write!(f, "`{name}` isn't defined for {kind}"),
            Why::NoOverload(name, left, Some(right)) => {
                write!(f, "`{name}` isn't defined for {left} and {right}")
            }
            Why::Overflow(name) => write!(f, "the result of `{name}` is out of range"),
            Why::DivisionByZero => write!(f, "division by zero"),
            Why::Other(text) => f.write_str(text),
        }
    }
}
