//! Tests against a real Kafka. `cargo xtask test kafka` does all of their set-up; `--filter NAME` runs some of them.
//!
//! - `smoke`: the harness itself: what a test writes is what it reads.
//! - `copy`: an empty chain keeps every byte; starting, stopping and being killed lose nothing.

mod copy;
mod records;
mod smoke;
