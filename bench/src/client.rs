//! Handles of librdkafka, freed when dropped.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};

use anyhow::{Error, bail, ensure};
use rdkafka_sys as sys;
use weir::kafka::Settings;

/// A consumer or producer.
pub struct Client(pub *mut sys::rd_kafka_t);

// SAFETY: librdkafka's functions on a handle may be called from any thread.
unsafe impl Send for Client {}

impl Client {
    /// A client with these settings; `more` sets what isn't text.
    pub fn new(
        kind: sys::rd_kafka_type_t,
        settings: &Settings,
        more: impl FnOnce(*mut sys::rd_kafka_conf_t),
    ) -> Result<Client, Error> {
        let mut error: [c_char; 512] = [0; 512];
        // SAFETY: all texts are NUL-terminated, the error text is as long as we say, and the client takes the settings.
        unsafe {
            let conf = sys::rd_kafka_conf_new();
            for (key, value) in settings.iter() {
                let (key, value) = (CString::new(key)?, CString::new(value)?);
                let result = sys::rd_kafka_conf_set(
                    conf,
                    key.as_ptr(),
                    value.as_ptr(),
                    error.as_mut_ptr(),
                    error.len(),
                );
                ensure!(
                    result == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK,
                    "{}",
                    text(error.as_ptr())
                );
            }
            more(conf);
            let client = sys::rd_kafka_new(kind, conf, error.as_mut_ptr(), error.len());
            ensure!(!client.is_null(), "{}", text(error.as_ptr()));
            Ok(Client(client))
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: ours; all that was made of it is freed before.
        unsafe { sys::rd_kafka_destroy_flags(self.0, sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
    }
}

/// A topic to produce to.
pub struct Topic(pub *mut sys::rd_kafka_topic_t);

// SAFETY: as for the client.
unsafe impl Send for Topic {}

impl Topic {
    pub fn new(client: &Client, name: &str) -> Result<Topic, Error> {
        let name = CString::new(name)?;
        // SAFETY: the client lives and the name is NUL-terminated.
        let topic =
            unsafe { sys::rd_kafka_topic_new(client.0, name.as_ptr(), std::ptr::null_mut()) };
        ensure!(!topic.is_null(), "can't write to topic {name:?}");
        Ok(Topic(topic))
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: ours, and the client lives.
        unsafe { sys::rd_kafka_topic_destroy(self.0) };
    }
}

/// A queue, which writes to an eventfd when something comes and it was empty.
pub struct Queue(pub *mut sys::rd_kafka_queue_t);

// SAFETY: as for the client.
unsafe impl Send for Queue {}

impl Queue {
    /// Takes a reference over.
    pub fn new(queue: *mut sys::rd_kafka_queue_t, eventfd: i32) -> Result<Queue, Error> {
        static ONE: u64 = 1;
        ensure!(!queue.is_null(), "no such queue");
        // SAFETY: the queue lives and the payload is copied.
        unsafe {
            let payload = (&raw const ONE).cast::<c_void>();
            sys::rd_kafka_queue_io_event_enable(queue, eventfd, payload, size_of::<u64>());
        }
        Ok(Queue(queue))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: ours, and the client lives.
        unsafe {
            sys::rd_kafka_queue_io_event_enable(self.0, -1, std::ptr::null(), 0);
            sys::rd_kafka_queue_destroy(self.0);
        }
    }
}

/// Fails if a call returned an error object.
pub fn check(error: *mut sys::rd_kafka_error_t) -> Result<(), Error> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the object is ours; its text is copied before.
    unsafe {
        let text = text(sys::rd_kafka_error_string(error));
        sys::rd_kafka_error_destroy(error);
        bail!("{text}");
    }
}

/// # Safety
/// `text` is NUL-terminated.
pub unsafe fn text(text: *const c_char) -> String {
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
