//! The rules for names, topics and patterns.

use regex::Regex;

use super::document::{Problems, Text};

/// Of a pipeline's or transform's name: a metric's label and part of a group's name.
const MAX_NAME: usize = 100;
/// Kafka's own bound on a topic's name.
const MAX_TOPIC: usize = 249;

pub(super) fn check_name(
    what: &str,
    line: usize,
    name: &str,
    typed: &str,
    problems: &mut Problems,
) {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = name.len() <= MAX_NAME
        && name.starts_with(is_plain)
        && name
            .chars()
            .all(|c| is_plain(c) || matches!(c, '.' | '_' | '-'));
    if !fits {
        problems.at(
            line,
            format!(
                "the {what} name \"{typed}\" must be 1 to {MAX_NAME} lower-case letters, digits, \".\", \"_\" or \"-\", the first a letter or digit"
            ),
        );
    }
}

/// Kafka's own rule for a static member's name is a topic's, and this has to fit in with a pipeline's name.
const MAX_INSTANCE: usize = 100;

/// The rule for the name of a process among others; the error says what it must be.
pub fn check_instance(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric();
    let fits = name.len() <= MAX_INSTANCE
        && name.starts_with(is_plain)
        && name
            .chars()
            .all(|c| is_plain(c) || matches!(c, '.' | '_' | '-'))
        // So ends the name of another one's lock, beside this one's folder.
        && !name.ends_with(".lock");
    match fits {
        true => Ok(()),
        false => Err(format!(
            "must be 1 to {MAX_INSTANCE} letters, digits, \".\", \"_\" or \"-\", the first a letter or digit, and not end in \".lock\""
        )),
    }
}

/// The name that a misspelt one was probably meant for.
pub(super) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&typed, known), *known))
        .min()
        // A third of the letters may be wrong, as in rustc's suggestions.
        .filter(|(distance, known)| *distance <= typed.len().max(known.len()).div_ceil(3))
        .map(|(_, known)| known)
}

/// Kafka's rule for topic names.
pub(super) fn check_topic(what: &str, line: usize, topic: &Text, problems: &mut Problems) {
    let name = &topic.value;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty()
        || name.len() > MAX_TOPIC
        || name == "."
        || name == ".."
        || !name.chars().all(is_legal)
    {
        let pattern = match what {
            "input" => "; a pattern starts with \"^\"",
            _ => "",
        };
        problems.at(
            line,
            format!(
                "the {what} topic \"{topic}\" must be 1 to {MAX_TOPIC} letters, digits, \".\", \"_\" or \"-\"{pattern}"
            ),
        );
    }
}

/// librdkafka matches with POSIX extended regular expressions. Weir checks with its own, so a pattern has to mean the
/// same to both.
pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
    Regex::new(pattern).map_err(|error| {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default();
        format!(
            "is not a regular expression: {}",
            last.trim_start_matches("error: ")
        )
    })?;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(next)) if next.is_ascii_alphanumeric() => {
                return Err(format!(
                    "has \\{next}, which Kafka's client takes otherwise; write a class such as [0-9] or [A-Za-z0-9_]"
                ));
            }
            ('\\', Some(_)) => {
                chars.next();
            }
            ('(', Some('?')) => {
                return Err("has (?, which Kafka's client doesn't know; take it out".to_string());
            }
            _ => {}
        }
    }
    Ok(())
}
