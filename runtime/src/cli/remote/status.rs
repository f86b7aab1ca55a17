//! `weir status`

use anyhow::Result;

use super::args::Status;
use super::client::Client;
use super::say_json;
use super::versions::time;
use crate::api::PipelineView;
use crate::cli::table::Table;
use crate::cli::{say, text};
use crate::deploy::{TransformView, VersionView};
use crate::shadow::{Difference, Report};
use crate::store::TrialKind;

/// Shows the pipelines of a process as they stand.
pub fn status(args: &Status) -> Result<()> {
    let client = Client::new(&args.remote)?;
    let views: Vec<PipelineView> = match &args.pipeline {
        Some(pipeline) => vec![client.get(&format!("/v1/pipelines/{pipeline}"))?],
        None => client.get("/v1/pipelines")?,
    };
    if args.remote.json {
        return say_json(&views);
    }
    for (index, view) in views.iter().enumerate() {
        if index > 0 {
            say("")?;
        }
        show(view, args.pipeline.is_some())?;
    }
    Ok(())
}

fn show(view: &PipelineView, in_full: bool) -> Result<()> {
    let paused = view.paused.as_ref();
    let state = match (paused, &view.not_ready) {
        (Some(paused), _) => format!("paused since {} by {}", time(paused.since), paused.by),
        (None, Some(why)) => format!("{}, not ready: {why}", view.state),
        (None, None) => view.state.clone(),
    };
    say(format_args!(
        "pipeline {}: {state}; {} workers in the group {}, {}",
        view.pipeline, view.workers, view.group, view.delivery
    ))?;
    let mut table = Table::new()
        .text("  transform")
        .text("module")
        .number("version")
        .text("as")
        .text("since")
        .number("records")
        .number("refused")
        .number("broken")
        .number("ns/record");
    for it in &view.transforms {
        let role = match it.probation_until {
            Some(until) => format!("active, on probation until {}", time(until)),
            None => "active".to_string(),
        };
        table.row(row(&it.transform, &it.active, role));
        if let Some(trial) = &it.trial {
            let role = match trial.kind {
                TrialKind::Shadow => "shadow".to_string(),
                TrialKind::Canary { percent, unit } => format!("canary, {percent}% of {unit}"),
            };
            table.row(row("", &trial.version, role));
        }
    }
    table.lines(None).iter().try_for_each(say)?;
    for it in &view.transforms {
        if let Some(report) = it.trial.as_ref().and_then(|it| it.report.as_ref()) {
            found(it, report, in_full)?;
        }
    }
    Ok(())
}

fn row(transform: &str, version: &VersionView, role: String) -> [String; 9] {
    [
        format!("  {transform}"),
        format!("{} {}", version.module, version.digest.short()),
        version.version.to_string(),
        role,
        version.since.map(time).unwrap_or_default(),
        text::count(version.records),
        text::count(version.refused),
        text::count(version.broken),
        format!("{:.0}", version.ns_per_record),
    ]
}

/// What a shadow found.
fn found(view: &TransformView, report: &Report, in_full: bool) -> Result<()> {
    say(format_args!(
        "  shadow of {}: {} records compared, {} equal, {} different; {} batches dropped for lack of time",
        view.transform,
        text::count(report.counts.records),
        text::count(report.counts.equal),
        text::count(report.counts.different),
        text::count(report.dropped_batches),
    ))?;
    if report.counts.uncompared > 0 {
        say(format_args!(
            "    {} more records weren't compared: a version broke on their batches",
            text::count(report.counts.uncompared)
        ))?;
    }
    if let Some(fault) = &report.last_fault {
        say(format_args!("    it broke last: {fault}"))?;
    }
    if let Some(why) = &report.ended {
        say(format_args!("    it compares no more: {why}"))?;
    }
    if !in_full {
        return Ok(());
    }
    report.differences.iter().try_for_each(tell)
}

/// One record that two versions make something different of.
fn tell(it: &Difference) -> Result<()> {
    say(format_args!(
        "  {} [{}] offset {}",
        it.topic, it.partition, it.offset
    ))?;
    for differs in &it.differs {
        let side = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".into());
        let what = match &differs.path {
            Some(path) if !path.is_empty() => format!("{:?} {path}", differs.kind),
            _ => format!("{:?}", differs.kind),
        };
        let note = differs.note.iter().map(|it| format!(" ({it})"));
        say(format_args!(
            "    {}: {} -> {}{}",
            what.to_lowercase(),
            side(&differs.active),
            side(&differs.tried),
            note.collect::<String>()
        ))?;
    }
    match it.left_out {
        0 => Ok(()),
        more => say(format_args!("    and {more} more")),
    }
}
