//! The command line: what can be typed ([`args`]), and what people see ([`table`], [`text`], [`produce`], [`demo`], [`dead_letters`],
//! [`remote`]).

pub mod args;
pub mod check;
pub mod dead_letters;
pub mod demo;
pub mod inspect;
pub mod offsets;
pub mod produce;
pub mod remote;
pub mod run;
pub mod table;
pub mod text;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Error;

use self::args::{ConfigFile, LogFormat};
use crate::app::App;
use crate::config::{self, Config, ConfigError};
use crate::instance::Instance;
use crate::kafka::{Scope, permit};
use crate::store::Store;

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

/// Who read standard output has closed it, as `head` does when it has seen enough: the process ends, and that's no
/// failure.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// Writes a line to standard output.
fn say(line: impl fmt::Display) -> Result<(), Error> {
    writeln!(io::stdout(), "{line}").map_err(unsaid)
}

/// Why standard output couldn't be written.
fn unsaid(why: io::Error) -> Error {
    match why.kind() {
        io::ErrorKind::BrokenPipe => ReaderGone.into(),
        _ => Error::new(why).context("writing to standard output"),
    }
}

/// Reads the config file, Kafka's settings judged too.
fn load(file: &ConfigFile) -> Result<Config, Error> {
    Ok(Config::load(&file.config, &permitted)?)
}

/// Loads the modules too. What fails here is for the one who typed to mend.
fn load_app(config: Config, instance: Instance, store: Store) -> Result<App, Error> {
    App::load(config, instance, store).map_err(|why| match why.is::<ConfigError>() {
        true => why,
        false => UsageError(format!("{why:#}")).into(),
    })
}

/// Whether Kafka's settings may be set so.
pub fn permitted(table: config::Table, key: &str, value: &str) -> Result<(), String> {
    let scope = match table {
        config::Table::Kafka => Scope::Any,
        config::Table::Consumer => Scope::Consumer,
        config::Table::Producer => Scope::Producer,
    };
    permit(scope, key, value).map_err(|refused| refused.to_string())
}

/// Prints an error with its causes on standard error, and gives the code to end with. A config's problems stand a line
/// each, without more around them, so that editors find their way to each. Where the log is for programs, it's an event as
/// any other.
pub fn report(error: &Error, format: LogFormat) -> ExitCode {
    if error.is::<ReaderGone>() {
        return ExitCode::from(DONE);
    }
    let problems = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ConfigError>());
    match (format, problems) {
        (LogFormat::Json, Some(problems)) => tracing::error!("{problems}"),
        (LogFormat::Json, None) => tracing::error!("{error:#}"),
        (LogFormat::Text, Some(problems)) => eprintln!("{problems}"),
        (LogFormat::Text, None) => eprintln!("weir: {error:#}"),
    }
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
