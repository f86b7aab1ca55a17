//! `weir health`

use anyhow::{Result, bail};
use serde_json::json;

use super::args::Health;
use super::client::Client;
use super::say_json;
use crate::cli::say;

/// Says whether a process is alive, or ready.
pub fn health(args: &Health) -> Result<()> {
    let client = Client::new(&args.remote)?;
    let (path, well) = match args.ready {
        true => ("/readyz", "ready"),
        false => ("/healthz", "alive"),
    };
    let (is_well, text) = client.probe(path)?;
    let reasons: Vec<&str> = match is_well {
        true => Vec::new(),
        false => text.lines().collect(),
    };
    if args.remote.json {
        say_json(&json!({ (well): is_well, "reasons": reasons }))?;
    }
    match is_well {
        true if args.remote.json => Ok(()),
        true => say(well),
        false => bail!("it isn't {well}: {}", reasons.join("; ")),
    }
}
