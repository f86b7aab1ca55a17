//! How long the parts of a guest take natively, in nanoseconds a record: `cargo run --release --example speed`.
//!
//! A number of rounds, the least of which is printed: the machine may be busy otherwise.

use std::hint::black_box;
use std::time::Instant;

use weir_guest::json::{Fields, Found};
use weir_guest::{Record, Refusal, Transform, Verdict, ids, testing::Harness};

const RECORDS: usize = 1000;
const ROUNDS: usize = 300;

struct Ids;

impl Transform for Ids {
    type Config = serde::de::IgnoredAny;

    fn new(_: serde::de::IgnoredAny) -> Result<Ids, String> {
        Ok(Ids)
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        let id = record.uuid_v4();
        record.set_value_with(|out| ids::write_text(&id, out));
        Ok(Verdict::Keep)
    }
}

fn main() {
    let texts: Vec<String> = (0..RECORDS)
        .map(|index| {
            let name = ["BTC-USD", "ETH-USD", "BNB-USD", "ADA-USD", "DOGE-USD"][index * 7 % 5];
            let value = 37812.759521484375 * (1.0 + (index * index % 977) as f64 / 1000.0);
            let time = 1_634_221_557_011 + index * 137;
            format!(r#"{{"stock_name":"{name}","stock_value":{value},"timestamp":{time}}}"#)
        })
        .collect();
    let mut found = Found::default();
    let mut out = Vec::with_capacity(200 * RECORDS);

    let fields = Fields::new(&["id"]).expect("a path");
    time("scan for a field that isn't there", || {
        for text in &texts {
            black_box(fields.scan(text.as_bytes(), &mut found).is_ok());
        }
    });
    time("scan, and put the field in", || {
        out.clear();
        for text in &texts {
            let mut object = fields.scan(text.as_bytes(), &mut found).expect("an object");
            object.set(0, br#""01234567-89ab-cdef-0123-456789abcdef""#);
            object.write(&mut out).expect("an edit");
        }
        black_box(&out);
    });
    let fields = Fields::new(&["timestamp", "event_time", "iso_date"]).expect("paths");
    time("scan, rename a field and put one in", || {
        out.clear();
        for text in &texts {
            let mut object = fields.scan(text.as_bytes(), &mut found).expect("an object");
            object.rename(0, 1).expect("an edit");
            object.set_str(2, "2021-10-14T14:25:57.011Z");
            object.write(&mut out).expect("an edit");
        }
        black_box(&out);
    });
    let fields = Fields::new(&["timestamp"]).expect("a path");
    time("scan, and read a number", || {
        for text in &texts {
            let object = fields.scan(text.as_bytes(), &mut found).expect("an object");
            black_box(object.get(0).and_then(|raw| raw.as_i64()));
        }
    });
    let mut harness = Harness::<Ids>::new("{}").expect("any config will do");
    let batch = harness.batch(&vec![weir_guest::testing::Input::value(""); RECORDS]);
    time("draw an id and write its text", || {
        black_box(harness.run_batch(&batch));
    });
}

fn time(what: &str, mut run: impl FnMut()) {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run();
        least = least.min(start.elapsed().as_nanos() as f64 / RECORDS as f64);
    }
    println!("{least:6.1} ns  {what}");
}
