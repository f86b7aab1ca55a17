//! librdkafka's C interface behind a small safe face: the one place of Weir's Kafka side with `unsafe` in it.
//!
//! rdkafka's own types have no way to read partition queues in batches, to be told of deliveries by callback, or to
//! read a header name that isn't UTF-8. What is here covers these ways, and the admin calls that it lacks; nothing here
//! decides anything.
//!
//! - `mod.rs`: error codes, settings, the client and how it ends.
//! - `admin.rs`: topics, groups and their offsets.
//! - `mock.rs`: the mock cluster.
//! - `notes.rs`: what a group keeps beside an offset.
//! - `partitions.rs`: lists of partitions with offsets.
//! - `producer.rs`: sending and deliveries.
//! - `properties.rs`: which settings there are.
//! - `queue.rs`: events, and the records of one partition.
//! - `transactions.rs`: transactions, and a consumer's membership in its group.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow, bail};
use rdkafka_sys as sys;

mod admin;
mod codes;
mod memory;
mod mock;
mod notes;
mod partitions;
mod producer;
mod properties;
mod queue;
mod transactions;

pub(super) use memory::share_arenas;
pub(super) use mock::Mock;
#[cfg(test)]
pub(super) use mock::Request;
pub(super) use partitions::{Entry, PartitionList};
pub(super) use producer::{Message, Producer, Refusal, Reports};
pub(super) use properties::{Property, properties};
pub(super) use queue::{ClientEvent, PartitionQueue, Queue};
pub(super) use transactions::{Member, Undone};

/// An error code of librdkafka or of a broker; 0 is none. A number rather than the bindings' enum, since a newer
/// broker sends codes that the enum doesn't know.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Code(pub(super) i32);

/// Between two questions to a group's coordinator that isn't ready.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);

impl Code {
    /// A message doesn't fit the send queue.
    pub(super) const QUEUE_FULL: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL);
    /// The client can't go on.
    pub(super) const FATAL: Code = Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FATAL);
    /// The client is in no state to do this now.
    pub(super) const STATE: Code = Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__STATE);
    /// An earlier call of the same kind isn't done.
    pub(super) const PREV_IN_PROGRESS: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS);
    /// The committed offset isn't in the partition (any more).
    pub(super) const AUTO_OFFSET_RESET: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET);
    /// Nothing more is in the partition at the moment; comes only if it's asked for.
    pub(super) const PARTITION_EOF: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF);
    /// A commit had nothing to commit.
    pub(super) const NO_OFFSET: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NO_OFFSET);
    /// A message is larger than the client or the topic takes.
    pub(super) const MSG_SIZE_TOO_LARGE: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    /// A request's records are larger than the topic takes at once.
    pub(super) const RECORD_LIST_TOO_LARGE: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE);
    /// The broker's checks refuse a record.
    pub(super) const INVALID_RECORD: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INVALID_RECORD);
    /// A timestamp is too far from the broker's time.
    pub(super) const INVALID_TIMESTAMP: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP);
    /// A policy that the cluster's owner has written refuses it.
    pub(super) const POLICY_VIOLATION: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_POLICY_VIOLATION);
    /// The partition doesn't exist.
    pub(super) const UNKNOWN_PARTITION: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION);
    /// The topic doesn't exist.
    pub(super) const UNKNOWN_TOPIC: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC);
    /// The topic or partition doesn't exist, says the broker.
    pub(super) const UNKNOWN_TOPIC_OR_PART: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    /// The broker isn't the group's coordinator any more, or not yet.
    pub(super) const NOT_COORDINATOR: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NOT_COORDINATOR);
    /// The coordinator reads what it must know of its groups.
    pub(super) const COORDINATOR_LOADING: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    /// The group has no coordinator at the moment.
    pub(super) const NO_COORDINATOR: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE);
    /// The group has shared its partitions anew since.
    pub(super) const ILLEGAL_GENERATION: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION);
    /// The member stands behind its group, which is sharing its partitions anew (KIP-848).
    pub(super) const STALE_MEMBER_EPOCH: Code = Code(113);
    /// The group is about to share its partitions anew.
    pub(super) const REBALANCE_IN_PROGRESS: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS);
    /// Another producer has taken this one's place, in librdkafka's word for all of the broker's.
    pub(super) const FENCED: Code = Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FENCED);
    /// Another producer has the same `transactional.id` and came later.
    pub(super) const PRODUCER_FENCED: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_PRODUCER_FENCED);
    /// As [`Code::PRODUCER_FENCED`], from older brokers and where records are written.
    pub(super) const INVALID_PRODUCER_EPOCH: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH);
    /// The user may not use this `transactional.id`.
    pub(super) const TRANSACTIONAL_ID_DENIED: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    /// The user may not do this with the topic.
    pub(super) const TOPIC_DENIED: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    /// The user may not do this with the group.
    pub(super) const GROUP_DENIED: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
    /// Transactions may not take so long.
    pub(super) const TRANSACTION_TIMEOUT_DENIED: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT);
    /// Another member has the same `group.instance.id` and came later.
    pub(super) const FENCED_INSTANCE: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID);
    /// The time is over.
    pub(super) const TIMED_OUT: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT);
    /// No broker knows the request.
    pub(super) const UNSUPPORTED: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE);
    /// The topic exists already.
    pub(super) const TOPIC_ALREADY_EXISTS: Code =
        Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS);

    const fn of(code: sys::rd_kafka_resp_err_t) -> Code {
        Code(code as i32)
    }

    /// Whether this is no error.
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// `Ok` if this is no error, otherwise an error that says so.
    pub(super) fn into_result(self) -> Result<(), Error> {
        match self.is_none() {
            true => Ok(()),
            false => Err(anyhow!("{self}")),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(code) = sys::rd_kafka_resp_err_t::try_from(self.0) else {
            return write!(f, "error {} of the broker", self.0);
        };
        // SAFETY: both return static, NUL-terminated texts for every code of the enum.
        let (text, name) = unsafe {
            (
                CStr::from_ptr(sys::rd_kafka_err2str(code)),
                CStr::from_ptr(sys::rd_kafka_err2name(code)),
            )
        };
        write!(f, "{} ({})", text.to_string_lossy(), name.to_string_lossy())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Settings on their way into a client.
pub(super) struct Conf(NonNull<sys::rd_kafka_conf_t>);

impl Conf {
    /// Settings as librdkafka knows them, and its log on its way to ours. A value that is refused isn't named in the
    /// error if `secret` says so of its key.
    pub(super) fn new(
        settings: &[(String, String)],
        secret: &dyn Fn(&str) -> bool,
    ) -> Result<Conf, Error> {
        // SAFETY: makes a new object, which is ours.
        let conf = NonNull::new(unsafe { sys::rd_kafka_conf_new() }).context("out of memory")?;
        let conf = Conf(conf);
        // SAFETY: `conf` lives; the callback is a plain function without state.
        unsafe { sys::rd_kafka_conf_set_log_cb(conf.0.as_ptr(), Some(log)) };
        for (key, value) in settings {
            conf.set(key, value).map_err(|text| match secret(key) {
                true => anyhow!("the value of \"{key}\" is refused by librdkafka"),
                false => anyhow!("\"{key}\": {text}"),
            })?;
        }
        Ok(conf)
    }

    fn set(&self, key: &str, value: &str) -> Result<(), String> {
        let name = CString::new(key).map_err(|_| "the key has a NUL byte in it".to_string())?;
        let value =
            CString::new(value).map_err(|_| "the value has a NUL byte in it".to_string())?;
        let mut text = ErrorText::new();
        // SAFETY: `conf` lives, both texts are NUL-terminated and copied, and the error text is as long as we say.
        let result = unsafe {
            sys::rd_kafka_conf_set(
                self.0.as_ptr(),
                name.as_ptr(),
                value.as_ptr(),
                text.as_mut_ptr(),
                ErrorText::LENGTH,
            )
        };
        match result {
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            _ => Err(text.to_string()),
        }
    }

    fn as_ptr(&self) -> *mut sys::rd_kafka_conf_t {
        self.0.as_ptr()
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: ours, and not given to a client (which forgets the `Conf`).
        unsafe { sys::rd_kafka_conf_destroy(self.0.as_ptr()) };
    }
}

/// A client: a consumer or a producer. Everything that is made of it holds an `Arc` of it.
pub(super) struct Client(NonNull<sys::rd_kafka_t>);

// SAFETY: librdkafka's functions on a handle may be called from any thread at any time.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// A consumer. What happens to it (rebalances, commits, errors) comes as events on [`Queue::of_consumer`].
    pub(super) fn consumer(conf: Conf) -> Result<Arc<Client>, Error> {
        let events = sys::RD_KAFKA_EVENT_REBALANCE
            | sys::RD_KAFKA_EVENT_OFFSET_COMMIT
            | sys::RD_KAFKA_EVENT_STATS
            | sys::RD_KAFKA_EVENT_ERROR;
        // SAFETY: `conf` lives.
        unsafe { sys::rd_kafka_conf_set_events(conf.as_ptr(), events) };
        let client = Client::new(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, conf)?;
        // SAFETY: the client lives.
        let code = unsafe { sys::rd_kafka_poll_set_consumer(client.as_ptr()) };
        Code::of(code).into_result()?;
        Ok(Arc::new(client))
    }

    /// A client for questions about the cluster: no group, no records, nothing to be polled.
    pub(super) fn admin(conf: Conf) -> Result<Arc<Client>, Error> {
        let client = Client::new(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, conf)?;
        Ok(Arc::new(client))
    }

    fn new(kind: sys::rd_kafka_type_t, conf: Conf) -> Result<Client, Error> {
        let mut text = ErrorText::new();
        // SAFETY: `conf` lives, and the error text is as long as we say.
        let client =
            unsafe { sys::rd_kafka_new(kind, conf.as_ptr(), text.as_mut_ptr(), ErrorText::LENGTH) };
        let Some(client) = NonNull::new(client) else {
            bail!("can't make the Kafka client: {text}");
        };
        // The client has taken the settings over.
        std::mem::forget(conf);
        Ok(Client(client))
    }

    /// Subscribes to topics, or to patterns that start with `^`.
    pub(super) fn subscribe(&self, topics: &[String]) -> Result<(), Error> {
        let mut list = PartitionList::new();
        for topic in topics {
            list.add(topic, UNASSIGNED, 0)?;
        }
        // SAFETY: the client and the list live; the list is copied.
        let code = unsafe { sys::rd_kafka_subscribe(self.as_ptr(), list.as_ptr()) };
        Code::of(code).into_result()
    }

    /// Whether the rebalance protocol of the group adds and takes partitions one by one.
    pub(super) fn is_cooperative(&self) -> bool {
        // SAFETY: the client lives; the text, if there is one, is static.
        unsafe {
            let protocol = sys::rd_kafka_rebalance_protocol(self.as_ptr());
            !protocol.is_null() && CStr::from_ptr(protocol).to_bytes() == b"COOPERATIVE"
        }
    }

    /// Whether the partitions that are being revoked are somebody else's already.
    pub(super) fn is_assignment_lost(&self) -> bool {
        // SAFETY: the client lives.
        unsafe { sys::rd_kafka_assignment_lost(self.as_ptr()) == 1 }
    }

    /// Replaces the assignment; `None` empties it.
    pub(super) fn assign(&self, list: Option<&PartitionList>) -> Result<(), Error> {
        let list = list.map_or(std::ptr::null_mut(), PartitionList::as_ptr);
        // SAFETY: the client lives, and the list, which is copied, lives or is null.
        Code::of(unsafe { sys::rd_kafka_assign(self.as_ptr(), list) }).into_result()
    }

    /// Adds to the assignment.
    pub(super) fn incremental_assign(&self, list: &PartitionList) -> Result<(), Error> {
        // SAFETY: the client and the list live; the list is copied; the error is ours.
        unsafe {
            take_error(sys::rd_kafka_incremental_assign(
                self.as_ptr(),
                list.as_ptr(),
            ))
        }
        .map_err(|failure| failure.into())
    }

    /// Takes from the assignment.
    pub(super) fn incremental_unassign(&self, list: &PartitionList) -> Result<(), Error> {
        // SAFETY: the client and the list live; the list is copied; the error is ours.
        unsafe {
            take_error(sys::rd_kafka_incremental_unassign(
                self.as_ptr(),
                list.as_ptr(),
            ))
        }
        .map_err(|failure| failure.into())
    }

    /// Seeks; each partition of the list comes back with its own code. What was fetched before is outdated when this
    /// returns, whatever the result.
    pub(super) fn seek(&self, list: &PartitionList, timeout: Duration) -> Result<(), Failure> {
        // SAFETY: the client and the list live, the list is written to only during the call; the error is ours.
        unsafe {
            take_error(sys::rd_kafka_seek_partitions(
                self.as_ptr(),
                list.as_ptr(),
                millis(timeout),
            ))
        }
    }

    /// Fills in the offset after the last record that was handed out of each partition, or passed over; negative if
    /// there is none. Asks nobody.
    pub(super) fn position(&self, list: &PartitionList) -> Code {
        // SAFETY: the client and the list live, the list is written to only during the call.
        Code::of(unsafe { sys::rd_kafka_position(self.as_ptr(), list.as_ptr()) })
    }

    /// Fills in the group's committed offsets; negative if there is none. With `isolation.level=read_committed` the client
    /// itself waits while a transaction has yet to decide: it asks again at intervals of up to a second.
    pub(super) fn committed(&self, list: &PartitionList, timeout: Duration) -> Code {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // SAFETY: the client and the list live, the list is written to only during the call.
            let code = Code(unsafe {
                codes::rd_kafka_committed(self.as_ptr(), list.as_ptr(), millis(left))
            });
            // A group's coordinator moves, or is only just made for it; the client doesn't ask again by itself.
            match code {
                Code::NOT_COORDINATOR | Code::COORDINATOR_LOADING | Code::NO_COORDINATOR
                    if left > COORDINATOR_PAUSE =>
                {
                    std::thread::sleep(COORDINATOR_PAUSE);
                }
                code => return code,
            }
        }
    }

    /// Turns the times (in milliseconds) in the list's offsets into offsets of the first records at or after them. -1
    /// for the end, -2 for the beginning; a time after the last record comes back as -1.
    pub(super) fn offsets_for_times(&self, list: &PartitionList, timeout: Duration) -> Code {
        // SAFETY: the client and the list live, the list is written to only during the call.
        Code(unsafe {
            codes::rd_kafka_offsets_for_times(self.as_ptr(), list.as_ptr(), millis(timeout))
        })
    }

    /// Commits; the result comes as an event on `answer`.
    pub(super) fn commit(&self, list: &PartitionList, answer: &Queue) -> Result<(), Error> {
        // SAFETY: the client, the list and the queue live; the list is copied; there is no callback.
        let code = unsafe {
            sys::rd_kafka_commit_queue(
                self.as_ptr(),
                list.as_ptr(),
                answer.as_ptr(),
                None,
                std::ptr::null_mut(),
            )
        };
        Code::of(code).into_result()
    }

    /// The fatal error that has stopped the client, if one has.
    pub(super) fn fatal_error(&self) -> Option<Failure> {
        let mut text = ErrorText::new();
        // SAFETY: the client lives, and the error text is as long as we say.
        let code = unsafe {
            codes::rd_kafka_fatal_error(self.as_ptr(), text.as_mut_ptr(), ErrorText::LENGTH)
        };
        let code = Code(code);
        (!code.is_none()).then(|| Failure {
            code,
            text: text.to_string(),
        })
    }

    /// Leaves the group and stops fetching, giving up what is still assigned. Goes on without an answer after
    /// `timeout`; what is assigned then stays so for the others until the session times out.
    pub(super) fn close_consumer(self: &Arc<Client>, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let queue = Queue::new(self);
        // SAFETY: the client and the queue live; the error is ours.
        let begun = unsafe {
            take_error(sys::rd_kafka_consumer_close_queue(
                self.as_ptr(),
                queue.as_ptr(),
            ))
        };
        if begun.is_err() {
            return;
        }
        // SAFETY: the client lives.
        let closed = || unsafe { sys::rd_kafka_consumer_closed(self.as_ptr()) } != 0;
        while !closed() {
            let now = Instant::now();
            if now >= deadline {
                return;
            }
            if let Some(ClientEvent::Assign(_) | ClientEvent::Revoke(_)) =
                queue.poll((deadline - now).min(Duration::from_millis(100)))
                // A consumer that has closed meanwhile doesn't answer any more.
                && !closed()
            {
                // A client that is closing has nothing left to take or to keep.
                let _ = self.assign(None);
            }
        }
    }

    fn as_ptr(&self) -> *mut sys::rd_kafka_t {
        self.0.as_ptr()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A consumer was closed before, as far as it would; closing it here could wait for ever.
        // SAFETY: ours, and nothing that is made of it is left, since all of that holds an `Arc` of it.
        unsafe {
            sys::rd_kafka_destroy_flags(self.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
        };
    }
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The kind.
    pub(super) code: Code,
    /// What librdkafka says of it.
    pub(super) text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.is_empty() {
            true => write!(f, "{}", self.code),
            false => write!(f, "{}: {}", self.code, self.text),
        }
    }
}

impl std::error::Error for Failure {}

/// Reads and frees an error object.
///
/// # Safety
/// `error` is null, or an error object that is the caller's to free.
unsafe fn take_error(error: *mut sys::rd_kafka_error_t) -> Result<(), Failure> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the object lives until it is destroyed here; the text is copied before.
    unsafe {
        let failure = read_error(error);
        sys::rd_kafka_error_destroy(error);
        failure
    }
}

/// Reads an error object.
///
/// # Safety
/// `error` is null, or an error object that lives.
unsafe fn read_error(error: *const sys::rd_kafka_error_t) -> Result<(), Failure> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the object lives; the text is copied.
    unsafe {
        let code = Code(codes::rd_kafka_error_code(error));
        if code.is_none() {
            return Ok(());
        }
        Err(Failure {
            code,
            text: text(sys::rd_kafka_error_string(error)),
        })
    }
}

/// The version of librdkafka.
pub(super) fn version() -> String {
    // SAFETY: a text of the library's own, for ever.
    unsafe { text(sys::rd_kafka_version_str()) }
}

/// Copies a C text; null is empty.
///
/// # Safety
/// `text` is null, or NUL-terminated and not written to meanwhile.
unsafe fn text(text: *const c_char) -> String {
    match text.is_null() {
        true => String::new(),
        // SAFETY: as the caller says.
        false => unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned(),
    }
}

fn millis(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}

/// librdkafka's `RD_KAFKA_PARTITION_UA`: no partition in particular.
const UNASSIGNED: i32 = -1;

/// Room for an error text that librdkafka writes.
struct ErrorText([c_char; ErrorText::LENGTH]);

impl ErrorText {
    /// librdkafka's own examples use this much.
    const LENGTH: usize = 512;

    fn new() -> ErrorText {
        ErrorText([0; ErrorText::LENGTH])
    }

    fn as_mut_ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<u8> = self
            .0
            .iter()
            .take_while(|&&byte| byte != 0)
            .map(|&byte| byte as u8)
            .collect();
        f.write_str(&String::from_utf8_lossy(&bytes))
    }
}

/// librdkafka's log lines, from any of its threads.
///
/// What has to do with a broker's connection also comes as an event, and what has to do with a transaction as the answer
/// to a call, so that here these are lines for debugging.
///
/// # Safety
/// For librdkafka alone to call: the texts are NUL-terminated and live during the call; `client` is null or lives.
unsafe extern "C" fn log(
    client: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: all texts are NUL-terminated and live during the call; the client is null or lives.
    let (client, facility, line) = unsafe {
        let name = match client.is_null() {
            true => String::new(),
            false => text(sys::rd_kafka_name(client)),
        };
        (name, text(facility), text(line))
    };
    // What comes as an error, too, is told by whoever deals with it. So is why a producer ends with records in hand, and none
    // of them counts as delivered.
    // syslog's levels: 3 is an error, 4 a warning, 5 a notice, 6 for information.
    match (facility.as_str(), level) {
        (
            "FAIL" | "ERROR" | "TXNERR" | "FATAL" | "GETPID" | "ADDPARTS" | "ADDOFFSETS"
            | "TERMINATE",
            _,
        ) => tracing::debug!(target: "kafka", client, facility, "{line}"),
        (_, ..=3) => tracing::error!(target: "kafka", client, facility, "{line}"),
        (_, 4) => tracing::warn!(target: "kafka", client, facility, "{line}"),
        (_, 5) => tracing::info!(target: "kafka", client, facility, "{line}"),
        (_, 6) => tracing::debug!(target: "kafka", client, facility, "{line}"),
        _ => tracing::trace!(target: "kafka", client, facility, "{line}"),
    }
}

/// The address of bytes for a call that tells null from empty by it.
fn address(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    match bytes {
        // An empty slice has an address too, which isn't null.
        Some(bytes) => (bytes.as_ptr() as *mut c_void, bytes.len()),
        None => (std::ptr::null_mut(), 0),
    }
}
