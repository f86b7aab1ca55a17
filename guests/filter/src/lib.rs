//! `filter`: keeps or drops records by an expression in [CEL](https://cel.dev), the Common Expression Language.
//!
//! ```toml
//! [[pipelines.stocks.transforms]]
//! name = "even"
//! module = "filter.wasm"
//! config = { keep = "event_time % 2 == 0" }
//! ```
//!
//! # Config
//!
//! | key | |
//! |---|---|
//! | `keep` | the records for which this expression is true go on; the others are dropped |
//! | `drop` | the records for which this expression is true are dropped; exactly one of `keep` and `drop` is given |
//! | `missing` | what becomes of a record that lacks what the expression needs: `"refuse"` (default), `"drop"` or `"keep"` |
//! | `tombstones` | what becomes of a null value, if the expression reads the value: `"pass"` (default), `"drop"` or `"refuse"` |
//!
//! An expression that can be seen to be wrong fails `init`, with line and column: one that can't be parsed, calls what
//! there isn't, uses an operator on types that it isn't defined for, or never gives a bool. What only shows with a
//! record (a string where a number is needed, an overflow, a division by zero) refuses that record, with the place and
//! the reason. A record goes out as it came in, byte for byte; nothing but its index crosses back.
//!
//! [`weir_cel`] says what an expression can read, and what it can do with it.

use serde::Deserialize;
use weir_cel::compile::compile;
use weir_cel::fault::Fault;
use weir_cel::input::{Headers, Input};
use weir_cel::parse::Place;
use weir_cel::program::Program;
use weir_guest::json::{Fields, Found, Raw};
use weir_guest::{Needs, Record, Refusal, Tombstones, Transform, Verdict, refuse};

weir_guest::export!(Filter);

/// Keeps or drops records by an expression.
pub struct Filter {
    program: Program,
    /// The program's fields.
    fields: Fields,
    found: Found,
    /// The expression's text, for messages.
    source: String,
    /// What becomes of the records for which the expression is true.
    hit: Verdict,
    missing: Missing,
    tombstones: Tombstones,
}

/// The config of a [`Filter`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The records for which this expression is true go on.
    keep: Option<String>,
    /// The records for which this expression is true are dropped.
    drop: Option<String>,
    /// What becomes of a record that lacks what the expression needs.
    #[serde(default)]
    missing: Missing,
    /// What becomes of a null value, if the expression reads the value.
    #[serde(default)]
    tombstones: Tombstones,
}

/// What becomes of a record that lacks what the expression needs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// It is refused.
    #[default]
    Refuse,
    /// It is dropped.
    Drop,
    /// It goes on.
    Keep,
}

impl Transform for Filter {
    type Config = Config;

    const SCHEMA: &'static str = include_str!("schema.json");

    fn new(config: Config) -> Result<Filter, String> {
        let (name, source, hit) = match (config.keep, config.drop) {
            (Some(source), None) => ("keep", source, Verdict::Keep),
            (None, Some(source)) => ("drop", source, Verdict::Drop),
            (Some(_), Some(_)) => {
                return Err("`keep` and `drop` are both given; give one of them".to_owned());
            }
            (None, None) => {
                return Err(
                    "`keep` or `drop` is needed: a CEL expression, such as keep = \"price > 100\""
                        .to_owned(),
                );
            }
        };
        let program =
            compile(&source).map_err(|error| format!("`{name}`, {}", error.show(&source)))?;
        let fields = Fields::new(&program.paths())?;
        Ok(Filter {
            program,
            fields,
            found: Found::default(),
            source,
            hit,
            missing: config.missing,
            tombstones: config.tombstones,
        })
    }

    fn needs(&self) -> Needs {
        self.program.reads.needs()
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        let reads = self.program.reads;
        let mut input = Input::of(record, reads);
        let object;
        if reads.any_value() {
            let Some(value) = record.value() else {
                return self.tombstones.verdict();
            };
            match self.fields.scan(value, &mut self.found) {
                Ok(scanned) => {
                    object = scanned;
                    input.whole = Some(object.root());
                    input.object = Some(&object);
                }
                // Well-formed but no object, which an expression on the whole value may deal with.
                Err(error) if reads.value && error.at().is_none() => {
                    input.whole = Some(Raw::parse(value)?);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let result = match reads.headers {
            true => Headers::with(record, |headers| {
                self.program.holds(&Input { headers, ..input })
            }),
            false => self.program.holds(&input),
        };
        let verdict = match result {
            Ok(truth) => Ok(if truth { self.hit } else { opposite(self.hit) }),
            Err(fault) if fault.is_missing() && self.missing != Missing::Refuse => {
                Ok(match self.missing {
                    Missing::Drop => Verdict::Drop,
                    _ => Verdict::Keep,
                })
            }
            Err(fault) => Err(fault),
        };
        verdict.map_err(|fault| refusal(&fault, self.hit, &self.source))
    }
}

fn opposite(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Keep => Verdict::Drop,
        Verdict::Drop => Verdict::Keep,
    }
}

#[cold]
fn refusal(fault: &Fault, hit: Verdict, source: &str) -> Refusal {
    let name = match hit {
        Verdict::Keep => "keep",
        Verdict::Drop => "drop",
    };
    let place = Place::of(source, fault.at as usize);
    refuse(format!("`{name}`, {place}: {}", fault.why))
}
