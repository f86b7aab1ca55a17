//! Sixteen bytes at a time: which of them end a run of plain string bytes, and which are digits.
//!
//! A mask has bit `i` set for byte `i`. Three ways to the same masks: Wasm's 128-bit vectors, SSE2 where guests are
//! tested natively, and plain code elsewhere.

/// Sixteen bytes of a text.
pub(crate) type Block = [u8; 16];

/// The sixteen bytes from `pos` on. Past the end of the text they are 0, which is neither a digit nor allowed in a
/// string.
#[inline(always)]
pub(crate) fn masked(text: &[u8], pos: usize, mask: impl Fn(&Block) -> u32) -> u32 {
    if let Some(block) = text.get(pos..).and_then(<[u8]>::first_chunk) {
        return mask(block);
    }
    match text.last_chunk::<16>() {
        // The last sixteen bytes, without those before `pos`.
        Some(block) if pos <= text.len() => mask(block) >> (pos + 16 - text.len()),
        _ => {
            let mut block = [0; 16];
            for (to, from) in block.iter_mut().zip(text.get(pos..).unwrap_or_default()) {
                *to = *from;
            }
            let inside = text.len().saturating_sub(pos) as u32;
            mask(&block) & !(u32::MAX << inside)
        }
    }
}

/// A text of 32 bytes and more, in which as many can be looked at from any place without asking whether they're there.
#[derive(Clone, Copy)]
pub(crate) struct Long<'t> {
    text: &'t [u8],
}

/// The least length of a [`Long`] text.
const LONG: usize = 32;

impl<'t> Long<'t> {
    /// `None` if the text is shorter.
    #[inline(always)]
    pub(crate) fn new(text: &'t [u8]) -> Option<Long<'t>> {
        (text.len() >= LONG).then_some(Long { text })
    }

    /// The mask of the sixteen bytes from `pos` on, at most the text's length; 0 past its end.
    #[inline(always)]
    pub(crate) fn mask16(self, pos: usize, mask: impl Fn(&Block) -> u32) -> u32 {
        let start = pos.min(self.text.len() - 16);
        mask(self.block(start)) >> (pos - start)
    }

    /// The mask of the 32 bytes from `pos` on, at most the text's length; 0 past its end.
    #[inline(always)]
    pub(crate) fn mask32(self, pos: usize, mask: impl Fn(&Block) -> u32) -> u64 {
        let start = pos.min(self.text.len() - 32);
        let low = mask(self.block(start));
        let high = mask(self.block(start + 16));
        u64::from(low | high << 16) >> (pos - start)
    }

    /// The last sixteen bytes.
    #[inline(always)]
    pub(crate) fn last(self) -> &'t Block {
        self.block(self.text.len() - 16)
    }

    #[inline(always)]
    fn block(self, start: usize) -> &'t Block {
        debug_assert!(start + 16 <= self.text.len());
        // SAFETY: the callers keep `start` at least sixteen bytes before the end of the text, which has 32 or more.
        unsafe { &*self.text.as_ptr().add(start).cast::<Block>() }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod vector {
    use core::arch::wasm32::*;

    use super::Block;

    #[inline(always)]
    fn load(block: &Block) -> v128 {
        let (low, high) = block.split_at(8);
        // Two loads of eight bytes, which the compiler joins into one of sixteen.
        u64x2(
            u64::from_le_bytes(low.try_into().unwrap_or_default()),
            u64::from_le_bytes(high.try_into().unwrap_or_default()),
        )
    }

    /// Quotes, backslashes, control characters and bytes of 0x80 and above.
    #[inline(always)]
    pub(crate) fn string_stops(block: &Block) -> u32 {
        let bytes = load(block);
        let quotes = i8x16_eq(bytes, i8x16_splat(b'"' as i8));
        let backslashes = i8x16_eq(bytes, i8x16_splat(b'\\' as i8));
        // Signed, so that bytes of 0x80 and above are below 0x20 too.
        let others = i8x16_lt(bytes, i8x16_splat(0x20));
        u32::from(i8x16_bitmask(v128_or(v128_or(quotes, backslashes), others)))
    }

    /// Quotes, backslashes and control characters.
    #[inline(always)]
    pub(crate) fn text_stops(block: &Block) -> u32 {
        let bytes = load(block);
        let quotes = i8x16_eq(bytes, i8x16_splat(b'"' as i8));
        let backslashes = i8x16_eq(bytes, i8x16_splat(b'\\' as i8));
        let controls = u8x16_lt(bytes, u8x16_splat(0x20));
        u32::from(i8x16_bitmask(v128_or(
            v128_or(quotes, backslashes),
            controls,
        )))
    }

    /// Bytes that are the same in both.
    #[inline(always)]
    pub(crate) fn equal(one: &Block, other: &Block) -> u32 {
        u32::from(i8x16_bitmask(i8x16_eq(load(one), load(other))))
    }

    /// ASCII digits.
    #[inline(always)]
    pub(crate) fn digits(block: &Block) -> u32 {
        let from_zero = u8x16_sub(load(block), u8x16_splat(b'0'));
        u32::from(i8x16_bitmask(u8x16_lt(from_zero, u8x16_splat(10))))
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod vector {
    // SAFETY of every block here: this module is only compiled where the target has SSE2, which is all that its
    // functions ask for; the one that reads memory reads the sixteen bytes of a `Block`, unaligned.
    use core::arch::x86_64::*;

    use super::Block;

    #[inline(always)]
    fn load(block: &Block) -> __m128i {
        // SAFETY: see above.
        unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
    }

    /// Quotes, backslashes, control characters and bytes of 0x80 and above.
    #[inline(always)]
    pub(crate) fn string_stops(block: &Block) -> u32 {
        // SAFETY: see above.
        unsafe {
            let bytes = load(block);
            let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
            let backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            // Signed, so that bytes of 0x80 and above are below 0x20 too.
            let others = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, backslashes), others)) as u32
        }
    }

    /// Quotes, backslashes and control characters.
    #[inline(always)]
    pub(crate) fn text_stops(block: &Block) -> u32 {
        // SAFETY: see above.
        unsafe {
            let bytes = load(block);
            let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
            let backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            let controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, backslashes), controls)) as u32
        }
    }

    /// Bytes that are the same in both.
    #[inline(always)]
    pub(crate) fn equal(one: &Block, other: &Block) -> u32 {
        // SAFETY: see above.
        unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(load(one), load(other))) as u32 }
    }

    /// ASCII digits.
    #[inline(always)]
    pub(crate) fn digits(block: &Block) -> u32 {
        // SAFETY: see above.
        unsafe {
            let from_zero = _mm_sub_epi8(load(block), _mm_set1_epi8(b'0' as i8));
            let inside = _mm_cmpeq_epi8(_mm_min_epu8(from_zero, _mm_set1_epi8(9)), from_zero);
            _mm_movemask_epi8(inside) as u32
        }
    }
}

/// The plain way: the fallback, and what the tests hold the others to.
#[cfg_attr(
    any(
        all(target_arch = "wasm32", target_feature = "simd128"),
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    allow(dead_code)
)]
mod scalar {
    use super::Block;

    fn mask(block: &Block, is_set: impl Fn(u8) -> bool) -> u32 {
        block
            .iter()
            .rev()
            .fold(0, |mask, &byte| mask << 1 | u32::from(is_set(byte)))
    }

    /// Quotes, backslashes, control characters and bytes of 0x80 and above.
    pub(crate) fn string_stops(block: &Block) -> u32 {
        mask(
            block,
            |byte| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x80..),
        )
    }

    /// Quotes, backslashes and control characters.
    pub(crate) fn text_stops(block: &Block) -> u32 {
        mask(block, |byte| matches!(byte, b'"' | b'\\' | 0..0x20))
    }

    /// Bytes that are the same in both.
    pub(crate) fn equal(one: &Block, other: &Block) -> u32 {
        (0..16).fold(0, |mask, index| {
            mask | u32::from(one[index] == other[index]) << index
        })
    }

    /// ASCII digits.
    pub(crate) fn digits(block: &Block) -> u32 {
        mask(block, |byte| byte.is_ascii_digit())
    }
}

#[cfg(not(any(
    all(target_arch = "wasm32", target_feature = "simd128"),
    all(target_arch = "x86_64", target_feature = "sse2")
)))]
pub(crate) use scalar::{digits, equal, string_stops, text_stops};
#[cfg(any(
    all(target_arch = "wasm32", target_feature = "simd128"),
    all(target_arch = "x86_64", target_feature = "sse2")
))]
pub(crate) use vector::{digits, equal, string_stops, text_stops};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_agree_with_the_plain_way_on_every_byte() {
        for byte in 0..=255u8 {
            for place in 0..16 {
                let mut block = [b'x'; 16];
                block[place] = byte;
                assert_eq!(string_stops(&block), scalar::string_stops(&block));
                assert_eq!(text_stops(&block), scalar::text_stops(&block));
                assert_eq!(digits(&block), scalar::digits(&block));
                let other = [b'x'; 16];
                assert_eq!(equal(&block, &other), scalar::equal(&block, &other));
            }
        }
    }

    #[test]
    fn a_mask_ends_with_the_text() {
        for len in 0..40 {
            let text = vec![b'1'; len];
            for pos in 0..=len {
                let expected = (len - pos).min(16) as u32;
                assert_eq!(masked(&text, pos, digits).count_ones(), expected);
                assert_eq!(masked(&text, pos, digits).trailing_ones(), expected);
            }
        }
    }
}
