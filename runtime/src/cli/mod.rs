//! The command line: what can be typed ([`args`]), and what people see ([`table`], [`text`], [`produce`], [`demo`]).

pub mod args;
pub mod demo;
pub mod produce;
pub mod table;
pub mod text;

use std::fmt;
use std::process::ExitCode;

use anyhow::Error;

use crate::config::ConfigError;

/// All was done.
pub const DONE: u8 = 0;
/// It failed while it ran.
pub const FAILED: u8 = 1;
/// The command line or the config is wrong; nothing was started. clap ends with this code too.
pub const USAGE: u8 = 2;

/// Something that the person who typed the command can mend: ends the process with [`USAGE`].
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Prints an error with its causes on standard error, and gives the code to end with.
pub fn report(error: &Error) -> ExitCode {
    eprintln!("weir: {error:#}");
    ExitCode::from(exit_code(error))
}

/// [`USAGE`] if the cause is a wrong command line or config, however deep, otherwise [`FAILED`].
pub fn exit_code(error: &Error) -> u8 {
    let is_usage = error
        .chain()
        .any(|cause| cause.is::<UsageError>() || cause.is::<ConfigError>());
    match is_usage {
        true => USAGE,
        false => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Context;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_exit_code_tells_config_from_running() {
        let config = Config::load(Path::new("/nowhere/weir.toml"), &|_, _, _| Ok(()));
        let error = config.context("starting").unwrap_err();
        assert_eq!(exit_code(&error), 2);
        let error = Error::new(UsageError("no such pipeline".into())).context("resetting");
        assert_eq!(exit_code(&error), 2);
        assert_eq!(exit_code(&Error::msg("the broker is gone")), 1);
    }
}
