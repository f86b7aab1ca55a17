//! Ids that survive a replay: drawn from a stream cipher under the batch's key, at a place that the record's position
//! gives.
//!
//! The cipher is ChaCha8. A record's first sixteen bytes stand at word 4 x offset (of four bytes) of stream
//! `ordinal << 32`; its n-th further sixteen bytes at the same word of stream `ordinal << 32 | n`. A block is sixteen
//! words, so four neighbouring offsets share one, block `offset / 4`; offsets stay below 2^63, and the block counter has
//! 64 bits. (block, stream, quarter) is another one for each draw, so no two draws overlap.

pub use uuid::Variant;

use uuid::Builder;

use crate::Uuid;
use crate::bytes::append_words;

/// The draws of one batch.
pub(crate) struct Ids {
    key: [u32; 8],
    /// Block and stream of `draws`.
    at: Option<(u64, u64)>,
    /// The last block, as four draws of two words of 64 bits: read as they were written, in one piece each.
    draws: [[u64; 2]; 4],
    /// The number of draws of the current record.
    drawn: u32,
}

impl Ids {
    pub(crate) fn new(key: &[u8]) -> Ids {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Ids {
            key: words,
            at: None,
            draws: [[0; 2]; 4],
            drawn: 0,
        }
    }

    /// Begins a record.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.drawn = 0;
    }

    /// The record's next sixteen bytes.
    ///
    /// # Panics
    /// After 2^32 - 1 draws for one record.
    #[inline(always)]
    pub(crate) fn draw(&mut self, offset: u64, ordinal: u32) -> [u8; 16] {
        let stream = u64::from(ordinal) << 32 | u64::from(self.drawn);
        self.drawn = self
            .drawn
            .checked_add(1)
            .expect("a record draws less than 2^32 ids");
        let block = offset / 4;
        if self.at != Some((block, stream)) {
            self.next_block(block, stream);
        }
        let [low, high] = self.draws[(offset % 4) as usize];
        (u128::from(low) | u128::from(high) << 64).to_le_bytes()
    }

    #[inline(never)]
    fn next_block(&mut self, block: u64, stream: u64) {
        let words = chacha8(&self.key, block, stream);
        for (draw, words) in self.draws.iter_mut().zip(words.as_chunks().0) {
            let [a, b, c, d]: [u32; 4] = *words;
            let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
            *draw = [join(a, b), join(c, d)];
        }
        self.at = Some((block, stream));
    }
}

/// Sets the version and variant of random bytes.
#[inline(always)]
pub(crate) fn v4(bytes: [u8; 16]) -> Uuid {
    Builder::from_random_bytes(bytes).into_uuid()
}

/// Joins milliseconds since 1970, if they fit in 48 bits, with random bytes.
#[inline]
pub(crate) fn v7(millis: i64, bytes: [u8; 16]) -> Option<Uuid> {
    let millis = u64::try_from(millis)
        .ok()
        .filter(|millis| millis >> 48 == 0)?;
    let random = bytes.first_chunk()?;
    Some(Builder::from_unix_timestamp_millis(millis, random).into_uuid())
}

/// Appends an id's text: 36 characters, lower case, with hyphens.
#[inline(always)]
pub fn write_text(id: &Uuid, out: &mut Vec<u8>) {
    append_words::<36, 5>(out, text::words(id.as_bytes()));
}

/// Appends an id's text as a JSON string, in quotes.
#[inline(always)]
pub fn write_json(id: &Uuid, out: &mut Vec<u8>) {
    out.push(b'"');
    write_text(id, out);
    out.push(b'"');
}

/// The text of an id, in words of eight characters, the first in the lowest byte.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod text {
    use core::arch::wasm32::*;

    #[inline(always)]
    pub(super) fn words(bytes: &[u8; 16]) -> [u64; 5] {
        let (low, high) = bytes.split_at(8);
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap_or_default());
        let bytes = u64x2(word(low), word(high));
        let digits = u8x16(
            b'0', b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', b'9', b'a', b'b', b'c', b'd',
            b'e', b'f',
        );
        let highs = u8x16_swizzle(digits, u8x16_shr(bytes, 4));
        let lows = u8x16_swizzle(digits, v128_and(bytes, u8x16_splat(15)));
        let first =
            u8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(highs, lows);
        let second = u8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(
            highs, lows,
        );
        // Characters 0 to 15: of the second vector only a hyphen is taken.
        let hyphens = u8x16_splat(b'-');
        let start =
            u8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 16, 8, 9, 10, 11, 16, 12, 13>(first, hyphens);
        // Characters 16 to 31, with the hyphens put over what stands in their places.
        let middle = u8x16_shuffle::<14, 15, 0, 16, 17, 18, 19, 0, 20, 21, 22, 23, 24, 25, 26, 27>(
            first, second,
        );
        let places = u8x16(0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0);
        let middle = v128_bitselect(hyphens, middle, places);
        [
            u64x2_extract_lane::<0>(start),
            u64x2_extract_lane::<1>(start),
            u64x2_extract_lane::<0>(middle),
            u64x2_extract_lane::<1>(middle),
            u64::from(u32x4_extract_lane::<3>(second)),
        ]
    }
}

/// The same without vectors.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod text {
    #[inline(always)]
    pub(super) fn words(bytes: &[u8; 16]) -> [u64; 5] {
        let hex = |from: usize| {
            hex([
                bytes[from],
                bytes[from + 1],
                bytes[from + 2],
                bytes[from + 3],
            ])
        };
        let (a, b, c, d) = (hex(0), hex(4), hex(8), hex(12));
        const HYPHEN: u64 = b'-' as u64;
        [
            a,
            HYPHEN | b << 32 >> 24 | HYPHEN << 40 | b >> 32 << 48,
            b >> 48 | HYPHEN << 16 | c << 32 >> 8 | HYPHEN << 56,
            c >> 32 | d << 32,
            d >> 32,
        ]
    }

    /// Four bytes as eight hexadecimal digits, all at once in the bytes of a word, the first in the lowest.
    #[inline(always)]
    fn hex(bytes: [u8; 4]) -> u64 {
        let word = u64::from(u32::from_le_bytes(bytes));
        let pairs = (word | word << 16) & 0x0000_ffff_0000_ffff;
        let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
        let nibbles = (bytes >> 4 | bytes << 8) & 0x0f0f_0f0f_0f0f_0f0f;
        // 1 where the digit is a letter, which stands 39 after the digits' place in ASCII.
        let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        nibbles + 0x3030_3030_3030_3030 + letters * 39
    }
}

/// One block of the key stream: D. J. Bernstein's cipher with eight rounds, a 64-bit counter and a 64-bit nonce.
#[inline]
fn chacha8(key: &[u32; 8], block: u64, stream: u64) -> [u32; 16] {
    // "expand 32-byte k"
    let constants = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    let place = [
        block as u32,
        (block >> 32) as u32,
        stream as u32,
        (stream >> 32) as u32,
    ];
    let start = [
        row::load(constants),
        row::load([key[0], key[1], key[2], key[3]]),
        row::load([key[4], key[5], key[6], key[7]]),
        row::load(place),
    ];
    let mut rows = start;
    for _ in 0..4 {
        rows = quarter_rounds(rows);
        let [a, b, c, d] = rows;
        // The diagonals become columns, and go back.
        let [a, b, c, d] = quarter_rounds([a, row::left1(b), row::left2(c), row::left3(d)]);
        rows = [a, row::left3(b), row::left2(c), row::left1(d)];
    }
    let mut words = [0; 16];
    for (index, to) in words.as_chunks_mut().0.iter_mut().enumerate() {
        *to = row::words(row::add(rows[index], start[index]));
    }
    words
}

/// A quarter round of each of the four columns.
#[inline(always)]
fn quarter_rounds([mut a, mut b, mut c, mut d]: [row::Row; 4]) -> [row::Row; 4] {
    a = row::add(a, b);
    d = row::turn::<16, 16>(row::xor(d, a));
    c = row::add(c, d);
    b = row::turn::<12, 20>(row::xor(b, c));
    a = row::add(a, b);
    d = row::turn::<8, 24>(row::xor(d, a));
    c = row::add(c, d);
    b = row::turn::<7, 25>(row::xor(b, c));
    [a, b, c, d]
}

/// Four words at once, in a vector of the machine's.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod row {
    use core::arch::wasm32::*;

    pub(super) type Row = v128;
    pub(super) use core::arch::wasm32::{i32x4_add as add, v128_xor as xor};

    #[inline(always)]
    pub(super) fn load([a, b, c, d]: [u32; 4]) -> Row {
        u32x4(a, b, c, d)
    }

    #[inline(always)]
    pub(super) fn words(row: Row) -> [u32; 4] {
        [
            u32x4_extract_lane::<0>(row),
            u32x4_extract_lane::<1>(row),
            u32x4_extract_lane::<2>(row),
            u32x4_extract_lane::<3>(row),
        ]
    }

    /// Turns each word left by `LEFT` bits, which is right by `RIGHT`.
    #[inline(always)]
    pub(super) fn turn<const LEFT: u32, const RIGHT: u32>(row: Row) -> Row {
        v128_or(u32x4_shl(row, LEFT), u32x4_shr(row, RIGHT))
    }

    #[inline(always)]
    pub(super) fn left1(row: Row) -> Row {
        i32x4_shuffle::<1, 2, 3, 0>(row, row)
    }

    #[inline(always)]
    pub(super) fn left2(row: Row) -> Row {
        i32x4_shuffle::<2, 3, 0, 1>(row, row)
    }

    #[inline(always)]
    pub(super) fn left3(row: Row) -> Row {
        i32x4_shuffle::<3, 0, 1, 2>(row, row)
    }
}

/// Four words at once, as the compiler sees fit.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod row {
    pub(super) type Row = [u32; 4];

    #[inline(always)]
    pub(super) fn load(words: [u32; 4]) -> Row {
        words
    }

    #[inline(always)]
    pub(super) fn words(row: Row) -> [u32; 4] {
        row
    }

    #[inline(always)]
    pub(super) fn add(a: Row, b: Row) -> Row {
        std::array::from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }

    #[inline(always)]
    pub(super) fn xor(a: Row, b: Row) -> Row {
        std::array::from_fn(|lane| a[lane] ^ b[lane])
    }

    /// Turns each word left by `LEFT` bits, which is right by `RIGHT`.
    #[inline(always)]
    pub(super) fn turn<const LEFT: u32, const RIGHT: u32>(row: Row) -> Row {
        row.map(|word| word << LEFT | word >> RIGHT)
    }

    #[inline(always)]
    pub(super) fn left1([a, b, c, d]: Row) -> Row {
        [b, c, d, a]
    }

    #[inline(always)]
    pub(super) fn left2([a, b, c, d]: Row) -> Row {
        [c, d, a, b]
    }

    #[inline(always)]
    pub(super) fn left3([a, b, c, d]: Row) -> Row {
        [d, a, b, c]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    fn reference(key: [u8; 32], offset: u64, stream: u64) -> [u8; 16] {
        let mut cipher = ChaCha8Rng::from_seed(key);
        cipher.set_stream(stream);
        cipher.set_word_pos(u128::from(offset) * 4);
        let mut bytes = [0; 16];
        cipher.fill_bytes(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn draws_are_the_ciphers(
            key: [u8; 32],
            positions in prop::collection::vec((prop_oneof![0..20u64, 0..1u64 << 63], 0..3u32), 1..20),
        ) {
            let mut ids = Ids::new(&key);
            for (offset, ordinal) in positions {
                ids.begin();
                for draw in 0..3 {
                    let stream = u64::from(ordinal) << 32 | draw;
                    prop_assert_eq!(ids.draw(offset, ordinal), reference(key, offset, stream));
                }
            }
        }

        #[test]
        fn texts_are_those_of_the_uuid_crate(bytes: [u8; 16], millis in 0..1i64 << 48) {
            for id in [v4(bytes), v7(millis, bytes).expect("48 bits"), Uuid::from_bytes(bytes)] {
                let mut text = Vec::new();
                write_json(&id, &mut text);
                prop_assert_eq!(text, format!("\"{id}\"").into_bytes());
            }
            let id = v7(millis, bytes).expect("48 bits");
            prop_assert_eq!((id.as_u128() >> 80) as i64, millis);
        }
    }

    #[test]
    fn the_last_offset_has_its_own_block() {
        let last = (1 << 63) - 1;
        assert_eq!(
            Ids::new(&[1; 32]).draw(last, u32::MAX),
            reference([1; 32], last, u64::from(u32::MAX) << 32)
        );
        assert_eq!(v7(-1, [0; 16]), None);
        assert_eq!(v7(1 << 48, [0; 16]), None);
    }
}
