//! `weir dead-letters show`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::ControlFlow;

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::super::table::Table;
use super::super::{say, text, unsaid};
use super::args::Show;
use super::{list, open, state};
use crate::dead_letters::{Entry, Found};
use crate::letter::show_time;

/// Shows one dead letter.
pub fn show(args: &Show) -> Result<()> {
    let mut letters = open(&args.whose)?;
    let (topic, place) = (letters.topic().clone(), args.place);
    let here = format!("{topic} at {}:{}", place.partition, place.offset);
    ensure!(
        place.partition < letters.partitions(),
        "{topic} has no partition {}",
        place.partition
    );
    let partition = letters.partition(place.partition)?;
    if !partition.offsets.contains(&place.offset) {
        bail!(
            "there's nothing in {here}: the partition has offsets {} to {}",
            partition.offsets.start,
            partition.offsets.end
        );
    }
    let mut found = None;
    let visit = &mut |_, it| {
        found = Some(it);
        Ok(ControlFlow::Break(()))
    };
    let _ = letters.scan(place.partition, place.offset..place.offset + 1, visit)?;
    let entry = match found {
        Some(Found::Letter(entry)) => entry,
        Some(Found::Others(pipeline)) => {
            bail!("the dead letter in {here} is pipeline {pipeline:?}'s")
        }
        Some(Found::Mark(_)) => {
            bail!(
                "the record in {here} is no dead letter: a replay left it, to know later what was replayed"
            )
        }
        Some(Found::Foreign) => bail!("the record in {here} is no dead letter of Weir's"),
        None => bail!("there's no record in {here}"),
    };
    if args.raw {
        let value = entry.value.as_deref();
        let value = value.ok_or_else(|| anyhow!("the value in {here} is null"))?;
        let mut out = io::stdout().lock();
        return out
            .write_all(value)
            .and_then(|()| out.flush())
            .map_err(unsaid);
    }
    let done = partition.progress.is_done(place.offset);
    match args.json {
        true => say(describe(&entry, done)),
        false => print(&entry, done),
    }
}

fn describe(entry: &Entry, done: bool) -> Value {
    let mut line = list::line(entry, done);
    let headers = entry.headers.iter();
    let headers: Vec<Value> = headers
        .map(|(name, value)| json!({"name": bytes(Some(name)), "value": bytes(value.as_deref())}))
        .collect();
    line["timestamp"] = json!(entry.timestamp);
    line["headers"] = json!(headers);
    line["key"] = bytes(entry.key.as_deref());
    line["value"] = bytes(entry.value.as_deref());
    line
}

/// Text as a string, other bytes as `{"hex": "…"}`.
fn bytes(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "hex": hex(bytes) }),
        },
    }
}

fn print(entry: &Entry, done: bool) -> Result<()> {
    let letter = &entry.letter;
    let mut table = Table::new().text("").text("");
    let mut row = |name: &str, text: String| table.row([name.to_string(), text]);
    row("letter", format!("{}:{}", entry.partition, entry.offset));
    row("state", state(done).to_string());
    row("time", show_time(letter.time));
    row("class", letter.class.to_string());
    row("reason", printable(&letter.reason));
    if let Some((transform, module)) = &letter.transform {
        row("transform", transform.clone());
        row("module", format!("sha256:{module}"));
    }
    row("pipeline", letter.pipeline.clone());
    row(
        "from",
        format!("{}/{}:{}", letter.topic, letter.partition, letter.offset),
    );
    row("replays", entry.replays().to_string());
    row(
        "timestamp",
        match entry.timestamp {
            time if time < 0 => "none".into(),
            time => show_time(time),
        },
    );
    for (name, value) in &entry.headers {
        row(
            "header",
            format!(
                "{} = {}",
                text::record(Some(name), usize::MAX),
                value
                    .as_deref()
                    .map_or("null".into(), |it| text::record(Some(it), usize::MAX))
            ),
        );
    }
    table.lines(None).iter().skip(1).try_for_each(say)?;
    for (name, bytes) in [("key", &entry.key), ("value", &entry.value)] {
        let Some(bytes) = bytes else {
            say(format_args!("{name}: null"))?;
            continue;
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => say(format_args!(
                "{name}, {}:\n{}",
                size(bytes),
                printable(text)
            ))?,
            Err(_) => {
                say(format_args!(
                    "{name}, {}, not UTF-8, in hexadecimal:",
                    size(bytes)
                ))?;
                bytes.chunks(32).try_for_each(|it| say(hex(it)))?;
            }
        }
    }
    Ok(())
}

fn size(bytes: &[u8]) -> String {
    match bytes.len() {
        1 => "1 byte".to_string(),
        count => format!("{} bytes", text::count(count as u64)),
    }
}

/// Text without what would reach a terminal as a command; lines stay lines.
fn printable(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| text::record(Some(line.as_bytes()), usize::MAX))
        .collect();
    lines.join("\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_they_are() {
        assert_eq!(bytes(None), Value::Null);
        assert_eq!(bytes(Some(b"")), json!(""));
        assert_eq!(bytes(Some("ä\n".as_bytes())), json!("ä\n"));
        assert_eq!(bytes(Some(b"a\xff")), json!({"hex": "61ff"}));
        assert_eq!(
            printable("{\n\t\"a\": 1\n}\x1b[2J"),
            "{\n\\t\"a\": 1\n}\\u{1b}[2J"
        );
    }
}
