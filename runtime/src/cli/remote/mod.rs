//! Commands that ask a running Weir by its admin API: `swap`, `versions`, `rollback`, `promote`, `pause`, `resume`, `status`,
//! `health`.

pub mod args;
mod client;
mod health;
mod status;
mod swap;
mod versions;

use anyhow::Result;
use serde::Serialize;

pub use self::health::health;
pub use self::status::status;
pub use self::swap::{end_shadow, promote, roll_back, set_paused, swap};
pub use self::versions::versions;
use super::say;

/// Prints an answer for programs.
fn say_json(answer: &impl Serialize) -> Result<()> {
    say(serde_json::to_string_pretty(answer)?)
}
