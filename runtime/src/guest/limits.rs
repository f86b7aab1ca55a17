//! What a guest may use, and the watch over its memory and tables.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// The bounds of one guest. All are enforced on `init` and `describe` as on `transform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time of the worker's thread for one call.
    pub deadline: Duration,
    /// The same for a call with one record alone, as while a poison record is looked for.
    pub record_deadline: Duration,
    /// Linear memory, in bytes.
    pub memory: usize,
    /// Bytes of keys, values and headers that one call may bring out, columns that it left unchanged included.
    pub max_output_bytes: usize,
    /// Records that one call may bring out.
    pub max_output_records: usize,
}

impl Default for Limits {
    /// Room for a batch of 1 MiB to grow sixteenfold, and a deadline a thousand times what such a batch takes.
    fn default() -> Limits {
        Limits {
            deadline: Duration::from_secs(1),
            record_deadline: Duration::from_millis(100),
            memory: 64 << 20,
            max_output_bytes: 16 << 20,
            max_output_records: 100_000,
        }
    }
}

/// Elements in a guest's tables: function pointers, of which Rust's guests have some hundreds.
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Refuses what a guest asks for beyond its limits, as an error, so that the cause of a trap is known.
pub(super) struct Watch {
    memory: usize,
}

impl Watch {
    pub(super) fn new(limits: &Limits) -> Watch {
        Watch {
            memory: limits.memory,
        }
    }
}

/// Why a guest was refused more.
#[derive(Debug)]
pub(super) enum Exceeded {
    Memory { limit: usize },
    Table,
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exceeded::Memory { limit } => write!(
                f,
                "it needs more memory than the {limit} bytes that `memory` allows"
            ),
            Exceeded::Table => write!(f, "a table of over {MAX_TABLE_ELEMENTS} elements"),
        }
    }
}

impl std::error::Error for Exceeded {}

impl ResourceLimiter for Watch {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match desired <= self.memory {
            true => Ok(true),
            false => Err(wasmtime::Error::new(Exceeded::Memory {
                limit: self.memory,
            })),
        }
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match desired <= MAX_TABLE_ELEMENTS {
            true => Ok(true),
            false => Err(wasmtime::Error::new(Exceeded::Table)),
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
