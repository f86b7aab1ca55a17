//! How a guest breaks.

use std::fmt;

use wasmtime::{Trap, WasmBacktrace, WasmCoreDump};

use super::check::one_line;
use super::limits::Exceeded;
use crate::letter::Class;

/// A guest broke: it must not be entered again. What it says is for the person who mends the transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It trapped: a panic, an access out of bounds, a stack overflow.
    Trap(String),
    /// It used more CPU time for one call than `deadline` allows.
    Deadline(String),
    /// It needed more memory than `memory` allows.
    Memory(String),
    /// What it returned is nonsense, or more than the limits allow.
    Output(String),
    /// It gave up on the whole call by returning an error.
    Error(String),
}

impl Fault {
    /// Its class.
    pub fn class(&self) -> Class {
        match self {
            Fault::Trap(_) | Fault::Error(_) => Class::Trap,
            Fault::Deadline(_) => Class::Deadline,
            Fault::Memory(_) => Class::Memory,
            Fault::Output(_) => Class::Output,
        }
    }

    /// Sorts an error of wasmtime's. `panic` is the guest's last panic message, if it left one.
    pub(super) fn of(error: &wasmtime::Error, panic: Option<String>) -> Fault {
        if let Some(Exceeded::Memory { .. }) = error.downcast_ref() {
            return Fault::Memory(root(error));
        }
        if let Some(late) = error.downcast_ref::<Late>() {
            return Fault::Deadline(late.to_string());
        }
        let trap = error.downcast_ref::<Trap>();
        if trap.is_none() && error.downcast_ref::<WasmCoreDump>().is_none() {
            // Not the guest's code: what it returned could not be lifted.
            return Fault::Output(root(error));
        }
        let cause = match (panic, trap) {
            // Rust's own text begins with these words.
            (Some(panic), _) => match one_line(&panic) {
                text if text.starts_with("panicked ") => format!("it {text}"),
                text => format!("it panicked: {text}"),
            },
            (None, Some(trap)) => trap.to_string(),
            (None, None) => root(error),
        };
        Fault::Trap(match backtrace(error) {
            Some(frames) => format!("{cause} (in {frames})"),
            None => cause,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Trap(why) => write!(f, "it trapped: {why}"),
            Fault::Deadline(why) | Fault::Memory(why) => write!(f, "{why}"),
            Fault::Output(why) => write!(f, "what it returned can't be used: {why}"),
            Fault::Error(why) => write!(f, "it gave up: {why}"),
        }
    }
}

impl std::error::Error for Fault {}

/// A call's CPU time is spent.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) deadline: std::time::Duration,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it used more CPU time for one call than the {:?} that `deadline` allows",
            self.deadline
        )
    }
}

impl std::error::Error for Late {}

fn root(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}

/// The innermost functions that have names, without the machinery of panics.
fn backtrace(error: &wasmtime::Error) -> Option<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let frames = match backtrace {
        Some(backtrace) => backtrace.frames(),
        None => error.downcast_ref::<WasmCoreDump>()?.frames(),
    };
    let names: Vec<String> = frames
        .iter()
        .filter_map(|frame| frame.func_name())
        .map(|name| one_line(&format!("{:#}", rustc_demangle::demangle(name))))
        .filter(|name| !MACHINERY.iter().any(|part| name.contains(part)))
        .take(4)
        .collect();
    (!names.is_empty()).then(|| names.join(" < "))
}

const MACHINERY: [&str; 5] = [
    "panicking",
    "rust_panic",
    "rust_begin_unwind",
    "__rust_",
    "panic_handler",
];
