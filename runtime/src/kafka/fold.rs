//! Repeated trouble told once in a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::ffi::Code;

/// Lets one of a kind through per [`Fold::PERIOD`]. A broker that is down makes librdkafka say so at each attempt, once
/// for each broker.
#[derive(Default)]
pub(super) struct Fold(HashMap<Code, Instant>);

impl Fold {
    /// librdkafka itself repeats a log line no sooner.
    const PERIOD: Duration = Duration::from_secs(30);

    /// Whether to tell this one.
    pub(super) fn tells(&mut self, code: Code, now: Instant) -> bool {
        match self.0.get(&code) {
            Some(&last) if now.duration_since(last) < Fold::PERIOD => false,
            _ => {
                self.0.insert(code, now);
                true
            }
        }
    }
}
