//! Dead letters: listed, counted, shown, and replayed exactly once.

use serde_json::{Value, json};
use weir_tests::{Consumed, Finished, MINUTE, Pipeline, Record, Scratch, Topic, Weir, config};

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
    let (input, output, dead) = (Topic::create(2), Topic::create(1), Topic::create(2));
    let pipeline = Pipeline::new("stocks", &input, &output)
        .set(&format!("dead_letter = \"{dead}\""))
        .seed("");
    let other = Pipeline::new("copy", &input, &output);
    scratch.write("weir.toml", config(&[&pipeline, &other]));
    // Nothing yet.
    let counted = &lines(&run(&scratch, 0, &["count", "--json"]))[0];
    assert_eq!(counted["letters"], 0);
    assert_eq!(run(&scratch, 0, &["list", "--json"]).stdout, "");

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
