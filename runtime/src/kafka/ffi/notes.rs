//! Offsets with a note: what a group keeps beside an offset, which Kafka calls its metadata.

use std::ffi::CString;
use std::slice;

use anyhow::{Context, Error};
use rdkafka_sys as sys;

use super::{Failure, PartitionList, take_error};

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

/// The membership of a group that has no members, as a source's client would write its own down.
pub(in crate::kafka) fn membership_of(group: &str) -> Result<Vec<u8>, Error> {
    let name = CString::new(group)
        .with_context(|| format!("a group's name can't have a NUL byte: {group:?}"))?;
    let (mut buffer, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the name is NUL-terminated and copied; the membership is ours until it's destroyed; the bytes that it is
    // written to are ours, `size` of them, and freed with the C library's `free` once copied. The error is ours.
    unsafe {
        let membership = sys::rd_kafka_consumer_group_metadata_new(name.as_ptr());
        let written = take_error(sys::rd_kafka_consumer_group_metadata_write(
            membership,
            &mut buffer,
            &mut size,
        ));
        sys::rd_kafka_consumer_group_metadata_destroy(membership);
        written.map_err(|failure: Failure| Error::from(failure))?;
        let bytes = slice::from_raw_parts(buffer.cast::<u8>(), size).to_vec();
        libc::free(buffer);
        Ok(bytes)
    }
}
