//! `weir versions`

use anyhow::Result;
use chrono::{DateTime, Utc};

use super::args::{Target, Versions};
use super::client::Client;
use super::say_json;
use crate::cli::say;
use crate::cli::table::Table;
use crate::deploy::VersionsView;

/// Lists what a transform ran and runs.
pub fn versions(args: &Versions) -> Result<()> {
    let Target {
        pipeline,
        transform,
    } = &args.target;
    let path = format!("/v1/pipelines/{pipeline}/transforms/{transform}/versions");
    let view: VersionsView = Client::new(&args.remote)?.get(&path)?;
    if args.remote.json {
        return say_json(&view);
    }
    let mut table = Table::new()
        .number("version")
        .text("module")
        .text("since")
        .text("brought by")
        .text("until")
        .text("note, and why it ended");
    let module = |number: u64| {
        let stands = view.versions.iter().find(|it| it.number == number);
        stands.map_or_else(String::new, |it| it.content.digest.short())
    };
    if let Some(trial) = &view.trial {
        table.row([
            trial.version.to_string(),
            module(trial.version),
            time(trial.since),
            trial.by.to_string(),
            "on trial".to_string(),
            trial.note.clone().unwrap_or_default(),
        ]);
    }
    for ran in &view.history {
        let (until, why) = match &ran.ended {
            None => ("active".to_string(), None),
            Some(ended) => (time(ended.at), Some(ended.why.clone())),
        };
        let texts: Vec<String> = ran.note.clone().into_iter().chain(why).collect();
        table.row([
            ran.version.to_string(),
            module(ran.version),
            time(ran.since),
            ran.by.to_string(),
            until,
            texts.join("; "),
        ]);
    }
    table.lines(None).iter().try_for_each(say)
}

/// A moment, to the second.
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%SZ").to_string()
}
