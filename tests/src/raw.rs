//! The two things that rdkafka has no face for: headers whose names are any bytes, to the broker and back.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr;

use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::types::{RDKafka, RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys as sys;

use crate::topic::{Header, Record};

/// `RD_KAFKA_PARTITION_UA`, a cast in librdkafka's header: the partitioner chooses.
const PARTITION_UA: i32 = -1;

/// Hands a record over for sending; its bytes are copied. The queue may be full.
pub(crate) fn send<C: ProducerContext>(
    producer: &BaseProducer<C>,
    topic: &CStr,
    record: &Record,
) -> Result<(), RDKafkaErrorCode> {
    use sys::rd_kafka_vtype_t as vtype;

    let mut arguments = vec![
        argument(vtype::RD_KAFKA_VTYPE_TOPIC, |u| u.cstr = topic.as_ptr()),
        argument(vtype::RD_KAFKA_VTYPE_MSGFLAGS, |u| {
            u.i = sys::RD_KAFKA_MSG_F_COPY
        }),
        argument(vtype::RD_KAFKA_VTYPE_PARTITION, |u| {
            u.i32_ = record.partition.unwrap_or(PARTITION_UA)
        }),
        argument(vtype::RD_KAFKA_VTYPE_KEY, |u| {
            u.mem = memory(record.key.as_deref())
        }),
        argument(vtype::RD_KAFKA_VTYPE_VALUE, |u| {
            u.mem = memory(record.value.as_deref())
        }),
    ];
    if let Some(timestamp) = record.timestamp {
        arguments.push(argument(vtype::RD_KAFKA_VTYPE_TIMESTAMP, |u| {
            u.i64_ = timestamp
        }));
    }
    let headers = Headers::new(&record.headers);
    if let Some(headers) = &headers {
        arguments.push(argument(vtype::RD_KAFKA_VTYPE_HEADERS, |u| {
            u.headers = headers.0
        }));
    }
    let client: *mut RDKafka = producer.client().native_ptr();
    // SAFETY: the client lives as long as `producer`; each argument's union holds what its type says, and points to
    // memory of `topic`, `record` and `headers`, all of which outlive the call. MSG_F_COPY makes librdkafka copy them.
    let error = unsafe { sys::rd_kafka_produceva(client, arguments.as_ptr(), arguments.len()) };
    if error.is_null() {
        // Sent headers are librdkafka's to free.
        std::mem::forget(headers);
        return Ok(());
    }
    // SAFETY: `error` isn't null, and it's ours to free, after its code was read.
    let code: RDKafkaRespErr = unsafe {
        let code = sys::rd_kafka_error_code(error);
        sys::rd_kafka_error_destroy(error);
        code
    };
    Err(code.into())
}

/// The headers of a message, in order.
pub(crate) fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut native = ptr::null_mut();
    // SAFETY: the message is alive; the headers that come back are its own and live as long as it does.
    let code = unsafe { sys::rd_kafka_message_headers(message.ptr(), &mut native) };
    if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // There are none.
        return Vec::new();
    }
    let mut headers = Vec::new();
    loop {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `native` is alive (above), and an index past the last header gives an error, which ends the loop.
        let code = unsafe {
            sys::rd_kafka_header_get_all(native, headers.len(), &mut name, &mut value, &mut size)
        };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        // SAFETY: librdkafka ends each name with NUL, and gives the value's pointer (null for a null value) and size.
        let (name, value) = unsafe {
            let name = CStr::from_ptr(name).to_bytes().to_vec();
            let value = (!value.is_null())
                .then(|| std::slice::from_raw_parts(value.cast::<u8>(), size).to_vec());
            (name, value)
        };
        headers.push((name, value));
    }
}

/// Headers on their way to librdkafka.
struct Headers(*mut sys::rd_kafka_headers_t);

impl Headers {
    /// `None` if there are none.
    fn new(headers: &[Header]) -> Option<Headers> {
        if headers.is_empty() {
            return None;
        }
        // SAFETY: makes an empty list, which is ours to free until it was sent.
        let native = Headers(unsafe { sys::rd_kafka_headers_new(headers.len()) });
        for (name, value) in headers {
            let (value, size) = match value {
                Some(value) => (value.as_ptr(), value.len()),
                None => (ptr::null(), 0),
            };
            // SAFETY: both pointers go with the length of what they point to, and librdkafka copies it.
            unsafe {
                sys::rd_kafka_header_add(
                    native.0,
                    name.as_ptr().cast(),
                    name.len() as isize,
                    value.cast(),
                    size as isize,
                );
            }
        }
        Some(native)
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: headers that were not sent are still ours; those that were are forgotten instead of dropped.
        unsafe { sys::rd_kafka_headers_destroy(self.0) }
    }
}

type Union = sys::rd_kafka_vu_s__bindgen_ty_1;

fn argument(vtype: sys::rd_kafka_vtype_t, set: impl FnOnce(&mut Union)) -> sys::rd_kafka_vu_t {
    let mut u = Union { _pad: [0; 64] };
    set(&mut u);
    sys::rd_kafka_vu_t { vtype, u }
}

/// Null is a null pointer; empty is any other with a length of 0.
fn memory(bytes: Option<&[u8]>) -> sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    let (pointer, size) = match bytes {
        Some(bytes) => (bytes.as_ptr(), bytes.len()),
        None => (ptr::null(), 0),
    };
    sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
        ptr: pointer.cast_mut().cast(),
        size,
    }
}

/// A topic's name for librdkafka.
pub(crate) fn c_string(name: &str) -> CString {
    CString::new(name).expect("a topic's name has no NUL")
}
