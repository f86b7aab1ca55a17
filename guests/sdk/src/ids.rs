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

/// The draws of one batch.
pub(crate) struct Ids {
    key: [u32; 8],
    /// Block and stream of `words`.
    at: Option<(u64, u64)>,
    /// The last block.
    words: [u32; 16],
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
            words: [0; 16],
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
    #[inline]
    pub(crate) fn draw(&mut self, offset: u64, ordinal: u32) -> [u8; 16] {
        let stream = u64::from(ordinal) << 32 | u64::from(self.drawn);
        self.drawn = self
            .drawn
            .checked_add(1)
            .expect("a record draws less than 2^32 ids");
        let block = offset / 4;
        if self.at != Some((block, stream)) {
            self.words = chacha8(&self.key, block, stream);
            self.at = Some((block, stream));
        }
        let first = (offset % 4) as usize * 4;
        let mut bytes = [0; 16];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(&self.words[first..]) {
            *to = word.to_le_bytes();
        }
        bytes
    }
}

/// Sets the version and variant of random bytes.
#[inline]
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

/// An id's text: 36 characters, lower case, with hyphens.
#[inline]
pub fn text(id: &Uuid) -> [u8; 36] {
    let bytes = id.as_bytes();
    let hex = |from: usize| {
        hex([
            bytes[from],
            bytes[from + 1],
            bytes[from + 2],
            bytes[from + 3],
        ])
    };
    let (a, b, c, d) = (hex(0), hex(4), hex(8), hex(12));
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&a);
    text[9..13].copy_from_slice(&b[..4]);
    text[14..18].copy_from_slice(&b[4..]);
    text[19..23].copy_from_slice(&c[..4]);
    text[24..28].copy_from_slice(&c[4..]);
    text[28..].copy_from_slice(&d);
    text
}

/// Four bytes as eight hexadecimal digits, all at once in the bytes of a word.
#[inline(always)]
fn hex(bytes: [u8; 4]) -> [u8; 8] {
    let word = u64::from(u32::from_le_bytes(bytes));
    let pairs = (word | word << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes >> 4 | bytes << 8) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 where the digit is a letter, which stands 39 after the digits' place in ASCII.
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * 39).to_le_bytes()
}

/// One block of the key stream: D. J. Bernstein's cipher with eight rounds, a 64-bit counter and a 64-bit nonce.
#[inline]
fn chacha8(key: &[u32; 8], block: u64, stream: u64) -> [u32; 16] {
    type Row = [u32; 4];
    #[inline(always)]
    fn add(a: Row, b: Row) -> Row {
        std::array::from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }
    #[inline(always)]
    fn xor_turn(a: Row, b: Row, bits: u32) -> Row {
        std::array::from_fn(|lane| (a[lane] ^ b[lane]).rotate_left(bits))
    }
    /// The four columns at once.
    #[inline(always)]
    fn quarter_rounds([mut a, mut b, mut c, mut d]: [Row; 4]) -> [Row; 4] {
        a = add(a, b);
        d = xor_turn(d, a, 16);
        c = add(c, d);
        b = xor_turn(b, c, 12);
        a = add(a, b);
        d = xor_turn(d, a, 8);
        c = add(c, d);
        b = xor_turn(b, c, 7);
        [a, b, c, d]
    }
    #[inline(always)]
    fn shift<const N: usize>(row: Row) -> Row {
        std::array::from_fn(|lane| row[(lane + N) % 4])
    }
    let start = [
        // "expand 32-byte k"
        [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574],
        [key[0], key[1], key[2], key[3]],
        [key[4], key[5], key[6], key[7]],
        [
            block as u32,
            (block >> 32) as u32,
            stream as u32,
            (stream >> 32) as u32,
        ],
    ];
    let mut rows = start;
    for _ in 0..4 {
        rows = quarter_rounds(rows);
        let [a, b, c, d] = rows;
        // The diagonals become columns, and go back.
        let [a, b, c, d] = quarter_rounds([a, shift::<1>(b), shift::<2>(c), shift::<3>(d)]);
        rows = [a, shift::<3>(b), shift::<2>(c), shift::<1>(d)];
    }
    let mut words = [0; 16];
    for (to, (row, start)) in words
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(rows.into_iter().zip(start))
    {
        *to = add(row, start);
    }
    words
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
                prop_assert_eq!(text(&id).to_vec(), id.to_string().into_bytes());
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
