//! What can be computed of an expression before there is a record.

use crate::evaluate::constant;
use crate::program::{Node, Op};
use crate::value::Value;

/// Computes a part of an expression whose parts are all constant; any other comes back as it is.
pub fn fold(node: Node) -> Node {
    let known = |node: &Node| matches!(node.op, Op::Constant(_) | Op::Fail(_));
    let is = |node: &Node, truth| matches!(node.op, Op::Constant(Value::Bool(b)) if b == truth);
    let foldable = match &node.op {
        Op::Constant(_)
        | Op::Fail(_)
        | Op::Field(_)
        | Op::HasField(_)
        | Op::Record(_)
        | Op::HasRecord(_)
        | Op::Local(_)
        | Op::Loop(_) => false,
        Op::Select(operand, _)
        | Op::Has(operand, _)
        | Op::Not(operand)
        | Op::Negate(operand)
        | Op::Call(_, operand)
        | Op::Matches(operand, _)
        | Op::IsType(operand, _) => known(operand),
        Op::Index(pair)
        | Op::Compare(_, pair)
        | Op::Arithmetic(_, pair)
        | Op::In(pair)
        | Op::Call2(_, pair)
        | Op::MatchesAny(pair) => pair.iter().all(known),
        Op::And(terms) => terms.iter().all(known) || terms.iter().any(|term| is(term, false)),
        Op::Or(terms) => terms.iter().all(known) || terms.iter().any(|term| is(term, true)),
        Op::If(parts) => parts.iter().all(known),
        Op::List(elements) => elements.iter().all(known),
        Op::Map(entries) => entries
            .iter()
            .all(|(key, value)| known(key) && known(value)),
    };
    if !foldable {
        return node;
    }
    // A constant `false` decides a chain of `&&` whatever stands beside it, so parts that aren't known are passed over.
    if let Op::And(terms) | Op::Or(terms) = &node.op
        && !terms.iter().all(known)
    {
        let truth = matches!(node.op, Op::Or(_));
        return Node {
            at: node.at,
            op: Op::Constant(Value::Bool(truth)),
        };
    }
    match constant(&node) {
        Ok(value) => Node {
            at: node.at,
            op: Op::Constant(value.into_static()),
        },
        Err(fault) => Node {
            at: fault.at,
            op: Op::Fail(fault.why),
        },
    }
}
