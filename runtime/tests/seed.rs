//! The seed job through its three guests, and the ids that they give.

use std::collections::HashSet;

use weir::record::Batch;

use crate::util::{CLUSTER, batch, chain, push, seed_chain, texts, version};

const RECORD: &str =
    r#"{"stock_name":"BTC-USD","stock_value":37812.759521484375,"timestamp":1634221557010}"#;
const ODD: &str = r#"{"stock_name":"ETH-USD","stock_value":3812.5,"timestamp":1634221557011}"#;

/// The values that come out of a chain with the id keys of topic `in`, partition 0.
fn run(chain: &mut weir::chain::Chain, batch: Batch) -> Vec<String> {
    let keys = chain.id_keys(CLUSTER, &[1; 16], "in", 0);
    let processed = chain.run(&batch, 0, &keys, &mut |_, _, _| {}).unwrap();
    assert_eq!(processed.failed, []);
    texts(&processed.records(&batch).values)
}

fn id_of(value: &str) -> uuid::Uuid {
    let value: serde_json::Value = serde_json::from_str(value).unwrap();
    value["id"].as_str().unwrap().parse().unwrap()
}

#[test]
fn the_seed_job() {
    let out = run(&mut seed_chain(), batch([RECORD, ODD]));
    assert_eq!(out.len(), 1, "only even event times stay: {out:?}");
    let id = id_of(&out[0]);
    assert_eq!(id.get_version_num(), 4);
    assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
    let value: serde_json::Value = serde_json::from_str(&out[0]).unwrap();
    assert_eq!(value["iso_date"], "2021-10-14T14:25:57.010Z");
    assert_eq!(value["event_time"], 1634221557010u64);
    assert_eq!(value["stock_name"], "BTC-USD");
    assert!(value.get("timestamp").is_none());
    assert!(
        out[0].contains("37812.759521484375"),
        "every digit: {}",
        out[0]
    );
}

#[test]
fn stable_ids_are_the_same_again_however_the_records_are_cut() {
    let all = run(&mut chain([version("add-uuid", "{}")]), batch([RECORD; 10]));
    let mut again = Vec::new();
    let mut cut = chain([version("add-uuid", "{}")]);
    for range in [0..3u64, 3..4, 4..10] {
        let mut part = Batch::new("in".into(), 0);
        range.for_each(|offset| push(&mut part, offset, Some(RECORD.as_bytes())));
        again.extend(run(&mut cut, part));
    }
    assert_eq!(all, again);
}

#[test]
fn random_ids_differ_each_time() {
    let random = || {
        let mut version = version("add-uuid", "{}");
        version.ids = None;
        run(&mut chain([version]), batch([RECORD; 10]))
    };
    let ids: HashSet<_> = random()
        .iter()
        .chain(&random())
        .map(|it| id_of(it))
        .collect();
    assert_eq!(ids.len(), 20);
}

#[test]
fn a_million_ids_without_a_collision() {
    let mut chain = chain([version("add-uuid", "{}")]);
    let mut seen = HashSet::new();
    for start in (0..1_000_000u64).step_by(5_000) {
        let mut part = Batch::new("in".into(), 0);
        (start..start + 5_000).for_each(|offset| push(&mut part, offset, Some(b"{}")));
        for value in run(&mut chain, part) {
            let id = id_of(&value);
            assert_eq!(
                (id.get_version_num(), id.get_variant()),
                (4, uuid::Variant::RFC4122)
            );
            assert!(seen.insert(id), "{id} twice");
        }
    }
    assert_eq!(seen.len(), 1_000_000);
}
