//! What can be typed after the commands that ask a running Weir.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::chain::Percent;

/// Which Weir is asked, and how.
#[derive(Clone, Debug, Args)]
pub struct Remote {
    /// The admin address of the Weir to ask; the log of `weir run` says it
    #[arg(
        long,
        env = "WEIR_ADMIN",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub admin: String,
    /// A file with the token of `[admin]`, instead of the variable WEIR_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with the certificates (PEM) that the server's is trusted by, instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A transform of a pipeline: `stocks/even`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The pipeline's name.
    pub pipeline: String,
    /// The transform's name.
    pub transform: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        match text.split_once('/') {
            Some((pipeline, transform)) if !pipeline.is_empty() && !transform.is_empty() => {
                Ok(Target {
                    pipeline: pipeline.into(),
                    transform: transform.into(),
                })
            }
            _ => Err("name a pipeline and its transform, such as stocks/even".into()),
        }
    }
}

/// `weir swap`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir swap stocks/even v2.wasm                another module
  weir swap stocks/even --config '{\"a\":1}'     another config, the same module
  weir swap stocks/even v2.wasm --shadow       first see what would differ
  weir swap stocks/even v2.wasm --canary 10%   then for a tenth of the keys
  weir swap stocks/even --digest 3f5a...       one that Weir has had before
  weir swap stocks/even v2.wasm --wait         and wait for its probation

A new version is compiled, linked, given its config and tried before anything
changes. Records that are being worked on are ended by the old one, each record
goes through one of them, and none is lost or comes out twice. It reaches the
process that's asked, and no other of the group; the config file isn't changed,
but the process remembers the version over a restart, until the file changes.

Ends with 0 once the workers have it, and with 1 if it was refused or, with
--wait, rolled back.")]
pub struct Swap {
    /// The transform
    #[arg(value_name = "PIPELINE/TRANSFORM")]
    pub target: Target,
    /// The module's file; without it the active version's module stays
    #[arg(value_name = "MODULE")]
    pub module: Option<PathBuf>,
    /// A module that Weir has had before, by its SHA-256
    #[arg(long, value_name = "SHA256", conflicts_with = "module")]
    pub digest: Option<String>,
    /// The config as JSON; without it the active version's config stays
    #[arg(long, value_name = "JSON")]
    pub config: Option<String>,
    /// Try it on copies of the records, and compare what comes out: see `weir status`
    #[arg(long, conflicts_with = "canary")]
    pub shadow: bool,
    /// Run it for a share of the keys (or partitions), such as 10%
    #[arg(long, value_name = "SHARE")]
    pub canary: Option<Percent>,
    /// What the share is a share of
    #[arg(long, value_name = "UNIT", requires = "canary", default_value = "keys", value_parser = ["keys", "partitions"])]
    pub by: String,
    /// What is new, for people
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Wait until its probation is over, if it has one
    #[arg(long, conflicts_with_all = ["shadow", "canary"])]
    pub wait: bool,
    /// Which Weir.
    #[command(flatten)]
    pub remote: Remote,
}

/// `weir versions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir versions stocks/even               what it ran and runs, newest first
  weir versions stocks/even --json | jq   with the configs")]
pub struct Versions {
    /// The transform
    #[arg(value_name = "PIPELINE/TRANSFORM")]
    pub target: Target,
    /// Which Weir.
    #[command(flatten)]
    pub remote: Remote,
}

/// `weir rollback`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir rollback stocks/even          the version before, or a canary's end
  weir rollback stocks/even --to 3   one of those that `weir versions` lists")]
pub struct RollBack {
    /// The transform
    #[arg(value_name = "PIPELINE/TRANSFORM")]
    pub target: Target,
    /// The version to go back to
    #[arg(long, value_name = "VERSION")]
    pub to: Option<u64>,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Which Weir.
    #[command(flatten)]
    pub remote: Remote,
}

/// `weir promote`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir promote stocks/even                what is tried runs for all records
  weir promote stocks/even --end-shadow   or not: the shadow ends")]
pub struct Promote {
    /// The transform
    #[arg(value_name = "PIPELINE/TRANSFORM")]
    pub target: Target,
    /// End a shadow instead
    #[arg(long)]
    pub end_shadow: bool,
    /// Which Weir.
    #[command(flatten)]
    pub remote: Remote,
}

/// `weir pause` and `weir resume`
#[derive(Debug, Args)]
pub struct Pause {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: String,
    /// Which Weir.
    #[command(flatten)]
    pub remote: Remote,
}

/// `weir status`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir status                             all pipelines and their versions
  weir status stocks                      one of them, with what a shadow found
  weir status --json | jq                 for programs")]
pub struct Status {
    /// The pipeline; without it, all
    #[arg(value_name = "PIPELINE")]
    pub pipeline: Option<String>,
    /// Which Weir.
    #[command(flatten)]
    pub remote: Remote,
}

/// `weir health`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir health                             does a Weir answer on this machine?
  weir health --ready                     do its pipelines run, too?
  weir health --admin http://10.0.0.7:9000

Health checks of containers call it. Neither question needs a token.

Ends with 0 if so, and with 1 if not: nobody answered within 5 seconds, or it
isn't ready, and then a line for each reason is printed.")]
pub struct Health {
    /// Ask whether all pipelines run and all workers have joined their groups
    #[arg(long)]
    pub ready: bool,
    /// Which Weir.
    #[command(flatten)]
    pub remote: Remote,
}
