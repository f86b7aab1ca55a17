//! What the operators do with values.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::fault::Why;
use crate::value::{Kind, List, Map, NoOrder, Value};

/// An operator on two values of the same type, or on times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

impl Arithmetic {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
        }
    }

    /// The type of the result for operands of these types, or `None` if the operator isn't defined for them.
    pub fn result(self, left: Kind, right: Kind) -> Option<Kind> {
        use Arithmetic::{Add, Remainder, Subtract};
        match (self, left, right) {
            (Remainder, Kind::Double, Kind::Double) => None,
            _ if left == right && left.is_number() => Some(left),
            (Add, Kind::String | Kind::Bytes | Kind::List, _) if left == right => Some(left),
            (Add | Subtract, Kind::Duration, Kind::Duration) => Some(Kind::Duration),
            (Add | Subtract, Kind::Timestamp, Kind::Duration) => Some(Kind::Timestamp),
            (Add, Kind::Duration, Kind::Timestamp) => Some(Kind::Timestamp),
            (Subtract, Kind::Timestamp, Kind::Timestamp) => Some(Kind::Duration),
            _ => None,
        }
    }

    /// Computes.
    #[inline]
    pub fn apply<'a>(self, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, Why> {
        match (left, right) {
            (Value::Int(a), Value::Int(b)) => self.int(a, b).map(Value::Int),
            (Value::Double(a), Value::Double(b)) if self != Arithmetic::Remainder => {
                Ok(Value::Double(match self {
                    Arithmetic::Add => a + b,
                    Arithmetic::Subtract => a - b,
                    Arithmetic::Multiply => a * b,
                    Arithmetic::Divide | Arithmetic::Remainder => a / b,
                }))
            }
            (left, right) => self.rare(left, right),
        }
    }

    /// Computes with ints.
    #[inline]
    pub fn int(self, a: i64, b: i64) -> Result<i64, Why> {
        match self {
            Arithmetic::Add => a.checked_add(b),
            Arithmetic::Subtract => a.checked_sub(b),
            Arithmetic::Multiply => a.checked_mul(b),
            Arithmetic::Divide | Arithmetic::Remainder if b == 0 => {
                return Err(Why::DivisionByZero);
            }
            Arithmetic::Divide => a.checked_div(b),
            // `time % 2` is what filters love, and a division of 64 bits costs as much as the rest of an expression.
            Arithmetic::Remainder if b > 0 && b & (b - 1) == 0 => {
                let low = a & (b - 1);
                Some(if a < 0 && low != 0 { low - b } else { low })
            }
            Arithmetic::Remainder => a.checked_rem(b),
        }
        .ok_or(Why::Overflow(self.name()))
    }

    fn uint(self, a: u64, b: u64) -> Result<u64, Why> {
        match self {
            Arithmetic::Add => a.checked_add(b),
            Arithmetic::Subtract => a.checked_sub(b),
            Arithmetic::Multiply => a.checked_mul(b),
            Arithmetic::Divide | Arithmetic::Remainder if b == 0 => {
                return Err(Why::DivisionByZero);
            }
            Arithmetic::Divide => a.checked_div(b),
            Arithmetic::Remainder => a.checked_rem(b),
        }
        .ok_or(Why::Overflow(self.name()))
    }

    #[cold]
    fn rare<'a>(self, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, Why> {
        use Arithmetic::{Add, Subtract};
        let overflow = || Why::Overflow(self.name());
        match (self, left, right) {
            (_, Value::Uint(a), Value::Uint(b)) => self.uint(a, b).map(Value::Uint),
            (Add, Value::String(a), Value::String(b)) => {
                Ok(Value::String(Cow::Owned([a.as_ref(), b.as_ref()].concat())))
            }
            (Add, Value::Bytes(a), Value::Bytes(b)) => {
                Ok(Value::Bytes(Cow::Owned([a.as_ref(), b.as_ref()].concat())))
            }
            (Add, Value::List(a), Value::List(b)) => Ok(Value::List(List::Values(
                a.iter().chain(b.iter()).collect(),
            ))),
            (Add, Value::Timestamp(time), Value::Duration(length))
            | (Add, Value::Duration(length), Value::Timestamp(time)) => {
                time.plus(length).map(Value::Timestamp).ok_or_else(overflow)
            }
            (Subtract, Value::Timestamp(time), Value::Duration(length)) => time
                .minus(length)
                .map(Value::Timestamp)
                .ok_or_else(overflow),
            (Subtract, Value::Timestamp(a), Value::Timestamp(b)) => {
                a.since(b).map(Value::Duration).ok_or_else(overflow)
            }
            (Add, Value::Duration(a), Value::Duration(b)) => {
                a.plus(b).map(Value::Duration).ok_or_else(overflow)
            }
            (Subtract, Value::Duration(a), Value::Duration(b)) => {
                a.minus(b).map(Value::Duration).ok_or_else(overflow)
            }
            (_, left, right) => Err(Why::NoOverload(
                self.name(),
                left.kind(),
                Some(right.kind()),
            )),
        }
    }
}

/// An operator that compares two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

impl Comparison {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterEqual => ">=",
        }
    }

    /// Whether values of these types can be compared. Equality is defined for all, but between values of different
    /// types it is never true.
    pub fn is_sensible(self, left: Kind, right: Kind) -> bool {
        let numbers = left.is_number() && right.is_number();
        match self {
            Comparison::Equal | Comparison::NotEqual => numbers || left == right,
            _ => {
                let ordered = !matches!(left, Kind::Null | Kind::List | Kind::Map);
                numbers || (left == right && ordered)
            }
        }
    }

    /// Whether the operator holds for what compares like this.
    #[inline]
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::NotEqual => order != Ordering::Equal,
            Comparison::Less => order == Ordering::Less,
            Comparison::LessEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::GreaterEqual => order != Ordering::Less,
        }
    }

    /// Compares. A NaN is unequal to everything, and to ask for its order is an error.
    #[inline]
    pub fn apply(self, left: &Value<'_>, right: &Value<'_>) -> Result<bool, Why> {
        match self {
            Comparison::Equal => return Ok(left.equals(right)),
            Comparison::NotEqual => return Ok(!left.equals(right)),
            _ => {}
        }
        match left.order(right) {
            Ok(Some(order)) => Ok(self.holds(order)),
            Ok(None) => Err(Why::other("NaN has no order")),
            Err(NoOrder) => {
                let right = Some(right.kind());
                Err(Why::NoOverload(self.name(), left.kind(), right))
            }
        }
    }
}

/// `-operand`
pub fn negate(operand: Value<'_>) -> Result<Value<'_>, Why> {
    match operand {
        Value::Int(number) => number
            .checked_neg()
            .map(Value::Int)
            .ok_or(Why::Overflow("-")),
        Value::Double(number) => Ok(Value::Double(-number)),
        other => Err(Why::NoOverload("-", other.kind(), None)),
    }
}

/// `element in container`
pub fn contains(container: &Value<'_>, element: &Value<'_>) -> Result<bool, Why> {
    match container {
        Value::List(List::Values(values)) => Ok(values.iter().any(|found| found.equals(element))),
        Value::List(list) => Ok(list.iter().any(|found| found.equals(element))),
        Value::Map(map) if is_lookup(element.kind()) => Ok(map.get(element).is_some()),
        other => Err(Why::NoOverload("in", element.kind(), Some(other.kind()))),
    }
}

/// Whether a key of this type can be looked for in a map: one that a key can have, or a double that may be worth as
/// much as one.
pub fn is_lookup(kind: Kind) -> bool {
    kind.is_key() || kind == Kind::Double
}

/// `operand[index]`
pub fn index<'a>(operand: &Value<'a>, index: &Value<'_>) -> Result<Value<'a>, Why> {
    match operand {
        Value::Map(map) => map.get(index).ok_or_else(|| match index {
            Value::String(name) => no_key(map, name),
            Value::Int(number) => no_key(map, &number.to_string()),
            Value::Uint(number) => no_key(map, &number.to_string()),
            Value::Bool(truth) => no_key(map, &truth.to_string()),
            Value::Double(number) => no_key(map, &number.to_string()),
            other => Why::NoOverload("[]", Kind::Map, Some(other.kind())),
        }),
        Value::List(list) => {
            let place = match *index {
                Value::Int(number) => number,
                Value::Uint(number) => i64::try_from(number).unwrap_or(i64::MAX),
                // A whole number is an index, whatever its type.
                Value::Double(number) if number.trunc() == number => number as i64,
                ref other => return Err(Why::NoOverload("[]", Kind::List, Some(other.kind()))),
            };
            usize::try_from(place)
                .ok()
                .and_then(|place| list.get(place))
                .ok_or_else(|| match list {
                    List::Json(_) => Why::NoElement(place),
                    List::Values(_) => Why::other(format!("the list has no element {place}")),
                })
        }
        other => Err(Why::NoOverload("[]", other.kind(), Some(index.kind()))),
    }
}

/// `operand.name`
pub fn select<'a>(operand: &Value<'a>, name: &str) -> Result<Value<'a>, Why> {
    match operand {
        Value::Map(map) => map.get_name(name).ok_or_else(|| no_key(map, name)),
        other => Err(no_fields(other.kind(), name)),
    }
}

/// `has(operand.name)`
pub fn has(operand: &Value<'_>, name: &str) -> Result<bool, Why> {
    match operand {
        Value::Map(map) => Ok(map.get_name(name).is_some()),
        other => Err(no_fields(other.kind(), name)),
    }
}

/// Why a value of this type has no field.
pub fn no_fields(kind: Kind, name: &str) -> Why {
    Why::other(format!("there is no `{name}` in {}", kind.with_article()))
}

fn no_key(map: &Map<'_>, name: &str) -> Why {
    match map {
        Map::Json(_) | Map::Headers(_) => Why::NoKey(name.into()),
        Map::Entries(_) => Why::other(format!("there is no `{name}` in the map")),
    }
}
