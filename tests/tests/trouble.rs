//! Mistakes in configs and modules, and a Kafka that isn't there yet: each says what is wrong and what to do, and
//! nothing is lost.

use weir_tests::{
    Finished, MINUTE, Pipeline, Proxy, Record, Scratch, Topic, Weir, broker, config, config_at,
    guest, seed,
};

/// Runs a config that can't be right, and returns what was said. Kafka isn't asked: there is none at its address.
#[track_caller]
fn refused(scratch: &Scratch, config: &str) -> String {
    let file = scratch.write("wrong.toml", config);
    let arguments = [
        "run",
        "--listen",
        "127.0.0.1:0",
        "-c",
        file.to_str().unwrap(),
    ];
    let Finished {
        code,
        stdout,
        stderr,
    } = Weir::command(scratch, MINUTE, &arguments);
    assert_eq!(code, Some(2), "{stderr}");
    assert_eq!(stdout, "");
    stderr
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[test]
fn wrong_configs_end_it_with_2_and_say_where() {
    let scratch = Scratch::new();
    let check = |pipeline: Pipeline, words: &[&str]| {
        assert_says(
            &refused(&scratch, &config_at("127.0.0.1:1", &[&pipeline])),
            words,
        );
    };
    let good = || Pipeline::between("p", "in", "out");
    // The line is the one in the file.
    let words = [
        "wrong.toml:11: unknown key \"commit_intervall\"",
        "did you mean \"commit_interval\"?",
    ];
    check(good().set("commit_intervall = \"1s\""), &words);
    check(good().set("workers = 0"), &["wrong.toml:11", "workers"]);
    check(
        good().set("start = \"yesterday\""),
        &["wrong.toml:11", "start"],
    );
    check(
        good().consumer("\"auto.offset.reset\" = \"latest\""),
        &[
            "\"auto.offset.reset\" is Weir's to set",
            "use \"start\" in the pipeline",
        ],
    );
    check(
        good().producer("\"acks\" = 1"),
        &["\"acks\" is Weir's to set", "leave it out"],
    );
    check(
        good().producer("\"linger.m\" = 1"),
        &[
            "\"linger.m\" is no setting of librdkafka",
            "did you mean \"linger.ms\"?",
        ],
    );
    check(
        good().producer("\"linger.ms\" = \"soon\""),
        &["pipeline \"p\"", "linger.ms"],
    );
    check(
        Pipeline::between("p", "same", "same"),
        &["the output topic \"same\" is an input of pipeline \"p\""],
    );
    check(
        good().set("drain_timeout = \"10m\""),
        &["drain_timeout", "max.poll.interval.ms"],
    );
    // A secret isn't shown, whatever is wrong with it.
    let secret = refused(
        &scratch,
        &config_at("127.0.0.1:1", &[&good()]).replace(
            "[kafka]",
            "[kafka]\n\"sasl.password\" = \"hunter2-${NO_SUCH_THING}\"",
        ),
    );
    assert_says(&secret, &["NO_SUCH_THING"]);
    // All mistakes at once.
    let all = refused(
        &scratch,
        &config_at(
            "127.0.0.1:1",
            &[&good().set("workers = 0\nstrat = \"latest\"")],
        ),
    );
    assert_says(&all, &["workers", "did you mean \"start\"?"]);
    assert_says(&refused(&scratch, "pipelines = 1\n= 2"), &["wrong.toml:2"]);
    let missing = Weir::command(&scratch, MINUTE, &["run", "-c", "nowhere.toml"]);
    assert_eq!(missing.code, Some(2));
    assert_says(&missing.stderr, &["nowhere.toml"]);
}

#[test]
fn wrong_modules_end_it_with_2_and_say_which() {
    let scratch = Scratch::new();
    let check = |path: &str, lines: &str, words: &[&str]| {
        let pipeline = Pipeline::between("p", "in", "out").module("step", path, lines);
        let said = refused(&scratch, &config_at("127.0.0.1:1", &[&pipeline]));
        assert_says(
            &said,
            &["wrong.toml:", "pipeline \"p\", transform \"step\""],
        );
        assert_says(&said, words);
    };
    let wat = |name: &str, text: &str| {
        let path = scratch.write(name, wat::parse_str(text).unwrap());
        path.to_str().unwrap().to_string()
    };
    check("nowhere.wasm", "", &["nowhere.wasm", "No such file"]);
    let text = scratch.write("text.wasm", "hello");
    check(
        text.to_str().unwrap(),
        "",
        &["text.wasm can't be used", "it isn't a WebAssembly module"],
    );
    let mut damaged = std::fs::read(guest("filter")).unwrap();
    damaged.truncate(damaged.len() / 2);
    let damaged = scratch.write("damaged.wasm", damaged);
    check(
        damaged.to_str().unwrap(),
        "",
        &["damaged.wasm can't be used"],
    );
    let clock = wat(
        "clock.wasm",
        r#"(module (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32))))"#,
    );
    check(
        &clock,
        "",
        &[
            "it imports wasi_snapshot_preview1::clock_time_get",
            "Weir offers no imports",
        ],
    );
    let later = wat(
        "later.wasm",
        r#"(component (instance $guest) (export "weir:transform/guest@9.9.0" (instance $guest)))"#,
    );
    check(
        &later,
        "",
        &[
            "it's built for weir:transform/guest@9.9.0",
            "this Weir speaks weir:transform/guest@",
        ],
    );
    check(&wat("empty.wasm", "(module)"), "", &["weir-guest"]);
    // Configs that a guest doesn't take.
    check(
        "filter.wasm",
        "config = { keep = \"a ==\" }",
        &["it refuses its config"],
    );
    check(
        "filter.wasm",
        "config = { kepe = \"a == 1\" }",
        &["it refuses its config", "kepe"],
    );
    check(
        "add-uuid.wasm",
        "config = { version = 3 }",
        &["it refuses its config", "version"],
    );
    check(
        "format-timestamp.wasm",
        "config = { from = \"t\", to = \"d\", zone = \"Mars\" }",
        &["it refuses its config", "zone"],
    );
    check(
        "faulty.wasm",
        "config = { init = \"panic\" }",
        &["given its config, it trapped: it panicked", "init panics"],
    );
    check(
        "faulty.wasm",
        "config = { init = \"spin\" }\ndeadline = \"100ms\"",
        &["given its config", "CPU time", "100ms"],
    );
}

#[test]
fn a_kafka_that_comes_later_is_waited_for() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(2), Topic::create(2));
    input.produce(seed::records(0..100));
    let proxy = Proxy::closed();
    let pipeline = Pipeline::new("waits", &input, &output).seed("");
    let mut weir = Weir::start(&scratch, &config_at(&proxy.bootstrap(), &[&pipeline]));
    let reason = format!("Kafka at {} can't be asked", proxy.bootstrap());
    weir.wait_not_ready(&["waits: waiting", &reason]);
    weir.wait_log(&["WARN", &reason]);
    assert_eq!(weir.get("/healthz").map(|it| it.status), Some(200));
    proxy.open(broker().bootstrap());
    weir.wait_done(&input, pipeline.group());
    weir.wait_ready();
    assert_eq!(weir.terminate(), Some(0));
    seed::check(&input.consume(), &output.consume());
}

#[test]
fn a_signal_ends_the_wait_for_a_kafka_that_never_comes() {
    let scratch = Scratch::new();
    let pipeline = Pipeline::between("waits", "in", "out");
    let nobody = Proxy::closed();
    let mut weir = Weir::start(&scratch, &config_at(&nobody.bootstrap(), &[&pipeline]));
    weir.wait_not_ready(&["waits: waiting"]);
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn missing_topics_are_waited_for() {
    let scratch = Scratch::new();
    let base = Topic::unique_name();
    let (input, output) = (format!("{base}.in"), format!("{base}.out"));
    let pipeline = Pipeline::between("waits", &input, &output).seed("");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_not_ready(&[
        "waits: waiting: input",
        &format!("there is no topic \"{input}\"; create it"),
    ]);
    let input = Topic::create_named(&input, 2, &[]);
    input.produce(seed::records(0..100));
    weir.wait_not_ready(&[
        "waits: waiting: output",
        &format!("there is no topic \"{output}\"; create it"),
    ]);
    let output = Topic::create_named(&output, 2, &[]);
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    seed::check(&input.consume(), &output.consume());
}

#[test]
fn a_record_larger_than_its_topic_takes_stops_the_pipeline() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let verbs = ["keep 1", "keep 2", "big:2", "keep 3"];
    input.produce(verbs.map(|verb| Record::new(None, Some(verb.as_bytes()))));
    let pipeline = Pipeline::new("large", &input, &output).transform("grows", "faulty", "");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    assert_eq!(weir.wait_exit(MINUTE), Some(1));
    let said = weir.log();
    let record = format!("{input}/0, offset 2");
    // The value and what a batch takes beside it; Kafka's default of the topic's setting.
    let size = format!(
        "takes {} bytes, and the topic takes 1048588",
        (2 << 20) + 61 + 13
    );
    assert_says(&said, &[&record, &size, "\"max.message.bytes\""]);
    assert_eq!(input.committed(pipeline.group()), [Some(2)]);
    assert_eq!(output.len(), 2);

    // Once it may, it goes out, and all is there once.
    output.alter("max.message.bytes", "4194304");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    let lengths: Vec<usize> = output
        .consume()
        .into_iter()
        .map(|it| it.value.map_or(0, |it| it.len()))
        .collect();
    assert_eq!(lengths, [6, 6, 2 << 20, 6]);
}

#[test]
fn a_record_that_the_broker_refuses_stops_the_pipeline() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let value = |n: usize, size: usize| format!("{n:0size$}").into_bytes();
    // A record a batch, here and on the way out, so that the first one isn't refused along with the second.
    let pipeline = Pipeline::new("large", &input, &output)
        .set("batch = { records = 1, bytes = \"64KiB\" }")
        .producer("\"batch.num.messages\" = 1");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_ready();
    // Nobody tells the worker.
    output.alter("max.message.bytes", "1000");
    let records = [(0, 10), (1, 5_000), (2, 10)];
    input.produce(records.map(|(n, size)| Record::new(None, Some(&value(n, size)))));
    assert_eq!(weir.wait_exit(MINUTE), Some(1));
    let batch = format!("what came of the record at {input}/0, offset 1, can't be delivered");
    assert_says(&weir.log(), &[&batch, "max.message.bytes", "batch.size"]);
    assert_eq!(input.committed(pipeline.group()), [Some(1)]);
    assert_eq!(output.consume()[0].value, Some(value(0, 10)));

    // Once the topic takes it, it goes out.
    output.alter("max.message.bytes", "1000000");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    // None is lost, and the order is kept; what came behind the refused one may have come twice.
    let mut values: Vec<Vec<u8>> = output
        .consume()
        .into_iter()
        .filter_map(|it| it.value)
        .collect();
    let last = values.pop();
    assert_eq!(last, Some(value(2, 10)));
    values.dedup();
    let expected = [
        vec![value(0, 10), value(1, 5_000)],
        vec![value(0, 10), value(2, 10), value(1, 5_000)],
    ];
    assert!(expected.contains(&values), "{values:?}");
}

#[test]
fn an_admin_address_in_use_is_said_so() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = scratch.write("weir.toml", config(&[&Pipeline::between("p", "in", "out")]));
    let arguments = ["run", "-c", file.to_str().unwrap(), "--listen", &address];
    let finished = Weir::command(&scratch, MINUTE, &arguments);
    assert_eq!(finished.code, Some(1));
    assert_says(&finished.stderr, &[&address, "--listen"]);
}
