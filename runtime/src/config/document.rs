//! A TOML document with line numbers, in which `${…}` is filled in, and the problems found on the way.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something wrong with a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; `None` if it's about the whole file.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

/// All that is wrong with a config file, at least one problem, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// A problem of the file as a whole.
    pub(super) fn of_file(path: &Path, message: String) -> ConfigError {
        ConfigError {
            path: path.to_path_buf(),
            problems: vec![Problem {
                line: None,
                message,
            }],
        }
    }
}

impl fmt::Display for ConfigError {
    /// A line for each problem: `weir.toml:12: unknown key …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match problem.line {
                Some(line) => write!(f, "{path}:{line}: {}", problem.message)?,
                None => write!(f, "{path}: {}", problem.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects problems, so that a person gets all of them at once.
pub(super) struct Problems {
    path: PathBuf,
    problems: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(path: &Path) -> Problems {
        Problems {
            path: path.to_path_buf(),
            problems: Vec::new(),
        }
    }

    /// A problem at a line.
    pub(super) fn at(&mut self, line: usize, message: impl Into<String>) {
        self.problems.push(Problem {
            line: Some(line),
            message: message.into(),
        });
    }

    /// A problem of the file as a whole.
    pub(super) fn in_file(&mut self, message: impl Into<String>) {
        self.problems.push(Problem {
            line: None,
            message: message.into(),
        });
    }

    /// An error if there was a problem.
    pub(super) fn into_result(mut self) -> Result<(), ConfigError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        // A setting that several pipelines inherit is reported for each of them.
        self.problems.sort_by_key(|problem| problem.line);
        self.problems.dedup();
        Err(ConfigError {
            path: self.path,
            problems: self.problems,
        })
    }
}

/// A value and the line where it starts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    String(Text),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Vec<Field>),
    /// What couldn't be read, a problem already.
    Broken,
}

impl Value {
    /// What it is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a decimal number",
            Value::Bool(_) => "true or false",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
            Value::Broken => "unreadable",
        }
    }
}

/// A key of a table and its value.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) key: String,
    /// Where the key stands.
    pub(super) line: usize,
    pub(super) node: Node,
}

/// A string. What was filled in may be secret, so messages quote what was typed.
#[derive(Clone)]
pub(super) struct Text {
    /// As it stands in the file.
    pub(super) typed: String,
    /// With `${…}` filled in.
    pub(super) value: String,
    /// What was filled in for which reference.
    pub(super) references: Vec<(String, String)>,
}

impl Text {
    /// Whether something was filled in.
    pub(super) fn is_filled_in(&self) -> bool {
        self.typed != self.value
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.typed, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

/// Parses TOML and fills in `${…}`; `None` if it isn't TOML.
pub(super) fn parse(
    path: &Path,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Option<Vec<Field>> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let message = error.message().replace('\n', ", ");
            problems.at(line, format!("not valid TOML: {message}"));
            return None;
        }
    };
    let mut reader = Reader {
        text,
        folder: path.parent().unwrap_or(Path::new("")),
        variable,
        problems,
    };
    Some(reader.table(table.get_ref()))
}

/// The line, from 1, of a position in the text.
fn line_of(text: &str, position: usize) -> usize {
    let before = &text.as_bytes()[..position.min(text.len())];
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

struct Reader<'a> {
    text: &'a str,
    folder: &'a Path,
    variable: &'a dyn Fn(&str) -> Option<String>,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Vec<Field> {
        table
            .iter()
            .map(|(key, value)| Field {
                key: key.get_ref().to_string(),
                line: line_of(self.text, key.span().start),
                node: self.node(value),
            })
            .collect()
    }

    fn node(&mut self, node: &Spanned<DeValue<'_>>) -> Node {
        let line = line_of(self.text, node.span().start);
        let value = match node.get_ref() {
            DeValue::String(typed) => self.string(line, typed),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(value) => Value::Integer(value),
                    Err(_) => {
                        let message = format!("the number {number} is out of range");
                        self.problems.at(line, message);
                        Value::Broken
                    }
                }
            }
            // TOML's floats, `inf` and `nan` included, are a subset of Rust's.
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(value) => Value::Datetime(value.to_string()),
            DeValue::Array(values) => {
                Value::Array(values.iter().map(|value| self.node(value)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { line, value }
    }

    fn string(&mut self, line: usize, typed: &str) -> Value {
        let mut references = Vec::new();
        let mut resolve = |reference: &str| {
            let value = self.reference(reference)?;
            references.push((reference.to_string(), value.clone()));
            Ok(value)
        };
        match fill_in(typed, &mut resolve) {
            Ok(value) => Value::String(Text {
                typed: typed.to_string(),
                value,
                references,
            }),
            Err(message) => {
                self.problems.at(line, message);
                Value::Broken
            }
        }
    }

    /// What `${reference}` stands for.
    fn reference(&self, reference: &str) -> Result<String, String> {
        if let Some(path) = reference.strip_prefix("file:") {
            let file = self.folder.join(path);
            let text = std::fs::read_to_string(&file).map_err(|error| {
                format!(
                    "can't read {}, which ${{{reference}}} names: {error}",
                    file.display()
                )
            })?;
            // Editors and `echo` end a file with a newline that isn't part of a password.
            return Ok(text.trim_end_matches(['\n', '\r']).to_string());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if reference.is_empty() || !reference.chars().all(is_name) {
            return Err(format!(
                "${{{reference}}} is neither ${{VARIABLE}} nor ${{file:PATH}}; write $${{ for a plain ${{"
            ));
        }
        (self.variable)(reference).ok_or_else(|| {
            format!(
                "the environment variable {reference} isn't set (or isn't UTF-8); set it, or write $${{ for a plain ${{"
            )
        })
    }
}

/// Replaces each `${…}` by what `resolve` makes of it, and `$${` by `${`. What was filled in isn't looked at again.
pub(super) fn fill_in(
    text: &str,
    resolve: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = after;
            continue;
        }
        let Some(end) = after.find('}') else {
            return Err("a ${ without its }; write $${ for a plain ${".to_string());
        };
        filled.push_str(before);
        filled.push_str(&resolve(&after[..end])?);
        rest = &after[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_references_once_and_keeps_escapes() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            let mut resolve = |name: &str| match name {
                "A" => Ok("${B}".to_string()),
                other => Err(format!("no {other}")),
            };
            let expected = expected.map(str::to_string).map_err(str::to_string);
            assert_eq!(fill_in(text, &mut resolve), expected, "{text}");
        }
        check("", Ok(""));
        check("x${A}y${A}", Ok("x${B}y${B}"));
        check("^a$", Ok("^a$"));
        check("$A {B} $$", Ok("$A {B} $$"));
        check("$${A}", Ok("${A}"));
        check("$$${A}", Ok("$${A}"));
        check("${C}", Err("no C"));
        check("${A", Err("a ${ without its }; write $${ for a plain ${"));
    }
}
