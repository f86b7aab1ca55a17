//! What can be said of an expression before there is a record: operators on types that they aren't defined for, and
//! results that are never a bool.
//!
//! A part's type is a set of the types that it may have. A field of the JSON value may be anything that JSON has, and
//! so never bytes or a timestamp; a key is bytes or null. An operator that isn't defined for any pair of its operands'
//! types always fails, and is most likely a mistake.

use crate::functions::Function;
use crate::operators::{Comparison, is_lookup};
use crate::parse::Error;
use crate::program::{Loop, LoopKind, Node, Op, Part, Program};
use crate::value::{Kind, List, Map, Value};

/// Refuses a program with a part that always fails, or whose result is never a bool.
pub fn check(program: &Program) -> Result<(), Error> {
    let result = types(&program.root, &mut Vec::new())?;
    let root = &program.root;
    if let Op::Fail(why) = &root.op {
        let reason = format!("the expression always fails: {why}");
        return Err(Error::new(root.at as usize, reason));
    }
    if !result.kinds.contains(Kind::Bool) {
        let reason = format!(
            "the expression gives {}, not a bool",
            result.kinds.with_article()
        );
        return Err(Error::new(root.at as usize, reason));
    }
    Ok(())
}

/// A set of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kinds(u16);

impl Kinds {
    const NONE: Kinds = Kinds(0);
    const ANY: Kinds = Kinds((1 << Kind::ALL.len()) - 1);
    const JSON: Kinds = Kinds::of(&[
        Kind::Null,
        Kind::Bool,
        Kind::Int,
        Kind::Uint,
        Kind::Double,
        Kind::String,
        Kind::List,
        Kind::Map,
    ]);

    const fn of(kinds: &[Kind]) -> Kinds {
        let mut set = 0;
        let mut index = 0;
        while index < kinds.len() {
            set |= 1 << kinds[index] as u16;
            index += 1;
        }
        Kinds(set)
    }

    fn contains(self, kind: Kind) -> bool {
        self.0 & Kinds::of(&[kind]).0 != 0
    }

    fn with(self, kind: Kind) -> Kinds {
        self.or(Kinds::of(&[kind]))
    }

    fn or(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL
            .into_iter()
            .filter(move |kind| self.contains(*kind))
    }

    fn with_article(self) -> String {
        let mut kinds = self.iter();
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => kind.with_article(),
            _ => self.in_words(),
        }
    }

    fn in_words(self) -> String {
        if self == Kinds::ANY {
            return "any value".to_owned();
        }
        if self == Kinds::JSON {
            return "a JSON value".to_owned();
        }
        let names: Vec<String> = self.iter().map(|kind| kind.to_string()).collect();
        names.join(" or ")
    }
}

/// The types that a part may have, and those that its elements (of a list) or values (of a map) may have.
#[derive(Clone, Copy, Debug)]
struct Type {
    kinds: Kinds,
    elements: Kinds,
}

impl Type {
    const ANY: Type = Type {
        kinds: Kinds::ANY,
        elements: Kinds::ANY,
    };
    const JSON: Type = Type {
        kinds: Kinds::JSON,
        elements: Kinds::JSON,
    };
    /// Of what always fails, and so never has a value.
    const NEVER: Type = Type {
        kinds: Kinds::NONE,
        elements: Kinds::NONE,
    };

    fn of(kinds: &[Kind]) -> Type {
        Type::from(Kinds::of(kinds))
    }

    fn from(kinds: Kinds) -> Type {
        Type {
            kinds,
            elements: Kinds::ANY,
        }
    }

    fn or(self, other: Type) -> Type {
        Type {
            kinds: self.kinds.or(other.kinds),
            elements: self.elements.or(other.elements),
        }
    }

    /// The type of an element or a value.
    fn element(self) -> Type {
        Type {
            kinds: self.elements,
            // What stands inside JSON is JSON; of the rest nothing is known.
            elements: match self.elements {
                Kinds::JSON => Kinds::JSON,
                _ => Kinds::ANY,
            },
        }
    }
}

fn types(node: &Node, locals: &mut Vec<Type>) -> Result<Type, Error> {
    let wrong = |reason: String| Err(Error::new(node.at as usize, reason));
    Ok(match &node.op {
        Op::Constant(value) => constant(value),
        Op::Fail(_) => Type::NEVER,
        Op::Field(_) => Type::JSON,
        Op::Record(part) => match part {
            Part::Value => Type::JSON,
            Part::Key => Type::of(&[Kind::Bytes, Kind::Null]),
            Part::Headers => Type {
                kinds: Kinds::of(&[Kind::Map]),
                elements: Kinds::of(&[Kind::Bytes, Kind::Null]),
            },
            Part::Timestamp => Type::of(&[Kind::Timestamp]),
            Part::Topic => Type::of(&[Kind::String]),
            Part::Partition | Part::Offset => Type::of(&[Kind::Int]),
        },
        Op::HasField(_) | Op::HasRecord(_) => Type::of(&[Kind::Bool]),
        Op::Local(depth) => locals
            .iter()
            .rev()
            .nth(usize::from(*depth))
            .copied()
            .unwrap_or(Type::ANY),
        Op::Select(operand, name) => {
            let operand = types(operand, locals)?;
            if !operand.kinds.contains(Kind::Map) && operand.kinds != Kinds::NONE {
                return wrong(format!(
                    "there is no `{name}` in {}",
                    operand.kinds.with_article()
                ));
            }
            operand.element()
        }
        Op::Has(operand, name) => {
            let operand = types(operand, locals)?;
            if !operand.kinds.contains(Kind::Map) && operand.kinds != Kinds::NONE {
                return wrong(format!(
                    "there is no `{name}` in {}",
                    operand.kinds.with_article()
                ));
            }
            Type::of(&[Kind::Bool])
        }
        Op::Index(pair) => {
            let operand = types(&pair[0], locals)?;
            types(&pair[1], locals)?;
            let has_elements = [Kind::List, Kind::Map].map(|kind| operand.kinds.contains(kind));
            if has_elements == [false, false] && operand.kinds != Kinds::NONE {
                return wrong(format!(
                    "`[]` isn't defined for {}",
                    operand.kinds.in_words()
                ));
            }
            operand.element()
        }
        Op::Not(operand) => truth(operand, locals, "!")?,
        Op::Negate(operand) => {
            let operand = types(operand, locals)?;
            let numbers = [Kind::Int, Kind::Double];
            let result = numbers
                .into_iter()
                .filter(|kind| operand.kinds.contains(*kind))
                .fold(Kinds::NONE, Kinds::with);
            if result == Kinds::NONE && operand.kinds != Kinds::NONE {
                return wrong(format!(
                    "`-` isn't defined for {}",
                    operand.kinds.in_words()
                ));
            }
            Type::from(result)
        }
        Op::And(terms) => {
            for term in terms {
                truth(term, locals, "&&")?;
            }
            Type::of(&[Kind::Bool])
        }
        Op::Or(terms) => {
            for term in terms {
                truth(term, locals, "||")?;
            }
            Type::of(&[Kind::Bool])
        }
        Op::If(parts) => {
            let [condition, then, otherwise] = &**parts;
            truth(condition, locals, "?:")?;
            types(then, locals)?.or(types(otherwise, locals)?)
        }
        Op::Compare(comparison, pair) => {
            let (left, right) = (types(&pair[0], locals)?, types(&pair[1], locals)?);
            let sensible = defined(left, right, |left, right| {
                comparison.is_sensible(left, right).then_some(Kind::Bool)
            });
            if sensible.is_none() {
                return wrong(compare_reason(*comparison, left, right));
            }
            Type::of(&[Kind::Bool])
        }
        Op::Arithmetic(arithmetic, pair) => {
            let (left, right) = (types(&pair[0], locals)?, types(&pair[1], locals)?);
            match defined(left, right, |left, right| arithmetic.result(left, right)) {
                Some(kinds) => Type {
                    kinds,
                    elements: left.elements.or(right.elements),
                },
                None => return wrong(pair_reason(arithmetic.name(), left, right)),
            }
        }
        Op::In(pair) => {
            let (element, container) = (types(&pair[0], locals)?, types(&pair[1], locals)?);
            let held = if container.kinds.contains(Kind::List) {
                container.elements
            } else {
                Kinds::ANY
            };
            let sensible = defined(element, container, |element, container| {
                let is_held = match container {
                    Kind::List => true,
                    Kind::Map => is_lookup(element),
                    _ => false,
                };
                is_held.then_some(Kind::Bool)
            });
            if sensible.is_none() {
                return wrong(pair_reason("in", element, container));
            }
            let found = defined(element, Type::from(held), |element, held| {
                Comparison::Equal
                    .is_sensible(element, held)
                    .then_some(Kind::Bool)
            });
            if found.is_none() {
                return wrong(format!(
                    "{} is never in a list of {}",
                    element.kinds.with_article(),
                    held.in_words()
                ));
            }
            Type::of(&[Kind::Bool])
        }
        Op::List(elements) => {
            let mut held = Kinds::NONE;
            for element in elements {
                held = held.or(types(element, locals)?.kinds);
            }
            Type {
                kinds: Kinds::of(&[Kind::List]),
                elements: held,
            }
        }
        Op::Map(entries) => {
            let mut held = Kinds::NONE;
            for (key, value) in entries {
                let key_type = types(key, locals)?;
                if key_type.kinds != Kinds::NONE && !key_type.kinds.iter().any(Kind::is_key) {
                    let reason = format!(
                        "{} can't be the key of a map",
                        key_type.kinds.with_article()
                    );
                    return Err(Error::new(key.at as usize, reason));
                }
                held = held.or(types(value, locals)?.kinds);
            }
            Type {
                kinds: Kinds::of(&[Kind::Map]),
                elements: held,
            }
        }
        Op::Call(function, argument) => {
            let argument = types(argument, locals)?;
            let mut result = Kinds::NONE;
            for kind in argument.kinds.iter() {
                if let Some(kind) = function.result(kind, None) {
                    result = result.with(kind);
                }
            }
            if result == Kinds::NONE && argument.kinds != Kinds::NONE {
                return wrong(format!(
                    "`{}` isn't defined for {}",
                    function.name(),
                    argument.kinds.in_words()
                ));
            }
            match function {
                // Its very purpose is to be of any type.
                Function::Dyn => Type::ANY,
                Function::Json => Type::JSON,
                _ => Type::from(result),
            }
        }
        Op::Call2(function, pair) => {
            let (first, second) = (types(&pair[0], locals)?, types(&pair[1], locals)?);
            let result = defined(first, second, |first, second| {
                function.result(first, Some(second))
            });
            match result {
                Some(kinds) => Type::from(kinds),
                None => return wrong(pair_reason(function.name(), first, second)),
            }
        }
        Op::Matches(text, _) => {
            let text = types(text, locals)?;
            if !text.kinds.contains(Kind::String) && text.kinds != Kinds::NONE {
                return wrong(format!(
                    "`matches` isn't defined for {}",
                    text.kinds.in_words()
                ));
            }
            Type::of(&[Kind::Bool])
        }
        Op::MatchesAny(pair) => {
            let (text, pattern) = (types(&pair[0], locals)?, types(&pair[1], locals)?);
            let strings = defined(text, pattern, |text, pattern| {
                (text == Kind::String && pattern == Kind::String).then_some(Kind::Bool)
            });
            if strings.is_none() {
                return wrong(pair_reason("matches", text, pattern));
            }
            Type::of(&[Kind::Bool])
        }
        Op::IsType(operand, kind) => {
            let operand = types(operand, locals)?;
            if !operand.kinds.contains(*kind) && operand.kinds != Kinds::NONE {
                return wrong(format!(
                    "{} is never {}",
                    operand.kinds.with_article(),
                    kind.with_article()
                ));
            }
            Type::of(&[Kind::Bool])
        }
        Op::Loop(loop_) => repeat(node, loop_, locals)?,
    })
}

fn repeat(node: &Node, loop_: &Loop, locals: &mut Vec<Type>) -> Result<Type, Error> {
    let range = types(&loop_.range, locals)?;
    let (is_list, is_map) = (
        range.kinds.contains(Kind::List),
        range.kinds.contains(Kind::Map),
    );
    if !is_list && !is_map && range.kinds != Kinds::NONE {
        let reason = format!(
            "there is nothing to go through in {}",
            range.kinds.with_article()
        );
        return Err(Error::new(node.at as usize, reason));
    }
    let element = match (is_list, is_map) {
        (true, false) => range.element(),
        // The keys of JSON and of headers are strings; those of a map that the expression makes may be others.
        _ if range.kinds == Kinds::JSON => Type::JSON,
        _ => Type::ANY,
    };
    locals.push(element);
    let filter = match &loop_.filter {
        Some(filter) => truth(filter, locals, "filter").map(|_| ()),
        None => Ok(()),
    };
    let body = match loop_.kind {
        LoopKind::Map => types(&loop_.body, locals),
        _ => truth(&loop_.body, locals, loop_.kind.name()),
    };
    locals.pop();
    filter?;
    Ok(match loop_.kind {
        LoopKind::Map => Type {
            kinds: Kinds::of(&[Kind::List]),
            elements: body?.kinds,
        },
        _ => body?,
    })
}

/// The type of a part that must be a bool for the operator `user`.
fn truth(node: &Node, locals: &mut Vec<Type>, user: &str) -> Result<Type, Error> {
    let found = types(node, locals)?;
    if !found.kinds.contains(Kind::Bool) && found.kinds != Kinds::NONE {
        let reason = format!("`{user}` isn't defined for {}", found.kinds.in_words());
        return Err(Error::new(node.at as usize, reason));
    }
    Ok(Type::of(&[Kind::Bool]))
}

/// The types of the results over all pairs of types that the operator is defined for; `None` if there is no such pair.
fn defined(left: Type, right: Type, result: impl Fn(Kind, Kind) -> Option<Kind>) -> Option<Kinds> {
    if left.kinds == Kinds::NONE || right.kinds == Kinds::NONE {
        return Some(Kinds::NONE);
    }
    let results = left
        .kinds
        .iter()
        .flat_map(|left| {
            right.kinds.iter().filter_map({
                let result = &result;
                move |right| result(left, right)
            })
        })
        .fold(Kinds::NONE, Kinds::with);
    (results != Kinds::NONE).then_some(results)
}

fn constant(value: &Value<'_>) -> Type {
    let elements = match value {
        Value::List(List::Values(values)) => values
            .iter()
            .map(Value::kind)
            .fold(Kinds::NONE, Kinds::with),
        Value::Map(Map::Entries(entries)) => entries
            .iter()
            .map(|(_, value)| value.kind())
            .fold(Kinds::NONE, Kinds::with),
        _ => Kinds::ANY,
    };
    Type {
        kinds: Kinds::of(&[value.kind()]),
        elements,
    }
}

fn pair_reason(name: &str, left: Type, right: Type) -> String {
    format!(
        "`{name}` isn't defined for {} and {}{}",
        left.kinds.in_words(),
        right.kinds.in_words(),
        advice(left, right)
    )
}

fn compare_reason(comparison: Comparison, left: Type, right: Type) -> String {
    match comparison {
        Comparison::Equal | Comparison::NotEqual => format!(
            "{} and {} are never equal{}",
            left.kinds.in_words(),
            right.kinds.in_words(),
            advice(left, right)
        ),
        _ => pair_reason(comparison.name(), left, right),
    }
}

/// What most likely was meant.
fn advice(left: Type, right: Type) -> &'static str {
    let either = |kind| left.kinds.contains(kind) || right.kinds.contains(kind);
    if either(Kind::Timestamp) {
        "; timestamp(…) makes a time of RFC 3339 text, or of seconds since 1970"
    } else if either(Kind::Duration) {
        "; duration(…) makes a duration of text such as \"90s\""
    } else if either(Kind::Bytes) {
        "; string(…) makes text of bytes, json(…) a JSON value"
    } else {
        ""
    }
}
