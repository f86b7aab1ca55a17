//! A guest's texts: its log lines, how many of them there may be, and how a text stays on its line.

use std::time::{Duration, Instant};

use super::bindings;

/// A guest's log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How much it matters.
    pub level: Level,
    /// The index of the record that it's about.
    pub index: u32,
    /// The text.
    pub message: String,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<bindings::LogLevel> for Level {
    fn from(it: bindings::LogLevel) -> Level {
        match it {
            bindings::LogLevel::Error => Level::Error,
            bindings::LogLevel::Warn => Level::Warn,
            bindings::LogLevel::Info => Level::Info,
            bindings::LogLevel::Debug => Level::Debug,
            bindings::LogLevel::Trace => Level::Trace,
        }
    }
}

/// Counts lines by the second, so that a guest can't flood the log.
#[derive(Debug, Default)]
pub(super) struct Flow {
    second: Option<Second>,
}

#[derive(Debug)]
struct Second {
    began: Instant,
    lines: usize,
    overflowed: bool,
}

/// How many lines may be written, and whether some are dropped for the first time in this second.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) lines: usize,
    pub(super) news: bool,
}

impl Flow {
    /// Asks for so many lines where `most` are allowed in a second.
    pub(super) fn ask(&mut self, now: Instant, lines: usize, most: usize) -> Allowance {
        let fresh = || Second {
            began: now,
            lines: 0,
            overflowed: false,
        };
        let second = match self.second.take() {
            Some(it) if now.duration_since(it.began) < Duration::from_secs(1) => it,
            _ => fresh(),
        };
        let second = self.second.insert(second);
        let allowed = lines.min(most.saturating_sub(second.lines));
        second.lines += allowed;
        let overflows = allowed < lines;
        let news = overflows && !second.overflowed;
        second.overflowed |= overflows;
        Allowance {
            lines: allowed,
            news,
        }
    }
}

/// A guest's text is cut to this many bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// A guest's text for a log and for a terminal: line ends and what would be a command to a terminal become spaces, so that
/// it can't pass for another line, and a long one is cut.
pub(super) fn one_line(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(MAX_TEXT)];
    let line = cut.replace(
        |c: char| c.is_control() || "\u{2028}\u{2029}".contains(c),
        " ",
    );
    match cut.len() < text.len() {
        true => line + "...",
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_says_once_that_some_are_dropped() {
        let mut flow = Flow::default();
        let start = Instant::now();
        let mut ask = |ms, lines| {
            let Allowance { lines, news } = flow.ask(start + Duration::from_millis(ms), lines, 10);
            (lines, news)
        };
        assert_eq!(ask(0, 6), (6, false));
        assert_eq!(ask(500, 6), (4, true));
        assert_eq!(ask(999, 6), (0, false));
        assert_eq!(ask(1_000, 12), (10, true));
        assert_eq!(ask(2_500, 10), (10, false));
        assert_eq!(ask(2_500, 0), (0, false));
    }

    #[test]
    fn a_guest_s_text_stays_on_its_line() {
        let check = |text, expected: &str| assert_eq!(one_line(text), expected);
        check("why ü", "why ü");
        check("at lib.rs:1:2:\nwhy", "at lib.rs:1:2: why");
        check("x\r\n\x1b[31mERROR\u{9b}\u{2028}", "x   [31mERROR  ");
        let long = "ü".repeat(MAX_TEXT);
        check(&long, &("ü".repeat(MAX_TEXT / 2) + "..."));
    }
}
