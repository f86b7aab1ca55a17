//! `cargo xtask demo`: `weir demo`, from nothing.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Error;
use clap::Args;

use crate::machine::{self, Need};
use crate::{cargo, guests};

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo
  cargo xtask demo --seconds 10
  cargo xtask demo --help               # what `weir demo` takes";

/// Build everything and run `weir demo`, which needs no broker.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, disable_help_flag = true)]
pub struct Arguments {
    /// Arguments for `weir demo`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the task. Returns only when something is wrong: otherwise this process becomes `weir`.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    machine::check(&[Need::Build])?;
    guests::build()?;
    let weir = cargo::build_programs()?.join("weir");
    let error = Command::new(&weir)
        .arg("demo")
        .args(&arguments.arguments)
        .exec();
    Err(Error::new(error).context(format!("can't run {}", weir.display())))
}
