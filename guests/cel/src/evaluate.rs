//! A program's value for a record.

use weir_guest::json::{self, Object, Raw};

use crate::fault::{Fault, Why};
use crate::input::Input;
use crate::operators::{self, Comparison};
use crate::pattern::Pattern;
use crate::program::{Loop, LoopKind, Node, Op, Part, Program};
use crate::value::{Kind, List, Map, Value};

impl Program {
    /// Whether the expression holds for a record.
    #[inline]
    pub fn holds(&self, input: &Input<'_>) -> Result<bool, Fault> {
        let evaluation = self.evaluation(input);
        // What filters do most is done before the first call.
        if let Op::Compare(comparison, pair) = &self.root.op
            && let Some(truth) = evaluation.compare_int(*comparison, pair)?
        {
            return Ok(truth);
        }
        self.holds_in_general(input)
    }

    /// The same without the short way; one copy, in this crate.
    #[inline(never)]
    fn holds_in_general(&self, input: &Input<'_>) -> Result<bool, Fault> {
        self.evaluation(input).truth(&self.root, None, "")
    }

    /// The expression's value for a record.
    pub fn value<'a>(&'a self, input: &'a Input<'a>) -> Result<Value<'a>, Fault> {
        self.evaluation(input).value(&self.root, None)
    }

    fn evaluation<'a>(&'a self, input: &'a Input<'a>) -> Evaluation<'a> {
        Evaluation {
            fields: &self.fields,
            input,
        }
    }
}

/// The value of a part that reads nothing of a record.
pub fn constant(node: &Node) -> Result<Value<'_>, Fault> {
    let evaluation = Evaluation {
        fields: &[],
        input: &Input::NONE,
    };
    evaluation.value(node, None)
}

struct Evaluation<'a> {
    fields: &'a [Vec<String>],
    input: &'a Input<'a>,
}

/// A macro's variable, and those around it.
struct Scope<'s, 'a> {
    value: Value<'a>,
    outer: Option<&'s Scope<'s, 'a>>,
}

type Outer<'s, 'a> = Option<&'s Scope<'s, 'a>>;

impl<'a> Evaluation<'a> {
    #[inline]
    fn value(&self, node: &'a Node, scope: Outer<'_, 'a>) -> Result<Value<'a>, Fault> {
        match &node.op {
            Op::Constant(value) => Ok(value.reborrow()),
            Op::Field(slot) => match self.field(*slot) {
                Some(raw) => Ok(Value::from(raw)),
                None => self.without_field(*slot).map_err(|why| fault(node, why)),
            },
            Op::Arithmetic(arithmetic, pair) => {
                let left = self.value(&pair[0], scope)?;
                let right = self.value(&pair[1], scope)?;
                arithmetic
                    .apply(left, right)
                    .map_err(|why| fault(node, why))
            }
            _ => self.rest(node, scope),
        }
    }

    #[inline(never)]
    fn rest(&self, node: &'a Node, scope: Outer<'_, 'a>) -> Result<Value<'a>, Fault> {
        let result = match &node.op {
            Op::Constant(_) | Op::Field(_) | Op::Arithmetic(..) => return self.value(node, scope),
            Op::HasField(_)
            | Op::HasRecord(_)
            | Op::Has(..)
            | Op::Not(_)
            | Op::And(_)
            | Op::Or(_)
            | Op::Compare(..)
            | Op::In(_)
            | Op::Matches(..)
            | Op::MatchesAny(_)
            | Op::IsType(..) => return self.truth(node, scope, "").map(Value::Bool),
            Op::Fail(why) => Err(why.clone()),
            Op::Record(part) => self.record(*part),
            Op::Local(depth) => Ok(local(scope, *depth)),
            Op::Select(operand, name) => operators::select(&self.value(operand, scope)?, name),
            Op::Index(pair) => {
                let operand = self.value(&pair[0], scope)?;
                operators::index(&operand, &self.value(&pair[1], scope)?)
            }
            Op::Negate(operand) => operators::negate(self.value(operand, scope)?),
            Op::If(parts) => {
                let [condition, then, otherwise] = &**parts;
                return match self.truth(condition, scope, "?:")? {
                    true => self.value(then, scope),
                    false => self.value(otherwise, scope),
                };
            }
            Op::List(elements) => {
                let elements: Result<_, Fault> = elements
                    .iter()
                    .map(|element| self.value(element, scope))
                    .collect();
                Ok(Value::List(List::Values(elements?)))
            }
            Op::Map(entries) => return self.map(entries, scope),
            Op::Call(function, argument) => function.call(self.value(argument, scope)?, None),
            Op::Call2(function, pair) => {
                let first = self.value(&pair[0], scope)?;
                function.call(first, Some(self.value(&pair[1], scope)?))
            }
            Op::Loop(loop_) => return self.repeat(node, loop_, scope),
        };
        result.map_err(|why| fault(node, why))
    }

    /// The value of a part that must be a bool. `user` is the operator that needs it, empty for the whole expression.
    #[inline]
    fn truth(
        &self,
        node: &'a Node,
        scope: Outer<'_, 'a>,
        user: &'static str,
    ) -> Result<bool, Fault> {
        match &node.op {
            Op::Constant(Value::Bool(truth)) => Ok(*truth),
            Op::Compare(comparison, pair) => self.compare(node, *comparison, pair, scope),
            Op::And(terms) => self.chain(terms, scope, "&&", false),
            Op::Or(terms) => self.chain(terms, scope, "||", true),
            _ => self.rare_truth(node, scope, user),
        }
    }

    #[inline(never)]
    fn rare_truth(
        &self,
        node: &'a Node,
        scope: Outer<'_, 'a>,
        user: &'static str,
    ) -> Result<bool, Fault> {
        let result = match &node.op {
            Op::Not(operand) => return self.truth(operand, scope, "!").map(|truth| !truth),
            Op::HasField(slot) => self.has_field(*slot),
            Op::HasRecord(part) => Ok(self.record(*part).is_ok()),
            Op::Has(operand, name) => operators::has(&self.value(operand, scope)?, name),
            Op::In(pair) => {
                let element = self.value(&pair[0], scope)?;
                match &pair[1].op {
                    Op::Constant(container) => operators::contains(container, &element),
                    _ => operators::contains(&self.value(&pair[1], scope)?, &element),
                }
            }
            Op::Matches(text, pattern) => match self.value(text, scope)? {
                Value::String(text) => Ok(pattern.is_match(&text)),
                other => Err(Why::NoOverload("matches", other.kind(), Some(Kind::String))),
            },
            Op::MatchesAny(pair) => {
                match (self.value(&pair[0], scope)?, self.value(&pair[1], scope)?) {
                    (Value::String(text), Value::String(pattern)) => Pattern::new(&pattern)
                        .map(|pattern| pattern.is_match(&text))
                        .map_err(Why::other),
                    (text, pattern) => {
                        let pattern = Some(pattern.kind());
                        Err(Why::NoOverload("matches", text.kind(), pattern))
                    }
                }
            }
            Op::IsType(operand, kind) => Ok(self.value(operand, scope)?.kind() == *kind),
            _ => match self.value(node, scope)? {
                Value::Bool(truth) => Ok(truth),
                other if user.is_empty() => Err(Why::other(format!(
                    "the result is {}, not a bool",
                    other.kind().with_article()
                ))),
                other => Err(Why::NoOverload(user, other.kind(), None)),
            },
        };
        result.map_err(|why| fault(node, why))
    }

    #[inline]
    fn compare(
        &self,
        node: &Node,
        comparison: Comparison,
        pair: &'a [Node; 2],
        scope: Outer<'_, 'a>,
    ) -> Result<bool, Fault> {
        // The common cases: a field, or arithmetic on fields, against a constant of the same type.
        if let Some(truth) = self.compare_int(comparison, pair)? {
            return Ok(truth);
        }
        let [left, right] = pair;
        if let Op::Constant(Value::String(constant)) = &right.op
            && let Op::Field(slot) = &left.op
            && let Some(raw) = self.field(*slot)
            && raw.kind() == json::Kind::String
        {
            match comparison {
                Comparison::Equal => return Ok(raw.says(constant)),
                Comparison::NotEqual => return Ok(!raw.says(constant)),
                _ => {}
            }
        }
        let left = self.value(left, scope)?;
        let result = match &right.op {
            Op::Constant(right) => comparison.apply(&left, right),
            _ => comparison.apply(&left, &self.value(right, scope)?),
        };
        result.map_err(|why| fault(node, why))
    }

    /// A comparison of an int made of fields and constants with a constant; `None` if it is anything else, which is
    /// then computed the long way.
    #[inline(always)]
    fn compare_int(
        &self,
        comparison: Comparison,
        [left, right]: &[Node; 2],
    ) -> Result<Option<bool>, Fault> {
        let Op::Constant(Value::Int(constant)) = &right.op else {
            return Ok(None);
        };
        let number = self.int(left)?;
        Ok(number.map(|number| comparison.holds(number.cmp(constant))))
    }

    /// The value of a part that is an int made of fields and constants; `None` if it is anything else, which is then
    /// computed the long way.
    #[inline]
    fn int(&self, node: &Node) -> Result<Option<i64>, Fault> {
        match &node.op {
            Op::Field(slot) => Ok(self.field(*slot).and_then(|raw| raw.as_i64())),
            Op::Arithmetic(arithmetic, pair) => {
                let [left, right] = &**pair;
                let (Some(left), Some(right)) = (self.int_operand(left), self.int_operand(right))
                else {
                    return Ok(None);
                };
                let result = arithmetic.int(left, right);
                result.map(Some).map_err(|why| fault(node, why))
            }
            _ => Ok(None),
        }
    }

    #[inline]
    fn int_operand(&self, node: &Node) -> Option<i64> {
        match &node.op {
            Op::Field(slot) => self.field(*slot)?.as_i64(),
            Op::Constant(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    #[inline]
    fn field(&self, slot: u16) -> Option<Raw<'a>> {
        self.input.object?.get(slot.into())
    }

    /// A chain of `&&` or `||`. One term that is `decisive` decides it, even if others have no value; without one, the
    /// first error stands.
    fn chain(
        &self,
        terms: &'a [Node],
        scope: Outer<'_, 'a>,
        user: &'static str,
        decisive: bool,
    ) -> Result<bool, Fault> {
        let mut first = None;
        for term in terms {
            match self.truth(term, scope, user) {
                Ok(truth) if truth == decisive => return Ok(decisive),
                Ok(_) => {}
                Err(fault) => first = first.or(Some(fault)),
            }
        }
        match first {
            Some(fault) => Err(fault),
            None => Ok(!decisive),
        }
    }

    fn map(&self, entries: &'a [(Node, Node)], scope: Outer<'_, 'a>) -> Result<Value<'a>, Fault> {
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key_node, value_node) in entries {
            let key = self.value(key_node, scope)?;
            if !key.kind().is_key() {
                let why = format!("{} can't be the key of a map", key.kind().with_article());
                return Err(fault(key_node, Why::other(why)));
            }
            if made.iter().any(|(known, _)| known.equals(&key)) {
                return Err(fault(
                    key_node,
                    Why::other("the key stands twice in the map"),
                ));
            }
            made.push((key, self.value(value_node, scope)?));
        }
        Ok(Value::Map(Map::Entries(made.into())))
    }

    fn repeat(
        &self,
        node: &Node,
        loop_: &'a Loop,
        scope: Outer<'_, 'a>,
    ) -> Result<Value<'a>, Fault> {
        let mut gathered = Gathered {
            kind: loop_.kind,
            fault: None,
            count: 0,
            list: Vec::new(),
        };
        // The elements of a constant are borrowed, not copied.
        if let Op::Constant(Value::List(List::Values(values))) = &loop_.range.op {
            for value in values.iter() {
                if self.step(loop_, value.reborrow(), scope, &mut gathered) {
                    break;
                }
            }
            return gathered.result();
        }
        match self.value(&loop_.range, scope)? {
            Value::List(list) => {
                for value in list.iter() {
                    if self.step(loop_, value, scope, &mut gathered) {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, _) in map.iter() {
                    if self.step(loop_, key, scope, &mut gathered) {
                        break;
                    }
                }
            }
            other => {
                let why = format!(
                    "there is nothing to go through in {}",
                    other.kind().with_article()
                );
                return Err(fault(node, Why::other(why)));
            }
        }
        gathered.result()
    }

    /// Does a macro's work on one element; true if that settles the result.
    fn step(
        &self,
        loop_: &'a Loop,
        value: Value<'a>,
        outer: Outer<'_, 'a>,
        gathered: &mut Gathered<'a>,
    ) -> bool {
        let scope = Scope { value, outer };
        let scope = Some(&scope);
        if let Some(filter) = &loop_.filter {
            match self.truth(filter, scope, "filter") {
                Ok(true) => {}
                Ok(false) => return false,
                Err(fault) => return gathered.fail(fault),
            }
        }
        if loop_.kind == LoopKind::Map {
            return match self.value(&loop_.body, scope) {
                Ok(value) => {
                    gathered.list.push(value);
                    false
                }
                Err(fault) => gathered.fail(fault),
            };
        }
        match self.truth(&loop_.body, scope, loop_.kind.name()) {
            Ok(truth) => gathered.note(truth),
            Err(fault) => gathered.fail(fault),
        }
    }

    fn record(&self, part: Part) -> Result<Value<'a>, Why> {
        let input = self.input;
        Ok(match part {
            Part::Value => match input.whole {
                Some(raw) => Value::from(raw),
                None => return Err(Why::Absent("value")),
            },
            Part::Key => match input.key {
                Some(key) => Value::Bytes(key.into()),
                None => Value::Null,
            },
            Part::Headers => Value::Map(Map::Headers(input.headers)),
            Part::Timestamp => match input.timestamp {
                Some(time) => Value::Timestamp(time),
                None => return Err(Why::Absent("timestamp")),
            },
            Part::Topic => Value::String(input.topic.into()),
            Part::Partition => Value::Int(input.partition.into()),
            Part::Offset => Value::Int(i64::try_from(input.offset).unwrap_or(i64::MAX)),
        })
    }

    /// A field that the scan didn't find: why it isn't there.
    #[cold]
    #[inline(never)]
    fn without_field(&self, slot: u16) -> Result<Value<'a>, Why> {
        self.walk(&self.fields[usize::from(slot)])
    }

    fn has_field(&self, slot: u16) -> Result<bool, Why> {
        let path = &self.fields[usize::from(slot)];
        match self.input.object {
            Some(object) if object.has(slot.into()) => Ok(true),
            Some(_) if path.len() == 1 => Ok(false),
            _ => match path.split_last() {
                Some((name, parents)) => operators::has(&self.walk(parents)?, name),
                None => Ok(false),
            },
        }
    }

    /// What stands at a path, step by step.
    fn walk(&self, path: &[String]) -> Result<Value<'a>, Why> {
        let root: Option<Raw<'a>> = self.input.whole.or(self.input.object.map(Object::root));
        let mut value = Value::from(root.ok_or(Why::Absent("value"))?);
        for (index, name) in path.iter().enumerate() {
            value = match &value {
                Value::Map(map) => match map.get_name(name) {
                    Some(found) => found,
                    None => return Err(Why::NoKey(path[..=index].join(".").into())),
                },
                other => return Err(operators::no_fields(other.kind(), name)),
            };
        }
        Ok(value)
    }
}

/// What a macro has gathered so far.
struct Gathered<'a> {
    kind: LoopKind,
    /// The first error.
    fault: Option<Fault>,
    /// For how many elements the condition held.
    count: usize,
    list: Vec<Value<'a>>,
}

impl<'a> Gathered<'a> {
    /// Notes a condition's value; true if that settles the result.
    fn note(&mut self, truth: bool) -> bool {
        self.count += usize::from(truth);
        match self.kind {
            // As in a chain of `&&` or `||`: what decides, decides in spite of errors.
            LoopKind::All if !truth => {
                self.fault = None;
                self.count = usize::MAX;
                true
            }
            LoopKind::Exists if truth => {
                self.fault = None;
                true
            }
            _ => false,
        }
    }

    /// Notes an error; true if that settles the result.
    fn fail(&mut self, fault: Fault) -> bool {
        if self.fault.is_none() {
            self.fault = Some(fault);
        }
        matches!(self.kind, LoopKind::ExistsOne | LoopKind::Map)
    }

    fn result(self) -> Result<Value<'a>, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        Ok(match self.kind {
            LoopKind::All => Value::Bool(self.count != usize::MAX),
            LoopKind::Exists => Value::Bool(self.count > 0),
            LoopKind::ExistsOne => Value::Bool(self.count == 1),
            LoopKind::Map => Value::List(List::Values(self.list.into())),
        })
    }
}

fn local<'a>(scope: Outer<'_, 'a>, depth: u16) -> Value<'a> {
    let mut scope = scope;
    for _ in 0..depth {
        scope = scope.and_then(|scope| scope.outer);
    }
    scope.map_or(Value::Null, |scope| scope.value.clone())
}

#[cold]
fn fault(node: &Node, why: Why) -> Fault {
    Fault { at: node.at, why }
}
