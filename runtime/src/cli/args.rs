//! What can be typed.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::DateTime;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::dead_letters::args::DeadLetters;
use super::remote::args as remote;
use crate::config::{check_instance, parse_duration};
use crate::fake::Subject;

/// A WebAssembly transform runtime for Apache Kafka
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What to log: a level (error, warn, info, debug, trace), or directives such as "info,weir::worker=debug" [default:
    /// info for run, otherwise warn]
    #[arg(long, env = "WEIR_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// Whom the log is for: people, or programs, which get a JSON object a line
    #[arg(
        long,
        env = "WEIR_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        global = true
    )]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the pipelines of a config file until SIGINT or SIGTERM
    Run(Run),
    /// Say whether a config file, its modules and its topics are right
    Check(Check),
    /// Show how far the pipelines' groups have read, or reset a stopped one
    Offsets(Offsets),
    /// List, show, count and replay the records that a pipeline couldn't process
    DeadLetters(DeadLetters),
    /// Show what a running Weir runs
    Status(remote::Status),
    /// Say whether a Weir is alive, or ready
    Health(remote::Health),
    /// Run another version of a transform, or try it, while records flow
    Swap(remote::Swap),
    /// List what a transform ran and runs
    Versions(remote::Versions),
    /// Go back to the version before, or end a canary
    Rollback(remote::RollBack),
    /// Run what is tried for all records
    Promote(remote::Promote),
    /// Have a pipeline read no more
    #[command(after_help = PAUSE_HELP)]
    Pause(remote::Pause),
    /// Have a paused pipeline read on
    #[command(after_help = RESUME_HELP)]
    Resume(remote::Pause),
    /// Show what a module is, what it imports, and what config it takes
    Inspect(Inspect),
    /// Write made-up records to a topic
    Produce(Produce),
    /// See three transforms at work on made-up records, without a broker
    Demo(Demo),
}

const RESUME_HELP: &str = "\
Examples:
  weir resume stocks                      from where it stood";

const PAUSE_HELP: &str = "\
Examples:
  weir pause stocks                       until resumed, also over a restart

What was read goes out, and the workers stay in their group: nothing moves.";

/// Where the config file is.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// The config file
    #[arg(
        short,
        long,
        env = "WEIR_CONFIG",
        value_name = "FILE",
        default_value = "weir.toml"
    )]
    pub config: PathBuf,
}

/// `weir run`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir run                                the pipelines of ./weir.toml
  weir run -c stocks.toml                 those of another file
  weir run --listen 0.0.0.0:9000          health and metrics for other machines
  weir run --instance blue                under a name that stays over restarts
  WEIR_LOG=debug weir run                 with more in the log

Files that change are taken up while it runs, and on SIGHUP all are looked at.
Start it several times, on as many machines as you like, and the processes
share the partitions.

Ends with 0 after a signal, with 1 when a pipeline failed, and with 2 when the
config is wrong.")]
pub struct Run {
    /// The config file.
    #[command(flatten)]
    pub file: ConfigFile,
    /// The name of this process among those that run the same pipelines, instead of the config's `instance`
    #[arg(long, env = "WEIR_INSTANCE", value_name = "NAME", value_parser = parse_instance)]
    pub instance: Option<String>,
    /// Where the health and metrics endpoints listen, instead of the config's `listen` in `[admin]`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

/// `weir check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir check                              ./weir.toml, its modules, its topics
  weir check -c stocks.toml --offline     without asking the broker
  weir check --json | jq .problems        for programs

Ends with 0 when all is right, with 2 when something is wrong, and with 1 when
the broker can't be asked.")]
pub struct Check {
    /// The config file.
    #[command(flatten)]
    pub file: ConfigFile,
    /// Don't ask the broker for the topics
    #[arg(long)]
    pub offline: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `weir offsets`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir offsets show                       every pipeline, by partition
  weir offsets reset stocks --to earliest --dry-run")]
pub struct Offsets {
    /// Show or reset.
    #[command(subcommand)]
    pub action: OffsetsAction,
}

/// What to do with offsets.
#[derive(Debug, Subcommand)]
pub enum OffsetsAction {
    /// Show committed offsets, ends and lag
    Show(OffsetsShow),
    /// Set the offsets of a pipeline that runs nowhere
    Reset(OffsetsReset),
}

/// `weir offsets show`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir offsets show                       every pipeline, by partition
  weir offsets show stocks --json         one pipeline, for programs")]
pub struct OffsetsShow {
    /// The config file.
    #[command(flatten)]
    pub file: ConfigFile,
    /// The pipelines to show; all if none is named
    #[arg(value_name = "PIPELINE")]
    pub pipelines: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `weir offsets reset`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir offsets reset stocks --to earliest --dry-run      what would change
  weir offsets reset stocks --to 2026-01-31T00:00:00Z    from a point in time
  weir offsets reset stocks --to latest --topic realstock
  weir offsets reset stocks --to 1200 --topic realstock --partition 3")]
pub struct OffsetsReset {
    /// The config file.
    #[command(flatten)]
    pub file: ConfigFile,
    /// The pipeline to reset
    pub pipeline: String,
    /// Where to: earliest, latest, a time such as 2026-01-31T00:00:00Z, or an offset
    #[arg(long, value_name = "POSITION")]
    pub to: Position,
    /// Only this topic; may be given several times
    #[arg(long = "topic", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Only this partition; may be given several times
    #[arg(long = "partition", value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub partitions: Vec<i32>,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `weir inspect`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir inspect add-uuid.wasm              what it is, imports and takes
  weir inspect guests/*.wasm              several, one after another
  weir inspect filter.wasm --json | jq .config_schema")]
pub struct Inspect {
    /// The modules' files
    #[arg(required = true, value_name = "MODULE")]
    pub modules: Vec<PathBuf>,
    /// Print JSON, a line for each module
    #[arg(long)]
    pub json: bool,
}

/// `weir produce`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir produce --topic realstock realstock            1,000 a second, to Ctrl-C
  weir produce --topic p pizza --rate max --count 1000000
  weir produce --topic p pizza --bad 1%               some of them malformed
  weir produce --topic b bet --seed 7 --count 100     the same each time
  weir produce --topic s stock --bootstrap kafka:9093 -X security.protocol=ssl")]
pub struct Produce {
    /// What the records are about
    #[arg(value_parser = subjects())]
    pub subject: Subject,
    /// The topic to write to
    #[arg(long)]
    pub topic: String,
    /// The brokers to ask first
    #[arg(
        long,
        env = "WEIR_BOOTSTRAP",
        value_name = "SERVERS",
        default_value = "localhost:9092"
    )]
    pub bootstrap: String,
    /// A setting of librdkafka's; may be given several times
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
    /// Records a second, or "max" for as many as the broker takes
    #[arg(long, default_value = "1000")]
    pub rate: Rate,
    /// Stop after so many records
    #[arg(long, value_name = "RECORDS")]
    pub count: Option<NonZeroU64>,
    /// Make the same records each time; without it each run makes its own
    #[arg(long)]
    pub seed: Option<u64>,
    /// How many of the records are malformed: 0 to 1, or a percentage such as 5%
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub bad: f64,
}

/// `weir demo`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir demo                               until 100,000 records went through
  weir demo --seconds 60 --rate 20000     for a minute, 20,000 records a second
  weir demo --records 1000 | cat          plain lines
  weir demo --bootstrap localhost:9092    the same through a real broker

The guests are looked for beside the program; WEIR_GUESTS names another folder.")]
pub struct Demo {
    /// Stop after so many records
    #[arg(long, default_value = "100000")]
    pub records: NonZeroU64,
    /// Stop after so many seconds, if that comes first; a number, or a duration such as 2m
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub seconds: Option<Duration>,
    /// Records made a second, or "max" for as many as the machine can
    #[arg(long, default_value = "10000")]
    pub rate: Rate,
    /// Make the same records each time
    #[arg(long, default_value = "1")]
    pub seed: u64,
    /// Use this Kafka instead of one inside the process; makes topics whose names start with weir-demo
    #[arg(long, value_name = "SERVERS")]
    pub bootstrap: Option<String>,
}

/// Where a group is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Each partition's first record.
    Earliest,
    /// After each partition's last record.
    Latest,
    /// Each partition's first record with this timestamp or a later one, in milliseconds since 1970-01-01T00:00:00Z.
    Time(i64),
    /// This offset.
    Offset(u64),
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Position, String> {
        match text {
            "earliest" => return Ok(Position::Earliest),
            "latest" => return Ok(Position::Latest),
            _ => {}
        }
        // Kafka counts offsets in 63 bits.
        if let Some(offset) = text
            .parse()
            .ok()
            .filter(|&offset| offset <= i64::MAX as u64)
        {
            return Ok(Position::Offset(offset));
        }
        DateTime::parse_from_rfc3339(text)
            .map(|time| Position::Time(time.timestamp_millis()))
            .map_err(|_| {
                "it's none of earliest, latest, a time with its offset such as 2026-01-31T00:00:00Z, and an offset".to_string()
            })
    }
}

/// How fast records are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as they are taken.
    Max,
    /// Records a second, above 0.
    PerSecond(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "max" {
            return Ok(Rate::Max);
        }
        match text.parse() {
            // Below is less than one in a day, above is more than a clock can pace.
            Ok(rate) if (0.00001..=1e9).contains(&rate) => Ok(Rate::PerSecond(rate)),
            _ => Err("write a number of records a second above 0, or max".to_string()),
        }
    }
}

/// Subjects by name, with their descriptions in the help.
fn subjects() -> impl TypedValueParser<Value = Subject> {
    let subjects =
        Subject::ALL.map(|subject| PossibleValue::new(subject.name()).help(subject.description()));
    PossibleValuesParser::new(subjects).try_map(|name| name.parse::<Subject>())
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse().map(|percent: f64| percent / 100.0),
        None => text.parse(),
    };
    share
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "write a share from 0 to 1, or a percentage from 0% to 100%".to_string())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let duration = match text.ends_with(|c: char| c.is_ascii_digit()) {
        true => parse_duration(&format!("{text}s")),
        false => parse_duration(text),
    };
    duration
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| {
            "write a number of seconds above 0, or a duration such as 90s or 2m".to_string()
        })
}

fn parse_instance(text: &str) -> Result<String, String> {
    check_instance(text).map(|()| text.to_string())
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err("write KEY=VALUE, such as security.protocol=ssl".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    /// Each line under "Examples:", up to its explanation, is a command that parses, and fits a terminal.
    #[test]
    fn the_examples_in_the_helps_parse() {
        fn check(command: &clap::Command) -> usize {
            let name = command.get_name();
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{name} has no examples");
            let mut examples = 0;
            for line in help.lines() {
                assert!(line.chars().count() < 80, "{name}: {line}");
                let Some(example) = line.strip_prefix("  ") else {
                    continue;
                };
                let example = example.split("   ").next().unwrap_or_default();
                let shell = [" | ", " > "];
                let ends = shell.iter().filter_map(|it| example.find(it));
                let example = &example[..ends.min().unwrap_or(example.len())];
                let start = example.find("weir ").unwrap_or_default();
                if let Err(error) = parse(&example[start..]) {
                    panic!("{example}: {error}");
                }
                examples += 1;
            }
            examples + command.get_subcommands().map(check).sum::<usize>()
        }
        let examples: usize = Cli::command().get_subcommands().map(check).sum();
        assert!(examples >= 20, "{examples}");
    }

    #[test]
    fn every_argument_is_explained() {
        #[track_caller]
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {argument}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn positions() {
        #[track_caller]
        fn check(text: &str, expected: Option<Position>) {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
        check("earliest", Some(Position::Earliest));
        check("latest", Some(Position::Latest));
        check("0", Some(Position::Offset(0)));
        check("1970-01-01T00:00:01.5+00:00", Some(Position::Time(1_500)));
        check("2026-01-31", None);
        check("-1", None);
        check("9223372036854775808", None);
        check("", None);
    }

    #[test]
    fn rates_shares_and_seconds() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("0.5".parse(), Ok(Rate::PerSecond(0.5)));
        for wrong in ["0", "-1", "nan", "inf", "fast", ""] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        assert_eq!(parse_share("0.25"), Ok(0.25));
        assert_eq!(parse_share("5%"), Ok(0.05));
        for wrong in ["1.1", "-1", "101%", "nan", "%", ""] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_seconds("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_seconds("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["0", "-1", "soon", ""] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_command_lines_end_with_2() {
        for line in [
            "weir",
            "weir rnu",
            "weir run --listen nowhere",
            "weir run --instance a/b",
            "weir inspect",
            "weir offsets reset stocks",
            "weir offsets reset stocks --to never",
            "weir dead-letters",
            "weir dead-letters list --class late",
            "weir dead-letters list --since yesterday",
            "weir dead-letters show stocks",
            "weir dead-letters replay --limit 0",
            "weir produce --topic t cars",
            "weir produce pizza",
            "weir produce --topic t pizza --count 0",
            "weir produce --topic t pizza -X key",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
