//! Appending short byte strings without a call.
//!
//! A copy of unknown length is a `memory.copy` in Wasm, which the runtime answers with a call that costs more than
//! copying the some dozen bytes between two edits. Here up to 128 bytes are copied by overlapping loads and stores.

/// Appends bytes, as `Vec::extend_from_slice` does.
#[inline(always)]
pub fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = out.len();
    out.reserve(bytes.len());
    // SAFETY: there's room for the bytes after `len`, which don't overlap with what they're read from, since `out` is
    // borrowed mutably; `copy` writes all of them.
    unsafe {
        copy(bytes.as_ptr(), out.as_mut_ptr().add(len), bytes.len());
        out.set_len(len + bytes.len());
    }
}

/// Appends the first `N` bytes of some words.
#[inline(always)]
pub(crate) fn append_words<const N: usize, const WORDS: usize>(
    out: &mut Vec<u8>,
    words: [u64; WORDS],
) {
    const { assert!(N <= 8 * WORDS) };
    let len = out.len();
    out.reserve(8 * WORDS);
    // SAFETY: there's room for all words after `len`, and `N` bytes are no more than they have.
    unsafe {
        let to = out.as_mut_ptr().add(len);
        for (index, word) in words.into_iter().enumerate() {
            to.add(8 * index)
                .cast::<u64>()
                .write_unaligned(word.to_le());
        }
        out.set_len(len + N);
    }
}

/// Appends to a vector whose length and room are kept at hand: each byte that is written might be the vector's own
/// fields for all the compiler knows, so it would read them again for every piece.
pub(crate) struct Pen<'v> {
    out: &'v mut Vec<u8>,
    start: *mut u8,
    /// What has been written, the vector's bytes before included.
    len: usize,
    capacity: usize,
}

impl<'v> Pen<'v> {
    /// Sets aside room for so many bytes at least.
    #[inline(always)]
    pub(crate) fn new(out: &'v mut Vec<u8>, room: usize) -> Pen<'v> {
        out.reserve(room);
        Pen {
            start: out.as_mut_ptr(),
            len: out.len(),
            capacity: out.capacity(),
            out,
        }
    }

    /// Appends bytes.
    #[inline(always)]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if self.capacity - self.len < bytes.len() {
            self.grow(bytes.len());
        }
        // SAFETY: there's room for the bytes after `len`, and nothing else refers to it: the vector is borrowed.
        unsafe { copy(bytes.as_ptr(), self.start.add(self.len), bytes.len()) };
        self.len += bytes.len();
    }

    /// What has been written, the vector's bytes before included.
    #[inline(always)]
    pub(crate) fn written(&self) -> &[u8] {
        // SAFETY: the first `len` bytes have been written.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// Takes back all from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The vector gets its new length.
    #[inline(always)]
    pub(crate) fn finish(self) {
        // SAFETY: the first `len` bytes have been written, and are within the capacity.
        unsafe { self.out.set_len(self.len) };
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, more: usize) {
        // SAFETY: as in `finish`.
        unsafe { self.out.set_len(self.len) };
        self.out.reserve(more);
        self.start = self.out.as_mut_ptr();
        self.capacity = self.out.capacity();
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
type Sixteen = core::arch::wasm32::v128;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
type Sixteen = u128;

/// Copies bytes.
///
/// # Safety
/// `len` bytes can be read at `from` and written at `to`, and don't overlap.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    /// Copies a `T` at `at`.
    ///
    /// # Safety
    /// It can be read there and written there.
    #[inline(always)]
    unsafe fn one<T>(from: *const u8, to: *mut u8, at: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            let value = from.add(at).cast::<T>().read_unaligned();
            to.add(at).cast::<T>().write_unaligned(value);
        }
    }
    // SAFETY: each copy lies between 0 and `len`, as the branches see to.
    unsafe {
        match len {
            0 => {}
            1..4 => {
                one::<u8>(from, to, 0);
                one::<u8>(from, to, len / 2);
                one::<u8>(from, to, len - 1);
            }
            4..8 => {
                one::<u32>(from, to, 0);
                one::<u32>(from, to, len - 4);
            }
            8..16 => {
                one::<u64>(from, to, 0);
                one::<u64>(from, to, len - 8);
            }
            16..=128 => {
                if len > 32 {
                    if len > 64 {
                        one::<Sixteen>(from, to, 32);
                        one::<Sixteen>(from, to, 48);
                        one::<Sixteen>(from, to, len - 64);
                        one::<Sixteen>(from, to, len - 48);
                    }
                    one::<Sixteen>(from, to, 16);
                    one::<Sixteen>(from, to, len - 32);
                }
                one::<Sixteen>(from, to, 0);
                one::<Sixteen>(from, to, len - 16);
            }
            _ => from.copy_to_nonoverlapping(to, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_and_nothing_else() {
        let bytes: Vec<u8> = (0..=255).cycle().take(400).collect();
        for len in 0..300 {
            for from in [0, 1, 7] {
                let mut out = vec![9; 3];
                append(&mut out, &bytes[from..from + len]);
                assert_eq!(out[..3], [9; 3]);
                assert_eq!(out[3..], bytes[from..from + len]);
            }
        }
    }

    #[test]
    fn a_pen_writes_what_a_vector_would() {
        let bytes: Vec<u8> = (0..=255).cycle().take(400).collect();
        let mut out = vec![1, 2, 3];
        let mut expected = out.clone();
        let mut pen = Pen::new(&mut out, 5);
        for len in [0, 3, 40, 1, 300, 17] {
            pen.put(&bytes[..len]);
            expected.extend_from_slice(&bytes[..len]);
            assert_eq!(pen.written(), expected);
        }
        pen.truncate(50);
        pen.put(b"end");
        pen.finish();
        assert_eq!(out, [&expected[..50], b"end"].concat());
    }

    #[test]
    fn words_are_cut_to_the_length() {
        let mut out = vec![9];
        append_words::<11, 2>(&mut out, [u64::from_le_bytes(*b"abcdefgh"), 0x006b_6a69]);
        assert_eq!(out, b"\x09abcdefghijk");
    }
}
