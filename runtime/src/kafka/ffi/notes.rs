//! Offsets with a note: what a group keeps beside an offset, which Kafka calls its metadata.

use std::slice;

use super::PartitionList;

impl PartitionList {
    /// Puts a note beside an offset, in place of the one that is there.
    ///
    /// # Panics
    /// If `index` isn't below the number of partitions, or if there's no memory.
    pub(in crate::kafka) fn set_note(&mut self, index: usize, note: &str) {
        // SAFETY: the list lives and has `cnt` elements at `elems`. A note is the list's to free, with the C library's
        // `free`, so that it's made with its `malloc`; it's written in full before the list has it.
        unsafe {
            let list = &mut *self.as_ptr();
            assert!(
                index < usize::try_from(list.cnt).unwrap_or(0),
                "no partition {index} in the list"
            );
            let element = &mut *list.elems.add(index);
            libc::free(element.metadata);
            element.metadata = std::ptr::null_mut();
            element.metadata_size = 0;
            if note.is_empty() {
                return;
            }
            let copy = libc::malloc(note.len());
            assert!(!copy.is_null(), "out of memory");
            copy.copy_from_nonoverlapping(note.as_ptr().cast(), note.len());
            element.metadata = copy;
            element.metadata_size = note.len();
        }
    }

    /// The notes beside the offsets, in order; empty where there is none.
    pub(in crate::kafka) fn notes(&self) -> Vec<Vec<u8>> {
        // SAFETY: the list lives and has `cnt` elements at `elems`; a note has as many bytes as the element says.
        unsafe {
            let list = &*self.as_ptr();
            (0..usize::try_from(list.cnt).unwrap_or(0))
                .map(|index| {
                    let element = &*list.elems.add(index);
                    match element.metadata.is_null() {
                        true => Vec::new(),
                        false => slice::from_raw_parts(
                            element.metadata.cast::<u8>(),
                            element.metadata_size,
                        )
                        .to_vec(),
                    }
                })
                .collect()
        }
    }
}
