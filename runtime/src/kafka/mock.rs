//! A Kafka cluster inside this process, for the demo and for tests: librdkafka's own mock.
//!
//! It serves producing, consuming and groups. It keeps records in memory, about 5 MB a partition, and it knows no
//! aborted transactions. A fetch that finds nothing takes `fetch.wait.max.ms`, whatever comes meanwhile, and a
//! rebalance nearly `session.timeout.ms`. Topics that don't exist are made when they're asked for.

use anyhow::{Context, Error};

use super::ffi::Mock;
#[cfg(test)]
use super::ffi::{Code, Request};

/// A cluster that lives until it is dropped.
pub struct MockCluster(Mock);

impl MockCluster {
    /// Starts a cluster of at least this many brokers on free ports of this machine.
    pub fn start(brokers: usize) -> Result<MockCluster, Error> {
        let brokers = i32::try_from(brokers.max(1)).context("can't start so many brokers")?;
        Ok(MockCluster(Mock::new(brokers)?))
    }

    /// For `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: usize) -> Result<(), Error> {
        let context = || format!("can't create topic \"{name}\" in the mock cluster");
        let partitions = i32::try_from(partitions).with_context(context)?;
        self.0.create_topic(name, partitions).with_context(context)
    }

    /// Disconnects all brokers and lets nobody in.
    pub fn stop_brokers(&self) -> Result<(), Error> {
        self.0
            .set_up(false)
            .context("can't stop the mock cluster's brokers")
    }

    /// Lets everybody in again.
    pub fn start_brokers(&self) -> Result<(), Error> {
        self.0
            .set_up(true)
            .context("can't start the mock cluster's brokers")
    }

    /// Answers the next requests of a kind with these errors, one after the other.
    #[cfg(test)]
    pub(super) fn fail(&self, request: Request, errors: &[Code]) {
        self.0.fail(request, errors);
    }

    /// How many requests of a kind came since the first call of [`MockCluster::fail`].
    #[cfg(test)]
    pub(super) fn requests(&self, request: Request) -> usize {
        self.0.requests(request)
    }
}
