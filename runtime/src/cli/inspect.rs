//! `weir inspect`

use anyhow::{Result, anyhow};
use console::{Alignment, measure_text_width, pad_str};
use serde_json::{Value, json};

use super::args::Inspect;
use super::table::Table;
use super::{say, text};
use crate::guest::{Compiler, Digest, Host, Import, Limits, Module, imports};

/// Shows what modules are. Fails if one of them can't be run, after all have been shown.
pub fn inspect(args: &Inspect) -> Result<()> {
    let host = Host::new(Compiler::this_program(), None)?;
    let limits = Limits::default();
    let mut unusable = Vec::new();
    for (index, path) in args.modules.iter().enumerate() {
        let bytes = Module::read(path, limits.max_module_bytes)?;
        let seen = imports(&bytes);
        let module = Module::load(&host, &bytes, &limits);
        if module.is_err() {
            unusable.push(path.display().to_string());
        }
        let digest = Digest::of(&bytes);
        let wanted: Vec<String> = seen
            .iter()
            .flat_map(|(_, it)| it)
            .map(Import::to_string)
            .collect();
        let shape = seen.as_ref().ok().map(|(shape, _)| shape.to_string());
        if args.json {
            let description = module.as_ref().ok().map(Module::description);
            let schema = description
                .map(|it| serde_json::from_str::<Value>(&it.config_schema).unwrap_or(Value::Null));
            let line = json!({
                "path": path.display().to_string(),
                "name": description.map(|it| &it.name),
                "version": description.map(|it| &it.version),
                "summary": description.map(|it| &it.summary),
                "digest": digest.to_string(),
                "bytes": bytes.len(),
                "shape": shape,
                "imports": wanted,
                "config_schema": schema,
                "error": module.as_ref().err().map(|why| format!("{why:#}")),
            });
            say(line)?;
            continue;
        }
        if index > 0 {
            say("")?;
        }
        let mut table = Table::new().text("").text("");
        table.row(["module", &path.display().to_string()]);
        if let Ok(module) = &module {
            let it = module.description();
            table.row(["name", &it.name]);
            table.row(["version", &it.version]);
            table.row(["does", &it.summary]);
        }
        table.row(["digest", &format!("sha256:{digest}")]);
        table.row(["size", &text::bytes(bytes.len() as u64)]);
        table.row(["shape", shape.as_deref().unwrap_or("not WebAssembly")]);
        let none = "none: no clock, no randomness, no files, no network";
        let imports = if wanted.is_empty() {
            none.into()
        } else {
            wanted.join(", ")
        };
        if seen.is_ok() {
            table.row(["imports", &imports]);
        }
        table.lines(None).iter().skip(1).try_for_each(say)?;
        match &module {
            Ok(module) => print_schema(&module.description().config_schema)?,
            Err(why) => say(format_args!("can't be run: {why:#}"))?,
        }
    }
    match unusable.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("can't be run: {}", unusable.join(", "))),
    }
}

/// Columns of a text without a terminal, and the most that a line is comfortable to read with.
const COLUMNS: usize = 80;
const MAX_COLUMNS: usize = 100;

/// The config's keys, each with what it may be and what it means; the schema itself is for `--json`.
fn print_schema(schema: &str) -> Result<()> {
    let Ok(schema) = serde_json::from_str::<Value>(schema) else {
        return say(format_args!("config   its schema isn't JSON: {schema}"));
    };
    let Some(properties) = schema["properties"].as_object() else {
        return say("config   any: the module has no schema");
    };
    let term = console::Term::stdout();
    let columns = match term.features().is_attended() {
        true => usize::from(term.size().1).min(MAX_COLUMNS),
        false => COLUMNS,
    };
    say("config")?;
    config_lines(&schema, properties, columns)
        .iter()
        .try_for_each(say)
}

fn config_lines(
    schema: &Value,
    properties: &serde_json::Map<String, Value>,
    columns: usize,
) -> Vec<String> {
    let is_required = |key: &str| {
        let required = schema["required"].as_array();
        required.is_some_and(|it| it.iter().any(|it| it == key))
    };
    let widest = properties.keys().map(|key| measure_text_width(key)).max();
    let indent = widest.unwrap_or(0) + 4;
    let mut lines = Vec::new();
    for (key, property) in properties {
        let needed = match &property["default"] {
            Value::Null if is_required(key) => "; needed".to_string(),
            Value::Null => String::new(),
            default => format!("; default {default}"),
        };
        let may_be = format!("{}{needed}", values(property));
        let meaning = property["description"].as_str().unwrap_or_default();
        let room = columns.saturating_sub(indent).max(20);
        let mut start = pad_str(&format!("  {key}"), indent, Alignment::Left, None).into_owned();
        for line in [text::wrap(&may_be, room), text::wrap(meaning, room)].concat() {
            lines.push(format!("{start}{line}"));
            start = " ".repeat(indent);
        }
    }
    lines
}

/// What a property may be, in a word or by its list of values.
fn values(property: &Value) -> String {
    if let Some(values) = property["enum"].as_array() {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        return values.join(" | ");
    }
    if !property["const"].is_null() {
        return property["const"].to_string();
    }
    for several in ["oneOf", "anyOf"] {
        if let Some(options) = property[several].as_array() {
            let options: Vec<String> = options.iter().map(values).collect();
            return options.join(" | ");
        }
    }
    match &property["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" | "),
        _ => "any".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_shown_in_the_width_that_there_is() {
        let schema = json!({
            "properties": {
                "to": {"type": "string", "description": "The path of the field that becomes the date."},
                "existing": {
                    "enum": ["replace", "keep"], "default": "replace",
                    "description": "What becomes of a field that stands there."
                },
                "any": {},
            },
            "required": ["to"],
        });
        let properties = schema["properties"].as_object().unwrap();
        let expected = [
            "  to        string; needed",
            "            The path of the field that",
            "            becomes the date.",
            "  existing  \"replace\" | \"keep\"; default",
            "            \"replace\"",
            "            What becomes of a field that",
            "            stands there.",
            "  any       any",
        ];
        assert_eq!(config_lines(&schema, properties, 42), expected);
    }
}
