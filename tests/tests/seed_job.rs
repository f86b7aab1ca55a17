//! The seed job on a real Kafka, held to a model that shares no code with it.

use weir_tests::{MINUTE, Pipeline, Scratch, Topic, Weir, broker, config, seed};

const RECORDS: usize = 100_000;

#[test]
fn a_hundred_thousand_records_come_out_right() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(4), Topic::create(4));
    let count = RECORDS.to_string();
    let bootstrap = broker().bootstrap();
    #[rustfmt::skip]
    let produced = Weir::command(&scratch, MINUTE, &[
        "produce", "realstock", "--bootstrap", bootstrap, "--topic", input.name(),
        "--count", &count, "--rate", "max", "--seed", "1",
    ]);
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);

    let pipeline = Pipeline::new("stocks", &input, &output)
        .set("workers = 2")
        .seed("");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_done(&input, pipeline.group());

    let (inputs, outputs) = (input.consume(), output.consume());
    assert_eq!(inputs.len(), RECORDS);
    seed::check(&inputs, &outputs);

    let stocks = "pipeline=\"stocks\"";
    let dropped = RECORDS - outputs.len();
    let counts = [
        ("weir_records_in_total", "", RECORDS),
        ("weir_records_out_total", "", outputs.len()),
        ("weir_records_dropped_total", "transform=\"id\"", 0),
        ("weir_records_dropped_total", "transform=\"date\"", 0),
        ("weir_records_dropped_total", "transform=\"even\"", dropped),
        ("weir_records_refused_total", "", 0),
    ];
    for (name, label, count) in counts {
        let counted = weir.counter(name, &[stocks, label]);
        assert_eq!(counted, count as u64, "{name} {label}");
    }
    // Each transform's counters name the version that did it, and one line says which module that is.
    let metrics = weir.get("/metrics").expect("metrics").body;
    let inspected = Weir::command(
        &scratch,
        MINUTE,
        &[
            "inspect",
            "--json",
            weir_tests::guest("filter").to_str().unwrap(),
        ],
    );
    let inspected: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
    let module = &inspected["digest"].as_str().unwrap()[..12];
    for series in [
        "weir_records_dropped_total{pipeline=\"stocks\",transform=\"even\",version=\"1\"}"
            .to_string(),
        format!(
            "weir_version_info{{module=\"{module}\",pipeline=\"stocks\",role=\"active\",transform=\"even\",version=\"1\"}} 1"
        ),
    ] {
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
    assert_eq!(weir.counter("weir_pipeline_up", &[stocks]), 1);

    assert_eq!(weir.terminate(), Some(0));
    let committed: Vec<i64> = input
        .committed(pipeline.group())
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(committed, input.ends());
}

#[test]
fn the_same_record_gets_the_same_id_in_another_group() {
    let scratch = Scratch::new();
    let (input, first, second) = (Topic::create(2), Topic::create(2), Topic::create(2));
    input.produce(seed::records(0..200));
    let mut outputs = Vec::new();
    for output in [&first, &second] {
        // A name of the pipeline that is the same, and a group that is not: what a replay from the start is.
        let pipeline = Pipeline::new("stocks", &input, output).seed("");
        let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
        weir.wait_done(&input, pipeline.group());
        assert_eq!(weir.terminate(), Some(0));
        outputs.push(output.consume());
    }
    seed::check(&input.consume(), &outputs[0]);
    assert_eq!(outputs[0], outputs[1]);

    let other = Topic::create(2);
    let pipeline = Pipeline::new("others", &input, &other).seed("");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    let both = [outputs.remove(0), other.consume()].concat();
    let replayed = seed::replayed_ids(&input.consume(), &both, 2);
    assert!(
        replayed.iter().all(|ids| ids[0] != ids[1]),
        "another pipeline's ids are its own"
    );
}
