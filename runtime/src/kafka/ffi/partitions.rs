//! Lists of partitions with offsets, as librdkafka takes and gives them.

use std::ffi::CString;
use std::ptr::NonNull;

use anyhow::{Context, Error};
use rdkafka_sys as sys;

use super::{Code, text};

/// A list of partitions, each with an offset and a code.
pub(in crate::kafka) struct PartitionList(NonNull<sys::rd_kafka_topic_partition_list_t>);

// SAFETY: the list is plain memory of its own, with no tie to a thread.
unsafe impl Send for PartitionList {}

/// One partition of a [`PartitionList`], copied out of it.
#[derive(Clone, Debug)]
pub(in crate::kafka) struct Entry {
    /// The topic.
    pub(in crate::kafka) topic: String,
    /// The partition.
    pub(in crate::kafka) partition: i32,
    /// The offset, or one of librdkafka's negative values.
    pub(in crate::kafka) offset: i64,
    /// What became of this partition in the last call.
    pub(in crate::kafka) code: Code,
}

impl PartitionList {
    /// The empty list.
    pub(in crate::kafka) fn new() -> PartitionList {
        // SAFETY: makes a new list, which is ours.
        let list = unsafe { sys::rd_kafka_topic_partition_list_new(8) };
        PartitionList(
            NonNull::new(list).expect("librdkafka ends the process when it's out of memory"),
        )
    }

    /// Appends a partition. Fails on a topic's name with a NUL byte.
    pub(in crate::kafka) fn add(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), Error> {
        let topic = CString::new(topic)
            .with_context(|| format!("a topic's name can't have a NUL byte: {topic:?}"))?;
        // SAFETY: the list lives; the name is copied; the returned element is valid until the next is added.
        unsafe {
            let element =
                sys::rd_kafka_topic_partition_list_add(self.as_ptr(), topic.as_ptr(), partition);
            (*element).offset = offset;
        }
        Ok(())
    }

    /// Changes an offset, and keeps what else the list knows of the partition.
    ///
    /// # Panics
    /// If `index` isn't below the number of partitions.
    pub(in crate::kafka) fn set_offset(&mut self, index: usize, offset: i64) {
        // SAFETY: the list lives and has `cnt` elements at `elems`.
        unsafe {
            let list = &mut *self.as_ptr();
            assert!(
                index < usize::try_from(list.cnt).unwrap_or(0),
                "no partition {index} in the list"
            );
            (*list.elems.add(index)).offset = offset;
        }
    }

    /// The partitions in order.
    pub(in crate::kafka) fn entries(&self) -> Vec<Entry> {
        // SAFETY: the list lives.
        unsafe { read(self.as_ptr()) }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.as_ptr()) };
    }
}

/// Copies a list out; null is empty.
///
/// # Safety
/// `list` is null, or a list that lives and isn't written to meanwhile.
pub(super) unsafe fn read(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<Entry> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list has `cnt` elements at `elems`; a code is read as the number that it is, since the bindings' enum
    // doesn't have those of newer brokers; a name is NUL-terminated.
    unsafe {
        (0..usize::try_from((*list).cnt).unwrap_or(0))
            .map(|index| {
                let element = (*list).elems.add(index);
                Entry {
                    topic: text((*element).topic),
                    partition: (*element).partition,
                    offset: (*element).offset,
                    code: Code((&raw const (*element).err).cast::<i32>().read()),
                }
            })
            .collect()
    }
}
