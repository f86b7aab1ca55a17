//! The regular expressions of `matches`, in RE2's syntax as far as `regex-lite` has it: no Unicode classes (`\p{…}`),
//! and ignoring case for ASCII letters only.

use regex_lite::{Regex, RegexBuilder};

/// The most memory that a compiled expression may take, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// A compiled regular expression that may match anywhere in a text.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// The text contains these words.
    Contains(Box<str>),
    /// `^words`
    Starts(Box<str>),
    /// `words$`
    Ends(Box<str>),
    /// `^words$`
    Equals(Box<str>),
    /// Anything else.
    Regex(Regex),
}

impl Pattern {
    /// Compiles; an error says what is wrong with the expression.
    pub fn new(text: &str) -> Result<Pattern, String> {
        // Plain words between anchors are the common case, and a search for them is many times faster.
        let (words, starts) = match text.strip_prefix('^') {
            Some(words) => (words, true),
            None => (text, false),
        };
        let (words, ends) = match words.strip_suffix('$') {
            Some(words) => (words, true),
            None => (words, false),
        };
        if !words.contains(is_special) {
            let words = words.into();
            return Ok(match (starts, ends) {
                (false, false) => Pattern::Contains(words),
                (true, false) => Pattern::Starts(words),
                (false, true) => Pattern::Ends(words),
                (true, true) => Pattern::Equals(words),
            });
        }
        RegexBuilder::new(text)
            .size_limit(MAX_SIZE)
            .build()
            .map(Pattern::Regex)
            .map_err(|error| format!("`{text}` isn't a regular expression: {error}"))
    }

    /// Whether it matches somewhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        match self {
            Pattern::Contains(words) => text.contains(words.as_ref()),
            Pattern::Starts(words) => text.starts_with(words.as_ref()),
            Pattern::Ends(words) => text.ends_with(words.as_ref()),
            Pattern::Equals(words) => text == words.as_ref(),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

fn is_special(char: char) -> bool {
    matches!(
        char,
        '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$'
    )
}
