//! A guest for the runtime's tests: a record's value is the verb of what becomes of it, faults and lies included.
//!
//! | value | |
//! |---|---|
//! | `keep`, `drop` | the record goes on, or ends |
//! | `refuse`, `refuse:REASON` | it's refused |
//! | `count` | it goes on with the number of batches that this instance has been given as its value |
//! | `flood:N` | it goes on N times (1,000,000), unchanged |
//! | `big:N` | it goes on with a value of N MiB (64) |
//! | `log:N` | it goes on with N log lines (1,000) |
//! | `burn:N` | it goes on after N million steps of work (100) |
//! | `panic`, `panic:TEXT`, `trap` | a panic, or a bare trap |
//! | `spin`, `stack` | an endless loop, or an endless recursion |
//! | `grow` | memory is asked for until it's refused, through the allocator |
//! | `grow-pages` | the same, page by page with `memory.grow`; a failure that doesn't trap is let pass |
//! | `err`, `err:TEXT` | `transform` returns an error |
//! | `lie:WHAT` | the batch comes back with columns that break the contract, see [`LIES`] |
//!
//! The verb ends at the first space, so that a value can be padded to any size. Other values, and null, are refused.
//!
//! The config's `init` says what `init` does: `ok` (default), `refuse`, `panic`, `trap`, `spin`, `grow`, `stack`. `needs`
//! lists the columns that it asks for (`["values"]`). With `field` the value is a JSON object and the verb is the string in
//! that field of it, which stands there without escapes; a record without the field goes on. With `by_name` no value is a
//! verb: each record goes to the output that its value names, by the SDK's `set_output`.
//! With `always` that is the verb of all records, whatever their values; with `nth`, too, of the nth record alone that an
//! instance is given.

mod by_name;
mod lies;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::hint::black_box;

use weir_guest::LogLevel;
use weir_guest::bindings::{
    Batch, Column, Description, Guest, Headers, Logs, Needs, Output, Refusals, Setup,
};

pub use lies::LIES;

/// The guest.
pub struct Faulty;

#[cfg(target_arch = "wasm32")]
weir_guest::bindings::export_guest!(Faulty with_types_in weir_guest::bindings);

thread_local! {
    /// The batches that this instance has been given.
    static BATCHES: Cell<u64> = const { Cell::new(0) };
    /// The records that this instance has been given.
    static RECORDS: Cell<u64> = const { Cell::new(0) };
    /// The verb of all records, or of the nth one that this instance is given.
    static ALWAYS: RefCell<Option<String>> = const { RefCell::new(None) };
    static NTH: Cell<Option<u64>> = const { Cell::new(None) };
    /// What stands before the verb, if it stands in a field: `"FIELD":"`.
    static MARK: RefCell<Option<String>> = const { RefCell::new(None) };
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    init: Init,
    needs: Option<Vec<Need>>,
    field: Option<String>,
    by_name: bool,
    always: Option<String>,
    nth: Option<u64>,
}

#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Init {
    #[default]
    Ok,
    Refuse,
    Panic,
    Trap,
    Spin,
    Grow,
    Stack,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Need {
    Keys,
    Values,
    Headers,
    Timestamps,
    Positions,
}

impl Guest for Faulty {
    fn describe() -> Description {
        keep_panic_text();
        Description {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            config_schema: "{}".to_owned(),
        }
    }

    fn init(setup: Setup) -> Result<Needs, String> {
        keep_panic_text();
        let config: Config =
            serde_json::from_str(&setup.config).map_err(|error| format!("config: {error}"))?;
        match config.init {
            Init::Ok => {}
            Init::Refuse => return Err("config field `init`: refused, as it asks for".to_owned()),
            Init::Panic => panic!("init panics"),
            Init::Trap => trap(),
            Init::Spin => spin(),
            Init::Grow => grow(),
            Init::Stack => drop(recurse(0)),
        }
        ALWAYS.set(config.always);
        NTH.set(config.nth);
        MARK.set(config.field.map(|field| format!("\"{field}\":\"")));
        if config.by_name {
            return by_name::init(setup.outputs);
        }
        let needs = config.needs.unwrap_or_else(|| vec![Need::Values]);
        let flag = |need: &Need| match need {
            Need::Keys => Needs::KEYS,
            Need::Values => Needs::VALUES,
            Need::Headers => Needs::HEADERS,
            Need::Timestamps => Needs::TIMESTAMPS,
            Need::Positions => Needs::POSITIONS,
        };
        Ok(needs
            .iter()
            .map(flag)
            .fold(Needs::empty(), |all, one| all | one))
    }

    fn transform(batch: Batch) -> Result<Output, String> {
        match by_name::transform(&batch) {
            Some(output) => Ok(output),
            None => transform(&batch),
        }
    }
}

fn transform(batch: &Batch) -> Result<Output, String> {
    BATCHES.set(BATCHES.get() + 1);
    let mut output = empty_output();
    // The values that are written anew, by output record.
    let mut written: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut lies = Vec::new();
    for index in 0..batch.count {
        let value = match batch.values.ends.is_empty() {
            true => Some(&b"keep"[..]),
            false => batch.values.get(index as usize),
        };
        let text = String::from_utf8_lossy(value.unwrap_or(b"null"));
        let text = MARK.with_borrow(|mark| verb_in(&text, mark.as_deref()).to_owned());
        RECORDS.set(RECORDS.get() + 1);
        let is_meant = NTH.get().is_none_or(|nth| nth == RECORDS.get());
        let text = match ALWAYS.with_borrow(Clone::clone).filter(|_| is_meant) {
            Some(verb) => verb,
            None => text,
        };
        let verb = text.split(' ').next().unwrap_or_default();
        let (verb, argument) = match verb.split_once(':') {
            Some((verb, argument)) => (verb, Some(argument)),
            None => (verb, None),
        };
        let number = |default: u64| match argument.map(str::parse) {
            Some(Ok(number)) => number,
            _ => default,
        };
        match verb {
            "keep" => output.take.push(index),
            "drop" => {}
            "refuse" => refuse(&mut output, index, argument.unwrap_or("as it asks for")),
            "count" => {
                written.push((output.take.len(), BATCHES.get().to_string().into_bytes()));
                output.take.push(index);
            }
            "flood" => {
                let copies = number(1_000_000) as usize;
                output.take.resize(output.take.len() + copies, index);
            }
            "big" => {
                let size = number(64) as usize;
                written.push((output.take.len(), vec![b'x'; size << 20]));
                output.take.push(index);
            }
            "log" => {
                for line in 0..number(1_000) {
                    output.logs.levels.push(LogLevel::Info);
                    output.logs.indexes.push(index);
                    let text = format!("line {line}");
                    output.logs.messages.push(Some(text.as_bytes()));
                }
                output.take.push(index);
            }
            "burn" => {
                for step in 0..number(100) * 1_000_000 {
                    black_box(step);
                }
                output.take.push(index);
            }
            "panic" => panic!("{}", argument.unwrap_or("as the record asks for")),
            "trap" => trap(),
            "spin" => spin(),
            "stack" => drop(recurse(0)),
            "grow" => grow(),
            "grow-pages" => {
                grow_pages();
                output.take.push(index);
            }
            "err" => return Err(argument.unwrap_or("as the record asks for").to_owned()),
            "lie" => {
                lies.push((index, argument.unwrap_or_default().to_owned()));
                output.take.push(index);
            }
            _ => refuse(&mut output, index, &format!("no such verb: `{verb}`")),
        }
    }
    if !written.is_empty() {
        output.values = Some(values(batch, &output.take, written));
    }
    for (index, lie) in lies {
        lies::tell(&lie, index, batch, &mut output)?;
    }
    Ok(output)
}

/// The value, or what stands in it between the mark and the next quote.
fn verb_in<'a>(text: &'a str, mark: Option<&str>) -> &'a str {
    let Some(mark) = mark else {
        return text;
    };
    match text.split_once(mark) {
        Some((_, after)) => after.split('"').next().unwrap_or_default(),
        None => "keep",
    }
}

fn empty_output() -> Output {
    Output {
        take: Vec::new(),
        keys: None,
        values: None,
        headers: None,
        timestamps: None,
        outputs: None,
        refused: Refusals {
            indexes: Vec::new(),
            reasons: empty_column(),
        },
        logs: Logs {
            levels: Vec::new(),
            indexes: Vec::new(),
            messages: empty_column(),
        },
    }
}

fn empty_column() -> Column {
    Column {
        data: Vec::new(),
        ends: Vec::new(),
        nulls: Vec::new(),
    }
}

fn empty_headers() -> Headers {
    Headers {
        counts: Vec::new(),
        names: empty_column(),
        values: empty_column(),
    }
}

fn refuse(output: &mut Output, index: u32, reason: &str) {
    output.refused.indexes.push(index);
    output.refused.reasons.push(Some(reason.as_bytes()));
}

/// The values of all output records, with those that are written anew in their places.
fn values(batch: &Batch, take: &[u32], written: Vec<(usize, Vec<u8>)>) -> Column {
    let mut column = empty_column();
    let mut written = written.into_iter().peekable();
    for (row, &index) in take.iter().enumerate() {
        match written.next_if(|&(at, _)| at == row) {
            Some((_, value)) => column.push(Some(&value)),
            None => column.push(batch.values.get(index as usize)),
        }
    }
    column
}

fn keep_panic_text() {
    // In native tests the test runner's own hook stays.
    #[cfg(target_arch = "wasm32")]
    weir_guest::export::keep_panic_text();
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort()
}

fn spin() -> ! {
    let mut step = 0u64;
    loop {
        step = black_box(step.wrapping_add(1));
    }
}

/// Ends with the allocator's failure.
fn grow() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1u8; 1 << 20]));
    }
}

fn grow_pages() {
    #[cfg(target_arch = "wasm32")]
    while core::arch::wasm32::memory_grow(0, 16) != usize::MAX {}
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    // Used after the call, so that it can't become a loop.
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[(depth % 64) as usize]
}
