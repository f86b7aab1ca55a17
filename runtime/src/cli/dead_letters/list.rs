//! `weir dead-letters list` and `count`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::Result;
use serde_json::{Value, json};

use super::super::table::Table;
use super::super::{say, text};
use super::args::{Count, List};
use super::{Passed, columns, open, state};
use crate::dead_letters::{Entry, Found};
use crate::letter::{Class, show_time};

/// What a reason may take of a table that isn't cut to a terminal.
const REASON_COLUMNS: usize = 500;

/// Lists dead letters.
pub fn list(args: &List) -> Result<()> {
    let mut letters = open(&args.whose)?;
    let filter = args.which.filter();
    let mut table = Table::new()
        .text("letter")
        .text("time")
        .text("class")
        .text("transform")
        .text("from")
        .number("replays")
        .text("state")
        .text("reason");
    let mut left_out = 0_u64;
    let (mut count, limit) = (0, args.limit.map_or(u64::MAX, |it| it.get()));
    let mut passed = Passed::default();
    for number in 0..letters.partitions() {
        let partition = letters.partition(number)?;
        let visit = &mut |offset, found| {
            let entry = match found {
                Found::Letter(entry) => entry,
                other => {
                    passed.note(&other);
                    return Ok(ControlFlow::Continue(()));
                }
            };
            let done = partition.progress.is_done(offset);
            if !filter.takes(&entry.letter) || args.pending && done {
                left_out += 1;
                return Ok(ControlFlow::Continue(()));
            }
            match args.json {
                true => say(line(&entry, done))?,
                false => table.row(row(&entry, done)),
            }
            count += 1;
            Ok(match count >= limit {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        };
        if letters
            .scan(number, partition.offsets.clone(), visit)?
            .is_break()
        {
            break;
        }
    }
    if !args.json && count > 0 {
        table.lines(columns()).iter().try_for_each(say)?;
    }
    if !args.json && count == 0 {
        let topic = letters.topic();
        match left_out {
            0 => say(format_args!("no dead letters in {topic}"))?,
            some => say(format_args!(
                "none of the dead letters in {topic} is meant: the options leave out {}",
                text::count(some)
            ))?,
        }
    }
    passed.tell(letters.topic());
    Ok(())
}

/// Counts dead letters.
pub fn count(args: &Count) -> Result<()> {
    let mut letters = open(&args.whose)?;
    let filter = args.which.filter();
    // Pending and replayed.
    let mut counts: BTreeMap<(Class, Option<String>), [u64; 2]> = BTreeMap::new();
    let mut passed = Passed::default();
    for number in 0..letters.partitions() {
        let partition = letters.partition(number)?;
        let visit = &mut |offset, found| {
            match found {
                Found::Letter(entry) if filter.takes(&entry.letter) => {
                    let transform = entry.letter.transform.map(|(name, _)| name);
                    let count = counts.entry((entry.letter.class, transform)).or_default();
                    count[usize::from(partition.progress.is_done(offset))] += 1;
                }
                Found::Letter(_) => {}
                other => passed.note(&other),
            }
            Ok(ControlFlow::Continue(()))
        };
        let _ = letters.scan(number, partition.offsets.clone(), visit)?;
    }
    let all = counts.values().fold([0, 0], |[pending, replayed], it| {
        [pending + it[0], replayed + it[1]]
    });
    if args.json {
        let by: Vec<Value> = counts
            .iter()
            .map(|((class, transform), [pending, replayed])| {
                json!({
                    "class": class.as_str(), "transform": transform,
                    "letters": pending + replayed, "pending": pending, "replayed": replayed,
                })
            })
            .collect();
        return say(json!({
            "topic": &**letters.topic(), "group": letters.group(),
            "letters": all[0] + all[1], "pending": all[0], "replayed": all[1],
            "by": by, "others": passed.others, "foreign": passed.foreign,
        }));
    }
    let mut table = Table::new()
        .text("class")
        .text("transform")
        .number("letters")
        .number("pending")
        .number("replayed");
    let numbers =
        |[pending, replayed]: [u64; 2]| [pending + replayed, pending, replayed].map(text::count);
    for ((class, transform), count) in &counts {
        let names = [class.to_string(), transform.clone().unwrap_or_default()];
        table.row(names.into_iter().chain(numbers(*count)));
    }
    let names = ["all".to_string(), String::new()];
    table.row(names.into_iter().chain(numbers(all)));
    table.lines(columns()).iter().try_for_each(say)?;
    passed.tell(letters.topic());
    Ok(())
}

fn row(entry: &Entry, done: bool) -> [String; 8] {
    let letter = &entry.letter;
    [
        format!("{}:{}", entry.partition, entry.offset),
        show_time(letter.time),
        letter.class.to_string(),
        letter
            .transform
            .as_ref()
            .map_or(String::new(), |it| it.0.clone()),
        format!("{}/{}:{}", letter.topic, letter.partition, letter.offset),
        text::count(entry.replays().into()),
        state(done).to_string(),
        text::record(Some(letter.reason.as_bytes()), REASON_COLUMNS),
    ]
}

/// A letter for programs, without its record.
pub fn line(entry: &Entry, done: bool) -> Value {
    let letter = &entry.letter;
    let (transform, module) = letter.transform.clone().unzip();
    json!({
        "partition": entry.partition,
        "offset": entry.offset,
        "time": show_time(letter.time),
        "class": letter.class.as_str(),
        "pipeline": letter.pipeline,
        "transform": transform,
        "module": module,
        "from": {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset},
        "replays": entry.replays(),
        "state": state(done),
        "reason": letter.reason,
    })
}
