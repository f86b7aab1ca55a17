//! What differs between two JSON texts, field by field.
//!
//! Values that look alike aren't descended into, and no tree is built: what is held is the members of one object for each
//! level. Numbers are compared as they stand there, so that `1.0` and `1.00` are different, and so are two large ones that
//! a floating-point number can't tell apart.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::de::IgnoredAny;

/// What differs between two JSON texts. Without any field only the formatting does: whitespace, the order of names, escapes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Diff<'a> {
    /// The first fields that differ; those of an object by name.
    pub(super) fields: Vec<Field<'a>>,
    /// How many more there are.
    pub(super) more: usize,
}

/// A field that differs: where it is, and its JSON text on both sides if it's there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) active: Option<&'a str>,
    pub(super) tried: Option<&'a str>,
}

/// Larger values aren't looked at field by field, which takes memory and time; Kafka's default maximum of a record.
const LARGEST: usize = 1 << 20;

/// Deeper values are compared as texts. serde_json's own bound, where it has one.
const DEEPEST: usize = 128;

/// Compares two texts, and keeps the first `most` fields that differ. `None` if they aren't both JSON, or too large.
pub(super) fn diff<'a>(active: &'a [u8], tried: &'a [u8], most: usize) -> Option<Diff<'a>> {
    let (active, tried) = (text(active)?, text(tried)?);
    let mut walk = Walk {
        most,
        path: String::new(),
        diff: Diff {
            fields: Vec::new(),
            more: 0,
        },
    };
    walk.values(active, tried, 0);
    Some(walk.diff)
}

/// JSON text without whitespace around it.
fn text(bytes: &[u8]) -> Option<&str> {
    if bytes.len() > LARGEST {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Some(text.trim_matches(WHITESPACE))
}

struct Walk<'a> {
    most: usize,
    path: String,
    diff: Diff<'a>,
}

impl<'a> Walk<'a> {
    fn values(&mut self, active: &'a str, tried: &'a str, depth: usize) {
        if active == tried {
            return;
        }
        match (active.as_bytes().first(), tried.as_bytes().first()) {
            (Some(b'{'), Some(b'{')) if depth < DEEPEST => self.objects(active, tried, depth),
            (Some(b'['), Some(b'[')) if depth < DEEPEST => self.arrays(active, tried, depth),
            (Some(b'"'), Some(b'"')) if says_the_same(active, tried) => {}
            _ => self.differ(Some(active), Some(tried)),
        }
    }

    fn objects(&mut self, active: &'a str, tried: &'a str, depth: usize) {
        let mut active = members(active).into_iter().peekable();
        let mut tried = members(tried).into_iter().peekable();
        loop {
            // A name that's there twice stands for two fields, in order.
            let order = match (active.peek(), tried.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let one = active.next_if(|_| order.is_le());
            let other = tried.next_if(|_| order.is_ge());
            let Some(name) = one.as_ref().or(other.as_ref()).map(|it| it.0.clone()) else {
                return;
            };
            let length = self.path.len();
            push_name(&mut self.path, &name);
            self.either(one.map(|it| it.1), other.map(|it| it.1), depth);
            self.path.truncate(length);
        }
    }

    fn arrays(&mut self, active: &'a str, tried: &'a str, depth: usize) {
        let (mut active, mut tried) = (elements(active), elements(tried));
        for index in 0.. {
            let (one, other) = (active.next(), tried.next());
            if one.is_none() && other.is_none() {
                return;
            }
            let length = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            self.either(one, other, depth);
            self.path.truncate(length);
        }
    }

    /// What is there on one side at least.
    fn either(&mut self, active: Option<&'a str>, tried: Option<&'a str>, depth: usize) {
        match (active, tried) {
            (Some(active), Some(tried)) => self.values(active, tried, depth + 1),
            (active, tried) => self.differ(active, tried),
        }
    }

    fn differ(&mut self, active: Option<&'a str>, tried: Option<&'a str>) {
        if self.diff.fields.len() >= self.most {
            self.diff.more += 1;
            return;
        }
        self.diff.fields.push(Field {
            path: self.path.clone(),
            active,
            tried,
        });
    }
}

/// Appends a name to a path, as a redacting config writes it.
fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    for char in name.chars() {
        if matches!(char, '.' | '[' | '\\') {
            path.push('\\');
        }
        path.push(char);
    }
}

/// Whether two texts of strings differ in their escapes alone.
fn says_the_same(active: &str, tried: &str) -> bool {
    string(active).is_some_and(|it| Some(it) == string(tried))
}

/// What the text of a string says; `None` if that can't be UTF-8.
fn string(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('\\') {
        return serde_json::from_str(text).ok().map(Cow::Owned);
    }
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(Cow::Borrowed(inside))
}

const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The names and values of an object, by name. The text is valid.
fn members(text: &str) -> Vec<(Cow<'_, str>, &str)> {
    let mut rest = inside(text);
    let member = || {
        let name = take_value(&mut rest)?;
        take_sign(&mut rest, ':');
        let value = take_value(&mut rest)?;
        take_sign(&mut rest, ',');
        Some((string(name).unwrap_or(Cow::Borrowed(name)), value))
    };
    let mut members: Vec<_> = std::iter::from_fn(member).collect();
    members.sort_by(|one, other| one.0.cmp(&other.0));
    members
}

/// The values of an array. The text is valid.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = inside(text);
    std::iter::from_fn(move || {
        let value = take_value(&mut rest)?;
        take_sign(&mut rest, ',');
        Some(value)
    })
}

/// Without the brackets.
fn inside(text: &str) -> &str {
    text.get(1..text.len().saturating_sub(1))
        .unwrap_or_default()
}

/// Takes a value off the front, if there's one left.
fn take_value<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = rest.trim_start_matches(WHITESPACE);
    let (value, after) = text.split_at_checked(end(text))?;
    *rest = after;
    (!value.is_empty()).then_some(value)
}

fn take_sign(rest: &mut &str, sign: char) {
    let text = rest.trim_start_matches(WHITESPACE);
    *rest = text.strip_prefix(sign).unwrap_or(text);
}

/// Where the value ends that a text begins with.
fn end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b'"' => string_end(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                at + 1
            }
            b'}' | b']' => {
                depth -= 1;
                at + 1
            }
            _ if depth > 0 => at + 1,
            // A number or a word.
            _ => {
                return text
                    .find([',', ':', ']', '}', ' ', '\t', '\n', '\r'])
                    .unwrap_or(bytes.len());
            }
        };
        if depth <= 0 {
            break;
        }
    }
    at
}

/// Where the string ends that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    bytes.len()
}

#[cfg(test)]
mod tests;
