//! What a pipeline reads and writes: inputs, outputs by name, and the dead letter topic.

use std::collections::BTreeSet;

use super::document::{Problems, Text};
use super::names::{check_name, check_pattern, check_topic, nearest};
use super::raw::{Located, RawOutput, RawOutputSettings};
use super::{Input, Output, Partitioning};

/// What guests know the output by that has no other name, and the one that comes first if there are several.
const DEFAULT_OUTPUT: &str = "default";

pub(super) fn build_inputs(
    inputs: &Located<Vec<Located<Text>>>,
    problems: &mut Problems,
) -> Vec<Input> {
    if inputs.value.is_empty() {
        problems.at(inputs.line, "\"input\" lists no topic; name at least one");
    }
    let mut seen = BTreeSet::new();
    let mut built = Vec::new();
    for input in &inputs.value {
        let text = &input.value;
        if !seen.insert(&text.value) {
            problems.at(
                input.line,
                format!("the input \"{text}\" is listed twice; keep one"),
            );
        }
        if text.value.starts_with('^') {
            if let Err(reason) = check_pattern(&text.value) {
                problems.at(input.line, format!("the input pattern \"{text}\" {reason}"));
            }
            built.push(Input::Pattern(text.value.clone()));
        } else {
            check_topic("input", input.line, text, problems);
            built.push(Input::Topic(text.value.clone()));
        }
    }
    built
}

/// The default comes first: the one of that name, or else the first of the file.
pub(super) fn build_outputs(
    outputs: &Located<Vec<RawOutput>>,
    settings: &[RawOutputSettings],
    partition: Partitioning,
    problems: &mut Problems,
) -> Vec<Output> {
    if outputs.value.is_empty() {
        problems.at(
            outputs.line,
            "\"output\" names no topic; write such as output = { default = \"stocks\" }",
        );
    }
    let mut built = Vec::new();
    for RawOutput { name, topic } in &outputs.value {
        if let Some(name) = name {
            check_name("output", topic.line, name, name, problems);
        }
        check_topic("output", topic.line, &topic.value, problems);
        built.push(Output {
            name: name.clone().unwrap_or_else(|| DEFAULT_OUTPUT.to_string()),
            topic: topic.value.value.clone(),
            partition,
        });
    }
    for RawOutputSettings { name, partition } in settings {
        let known = built.iter_mut().find(|output| output.name == name.value);
        let Some(output) = known else {
            let names: Vec<&str> = built.iter().map(|output| output.name.as_str()).collect();
            let advice = match nearest(&name.value, &names) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => format!("\"output\" has {}", names.join(", ")),
            };
            let message = format!("there is no output \"{}\"; {advice}", name.value);
            problems.at(name.line, message);
            continue;
        };
        if let Some(partition) = partition {
            output.partition = partition.value;
        }
    }
    // Stable: the others keep the order of the file.
    built.sort_by_key(|output| output.name != DEFAULT_OUTPUT);
    built
}

/// The topic must not be one that the chain's results go to: nobody could tell them apart.
pub(super) fn build_dead_letter(
    dead_letter: &Located<Text>,
    outputs: &[Output],
    problems: &mut Problems,
) -> String {
    let Located { line, value: topic } = dead_letter;
    check_topic("dead letter", *line, topic, problems);
    if outputs.iter().any(|output| output.topic == topic.value) {
        problems.at(
            *line,
            format!(
                "the dead letter topic \"{topic}\" is an output of the pipeline too, and its readers would take dead letters for results; give dead letters a topic of their own"
            ),
        );
    }
    topic.value.clone()
}
