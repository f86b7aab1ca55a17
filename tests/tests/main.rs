//! Tests against a real Kafka. `cargo xtask test kafka` does all of their set-up; `--filter NAME` runs some of them.

/// Brokers in trouble, and what is told of it.
mod broker_trouble;
/// Commands that run to their end: check, offsets, inspect, produce, demo.
mod commands;
/// compose.yaml, and its services as processes.
mod compose;
/// Grafana's dashboards and Prometheus's rules.
mod dashboards;
/// Dead letters seen from outside, and their replay.
mod dead_letters;
/// Crashes, signals, and processes that come and go: nothing is lost.
mod delivery;
/// The same, and nothing twice.
mod exactly_once;
/// What no transform touches comes out byte for byte.
mod fidelity;
/// The container image.
mod image;
/// Metrics in a real InfluxDB.
mod influxdb;
/// What is read: several pipelines, patterns, where to start, partitions and topics that come later.
mod inputs;
/// Several processes on one host.
mod instances;
/// What `/metrics` and `/readyz` say.
mod metrics;
/// What Prometheus and InfluxDB have of a run, against the topics.
mod numbers;
/// Several outputs of a pipeline, and guests that choose among them and hide things.
mod outputs;
/// Partitions and order.
mod partitions;
/// Records that more than one test uses.
mod records;
/// Records that are refused, guests that break, tombstones.
mod refusals;
/// The source and the sink by themselves: transactions, and how large a record may be.
mod seam;
/// The seed job, record by record.
mod seed_job;
/// The harness itself: what a test writes is what it reads.
mod smoke;
/// Versions that change while records flow, and who may change them.
mod swap;
/// What a pipeline's topics must be like, and what is said while they aren't.
mod topics;
/// Mistakes in configs and modules, and a Kafka that isn't there yet.
mod trouble;
