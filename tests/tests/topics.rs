//! What a pipeline's topics must be like, and what is said while they aren't.

use serde_json::{Value, json};
use weir_tests::{Finished, MINUTE, Pipeline, Scratch, Topic, Weir, broker, config};

/// `max.message.bytes` of a topic that nobody set it for.
const DEFAULT: u64 = 1_048_588;
/// What a dead letter may be larger than its record.
const HEADROOM: u64 = 65_536;

/// `weir check`, with the code that it must end with.
#[track_caller]
fn check(scratch: &Scratch, pipeline: &Pipeline, code: i32, arguments: &[&str]) -> Finished {
    scratch.write("weir.toml", config(&[pipeline]));
    let finished = Weir::command(scratch, MINUTE, &[&["check"], arguments].concat());
    assert_eq!(finished.code, Some(code), "{finished:?}");
    finished
}

#[test]
fn dead_letters_need_a_topic() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let dead = Topic::unique_name();
    let pipeline = Pipeline::new("p", &input, &output).set(&format!("dead_letter = {dead:?}"));
    let problem = format!("dead letters: there is no topic \"{dead}\"");
    let checked = check(&scratch, &pipeline, 2, &[]);
    let said = format!("pipeline \"p\": {problem}");
    assert!(checked.stderr.contains(&said), "{}", checked.stderr);

    // `weir run` waits for it.
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_not_ready(&[&problem]);
    let room = (DEFAULT + HEADROOM).to_string();
    let _dead = Topic::create_named(&dead, 1, &[("max.message.bytes", &room)]);
    weir.wait_ready();
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn dead_letters_need_room_for_their_headers() {
    let scratch = Scratch::new();
    let (small, output) = (Topic::create(1), Topic::create(1));
    let large = Topic::create_with(1, &[("max.message.bytes", "2000000")]);
    let room = (2_000_000 + HEADROOM - 1).to_string();
    let dead = Topic::create_with(1, &[("max.message.bytes", &room)]);
    let keys = format!("dead_letter = \"{dead}\"");
    let both = format!("[\"{small}\", \"{large}\"]");
    let pipeline = Pipeline::new("p", &small, &output)
        .set(&keys)
        .replace(&format!("\"{small}\""), &both);
    let checked = check(&scratch, &pipeline, 2, &[]);
    let advice = format!(
        "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {dead} --add-config max.message.bytes=2065536",
        broker().bootstrap()
    );
    let words = [dead.name(), &room, large.name(), "2000000", &advice];
    for words in words {
        assert!(checked.stderr.contains(words), "{}", checked.stderr);
    }
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_not_ready(&[&advice]);

    // What it says is enough, for both.
    dead.alter("max.message.bytes", "2065536");
    weir.wait_ready();
    check(&scratch, &pipeline, 0, &[]);
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn check_shows_what_is_promised_and_what_becomes_of_bad_records() {
    let scratch = Scratch::new();
    let (input, output, errors) = (Topic::create(1), Topic::create(2), Topic::create(1));
    let room = (DEFAULT + HEADROOM).to_string();
    let dead = Topic::create_with(1, &[("max.message.bytes", &room)]);
    // Two names may share a topic.
    let outputs = format!(
        "{{ errors = \"{errors}\", late = \"{errors}\", default = \"{output}\" }}\noutputs.errors.partition = \"same\""
    );
    let pipeline = Pipeline::new("p", &input, &output)
        .replace(&format!("\"{output}\""), &outputs)
        .set(&format!(
            "dead_letter = \"{dead}\"\ndelivery = \"exactly-once\""
        ))
        .seed("on_refused = \"skip\"\nmax_refused = { share = 0.5 }");
    let text = check(&scratch, &pipeline, 0, &[]).stdout;
    for words in [
        "dead letters",
        dead.name(),
        "output late",
        "exactly-once",
        "refused: skip, broken: dead-letter",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let json = check(&scratch, &pipeline, 0, &["--json"]).stdout;
    let checked: Value = serde_json::from_str(&json).unwrap();
    let p = &checked["pipelines"][0];
    let of = |name: &str, topic: &Topic, partition: &str| json!({"name": name, "topic": topic.name(), "partitions": topic.partitions(), "partition": partition});
    let outputs = [
        of("default", &output, "key"),
        of("errors", &errors, "same"),
        of("late", &errors, "key"),
    ];
    assert_eq!(p["outputs"], json!(outputs));
    assert_eq!(
        p["dead_letter"],
        json!({"topic": dead.name(), "partitions": 1})
    );
    assert_eq!(p["delivery"], "exactly-once");
    let id = &p["transforms"][0];
    assert_eq!(id["on_refused"], "skip");
    assert_eq!(id["on_broken"], "dead-letter");
    assert_eq!(id["max_refused"], json!({"share": 0.5, "of": 1000}));
}
