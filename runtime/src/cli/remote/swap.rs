//! `weir swap`, `rollback`, `promote`, `pause` and `resume`

use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::args::{Pause, Promote, Remote, RollBack, Swap, Target};
use super::client::Client;
use super::say_json;
use crate::api::{self, Changed, Mode, NewVersion, Paused, PipelineView};
use crate::chain::Unit;
use crate::cli::{UsageError, say};
use crate::guest::Digest;

/// How often it's asked whether a probation is over.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Runs another version, or tries it.
pub fn swap(args: &Swap) -> Result<()> {
    if args.module.is_none() && args.digest.is_none() && args.config.is_none() {
        let what = "name a module, --digest or --config: there's nothing new";
        return Err(UsageError(what.into()).into());
    }
    let module = match &args.module {
        None => None,
        Some(path) => {
            let bytes = std::fs::read(path);
            let bytes = bytes.with_context(|| format!("reading the module {}", path.display()))?;
            Some(STANDARD.encode(bytes))
        }
    };
    let config = args.config.as_deref().map(serde_json::from_str).transpose();
    let config = config.map_err(|why| UsageError(format!("--config isn't JSON: {why}")))?;
    let digest = args.digest.as_deref().map(str::parse::<Digest>).transpose();
    let digest = digest.map_err(|why| UsageError(format!("--digest: {why}")))?;
    let new = NewVersion {
        module,
        digest,
        config,
        mode: Some(match (args.shadow, &args.canary) {
            (true, _) => Mode::Shadow,
            (false, Some(_)) => Mode::Canary,
            (false, None) => Mode::Active,
        }),
        percent: args.canary.map(|it| it.0),
        unit: args.canary.map(|_| match args.by.as_str() {
            "partitions" => Unit::Partitions,
            _ => Unit::Keys,
        }),
        note: args.note.clone(),
    };
    let client = Client::new(&args.remote)?;
    if new.module.is_some() {
        // Who isn't let in is told so before a whole module is read, and whoever is still sending one doesn't hear it.
        let pipeline = format!("/v1/pipelines/{}", args.target.pipeline);
        let _: PipelineView = client.get(&pipeline)?;
    }
    let changed: Changed = client.post(&path(&args.target, "versions"), &new)?;
    show(&args.remote, &changed)?;
    match args.wait {
        true => wait(&client, args, changed.done.active),
        false => Ok(()),
    }
}

/// Goes back to an earlier version.
pub fn roll_back(args: &RollBack) -> Result<()> {
    let body = api::RollBack {
        to: args.to,
        note: args.note.clone(),
    };
    let changed = Client::new(&args.remote)?.post(&path(&args.target, "rollback"), &body)?;
    show(&args.remote, &changed)
}

/// Runs what is tried for all records.
pub fn promote(args: &Promote) -> Result<()> {
    if args.end_shadow {
        return end_shadow(args);
    }
    let changed = Client::new(&args.remote)?.post(&path(&args.target, "promote"), &json!({}))?;
    show(&args.remote, &changed)
}

/// Ends a shadow.
pub fn end_shadow(args: &Promote) -> Result<()> {
    let changed = Client::new(&args.remote)?.delete(&path(&args.target, "shadow"))?;
    show(&args.remote, &changed)
}

/// Has a pipeline read no more, or read on.
pub fn set_paused(args: &Pause, paused: bool) -> Result<()> {
    let what = if paused { "pause" } else { "resume" };
    let path = format!("/v1/pipelines/{}/{what}", args.pipeline);
    let answer: Paused = Client::new(&args.remote)?.post(&path, &json!({}))?;
    if args.remote.json {
        return say_json(&answer);
    }
    let state = match (answer.paused, answer.changed) {
        (true, true) => "reads no more until `weir resume`; its workers stay in the group",
        (true, false) => "was paused already",
        (false, true) => "reads on",
        (false, false) => "wasn't paused",
    };
    say(format_args!("{} {state}", answer.pipeline))
}

fn path(target: &Target, what: &str) -> String {
    let Target {
        pipeline,
        transform,
    } = target;
    format!("/v1/pipelines/{pipeline}/transforms/{transform}/{what}")
}

fn show(remote: &Remote, changed: &Changed) -> Result<()> {
    if remote.json {
        return say_json(changed);
    }
    let done = &changed.done;
    let name = format!("{}/{}", done.pipeline, done.transform);
    let module = done.digest.short();
    match (done.active == done.version, done.was == done.active) {
        (true, true) => say(format_args!(
            "{name}: version {} ({module}) was active already",
            done.active
        ))?,
        (true, false) => say(format_args!(
            "{name}: version {} ({module}) is active, instead of {}",
            done.active, done.was
        ))?,
        (false, _) => say(format_args!(
            "{name}: {} of version {} ({module}); version {} is active",
            done.what, done.version, done.active
        ))?,
    }
    if done.taken < done.workers {
        say(format_args!(
            "{} of {} workers have it; the others take it up once they have ended what they do",
            done.taken, done.workers
        ))?;
    } else if done.workers > 0 {
        say(format_args!(
            "{} workers have it; the slowest stood still for {} us",
            done.workers,
            done.pauses_us.iter().max().unwrap_or(&0)
        ))?;
    }
    match changed.members {
        Some(members) if members > done.workers => say(format_args!(
            "that's this process alone: the group {:?} has {members} members, and the other {} run what they ran",
            changed.group,
            members - done.workers
        )),
        _ => Ok(()),
    }
}

/// Waits until a version's probation is over.
fn wait(client: &Client, args: &Swap, version: u64) -> Result<()> {
    let Target {
        pipeline,
        transform,
    } = &args.target;
    loop {
        let view: PipelineView = client.get(&format!("/v1/pipelines/{pipeline}"))?;
        let ours = view.transforms.iter().find(|it| it.transform == *transform);
        let ours =
            ours.with_context(|| format!("{pipeline} has no transform {transform} any more"))?;
        if ours.active.version != version {
            let now = ours.active.version;
            bail!(
                "version {version} isn't active any more, {now} is; `weir versions {pipeline}/{transform}` says why"
            );
        }
        if ours.probation_until.is_none() {
            return match args.remote.json {
                true => Ok(()),
                false => say(format_args!(
                    "{pipeline}/{transform}: version {version} stays"
                )),
            };
        }
        std::thread::sleep(ASK_EVERY);
    }
}
