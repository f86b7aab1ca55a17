//! Queues: the client's events, and the records of one partition.

use std::ffi::{CString, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error};
use rdkafka_sys as sys;

use super::partitions::{self, Entry};
use super::{Client, Code, Failure, codes, millis, text};
use crate::kafka::wake::Waker;
use crate::record::TimestampType;

/// A queue of a client.
pub(in crate::kafka) struct Queue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    #[expect(dead_code, reason = "kept alive")]
    client: Arc<Client>,
    /// Whom the queue writes to; its file descriptor must outlive that.
    waker: Option<Waker>,
}

// SAFETY: librdkafka's functions on a queue may be called from any thread.
unsafe impl Send for Queue {}

/// What a client's queue has to tell.
#[derive(Debug)]
pub(in crate::kafka) enum ClientEvent {
    /// The group gives partitions.
    Assign(Vec<Entry>),
    /// The group takes partitions.
    Revoke(Vec<Entry>),
    /// The client's statistics, as JSON.
    Statistics(String),
    /// A commit is done: its code, and each partition's.
    Commit(Code, Vec<Entry>),
    /// Something is wrong that the client goes on with by itself.
    Error(Failure),
    /// The client can't go on.
    Fatal(Failure),
    /// A record came here, which every partition has a queue of its own for: its topic and partition.
    Record(String, i32),
    /// Something nobody asked for.
    Other(String),
}

impl Queue {
    /// A queue of one's own, for answers.
    pub(in crate::kafka) fn new(client: &Arc<Client>) -> Queue {
        // SAFETY: the client lives; the reference is ours.
        Queue::from_ptr(client, unsafe { sys::rd_kafka_queue_new(client.as_ptr()) })
            .expect("librdkafka ends the process when it's out of memory")
    }

    /// The queue of a consumer's events; `None` if it has no group.
    pub(in crate::kafka) fn of_consumer(client: &Arc<Client>) -> Option<Queue> {
        // SAFETY: the client lives; the reference is ours.
        Queue::from_ptr(client, unsafe {
            sys::rd_kafka_queue_get_consumer(client.as_ptr())
        })
    }

    /// The queue of a producer's deliveries.
    pub(in crate::kafka) fn of_producer(client: &Arc<Client>) -> Queue {
        // SAFETY: the client lives; the reference is ours.
        Queue::from_ptr(client, unsafe {
            sys::rd_kafka_queue_get_main(client.as_ptr())
        })
        .expect("every client has a main queue")
    }

    fn from_ptr(client: &Arc<Client>, queue: *mut sys::rd_kafka_queue_t) -> Option<Queue> {
        Some(Queue {
            queue: NonNull::new(queue)?,
            client: client.clone(),
            waker: None,
        })
    }

    /// Has the queue wake `waker` when something comes and the queue was empty. See [`Waker`] for the rule that goes
    /// with it.
    pub(in crate::kafka) fn wakes(&mut self, waker: &Waker) {
        /// What an eventfd takes: a number to add.
        static ONE: u64 = 1;
        self.waker = Some(waker.clone());
        // SAFETY: the queue lives; the payload is copied; the descriptor stays open while the queue may write to it,
        // since the queue holds the waker until it has been told not to.
        unsafe {
            sys::rd_kafka_queue_io_event_enable(
                self.as_ptr(),
                waker.as_fd().as_raw_fd(),
                (&raw const ONE).cast::<c_void>(),
                size_of::<u64>(),
            );
        }
    }

    /// The next event, or `None` once there is none within `timeout`. With a zero timeout, `None` says that the queue
    /// has been read until empty.
    pub(in crate::kafka) fn poll(&self, timeout: Duration) -> Option<ClientEvent> {
        let event = self.poll_raw(timeout)?;
        // SAFETY: the event lives until `event` is dropped, and everything is copied out of it.
        unsafe {
            let code = Code(codes::rd_kafka_event_error(event.as_ptr()));
            Some(match sys::rd_kafka_event_type(event.as_ptr()) {
                sys::RD_KAFKA_EVENT_REBALANCE => {
                    let list =
                        partitions::read(sys::rd_kafka_event_topic_partition_list(event.as_ptr()));
                    match code
                        == Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
                    {
                        true => ClientEvent::Assign(list),
                        false => ClientEvent::Revoke(list),
                    }
                }
                sys::RD_KAFKA_EVENT_OFFSET_COMMIT => ClientEvent::Commit(
                    code,
                    partitions::read(sys::rd_kafka_event_topic_partition_list(event.as_ptr())),
                ),
                sys::RD_KAFKA_EVENT_STATS => {
                    ClientEvent::Statistics(text(sys::rd_kafka_event_stats(event.as_ptr())))
                }
                sys::RD_KAFKA_EVENT_ERROR => {
                    let failure = Failure {
                        code,
                        text: text(sys::rd_kafka_event_error_string(event.as_ptr())),
                    };
                    match sys::rd_kafka_event_error_is_fatal(event.as_ptr()) {
                        0 => ClientEvent::Error(failure),
                        _ => ClientEvent::Fatal(failure),
                    }
                }
                sys::RD_KAFKA_EVENT_FETCH => {
                    let message = sys::rd_kafka_event_message_next(event.as_ptr());
                    match message.is_null() {
                        true => ClientEvent::Other("an empty fetch".to_string()),
                        false => ClientEvent::Record(
                            text(sys::rd_kafka_topic_name((*message).rkt)),
                            (*message).partition,
                        ),
                    }
                }
                _ => ClientEvent::Other(text(sys::rd_kafka_event_name(event.as_ptr()))),
            })
        }
    }

    /// As [`Queue::poll`], for events that have readers of their own.
    pub(super) fn poll_raw(&self, timeout: Duration) -> Option<RawEvent> {
        // SAFETY: the queue lives; the event is ours.
        let event = unsafe { sys::rd_kafka_queue_poll(self.as_ptr(), millis(timeout)) };
        NonNull::new(event).map(RawEvent)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.queue.as_ptr()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue and, by `client`, the client live; the reference is ours. The queue is told to write to no
        // descriptor any more before the waker, which may be the last to hold it, goes.
        unsafe {
            if self.waker.is_some() {
                sys::rd_kafka_queue_io_event_enable(self.as_ptr(), -1, std::ptr::null(), 0);
            }
            sys::rd_kafka_queue_destroy(self.as_ptr());
        }
    }
}

/// An event that is ours to free.
pub(super) struct RawEvent(NonNull<sys::rd_kafka_event_t>);

impl RawEvent {
    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }
}

impl Drop for RawEvent {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { sys::rd_kafka_event_destroy(self.as_ptr()) };
    }
}

/// The queue of one partition, and the messages that were taken from it and not used yet.
pub(in crate::kafka) struct PartitionQueue {
    /// Messages; those before `front` are freed already.
    messages: Vec<*mut sys::rd_kafka_message_t>,
    front: usize,
    /// Keeps the client, and with it all that the messages point to.
    queue: Queue,
}

// SAFETY: a message is plain memory that librdkafka leaves alone once it has handed it out.
unsafe impl Send for PartitionQueue {}

impl PartitionQueue {
    /// Splits a partition's queue off the consumer's, so that its records come here and nowhere else.
    ///
    /// To be called for each assignment, before it is made: afterwards some records are on the consumer's queue
    /// already. A partition that was split once stays so, and a new assignment doesn't join it up again.
    pub(in crate::kafka) fn split(
        client: &Arc<Client>,
        topic: &str,
        partition: i32,
        waker: &Waker,
    ) -> Result<PartitionQueue, Error> {
        let name = CString::new(topic)
            .with_context(|| format!("a topic's name can't have a NUL byte: {topic:?}"))?;
        // SAFETY: the client lives and the name is NUL-terminated; the reference is ours.
        let queue =
            unsafe { sys::rd_kafka_queue_get_partition(client.as_ptr(), name.as_ptr(), partition) };
        let mut queue = Queue::from_ptr(client, queue)
            .with_context(|| format!("there is no queue for {topic}/{partition}"))?;
        // SAFETY: the queue lives; null ends its forwarding.
        unsafe { sys::rd_kafka_queue_forward(queue.as_ptr(), std::ptr::null_mut()) };
        queue.wakes(waker);
        Ok(PartitionQueue {
            messages: Vec::new(),
            front: 0,
            queue,
        })
    }

    /// Takes up to `count` messages if none are in hand. Returns whether any are; if not, the queue has been read until
    /// empty.
    pub(in crate::kafka) fn fill(&mut self, count: usize) -> bool {
        if self.front < self.messages.len() {
            return true;
        }
        self.messages.clear();
        self.front = 0;
        self.messages.reserve(count);
        // SAFETY: there is room for `count` pointers; the call writes as many as it returns, and the messages are ours.
        unsafe {
            let taken = sys::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                0,
                self.messages.as_mut_ptr(),
                count,
            );
            self.messages.set_len(usize::try_from(taken).unwrap_or(0));
        }
        !self.messages.is_empty()
    }

    /// The messages in hand.
    pub(in crate::kafka) fn in_hand(&self) -> &[Fetched] {
        let messages = &self.messages[self.front..];
        // SAFETY: `Fetched` is a transparent wrapper of a message's pointer, and those at and after `front` live.
        unsafe { slice::from_raw_parts(messages.as_ptr().cast::<Fetched>(), messages.len()) }
    }

    /// Frees the first `count` messages in hand.
    pub(in crate::kafka) fn free(&mut self, count: usize) {
        let end = self.messages.len().min(self.front + count);
        for &message in &self.messages[self.front..end] {
            // SAFETY: ours, and never read again, since `front` moves past it.
            unsafe { sys::rd_kafka_message_destroy(message) };
        }
        self.front = end;
    }

    /// Frees all messages in hand.
    pub(in crate::kafka) fn free_all(&mut self) {
        self.free(usize::MAX - self.front);
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        self.free_all();
    }
}

/// A message of a partition: a record, or an error in its place.
#[repr(transparent)]
pub(in crate::kafka) struct Fetched(NonNull<sys::rd_kafka_message_t>);

impl Fetched {
    /// What is wrong, if this is no record.
    #[inline]
    pub(in crate::kafka) fn code(&self) -> Code {
        // SAFETY: the message lives; its code is read as the number that it is.
        Code(unsafe { (&raw const (*self.0.as_ptr()).err).cast::<i32>().read() })
    }

    /// What librdkafka says of the error, if this is no record.
    pub(in crate::kafka) fn error_text(&self) -> String {
        // SAFETY: the message lives; the text is copied.
        unsafe { text(sys::rd_kafka_message_errstr(self.0.as_ptr())) }
    }

    /// The offset; of an error, where it happened, or negative.
    #[inline]
    pub(in crate::kafka) fn offset(&self) -> i64 {
        // SAFETY: the message lives.
        unsafe { (*self.0.as_ptr()).offset }
    }

    /// The key; null isn't empty.
    #[inline]
    pub(in crate::kafka) fn key(&self) -> Option<&[u8]> {
        // SAFETY: the message lives, and holds `key_len` bytes at `key` unless that is null.
        unsafe {
            let message = &*self.0.as_ptr();
            bytes(message.key, message.key_len)
        }
    }

    /// The value; null isn't empty.
    #[inline]
    pub(in crate::kafka) fn value(&self) -> Option<&[u8]> {
        // SAFETY: the message lives, and holds `len` bytes at `payload` unless that is null.
        unsafe {
            let message = &*self.0.as_ptr();
            bytes(message.payload, message.len)
        }
    }

    /// Milliseconds, or -1, and who set them.
    #[inline]
    pub(in crate::kafka) fn timestamp(&self) -> (i64, TimestampType) {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.0.as_ptr(), &mut kind) };
        use sys::rd_kafka_timestamp_type_t::*;
        match kind {
            RD_KAFKA_TIMESTAMP_CREATE_TIME => (timestamp, TimestampType::CreateTime),
            RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => (timestamp, TimestampType::LogAppendTime),
            RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => (-1, TimestampType::NotAvailable),
        }
    }

    /// The headers in order. Fails if they can't be parsed.
    #[inline]
    pub(in crate::kafka) fn headers(&self) -> Result<FetchedHeaders<'_>, Code> {
        let mut headers = std::ptr::null_mut();
        // SAFETY: the message lives; the headers are the message's own and live as long.
        let code = unsafe { sys::rd_kafka_message_headers(self.0.as_ptr(), &mut headers) };
        match code {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            | sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT => Ok(FetchedHeaders {
                headers,
                next: 0,
                message: std::marker::PhantomData,
            }),
            code => Err(Code::of(code)),
        }
    }
}

/// The headers of a message, in order.
#[derive(Clone)]
pub(in crate::kafka) struct FetchedHeaders<'a> {
    /// Null if there are none.
    headers: *mut sys::rd_kafka_headers_t,
    next: usize,
    message: std::marker::PhantomData<&'a Fetched>,
}

impl FetchedHeaders<'_> {
    /// Whether there are none.
    #[inline]
    pub(in crate::kafka) fn is_empty(&self) -> bool {
        self.headers.is_null()
    }
}

impl<'a> Iterator for FetchedHeaders<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut length) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the headers live as long as the message; a name is NUL-terminated, a value `length` bytes long, and
        // both are the message's own.
        unsafe {
            let code = sys::rd_kafka_header_get_all(
                self.headers,
                self.next,
                &mut name,
                &mut value,
                &mut length,
            );
            if !Code::of(code).is_none() {
                return None;
            }
            self.next += 1;
            let name = std::ffi::CStr::from_ptr(name).to_bytes();
            Some((name, bytes(value, length)))
        }
    }
}

/// # Safety
/// `data` is null, or has `length` bytes that live for `'a`.
#[inline]
unsafe fn bytes<'a>(data: *const c_void, length: usize) -> Option<&'a [u8]> {
    match data.is_null() {
        true => None,
        // SAFETY: as the caller says.
        false => Some(unsafe { slice::from_raw_parts(data.cast::<u8>(), length) }),
    }
}
