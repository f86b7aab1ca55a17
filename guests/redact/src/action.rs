//! What becomes of a value that must not be read.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use weir_guest::bytes::append;
use weir_guest::json::{Kind, Raw, write_str};

/// What becomes of a value.
#[derive(Clone)]
pub enum Action {
    /// It goes, with its name.
    Remove,
    /// It becomes a fixed value.
    Replace(Fixed),
    /// Most of its characters become another one.
    Mask(Mask),
    /// It becomes a keyed hash of itself.
    Hash(Box<Hash>),
}

/// A value that stands in the place of others.
#[derive(Clone)]
pub struct Fixed {
    /// As JSON text.
    pub json: Vec<u8>,
    /// As a whole key or header: what a string says, the text of anything else, nothing for null.
    pub bytes: Option<Vec<u8>>,
}

/// Which characters stay.
#[derive(Clone, Debug)]
pub struct Mask {
    /// The first ones that stay.
    pub keep_first: usize,
    /// The last ones that stay.
    pub keep_last: usize,
    /// What the others become.
    pub with: char,
}

/// HMAC-SHA256 under a key.
#[derive(Clone)]
pub struct Hash {
    /// Of the key alone.
    keyed: Hmac<Sha256>,
    /// Hexadecimal digits that are kept, up to 64.
    digits: usize,
}

impl Action {
    /// Appends what the JSON value becomes, as JSON. Not for [`Action::Remove`], and not for null with
    /// [`Action::Mask`] and [`Action::Hash`], which leave it.
    ///
    /// # Errors
    /// It's an array or an object, which have no text to mask or hash.
    #[inline]
    pub fn write(&self, value: Raw<'_>, out: &mut Vec<u8>) -> Result<(), Kind> {
        if let Action::Replace(fixed) = self {
            append(out, &fixed.json);
            return Ok(());
        }
        // A string is what it says, however it's escaped; a number or boolean is its text.
        let text = match value.kind() {
            Kind::String => value.as_str().unwrap_or_default(),
            Kind::Number | Kind::Bool | Kind::Null => value.text().into(),
            kind @ (Kind::Array | Kind::Object) => return Err(kind),
        };
        match self {
            Action::Mask(mask) => write_str(&mask.masked(&text), out),
            Action::Hash(hash) => {
                out.push(b'"');
                hash.write(text.as_bytes(), out);
                out.push(b'"');
            }
            Action::Remove | Action::Replace(_) => {}
        }
        Ok(())
    }

    /// What a whole key or header becomes, appended; false if it becomes null.
    ///
    /// # Errors
    /// It isn't UTF-8, and so has no characters to mask.
    pub fn write_bytes(&self, value: &[u8], out: &mut Vec<u8>) -> Result<bool, NotText> {
        match self {
            Action::Remove => return Ok(false),
            Action::Replace(fixed) => match &fixed.bytes {
                Some(bytes) => append(out, bytes),
                None => return Ok(false),
            },
            Action::Mask(mask) => {
                let text = std::str::from_utf8(value).map_err(|_| NotText)?;
                append(out, mask.masked(text).as_bytes());
            }
            Action::Hash(hash) => hash.write(value, out),
        }
        Ok(true)
    }

    /// Its name in the config.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Remove => "remove",
            Action::Replace(_) => "replace",
            Action::Mask(_) => "mask",
            Action::Hash(_) => "hash",
        }
    }
}

/// Bytes that are no text.
#[derive(Debug)]
pub struct NotText;

impl Mask {
    /// The text with all but its ends masked. One that is no longer than the ends together is masked whole: the setting
    /// is there to hide something.
    fn masked(&self, text: &str) -> String {
        let chars = text.chars().count();
        let (first, last) = match self.keep_first.saturating_add(self.keep_last) < chars {
            true => (self.keep_first, self.keep_last),
            false => (0, 0),
        };
        let mut masked = String::with_capacity(text.len());
        for (index, char) in text.chars().enumerate() {
            let stays = index < first || index >= chars - last;
            masked.push(if stays { char } else { self.with });
        }
        masked
    }
}

impl Hash {
    /// The hash under a key, cut to so many hexadecimal digits.
    pub fn new(key: &[u8], digits: usize) -> Hash {
        Hash {
            keyed: Hmac::new_from_slice(key).expect("HMAC takes keys of any length"),
            digits,
        }
    }

    /// Appends the hash in lower-case hexadecimal digits.
    fn write(&self, bytes: &[u8], out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut mac = self.keyed.clone();
        mac.update(bytes);
        let hash = mac.finalize().into_bytes();
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(hash) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        append(out, &hex[..self.digits]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_rfc_4231() {
        let check = |key: &[u8], data: &[u8], expected: &str| {
            let mut out = Vec::new();
            Hash::new(key, 64).write(data, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
            out.clear();
            Hash::new(key, 17).write(data, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected[..17]);
        };
        check(
            &[0x0b; 20],
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        );
        check(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        );
    }

    #[test]
    fn a_mask_counts_characters_and_always_hides_something() {
        let masked = |keep_first, keep_last, with, text: &str| {
            let mask = Mask {
                keep_first,
                keep_last,
                with,
            };
            mask.masked(text)
        };
        assert_eq!(masked(0, 0, '*', "secret"), "******");
        assert_eq!(masked(0, 4, '*', "4111111111111111"), "************1111");
        assert_eq!(masked(2, 2, '•', "größer"), "gr••er");
        assert_eq!(masked(1, 0, 'x', "😀😀😀"), "😀xx");
        assert_eq!(masked(0, 4, '*', "1234"), "****");
        assert_eq!(masked(0, 4, '*', "12"), "**");
        assert_eq!(masked(2, 2, '*', "12345"), "12*45");
        assert_eq!(masked(usize::MAX, usize::MAX, '*', "12345"), "*****");
        assert_eq!(masked(0, 0, '*', ""), "");
    }
}
