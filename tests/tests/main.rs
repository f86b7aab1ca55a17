//! Tests against a real Kafka. `cargo xtask test kafka` does all of their set-up; `--filter NAME` runs some of them.

/// The harness itself: what a test writes is what it reads.
mod smoke;
