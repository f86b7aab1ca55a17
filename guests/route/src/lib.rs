//! `route`: sends each record to one of the pipeline's outputs by rules, of which the first that holds decides. A rule's
//! condition is an expression in [CEL](https://cel.dev), the Common Expression Language.
//!
//! ```toml
//! [pipelines.stocks]
//! output = { default = "stocks", btc = "stocks.btc", eth = "stocks.eth", other = "stocks.other" }
//!
//! [[pipelines.stocks.transforms]]
//! name = "by-name"
//! module = "route.wasm"
//!
//! [pipelines.stocks.transforms.config]
//! rules = [
//!     { when = "stock_name == 'BTC-USD'", to = "btc" },
//!     { when = "stock_name.startsWith('ETH')", to = "eth" },
//! ]
//! default = "other"
//! ```
//!
//! # Config
//!
//! | key | |
//! |---|---|
//! | `rules` | conditions `when` and outputs `to`, tried in order; the first that holds for a record sends it to its output |
//! | `default` | the output of the records for which no rule holds; in its place: |
//! | `unmatched` | what becomes of the records for which no rule holds: `"keep"` (default), `"drop"` or `"refuse"` |
//! | `missing` | what becomes of a record that lacks what a rule needs: `"refuse"` (default), or `"skip"`: the rule doesn't hold, and the next one is tried |
//! | `tombstones` | what becomes of a null value: `"pass"` (default), `"drop"`, `"refuse"` or `"all"` |
//!
//! With `unmatched = "keep"` a record goes where it would have gone without this transform: where an earlier one sent it,
//! or to the pipeline's default output. Nothing is lost because a rule was forgotten.
//!
//! `init` refuses expressions that can be seen to be wrong, with line and column; an output that the pipeline doesn't
//! have; and a rule behind one that always holds. What only shows with a record (a string where a number is needed)
//! refuses that record, unless an earlier rule holds for it: the first rule that holds decides, and nothing behind it is
//! looked at, not even whether the value is JSON.
//!
//! `tombstones` counts from the first rule on that reads the value. With `"pass"` the rules that read the value don't
//! hold, and the others are tried. With `"all"` the record goes to every output that a rule or `default` names: a
//! deletion then reaches whatever topic the key's earlier records went to.
//!
//! A record goes out as it came in, byte for byte. [`weir_cel`] says what an expression can read, and what it can do
//! with it.

#[cfg(test)]
mod tests;

use serde::Deserialize;
use weir_cel::compile::compile_beside;
use weir_cel::fault::Fault;
use weir_cel::input::{Headers, Input};
use weir_cel::parse::Place;
use weir_cel::program::{Node, Op, Program, Reads};
use weir_cel::value::Value;
use weir_guest::json::{Fields, Found, Raw};
use weir_guest::{
    Needs, OutputId, Outputs, Record, Refusal, Tombstones as Policy, Transform, Verdict, refuse,
};

weir_guest::export!(Route);

/// Sends records to outputs by rules.
pub struct Route {
    rules: Vec<Rule>,
    /// The first rule that reads the value; those before it are tried before the value is looked at.
    first_reader: usize,
    /// What the rules read together.
    reads: Reads,
    /// The fields of all rules.
    fields: Fields,
    found: Found,
    default: Option<Target>,
    unmatched: Unmatched,
    missing: Missing,
    tombstones: Tombstones,
    /// The outputs that rules and the default name, each once.
    named: Vec<OutputId>,
}

/// A rule, compiled.
struct Rule {
    program: Program,
    /// The expression's text, for messages.
    source: String,
    to: Target,
}

/// An output: its name, and then what it's called by.
struct Target {
    name: String,
    output: OutputId,
}

/// The config of a [`Route`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    rules: Vec<RuleConfig>,
    default: Option<String>,
    unmatched: Option<Unmatched>,
    #[serde(default)]
    missing: Missing,
    #[serde(default)]
    tombstones: Tombstones,
}

/// A rule as it's written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleConfig {
    when: String,
    to: String,
}

/// What becomes of a record for which no rule holds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Unmatched {
    /// It goes where it would have gone without this transform.
    #[default]
    Keep,
    Drop,
    Refuse,
}

/// What becomes of a record that lacks what a rule needs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Missing {
    #[default]
    Refuse,
    /// The next rule is tried.
    Skip,
}

/// What becomes of a null value at the first rule that reads the value.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Tombstones {
    /// Rules that read the value don't hold.
    #[default]
    Pass,
    Drop,
    Refuse,
    /// It goes to every output that is named.
    All,
}

/// What the rules say of a record.
enum Decision {
    To(OutputId),
    /// To all outputs that are named.
    ToAll,
    Unmatched,
    Drop,
}

impl Transform for Route {
    type Config = Config;

    const SCHEMA: &'static str = include_str!("schema.json");

    fn new(config: Config) -> Result<Route, String> {
        if config.rules.is_empty() {
            return Err(
                "`rules` is empty: a rule has a CEL expression and an output, such as \
                 { when = \"price > 100\", to = \"large\" }"
                    .to_owned(),
            );
        }
        if config.default.is_some() && config.unmatched.is_some() {
            return Err(
                "`default` and `unmatched` are both given; give one of them: an output, or \"keep\", \
                 \"drop\" or \"refuse\""
                    .to_owned(),
            );
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(config.rules.len());
        for (index, RuleConfig { when, to }) in config.rules.into_iter().enumerate() {
            if let Some(before) = rules.last()
                && always_holds(&before.program.root)
            {
                return Err(format!(
                    "`rules[{index}]` is never reached, since `rules[{}]` holds for every record",
                    index - 1
                ));
            }
            let fields = rules.last().map(|rule| rule.program.fields.clone());
            let program = compile_beside(fields.unwrap_or_default(), &when)
                .map_err(|error| format!("`rules[{index}].when`, {}", error.show(&when)))?;
            rules.push(Rule {
                program,
                source: when,
                to: Target::new(to),
            });
        }
        let reads_value = |rule: &Rule| rule.program.reads.any_value();
        let paths = rules.last().map(|rule| rule.program.paths());
        Ok(Route {
            first_reader: rules.iter().position(reads_value).unwrap_or(rules.len()),
            reads: rules
                .iter()
                .fold(Reads::default(), |reads, rule| reads | rule.program.reads),
            fields: Fields::new(&paths.unwrap_or_default())?,
            found: Found::default(),
            rules,
            default: config.default.map(Target::new),
            unmatched: config.unmatched.unwrap_or_default(),
            missing: config.missing,
            tombstones: config.tombstones,
            named: Vec::new(),
        })
    }

    fn connect(&mut self, outputs: &Outputs) -> Result<(), String> {
        for (index, rule) in self.rules.iter_mut().enumerate() {
            rule.to.output = outputs
                .find(&rule.to.name)
                .map_err(|reason| format!("`rules[{index}].to`: {reason}"))?;
        }
        if let Some(default) = &mut self.default {
            default.output = outputs
                .find(&default.name)
                .map_err(|reason| format!("`default`: {reason}"))?;
        }
        let targets = self.rules.iter().map(|rule| &rule.to).chain(&self.default);
        for Target { output, .. } in targets {
            if !self.named.contains(output) {
                self.named.push(*output);
            }
        }
        Ok(())
    }

    fn needs(&self) -> Needs {
        self.reads.needs()
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        let input = Input::of(record, self.reads);
        let value = match self.reads.any_value() {
            true => record.value(),
            false => None,
        };
        let decision = match self.reads.headers {
            true => Headers::with(record, |headers| {
                self.decide(Input { headers, ..input }, value)
            }),
            false => self.decide(input, value),
        };
        match decision? {
            Decision::To(output) => record.send_to(output),
            Decision::ToAll => {
                for (index, &output) in self.named.iter().enumerate() {
                    if index > 0 {
                        record.emit();
                    }
                    record.send_to(output);
                }
            }
            Decision::Unmatched => match (&self.default, self.unmatched) {
                (Some(default), _) => record.send_to(default.output),
                (None, Unmatched::Keep) => {}
                (None, Unmatched::Drop) => return Ok(Verdict::Drop),
                (None, Unmatched::Refuse) => return Err(refuse("no rule holds for the record")),
            },
            Decision::Drop => return Ok(Verdict::Drop),
        }
        Ok(Verdict::Keep)
    }
}

impl Route {
    /// What the rules say of a record. `input` has no value yet, which is scanned when the first rule needs it.
    #[inline(always)]
    fn decide(&mut self, input: Input<'_>, value: Option<&[u8]>) -> Result<Decision, Refusal> {
        let missing = self.missing;
        for (index, rule) in self.rules[..self.first_reader].iter().enumerate() {
            if rule.holds(&input, missing, index)? {
                return Ok(Decision::To(rule.to.output));
            }
        }
        let rest = self.rules.iter().enumerate().skip(self.first_reader);
        if rest.len() == 0 {
            return Ok(Decision::Unmatched);
        }
        let Some(value) = value else {
            match self.tombstones {
                Tombstones::Pass => {}
                Tombstones::All => return Ok(Decision::ToAll),
                Tombstones::Drop => return Ok(Decision::Drop),
                Tombstones::Refuse => {
                    return Policy::Refuse.verdict().map(|_| Decision::Drop);
                }
            }
            for (index, rule) in rest {
                if !rule.program.reads.any_value() && rule.holds(&input, missing, index)? {
                    return Ok(Decision::To(rule.to.output));
                }
            }
            return Ok(Decision::Unmatched);
        };
        let object;
        // With the value, which doesn't live as long.
        let mut input = input;
        match self.fields.scan(value, &mut self.found) {
            Ok(scanned) => {
                object = scanned;
                input.whole = Some(object.root());
                input.object = Some(&object);
            }
            // Well-formed but no object, which an expression on the whole value may deal with.
            Err(error) if self.reads.value && error.at().is_none() => {
                input.whole = Some(Raw::parse(value)?);
            }
            Err(error) => return Err(error.into()),
        }
        for (index, rule) in rest {
            if rule.holds(&input, missing, index)? {
                return Ok(Decision::To(rule.to.output));
            }
        }
        Ok(Decision::Unmatched)
    }
}

impl Rule {
    #[inline(always)]
    fn holds(&self, input: &Input<'_>, missing: Missing, index: usize) -> Result<bool, Refusal> {
        match self.program.holds(input) {
            Ok(truth) => Ok(truth),
            Err(fault) if fault.is_missing() && missing == Missing::Skip => Ok(false),
            Err(fault) => Err(self.refusal(&fault, index)),
        }
    }

    #[cold]
    fn refusal(&self, fault: &Fault, index: usize) -> Refusal {
        let place = Place::of(&self.source, fault.at as usize);
        refuse(format!("`rules[{index}].when`, {place}: {}", fault.why))
    }
}

impl Target {
    /// An output that is yet to be looked up.
    fn new(name: String) -> Target {
        Target {
            name,
            output: OutputId::FIRST,
        }
    }
}

fn always_holds(root: &Node) -> bool {
    matches!(root.op, Op::Constant(Value::Bool(true)))
}
