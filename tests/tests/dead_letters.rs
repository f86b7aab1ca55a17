//! Dead letters: listed, counted, shown, and replayed exactly once.

mod progress;

use std::fmt::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weir_tests::{
    Consumed, Finished, Header, MINUTE, Pipeline, Record, Scratch, Topic, Weir, config, guest, seed,
};

/// Runs `weir dead-letters` to its end, with the code that it must end with.
#[track_caller]
fn run(scratch: &Scratch, code: i32, arguments: &[&str]) -> Finished {
    let finished = Weir::command(scratch, MINUTE, &[&["dead-letters"], arguments].concat());
    assert_eq!(finished.code, Some(code), "{finished:?}");
    finished
}

/// One JSON value for each line of standard output.
#[track_caller]
fn lines(finished: &Finished) -> Vec<Value> {
    let line =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
    finished.stdout.lines().map(line).collect()
}

/// The SHA-256 of a guest module's file, in hexadecimal.
fn digest(module: &str) -> String {
    let bytes = std::fs::read(guest(module)).unwrap();
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// A dead letter of pipeline `stocks`, as any client can write one.
struct Letter<'a> {
    class: &'a str,
    transform: Option<&'a str>,
    from: (&'a Topic, i32, i64),
    time: &'a str,
}

impl Letter<'_> {
    fn of(&self, record: Record) -> Record {
        let (topic, partition, offset) = self.from;
        let reason = format!("reason {offset}");
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let module = "ab".repeat(32);
        let mut headers = vec![
            ("reason", reason.as_str()),
            ("class", self.class),
            ("pipeline", "stocks"),
        ];
        if let Some(transform) = self.transform {
            headers.push(("transform", transform));
            headers.push(("module", &module));
        }
        headers.push(("topic", topic.name()));
        headers.push(("partition", &partition));
        headers.push(("offset", &offset));
        headers.push(("time", self.time));
        headers.into_iter().fold(record, |record, (name, value)| {
            record.header(format!("weir.{name}").as_bytes(), Some(value.as_bytes()))
        })
    }
}

/// A header of a record that is there once.
fn header<'a>(record: &'a Consumed, name: &str) -> &'a str {
    let mut found = record
        .headers
        .iter()
        .filter(|(it, _)| it == name.as_bytes());
    let (_, value) = found
        .next()
        .unwrap_or_else(|| panic!("no {name} in {record:?}"));
    assert!(found.next().is_none(), "{name} twice in {record:?}");
    std::str::from_utf8(value.as_deref().unwrap()).unwrap()
}

#[test]
fn letters_are_listed_counted_and_shown() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(2), Topic::create(1));
    let dead = Topic::create_for_dead_letters(2);
    let pipeline = Pipeline::new("stocks", &input, &output)
        .set(&format!("dead_letter = \"{dead}\""))
        .seed("");
    let other = Pipeline::new("copy", &input, &output);
    scratch.write("weir.toml", config(&[&pipeline, &other]));
    // Nothing yet.
    let counted = &lines(&run(&scratch, 0, &["count", "--json"]))[0];
    assert_eq!(counted["letters"], 0);
    assert_eq!(run(&scratch, 0, &["list", "--json"]).stdout, "");
    let none = run(&scratch, 0, &["list", "--class", "trap"]).stdout;
    assert_eq!(none, format!("no dead letters in {dead}\n"));

    let letter = |class, transform, partition, offset, time| Letter {
        class,
        transform,
        from: (&input, partition, offset),
        time,
    };
    let (early, late) = ("2026-01-31T10:00:00.000Z", "2026-01-31T11:00:00.001Z");
    let odd = Record {
        key: Some(vec![0xff, 0x00]),
        value: Some(b"\x00\x01\xfe".repeat(30)),
        ..Record::default()
    };
    let odd = odd
        .timestamp(5)
        .header(b"weir.class", None)
        .header(b"\xc3", Some(b"\xff"));
    let text = "{\n  \"a\": \"\u{1b}[2J\"\n}";
    let plain = Record::new(None, Some(text.as_bytes())).timestamp(1_634_221_557_011);
    let records = [
        letter("refused", Some("date"), 0, 7, early)
            .of(plain.clone())
            .partition(0),
        Record::new(Some(b"weir.class"), Some(b"not a letter")).partition(0),
        letter("trap", Some("id"), 1, 8, late)
            .of(odd.clone())
            .partition(0),
        letter("refused", Some("date"), 1, 9, late)
            .of(Record::new(Some(b""), None))
            .partition(1),
        letter("output", None, 0, 10, late)
            .of(plain.clone())
            .partition(1),
    ];
    dead.produce(records);
    // One of another pipeline.
    let mut others = letter("refused", Some("x"), 0, 0, early)
        .of(plain.clone())
        .partition(1);
    for (name, value) in &mut others.headers {
        if name == b"weir.pipeline" {
            *value = Some(b"bets".to_vec());
        }
    }
    dead.produce([others]);

    // The list agrees with an independent reader.
    let listed = lines(&run(&scratch, 0, &["list", "--json"]));
    let there = dead.consume();
    let letters = there.iter().filter(|it| {
        it.headers
            .iter()
            .any(|(name, value)| name == b"weir.pipeline" && value.as_deref() == Some(b"stocks"))
    });
    let expected: Vec<Value> = letters
        .map(|it| {
            let class = it
                .headers
                .iter()
                .rfind(|(name, _)| name == b"weir.class")
                .unwrap();
            let transform = it.headers.iter().any(|(name, _)| name == b"weir.transform");
            json!({
                "partition": it.partition, "offset": it.offset,
                "time": header(it, "weir.time"),
                "class": String::from_utf8_lossy(class.1.as_deref().unwrap()),
                "pipeline": "stocks",
                "transform": transform.then(|| header(it, "weir.transform")),
                "module": transform.then(|| header(it, "weir.module")),
                "from": {
                    "topic": input.name(),
                    "partition": header(it, "weir.partition").parse::<i32>().unwrap(),
                    "offset": header(it, "weir.offset").parse::<i64>().unwrap(),
                },
                "replays": 0, "state": "pending", "reason": header(it, "weir.reason"),
            })
        })
        .collect();
    assert_eq!(expected.len(), 4);
    assert_eq!(listed, expected);

    // For people: a line each, and what else is there.
    let table = run(&scratch, 0, &["list", "stocks"]);
    assert_eq!(table.stdout.lines().count(), 5, "{}", table.stdout);
    let from = format!("{input}/1:8");
    let line = table.stdout.lines().find(|it| it.contains(&from)).unwrap();
    for word in ["0:2", late, "trap", "id", "pending", "reason 8"] {
        assert!(line.contains(word), "no {word} in {line}");
    }
    for words in [
        ["pipeline \"bets\"", ": 1"],
        ["no dead letters of Weir's", ": 1"],
    ] {
        let told = table
            .stderr
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(told, "no {words:?} in {}", table.stderr);
    }

    // Filters.
    #[track_caller]
    fn check(scratch: &Scratch, arguments: &[&str], expected: &[i64]) {
        let listed = lines(&run(scratch, 0, &[&["list", "--json"], arguments].concat()));
        let mut offsets: Vec<i64> = listed
            .iter()
            .map(|it| it["from"]["offset"].as_i64().unwrap())
            .collect();
        offsets.sort_unstable();
        assert_eq!(offsets, expected, "{arguments:?}");
    }
    check(&scratch, &["--class", "refused"], &[7, 9]);
    check(
        &scratch,
        &["--class", "trap", "--class", "output"],
        &[8, 10],
    );
    check(&scratch, &["--transform", "date", "--since", late], &[9]);
    check(&scratch, &["--until", late], &[7]);
    check(&scratch, &["--since", "1h"], &[]);
    check(
        &scratch,
        &["--topic", input.name(), "--limit", "2"],
        &[7, 8],
    );
    check(&scratch, &["--topic", "elsewhere"], &[]);
    let none = run(&scratch, 0, &["list", "--topic", "elsewhere"]).stdout;
    assert_eq!(
        none,
        format!("none of the dead letters in {dead} is meant: the options leave out 4\n")
    );

    let counted = &lines(&run(&scratch, 0, &["count", "--json"]))[0];
    assert_eq!(
        (
            &counted["letters"],
            &counted["pending"],
            &counted["replayed"]
        ),
        (&json!(4), &json!(4), &json!(0))
    );
    assert_eq!(
        counted["by"][0],
        json!({"class": "refused", "transform": "date", "letters": 2, "pending": 2, "replayed": 0})
    );
    assert_eq!(counted["by"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&counted["foreign"], &counted["others"]),
        (&json!(1), &json!({"bets": 1}))
    );
    let table = run(&scratch, 0, &["count", "--class", "refused"]).stdout;
    let words: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        words[1..],
        [
            vec!["refused", "date", "2", "2", "0"],
            vec!["all", "2", "2", "0"]
        ]
    );

    // One of them, byte for byte.
    let shown = &lines(&run(&scratch, 0, &["show", "0:2", "--json"]))[0];
    assert_eq!(shown["key"], json!({"hex": "ff00"}));
    assert_eq!(shown["value"], json!({"hex": "0001fe".repeat(30)}));
    assert_eq!(
        shown["headers"],
        json!([{"name": "weir.class", "value": null}, {"name": {"hex": "c3"}, "value": {"hex": "ff"}}])
    );
    assert_eq!(
        (&shown["timestamp"], &shown["class"]),
        (&json!(5), &json!("trap"))
    );
    let shown = run(&scratch, 0, &["show", "0:2"]).stdout;
    for line in [
        "header     weir.class = null",
        "value, 90 bytes, not UTF-8, in hexadecimal:",
    ] {
        assert!(shown.lines().any(|it| it == line), "no {line} in {shown}");
    }
    let shown = run(&scratch, 0, &["show", "stocks", "0:0"]).stdout;
    assert!(
        shown.ends_with("\nkey: null\nvalue, 17 bytes:\n{\n  \"a\": \"\\u{1b}[2J\"\n}\n"),
        "{shown}"
    );
    assert_eq!(run(&scratch, 0, &["show", "0:0", "--raw"]).stdout, text);

    // What can't be shown, and who isn't meant.
    for (code, arguments, words) in [
        (1, &["show", "0:1"][..], "no dead letter of Weir's"),
        (1, &["show", "0:3"], "offsets 0 to 3"),
        (1, &["show", "2:0"], "no partition 2"),
        (1, &["show", "1:2"], "pipeline \"bets\"'s"),
        (1, &["show", "1:0", "--raw"], "null"),
        (2, &["list", "copy"], "dead_letter = \"TOPIC\""),
        (2, &["list", "bets"], "there is no pipeline \"bets\""),
    ] {
        let told = run(&scratch, code, arguments).stderr;
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
    let second = Pipeline::new("bets", &input, &output).set(&format!("dead_letter = \"{dead}\""));
    scratch.write("weir.toml", config(&[&pipeline, &second]));
    let told = run(&scratch, 2, &["count"]).stderr;
    assert!(told.contains("name one of stocks, bets"), "{told}");
}

/// The seed job's records, of which those that `is_bad` says have their timestamp under another name: the seed job refuses
/// them until its config is mended.
fn with_misnamed(count: usize, is_bad: impl Fn(usize) -> bool) -> impl Iterator<Item = Record> {
    seed::records(0..count)
        .enumerate()
        .map(move |(n, mut record)| {
            if is_bad(n) {
                let text = String::from_utf8(record.value.unwrap()).unwrap();
                record.value = Some(text.replace("\"timestamp\":", "\"time\":").into());
            }
            record
        })
}

/// An input record as it would have been under the right name.
fn renamed(input: &Consumed) -> Consumed {
    let text = String::from_utf8(input.value.clone().unwrap()).unwrap();
    Consumed {
        value: Some(text.replace("\"time\":", "\"timestamp\":").into()),
        ..input.clone()
    }
}

fn is_misnamed(input: &Consumed) -> bool {
    String::from_utf8_lossy(input.value.as_deref().unwrap_or_default()).contains("\"time\":")
}

/// The seed job with a dead letter topic.
fn stocks(input: &Topic, output: &Topic, dead: &Topic) -> Pipeline {
    Pipeline::new("stocks", input, output)
        .set(&format!("dead_letter = \"{dead}\""))
        .set("delivery = \"exactly-once\"")
        .seed("")
        .in_transforms("max_refused = { share = 1.0, of = 1000 }")
}

fn mended(pipeline: &Pipeline) -> Pipeline {
    pipeline.replace("from = \"timestamp\"", "from = \"time\"")
}

/// Runs a pipeline until it has done all of a topic.
#[track_caller]
fn run_through(scratch: &Scratch, pipeline: &Pipeline, input: &Topic) {
    let mut weir = Weir::start(scratch, &config(&[pipeline]));
    weir.wait_done(input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
}

/// What the records of a topic come out as, where the mended pipeline reads all of it and passes over what it refuses.
#[track_caller]
fn would_have_come(
    scratch: &Scratch,
    pipeline: &Pipeline,
    input: &Topic,
    output: &Topic,
) -> Vec<Consumed> {
    let control = Topic::create(1);
    let other = mended(pipeline)
        .replace(output.name(), control.name())
        .regroup()
        .in_transforms("on_refused = \"skip\"");
    run_through(scratch, &other, input);
    control.consume()
}

/// A record's key, value, timestamp and headers.
type Parts = (Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>, Vec<Header>);

/// Records by content alone, sorted: what came out, wherever it lies.
fn contents(records: &[Consumed]) -> Vec<Parts> {
    let mut contents: Vec<_> = records
        .iter()
        .map(|it| {
            (
                it.key.clone(),
                it.value.clone(),
                it.timestamp,
                it.headers.clone(),
            )
        })
        .collect();
    contents.sort();
    contents
}

/// What replays leave beside letters.
fn is_mark(record: &Consumed) -> bool {
    record
        .headers
        .iter()
        .any(|(name, _)| name == b"weir.replayed")
}

/// The dead letters of a topic.
#[track_caller]
fn letters_in(dead: &Topic) -> Vec<Consumed> {
    let records = dead.consume().into_iter();
    records.filter(|it| !is_mark(it)).collect()
}

/// Each dead letter of a topic with the record that it must be byte for byte: where it came from, and the letter.
#[track_caller]
fn check_letters(input: &Topic, dead: &[Consumed]) -> Vec<(i32, i64)> {
    let inputs = input.consume();
    let mut places = Vec::new();
    for letter in dead {
        let (partition, offset): (i32, i64) = (
            header(letter, "weir.partition").parse().unwrap(),
            header(letter, "weir.offset").parse().unwrap(),
        );
        assert_eq!(header(letter, "weir.topic"), input.name());
        let record = inputs
            .iter()
            .find(|it| (it.partition, it.offset) == (partition, offset))
            .unwrap();
        let own = letter
            .headers
            .iter()
            .take_while(|(name, _)| name != b"weir.reason");
        assert_eq!(own.cloned().collect::<Vec<_>>(), record.headers);
        assert_eq!(
            (&letter.key, &letter.value, letter.timestamp),
            (&record.key, &record.value, record.timestamp)
        );
        places.push((partition, offset));
    }
    places
}

#[test]
fn replayed_letters_come_out_once_with_the_ids_they_would_have_had() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(2), Topic::create(3));
    let dead = Topic::create_for_dead_letters(2);
    let mut records: Vec<Record> = with_misnamed(3_000, |n| n % 20 == 3 || n % 20 == 4).collect();
    for n in [700, 701, 1_999] {
        records[n].value = Some(b"{\"never\": valid}".to_vec());
    }
    let records = records
        .into_iter()
        .enumerate()
        .map(|(n, record)| match n % 3 {
            0 => record.header(b"source", None).header(b"\xff", Some(b"")),
            _ => record,
        });
    input.produce(records);
    let pipeline = stocks(&input, &output, &dead);
    run_through(&scratch, &pipeline, &input);

    // Each bad record is a dead letter, once and byte for byte.
    let inputs = input.consume();
    let bad: Vec<&Consumed> = inputs
        .iter()
        .filter(|it| is_misnamed(it) || it.value.as_deref() == Some(b"{\"never\": valid}"))
        .collect();
    assert_eq!(bad.len(), 303);
    let letters = letters_in(&dead);
    let mut places = check_letters(&input, &letters);
    places.sort_unstable();
    let expected: Vec<(i32, i64)> = bad.iter().map(|it| (it.partition, it.offset)).collect();
    assert_eq!(places, expected);
    // Those that aren't JSON end at the first transform, the misnamed ones at the second.
    for letter in &letters {
        let (transform, module) = match letter.value.as_deref() == Some(b"{\"never\": valid}") {
            true => ("id", "add-uuid"),
            false => ("date", "format-timestamp"),
        };
        assert_eq!(header(letter, "weir.transform"), transform);
        assert_eq!(header(letter, "weir.module"), digest(module));
    }
    scratch.write("weir.toml", config(&[&pipeline]));
    let counted = &lines(&run(&scratch, 0, &["count", "--json"]))[0];
    assert_eq!(
        (&counted["pending"], &counted["replayed"]),
        (&json!(303), &json!(0))
    );
    let listed = lines(&run(&scratch, 0, &["list", "--json"]));
    let mut listed: Vec<(i64, i64)> = listed
        .iter()
        .map(|it| {
            (
                it["from"]["partition"].as_i64().unwrap(),
                it["from"]["offset"].as_i64().unwrap(),
            )
        })
        .collect();
    listed.sort_unstable();
    let places: Vec<(i64, i64)> = places
        .iter()
        .map(|&(partition, offset)| (partition.into(), offset))
        .collect();
    assert_eq!(listed, places);

    // As it is, all would fail again; mended, most would not; and nothing is written to see that.
    let before = output.consume();
    let dry = &lines(&run(&scratch, 0, &["replay", "--dry-run", "--json"]))[0];
    assert_eq!(
        (&dry["dead_letters"], &dry["out"]),
        (&json!(303), &json!(0))
    );
    let mended = mended(&pipeline);
    scratch.write("weir.toml", config(&[&mended]));
    let dry = run(&scratch, 0, &["replay", "--dry-run"]).stdout;
    for line in [
        "came out, as 150 records",
        "dropped by the chain",
        "nothing was written (--dry-run)",
    ] {
        assert!(dry.contains(line), "no {line:?} in {dry}");
    }
    assert!(dry.contains("malformed JSON"), "{dry}");
    assert_eq!(
        (output.consume(), letters_in(&dead)),
        (before.clone(), letters.clone())
    );
    let group = format!("{}-replay", pipeline.group());
    assert_eq!(dead.committed(&group), [None, None]);

    // For good.
    let replayed = &lines(&run(&scratch, 0, &["replay", "--json"]))[0];
    for (key, count) in [
        ("replayed", 303),
        ("out", 150),
        ("records", 150),
        ("dropped", 150),
        ("dead_letters", 3),
    ] {
        assert_eq!(replayed[key], count, "{key} of {replayed}");
    }
    let after = output.consume();
    let news: Vec<Consumed> = after
        .iter()
        .filter(|it| !before.contains(it))
        .cloned()
        .collect();
    assert_eq!(before.len() + news.len(), after.len());
    let wanted = would_have_come(&scratch, &pipeline, &input, &output);
    assert_eq!(contents(&news), contents(&wanted));
    let expected: Vec<_> = bad
        .iter()
        .filter(|it| is_misnamed(it))
        .filter_map(|it| seed::expected(&renamed(it)))
        .collect();
    assert_eq!(expected.len(), 150);

    // What failed again is a dead letter again, with what came of it before still to be seen.
    let again: Vec<Consumed> = letters_in(&dead)
        .into_iter()
        .filter(|it| !letters.contains(it))
        .collect();
    assert_eq!(again.len(), 3);
    check_letters(&input, &again);
    for letter in &again {
        assert_eq!(
            (
                header(letter, "weir.replays"),
                header(letter, "weir.transform")
            ),
            ("1", "id")
        );
    }
    let pending = lines(&run(&scratch, 0, &["list", "--pending", "--json"]));
    assert_eq!(pending.len(), 3);
    assert!(
        pending
            .iter()
            .all(|it| it["replays"] == 1 && it["state"] == "pending")
    );
    let counted = &lines(&run(&scratch, 0, &["count", "--json"]))[0];
    assert_eq!(
        (&counted["pending"], &counted["replayed"]),
        (&json!(3), &json!(303))
    );

    // What was replayed isn't again.
    let told = run(&scratch, 0, &["replay", "--transform", "date"]).stdout;
    assert!(
        told.contains("pending, and left out by the filters"),
        "{told}"
    );
    assert_eq!(output.consume(), after);
    assert_eq!(letters_in(&dead).len(), letters.len() + 3);
    let replayed = &lines(&run(&scratch, 0, &["replay", "--json"]))[0];
    assert_eq!(
        (&replayed["replayed"], &replayed["dead_letters"]),
        (&json!(3), &json!(3))
    );
    let last = letters_in(&dead);
    let twice = last
        .iter()
        .filter(|it| it.headers.last() == Some(&(b"weir.replays".to_vec(), Some(b"2".to_vec()))));
    assert_eq!(twice.count(), 3);
    assert_eq!(output.consume(), after);
}

#[test]
fn what_filters_leave_out_stays_pending() {
    let scratch = Scratch::new();
    // Any timestamp is taken but by the output, where Kafka's default is an hour from now at most.
    let any = ("message.timestamp.after.max.ms", "9223372036854775807");
    let input = Topic::create_with(2, &[any]);
    let dead = Topic::create_with(2, &[any, ("max.message.bytes", "2097152")]);
    let output = Topic::create_with(1, &[("max.message.bytes", "3000")]);
    // Refused and broken in turns, and not quite.
    let records = (0..400).map(|n| {
        let verb = match n % 7 {
            0 | 2 | 4 => format!("refuse {n}"),
            _ => format!("panic {n}"),
        };
        let padding = if n == 99 {
            " ".repeat(5_000)
        } else {
            String::new()
        };
        let key = (n % 5 != 0).then(|| n.to_string());
        let record = Record::new(
            key.as_deref().map(str::as_bytes),
            Some((verb + &padding).as_bytes()),
        );
        let timestamp = if n == 200 {
            4_102_444_800_000
        } else {
            1_000 + n
        };
        record
            .header(b"weir.replays", Some(b"own"))
            .timestamp(timestamp)
    });
    input.produce(records);
    let pipeline =
        Pipeline::new("stocks", &input, &output).set(&format!("dead_letter = \"{dead}\""));
    let failing =
        pipeline
            .clone()
            .transform("verb", "faulty", "max_refused = { share = 1.0, of = 1000 }");
    run_through(&scratch, &failing, &input);
    let letters = letters_in(&dead);
    let mut places = check_letters(&input, &letters);
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 400);
    // Without the transform they come out as they are.
    scratch.write("weir.toml", config(&[&pipeline]));
    let pending = |scratch: &Scratch| {
        let counted = &lines(&run(scratch, 0, &["count", "--json"]))[0];
        let of = |class| {
            let by = counted["by"]
                .as_array()
                .unwrap()
                .iter()
                .find(|it| it["class"] == class);
            by.map_or(0, |it| it["pending"].as_i64().unwrap())
        };
        (of("refused"), of("trap"))
    };
    let count = |it: &str| {
        input
            .consume()
            .iter()
            .filter(|record| record.value.as_deref().unwrap().starts_with(it.as_bytes()))
            .count() as i64
    };
    let (refused, broken) = (count("refuse"), count("panic"));
    assert_eq!(pending(&scratch), (refused, broken));
    let replay = |arguments: &[&str]| {
        lines(&run(
            &scratch,
            0,
            &[&["replay", "--json"], arguments].concat(),
        ))[0]
            .clone()
    };
    let some = replay(&["--class", "trap", "--limit", "7"]);
    assert_eq!(some["replayed"], 7);
    assert_eq!(pending(&scratch), (refused, broken - 7));
    let some = replay(&["--class", "trap", "--since", "2020-01-01T00:00:00Z"]);
    // One of them is too large for the output, and its neighbours aren't.
    assert_eq!(
        (some["replayed"].as_i64(), some["dead_letters"].as_i64()),
        (Some(broken - 7), Some(1))
    );
    assert_eq!(some["failed"][0]["class"], "output");
    assert_eq!(pending(&scratch), (refused, 0));
    assert_eq!(output.consume().len() as i64, broken - 1);
    assert_eq!(replay(&["--class", "trap"])["replayed"], 0);
    assert_eq!(replay(&["--until", "2020-01-01T00:00:00Z"])["replayed"], 0);
    let rest = replay(&["--class", "refused", "--topic", input.name()]);
    assert_eq!(rest["replayed"].as_i64(), Some(refused));
    // The broker refuses one of them, and with it what was sent along: nobody else suffers.
    assert_eq!(rest["dead_letters"], 1);
    assert!(
        rest["failed"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("timestamp"),
        "{rest}"
    );
    assert_eq!(pending(&scratch), (0, 0));
    let fits = |it: &&Consumed| {
        it.value.as_ref().unwrap().len() < 3_000 && it.timestamp < Some(2_000_000_000_000)
    };
    let inputs = input.consume();
    let fits: Vec<Consumed> = inputs.iter().filter(fits).cloned().collect();
    assert_eq!(fits.len(), 398);
    assert_eq!(contents(&output.consume()), contents(&fits));
    let again = lines(&run(&scratch, 0, &["list", "--pending", "--json"]));
    assert_eq!(again.len(), 2);
    for it in &again {
        assert_eq!(
            (&it["class"], &it["transform"]),
            (&json!("output"), &Value::Null)
        );
    }
}

#[test]
fn letters_go_back_to_their_topics() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(3), Topic::create(1));
    let dead = Topic::create_for_dead_letters(1);
    let odd = Record {
        key: Some(vec![0xff]),
        value: Some(b"refuse \x00\xff".to_vec()),
        ..Record::default()
    };
    let odd = odd
        .timestamp(77)
        .header(b"a", None)
        .header(b"a", Some(b"\xfe"));
    input.produce([
        odd.clone().partition(2),
        Record::new(None, Some(b"refuse")).partition(1),
    ]);
    let pipeline = Pipeline::new("stocks", &input, &output)
        .set(&format!("dead_letter = \"{dead}\""))
        .transform("verb", "faulty", "max_refused = { share = 1.0, of = 1000 }");
    run_through(&scratch, &pipeline, &input);
    assert_eq!(letters_in(&dead).len(), 2);
    // Letters of a topic that isn't read, and of a partition that isn't there, stay.
    let gone = Topic::create(1);
    let lost = [(&gone, 0, 5), (&input, 3, 5)].map(|from| {
        let letter = Letter {
            class: "refused",
            transform: None,
            from,
            time: "2026-01-31T10:00:00.000Z",
        };
        letter.of(Record::new(None, Some(b"lost")))
    });
    dead.produce(lost);
    scratch.write("weir.toml", config(&[&pipeline]));
    let before = (input.consume_uncommitted(), dead.consume_uncommitted());
    let dry = ["replay", "--to-input", "--dry-run"];
    let told = &lines(&run(&scratch, 1, &[&dry[..], &["--json"]].concat()))[0];
    assert_eq!(
        (&told["to_input"], &told["out"], &told["dry_run"]),
        (&json!(2), &json!(0), &json!(true))
    );
    let told = run(&scratch, 1, &dry).stdout;
    for line in ["back in their topics", "nothing was written (--dry-run)"] {
        assert!(told.contains(line), "no {line:?} in {told}");
    }
    let after = (input.consume_uncommitted(), dead.consume_uncommitted());
    assert_eq!(after, before);
    let back = run(&scratch, 1, &["replay", "--to-input", "--json"]);
    let told = &lines(&back)[0];
    assert_eq!(
        (&told["to_input"], &told["replayed"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(told["left"].as_array().unwrap().len(), 2);
    assert!(
        back.stderr.contains("can't be replayed so: 2"),
        "{}",
        back.stderr
    );

    // The same partition, the same bytes, and how often.
    let inputs = input.consume();
    let [first, second] = [0, 1].map(|nth| {
        inputs
            .iter()
            .filter(|it| it.partition == 2)
            .nth(nth)
            .unwrap()
    });
    assert_eq!(
        (&first.key, &first.value, first.timestamp),
        (&second.key, &second.value, second.timestamp)
    );
    let replays = |count: &str| (b"weir.replays".to_vec(), Some(count.as_bytes().to_vec()));
    assert_eq!(second.headers, [&odd.headers[..], &[replays("1")]].concat());
    assert_eq!(inputs.len(), 4);

    // Whoever reads the topic reads it anew; it fails again, goes back again, and that counts.
    run_through(&scratch, &pipeline, &input);
    assert_eq!(letters_in(&dead).len(), 6);
    let listed = lines(&run(
        &scratch,
        0,
        &[
            "list",
            "--pending",
            "--json",
            "--class",
            "refused",
            "--transform",
            "verb",
        ],
    ));
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|it| it["replays"] == 1), "{listed:?}");
    run(
        &scratch,
        0,
        &["replay", "--to-input", "--transform", "verb"],
    );
    let last = input
        .consume()
        .into_iter()
        .rfind(|it| it.partition == 2)
        .unwrap();
    assert_eq!(last.headers, [&odd.headers[..], &[replays("2")]].concat());
}
