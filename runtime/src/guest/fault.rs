//! How a guest breaks.

use std::fmt;

use wasmtime::{FrameInfo, Trap, WasmBacktrace, WasmCoreDump};

use super::limits::{Exceeded, Limit, Limits};
use super::log::one_line;
use crate::letter::Class;

/// A guest broke: it must not be entered again. What it says is for the person who mends the transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It trapped: a panic, an access out of bounds, a division by zero.
    Trap(String),
    /// It went past a limit. The text says what it did, the limit and its value, and what to change.
    Limit(Limit, String),
    /// What it returned is nonsense.
    Output(String),
    /// It gave up on the whole call by returning an error.
    Error(String),
}

impl Fault {
    /// What it counts as in dead letters, logs and metrics.
    pub fn class(&self) -> Class {
        match self {
            Fault::Trap(_) | Fault::Error(_) => Class::Trap,
            Fault::Limit(limit, _) => limit.class(),
            Fault::Output(_) => Class::Output,
        }
    }

    /// The limit that it went past, by the name of its setting.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Fault::Limit(limit, _) => Some(limit.name()),
            Fault::Trap(_) | Fault::Output(_) | Fault::Error(_) => None,
        }
    }

    /// Sorts an error of wasmtime's. `panic` is the guest's last panic message, if it left one.
    pub(super) fn of(error: &wasmtime::Error, panic: Option<String>, limits: &Limits) -> Fault {
        if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
            return exceeded.clone().into();
        }
        let trap = error.downcast_ref::<Trap>();
        let backtrace = Backtrace::of(error);
        if trap.is_none() && error.downcast_ref::<WasmCoreDump>().is_none() {
            // Not the guest's code: what it returned could not be lifted.
            let why = error.root_cause().to_string();
            return match why.contains(OUT_OF_FUEL) {
                true => Exceeded::data(limits).into(),
                false => Fault::Output(why),
            };
        }
        if trap == Some(&Trap::StackOverflow) {
            return Exceeded::stack(backtrace.names()).into();
        }
        let cause = match (panic, trap) {
            // Rust's own text begins with these words.
            (Some(panic), _) => match one_line(&panic) {
                text if text.starts_with("panicked ") => format!("it {text}"),
                text => format!("it panicked: {text}"),
            },
            (None, Some(Trap::MemoryOutOfBounds)) if backtrace.is_deep() => format!(
                "{}, after so many nested calls probably since the stack in its memory is used up",
                Trap::MemoryOutOfBounds
            ),
            (None, Some(trap)) => trap.to_string(),
            (None, None) => error.root_cause().to_string(),
        };
        Fault::Trap(match backtrace.names() {
            Some(names) => format!("{cause} (in {names})"),
            None => cause,
        })
    }
}

impl From<Exceeded> for Fault {
    fn from(it: Exceeded) -> Fault {
        Fault::Limit(it.limit, it.to_string())
    }
}

impl From<String> for Fault {
    /// What is wrong with what it returned.
    fn from(why: String) -> Fault {
        Fault::Output(why)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Trap(why) => write!(f, "it trapped: {why}"),
            Fault::Limit(_, why) => write!(f, "{why}"),
            Fault::Output(why) => write!(f, "what it returned can't be used: {why}"),
            Fault::Error(why) => write!(f, "it gave up: {why}"),
        }
    }
}

impl std::error::Error for Fault {}

/// A part of wasmtime's message where more comes back than `Store::set_hostcall_fuel` allows; its type is private.
const OUT_OF_FUEL: &str = "fuel allocated for hostcalls has been exhausted";

/// Frames that wasmtime keeps of a backtrace: its own default.
const MAX_FRAMES: usize = 20;

/// Names that are shown, and bytes of each.
const SHOWN: usize = 4;
const MAX_NAME: usize = 200;

/// The functions that were being run, innermost first.
struct Backtrace<'a>(&'a [FrameInfo]);

impl Backtrace<'_> {
    fn of(error: &wasmtime::Error) -> Backtrace<'_> {
        Backtrace(match error.downcast_ref::<WasmBacktrace>() {
            Some(backtrace) => backtrace.frames(),
            None => error
                .downcast_ref::<WasmCoreDump>()
                .map_or(&[], |dump| dump.frames()),
        })
    }

    fn is_deep(&self) -> bool {
        self.0.len() >= MAX_FRAMES
    }

    /// The innermost functions that have names, without the machinery of panics; one that calls itself counts once.
    fn names(&self) -> Option<String> {
        let mut names: Vec<String> = self
            .0
            .iter()
            .filter_map(|frame| frame.func_name())
            .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
            .filter(|name| !MACHINERY.iter().any(|part| name.contains(part)))
            .map(|name| one_line(&name[..name.floor_char_boundary(MAX_NAME)]))
            .collect();
        names.dedup();
        names.truncate(SHOWN);
        (!names.is_empty()).then(|| names.join(" < "))
    }
}

const MACHINERY: [&str; 5] = [
    "panicking",
    "rust_panic",
    "rust_begin_unwind",
    "__rust_",
    "panic_handler",
];
