//! `weir dead-letters`: what can be typed ([`args`]), and what people see of it.

pub mod args;
mod list;
mod replay;
mod show;

use std::collections::BTreeMap;

use anyhow::Result;

use self::args::{Action, Whose};
use super::offsets::named;
use super::{UsageError, load, text};
use crate::config::{Config, Pipeline};
use crate::dead_letters::{DeadLetters, Found};

/// Does what was typed with dead letters.
pub fn dead_letters(args: &args::DeadLetters) -> Result<()> {
    match &args.action {
        Action::List(args) => list::list(args),
        Action::Show(args) => show::show(args),
        Action::Replay(args) => replay::run(args),
        Action::Count(args) => list::count(args),
    }
}

fn open(whose: &Whose) -> Result<DeadLetters> {
    let config = load(&whose.file)?;
    let pipeline = chosen(&config, whose.pipeline.as_deref())?;
    DeadLetters::open(pipeline)
}

/// The pipeline of this name, or the only one that has a dead letter topic.
fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Pipeline> {
    let with: Vec<&Pipeline> = config
        .pipelines
        .iter()
        .filter(|it| it.dead_letter.is_some())
        .collect();
    let wrong = |text: String| Err(UsageError(text).into());
    match (name, &with[..]) {
        (Some(name), _) => match named(config, name)? {
            it if it.dead_letter.is_some() => Ok(it),
            it => wrong(format!(
                "pipeline {:?} has no topic for dead letters; add dead_letter = \"TOPIC\" to [pipelines.{}]",
                it.name, it.name
            )),
        },
        (None, [only]) => Ok(only),
        (None, []) => wrong(format!(
            "no pipeline in {} has a topic for dead letters (\"dead_letter\")",
            config.path.display()
        )),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|it| it.name.as_str()).collect();
            wrong(format!(
                "several pipelines have dead letters: name one of {}",
                names.join(", ")
            ))
        }
    }
}

/// Whether a letter was replayed, in a word.
fn state(done: bool) -> &'static str {
    match done {
        true => "replayed",
        false => "pending",
    }
}

/// The width that tables are cut to: the terminal's, if it is one.
fn columns() -> Option<usize> {
    let term = console::Term::stdout();
    let attended = term.features().is_attended();
    attended.then(|| usize::from(term.size().1))
}

/// Records of the topic that are none of the pipeline's dead letters.
#[derive(Default)]
struct Passed {
    /// Letters of other pipelines, by name.
    others: BTreeMap<String, u64>,
    /// Records that are no letters.
    foreign: u64,
}

impl Passed {
    fn note(&mut self, found: &Found) {
        match found {
            Found::Letter(_) | Found::Mark(_) => {}
            Found::Others(pipeline) => *self.others.entry(pipeline.clone()).or_default() += 1,
            Found::Foreign => self.foreign += 1,
        }
    }

    /// Says what else is in the topic, on standard error.
    fn tell(&self, topic: &str) {
        for (pipeline, count) in &self.others {
            let count = text::count(*count);
            eprintln!("{topic} also holds dead letters of pipeline {pipeline:?}: {count}");
        }
        if self.foreign > 0 {
            let count = text::count(self.foreign);
            eprintln!("{topic} also holds records that are no dead letters of Weir's: {count}");
        }
    }
}
