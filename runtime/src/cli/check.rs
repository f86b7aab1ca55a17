//! `weir check`

use anyhow::{Error, Result};
use serde_json::{Value, json};

use super::args::Check;
use super::table::Table;
use super::{UsageError, load, load_app, say};
use crate::cluster::{Cluster, Unanswered};
use crate::config::ConfigError;
use crate::guest::Module;
use crate::pipeline::Pipeline;

/// Says whether a config, its modules and its topics are right.
pub fn check(args: &Check) -> Result<()> {
    let config = match load(&args.file) {
        Ok(config) => config,
        Err(why) => return wrong(args, why),
    };
    let path = config.path.clone();
    let app = match load_app(config) {
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
    let mut table = Table::new().text("").text("").text("");
    match cluster {
        Some(cluster) => {
            for (what, topics) in [("input", &cluster.inputs), ("output", &cluster.outputs)] {
                for topic in topics {
                    table.row([
                        format!("  {what}"),
                        topic.name.clone(),
                        format!("{} partitions", topic.partitions),
                    ]);
                }
            }
        }
        None => {
            config
                .inputs
                .iter()
                .for_each(|it| table.row(["  input".to_string(), it.to_string()]));
            config
                .outputs
                .iter()
                .for_each(|it| table.row(["  output", &it.topic]));
        }
    }
    table.row(["  group", &config.group]);
    for (transform, module) in config.transforms.iter().zip(pipeline.modules()) {
        table.row([
            format!("  {}", transform.name),
            name(module),
            format!("sha256:{}", module.digest().short()),
        ]);
    }
    table.lines(None).iter().skip(1).try_for_each(say)
}

fn describe(pipeline: &Pipeline, cluster: Option<&Cluster>) -> Value {
    let config = pipeline.config();
    let topics = |topics: &[crate::cluster::Topic]| -> Vec<Value> {
        topics
            .iter()
            .map(|it| json!({"topic": it.name, "partitions": it.partitions}))
            .collect()
    };
    let transforms: Vec<Value> = config
        .transforms
        .iter()
        .zip(pipeline.modules())
        .map(|(transform, module)| {
            json!({"name": transform.name, "module": name(module), "digest": module.digest().to_string()})
        })
        .collect();
    json!({
        "name": config.name,
        "group": config.group,
        "inputs": cluster.map(|it| topics(&it.inputs)),
        "outputs": cluster.map(|it| topics(&it.outputs)),
        "transforms": transforms,
    })
}

fn name(module: &Module) -> String {
    let it = module.description();
    format!("{} {}", it.name, it.version)
}
