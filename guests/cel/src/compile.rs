//! From the parser's tree to a program: names resolved, macros recognised, constants computed.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::common::ast::{SelectExpr, operators};

use crate::check;
use crate::fold::fold;
use crate::functions::Function;
use crate::operators::{Arithmetic, Comparison};
use crate::parse::{self, Error, Parsed};
use crate::pattern::Pattern;
use crate::program::{Loop, LoopKind, Node, Op, Part, Program, Reads};
use crate::value::{Kind, Value};

/// Compiles a condition: an expression that must give a bool.
///
/// An error is anything that can be known without a record: what can't be parsed, names that there aren't, operators
/// on types that they aren't defined for, a result that is never a bool, an expression that always fails.
pub fn compile(source: &str) -> Result<Program, Error> {
    compile_beside(Vec::new(), source)
}

/// As [`compile`], for one of several expressions over the same records: `fields` are those of the expression compiled
/// before it, and keep their numbers. So one scan for the [paths](Program::paths) of the last one serves all.
pub fn compile_beside(fields: Vec<Vec<String>>, source: &str) -> Result<Program, Error> {
    let program = program(fields, source)?;
    check::check(&program)?;
    Ok(program)
}

/// Compiles an expression that may give anything, and without a look at types.
pub fn compile_unchecked(source: &str) -> Result<Program, Error> {
    program(Vec::new(), source)
}

fn program(fields: Vec<Vec<String>>, source: &str) -> Result<Program, Error> {
    let parsed = parse::parse(source)?;
    let mut compiler = Compiler {
        parsed: &parsed,
        fields,
        reads: Reads::default(),
        locals: Vec::new(),
    };
    let root = compiler.node(&parsed.expr)?;
    Ok(Program {
        root,
        fields: compiler.fields,
        reads: compiler.reads,
    })
}

/// The name that the parser gives to what a macro has gathered so far.
const ACCUMULATOR: &str = "@result";

struct Compiler<'p> {
    parsed: &'p Parsed,
    fields: Vec<Vec<String>>,
    reads: Reads,
    /// The macros' variables in scope, outermost first.
    locals: Vec<&'p str>,
}

impl<'p> Compiler<'p> {
    fn node(&mut self, expr: &'p IdedExpr) -> Result<Node, Error> {
        let op = match &expr.expr {
            Expr::Literal(literal) => Op::Constant(constant(literal)),
            Expr::Ident(name) => self.identifier(expr, name)?,
            Expr::Select(select) => self.select(expr, select)?,
            Expr::Call(call) => self.call(expr, call)?,
            Expr::List(list) => Op::List(
                list.elements
                    .iter()
                    .map(|element| self.node(element))
                    .collect::<Result<_, _>>()?,
            ),
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(self.error(expr, "a map has keys and values"));
                    };
                    entries.push((self.node(&entry.key)?, self.node(&entry.value)?));
                }
                Op::Map(entries.into())
            }
            Expr::Comprehension(comprehension) => self.comprehension(expr, comprehension)?,
            Expr::Struct(message) => {
                let reason = format!("there is no message type `{}`", message.type_name);
                return Err(self.error(expr, reason));
            }
            Expr::Unspecified => return Err(self.error(expr, "it can't be parsed")),
        };
        let at = self.parsed.at(expr);
        Ok(fold(Node { at, op }))
    }

    fn identifier(&mut self, expr: &'p IdedExpr, name: &str) -> Result<Op, Error> {
        if let Some(depth) = self.local(name) {
            return Ok(Op::Local(depth));
        }
        match self.path(expr) {
            Some(path) => self.field(expr, path),
            None if name == "record" => {
                let names: Vec<&str> = Part::ALL.iter().map(|(name, _)| *name).collect();
                let reason = format!(
                    "`record` alone has no value, its parts have: record.{}; a field called `record` is \
                     record.value.record",
                    names.join(", record.")
                );
                Err(self.error(expr, reason))
            }
            None => Err(self.error(expr, format!("there is no `{name}`"))),
        }
    }

    fn select(&mut self, expr: &'p IdedExpr, select: &'p SelectExpr) -> Result<Op, Error> {
        if let Some(part) = self.record_part(&select.operand, &select.field)? {
            self.note(part);
            return Ok(if select.test {
                Op::HasRecord(part)
            } else {
                Op::Record(part)
            });
        }
        if let Some(mut path) = self.path(&select.operand)
            && select.test
        {
            path.push(select.field.clone());
            return Ok(Op::HasField(self.slot(expr, path)?));
        }
        if let Some(path) = self.path(expr) {
            return self.field(expr, path);
        }
        let operand = Box::new(self.node(&select.operand)?);
        let field = select.field.as_str().into();
        Ok(if select.test {
            Op::Has(operand, field)
        } else {
            Op::Select(operand, field)
        })
    }

    /// The part of the record that `operand.field` is, if the operand is `record`.
    fn record_part(&self, operand: &IdedExpr, field: &str) -> Result<Option<Part>, Error> {
        if !matches!(&operand.expr, Expr::Ident(name) if name == "record" && self.local(name).is_none())
        {
            return Ok(None);
        }
        match Part::ALL.iter().find(|(name, _)| *name == field) {
            Some(&(_, part)) => Ok(Some(part)),
            None => {
                let names: Vec<&str> = Part::ALL.iter().map(|(name, _)| *name).collect();
                let reason = format!(
                    "a record has no `{field}`, it has {}; for a field called `record`, write \
                     record.value.record",
                    names.join(", ")
                );
                Err(self.error(operand, reason))
            }
        }
    }

    /// The names from the outside in, if an expression is a field of the JSON value: `a.b`, `a["b"]`,
    /// `record.value.a`. Empty for `record.value` itself.
    fn path(&self, expr: &IdedExpr) -> Option<Vec<String>> {
        let (operand, name) = match &expr.expr {
            Expr::Ident(name) => {
                let is_field = name != "record" && self.local(name).is_none();
                let name = name.strip_prefix('.').unwrap_or(name);
                return is_field.then(|| vec![name.to_owned()]);
            }
            Expr::Select(select) if !select.test => (&*select.operand, select.field.as_str()),
            Expr::Call(call) if call.func_name == operators::INDEX => match &call.args[..] {
                [operand, index] => match &index.expr {
                    Expr::Literal(LiteralValue::String(name)) => (operand, name.inner()),
                    _ => return None,
                },
                _ => return None,
            },
            _ => return None,
        };
        if let Ok(Some(part)) = self.record_part(operand, name) {
            return (part == Part::Value).then(Vec::new);
        }
        if name.is_empty() {
            // The scan has no path for such a field; it's looked up in its object.
            return None;
        }
        let mut path = self.path(operand)?;
        path.push(name.to_owned());
        Some(path)
    }

    fn field(&mut self, expr: &IdedExpr, path: Vec<String>) -> Result<Op, Error> {
        Ok(Op::Field(self.slot(expr, path)?))
    }

    /// The number of a field, a new one if it's named for the first time.
    fn slot(&mut self, expr: &IdedExpr, path: Vec<String>) -> Result<u16, Error> {
        self.reads.fields = true;
        let slot = match self.fields.iter().position(|known| *known == path) {
            Some(slot) => slot,
            None => {
                self.fields.push(path);
                self.fields.len() - 1
            }
        };
        u16::try_from(slot).map_err(|_| self.error(expr, "too many different fields"))
    }

    fn local(&self, name: &str) -> Option<u16> {
        let depth = self.locals.iter().rev().position(|local| *local == name)?;
        u16::try_from(depth).ok()
    }

    fn note(&mut self, part: Part) {
        match part {
            Part::Value => self.reads.value = true,
            Part::Key => self.reads.key = true,
            Part::Headers => self.reads.headers = true,
            Part::Timestamp => self.reads.timestamp = true,
            Part::Offset => self.reads.offset = true,
            Part::Topic | Part::Partition => {}
        }
    }

    fn call(&mut self, expr: &'p IdedExpr, call: &'p CallExpr) -> Result<Op, Error> {
        if let Some(target) = &call.target {
            return self.function(expr, call, Some(target));
        }
        match (call.func_name.as_str(), &call.args[..]) {
            (operators::LOGICAL_AND, terms) => {
                Ok(Op::And(self.terms(operators::LOGICAL_AND, terms)?))
            }
            (operators::LOGICAL_OR, terms) => Ok(Op::Or(self.terms(operators::LOGICAL_OR, terms)?)),
            (operators::LOGICAL_NOT, [operand]) => Ok(Op::Not(self.boxed(operand)?)),
            (operators::NEGATE, [operand]) => Ok(Op::Negate(self.boxed(operand)?)),
            (operators::CONDITIONAL, [condition, then, otherwise]) => Ok(Op::If(Box::new([
                self.node(condition)?,
                self.node(then)?,
                self.node(otherwise)?,
            ]))),
            (operators::INDEX, [operand, index]) => match self.path(expr) {
                Some(path) => self.field(expr, path),
                None => Ok(Op::Index(self.pair(operand, index)?)),
            },
            (operators::IN, [element, container]) => Ok(Op::In(self.pair(element, container)?)),
            (name, [left, right]) => {
                if let Some(comparison) = comparison(name) {
                    return match self.type_test(comparison, left, right)? {
                        Some(op) => Ok(op),
                        None => Ok(Op::Compare(comparison, self.pair(left, right)?)),
                    };
                }
                match arithmetic(name) {
                    Some(arithmetic) => Ok(Op::Arithmetic(arithmetic, self.pair(left, right)?)),
                    None => self.function(expr, call, None),
                }
            }
            _ => self.function(expr, call, None),
        }
    }

    fn function(
        &mut self,
        expr: &'p IdedExpr,
        call: &'p CallExpr,
        target: Option<&'p IdedExpr>,
    ) -> Result<Op, Error> {
        let arguments: Vec<&IdedExpr> = target.into_iter().chain(&call.args).collect();
        if call.func_name == "matches" {
            let [text, pattern] = arguments[..] else {
                return Err(self.error(expr, "`matches` is called as text.matches(pattern)"));
            };
            if let Expr::Literal(LiteralValue::String(literal)) = &pattern.expr {
                let compiled = Pattern::new(literal.inner());
                let compiled = compiled.map_err(|reason| self.error(pattern, reason))?;
                return Ok(Op::Matches(self.boxed(text)?, Box::new(compiled)));
            }
            return Ok(Op::MatchesAny(self.pair(text, pattern)?));
        }
        if call.func_name == "type" && target.is_none() {
            return Err(self.error(
                expr,
                "the type of a value can only be compared: type(x) == int",
            ));
        }
        let function = Function::find(&call.func_name, target.is_some(), call.args.len())
            .map_err(|reason| self.error(expr, reason))?;
        match arguments[..] {
            [argument] => Ok(Op::Call(function, self.boxed(argument)?)),
            [first, second] => Ok(Op::Call2(function, self.pair(first, second)?)),
            _ => Err(self.error(expr, format!("`{}` takes one argument", call.func_name))),
        }
    }

    /// `type(x) == NAME`, either way round. A type's name is one only here: anywhere else it is a field.
    fn type_test(
        &mut self,
        comparison: Comparison,
        left: &'p IdedExpr,
        right: &'p IdedExpr,
    ) -> Result<Option<Op>, Error> {
        let (call, name) = match (is_type_call(left), is_type_call(right)) {
            (Some(call), None) => (call, right),
            (None, Some(call)) => (call, left),
            _ => return Ok(None),
        };
        let kind = type_name(name).ok_or_else(|| {
            let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
            let reason = format!("expected the name of a type: {}", names.join(", "));
            self.error(name, reason)
        })?;
        let test = Op::IsType(self.boxed(call)?, kind);
        match comparison {
            Comparison::Equal => Ok(Some(test)),
            Comparison::NotEqual => {
                let at = self.parsed.at(left);
                Ok(Some(Op::Not(Box::new(fold(Node { at, op: test })))))
            }
            _ => Err(self.error(call, "types have no order")),
        }
    }

    fn comprehension(
        &mut self,
        expr: &'p IdedExpr,
        comprehension: &'p ComprehensionExpr,
    ) -> Result<Op, Error> {
        let unknown = "this macro isn't known";
        let (kind, filter, body) =
            recognise(comprehension).ok_or_else(|| self.error(expr, unknown))?;
        let range = self.node(&comprehension.iter_range)?;
        self.locals.push(&comprehension.iter_var);
        let filter = filter.map(|filter| self.node(filter)).transpose();
        let body = self.node(body);
        self.locals.pop();
        Ok(Op::Loop(Box::new(Loop {
            kind,
            range,
            filter: filter?,
            body: body?,
        })))
    }

    /// The operands of a chain of `&&` or `||`, which the parser balances into a tree.
    fn terms(&mut self, name: &str, terms: &'p [IdedExpr]) -> Result<Box<[Node]>, Error> {
        let mut flat = Vec::new();
        let mut waiting: Vec<&IdedExpr> = terms.iter().rev().collect();
        while let Some(term) = waiting.pop() {
            match &term.expr {
                Expr::Call(call) if call.func_name == name && call.target.is_none() => {
                    waiting.extend(call.args.iter().rev());
                }
                _ => flat.push(self.node(term)?),
            }
        }
        Ok(flat.into())
    }

    fn boxed(&mut self, expr: &'p IdedExpr) -> Result<Box<Node>, Error> {
        self.node(expr).map(Box::new)
    }

    fn pair(&mut self, left: &'p IdedExpr, right: &'p IdedExpr) -> Result<Box<[Node; 2]>, Error> {
        Ok(Box::new([self.node(left)?, self.node(right)?]))
    }

    fn error(&self, expr: &IdedExpr, reason: impl Into<String>) -> Error {
        Error::new(self.parsed.at(expr) as usize, reason)
    }
}

/// What `type(x)` can be compared with.
const TYPES: [(&str, Kind); 11] = [
    ("null_type", Kind::Null),
    ("bool", Kind::Bool),
    ("int", Kind::Int),
    ("uint", Kind::Uint),
    ("double", Kind::Double),
    ("string", Kind::String),
    ("bytes", Kind::Bytes),
    ("list", Kind::List),
    ("map", Kind::Map),
    ("google.protobuf.Timestamp", Kind::Timestamp),
    ("google.protobuf.Duration", Kind::Duration),
];

fn is_type_call(expr: &IdedExpr) -> Option<&IdedExpr> {
    match &expr.expr {
        Expr::Call(call) if call.func_name == "type" && call.target.is_none() => {
            match &call.args[..] {
                [argument] => Some(argument),
                _ => None,
            }
        }
        _ => None,
    }
}

fn type_name(expr: &IdedExpr) -> Option<Kind> {
    fn spelled(expr: &IdedExpr) -> Option<String> {
        match &expr.expr {
            Expr::Ident(name) => Some(name.clone()),
            Expr::Select(select) if !select.test => {
                Some(format!("{}.{}", spelled(&select.operand)?, select.field))
            }
            _ => None,
        }
    }
    let name = spelled(expr)?;
    TYPES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|&(_, kind)| kind)
}

/// Which macro a comprehension was: the filter, and the condition or the new element.
fn recognise(macro_: &ComprehensionExpr) -> Option<(LoopKind, Option<&IdedExpr>, &IdedExpr)> {
    let Expr::Call(step) = &macro_.loop_step.expr else {
        return None;
    };
    match (
        &macro_.accu_init.expr,
        step.func_name.as_str(),
        &step.args[..],
    ) {
        (Expr::Literal(LiteralValue::Boolean(_)), operators::LOGICAL_AND, [_, condition]) => {
            Some((LoopKind::All, None, condition))
        }
        (Expr::Literal(LiteralValue::Boolean(_)), operators::LOGICAL_OR, [_, condition]) => {
            Some((LoopKind::Exists, None, condition))
        }
        (Expr::Literal(LiteralValue::Int(_)), operators::CONDITIONAL, [condition, ..]) => {
            Some((LoopKind::ExistsOne, None, condition))
        }
        (Expr::List(_), operators::ADD, _) => {
            Some((LoopKind::Map, None, added(&macro_.loop_step)?))
        }
        (Expr::List(_), operators::CONDITIONAL, [condition, step, _]) => {
            Some((LoopKind::Map, Some(condition), added(step)?))
        }
        _ => None,
    }
}

/// The element that a step of a macro adds to its list: `@result + [element]`.
fn added(step: &IdedExpr) -> Option<&IdedExpr> {
    let Expr::Call(call) = &step.expr else {
        return None;
    };
    match &call.args[..] {
        [
            IdedExpr {
                expr: Expr::Ident(accumulator),
                ..
            },
            IdedExpr {
                expr: Expr::List(list),
                ..
            },
        ] if accumulator == ACCUMULATOR => match &list.elements[..] {
            [element] => Some(element),
            _ => None,
        },
        _ => None,
    }
}

fn constant(literal: &LiteralValue) -> Value<'static> {
    match literal {
        LiteralValue::Null => Value::Null,
        LiteralValue::Boolean(truth) => Value::Bool(*truth.inner()),
        LiteralValue::Int(number) => Value::Int(*number.inner()),
        LiteralValue::UInt(number) => Value::Uint(*number.inner()),
        LiteralValue::Double(number) => Value::Double(*number.inner()),
        LiteralValue::String(text) => Value::String(text.inner().to_owned().into()),
        LiteralValue::Bytes(bytes) => Value::Bytes(bytes.inner().to_owned().into()),
    }
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        operators::EQUALS => Comparison::Equal,
        operators::NOT_EQUALS => Comparison::NotEqual,
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterEqual,
        _ => return None,
    })
}

fn arithmetic(name: &str) -> Option<Arithmetic> {
    Some(match name {
        operators::ADD => Arithmetic::Add,
        operators::SUBSTRACT => Arithmetic::Subtract,
        operators::MULTIPLY => Arithmetic::Multiply,
        operators::DIVIDE => Arithmetic::Divide,
        operators::MODULO => Arithmetic::Remainder,
        _ => return None,
    })
}
