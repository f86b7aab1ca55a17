//! Several outputs of a pipeline, and a guest that chooses among them.

use std::collections::BTreeMap;

use weir_tests::{MINUTE, Pipeline, Scratch, Topic, Weir, config, seed};

const RECORDS: usize = 5_000;

const KEY: &str = "a key of the tests, 32 bytes long";
/// HMAC-SHA256 of `BTC-USD` under that key, as Python's hmac has it.
const BTC: &str = "af2a042689e6e910579bce45d2f5aeb1d11d415c1f195cc967b28709f2e51292";

/// The name of a stock, or what stands in its place, in a record's key or value.
fn stock(json: &Option<Vec<u8>>) -> String {
    let json: serde_json::Value = serde_json::from_slice(json.as_deref().unwrap()).unwrap();
    json["stock_name"].as_str().unwrap().to_string()
}

/// What is to come of a key or value: its stock's name hashed, its price gone, and nothing else changed.
fn redacted(json: &Option<Vec<u8>>, hash: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8(json.clone().unwrap()).unwrap();
    let text = text.replace(&stock(json), hash);
    let text = match text.split_once("\"stock_value\":") {
        Some((before, rest)) => before.to_string() + rest.split_once(',').unwrap().1,
        None => text,
    };
    Some(text.into_bytes())
}

#[test]
fn records_are_routed_by_their_stock_and_redacted() {
    let scratch = Scratch::new();
    let input = Topic::create(3);
    let (btc, eth, other) = (Topic::create(2), Topic::create(2), Topic::create(2));
    input.produce(seed::records(0..RECORDS));
    scratch.write("hash-key", format!("{KEY}\n"));
    let one = format!("output = {:?}", other.name());
    let several = format!(
        "output = {{ default = {other:?}, btc = {btc:?}, eth = {eth:?} }}",
        other = other.name(),
        btc = btc.name(),
        eth = eth.name()
    );
    let pipeline = Pipeline::new("private", &input, &other)
        .replace(&one, &several)
        .set("workers = 2")
        .transform(
            "by-stock",
            "route",
            "[pipelines.private.transforms.config]\n\
             rules = [\n\
                 { when = \"stock_name == 'BTC-USD'\", to = \"btc\" },\n\
                 { when = \"json(record.key).stock_name.startsWith('ETH')\", to = \"eth\" },\n\
             ]",
        )
        .transform(
            "privacy",
            "redact",
            "[pipelines.private.transforms.config]\n\
             key = \"${file:hash-key}\"\n\
             fields = [\n\
                 { path = \"stock_name\", action = \"hash\" },\n\
                 { path = \"stock_value\", action = \"remove\" },\n\
                 { target = \"key\", path = \"stock_name\", action = \"hash\" },\n\
             ]",
        );
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_done(&input, pipeline.group());
    let labels = ["pipeline=\"private\""];
    assert_eq!(
        weir.counter("weir_records_out_total", &labels),
        RECORDS as u64
    );
    assert_eq!(weir.terminate(), Some(0));
    assert!(!weir.log().contains(KEY), "the log has the key");

    // Each record is in its topic and in no other, once, and the same name has the same hash everywhere.
    let mut hashes = BTreeMap::new();
    let mut outputs = BTreeMap::new();
    for (place, topic) in [("btc", &btc), ("eth", &eth), ("other", &other)] {
        for record in topic.consume() {
            assert_eq!(stock(&record.key), stock(&record.value));
            assert_eq!(record.headers, []);
            let what = (place, record.key, record.value);
            assert_eq!(outputs.insert(record.timestamp, what), None, "once");
        }
    }
    assert_eq!(outputs.len(), RECORDS);
    for record in input.consume() {
        let name = stock(&record.key);
        let place = match name.as_str() {
            "BTC-USD" => "btc",
            "ETH-USD" => "eth",
            _ => "other",
        };
        // Found by its time, which no other record has.
        let (found, key, value) = &outputs[&record.timestamp];
        assert_eq!(*found, place);
        let hash = hashes.entry(name).or_insert_with(|| stock(key));
        assert_eq!(hash.len(), 64);
        assert_eq!(
            (key, value),
            (&redacted(&record.key, hash), &redacted(&record.value, hash))
        );
    }
    assert_eq!(hashes["BTC-USD"], BTC);
    assert_eq!(hashes.len(), 5);
}

#[test]
fn an_output_that_there_isnt_is_refused_at_the_start() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let pipeline = Pipeline::new("typo", &input, &output)
        .replace(
            &format!("output = {:?}", output.name()),
            &format!("output = {{ main = {0:?}, errors = {0:?} }}", output.name()),
        )
        .transform(
            "by-sign",
            "route",
            "config = { rules = [{ when = \"n < 0\", to = \"erors\" }] }",
        );
    scratch.write("weir.toml", config(&[&pipeline]));
    let checked = Weir::command(&scratch, MINUTE, &["check", "-c", "weir.toml", "--offline"]);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    let reason = "`rules[0].to`: no output is called `erors`; the pipeline's outputs are `main`, `errors`; \
                  did you mean `errors`?";
    let said = checked.stdout + &checked.stderr;
    assert!(said.contains(reason), "{said}");
}
