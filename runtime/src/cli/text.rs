//! Small texts for people: counts, rates, and bytes from records made safe to print.

use std::fmt::Write;
use std::time::Duration;

use console::{measure_text_width, truncate_str};

/// A count with its thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many in that time, per second, to three digits or the next whole number: `0.25`, `12.5`, `1,234`.
pub fn per_second(number: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds == 0.0 {
        return "0".to_string();
    }
    let rate = number as f64 / seconds;
    match rate {
        0.0 => "0".to_string(),
        _ if rate < 10.0 => format!("{rate:.2}"),
        _ if rate < 100.0 => format!("{rate:.1}"),
        _ => count(rate.round() as u64),
    }
}

/// A time to the tenth below a minute, then in minutes and seconds: `4.2 s`, `3 min 05 s`.
pub fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 60 => format!("{:.1} s", (time.as_millis() / 100) as f64 / 10.0),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// A number of bytes to three digits: `987 B`, `1.21 MiB`.
pub fn bytes(number: u64) -> String {
    let mut size = number as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1_024.0 {
            break;
        }
        size /= 1_024.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{number} B"),
        _ if size < 10.0 => format!("{size:.2} {unit}"),
        _ if size < 100.0 => format!("{size:.1} {unit}"),
        _ => format!("{size:.0} {unit}"),
    }
}

/// A text in lines of at most `columns` columns, broken between words; a longer word has a line to itself.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// A text in at most so many lines of at most `columns` columns, broken anywhere; what doesn't fit shows as a mark.
pub fn chop(text: &str, columns: usize, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while lines.len() + 1 < most && measure_text_width(rest) > columns {
        let line = truncate_str(rest, columns, "");
        // Not even one character fits.
        if line.is_empty() {
            break;
        }
        let end = line.len();
        lines.push(line.into_owned());
        rest = &rest[end..];
    }
    lines.push(truncate_str(rest, columns, "…").into_owned());
    lines
}

/// A key or value in at most `columns` columns of a terminal. What isn't UTF-8 and what would move the cursor or
/// reach the terminal as a command is escaped; null is `null`, which can't be told from the text `null`.
pub fn record(bytes: Option<&[u8]>, columns: usize) -> String {
    let Some(bytes) = bytes else {
        return "null".to_string();
    };
    // A character takes a column or more, but for those that combine with the one before; four times is plenty.
    let shown = &bytes[..bytes.len().min(columns.saturating_mul(16))];
    let mut text = String::with_capacity(shown.len());
    for chunk in shown.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if c.is_control() || is_invisible(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    truncate_str(&text, columns, "…").into_owned()
}

/// Marks that turn the direction of text, or show nothing: they'd make a line lie about the record.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        let second = Duration::from_secs(1);
        assert_eq!(per_second(5, Duration::ZERO), "0");
        assert_eq!(per_second(0, second), "0");
        assert_eq!(per_second(1, second * 4), "0.25");
        assert_eq!(per_second(25, second * 2), "12.5");
        assert_eq!(per_second(2_469, second * 2), "1,235");
        assert_eq!(time(Duration::from_millis(4_290)), "4.2 s");
        assert_eq!(time(Duration::from_millis(59_999)), "59.9 s");
        assert_eq!(time(Duration::from_secs(185)), "3 min 05 s");
        let sizes = [0, 1_023, 1_024, 12_700, 1_270_000, u64::MAX].map(bytes);
        assert_eq!(
            sizes,
            [
                "0 B",
                "1023 B",
                "1.00 KiB",
                "12.4 KiB",
                "1.21 MiB",
                "16777216 TiB"
            ]
        );
    }

    #[test]
    fn texts_are_broken_between_words() {
        let text = "A record\n that has 日本 words";
        assert_eq!(wrap(text, 80), ["A record that has 日本 words"]);
        assert_eq!(wrap(text, 8), ["A record", "that has", "日本", "words"]);
        assert_eq!(wrap("a-long-word in it", 4), ["a-long-word", "in", "it"]);
        assert!(wrap(" ", 4).is_empty());
    }

    #[test]
    fn records_are_safe_to_print() {
        #[track_caller]
        fn check(bytes: &[u8], columns: usize, expected: &str) {
            assert_eq!(record(Some(bytes), columns), expected);
        }
        assert_eq!(record(None, 80), "null");
        check(b"", 80, "");
        check(b"{\"a\":1}", 80, "{\"a\":1}");
        check(b"abcdef", 6, "abcdef");
        check(b"abcdefg", 6, "abcde…");
        check("日本語のテキスト".as_bytes(), 7, "日本語…");
        check("äöü".as_bytes(), 2, "ä…");
        check(b"\x1b[2J\r\n\t", 80, "\\u{1b}[2J\\r\\n\\t");
        check(
            "\u{202e}abc\u{9b}31m".as_bytes(),
            80,
            "\\u{202e}abc\\u{9b}31m",
        );
        check(b"a\xffb\xe6\x97", 80, "a\\xffb\\xe6\\x97");
        assert!(record(Some(&vec![b'x'; 10_000_000]), 10).len() < 20);
    }
}
