//! `weir check`

use anyhow::{Error, Result};
use serde_json::{Value, json};

use super::args::Check;
use super::table::Table;
use super::{UsageError, load, load_app, say};
use crate::cluster::{Cluster, Topic, Unanswered};
use crate::config::{ConfigError, Partitioning, show_duration};
use crate::guest::Module;
use crate::instance::Instance;
use crate::pipeline::Pipeline;
use crate::store::Store;

/// Says whether a config, its modules and its topics are right.
pub fn check(args: &Check) -> Result<()> {
    let config = match load(&args.file) {
        Ok(config) => config,
        Err(why) => return wrong(args, why),
    };
    let path = config.path.clone();
    let app = match load_app(config, Instance::unheld("check"), Store::in_memory()) {
        Ok(app) => app,
        Err(why) => return wrong(args, why),
    };
    let mut seen: Vec<(&Pipeline, Option<Cluster>)> = Vec::new();
    let (mut problems, mut unanswered) = (Vec::new(), false);
    for pipeline in app.pipelines() {
        let mut note = |why: Error| {
            unanswered |= why.is::<Unanswered>();
            problems.push(format!("pipeline {:?}: {why:#}", pipeline.config().name));
        };
        let cluster = match args.offline {
            true => None,
            false => Cluster::look(pipeline.config()).map_err(&mut note).ok(),
        };
        seen.push((pipeline, cluster));
    }
    if args.json {
        let pipelines: Vec<Value> = seen
            .iter()
            .map(|(pipeline, cluster)| describe(pipeline, cluster.as_ref()))
            .collect();
        let problems: Vec<Value> = problems.iter().map(|it| json!({"message": it})).collect();
        say(
            json!({"config": path.display().to_string(), "pipelines": pipelines, "problems": problems}),
        )?;
    } else {
        seen.iter()
            .try_for_each(|(pipeline, cluster)| show(pipeline, cluster.as_ref()))?;
    }
    match problems.is_empty() {
        true if args.json => Ok(()),
        true => {
            let offline = if args.offline {
                "; the broker was not asked"
            } else {
                ""
            };
            say(format_args!("{}: all right{offline}", path.display()))
        }
        // A topic that's missing is for the one who typed to mend; a broker that's silent may not be.
        false if unanswered => Err(Error::msg(problems.join("\n"))),
        false => Err(UsageError(problems.join("\n")).into()),
    }
}

fn wrong(args: &Check, why: Error) -> Result<()> {
    if args.json {
        let problems = match why.downcast_ref::<ConfigError>() {
            Some(error) => {
                let problem =
                    |it: &crate::config::Problem| json!({"line": it.line, "message": it.message});
                error.problems.iter().map(problem).collect()
            }
            None => vec![json!({"message": format!("{why:#}")})],
        };
        let path = args.file.config.display().to_string();
        say(json!({"config": path, "problems": problems}))?;
    }
    Err(why)
}

fn show(pipeline: &Pipeline, cluster: Option<&Cluster>) -> Result<()> {
    let config = pipeline.config();
    say(format_args!("pipeline {}", config.name))?;
    let mut table = Table::new().text("").text("").text("").text("");
    let mut row =
        |cells: [&str; 4]| table.row([&format!("  {}", cells[0]), cells[1], cells[2], cells[3]]);
    let partitions = |topic: Option<&Topic>| {
        topic.map_or(String::new(), |it| format!("{} partitions", it.partitions))
    };
    match cluster {
        Some(cluster) => cluster
            .inputs
            .iter()
            .for_each(|it| row(["input", &it.name, &partitions(Some(it)), ""])),
        None => config
            .inputs
            .iter()
            .for_each(|it| row(["input", it.as_str(), "", ""])),
    }
    for (index, output) in config.outputs.iter().enumerate() {
        let what = match config.outputs.len() {
            1 => "output".to_string(),
            _ => format!("output {}", output.name),
        };
        let partitions = partitions(cluster.map(|it| &it.outputs[index]));
        let how = match output.partition {
            Partitioning::Key => "by key",
            Partitioning::Same => "the input's partition",
        };
        row([&what, &output.topic, &partitions, how]);
    }
    if let Some(topic) = &config.dead_letter {
        let partitions = partitions(cluster.and_then(|it| it.dead_letter.as_ref()));
        row(["dead letters", topic, &partitions, ""]);
    }
    row(["group", &config.group, "", ""]);
    let interval = format!("every {}", show_duration(config.commit_interval));
    row(["delivery", &config.delivery.to_string(), &interval, ""]);
    for (transform, version) in config
        .transforms
        .iter()
        .zip(pipeline.deployment().versions())
    {
        let module = &version.module;
        let digest = format!("sha256:{}", module.digest().short());
        let (refused, broken) = (transform.on_refused, transform.on_broken);
        let policies = format!("refused: {refused}, broken: {broken}");
        row([&transform.name, &name(module), &digest, &policies]);
    }
    table.lines(None).iter().skip(1).try_for_each(say)
}

fn describe(pipeline: &Pipeline, cluster: Option<&Cluster>) -> Value {
    let config = pipeline.config();
    let topic = |it: &Topic| json!({"topic": it.name, "partitions": it.partitions});
    let inputs = cluster.map(|it| it.inputs.iter().map(topic).collect::<Vec<_>>());
    let outputs = config.outputs.iter().enumerate().map(|(index, output)| {
        let partitions = cluster.map(|it| it.outputs[index].partitions);
        let partition = output.partition.to_string();
        json!({"name": output.name, "topic": output.topic, "partitions": partitions, "partition": partition})
    });
    let dead_letter = config.dead_letter.as_ref().map(|topic| {
        let found = cluster.and_then(|it| it.dead_letter.as_ref());
        json!({"topic": topic, "partitions": found.map(|it| it.partitions)})
    });
    let versions = pipeline.deployment().versions();
    let transforms = config.transforms.iter().zip(&versions);
    let transforms = transforms.map(|(transform, version)| {
        let module = &version.module;
        let max = transform.max_refused;
        json!({
            "name": transform.name,
            "module": name(module),
            "digest": module.digest().to_string(),
            "on_refused": transform.on_refused.to_string(),
            "on_broken": transform.on_broken.to_string(),
            "retries": transform.retries,
            "max_refused": {"share": max.share, "of": max.of},
        })
    });
    json!({
        "name": config.name,
        "group": config.group,
        "inputs": inputs,
        "outputs": outputs.collect::<Vec<_>>(),
        "dead_letter": dead_letter,
        "delivery": config.delivery.to_string(),
        "commit_interval": show_duration(config.commit_interval),
        "transforms": transforms.collect::<Vec<_>>(),
    })
}

fn name(module: &Module) -> String {
    let it = module.description();
    format!("{} {}", it.name, it.version)
}
