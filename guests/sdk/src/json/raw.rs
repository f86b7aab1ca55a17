//! A value as it stands in the text.

use std::borrow::Cow;
use std::fmt;

use super::fields::{Fields, Found};
use super::scan::{skip_space, string_end, value_end};
use super::{Error, string};
use crate::bytes::append;

/// The text of one well-formed JSON value, without the whitespace around it. Read lazily: nothing is parsed before it
/// is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a [u8]);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// Any number
    Number,
    /// A string
    String,
    /// An array
    Array,
    /// An object
    Object,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        })
    }
}

impl<'a> Raw<'a> {
    /// Checks that a text is one JSON value, of any kind, with nothing but whitespace around it.
    pub fn parse(text: &'a [u8]) -> Result<Raw<'a>, Error> {
        Fields::none().scan_value(text, &mut Found::default())
    }

    /// The text at a span that a scan has found well-formed, in UTF-8 that has been checked.
    #[inline(always)]
    pub(crate) fn checked(text: &'a [u8]) -> Raw<'a> {
        Raw(text)
    }

    /// The value's text.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The value's text.
    pub fn text(&self) -> &'a str {
        // SAFETY: a `Raw` is only made of text whose UTF-8 has been checked, cut at ASCII bytes.
        unsafe { std::str::from_utf8_unchecked(self.0) }
    }

    /// What the value is.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self.0[0] {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool,
            b'"' => Kind::String,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            _ => Kind::Number,
        }
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// Whether the value is a number written without fraction and exponent, of any size.
    pub fn is_integer(&self) -> bool {
        self.kind() == Kind::Number && !self.0.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.0[0] {
            b't' => Some(true),
            b'f' => Some(false),
            _ => None,
        }
    }

    /// The number, if it is written without fraction and exponent and fits.
    #[inline(always)]
    pub fn as_i64(&self) -> Option<i64> {
        match self.0 {
            [b'-', digits @ ..] => {
                let size = parse_u64(digits)?;
                0i64.checked_sub_unsigned(size)
            }
            digits => i64::try_from(parse_u64(digits)?).ok(),
        }
    }

    /// The number, if it is written without sign, fraction and exponent and fits.
    #[inline]
    pub fn as_u64(&self) -> Option<u64> {
        parse_u64(self.0)
    }

    /// The number, rounded to the nearest; infinite if it is beyond all others.
    pub fn as_f64(&self) -> Option<f64> {
        match self.kind() {
            Kind::Number => self.text().parse().ok(),
            _ => None,
        }
    }

    /// What the string says, if it is one. Allocates only if there are escapes in it.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        let text = self.text();
        match self.kind() {
            Kind::String => Some(string::unescape(&text[1..text.len() - 1])),
            _ => None,
        }
    }

    /// The elements, if the value is an array.
    pub fn elements(&self) -> Option<Elements<'a>> {
        (self.kind() == Kind::Array).then(|| Elements {
            text: self.0,
            pos: skip_space(self.0, 1),
        })
    }

    /// Appends the array with each element as `write` appends it, and what stands between the elements as it is. A value
    /// that isn't an array is appended as it is.
    ///
    /// # Errors
    /// Those of `write`; what has been appended until then stays.
    pub fn write_elements<E>(
        &self,
        out: &mut Vec<u8>,
        mut write: impl FnMut(Raw<'a>, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut copied = 0;
        if let Some(mut elements) = self.elements() {
            loop {
                let start = elements.pos;
                let Some(element) = elements.next() else {
                    break;
                };
                append(out, &self.0[copied..start]);
                write(element, out)?;
                copied = start + element.0.len();
            }
        }
        append(out, &self.0[copied..]);
        Ok(())
    }

    /// The members, if the value is an object: names and values in the order of the text, duplicates included.
    pub fn members(&self) -> Option<Members<'a>> {
        (self.kind() == Kind::Object).then(|| Members {
            text: self.0,
            pos: skip_space(self.0, 1),
        })
    }

    /// The member of that name, if the value is an object that has one; the last one if it has several.
    pub fn member(&self, name: &str) -> Option<Raw<'a>> {
        self.members()?
            .filter(|(key, _)| key.says(name))
            .map(|(_, value)| value)
            .last()
    }

    /// Whether the value is a string that says `text`.
    pub fn says(&self, text: &str) -> bool {
        let inner = match self.0 {
            [b'"', inner @ .., b'"'] => inner,
            _ => return false,
        };
        inner == text.as_bytes()
            || inner.contains(&b'\\') && self.as_str().is_some_and(|said| said == text)
    }
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    text: &'a [u8],
    pos: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        if self.text[self.pos] == b']' {
            return None;
        }
        let end = value_end(self.text, self.pos);
        let value = Raw(&self.text[self.pos..end]);
        self.pos = after_comma(self.text, end);
        Some(value)
    }
}

/// The members of an object: a string as name, and a value.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    text: &'a [u8],
    pos: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Raw<'a>, Raw<'a>);

    fn next(&mut self) -> Option<(Raw<'a>, Raw<'a>)> {
        if self.text[self.pos] == b'}' {
            return None;
        }
        let key_end = string_end(self.text, self.pos);
        let key = Raw(&self.text[self.pos..key_end]);
        let colon = skip_space(self.text, key_end);
        let start = skip_space(self.text, colon + 1);
        let end = value_end(self.text, start);
        let value = Raw(&self.text[start..end]);
        self.pos = after_comma(self.text, end);
        Some((key, value))
    }
}

/// Where the next value starts, or the closing bracket stands, after a value that ends at `pos`.
fn after_comma(text: &[u8], pos: usize) -> usize {
    let pos = skip_space(text, pos);
    match text[pos] {
        b',' => skip_space(text, pos + 1),
        _ => pos,
    }
}

/// The number that 1 to 20 ASCII digits spell, if they're nothing else and it fits.
#[inline(always)]
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    // Times, counts, most ids: two words that overlap, of which the first loses what the second has too.
    if let 8..=16 = digits.len()
        && let (Some(head), Some(tail)) = (digits.first_chunk(), digits.last_chunk())
    {
        let missing = 8 * (16 - digits.len() as u32);
        // A shift by 64 is none, so it's done in two: eight digits have no head.
        let head = (u64::from_le_bytes(*head) ^ ZEROS) << (missing / 2) << (missing / 2);
        let tail = u64::from_le_bytes(*tail) ^ ZEROS;
        if !are_digits(head) || !are_digits(tail) {
            return None;
        }
        return Some(join_head(head) * 100_000_000 + join(tail));
    }
    long_u64(digits)
}

#[inline(never)]
fn long_u64(digits: &[u8]) -> Option<u64> {
    // 19 digits always fit.
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    let (head, tail) = digits.split_at(digits.len().min(19));
    let mut number = 0u64;
    let mut rest = head;
    while let Some((eight, after)) = rest.split_first_chunk() {
        let eight = u64::from_le_bytes(*eight) ^ ZEROS;
        if !are_digits(eight) {
            return None;
        }
        number = number * 100_000_000 + join(eight);
        rest = after;
    }
    for &byte in rest {
        number = number * 10 + digit(byte)?;
    }
    for &byte in tail {
        number = number.checked_mul(10)?.checked_add(digit(byte)?)?;
    }
    Some(number)
}

#[inline]
fn digit(byte: u8) -> Option<u64> {
    byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
}

/// Eight times the digit 0.
const ZEROS: u64 = u64::from_ne_bytes([b'0'; 8]);

/// Whether each byte is 0 to 9.
#[inline(always)]
fn are_digits(word: u64) -> bool {
    const TOP: u64 = 0x8080_8080_8080_8080;
    // Bytes above 9 carry into their top bit, or have it; those that might carry into the next byte have it too.
    (word.wrapping_add(0x7676_7676_7676_7676) | word) & TOP == 0
}

/// The number that eight bytes of 0 to 9 spell, the first in the lowest byte: neighbours are joined to pairs, pairs to
/// fours, fours to all eight.
#[inline(always)]
fn join(word: u64) -> u64 {
    let pairs = (word.wrapping_mul(10 << 8 | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 << 32 | 1) >> 32
}

/// The same in other words: two alike side by side are put into one vector, whose multiplication takes five times as
/// long.
#[inline(always)]
fn join_head(word: u64) -> u64 {
    let pairs = (word * 10 + (word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}
