//! One thread with a consumer and a producer, and a loop between them.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Error, bail, ensure};
use rdkafka_sys as sys;
use weir::kafka::{ConsumerOptions, ProducerOptions, consumer_settings, producer_settings};

use crate::client::{Client, Queue, Topic, check, text};
use crate::{Arguments, Usage};

/// Messages at once.
const BATCH: usize = 1000;
/// librdkafka's first offset of a partition.
const BEGINNING: i64 = -2;
/// librdkafka's choice of a partition by the partitioner.
const ANY_PARTITION: i32 = -1;

/// How far all workers are.
pub struct Progress {
    records: AtomicU64,
    wanted: u64,
    warmup: u64,
    start: OnceLock<Start>,
    /// Where a partition goes on that has moved from one worker to another.
    next: Mutex<HashMap<i32, i64>>,
}

/// Where the measurement starts.
#[derive(Clone, Copy)]
pub struct Start {
    /// Records read by then.
    pub records: u64,
    /// What was used by then.
    pub usage: Usage,
}

impl Progress {
    pub fn new(arguments: &Arguments) -> Progress {
        Progress {
            records: AtomicU64::new(0),
            wanted: arguments.records,
            warmup: arguments.warmup,
            start: OnceLock::new(),
            next: Mutex::new(HashMap::new()),
        }
    }

    /// Records read.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub fn start(&self) -> Option<Start> {
        self.start.get().copied()
    }

    fn add(&self, count: u64) -> Result<(), Error> {
        let before = self.records.fetch_add(count, Ordering::Relaxed);
        if before <= self.warmup && before + count > self.warmup {
            let usage = Usage::now()?;
            let records = before + count;
            // Only one batch crosses the mark.
            let _ = self.start.set(Start { records, usage });
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.records() >= self.wanted
    }
}

/// A worker; its fields are freed in this order.
pub struct Worker {
    partitions: Vec<Partition>,
    messages: Vec<*mut sys::rd_kafka_message_t>,
    consumer_queue: Queue,
    consumer: Client,
    output: Topic,
    _producer_queue: Queue,
    producer: Client,
    in_flight: Box<InFlight>,
    window: u64,
    eventfd: OwnedFd,
    input: String,
    progress: Arc<Progress>,
    even: bool,
}

// SAFETY: the messages' pointers are only ever kept within a call.
unsafe impl Send for Worker {}

struct Partition {
    number: i32,
    next: i64,
    queue: Queue,
}

/// Written to by the delivery callback, which runs within the worker's own polls.
#[derive(Default)]
struct InFlight {
    bytes: u64,
    failed: u64,
}

impl Worker {
    pub fn new(arguments: &Arguments, progress: Arc<Progress>) -> Result<Worker, Error> {
        let user = [("bootstrap.servers", arguments.bootstrap.as_str())];
        let consumer = consumer_settings(&ConsumerOptions {
            user: &user,
            group: &arguments.group,
            instance_id: None,
            buffer: arguments.buffer,
        })?;
        let producer = producer_settings(&ProducerOptions {
            user: &user,
            in_flight: arguments.in_flight,
            transactional_id: None,
            max_message_bytes: &[],
        })?;
        let mut in_flight = Box::<InFlight>::default();
        let opaque = (&raw mut *in_flight).cast::<c_void>();
        // SAFETY: the settings and clients live, `in_flight` stays where it is and outlives the producer, and the topic's
        // name is NUL-terminated.
        unsafe {
            let eventfd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            ensure!(
                eventfd >= 0,
                "can't make an eventfd: {}",
                std::io::Error::last_os_error()
            );
            let eventfd = OwnedFd::from_raw_fd(eventfd);
            let consumer =
                Client::new(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, &consumer, |conf| {
                    sys::rd_kafka_conf_set_events(
                        conf,
                        sys::RD_KAFKA_EVENT_REBALANCE | sys::RD_KAFKA_EVENT_ERROR,
                    )
                })?;
            let producer =
                Client::new(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, &producer, |conf| {
                    sys::rd_kafka_conf_set_opaque(conf, opaque);
                    sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(on_delivery));
                })?;
            sys::rd_kafka_poll_set_consumer(consumer.0);
            let consumer_queue = Queue::new(
                sys::rd_kafka_queue_get_consumer(consumer.0),
                eventfd.as_raw_fd(),
            )?;
            let producer_queue = Queue::new(
                sys::rd_kafka_queue_get_main(producer.0),
                eventfd.as_raw_fd(),
            )?;
            let topics = sys::rd_kafka_topic_partition_list_new(1);
            let input = CString::new(arguments.input.as_str())?;
            sys::rd_kafka_topic_partition_list_add(topics, input.as_ptr(), ANY_PARTITION);
            let code = sys::rd_kafka_subscribe(consumer.0, topics);
            sys::rd_kafka_topic_partition_list_destroy(topics);
            ensure!(code as i32 == 0, "can't subscribe to {}", arguments.input);
            Ok(Worker {
                partitions: Vec::new(),
                messages: Vec::with_capacity(BATCH),
                consumer_queue,
                consumer,
                output: Topic::new(&producer, &arguments.output)?,
                _producer_queue: producer_queue,
                producer,
                in_flight,
                window: arguments.in_flight,
                eventfd,
                input: arguments.input.clone(),
                progress,
                even: false,
            })
        }
    }

    /// Reads and writes until all workers together have read what is wanted, and all of it that went out is
    /// acknowledged.
    pub fn run(mut self) -> Result<Worker, Error> {
        loop {
            self.events()?;
            self.poll_producer()?;
            let mut busy = false;
            for index in 0..self.partitions.len() {
                if self.in_flight() < self.window && !self.progress.is_done() {
                    busy |= self.read(index)?;
                }
            }
            if self.progress.is_done() && self.in_flight() == 0 {
                return Ok(self);
            }
            if !busy {
                self.wait()?;
            }
        }
    }

    /// Takes one batch of a partition. Returns whether there may be more.
    fn read(&mut self, index: usize) -> Result<bool, Error> {
        let partition = &mut self.partitions[index];
        let mut messages = std::mem::take(&mut self.messages);
        // SAFETY: there is room for a batch, of which as many are written as returned; each message is ours, lives until
        // it is destroyed, and is copied by the producer before.
        unsafe {
            let count = sys::rd_kafka_consume_batch_queue(
                partition.queue.0,
                0,
                messages.as_mut_ptr(),
                BATCH,
            );
            messages.set_len(usize::try_from(count).unwrap_or(0));
            for &message in &messages {
                let code = (&raw const (*message).err).cast::<i32>().read();
                ensure!(code == 0, "{}", text(sys::rd_kafka_message_errstr(message)));
                partition.next = (*message).offset + 1;
            }
            for &message in &messages {
                self.even = !self.even;
                if self.even {
                    self.produce(message)?;
                }
                sys::rd_kafka_message_destroy(message);
            }
        }
        let count = messages.len();
        messages.clear();
        self.messages = messages;
        self.progress.add(count as u64)?;
        Ok(count == BATCH)
    }

    /// # Safety
    /// `message` lives.
    unsafe fn produce(&mut self, message: *mut sys::rd_kafka_message_t) -> Result<(), Error> {
        use sys::rd_kafka_vtype_t::*;
        type Value = sys::rd_kafka_vu_s__bindgen_ty_1;
        let argument = |vtype, u: Value| sys::rd_kafka_vu_t { vtype, u };
        let memory = |ptr, size| Value {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size },
        };
        // SAFETY: as the caller says; each argument's value is what its type says; headers that aren't taken are freed.
        unsafe {
            let mut theirs = std::ptr::null_mut();
            let mut headers = std::ptr::null_mut();
            if sys::rd_kafka_message_headers(message, &mut theirs) as i32 == 0 {
                headers = sys::rd_kafka_headers_copy(theirs);
            }
            let timestamp = sys::rd_kafka_message_timestamp(message, std::ptr::null_mut());
            let arguments = [
                argument(RD_KAFKA_VTYPE_RKT, Value { rkt: self.output.0 }),
                argument(
                    RD_KAFKA_VTYPE_PARTITION,
                    Value {
                        i32_: ANY_PARTITION,
                    },
                ),
                argument(
                    RD_KAFKA_VTYPE_MSGFLAGS,
                    Value {
                        i: sys::RD_KAFKA_MSG_F_COPY,
                    },
                ),
                argument(RD_KAFKA_VTYPE_TIMESTAMP, Value { i64_: timestamp }),
                argument(
                    RD_KAFKA_VTYPE_KEY,
                    memory((*message).key, (*message).key_len),
                ),
                argument(
                    RD_KAFKA_VTYPE_VALUE,
                    memory((*message).payload, (*message).len),
                ),
                argument(RD_KAFKA_VTYPE_HEADERS, Value { headers }),
            ];
            let count = arguments.len() - usize::from(headers.is_null());
            // The client's own bound is wider than the window, so that the queue is never full.
            let result = check(sys::rd_kafka_produceva(
                self.producer.0,
                arguments.as_ptr(),
                count,
            ));
            if result.is_err() && !headers.is_null() {
                sys::rd_kafka_headers_destroy(headers);
            }
            self.in_flight.bytes += size(message);
            result
        }
    }

    fn poll_producer(&mut self) -> Result<(), Error> {
        // SAFETY: the producer lives; its callback writes to `in_flight`, which nothing else does meanwhile.
        unsafe { sys::rd_kafka_poll(self.producer.0, 0) };
        let failed = self.in_flight.failed;
        ensure!(failed == 0, "{failed} records couldn't be delivered");
        Ok(())
    }

    fn in_flight(&self) -> u64 {
        self.in_flight.bytes
    }

    fn events(&mut self) -> Result<(), Error> {
        loop {
            // SAFETY: the queue lives; the event is ours and lives until it is destroyed.
            unsafe {
                let event = sys::rd_kafka_queue_poll(self.consumer_queue.0, 0);
                if event.is_null() {
                    return Ok(());
                }
                let result = match sys::rd_kafka_event_type(event) {
                    sys::RD_KAFKA_EVENT_REBALANCE => self.rebalance(event),
                    sys::RD_KAFKA_EVENT_FETCH => {
                        Err(anyhow::anyhow!("a record outside of its partition's queue"))
                    }
                    sys::RD_KAFKA_EVENT_ERROR => {
                        eprintln!("{}", text(sys::rd_kafka_event_error_string(event)));
                        Ok(())
                    }
                    _ => Ok(()),
                };
                sys::rd_kafka_event_destroy(event);
                result?;
            }
        }
    }

    /// # Safety
    /// `event` lives and is a rebalance.
    unsafe fn rebalance(&mut self, event: *mut sys::rd_kafka_event_t) -> Result<(), Error> {
        use sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let topic = CString::new(self.input.as_str())?;
        let shared = self.progress.clone();
        let Ok(mut next) = shared.next.lock() else {
            bail!("another worker has panicked");
        };
        // SAFETY: as the caller says; the list is the event's own, has `cnt` elements at `elems`, and lives as long.
        unsafe {
            let list = sys::rd_kafka_event_topic_partition_list(event);
            let count = usize::try_from((*list).cnt).unwrap_or(0);
            let elements = std::slice::from_raw_parts_mut((*list).elems, count);
            if sys::rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
                for element in elements {
                    element.offset = next.get(&element.partition).copied().unwrap_or(BEGINNING);
                    let queue = sys::rd_kafka_queue_get_partition(
                        self.consumer.0,
                        topic.as_ptr(),
                        element.partition,
                    );
                    let queue = Queue::new(queue, self.eventfd.as_raw_fd())?;
                    sys::rd_kafka_queue_forward(queue.0, std::ptr::null_mut());
                    self.partitions.push(Partition {
                        number: element.partition,
                        next: element.offset,
                        queue,
                    });
                }
                return check(sys::rd_kafka_incremental_assign(self.consumer.0, list));
            }
            let revoked: Vec<i32> = elements.iter().map(|element| element.partition).collect();
            for partition in &self.partitions {
                if revoked.contains(&partition.number) {
                    next.insert(partition.number, partition.next);
                }
            }
            self.partitions
                .retain(|partition| !revoked.contains(&partition.number));
            check(sys::rd_kafka_incremental_unassign(self.consumer.0, list))
        }
    }

    fn wait(&self) -> Result<(), Error> {
        /// Another worker may have read the last record, which wakes nobody here.
        const TIMEOUT_MS: c_int = 100;
        let mut fd = libc::pollfd {
            fd: self.eventfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut count = 0u64;
        // SAFETY: one descriptor, which is open, and eight bytes to read into.
        unsafe {
            if libc::poll(&mut fd, 1, TIMEOUT_MS) > 0 {
                libc::read(fd.fd, (&raw mut count).cast(), size_of::<u64>());
            }
        }
        Ok(())
    }
}

/// # Safety
/// `message` lives.
unsafe fn size(message: *const sys::rd_kafka_message_t) -> u64 {
    // SAFETY: as the caller says.
    unsafe { ((*message).key_len + (*message).len) as u64 }
}

unsafe extern "C" fn on_delivery(
    _client: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: `opaque` is the worker's, which is in a poll and uses it for nothing else; the message lives.
    unsafe {
        let in_flight = &mut *opaque.cast::<InFlight>();
        in_flight.bytes -= size(message);
        let code = (&raw const (*message).err).cast::<i32>().read();
        in_flight.failed += u64::from(code != 0);
    }
}
