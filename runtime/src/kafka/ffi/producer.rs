//! Sending records, and being told what became of them.

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, anyhow};
use rdkafka_sys as sys;

use super::queue::Queue;
use super::transactions::{Undone, take_undone};
use super::{Client, Code, Conf, Failure, UNASSIGNED, address, millis, take_error, text};
use crate::kafka::wake::Waker;

/// A producer for a list of topics: hands records over. What becomes of them is told by its [`Reports`].
pub(in crate::kafka) struct Producer {
    /// The topics; freed before the client, which each of them holds.
    topics: Vec<Topic>,
    /// Its wake-ups; gone before the client.
    _queue: Queue,
    client: Arc<Client>,
    /// Freed last: the client has its address.
    _heard: Arc<Heard>,
}

/// What a producer's callbacks tell, and the calls that run them, in the thread that makes the call. There is one of it
/// for each producer, so that it's one thread at a time.
pub(in crate::kafka) struct Reports {
    pub(super) client: Arc<Client>,
    /// Freed last: the client has its address.
    heard: Arc<Heard>,
}

// SAFETY: librdkafka's functions on a client and its topics may be called from any thread.
unsafe impl Send for Producer {}

/// What the callbacks write to, at an address that stays the same.
#[derive(Default)]
struct Heard(UnsafeCell<Lists>);

// SAFETY: only the callbacks and `Reports` touch it; the callbacks run within calls that take `Reports` by `&mut`, of
// which there is one.
unsafe impl Send for Heard {}
// SAFETY: as above.
unsafe impl Sync for Heard {}

#[derive(Default)]
struct Lists {
    deliveries: Vec<(u64, Code)>,
    failures: Vec<Failure>,
}

/// A record on its way out, without its headers.
pub(in crate::kafka) struct Message<'a> {
    /// Which of the producer's topics, by index.
    pub(in crate::kafka) topic: usize,
    /// The partition; `None` for the partitioner's choice.
    pub(in crate::kafka) partition: Option<i32>,
    /// The key; null isn't empty.
    pub(in crate::kafka) key: Option<&'a [u8]>,
    /// The value; null isn't empty.
    pub(in crate::kafka) value: Option<&'a [u8]>,
    /// Milliseconds; 0 for the time of sending.
    pub(in crate::kafka) timestamp: i64,
    /// Comes back with the delivery.
    pub(in crate::kafka) tag: u64,
}

/// Why a record wasn't taken.
pub(in crate::kafka) enum Refusal {
    /// There is no topic of this index.
    NoTopic,
    /// What librdkafka says.
    Failure(Failure),
}

impl Producer {
    /// A producer whose deliveries wake `waker`.
    pub(in crate::kafka) fn new(
        conf: Conf,
        topics: &[String],
        waker: &Waker,
    ) -> Result<(Producer, Reports), Error> {
        let heard = Arc::<Heard>::default();
        // SAFETY: `conf` lives. What is heard stays where it is and outlives the client: whoever holds the client drops
        // it before.
        unsafe {
            sys::rd_kafka_conf_set_opaque(conf.as_ptr(), heard.0.get().cast());
            sys::rd_kafka_conf_set_dr_msg_cb(conf.as_ptr(), Some(on_delivery));
            sys::rd_kafka_conf_set_error_cb(conf.as_ptr(), Some(on_error));
        }
        let client = Arc::new(Client::new(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, conf)?);
        let reports = Reports {
            client: client.clone(),
            heard: heard.clone(),
        };
        let topics = topics
            .iter()
            .map(|topic| Topic::new(&client, topic))
            .collect::<Result<_, _>>()?;
        let mut queue = Queue::of_producer(&client);
        queue.wakes(waker);
        let producer = Producer {
            topics,
            _queue: queue,
            client,
            _heard: heard,
        };
        Ok((producer, reports))
    }

    /// Hands a record over; its bytes are copied. Never blocks.
    pub(in crate::kafka) fn send<'h>(
        &mut self,
        message: &Message<'_>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) -> Result<(), Refusal> {
        use sys::rd_kafka_vtype_t::*;
        let topic = self.topics.get(message.topic).ok_or(Refusal::NoTopic)?;
        let headers = HeaderList::new(headers);
        let partition = message.partition.unwrap_or(UNASSIGNED);
        let arguments = [
            argument(
                RD_KAFKA_VTYPE_RKT,
                Value {
                    rkt: topic.0.as_ptr(),
                },
            ),
            argument(RD_KAFKA_VTYPE_PARTITION, Value { i32_: partition }),
            argument(
                RD_KAFKA_VTYPE_MSGFLAGS,
                Value {
                    i: sys::RD_KAFKA_MSG_F_COPY,
                },
            ),
            argument(
                RD_KAFKA_VTYPE_OPAQUE,
                Value {
                    ptr: message.tag as *mut c_void,
                },
            ),
            argument(
                RD_KAFKA_VTYPE_TIMESTAMP,
                Value {
                    i64_: message.timestamp,
                },
            ),
            argument(
                RD_KAFKA_VTYPE_KEY,
                Value {
                    mem: memory(message.key),
                },
            ),
            argument(
                RD_KAFKA_VTYPE_VALUE,
                Value {
                    mem: memory(message.value),
                },
            ),
            argument(
                RD_KAFKA_VTYPE_HEADERS,
                Value {
                    headers: headers.as_ptr(),
                },
            ),
        ];
        // Headers come last, so that records without any don't name them.
        let count = arguments.len() - usize::from(headers.is_none());
        // SAFETY: the client and the topic live; each argument's value is what its type says, and `count` of them are
        // there; key and value are copied during the call. The error is ours.
        let result = unsafe {
            take_error(sys::rd_kafka_produceva(
                self.client.as_ptr(),
                arguments.as_ptr(),
                count,
            ))
        };
        match result {
            Ok(()) => {
                // The message has them now.
                headers.give_away();
                Ok(())
            }
            Err(failure) => Err(Refusal::Failure(failure)),
        }
    }

    /// Gives up on all that isn't acknowledged; the next poll brings its deliveries. Waits for librdkafka's threads, not
    /// for brokers.
    pub(in crate::kafka) fn purge(&mut self) {
        let flags = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the client lives. The flags are right, and it is a producer: nothing else can fail.
        unsafe { sys::rd_kafka_purge(self.client.as_ptr(), flags) };
    }

    /// The fatal error that has stopped the client, if one has.
    pub(in crate::kafka) fn fatal_error(&self) -> Option<Failure> {
        self.client.fatal_error()
    }

    /// Begins a transaction. Waits for librdkafka's threads, not for brokers.
    pub(in crate::kafka) fn begin(&mut self) -> Result<(), Undone> {
        // SAFETY: the client lives; the error is ours.
        unsafe { take_undone(sys::rd_kafka_begin_transaction(self.client.as_ptr())) }
    }
}

impl Reports {
    /// Serves the client, and hands out what is known by now: deliveries, then what went wrong beside them. Afterwards
    /// the queue has been read until empty.
    pub(in crate::kafka) fn poll(
        &mut self,
        deliveries: &mut dyn FnMut(u64, Code),
        failures: &mut dyn FnMut(Failure),
    ) {
        // SAFETY: the client lives; the callbacks write to `heard`, of which no reference exists meanwhile.
        unsafe { sys::rd_kafka_poll(self.client.as_ptr(), 0) };
        // SAFETY: the callbacks run within calls on `self` only.
        let heard = unsafe { &mut *self.heard.0.get() };
        for (tag, code) in heard.deliveries.drain(..) {
            deliveries(tag, code);
        }
        heard.failures.drain(..).for_each(failures);
    }

    /// Sends what waits at once, and waits until all of it is delivered or has failed. Returns whether it is; what
    /// became of it comes with the next poll.
    pub(in crate::kafka) fn flush(&mut self, timeout: Duration) -> bool {
        // SAFETY: the client lives; the callbacks write to `heard`, of which no reference exists meanwhile.
        let code = unsafe { sys::rd_kafka_flush(self.client.as_ptr(), millis(timeout)) };
        Code::of(code).is_none()
    }

    /// Whether a record failed, of those whose deliveries came meanwhile and wait for the next poll.
    pub(in crate::kafka) fn have_failure(&self) -> bool {
        // SAFETY: the callbacks run within calls that take `Reports` by `&mut`.
        let heard = unsafe { &*self.heard.0.get() };
        heard.deliveries.iter().any(|(_, code)| !code.is_none())
    }
}

/// A topic's handle.
struct Topic(
    NonNull<sys::rd_kafka_topic_t>,
    #[expect(dead_code, reason = "kept alive")] Arc<Client>,
);

impl Topic {
    fn new(client: &Arc<Client>, name: &str) -> Result<Topic, Error> {
        let text = CString::new(name)
            .with_context(|| format!("a topic's name can't have a NUL byte: {name:?}"))?;
        // SAFETY: the client lives, the name is copied; without settings the topic takes the client's.
        let topic = unsafe {
            sys::rd_kafka_topic_new(client.as_ptr(), text.as_ptr(), std::ptr::null_mut())
        };
        match NonNull::new(topic) {
            Some(topic) => Ok(Topic(topic, client.clone())),
            // SAFETY: reads what the call above left for this thread.
            None => Err(anyhow!(
                "can't write to topic \"{name}\": {}",
                Code::of(unsafe { sys::rd_kafka_last_error() })
            )),
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: ours, and the client lives.
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) };
    }
}

/// Headers on their way into a message; null if there are none.
struct HeaderList(*mut sys::rd_kafka_headers_t);

impl HeaderList {
    fn new<'h>(headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>) -> HeaderList {
        let mut list = HeaderList(std::ptr::null_mut());
        for (name, value) in headers {
            let (value, length) = address(value);
            // SAFETY: name and value are as long as we say, and copied; null is a null value.
            unsafe {
                if list.0.is_null() {
                    list.0 = sys::rd_kafka_headers_new(4);
                }
                sys::rd_kafka_header_add(
                    list.0,
                    name.as_ptr().cast(),
                    name.len() as isize,
                    value,
                    length as isize,
                );
            }
        }
        list
    }

    fn is_none(&self) -> bool {
        self.0.is_null()
    }

    fn as_ptr(&self) -> *mut sys::rd_kafka_headers_t {
        self.0
    }

    fn give_away(mut self) {
        self.0 = std::ptr::null_mut();
    }
}

impl Drop for HeaderList {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: ours, since it wasn't given away.
            unsafe { sys::rd_kafka_headers_destroy(self.0) };
        }
    }
}

type Value = sys::rd_kafka_vu_s__bindgen_ty_1;

fn argument(vtype: sys::rd_kafka_vtype_t, u: Value) -> sys::rd_kafka_vu_t {
    sys::rd_kafka_vu_t { vtype, u }
}

fn memory(bytes: Option<&[u8]>) -> sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    let (ptr, size) = address(bytes);
    sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size }
}

unsafe extern "C" fn on_delivery(
    _client: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: `opaque` is the producer's `Lists`, and this runs within a call on its `Reports`, where nothing else refers to them. The
    // message lives during the call; its code is read as the number that it is, and its private pointer is our tag.
    unsafe {
        let heard = &mut *opaque.cast::<Lists>();
        let code = Code((&raw const (*message).err).cast::<i32>().read());
        heard.deliveries.push(((*message)._private as u64, code));
    }
}

unsafe extern "C" fn on_error(
    _client: *mut sys::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_delivery`; the text is NUL-terminated.
    unsafe {
        let heard = &mut *opaque.cast::<Lists>();
        heard.failures.push(Failure {
            code: Code(code),
            text: text(reason),
        });
    }
}
