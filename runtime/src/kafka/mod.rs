//! Kafka: sources, sinks and questions about the cluster. The one folder that names rdkafka and librdkafka; nothing here
//! knows of Wasm.
//!
//! - `settings`: what librdkafka is told, and what the user may say about it.
//! - `size`: how large a record is to a broker.
//! - `wake`: how a worker sleeps.
//! - `consumer`, `producer`: the source and the sink of a worker.
//! - `transactions`, `caller`: where a producer's transactions stand, and the thread that waits for brokers.
//! - `statistics`: what a consumer says of itself.
//! - `membership`: how the source's membership in its group comes to the sink.
//! - `reader`: a topic seen from outside.
//! - `admin`: questions about topics, groups and offsets.
//! - `mock`: a cluster inside this process.
//! - `ffi`: librdkafka's C interface, and the only `unsafe` here.

mod admin;
mod caller;
mod consumer;
mod ffi;
mod membership;
mod mock;
mod producer;
mod reader;
mod settings;
mod size;
mod statistics;
mod transactions;
mod wake;

#[cfg(test)]
mod tests;

pub use admin::{Admin, GroupOffsets, GroupState, Topic};
pub use consumer::{KafkaSource, Start};
pub use mock::MockCluster;
pub use producer::KafkaSink;
pub use reader::{Noted, Reader, Reading, reader_settings};
pub use settings::{
    ConsumerOptions, ProducerOptions, Refused, Scope, Settings, admin_settings, consumer_settings,
    group_settings, is_secret, permit, producer_settings,
};
pub use wake::Waker;

/// The version of librdkafka.
pub fn version() -> String {
    ffi::version()
}

/// Has librdkafka's threads share their memory, so that it's given back. To be called once, before there are threads.
pub fn share_memory() {
    ffi::share_arenas();
}
