//! What a changed config file asks for.

use anyhow::{Result, bail};

use crate::config::{Config, Pipeline};

/// What is other in a config.
#[derive(Debug, Default)]
pub struct Reload {
    /// Pipelines that are new, or whose settings aren't what they were: they start anew.
    pub fresh: Vec<Pipeline>,
    /// Pipelines of which the chain alone is another one: it's changed while they run.
    pub rechained: Vec<Pipeline>,
    /// Pipelines that aren't there any more.
    pub gone: Vec<String>,
}

/// What is other in `new` than in `old`. Fails, and names it, if something is that can't change while the process runs.
pub fn compare(old: &Config, new: &Config) -> Result<Reload> {
    let fixed = [
        ("data", old.data != new.data),
        ("instance", old.instance != new.instance),
        ("id_key", old.id_key != new.id_key),
        ("watch", old.watch != new.watch),
        ("[admin] listen", old.admin.listen != new.admin.listen),
        ("[admin] token", old.admin.token != new.admin.token),
        ("[admin.tls]", old.admin.tls != new.admin.tls),
        ("[influxdb]", old.influxdb != new.influxdb),
    ];
    let changed: Vec<&str> = fixed
        .into_iter()
        .filter_map(|(name, changed)| changed.then_some(name))
        .collect();
    if !changed.is_empty() {
        bail!(
            "{} can't change while Weir runs: restart it for that, or change it back",
            changed.join(", ")
        );
    }
    let mut reload = Reload::default();
    for pipeline in &new.pipelines {
        match old.pipelines.iter().find(|it| it.name == pipeline.name) {
            None => reload.fresh.push(pipeline.clone()),
            Some(before) if unplaced(before) == unplaced(pipeline) => {}
            Some(before) if unchained(before) == unchained(pipeline) => {
                reload.rechained.push(pipeline.clone());
            }
            Some(_) => reload.fresh.push(pipeline.clone()),
        }
    }
    let is_gone = |it: &&Pipeline| !new.pipelines.iter().any(|new| new.name == it.name);
    let gone = old.pipelines.iter().filter(is_gone);
    reload.gone = gone.map(|it| it.name.clone()).collect();
    Ok(reload)
}

/// A pipeline wherever it stands in the file.
fn unplaced(pipeline: &Pipeline) -> Pipeline {
    let mut pipeline = pipeline.clone();
    pipeline.line = 0;
    pipeline.consumer = pipeline.consumer.unplaced();
    pipeline.producer = pipeline.producer.unplaced();
    pipeline.transforms.iter_mut().for_each(|it| it.line = 0);
    pipeline
}

/// All of a pipeline but its chain.
fn unchained(pipeline: &Pipeline) -> Pipeline {
    Pipeline {
        transforms: Vec::new(),
        ..unplaced(pipeline)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Surroundings;

    const FILE: &str = r#"
[kafka]
"bootstrap.servers" = "localhost:9092"

[pipelines.a]
input = "a"
output = "a-out"

[[pipelines.a.transforms]]
name = "even"
module = "filter.wasm"
config = { keep = "a == 1" }

[pipelines.b]
input = "b"
output = "b-out"
"#;

    fn config(text: &str) -> Config {
        let surroundings = Surroundings {
            variable: &|_| None,
            setting: &|_, _, _| Ok(()),
        };
        Config::parse(Path::new("/etc/weir.toml"), text, surroundings).unwrap()
    }

    fn names(pipelines: &[Pipeline]) -> Vec<&str> {
        pipelines.iter().map(|it| &*it.name).collect()
    }

    /// What is fresh, rechained and gone when the first text is replaced by the second.
    fn check(from: &str, to: &str, expected: [&[&str]; 3]) {
        let new = FILE.replace(from, to);
        assert!(from.is_empty() || new != FILE, "{from}");
        let reload = compare(&config(FILE), &config(&new)).unwrap();
        let gone: Vec<&str> = reload.gone.iter().map(String::as_str).collect();
        assert_eq!(
            [names(&reload.fresh), names(&reload.rechained), gone],
            expected.map(<[&str]>::to_vec),
            "{from} -> {to}"
        );
    }

    #[test]
    fn only_what_differs_is_touched() {
        check("", "", [&[], &[], &[]]);
        check(
            "\n[kafka]",
            "\n# A comment moves all lines.\n\n[kafka]",
            [&[], &[], &[]],
        );
        check("a == 1", "a == 2", [&[], &["a"], &[]]);
        check(
            "name = \"even\"",
            "name = \"even\"\nretries = 3",
            [&[], &["a"], &[]],
        );
        check("output = \"b-out\"", "output = \"b-2\"", [&["b"], &[], &[]]);
        check(
            "9092\"",
            "9092\"\n\"client.rack\" = \"x\"",
            [&["a", "b"], &[], &[]],
        );
        check("[pipelines.b]", "[pipelines.c]", [&["c"], &[], &["b"]]);
    }

    #[test]
    fn what_can_not_change_is_named() {
        let new = format!("data = \"/elsewhere\"\nwatch = false\n{FILE}");
        let why = compare(&config(FILE), &config(&new))
            .unwrap_err()
            .to_string();
        assert!(
            why.starts_with("data, watch can't change while Weir runs"),
            "{why}"
        );
    }
}
