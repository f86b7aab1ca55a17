//! The `weir` command.

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use weir::cli::args::{Cli, Command, LogFormat};
use weir::cli::{
    self, UsageError, check, dead_letters, demo, inspect, offsets, produce, remote, run,
};
use weir::guest::compile_stdin;

fn main() -> ExitCode {
    // Not for people: the child process that compiles modules.
    if std::env::args_os().nth(1).is_some_and(|it| it == "compile") {
        return match compile_stdin() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why:#}");
                ExitCode::FAILURE
            }
        };
    }
    weir::kafka::share_memory();
    let cli = Cli::parse();
    let done = log(&cli).and_then(|()| match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(args),
        Command::Offsets(args) => offsets::offsets(args),
        Command::DeadLetters(args) => dead_letters::dead_letters(args),
        Command::Status(args) => remote::status(args),
        Command::Health(args) => remote::health(args),
        Command::Swap(args) => remote::swap(args),
        Command::Versions(args) => remote::versions(args),
        Command::Rollback(args) => remote::roll_back(args),
        Command::Promote(args) => remote::promote(args),
        Command::Pause(args) => remote::set_paused(args, true),
        Command::Resume(args) => remote::set_paused(args, false),
        Command::Inspect(args) => inspect::inspect(args),
        Command::Produce(args) => produce::run(args),
        Command::Demo(args) => demo::run(args),
    });
    match done {
        Ok(()) => ExitCode::from(cli::DONE),
        Err(why) => cli::report(&why, cli.log_format),
    }
}

/// Logs go to standard error, so that a command's own output stays clean.
fn log(cli: &Cli) -> anyhow::Result<()> {
    let default = match cli.command {
        // What notify has to say of a folder that's replaced is no news.
        Command::Run(_) => "info,notify=error",
        _ => "warn",
    };
    let filter = cli.log.as_deref().unwrap_or(default);
    let filter =
        EnvFilter::try_new(filter).map_err(|why| UsageError(format!("--log {filter:?}: {why}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => log
            .with_ansi(console::Term::stderr().features().colors_supported())
            .init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
