//! The text of JSON strings: with escapes, and without.

use std::borrow::Cow;

use super::block::{masked, text_stops};
use crate::bytes::append;

/// Appends `text` as a JSON string with its quotes. Escapes only what must be: quotes, backslashes and control
/// characters.
#[inline]
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    let text = text.as_bytes();
    out.push(b'"');
    let mut plain = 0;
    let mut at = 0;
    while at < text.len() {
        let stops = masked(text, at, text_stops);
        if stops == 0 {
            at += 16;
            continue;
        }
        at += stops.trailing_zeros() as usize;
        append(out, &text[plain..at]);
        write_escape(text[at], out);
        at += 1;
        plain = at;
    }
    append(out, &text[plain..]);
    out.push(b'"');
}

#[cold]
fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        0..0x20 => {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            return;
        }
        byte => byte,
    };
    out.extend_from_slice(&[b'\\', short]);
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
