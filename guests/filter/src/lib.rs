//! A filter.
mod check;
pub mod compile;
pub mod evaluate;
pub mod fault;
mod functions;
pub mod input;
mod operators;
pub mod parse;
mod pattern;
pub mod program;
pub mod time;
pub mod value;
