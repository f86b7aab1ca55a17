//! The SDK as a transform's author meets it.

mod record;
mod wit;
