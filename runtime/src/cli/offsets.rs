//! `weir offsets`

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::args::{Offsets, OffsetsAction, OffsetsReset, OffsetsShow, Position};
use super::table::Table;
use super::{UsageError, load, text};
use crate::cluster::{self, TIMEOUT};
use crate::config::{Config, Pipeline};
use crate::io::TopicPartition;
use crate::kafka::{Admin, GroupOffsets, GroupState, Start, admin_settings};

/// Shows or resets the offsets of pipelines' groups.
pub fn offsets(args: &Offsets) -> Result<()> {
    match &args.action {
        OffsetsAction::Show(args) => show(args),
        OffsetsAction::Reset(args) => reset(args),
    }
}

fn show(args: &OffsetsShow) -> Result<()> {
    let config = load(&args.file)?;
    let pipelines = match args.pipelines.is_empty() {
        true => config.pipelines.iter().collect(),
        false => args
            .pipelines
            .iter()
            .map(|name| named(&config, name))
            .collect::<Result<Vec<_>>>()?,
    };
    let mut table = Table::new()
        .text("pipeline")
        .text("group")
        .text("topic")
        .number("partition")
        .number("committed")
        .number("end")
        .number("lag");
    let mut lines = Vec::new();
    for pipeline in pipelines {
        let group = Group::open(pipeline)?;
        let partitions = group.partitions()?;
        let committed = group.offsets.committed(&partitions)?;
        let first = group.offsets.offsets(&partitions, Start::Earliest)?;
        let ends = group.offsets.offsets(&partitions, Start::Latest)?;
        for (((id, committed), first), end) in partitions.iter().zip(committed).zip(first).zip(ends)
        {
            let lag = end.saturating_sub(committed.unwrap_or(first).max(first));
            lines.push(json!({
                "pipeline": pipeline.name, "group": pipeline.group, "topic": &*id.topic, "partition": id.partition,
                "committed": committed, "first": first, "end": end, "lag": lag,
            }));
            table.row([
                pipeline.name.clone(),
                pipeline.group.clone(),
                id.topic.to_string(),
                id.partition.to_string(),
                committed.map_or("none".into(), text::count),
                text::count(end),
                text::count(lag),
            ]);
        }
    }
    print(args.json, &table, &lines)
}

fn reset(args: &OffsetsReset) -> Result<()> {
    let config = load(&args.file)?;
    let pipeline = named(&config, &args.pipeline)?;
    let group = Group::open(pipeline)?;
    if let GroupState::Running(state) = group.admin.group_state(&pipeline.group)? {
        bail!(
            "group {:?} has members ({state}): its offsets can be set only while the pipeline runs nowhere",
            pipeline.group
        );
    }
    let all = group.partitions()?;
    for topic in &args.topics {
        if !all.iter().any(|it| *it.topic == **topic) {
            return Err(UsageError(format!(
                "{topic:?} is no input topic of pipeline {:?}",
                pipeline.name
            ))
            .into());
        }
    }
    let chosen = |it: &&TopicPartition| {
        (args.topics.is_empty() || args.topics.iter().any(|topic| **topic == *it.topic))
            && (args.partitions.is_empty() || args.partitions.contains(&it.partition))
    };
    let partitions: Vec<TopicPartition> = all.iter().filter(chosen).cloned().collect();
    if partitions.is_empty() {
        return Err(
            UsageError("no partition was chosen: there is none of that number".into()).into(),
        );
    }
    let first = group.offsets.offsets(&partitions, Start::Earliest)?;
    let ends = group.offsets.offsets(&partitions, Start::Latest)?;
    let to = match args.to {
        Position::Earliest => first.clone(),
        Position::Latest => ends.clone(),
        Position::Time(time) => group.offsets.offsets(&partitions, Start::Time(time))?,
        Position::Offset(offset) => vec![offset; partitions.len()],
    };
    for (((id, to), first), end) in partitions.iter().zip(&to).zip(&first).zip(&ends) {
        if !(first..=end).contains(&to) {
            return Err(UsageError(format!(
                "{id} has offsets {first} to {end}, and {to} is none of them"
            ))
            .into());
        }
    }
    let from = group.offsets.committed(&partitions)?;
    let offsets: Vec<(TopicPartition, u64)> = partitions.into_iter().zip(to).collect();
    if !args.dry_run {
        group.offsets.alter(&offsets)?;
    }
    let mut table = Table::new()
        .text("topic")
        .number("partition")
        .number("from")
        .number("to");
    let mut lines = Vec::new();
    for ((id, to), from) in offsets.iter().zip(from) {
        lines.push(json!({
            "topic": &*id.topic, "partition": id.partition, "from": from, "to": to, "dry_run": args.dry_run,
        }));
        table.row([
            id.topic.to_string(),
            id.partition.to_string(),
            from.map_or("none".into(), text::count),
            text::count(*to),
        ]);
    }
    print(args.json, &table, &lines)?;
    match args.dry_run && !args.json {
        true => super::say("nothing was changed (--dry-run)"),
        false => Ok(()),
    }
}

/// A pipeline's group, seen from outside.
struct Group<'a> {
    pipeline: &'a Pipeline,
    admin: Admin,
    offsets: GroupOffsets,
}

impl Group<'_> {
    fn open(pipeline: &Pipeline) -> Result<Group<'_>> {
        let pairs = cluster::pairs(&pipeline.consumer);
        Ok(Group {
            pipeline,
            admin: Admin::new(&admin_settings(&pairs)?, TIMEOUT)?,
            offsets: GroupOffsets::new(&cluster::group(pipeline)?, &pipeline.group, TIMEOUT)?,
        })
    }

    /// All partitions of the input topics.
    fn partitions(&self) -> Result<Vec<TopicPartition>> {
        let topics = cluster::inputs(&self.admin, self.pipeline)
            .with_context(|| format!("pipeline {:?}", self.pipeline.name))?;
        let of = |topic: cluster::Topic| {
            let name: std::sync::Arc<str> = topic.name.as_str().into();
            (0..topic.partitions as i32).map(move |partition| TopicPartition {
                topic: name.clone(),
                partition,
            })
        };
        Ok(topics.into_iter().flat_map(of).collect())
    }
}

/// The pipeline of this name.
pub(super) fn named<'a>(config: &'a Config, name: &str) -> Result<&'a Pipeline> {
    let found = config.pipelines.iter().find(|it| it.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = config.pipelines.iter().map(|it| it.name.as_str()).collect();
        UsageError(format!(
            "there is no pipeline {name:?}; there are {}",
            names.join(", ")
        ))
        .into()
    })
}

fn print(as_json: bool, table: &Table, lines: &[serde_json::Value]) -> Result<()> {
    match as_json {
        true => lines.iter().try_for_each(super::say),
        false => table.lines(None).iter().try_for_each(super::say),
    }
}
