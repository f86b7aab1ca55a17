//! Which partition a record goes to, and what its order is.

use std::collections::BTreeMap;

use weir_tests::{Consumed, Pipeline, Record, Scratch, Topic, Weir, config};

/// MurmurHash2 as Kafka's Java clients have it (`Utils.murmur2`), which is where `partition = "key"` must agree with.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let words = data.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let word = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition that a Java producer would send this key to.
fn by_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions
}

#[test]
fn the_hash_is_java_s() {
    // From UtilsTest.testMurmur2 in Apache Kafka.
    let cases = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        ("abc", 479_470_107),
    ];
    for (key, hash) in cases {
        assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
    }
}

/// Numbered records in three partitions, whatever their keys: 50 different ones, so that each key stands in all
/// partitions.
fn numbered(input: &Topic, key: impl Fn(usize) -> Option<Vec<u8>>) {
    input.produce((0..6_000).map(|n| {
        let value = format!("{{\"n\":{n}}}");
        Record {
            key: key(n % 50),
            ..Record::new(None, Some(value.as_bytes())).partition(n as i32 % 3)
        }
    }));
}

/// The number in a record's value, which stands first.
fn number(record: &Consumed) -> usize {
    let text = std::str::from_utf8(record.value.as_deref().unwrap()).unwrap();
    let digits: String = text
        .chars()
        .filter(|c| *c != '"')
        .skip_while(|c| !c.is_ascii_digit())
        .collect();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap();
    digits[..end].parse().unwrap()
}

/// Runs a pipeline over all of its input, and returns what came out.
fn run(input: &Topic, output: &Topic, pipeline: Pipeline) -> Vec<Consumed> {
    let scratch = Scratch::new();
    let pipeline = pipeline.set("workers = 2\nbatch = { records = 100 }");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_done(input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    output.consume()
}

/// That each of the 6,000 records is there once, and that records which agree in `what` and come from one input
/// partition stand in the order that they had there.
fn assert_in_order<K: Ord>(outputs: &[Consumed], what: impl Fn(&Consumed) -> K) {
    let mut numbers: Vec<usize> = outputs.iter().map(number).collect();
    let mut lasts: BTreeMap<(K, usize), usize> = BTreeMap::new();
    for record in outputs {
        let n = number(record);
        if let Some(last) = lasts.insert((what(record), n % 3), n) {
            assert!(last < n, "{n} stands behind {last}");
        }
    }
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..6_000), "not each record once");
}

#[test]
fn by_key_as_java_and_in_order_within_an_input_partition() {
    let (input, output) = (Topic::create(3), Topic::create(7));
    let key = |n: usize| Some([format!("key {n}").as_bytes(), &[0xff; 3][..n % 4]].concat());
    numbered(&input, key);
    let outputs = run(&input, &output, Pipeline::new("by-key", &input, &output));
    for record in &outputs {
        let key = record.key.as_deref().unwrap();
        assert_eq!(record.partition, by_key(key, 7), "{key:?}");
    }
    assert_in_order(&outputs, |it| it.key.clone());
}

#[test]
fn null_keys_go_anywhere_and_empty_ones_by_their_hash() {
    let (input, output) = (Topic::create(3), Topic::create(4));
    numbered(&input, |n| (n % 2 == 0).then(Vec::new));
    let outputs = run(&input, &output, Pipeline::new("null-keys", &input, &output));
    for record in outputs.iter().filter(|it| it.key.is_some()) {
        assert_eq!(record.partition, by_key(b"", 4));
    }
    let nulls = outputs.iter().filter(|it| it.key.is_none());
    assert_eq!(nulls.count(), 3_000);
    assert_in_order(&outputs, |it| (it.key.clone(), it.partition));
}

#[test]
fn the_key_after_the_chain_decides() {
    let (input, output) = (Topic::create(3), Topic::create(5));
    // Half of the keys have an id already, which stays; the others get one of their own.
    let key = |n: usize| match n % 2 {
        0 => Some(format!("{{\"id\":\"key {n}\"}}").into_bytes()),
        _ => Some(format!("key {n}").into_bytes()),
    };
    numbered(&input, key);
    let pipeline = Pipeline::new("new-keys", &input, &output).transform(
        "id",
        "add-uuid",
        "config = { into = \"key\" }",
    );
    let outputs = run(&input, &output, pipeline);
    let mut new = 0;
    for record in &outputs {
        let text = String::from_utf8(record.key.clone().unwrap()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        new += usize::from(weir_tests::seed::is_uuid_v4(json["id"].as_str().unwrap()));
        assert_eq!(record.partition, by_key(text.as_bytes(), 5), "{text}");
        // The value is none of its business.
        assert_eq!(
            record.value,
            Some(format!("{{\"n\":{}}}", number(record)).into_bytes())
        );
    }
    assert_eq!(new, 3_000);
    // Records that end with the same key keep their order, if they come from one partition.
    assert_in_order(&outputs, |it| it.key.clone());
}

#[test]
fn partition_same_keeps_number_and_order_whatever_the_key() {
    let (input, output) = (Topic::create(3), Topic::create(4));
    numbered(&input, |n| Some(format!("key {n}").into_bytes()));
    let pipeline = Pipeline::new("same", &input, &output)
        .set("partition = \"same\"")
        .transform(
            "id",
            "add-uuid",
            "config = { into = \"key\", existing = \"replace\" }",
        );
    let outputs = run(&input, &output, pipeline);
    for record in &outputs {
        assert_eq!(record.partition, number(record) as i32 % 3);
    }
    // The order of the whole partition.
    assert_in_order(&outputs, |it| it.partition);
    assert_eq!(output.ends(), [2_000, 2_000, 2_000, 0]);
}

#[test]
fn partition_same_waits_for_enough_partitions() {
    let scratch = Scratch::new();
    let (input, mut output) = (Topic::create(3), Topic::create(2));
    numbered(&input, |_| None);
    let pipeline = Pipeline::new("same", &input, &output).set("partition = \"same\"");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_not_ready(&[
        "partition = \"same\" needs as many partitions",
        "(2)",
        "(3)",
    ]);
    output.grow(3);
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    assert_in_order(&output.consume(), |it| it.partition);
}
