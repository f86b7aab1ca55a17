//! The grammar of RFC 8259: strings, numbers and literals, and how to step over a value.

use super::Error;
use super::block::{digits, masked, string_stops, text_stops};

// In Wasm each turn of a loop costs a look at the clock's epoch. So what is usual is done before a loop begins: no
// whitespace, a string or a run of digits that ends within sixteen bytes.

/// Steps over whitespace from `pos` on.
#[inline(always)]
pub(crate) fn skip_space(text: &[u8], pos: usize) -> usize {
    match text.get(pos) {
        Some(0..=b' ') => skip_some_space(text, pos),
        _ => pos,
    }
}

#[inline(never)]
fn skip_some_space(text: &[u8], mut pos: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(pos) {
        pos += 1;
    }
    pos
}

/// A string that has been read.
#[derive(Clone, Copy)]
pub(crate) struct Str {
    /// After the closing quote.
    pub(crate) end: usize,
    /// Whether it contains a backslash.
    pub(crate) escaped: bool,
}

/// Reads the string whose opening quote stands before `pos`. Sets `non_ascii` if it holds bytes of 0x80 and above,
/// whose UTF-8 is left to check.
#[inline(always)]
pub(crate) fn string(text: &[u8], pos: usize, non_ascii: &mut bool) -> Result<Str, Error> {
    let stops = masked(text, pos, string_stops);
    let stop = pos + stops.trailing_zeros() as usize;
    match text.get(stop) {
        Some(b'"') if stops != 0 => Ok(Str {
            end: stop + 1,
            escaped: false,
        }),
        _ => long_string(text, pos, non_ascii),
    }
}

/// A string that is longer than sixteen bytes, or has an escape or a non-ASCII byte among them.
#[inline(never)]
fn long_string(text: &[u8], mut pos: usize, non_ascii: &mut bool) -> Result<Str, Error> {
    loop {
        let stops = masked(text, pos, string_stops);
        if stops != 0 {
            pos += stops.trailing_zeros() as usize;
            if text[pos] == b'"' {
                return Ok(Str {
                    end: pos + 1,
                    escaped: false,
                });
            }
            return string_with_specials(text, pos, non_ascii);
        }
        pos += 16;
        if pos >= text.len() {
            return Err(Error::syntax(text.len(), "the text ends inside a string"));
        }
    }
}

/// The rest of a string from its first escape or non-ASCII byte on.
#[cold]
#[inline(never)]
fn string_with_specials(text: &[u8], mut pos: usize, non_ascii: &mut bool) -> Result<Str, Error> {
    let mut escaped = false;
    loop {
        let stops = masked(text, pos, text_stops);
        if stops == 0 {
            *non_ascii |= !text[pos.min(text.len())..text.len().min(pos + 16)].is_ascii();
            pos += 16;
            if pos >= text.len() {
                return Err(Error::syntax(text.len(), "the text ends inside a string"));
            }
            continue;
        }
        let stop = pos + stops.trailing_zeros() as usize;
        *non_ascii |= !text[pos..stop].is_ascii();
        pos = stop;
        match text[pos] {
            b'"' => {
                return Ok(Str {
                    end: pos + 1,
                    escaped,
                });
            }
            b'\\' => {
                escaped = true;
                pos = escape(text, pos)?;
            }
            _ => {
                return Err(Error::syntax(
                    pos,
                    "a control character in a string must be escaped",
                ));
            }
        }
    }
}

/// Checks the escape at `pos` and returns its end.
fn escape(text: &[u8], pos: usize) -> Result<usize, Error> {
    match text.get(pos + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(pos + 2),
        Some(b'u') => {
            let unit = hex4(text, pos)?;
            match unit {
                0xd800..0xdc00 => {
                    let low = match text.get(pos + 6..pos + 8) {
                        Some(br"\u") => hex4(text, pos + 6)?,
                        _ => 0,
                    };
                    match low {
                        0xdc00..0xe000 => Ok(pos + 12),
                        _ => Err(Error::syntax(pos, "half of a surrogate pair stands alone")),
                    }
                }
                0xdc00..0xe000 => Err(Error::syntax(pos, "half of a surrogate pair stands alone")),
                _ => Ok(pos + 6),
            }
        }
        Some(_) => Err(Error::syntax(pos, "no such escape")),
        None => Err(Error::syntax(text.len(), "the text ends inside a string")),
    }
}

/// The code unit of the escape `\uXXXX` at `pos`.
fn hex4(text: &[u8], pos: usize) -> Result<u32, Error> {
    let mut unit = 0;
    for at in pos + 2..pos + 6 {
        let Some(digit) = text.get(at).and_then(|&byte| (byte as char).to_digit(16)) else {
            return Err(Error::syntax(
                at.min(text.len()),
                "expected four hexadecimal digits after \\u",
            ));
        };
        unit = unit << 4 | digit;
    }
    Ok(unit)
}

/// Reads the number at `pos`, whose first byte is a digit or a minus, and returns its end.
#[inline(always)]
pub(crate) fn number(text: &[u8], mut pos: usize) -> Result<usize, Error> {
    if text[pos] == b'-' {
        pos += 1;
    }
    let end = digits_end(text, pos);
    if end == pos {
        return Err(Error::syntax(pos, "expected a digit"));
    }
    if text[pos] == b'0' && end - pos > 1 {
        return Err(Error::syntax(pos, "a number must not start with 0"));
    }
    pos = end;
    if text.get(pos) == Some(&b'.') {
        pos += 1;
        let end = digits_end(text, pos);
        if end == pos {
            return Err(Error::syntax(pos, "expected a digit"));
        }
        pos = end;
    }
    if let Some(b'e' | b'E') = text.get(pos) {
        pos += 1;
        if let Some(b'+' | b'-') = text.get(pos) {
            pos += 1;
        }
        let end = digits_end(text, pos);
        if end == pos {
            return Err(Error::syntax(pos, "expected a digit"));
        }
        pos = end;
    }
    Ok(pos)
}

/// The end of the run of digits at `pos`.
#[inline(always)]
fn digits_end(text: &[u8], pos: usize) -> usize {
    let run = masked(text, pos, digits).trailing_ones() as usize;
    match run < 16 {
        true => pos + run,
        false => many_digits_end(text, pos + run),
    }
}

#[inline(never)]
fn many_digits_end(text: &[u8], mut pos: usize) -> usize {
    loop {
        let run = masked(text, pos, digits).trailing_ones() as usize;
        pos += run;
        if run < 16 {
            return pos;
        }
    }
}

/// Reads `true`, `false` or `null` at `pos` and returns its end.
#[inline(always)]
pub(crate) fn literal(text: &[u8], pos: usize) -> Result<usize, Error> {
    let rest = &text[pos..];
    match rest {
        [b't', b'r', b'u', b'e', ..] | [b'n', b'u', b'l', b'l', ..] => Ok(pos + 4),
        [b'f', b'a', b'l', b's', b'e', ..] => Ok(pos + 5),
        [] => Err(Error::syntax(pos, "the text ends where a value should be")),
        _ => Err(Error::syntax(pos, "expected a value")),
    }
}

/// The end of the well-formed value at `pos`.
pub(crate) fn value_end(text: &[u8], pos: usize) -> usize {
    match text[pos] {
        b'"' => string_end(text, pos),
        b'{' | b'[' => {
            let mut depth = 0usize;
            let mut at = pos;
            loop {
                match text[at] {
                    b'"' => {
                        at = string_end(text, at);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return at + 1;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => {
            let plain = |byte: &u8| {
                !matches!(
                    byte,
                    b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\r' | b'\t'
                )
            };
            pos + text[pos..].iter().take_while(|&byte| plain(byte)).count()
        }
    }
}

/// The end of the well-formed string whose opening quote is at `pos`.
pub(crate) fn string_end(text: &[u8], pos: usize) -> usize {
    let mut at = pos + 1;
    loop {
        let stops = masked(text, at, text_stops);
        if stops == 0 {
            at += 16;
            continue;
        }
        at += stops.trailing_zeros() as usize;
        match text[at] {
            b'"' => return at + 1,
            _ => at += 2,
        }
    }
}
