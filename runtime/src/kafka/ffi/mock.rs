//! librdkafka's mock cluster.

use std::ffi::{CString, c_int};
use std::ptr::NonNull;
use std::sync::Arc;

use anyhow::{Context, Error};
use rdkafka_sys as sys;

use super::{Client, Code, Conf, text};

/// A cluster inside this process. The calls wait for its own thread.
pub(in crate::kafka) struct Mock {
    cluster: NonNull<sys::rd_kafka_mock_cluster_t>,
    /// Whom it belongs to.
    #[expect(dead_code, reason = "kept alive")]
    client: Arc<Client>,
}

// SAFETY: the calls are handed to the cluster's own thread.
unsafe impl Send for Mock {}

/// Requests, by Kafka's numbers of them.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(in crate::kafka) enum Request {
    Produce = 0,
    OffsetCommit = 8,
    OffsetFetch = 9,
    InitProducerId = 22,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    TxnOffsetCommit = 28,
}

impl Mock {
    /// A cluster of brokers 1 to `brokers`, and broker 0: it answers that its controller is 0, and without such a broker
    /// a client waits for it in vain.
    pub(in crate::kafka) fn new(brokers: c_int) -> Result<Mock, Error> {
        let client = Client::admin(Conf::new(&[], &|_| false)?)?;
        // SAFETY: the client lives; the cluster is ours.
        let cluster = unsafe { sys::rd_kafka_mock_cluster_new(client.as_ptr(), brokers) };
        let cluster = NonNull::new(cluster).context("can't start the mock cluster")?;
        let mock = Mock { cluster, client };
        // SAFETY: the cluster lives.
        let code = unsafe { sys::rd_kafka_mock_broker_add(mock.as_ptr(), 0) };
        Code::of(code)
            .into_result()
            .context("can't start a broker of the mock cluster")?;
        // SAFETY: the cluster lives. By default a new group waits 3 s for more members.
        unsafe { sys::rd_kafka_mock_group_initial_rebalance_delay_ms(mock.as_ptr(), 0) };
        Ok(mock)
    }

    /// For `bootstrap.servers`.
    pub(in crate::kafka) fn bootstrap_servers(&self) -> String {
        // SAFETY: the cluster lives, and the text as long.
        unsafe { text(sys::rd_kafka_mock_cluster_bootstraps(self.as_ptr())) }
    }

    /// Makes a topic.
    pub(in crate::kafka) fn create_topic(
        &self,
        name: &str,
        partitions: c_int,
    ) -> Result<(), Error> {
        let name = CString::new(name)
            .with_context(|| format!("a topic's name can't have a NUL byte: {name:?}"))?;
        // SAFETY: the cluster lives and the name is NUL-terminated.
        let code =
            unsafe { sys::rd_kafka_mock_topic_create(self.as_ptr(), name.as_ptr(), partitions, 1) };
        Code::of(code).into_result()
    }

    /// Disconnects all brokers and lets nobody in, or lets everybody in again.
    pub(in crate::kafka) fn set_up(&self, up: bool) -> Result<(), Error> {
        /// All brokers.
        const ALL: i32 = -1;
        // SAFETY: the cluster lives.
        Code::of(unsafe {
            match up {
                true => sys::rd_kafka_mock_broker_set_up(self.as_ptr(), ALL),
                false => sys::rd_kafka_mock_broker_set_down(self.as_ptr(), ALL),
            }
        })
        .into_result()
    }

    /// Answers the next requests of a kind with these errors, one after the other.
    #[cfg(test)]
    pub(in crate::kafka) fn fail(&self, request: Request, errors: &[Code]) {
        let errors: Vec<sys::rd_kafka_resp_err_t> = errors
            .iter()
            .map(|code| {
                sys::rd_kafka_resp_err_t::try_from(code.0).expect("an error of librdkafka's")
            })
            .collect();
        // SAFETY: the cluster lives; the errors are copied.
        unsafe {
            sys::rd_kafka_mock_start_request_tracking(self.as_ptr());
            sys::rd_kafka_mock_push_request_errors_array(
                self.as_ptr(),
                request as i16,
                errors.len(),
                errors.as_ptr(),
            );
        }
    }

    /// How many requests of a kind came since the first call of [`Mock::fail`].
    #[cfg(test)]
    pub(in crate::kafka) fn requests(&self, request: Request) -> usize {
        let mut count = 0;
        // SAFETY: the cluster lives; the requests are ours, as many as it says, and are freed once looked at.
        unsafe {
            let requests = sys::rd_kafka_mock_get_requests(self.as_ptr(), &mut count);
            let of_kind = (0..count)
                .filter(|&at| {
                    sys::rd_kafka_mock_request_api_key(*requests.add(at)) == request as i16
                })
                .count();
            sys::rd_kafka_mock_request_destroy_array(requests, count);
            of_kind
        }
    }

    fn as_ptr(&self) -> *mut sys::rd_kafka_mock_cluster_t {
        self.cluster.as_ptr()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // SAFETY: ours, and its client lives.
        unsafe { sys::rd_kafka_mock_cluster_destroy(self.as_ptr()) };
    }
}
