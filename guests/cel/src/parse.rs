//! From text to the parser's tree, within bounds, and with errors that a person can act on.
//!
//! The parser is the `cel` crate's Pratt parser: a fifth of the size of its ANTLR parser, whose tree it is held to in
//! the tests.

use std::fmt::{Display, Formatter};

use cel::common::ast::{IdedExpr, SourceInfo};
use cel::parser::PrattParser;
use cel::parser::pratt_parser::{Lexer, TokenKind};

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 32 * 1024;
/// How deep brackets may stand inside each other.
pub const MAX_NESTING: usize = 32;
/// How many operators, selections and calls may apply on top of each other, brackets included. Parts joined by `&&`,
/// `||` and commas stand side by side and count apart. What walks the tree recurses this deep, on a stack of 1 MiB.
pub const MAX_DEPTH: usize = 128;

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// A byte of the expression's text.
    pub at: usize,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Error {
    /// An error at a byte of the text.
    pub fn new(at: usize, reason: impl Into<String>) -> Error {
        Error {
            at,
            reason: reason.into(),
        }
    }

    /// The error with its place in the expression: line and column, and the line itself with a mark under the place.
    pub fn show(&self, source: &str) -> String {
        let place = Place::of(source, self.at);
        let line = source.lines().nth(place.line - 1).unwrap_or_default();
        // A window of the line, so that the mark stays in sight.
        let from = place.column.saturating_sub(61);
        let shown: String = line.chars().skip(from).take(80).collect();
        let mark = " ".repeat(place.column - 1 - from);
        format!(
            "{place}: {}\n  {}\n  {mark}^",
            self.reason,
            shown.trim_end()
        )
    }
}

/// Where in a text of several lines a byte stands, counted in characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    line: usize,
    column: usize,
}

impl Place {
    /// The place of a byte.
    pub fn of(source: &str, at: usize) -> Place {
        let before = &source.as_bytes()[..at.min(source.len())];
        let start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |newline| newline + 1);
        // Characters are counted by their first bytes.
        let chars = before[start..].iter().filter(|&&byte| byte & 0xc0 != 0x80);
        Place {
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            column: chars.count() + 1,
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A parsed expression.
pub struct Parsed {
    /// Its tree, macros expanded.
    pub expr: IdedExpr,
    info: SourceInfo,
}

impl Parsed {
    /// The byte of the text where a node stands: its operator, if it has one.
    pub fn at(&self, expr: &IdedExpr) -> u32 {
        self.info.offset_for(expr.id).map_or(0, |(start, _)| start)
    }
}

/// Parses an expression.
pub fn parse(source: &str) -> Result<Parsed, Error> {
    check_bounds(source)?;
    let parser = || {
        PrattParser::default()
            .enable_ident_escape_syntax(true)
            .max_recursion_depth(2 * MAX_NESTING as u16)
    };
    let expr = match parser().parse(source) {
        Ok(expr) => expr,
        Err(errors) => return Err(first_error(source, errors)),
    };
    // This parser tells where its nodes stand only when it fails. So the text is parsed once more with a bracket too
    // many at its end, on which the parser stumbles after all nodes have got the same numbers again.
    let info = parser()
        .parse(&format!("{source}\n)"))
        .err()
        .and_then(|errors| {
            errors
                .errors
                .into_iter()
                .find_map(|error| error.source_info)
        })
        .and_then(std::sync::Arc::into_inner)
        .unwrap_or_default();
    Ok(Parsed { expr, info })
}

/// Refuses what could exhaust the stack, before anything recurses.
fn check_bounds(source: &str) -> Result<(), Error> {
    if source.len() > MAX_LENGTH {
        let reason = format!(
            "the expression has {} bytes, {MAX_LENGTH} are allowed",
            source.len()
        );
        return Err(Error::new(MAX_LENGTH, reason));
    }
    /// What stands on top of each other inside one pair of brackets.
    #[derive(Default)]
    struct Level {
        /// Operators, selections and calls since the last comma or logical operator.
        chain: usize,
        /// Conditionals since the last comma.
        conditionals: usize,
    }
    let mut levels = vec![Level::default()];
    let mut lexer = Lexer::new(source);
    loop {
        let token = lexer.lex();
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        match token.kind {
            TokenKind::TokEnd => return Ok(()),
            TokenKind::TokLeftBracket | TokenKind::TokLeftBrace | TokenKind::TokLeftParen => {
                level.chain += 1;
                levels.push(Level::default());
            }
            TokenKind::TokRightBracket | TokenKind::TokRightBrace | TokenKind::TokRightParen => {
                levels.pop();
                if levels.is_empty() {
                    levels.push(Level::default());
                }
            }
            TokenKind::TokComma => *level = Level::default(),
            TokenKind::TokLogicalAnd | TokenKind::TokLogicalOr => level.chain = 0,
            TokenKind::TokQuestion => level.conditionals += 1,
            TokenKind::TokDot
            | TokenKind::TokMinus
            | TokenKind::TokPlus
            | TokenKind::TokAsterisk
            | TokenKind::TokSlash
            | TokenKind::TokPercent
            | TokenKind::TokExclamation
            | TokenKind::TokIn
            | TokenKind::TokEqualEqual
            | TokenKind::TokExclamationEqual
            | TokenKind::TokLess
            | TokenKind::TokLessEqual
            | TokenKind::TokGreater
            | TokenKind::TokGreaterEqual => level.chain += 1,
            _ => {}
        }
        if levels.len() > MAX_NESTING + 1 {
            let reason = format!("brackets are nested more than {MAX_NESTING} deep");
            return Err(Error::new(token.start, reason));
        }
        let depth: usize = levels
            .iter()
            .map(|level| level.chain + level.conditionals)
            .sum();
        if depth > MAX_DEPTH {
            let reason = format!(
                "more than {MAX_DEPTH} operators and calls apply on top of each other; use a list with `in`, or \
                 several expressions"
            );
            return Err(Error::new(token.start, reason));
        }
    }
}

/// The first of the parser's errors in plain words: those after it mostly follow from it.
fn first_error(source: &str, errors: cel::ParseErrors) -> Error {
    let Some(error) = errors.errors.into_iter().next() else {
        return Error::new(0, "it can't be parsed");
    };
    let at = offset(source, error.pos);
    let token = Lexer::new(&source[at..]).lex();
    let text = source.get(at..at + token.end).unwrap_or_default();
    let reason = if source.trim().is_empty() {
        "the expression is empty".to_owned()
    } else if error.msg == "invalid argument to has() macro" {
        "has(…) takes the selection of a field, such as has(a.b); for a field of the value itself, write \
         has(record.value.field)"
            .to_owned()
    } else if let Some(hint) = hint(token.kind, text) {
        format!("unexpected `{text}`; {hint}")
    } else if error.msg.contains("<EOF> expecting") || token.kind == TokenKind::TokEnd {
        match error.msg.strip_prefix("expected ") {
            Some(expected) => format!("the expression ends where {expected} is expected"),
            None => "the expression ends too early".to_owned(),
        }
    } else if error.msg == "unexpected character" || error.msg.starts_with("Syntax error") {
        let char = source[at..].chars().next().map(String::from);
        match (token.kind, char) {
            (TokenKind::TokError, Some(char)) => format!("unexpected `{char}`"),
            _ => format!("unexpected `{text}`"),
        }
    } else if error.msg == "unexpected token" {
        format!("unexpected `{text}`")
    } else if error.msg.starts_with("unable to unescape") {
        format!("{text} has an escape that CEL doesn't know; a raw string r\"…\" has none")
    } else if let Some(word) = error.msg.strip_prefix("reserved identifier: ") {
        format!(
            "`{word}` is a reserved word of CEL; for a field of that name, write record.value.{word}"
        )
    } else {
        error.msg
    };
    Error::new(at, reason)
}

/// What was probably meant by what other languages write.
fn hint(kind: TokenKind, text: &str) -> Option<&'static str> {
    match (kind, text) {
        (TokenKind::TokEqual, _) => Some("equality is `==`"),
        (_, "&") | (_, "and") | (_, "AND") => Some("a logical and is `&&`"),
        (_, "|") | (_, "or") | (_, "OR") => Some("a logical or is `||`"),
        (_, "not") | (_, "NOT") => Some("a logical not is `!`"),
        (_, "is") => Some("equality is `==`"),
        _ => None,
    }
}

/// The byte at one of the parser's positions: a line, and a byte of the line, both from 1.
fn offset(source: &str, (line, column): (isize, isize)) -> usize {
    let (Ok(line), Ok(column)) = (usize::try_from(line - 1), usize::try_from(column - 1)) else {
        return 0;
    };
    let start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let mut at = (start + column).min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}
