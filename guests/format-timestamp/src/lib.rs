//! A Weir transform.

pub mod config;
pub mod instant;
pub mod iso;
pub mod pattern;
