//! Config files of tests: what every test needs said once, and nothing hidden that a test is about.

use std::fmt::Write;
use std::path::Path;

use crate::data::data_of;
use crate::{Topic, broker};

/// A pipeline of a test's config file, with a group of its own.
#[derive(Clone, Debug)]
pub struct Pipeline {
    name: String,
    group: String,
    keys: Vec<String>,
    consumer: Vec<String>,
    producer: Vec<String>,
    transforms: Vec<String>,
}

impl Pipeline {
    /// A pipeline that copies one topic to another.
    pub fn new(name: &str, input: &Topic, output: &Topic) -> Pipeline {
        Pipeline::between(name, input.name(), output.name())
    }

    /// As [`new`](Pipeline::new), of names or patterns of topics.
    pub fn between(name: &str, input: &str, output: &str) -> Pipeline {
        Pipeline {
            name: name.to_string(),
            group: Topic::unique_name(),
            keys: vec![format!("input = {input:?}"), format!("output = {output:?}")],
            consumer: Vec::new(),
            producer: Vec::new(),
            transforms: Vec::new(),
        }
    }

    /// A line of its table, `workers = 2` for example.
    pub fn set(mut self, line: &str) -> Pipeline {
        self.keys.push(line.to_string());
        self
    }

    /// A line of its consumer's table.
    pub fn consumer(mut self, line: &str) -> Pipeline {
        self.consumer.push(line.to_string());
        self
    }

    /// A line of its producer's table.
    pub fn producer(mut self, line: &str) -> Pipeline {
        self.producer.push(line.to_string());
        self
    }

    /// One more transform: a module of `target/guests`, and further lines of its table.
    pub fn transform(self, name: &str, module: &str, lines: &str) -> Pipeline {
        self.module(name, &format!("{module}.wasm"), lines)
    }

    /// One more transform, of any module's file.
    pub fn module(mut self, name: &str, path: &str, lines: &str) -> Pipeline {
        self.transforms
            .push(format!("name = {name:?}\nmodule = {path:?}\n{lines}"));
        self
    }

    /// The three transforms of the seed job; `lines` go into the first one's table.
    pub fn seed(self, lines: &str) -> Pipeline {
        self.transform(
            "id",
            "add-uuid",
            &format!("config = {{ field = \"id\" }}\n{lines}"),
        )
        .transform(
            "date",
            "format-timestamp",
            "config = { from = \"timestamp\", rename = \"event_time\", to = \"iso_date\" }",
        )
        .transform(
            "even",
            "filter",
            "config = { keep = \"event_time % 2 == 0\" }",
        )
    }

    /// The same pipeline, of the same group, with one piece of its tables in place of another.
    ///
    /// # Panics
    /// If it has no such piece.
    #[track_caller]
    pub fn replace(&self, from: &str, to: &str) -> Pipeline {
        let mut pipeline = self.clone();
        let tables = [
            &mut pipeline.keys,
            &mut pipeline.consumer,
            &mut pipeline.producer,
            &mut pipeline.transforms,
        ];
        let lines = tables.into_iter().flatten().find(|it| it.contains(from));
        let lines = lines.unwrap_or_else(|| panic!("pipeline {:?} has no {from}", self.name));
        *lines = lines.replace(from, to);
        pipeline
    }

    /// Lines for the table of each of its transforms.
    pub fn in_transforms(mut self, lines: &str) -> Pipeline {
        for transform in &mut self.transforms {
            transform.push('\n');
            transform.push_str(lines);
        }
        self
    }

    /// The same pipeline with a group of its own.
    pub fn regroup(mut self) -> Pipeline {
        self.group = Topic::unique_name();
        self
    }

    /// Its consumer group.
    pub fn group(&self) -> &str {
        &self.group
    }

    fn write(&self, text: &mut String) {
        let name = &self.name;
        let mut table = |head: String, lines: &[String]| {
            if !lines.is_empty() {
                let _ = writeln!(text, "\n{head}\n{}", lines.join("\n"));
            }
        };
        let keys = [&[format!("group = {:?}", self.group)], &self.keys[..]].concat();
        table(format!("[pipelines.{name}]"), &keys);
        table(format!("[pipelines.{name}.consumer]"), &self.consumer);
        table(format!("[pipelines.{name}.producer]"), &self.producer);
        for transform in &self.transforms {
            let lines = std::slice::from_ref(transform);
            table(format!("[[pipelines.{name}.transforms]]"), lines);
        }
    }
}

/// A config file for pipelines on the tests' broker, with the modules of `target/guests` and the data folder of the first
/// one's group.
#[track_caller]
pub fn config(pipelines: &[&Pipeline]) -> String {
    config_at(broker().bootstrap(), pipelines)
}

/// As [`config`], for another `bootstrap.servers`.
pub fn config_at(bootstrap: &str, pipelines: &[&Pipeline]) -> String {
    let data = data_of(pipelines.first().map_or("none", |it| it.group()));
    text(bootstrap, &data, pipelines)
}

fn text(bootstrap: &str, data: &Path, pipelines: &[&Pipeline]) -> String {
    let target = xtask::root().join("target");
    let mut text = format!(
        "modules = {:?}\ndata = {data:?}\n\n[kafka]\n\"bootstrap.servers\" = {bootstrap:?}\n",
        target.join("guests"),
    );
    for pipeline in pipelines {
        pipeline.write(&mut text);
    }
    text
}

/// A config file for a container of the image: its own modules and data folder, the broker by the variable
/// `WEIR_BOOTSTRAP`, and a port that is free, on an address that others reach.
pub fn config_in_image(pipelines: &[&Pipeline]) -> String {
    let mut text = "modules = \"/usr/share/weir/guests\"\n\n[admin]\nlisten = \"0.0.0.0:0\"\n\n\
                    [kafka]\n\"bootstrap.servers\" = \"${WEIR_BOOTSTRAP}\"\n"
        .to_string();
    for pipeline in pipelines {
        pipeline.write(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stand_in_toml_s_order() {
        let pipeline = Pipeline::between("p", "^in\\..*", "out")
            .transform("keep", "filter", "config = { keep = \"true\" }")
            .producer("\"linger.ms\" = 1")
            .set("workers = 2");
        let text = text("kafka:9092", Path::new("data"), &[&pipeline]);
        let (_, tables) = text.split_once("[kafka]").unwrap();
        let group = pipeline.group();
        assert_eq!(
            tables,
            format!(
                "\n\"bootstrap.servers\" = \"kafka:9092\"\n\n\
                 [pipelines.p]\ngroup = \"{group}\"\ninput = \"^in\\\\..*\"\noutput = \"out\"\nworkers = 2\n\n\
                 [pipelines.p.producer]\n\"linger.ms\" = 1\n\n\
                 [[pipelines.p.transforms]]\nname = \"keep\"\nmodule = \"filter.wasm\"\nconfig = {{ keep = \"true\" }}\n"
            )
        );
    }
}
