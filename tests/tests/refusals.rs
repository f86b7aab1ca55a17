//! Records that are refused, guests that break, tombstones: the pipeline stops and says why, and nothing is lost.

use weir_tests::{MINUTE, Pipeline, Record, Scratch, Topic, Weir, config, seed};

/// The seed job's records with others among them, by number.
fn with(count: usize, others: &[(usize, &[u8])]) -> Vec<Record> {
    let mut records: Vec<Record> = seed::records(0..count).collect();
    for (n, value) in others {
        records[*n].value = Some(value.to_vec());
    }
    records
}

/// A line of the log with all of these words.
#[track_caller]
fn assert_logged(weir: &Weir, words: &[&str]) {
    let log = weir.log();
    let found = log
        .lines()
        .any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "no line with {words:?} in:\n{log}");
}

#[test]
fn malformed_json_stops_its_pipeline_and_no_other() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let (other_input, other_output) = (Topic::create(1), Topic::create(1));
    let broken = b"{\"stock_name\":\"BTC-USD\",\"timestamp\":163422x557011}";
    let at = broken.iter().position(|&byte| byte == b'x').unwrap();
    input.produce(with(3_000, &[(2_345, broken)]));
    other_input.produce(seed::records(0..100));
    let pipeline = Pipeline::new("stocks", &input, &output).seed("");
    let other = Pipeline::new("others", &other_input, &other_output).seed("");

    let mut weir = Weir::start(&scratch, &config(&[&pipeline, &other]));
    let offset = "offset 2345";
    let place = format!("{input}/0");
    let at = format!("byte {at}");
    let words = ["\"id\"", &place, offset, "malformed JSON", &at];
    let reasons = weir.wait_not_ready(&words);
    assert!(
        reasons.starts_with("stocks: stopped: transform \"id\""),
        "{reasons}"
    );
    assert_eq!(reasons.lines().count(), 1, "{reasons}");
    assert_logged(&weir, &[&["ERROR", "stocks"], &words[..]].concat());
    assert_eq!(weir.get("/healthz").map(|it| it.status), Some(200));
    let up = |pipeline| weir.counter("weir_pipeline_up", &[&format!("pipeline=\"{pipeline}\"")]);
    assert_eq!((up("stocks"), up("others")), (0, 1));
    let refused = |transform| {
        weir.counter(
            "weir_records_refused_total",
            &[&format!("transform=\"{transform}\"")],
        )
    };
    assert_eq!((refused("id"), refused("date")), (1, 0));

    // All before it came out and is committed, nothing past it.
    assert_eq!(input.committed(pipeline.group()), [Some(2_345)]);
    let inputs = input.consume();
    seed::check(&inputs[..2_345], &output.consume());
    // The other one goes on.
    other_input.produce(seed::records(100..200));
    weir.wait_done(&other_input, other.group());
    assert_eq!(weir.terminate(), Some(1));
    assert_logged(&weir, &["stopped by a failure: stocks"]);
    seed::check(&other_input.consume(), &other_output.consume());

    // Started again it says so again, and repeats nothing.
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    assert_eq!(weir.wait_exit(MINUTE), Some(1));
    assert_logged(&weir, &words);
    seed::check(&inputs[..2_345], &output.consume());

    // Passed over by hand, the rest follows.
    let file = scratch.write("weir.toml", config(&[&pipeline]));
    #[rustfmt::skip]
    let reset = Weir::command(&scratch, MINUTE, &[
        "offsets", "reset", "stocks", "-c", file.to_str().unwrap(), "--to", "2346",
    ]);
    assert_eq!(reset.code, Some(0), "{}", reset.stderr);
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    let good = [&inputs[..2_345], &inputs[2_346..]].concat();
    seed::check(&good, &output.consume());
}

#[test]
fn each_transform_says_what_it_refuses() {
    let cases: [(&[u8], &[&str]); 6] = [
        (b"[1,2]", &["\"id\"", "expected a JSON object"]),
        (b"", &["\"id\"", "malformed JSON at byte 0"]),
        (b"{\"a\":\"\xff\"}", &["\"id\"", "malformed JSON at byte 6"]),
        (b"{\"stock_name\":\"BTC-USD\"}", &["\"date\"", "timestamp"]),
        (b"{\"timestamp\":\"soon\"}", &["\"date\"", "timestamp"]),
        (b"{\"timestamp\":1e40}", &["\"date\"", "timestamp"]),
    ];
    let scratch = Scratch::new();
    let topics: Vec<(Topic, Topic)> = cases
        .iter()
        .map(|_| (Topic::create(1), Topic::create(1)))
        .collect();
    let mut pipelines = Vec::new();
    for (n, ((value, _), (input, output))) in cases.iter().zip(&topics).enumerate() {
        input.produce(with(10, &[(6, value)]));
        pipelines.push(Pipeline::new(&format!("p{n}"), input, output).seed(""));
    }
    let mut weir = Weir::start(&scratch, &config(&pipelines.iter().collect::<Vec<_>>()));
    // It ends once all pipelines have.
    assert_eq!(weir.wait_exit(MINUTE), Some(1));
    for ((value, words), ((input, output), pipeline)) in
        cases.iter().zip(topics.iter().zip(&pipelines))
    {
        let place = format!("{input}/0, offset 6");
        assert_logged(&weir, &[&[place.as_str()], *words].concat());
        assert_eq!(input.committed(pipeline.group()), [Some(6)], "{value:?}");
        seed::check(&input.consume()[..6], &output.consume());
    }
}

#[test]
fn a_guest_that_breaks_stops_its_pipeline_before_the_record() {
    let cases: [(&str, &str, &[&str]); 8] = [
        (
            "spin",
            "deadline = \"50ms\"",
            &["CPU time", "50ms", "`record_deadline`"],
        ),
        ("grow", "memory = \"8MiB\"", &["`memory`", "8"]),
        (
            "panic:on-purpose",
            "",
            &["it panicked at faulty/src/lib.rs", ": on-purpose (in "],
        ),
        ("trap", "", &["it trapped"]),
        ("stack", "", &["stack", "faulty::recurse"]),
        ("err:enough", "", &["it gave up: enough"]),
        ("lie:take-index", "", &["what it returned can't be used"]),
        (
            "flood:2000",
            "max_output_records = 1000",
            &["`max_output_records`"],
        ),
    ];
    let scratch = Scratch::new();
    let topics: Vec<(Topic, Topic)> = cases
        .iter()
        .map(|_| (Topic::create(1), Topic::create(1)))
        .collect();
    let mut pipelines = Vec::new();
    for (n, ((verb, limit, _), (input, output))) in cases.iter().zip(&topics).enumerate() {
        let values = ["keep", "drop", "keep", "keep", verb, "keep"];
        input.produce(values.map(|it| Record::new(None, Some(it.as_bytes()))));
        // Batches of one record, so that the batch before which it stops is known.
        let pipeline = Pipeline::new(&format!("p{n}"), input, output)
            .set("batch = { records = 1, bytes = \"64KiB\" }")
            .transform("verb", "faulty", limit);
        pipelines.push(pipeline);
    }
    let mut weir = Weir::start(&scratch, &config(&pipelines.iter().collect::<Vec<_>>()));
    assert_eq!(weir.wait_exit(MINUTE), Some(1));
    for ((verb, _, words), ((input, output), pipeline)) in
        cases.iter().zip(topics.iter().zip(&pipelines))
    {
        let place = format!("{input}/0, offset 4: ");
        assert_logged(
            &weir,
            &[&["transform \"verb\"", place.as_str()], *words].concat(),
        );
        assert_eq!(input.committed(pipeline.group()), [Some(4)], "{verb}");
        assert_eq!(output.len(), 3, "{verb}");
    }
}

/// What each transform makes of a tombstone between two records, by its setting.
#[test]
fn tombstones_pass_are_dropped_or_stop_it() {
    let transforms = [
        ("add-uuid", "field = \"id\""),
        ("format-timestamp", "from = \"timestamp\", to = \"date\""),
        ("filter", "keep = \"timestamp > 0\""),
    ];
    let settings = [
        ("", 3),
        ("tombstones = \"pass\"", 3),
        ("tombstones = \"drop\"", 2),
        ("tombstones = \"refuse\"", 1),
    ];
    let scratch = Scratch::new();
    let input = Topic::create(1);
    let tombstone = Record::new(Some(b"gone"), None)
        .timestamp(7)
        .header(b"why", None);
    let mut records: Vec<Record> = seed::records(0..3).collect();
    records[1] = tombstone.clone();
    input.produce(records);
    let mut runs = Vec::new();
    for (module, keys) in transforms {
        for (setting, count) in settings {
            let output = Topic::create(1);
            let lines = format!(
                "config = {{ {keys}{}{setting} }}",
                if setting.is_empty() { "" } else { ", " }
            );
            let pipeline = Pipeline::new(&format!("p{}", runs.len()), &input, &output)
                .transform(module, module, &lines);
            runs.push((pipeline, output, count));
        }
    }
    let pipelines: Vec<&Pipeline> = runs.iter().map(|(pipeline, ..)| pipeline).collect();
    let mut weir = Weir::start(&scratch, &config(&pipelines));
    for (pipeline, output, count) in &runs {
        if *count > 1 {
            weir.wait_done(&input, pipeline.group());
        } else {
            let refused = format!("{input}/0, offset 1: the value is null");
            weir.wait_not_ready(&[&refused]);
            weir.wait_until("the commit before the tombstone", MINUTE, |_| {
                (input.committed(pipeline.group()) == [Some(1)]).then_some(())
            });
        }
        let outputs = output.consume();
        assert_eq!(outputs.len(), *count, "{pipeline:?}");
        let null = outputs.iter().filter(|it| it.value.is_none());
        let untouched = null.filter(|it| {
            it.key == tombstone.key
                && it.timestamp == tombstone.timestamp
                && it.headers == tombstone.headers
        });
        assert_eq!(untouched.count(), usize::from(*count == 3), "{pipeline:?}");
    }
    assert_eq!(weir.terminate(), Some(1));
}

#[test]
fn a_transform_that_breaks_on_too_many_records_stops_its_pipeline_and_no_other() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let dead = Topic::create_for_dead_letters(1);
    let (other_input, other_output) = (Topic::create(1), Topic::create(1));
    let verb = |verb: &str| Record::new(None, Some(verb.as_bytes()));
    input.produce((0..100).map(|_| verb("panic:wrong-module")));
    other_input.produce(seed::records(0..100));
    let breaks = Pipeline::new("breaks", &input, &output)
        .set(&format!("dead_letter = \"{dead}\"\nworkers = 1"))
        .transform("verb", "faulty", "max_refused = { share = 0.2, of = 100 }");
    let other = Pipeline::new("others", &other_input, &other_output).seed("");

    let mut weir = Weir::start(&scratch, &config(&[&breaks, &other]));
    let words = [
        "breaks: stopped: transform \"verb\"",
        "max_refused",
        "wrong-module",
    ];
    let reasons = weir.wait_not_ready(&words);
    assert_eq!(reasons.lines().count(), 1, "{reasons}");
    assert_logged(
        &weir,
        &["ERROR", "breaks", "failed on 21 of its last", "max_refused"],
    );
    // What it had failed on before is written down, and the rest is still there.
    assert_eq!(dead.len(), 20);
    assert_eq!(input.committed(breaks.group()), [Some(20)]);
    weir.wait_done(&other_input, other.group());
    assert_eq!(weir.terminate(), Some(1));
}
