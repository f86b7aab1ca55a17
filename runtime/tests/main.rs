//! The runtime without Kafka: real guests, a worker with a fake source and sink.
//!
//! - `fakes`: the source and sink that a test feeds, corks and fails.
//! - `clusters`: what a pipeline asks of the clusters that it reads from and writes to.
//! - `deploy`: versions, and what changes them, on the control side and on its workers.
//! - `guests`: modules that load, modules that don't, and what a broken one does to its host.
//! - `limits`: every limit, met by a guest that's after it.
//! - `fuzz`: guests that return any bytes at all.
//! - `hand`: modules written by hand, for what no Rust guest does.
//! - `outputs`: guests that choose among outputs, and one that hides things.
//! - `worker`: what comes out, what is committed, and when.
//! - `failures`: records that a transform can't process: policies, isolation, dead letters, the circuit breaker.
//! - `transactions`: exactly-once, and what goes wrong with it.
//! - `swap`: another chain under a worker's hands; the split and merge of a canary.
//! - `seed`: the seed job and its ids.
//! - `shadow`: a version that's tried beside the active one.

mod clusters;
mod deploy;
mod failures;
mod fakes;
mod fuzz;
mod guests;
mod hand;
mod limits;
mod outputs;
mod seed;
mod shadow;
mod swap;
mod transactions;
mod util;
mod worker;
