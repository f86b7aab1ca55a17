//! A compiled expression: a tree over numbered fields.

use std::ops::BitOr;

use weir_guest::Needs;

use crate::fault::Why;
use crate::functions::Function;
use crate::operators::{Arithmetic, Comparison};
use crate::pattern::Pattern;
use crate::value::{Kind, Value};

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    /// Its tree.
    pub root: Node,
    /// The fields of the record's JSON value, as names from the outside in, in which `Op::Field` counts: those that it
    /// was compiled beside, and then those that it alone reads.
    pub fields: Vec<Vec<String>>,
    /// What else of a record it reads.
    pub reads: Reads,
}

impl Program {
    /// The fields as paths of the JSON scanner, in the same order.
    pub fn paths(&self) -> Vec<String> {
        self.fields
            .iter()
            .map(|names| {
                let escaped: Vec<String> = names
                    .iter()
                    .map(|name| name.replace('\\', r"\\").replace('.', r"\."))
                    .collect();
                escaped.join(".")
            })
            .collect()
    }
}

/// What an expression reads of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Fields of the value, one by one.
    pub fields: bool,
    /// `record.value`, whole
    pub value: bool,
    /// `record.key`
    pub key: bool,
    /// `record.headers`
    pub headers: bool,
    /// `record.timestamp`
    pub timestamp: bool,
    /// `record.offset`
    pub offset: bool,
}

impl Reads {
    /// Whether it reads the value, whole or in part.
    #[inline]
    pub fn any_value(&self) -> bool {
        self.fields || self.value
    }

    /// The columns that it reads.
    pub fn needs(&self) -> Needs {
        [
            (self.any_value(), Needs::VALUES),
            (self.key, Needs::KEYS),
            (self.headers, Needs::HEADERS),
            (self.timestamp, Needs::TIMESTAMPS),
            (self.offset, Needs::POSITIONS),
        ]
        .into_iter()
        .filter(|(is_read, _)| *is_read)
        .fold(Needs::NONE, |needs, (_, column)| needs | column)
    }
}

impl BitOr for Reads {
    type Output = Reads;

    /// What two expressions read together.
    fn bitor(self, other: Reads) -> Reads {
        Reads {
            fields: self.fields | other.fields,
            value: self.value | other.value,
            key: self.key | other.key,
            headers: self.headers | other.headers,
            timestamp: self.timestamp | other.timestamp,
            offset: self.offset | other.offset,
        }
    }
}

/// A part of an expression.
#[derive(Clone, Debug)]
pub struct Node {
    /// The byte of the expression's text where it stands.
    pub at: u32,
    /// What it does.
    pub op: Op,
}

/// What a part of an expression does.
#[derive(Clone, Debug)]
pub enum Op {
    /// A literal, or what was computed at compile time.
    Constant(Value<'static>),
    /// A constant part that has no value.
    Fail(Why),
    /// A field of the JSON value, by its number in `Program::fields`.
    Field(u16),
    /// `has()` of such a field.
    HasField(u16),
    /// `record.NAME`
    Record(Part),
    /// `has(record.NAME)`
    HasRecord(Part),
    /// A macro's variable, counted from the innermost.
    Local(u16),
    /// `operand.name`
    Select(Box<Node>, Box<str>),
    /// `has(operand.name)`
    Has(Box<Node>, Box<str>),
    /// `operand[index]`
    Index(Box<[Node; 2]>),
    /// `!operand`
    Not(Box<Node>),
    /// `-operand`
    Negate(Box<Node>),
    /// `a && b && …`
    And(Box<[Node]>),
    /// `a || b || …`
    Or(Box<[Node]>),
    /// `condition ? a : b`
    If(Box<[Node; 3]>),
    /// `a == b` and the like
    Compare(Comparison, Box<[Node; 2]>),
    /// `a + b` and the like
    Arithmetic(Arithmetic, Box<[Node; 2]>),
    /// `element in container`
    In(Box<[Node; 2]>),
    /// `[a, b]`
    List(Box<[Node]>),
    /// `{a: b}`
    Map(Box<[(Node, Node)]>),
    /// `f(a)` or `a.f()`
    Call(Function, Box<Node>),
    /// `a.f(b)`
    Call2(Function, Box<[Node; 2]>),
    /// `text.matches(…)` with a pattern known at compile time
    Matches(Box<Node>, Box<Pattern>),
    /// `text.matches(pattern)`
    MatchesAny(Box<[Node; 2]>),
    /// `type(a) == NAME`
    IsType(Box<Node>, Kind),
    /// A macro over the elements of a list or the keys of a map.
    Loop(Box<Loop>),
}

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `record.value`
    Value,
    /// `record.key`
    Key,
    /// `record.headers`
    Headers,
    /// `record.timestamp`
    Timestamp,
    /// `record.topic`
    Topic,
    /// `record.partition`
    Partition,
    /// `record.offset`
    Offset,
}

impl Part {
    /// All parts with their names.
    pub const ALL: [(&'static str, Part); 7] = [
        ("value", Part::Value),
        ("key", Part::Key),
        ("headers", Part::Headers),
        ("timestamp", Part::Timestamp),
        ("topic", Part::Topic),
        ("partition", Part::Partition),
        ("offset", Part::Offset),
    ];
}

/// A macro: something is done for each element.
#[derive(Clone, Debug)]
pub struct Loop {
    /// What is made of the elements.
    pub kind: LoopKind,
    /// The list or map.
    pub range: Node,
    /// Which elements count; all without it. It and `body` see the element as `Op::Local(0)`.
    pub filter: Option<Node>,
    /// The condition, or what an element becomes.
    pub body: Node,
}

/// What a macro makes of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopKind {
    /// Whether the condition holds for all of them.
    All,
    /// Whether it holds for one or more.
    Exists,
    /// Whether it holds for exactly one.
    ExistsOne,
    /// A list of what they become.
    Map,
}

impl LoopKind {
    /// The macro's name; `filter` is a `map` too.
    pub fn name(self) -> &'static str {
        match self {
            LoopKind::All => "all",
            LoopKind::Exists => "exists",
            LoopKind::ExistsOne => "exists_one",
            LoopKind::Map => "map",
        }
    }
}
