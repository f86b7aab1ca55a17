//! The author's side of Weir's guest contract.

pub mod json;
