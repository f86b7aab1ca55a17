//! A Kafka cluster inside this process, for the demo and for tests: librdkafka's own mock.
//!
//! It serves producing, consuming and groups. It keeps all records in memory, about 5 MB a partition, and it knows no
//! aborted transactions.

use anyhow::{Context, Error};
use rdkafka::mocking::MockCluster as Mock;
use rdkafka::producer::DefaultProducerContext;

/// A cluster that lives until it is dropped.
pub struct MockCluster(Mock<'static, DefaultProducerContext>);

impl MockCluster {
    /// Starts a cluster on free ports of this machine.
    pub fn start(brokers: usize) -> Result<MockCluster, Error> {
        let brokers = i32::try_from(brokers)?;
        Ok(MockCluster(
            Mock::new(brokers).context("can't start the mock cluster")?,
        ))
    }

    /// For `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: usize) -> Result<(), Error> {
        self.0
            .create_topic(name, i32::try_from(partitions)?, 1)
            .with_context(|| format!("can't create topic \"{name}\" in the mock cluster"))
    }

    /// Disconnects all brokers and lets nobody in.
    pub fn stop_brokers(&self) -> Result<(), Error> {
        self.0
            .broker_down(-1)
            .context("can't stop the mock cluster's brokers")
    }

    /// Lets everybody in again.
    pub fn start_brokers(&self) -> Result<(), Error> {
        self.0
            .broker_up(-1)
            .context("can't start the mock cluster's brokers")
    }
}
