//! Transactions, and the membership that a consumer's offsets are committed with.

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use anyhow::{Context, Error};
use rdkafka_sys as sys;

use super::partitions::PartitionList;
use super::producer::Reports;
use super::{Client, Failure, millis, take_error};

/// Why a call of a transaction isn't done, by what librdkafka wants done.
#[derive(Clone, Debug)]
pub(in crate::kafka) enum Undone {
    /// The same call once more: it goes on in the background, or can be repeated.
    Again(Failure),
    /// An abort.
    Abort(Failure),
    /// A new client.
    Fatal(Failure),
}

/// A consumer's membership in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kafka) struct Member {
    /// The group.
    pub(in crate::kafka) group: CString,
    /// The group's generation, or the member's epoch; -1 without a member.
    pub(in crate::kafka) generation: i32,
    /// The member's id; empty without one.
    pub(in crate::kafka) id: CString,
    /// The `group.instance.id`.
    pub(in crate::kafka) instance: Option<CString>,
}

impl Client {
    /// A consumer's membership as of now; `None` while it isn't in the group. Waits for librdkafka's threads, not for brokers.
    pub(in crate::kafka) fn member(&self) -> Option<Member> {
        // SAFETY: the client lives; the metadata, if there is any, is ours until it's destroyed, and its texts, which are
        // NUL-terminated, as long.
        unsafe {
            let metadata = sys::rd_kafka_consumer_group_metadata(self.as_ptr());
            if metadata.is_null() {
                return None;
            }
            let group = sys::rd_kafka_consumer_group_metadata_group_id(metadata);
            let id = sys::rd_kafka_consumer_group_metadata_member_id(metadata);
            let instance = sys::rd_kafka_consumer_group_metadata_group_instance_id(metadata);
            let member = Member {
                group: copy(group).unwrap_or_default(),
                generation: sys::rd_kafka_consumer_group_metadata_generation_id(metadata),
                id: copy(id).unwrap_or_default(),
                instance: copy(instance),
            };
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            // Before the first generation it's -1, and again once the group has put the member out.
            (member.generation >= 0).then_some(member)
        }
    }
}

/// The calls that wait for brokers. Those of them that serve the client need the reports; all of them are here, so that
/// they come one after the other.
impl Reports {
    /// Fences earlier producers of the same `transactional.id`, and waits for the end of their transactions.
    pub(in crate::kafka) fn init_transactions(&mut self, timeout: Duration) -> Result<(), Undone> {
        // SAFETY: the client lives; the error is ours.
        unsafe {
            take_undone(sys::rd_kafka_init_transactions(
                self.client.as_ptr(),
                millis(timeout),
            ))
        }
    }

    /// Makes offsets part of the transaction. Waits for `transaction.timeout.ms` at most, or a little more if a broker
    /// doesn't answer.
    pub(in crate::kafka) fn send_offsets(
        &mut self,
        offsets: &PartitionList,
        member: &Member,
    ) -> Result<(), Undone> {
        /// What is left of the transaction's time, says librdkafka; in fact all of it.
        const REST: c_int = -1;
        let instance = member.instance.as_ref();
        // SAFETY: the client and the list live; the texts are NUL-terminated and copied into the metadata, which is ours
        // and copied by the call; the error is ours.
        unsafe {
            let metadata = sys::rd_kafka_consumer_group_metadata_new_with_genid(
                member.group.as_ptr(),
                member.generation,
                member.id.as_ptr(),
                instance.map_or(std::ptr::null(), |it| it.as_ptr()),
            );
            let error = sys::rd_kafka_send_offsets_to_transaction(
                self.client.as_ptr(),
                offsets.as_ptr(),
                metadata,
                REST,
            );
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            take_undone(error)
        }
    }

    /// Delivers what isn't yet, and commits.
    pub(in crate::kafka) fn commit_transaction(&mut self, timeout: Duration) -> Result<(), Undone> {
        // SAFETY: the client lives; the callbacks write to what is heard, of which no reference exists meanwhile; the
        // error is ours.
        unsafe {
            take_undone(sys::rd_kafka_commit_transaction(
                self.client.as_ptr(),
                millis(timeout),
            ))
        }
    }

    /// Gives up on what isn't delivered, and aborts.
    pub(in crate::kafka) fn abort_transaction(&mut self, timeout: Duration) -> Result<(), Undone> {
        // SAFETY: as for a commit.
        unsafe {
            take_undone(sys::rd_kafka_abort_transaction(
                self.client.as_ptr(),
                millis(timeout),
            ))
        }
    }
}

impl Member {
    /// A group without its members: for offsets of a group that has none.
    pub(in crate::kafka) fn of_group(group: &str) -> Result<Member, Error> {
        Ok(Member {
            group: CString::new(group)
                .with_context(|| format!("a group's name can't have a NUL byte: {group:?}"))?,
            generation: -1,
            id: CString::default(),
            instance: None,
        })
    }
}

/// # Safety
/// `text` is null, or NUL-terminated and not written to meanwhile.
unsafe fn copy(text: *const c_char) -> Option<CString> {
    // SAFETY: as the caller says.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned())
}

/// Reads and frees an error object of a transaction's call.
///
/// # Safety
/// `error` is null, or an error object that is the caller's to free.
pub(super) unsafe fn take_undone(error: *mut sys::rd_kafka_error_t) -> Result<(), Undone> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the object lives until it's taken.
    unsafe {
        let kind: fn(Failure) -> Undone = match () {
            () if sys::rd_kafka_error_is_fatal(error) != 0 => Undone::Fatal,
            () if sys::rd_kafka_error_txn_requires_abort(error) != 0 => Undone::Abort,
            () if sys::rd_kafka_error_is_retriable(error) != 0 => Undone::Again,
            // "The general recommendation is to treat these errors as fatal", says rdkafka.h.
            () => Undone::Fatal,
        };
        take_error(error).map_err(kind)
    }
}
