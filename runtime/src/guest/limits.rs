//! What a guest may use, what it's called where it used more, and the watch over its memory and tables.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::ResourceLimiter;

use super::host::MAX_WASM_STACK;
use crate::letter::Class;

/// The bounds of one guest. All that can be hit in a call are enforced on instantiation, `describe` and `init` as on
/// `transform`. Each is a setting of the transform, by the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time of the worker's thread for one call.
    pub deadline: Duration,
    /// The same for a call with one input record alone, as while a poison record is looked for.
    pub record_deadline: Duration,
    /// Linear memory, in bytes.
    pub memory: usize,
    /// Elements of a table: function pointers, of which Rust's guests have some hundreds.
    pub max_table_elements: usize,
    /// Bytes of keys, values and headers that one call may bring out, columns that it left unchanged included.
    pub max_output_bytes: usize,
    /// Records that one call may bring out.
    pub max_output_records: usize,
    /// Of these bytes, those that may come of one input record of the pipeline.
    pub max_bytes_per_input: usize,
    /// Of these records, those that may come of one input record of the pipeline.
    pub max_records_per_input: usize,
    /// Lines that all guests of a module together may write to the log in a second.
    pub max_log_lines: usize,
    /// Bytes of the module's file.
    pub max_module_bytes: usize,
    /// Bytes of the config as JSON.
    pub max_config_bytes: usize,
}

impl Limits {
    /// Room for a batch of 1 MiB to grow sixteenfold and for a record of Kafka's default maximum (1 MiB) to grow
    /// eightfold, and a deadline a thousand times what such a batch takes. The largest of our own modules is below 1 MiB.
    pub const DEFAULT: Limits = Limits {
        deadline: Duration::from_secs(1),
        record_deadline: Duration::from_millis(100),
        memory: 64 << 20,
        max_table_elements: 100_000,
        max_output_bytes: 16 << 20,
        max_output_records: 100_000,
        max_bytes_per_input: 8 << 20,
        max_records_per_input: 10_000,
        max_log_lines: 100,
        max_module_bytes: 64 << 20,
        max_config_bytes: 1 << 20,
    };

    /// The deadline of a call with so many records where a call with `full` has all of `deadline`: a half gets half, so
    /// that looking for a poison record costs no more than a few full batches do.
    pub fn deadline_for(&self, records: usize, full: usize) -> Duration {
        if records <= 1 {
            return self.record_deadline;
        }
        let share = records.min(full) as f64 / full.max(1) as f64;
        self.deadline.mul_f64(share).max(self.record_deadline)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

/// A limit that a call can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// [`Limits::deadline`]
    Deadline,
    /// [`Limits::record_deadline`]
    RecordDeadline,
    /// [`Limits::memory`]
    Memory,
    /// [`Limits::max_table_elements`]
    TableElements,
    /// The stack that calls nest on: 512 KiB for every guest.
    Stack,
    /// [`Limits::max_output_bytes`]
    OutputBytes,
    /// [`Limits::max_output_records`]
    OutputRecords,
    /// [`Limits::max_bytes_per_input`]
    BytesPerInput,
    /// [`Limits::max_records_per_input`]
    RecordsPerInput,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 9] = [
        Limit::Deadline,
        Limit::RecordDeadline,
        Limit::Memory,
        Limit::TableElements,
        Limit::Stack,
        Limit::OutputBytes,
        Limit::OutputRecords,
        Limit::BytesPerInput,
        Limit::RecordsPerInput,
    ];

    /// As it stands in messages and metrics: the setting's name, except for `stack`, which isn't one.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Deadline => "deadline",
            Limit::RecordDeadline => "record_deadline",
            Limit::Memory => "memory",
            Limit::TableElements => "max_table_elements",
            Limit::Stack => "stack",
            Limit::OutputBytes => "max_output_bytes",
            Limit::OutputRecords => "max_output_records",
            Limit::BytesPerInput => "max_bytes_per_input",
            Limit::RecordsPerInput => "max_records_per_input",
        }
    }

    /// What hitting it counts as.
    pub fn class(self) -> Class {
        match self {
            Limit::Deadline | Limit::RecordDeadline => Class::Deadline,
            Limit::Memory | Limit::TableElements => Class::Memory,
            Limit::Stack => Class::Trap,
            Limit::OutputBytes
            | Limit::OutputRecords
            | Limit::BytesPerInput
            | Limit::RecordsPerInput => Class::Output,
        }
    }
}

/// A guest went past a limit. The text says what it did, and the limit with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) limit: Limit,
    text: String,
}

impl Exceeded {
    /// More CPU time than a call may take. `whole` is false where that's a share of the limit only.
    pub(super) fn time(limit: Limit, allowed: Duration, whole: bool) -> Exceeded {
        let share = if whole { "" } else { "this batch's share of " };
        Exceeded::new(
            limit,
            format!(
                "it used more CPU time for one call than the {allowed:?} that {share}`{}` allows",
                limit.name()
            ),
        )
    }

    pub(super) fn memory(allowed: usize) -> Exceeded {
        Exceeded::new(
            Limit::Memory,
            format!("it needs more memory than the {allowed} bytes that `memory` allows"),
        )
    }

    fn table(allowed: usize) -> Exceeded {
        Exceeded::new(
            Limit::TableElements,
            format!(
                "it needs a larger table than the {allowed} elements that `max_table_elements` allows"
            ),
        )
    }

    /// Calls nested too deep, in these functions if they have names.
    pub(super) fn stack(frames: Option<String>) -> Exceeded {
        let place = frames.map_or_else(String::new, |frames| format!(" (in {frames})"));
        Exceeded {
            limit: Limit::Stack,
            text: format!(
                "its calls nest deeper than the {MAX_WASM_STACK} bytes of stack that every guest has allow{place}; \
                 it must nest less, or keep its own stack"
            ),
        }
    }

    /// So much of something came out: `what` says how much of what.
    pub(super) fn output(limit: Limit, what: fmt::Arguments<'_>, allowed: usize) -> Exceeded {
        let name = limit.name();
        Exceeded::new(
            limit,
            format!("it returned {what}, and `{name}` allows {allowed}"),
        )
    }

    /// More came out than is looked at.
    pub(super) fn data(limits: &Limits) -> Exceeded {
        Exceeded::new(
            Limit::OutputBytes,
            format!(
                "it returned far more than `max_output_bytes`, which is {}, and `max_output_records`, which is {}, allow",
                limits.max_output_bytes, limits.max_output_records
            ),
        )
    }

    fn new(limit: Limit, mut text: String) -> Exceeded {
        text.push_str("; raise it if the transform needs that");
        Exceeded { limit, text }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Exceeded {}

/// Refuses what a guest asks for beyond its limits, as an error, so that the cause of a trap is known.
pub(super) struct Watch {
    memory: usize,
    table_elements: usize,
    /// What it has, in bytes.
    used: usize,
    /// What it and others have together.
    total: Arc<AtomicU64>,
}

impl Watch {
    /// Over a guest whose memory counts to `total`.
    pub(super) fn new(limits: &Limits, total: Arc<AtomicU64>) -> Watch {
        Watch {
            memory: limits.memory,
            table_elements: limits.max_table_elements,
            used: 0,
            total,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.total.fetch_sub(self.used as u64, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Watch {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match desired <= self.memory {
            true => {
                let more = desired.saturating_sub(self.used);
                self.used += more;
                self.total.fetch_add(more as u64, Ordering::Relaxed);
                Ok(true)
            }
            false => Err(wasmtime::Error::new(Exceeded::memory(self.memory))),
        }
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match desired <= self.table_elements {
            true => Ok(true),
            false => Err(wasmtime::Error::new(Exceeded::table(self.table_elements))),
        }
    }

    /// A guest is one core module; what wraps it may need a few more.
    fn instances(&self) -> usize {
        8
    }

    fn tables(&self) -> usize {
        4
    }

    /// `memory` counts for each, so there's one.
    fn memories(&self) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_batch_gets_a_part_of_the_deadline() {
        let limits = Limits::default();
        let ms = |records, full| limits.deadline_for(records, full).as_millis();
        assert_eq!(ms(1_000, 1_000), 1_000);
        assert_eq!(ms(500, 1_000), 500);
        assert_eq!(ms(2_000, 1_000), 1_000);
        // Never less than a record alone has.
        assert_eq!(ms(50, 1_000), 100);
        assert_eq!(ms(1, 1_000), 100);
        assert_eq!(ms(1, 1), 100);
        assert_eq!(ms(0, 0), 100);
    }

    #[test]
    fn every_limit_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Limit::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
    }
}
