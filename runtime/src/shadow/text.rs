//! Records' bytes and versions' words as short texts.

/// A text is cut to so many characters.
pub(super) const MOST_CHARACTERS: usize = 200;

/// What is shown before the first different byte. Few enough that the byte itself is shown, however long the escapes of
/// those before it are.
const BEFORE: usize = 20;

/// A text, cut if it's long.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => text[..end].to_string() + "...",
        None => text.to_string(),
    }
}

/// JSON text on one line, cut if it's long.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    // No more than is shown, and one more so that it shows that there is more.
    for char in text.chars().take(MOST_CHARACTERS + 1) {
        match char {
            '\t' | '\n' | '\r' => line.push(' '),
            char if char.is_control() => line.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => line.push(char),
        }
    }
    cut(&line)
}

/// Both sides around their first different byte, escaped, and where that is.
pub(super) fn around(active: &[u8], tried: &[u8]) -> (String, String, usize) {
    let same = active.iter().zip(tried).take_while(|(a, t)| a == t);
    let at = same.count();
    let mut start = at.saturating_sub(BEFORE);
    // Not in the middle of a character, which has four bytes at most.
    for _ in 0..3 {
        if start > 0 && active.get(start).is_some_and(|byte| byte & 0xc0 == 0x80) {
            start -= 1;
        }
    }
    (bytes_from(active, start), bytes_from(tried, start), at)
}

/// Bytes from `start` on as text, escaped, and cut if they're many.
pub(super) fn bytes_from(bytes: &[u8], start: usize) -> String {
    let rest = bytes.get(start..).unwrap_or_default();
    // A character has four bytes at most.
    let seen = &rest[..rest.len().min((MOST_CHARACTERS + 1) * 4)];
    let mut text = String::new();
    for chunk in seen.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' | '\'' => text.push(char),
                char => text.extend(char.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    let text = cut(&text);
    match start {
        0 => text,
        _ => format!("...{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_around_the_first_different_one() {
        let check = |active: &[u8], tried: &[u8], expected: (&str, &str, usize)| {
            let (active, tried, at) = around(active, tried);
            assert_eq!((&active[..], &tried[..], at), expected);
        };
        check(b"abc", b"abd", ("abc", "abd", 2));
        check(b"", b"x", ("", "x", 0));
        check(b"it's", b"it's \"\0\xff", ("it's", "it's \"\\0\\xff", 4));
        check(b"\xfe", b"\xff", ("\\xfe", "\\xff", 0));
        let (one, other) = ("ü".repeat(50) + "a", "ü".repeat(50) + "b");
        let shown = "...".to_owned() + &"ü".repeat(10);
        let expected = (shown.clone() + "a", shown + "b");
        check(
            one.as_bytes(),
            other.as_bytes(),
            (&expected.0, &expected.1, 100),
        );
    }

    #[test]
    fn the_different_byte_is_shown_whatever_is_before_it() {
        for before in [&b"\x1f"[..], b"\xff", "\u{e0001}".as_bytes(), b"\\"] {
            let of = |byte: u8| [&before.repeat(100)[..], &[byte; 1_000]].concat();
            let (active, tried, _) = around(&of(b'a'), &of(b'b'));
            assert!(active.ends_with("aaa..."), "{active}");
            assert!(tried.ends_with("bbb..."), "{tried}");
            assert_eq!(active.chars().count(), MOST_CHARACTERS + 6);
        }
    }

    #[test]
    fn json_text_stays_on_its_line_and_is_cut() {
        assert_eq!(one_line("[1,\r\n\t\"\u{85}ü\"]"), "[1,   \"\\u0085ü\"]");
        assert_eq!(one_line(&"ü".repeat(200)), "ü".repeat(200));
        assert_eq!(one_line(&"ü".repeat(201)), "ü".repeat(200) + "...");
    }
}
