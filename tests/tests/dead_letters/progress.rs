//! What was replayed stays replayed: through kills, a replay that takes over, a group that's forgotten, and notes that are full.

use std::collections::BTreeSet;

use super::*;
use weir_tests::Signal;

/// A replay in a process of its own that has written more to `topic` than comes of a transaction's 500 letters, so that one
/// was committed.
#[track_caller]
fn under_way(scratch: &Scratch, topic: &Topic, arguments: &[&str]) -> Weir {
    let end = || topic.ends().iter().sum::<i64>();
    let before = end();
    let arguments = [&["dead-letters", "replay"], arguments].concat();
    let mut weir = Weir::start_command(scratch, &arguments);
    weir.wait_until("more records", MINUTE, |_| {
        (end() > before + 600).then_some(())
    });
    weir
}

/// The pipeline with a producer that lets each transaction of a replay wait, so that a replay of 20,000 letters takes 16 s
/// at least, and is far from its end when it's seen to be under way.
fn slow(pipeline: &Pipeline) -> Pipeline {
    pipeline.clone().producer("\"linger.ms\" = 400")
}

/// Letters by number, which is their record's value.
fn numbered<'a>(
    input: &'a Topic,
    numbers: std::ops::Range<i64>,
    class: impl Fn(i64) -> &'static str + 'a,
) -> impl Iterator<Item = Record> + 'a {
    numbers.map(move |n| {
        let letter = Letter {
            class: class(n),
            transform: None,
            from: (input, (n % i64::from(input.partitions())) as i32, n),
            time: "2026-01-31T10:00:00.000Z",
        };
        letter.of(Record::new(None, Some(n.to_string().as_bytes())))
    })
}

/// The numbers in a topic: each is there once.
#[track_caller]
fn numbers(topic: &Topic) -> BTreeSet<i64> {
    let records = topic.consume();
    let number = |it: &Consumed| {
        let text = String::from_utf8(it.value.clone().unwrap()).unwrap();
        text.parse::<i64>().unwrap()
    };
    let numbers: BTreeSet<i64> = records.iter().map(number).collect();
    assert_eq!(numbers.len(), records.len(), "some came twice");
    numbers
}

/// Pending and replayed letters.
#[track_caller]
fn counts(scratch: &Scratch) -> (i64, i64) {
    let counted = run(scratch, 0, &["count", "--json"]);
    assert_eq!(counted.stderr, "");
    let counted = &lines(&counted)[0];
    let of = |key: &str| counted[key].as_i64().unwrap();
    (of("pending"), of("replayed"))
}

/// A pipeline without transforms.
fn plain(input: &Topic, output: &Topic, dead: &Topic) -> Pipeline {
    Pipeline::new("stocks", input, output).set(&format!("dead_letter = \"{dead}\""))
}

#[test]
fn a_replay_that_is_killed_goes_on_where_it_was() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(2), Topic::create(2));
    let dead = Topic::create_for_dead_letters(2);
    input.produce(with_misnamed(20_000, |_| true));
    let pipeline = stocks(&input, &output, &dead);
    run_through(&scratch, &pipeline, &input);
    assert_eq!(letters_in(&dead).len(), 20_000);
    assert!(output.is_empty());
    let mended = mended(&pipeline);
    scratch.write("weir.toml", config(&[&slow(&mended)]));
    for _ in 0..3 {
        under_way(&scratch, &output, &[]).kill();
    }
    // One that's at work has to give way to another, and says so when it comes to.
    let mut first = under_way(&scratch, &output, &[]);
    first.signal(Signal::STOP);
    let so_far = output.consume().len();
    assert!(
        (1..10_000).contains(&so_far),
        "{so_far} records before the last replay"
    );
    scratch.write("weir.toml", config(&[&mended]));
    run(&scratch, 0, &["replay"]);
    first.signal(Signal::CONT);
    assert_eq!(first.wait_exit(MINUTE), Some(1), "{}", first.log());
    let log = first.log();
    let told = "another replay of pipeline \"stocks\" has begun";
    assert!(log.contains(told), "{log}");
    // The client's own words for it would say less.
    let noise = |line: &&str| line.contains("ERROR") || line.contains("TERMINATE");
    assert_eq!(log.lines().find(noise), None, "{log}");

    let after = output.consume();
    let wanted = would_have_come(&scratch, &pipeline, &input, &output);
    assert_eq!(wanted.len(), 10_000);
    assert_eq!(contents(&after), contents(&wanted));
    assert_eq!(letters_in(&dead).len(), 20_000);
    assert_eq!(run(&scratch, 0, &["replay"]).stdout, "nothing to replay\n");
    assert_eq!(output.consume().len(), 10_000);
}

#[test]
fn a_replay_to_the_input_that_is_killed_goes_on_where_it_was() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(2), Topic::create(1));
    let dead = Topic::create_for_dead_letters(1);
    dead.produce(numbered(&input, 0..20_000, |_| "refused"));
    let pipeline = plain(&input, &output, &dead);
    scratch.write("weir.toml", config(&[&slow(&pipeline)]));
    for _ in 0..3 {
        under_way(&scratch, &input, &["--to-input"]).kill();
    }
    scratch.write("weir.toml", config(&[&pipeline]));
    // What's here by now was committed by replays that were killed, and the last one does the rest.
    let rest = &lines(&run(&scratch, 0, &["replay", "--to-input", "--json"]))[0];
    let rest = rest["to_input"].as_i64().unwrap();
    assert!((1..19_000).contains(&rest), "{rest}");
    assert_eq!(numbers(&input), (0..20_000).collect());
    for record in input.consume() {
        assert_eq!(header(&record, "weir.replays"), "1");
    }
    assert!(output.is_empty());
}

#[test]
fn what_was_replayed_outlives_what_the_group_keeps() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let dead = Topic::create_for_dead_letters(2);
    let class = |n| match n % 4 < 2 {
        true => "trap",
        false => "refused",
    };
    let letters = numbered(&input, 0..40, class).enumerate();
    dead.produce(letters.map(|(n, it)| it.partition(n as i32 % 2)));
    let pipeline = plain(&input, &output, &dead);
    scratch.write("weir.toml", config(&[&pipeline]));
    let group = format!("{}-replay", pipeline.group());
    run(&scratch, 0, &["replay", "--class", "trap"]);
    assert_eq!(counts(&scratch), (20, 20));

    // As Kafka does by itself after `offsets.retention.minutes`.
    let forget = || {
        Topic::forget(&group);
        assert_eq!(dead.committed(&group), [None, None]);
    };
    forget();
    assert_eq!(counts(&scratch), (20, 20));
    let pending = lines(&run(&scratch, 0, &["list", "--pending", "--json"]));
    assert!(pending.iter().all(|it| it["class"] == "refused"));
    assert_eq!(pending.len(), 20);
    for (place, state) in [("0:0", "replayed"), ("0:1", "pending")] {
        let shown = &lines(&run(&scratch, 0, &["show", place, "--json"]))[0];
        assert_eq!(shown["state"], state, "{place}");
    }
    let replayed = &lines(&run(&scratch, 0, &["replay", "--json"]))[0];
    assert_eq!(replayed["replayed"], 20);
    assert_eq!(numbers(&output), (0..40).collect());
    forget();
    assert_eq!(run(&scratch, 0, &["replay"]).stdout, "nothing to replay\n");
    assert_eq!(output.consume().len(), 40);

    // What's told apart from letters.
    let records = dead.consume();
    let mark = records.iter().find(|it| is_mark(it)).unwrap();
    let place = format!("{}:{}", mark.partition, mark.offset);
    let told = run(&scratch, 1, &["show", &place]).stderr;
    assert!(told.contains("a replay left it"), "{told}");

    // Whoever wants them again sets the group back.
    dead.set_back(&group);
    assert_eq!(counts(&scratch), (40, 0));
    forget();
    assert_eq!(counts(&scratch), (0, 40));
    // In a copy of the topic offsets are others, and the marks are nobody's.
    let copy = Topic::create_for_dead_letters(2);
    copy.produce(records.into_iter().map(|it| Record {
        partition: Some(it.partition),
        timestamp: it.timestamp,
        key: it.key,
        value: it.value,
        headers: it.headers,
    }));
    let copied = pipeline.replace(dead.name(), copy.name());
    scratch.write("weir.toml", config(&[&copied]));
    assert_eq!(counts(&scratch), (40, 0));
}

#[test]
fn a_note_that_is_full_ends_a_replay_and_nothing_is_lost() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let dead = Topic::create_for_dead_letters(1);
    let class = |n| match n % 2 {
        0 => "refused",
        _ => "trap",
    };
    dead.produce(numbered(&input, 0..4_000, class));
    scratch.write("weir.toml", config(&[&plain(&input, &output, &dead)]));
    let ended = run(&scratch, 1, &["replay", "--class", "trap"]);
    for words in ["can't note which letters", "replay with a wider filter"] {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    assert!(ended.stdout.contains("1,500 replayed"), "{}", ended.stdout);
    assert_eq!(counts(&scratch), (2_500, 1_500));
    let first: BTreeSet<i64> = (0..3_000).filter(|n| n % 2 == 1).collect();
    assert_eq!(numbers(&output), first);
    run(&scratch, 0, &["replay"]);
    assert_eq!(numbers(&output), (0..4_000).collect());
}

#[test]
fn a_transaction_ends_by_what_came_of_its_letters() {
    let scratch = Scratch::new();
    let input = Topic::create(1);
    let output = Topic::create_with(1, &[("max.message.bytes", "4194304")]);
    let dead = Topic::create_for_dead_letters(1);
    let letters = numbered(&input, 0..20, |_| "refused");
    dead.produce(letters.map(|it| Record {
        value: Some(b"big:2".to_vec()),
        ..it
    }));
    let pipeline = plain(&input, &output, &dead).transform("grows", "faulty", "");
    scratch.write("weir.toml", config(&[&pipeline]));
    let replayed = &lines(&run(&scratch, 0, &["replay", "--json"]))[0];
    assert_eq!(
        (&replayed["replayed"], &replayed["out"]),
        (&json!(20), &json!(20))
    );
    let records = output.consume();
    assert_eq!(records.len(), 20);
    assert!(
        records
            .iter()
            .all(|it| it.value.as_ref().unwrap().len() == 2 << 20)
    );
    // 2 MiB each, and a transaction takes no more once it has 4 MiB.
    assert_eq!(dead.consume().iter().filter(|it| is_mark(it)).count(), 10);
}

#[test]
fn only_the_first_failures_are_listed() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let dead = Topic::create_for_dead_letters(1);
    let letters = numbered(&input, 0..1_100, |_| "refused");
    dead.produce(letters.map(|it| Record {
        value: Some(b"refuse:again".to_vec()),
        ..it
    }));
    let pipeline = plain(&input, &output, &dead).transform("refuses", "faulty", "");
    scratch.write("weir.toml", config(&[&pipeline]));
    let told = &lines(&run(&scratch, 0, &["replay", "--dry-run", "--json"]))[0];
    assert_eq!(told["dead_letters"], 1_100);
    assert_eq!(told["failed"].as_array().unwrap().len(), 1_000);
    assert_eq!(told["failed_besides"], 100);
    let told = run(&scratch, 0, &["replay", "--dry-run"]).stdout;
    assert!(told.lines().any(|it| it == "and 100 more"), "{told}");
}
