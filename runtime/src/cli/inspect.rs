//! `weir inspect`

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::args::Inspect;
use super::table::Table;
use super::text;
use crate::guest::{Compiler, Digest, Host, Import, Module, imports};

/// Shows what modules are. Fails if one of them can't be run, after all have been shown.
pub fn inspect(args: &Inspect) -> Result<()> {
    let host = Host::new(Compiler::this_program(), None)?;
    let mut unusable = Vec::new();
    for (index, path) in args.modules.iter().enumerate() {
        let bytes = Module::read(path)?;
        let seen = imports(&bytes);
        let module = Module::load(&host, &bytes);
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
            println!("{line}");
            continue;
        }
        if index > 0 {
            println!();
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
        for line in table.lines(None).iter().skip(1) {
            println!("{line}");
        }
        match &module {
            Ok(module) => print_schema(&module.description().config_schema),
            Err(why) => println!("can't be run: {why:#}"),
        }
    }
    match unusable.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("can't be run: {}", unusable.join(", "))),
    }
}

/// The config's keys as a table; the schema itself is for `--json`.
fn print_schema(schema: &str) {
    let Ok(schema) = serde_json::from_str::<Value>(schema) else {
        println!("config   its schema isn't JSON: {schema}");
        return;
    };
    let Some(properties) = schema["properties"].as_object() else {
        println!("config   any");
        return;
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    println!("config");
    let mut table = Table::new()
        .text("  key")
        .text("values")
        .text("default")
        .text("meaning");
    for (key, property) in properties {
        let default = match &property["default"] {
            Value::Null if required.contains(&key.as_str()) => "needed".to_string(),
            Value::Null => String::new(),
            default => default.to_string(),
        };
        let meaning = property["description"].as_str().unwrap_or_default();
        table.row([&format!("  {key}"), &values(property), &default, meaning]);
    }
    let width = console::Term::stdout()
        .features()
        .is_attended()
        .then(|| usize::from(console::Term::stdout().size().1));
    println!("{}", table.render(width).trim_end());
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
