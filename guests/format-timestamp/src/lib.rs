//! A Weir transform.

mod instant;
mod iso;
mod pattern;
