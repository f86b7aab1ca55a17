//! The text of JSON strings: with escapes, and without.

use std::borrow::Cow;

/// Appends `text` as a JSON string with its quotes. Escapes only what must be: quotes, backslashes and control
/// characters.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    for (at, &byte) in text.as_bytes().iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(&[
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
        plain = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

/// What a well-formed string says, given the text between its quotes.
pub(crate) fn unescape(inner: &str) -> Cow<'_, str> {
    let Some(first) = inner.find('\\') else {
        return Cow::Borrowed(inner);
    };
    let mut said = String::with_capacity(inner.len());
    said.push_str(&inner[..first]);
    let mut rest = &inner[first..];
    while let Some(at) = rest.find('\\') {
        said.push_str(&rest[..at]);
        let (char, len) = escaped_char(&rest[at..]);
        said.push(char);
        rest = &rest[at + len..];
    }
    said.push_str(rest);
    Cow::Owned(said)
}

/// The character that a well-formed escape stands for, and the escape's length.
fn escaped_char(escape: &str) -> (char, usize) {
    let unit = |from: usize| {
        escape
            .get(from..from + 4)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .unwrap_or_default()
    };
    let char = match escape.as_bytes().get(1) {
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => {
            let high = unit(2);
            if !(0xd800..0xdc00).contains(&high) {
                return (char::from_u32(high).unwrap_or('\u{fffd}'), 6);
            }
            let code = 0x10000 + ((high - 0xd800) << 10) + (unit(8).wrapping_sub(0xdc00) & 0x3ff);
            return (char::from_u32(code).unwrap_or('\u{fffd}'), 12);
        }
        Some(&byte) => byte as char,
        None => '\\',
    };
    (char, 2)
}
