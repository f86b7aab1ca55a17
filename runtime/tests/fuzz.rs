//! A guest that returns any bytes at all: whatever they are, the host neither panics nor lets nonsense through.
//!
//! The guest is written by hand: it returns the bytes of its first record as its answer, so that addresses, lengths and
//! cases come from the test. Each case starts from an answer that's right, and changes some bytes of it.

use std::cell::{Cell, RefCell};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use weir::chain::{Chain, IdKeys, Seen, Version};
use weir::guest::{Limits, Module};
use weir::record::Batch;

use crate::hand::Hand;
use crate::util::{CLUSTER, broken, chain, host, push, setup};

/// Where the guest's answer lies in its memory.
const BASE: u32 = 32_768;

/// So many bytes it may have.
const ROOM: usize = 16_384;

/// The size of `result<output, string>`, and where the parts of it are; of what's optional the content.
const HEAD: usize = 224;
const TAKE: usize = 4;
const KEYS: usize = 16;
const VALUES: usize = 44;
const HEADERS: usize = 72;
const TIMESTAMPS: usize = 132;
const OUTPUTS: usize = 144;
const REFUSED: usize = 152;
const LOGS: usize = 184;

/// About a second.
const CASES: u32 = 20_000;

#[test]
fn any_answer_is_refused_or_can_be_used() {
    let transform = format!(
        "(memory.fill (i32.const {BASE}) (i32.const 0) (i32.const {ROOM}))
         (memory.copy (i32.const {BASE}) (i32.load offset=48 (local.get $batch)) (i32.load offset=52 (local.get $batch)))
         (return (i32.const {BASE}))"
    );
    let hand = Hand {
        transform: &transform,
        ..Hand::default()
    };
    let limits = Limits {
        max_output_bytes: 1 << 20,
        max_output_records: 1_000,
        max_records_per_input: 100,
        ..Limits::default()
    };
    let version = Version {
        transform: "raw".into(),
        number: 1,
        module: Module::load(host(), &hand.wasm(), &limits).unwrap(),
        setup: setup("{}"),
        limits,
        ids: None,
        seen: Seen::default(),
    };
    let chain = RefCell::new(chain([version]));
    let keys = chain.borrow().id_keys(CLUSTER, &[0; 16], "in", 0);
    let (used, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let tried = runner.run(&(answer(), vec(change(), 0..4)), |(answer, changes)| {
        let changed = changes.into_iter().fold(answer.clone(), changed);
        match try_out(&mut chain.borrow_mut(), &keys, &changed, &limits)? {
            true => used.set(used.get() + 1),
            false if changed == answer => {
                return Err(TestCaseError::fail("an answer that's right was refused"));
            }
            false => refused.set(refused.get() + 1),
        }
        Ok(())
    });
    tried.unwrap_or_else(|why| panic!("{why}"));
    let (used, refused) = (used.get(), refused.get());
    assert!(
        used > CASES / 10 && refused > CASES / 10,
        "both ways are gone: {used} were used, {refused} refused"
    );
}

/// Whether the chain took the answer; if so, what came of it is read to the last byte.
fn try_out(
    chain: &mut Chain,
    keys: &IdKeys,
    answer: &[u8],
    limits: &Limits,
) -> Result<bool, TestCaseError> {
    let mut batch = Batch::new("in".into(), 0);
    for (offset, value) in [Some(answer), Some(b""), None].into_iter().enumerate() {
        push(&mut batch, offset as u64, value);
    }
    let result = chain.run(&batch, 0, keys, &mut |_, offset, line| {
        assert!(offset < 3 && line.message.len() <= 1_100);
    });
    let processed = match result {
        Ok(processed) => processed,
        Err(why) => {
            let broken = broken(why);
            let text = broken.fault.to_string();
            prop_assert!(!text.contains(char::is_control), "{}", text);
            prop_assert!(
                ["output", "trap"].contains(&broken.fault.class().as_str()),
                "{}",
                text
            );
            return Ok(false);
        }
    };
    let count = processed.counts[0];
    let refused: Vec<u64> = processed.failed.iter().map(|it| it.offset).collect();
    let after = processed.records(&batch);
    prop_assert_eq!(after.len() as u64, count.records_out);
    prop_assert!(after.len() <= limits.max_output_records);
    prop_assert!(after.bytes() <= limits.max_output_bytes);
    prop_assert!(after.offsets.is_sorted() && after.offsets.iter().all(|&it| it < 3));
    prop_assert!(after.outputs.iter().all(|&it| it == 0));
    prop_assert_eq!(after.timestamps.len(), after.len());
    let columns = after.keys.iter().zip(after.values.iter());
    let sizes =
        columns.map(|(key, value)| key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
    let starts = after.headers.starts(after.len());
    let headers = after.headers.range(0..starts[after.len()] as usize);
    let in_headers = headers.map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
    prop_assert_eq!(
        sizes.sum::<usize>() + in_headers.sum::<usize>(),
        after.bytes()
    );
    prop_assert!(
        refused
            .iter()
            .all(|it| *it < 3 && !after.offsets.contains(it))
    );
    Ok(true)
}

/// An answer that's right, as it lies in memory.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let text = || option::weighted(0.8, vec(any::<u8>(), 0..6));
    let record = (
        (text(), text()),
        vec((vec(any::<u8>(), 0..4), text()), 0..3),
        -1i64..5,
    );
    let which = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    (vec(vec(record, 0..3), 3), which, vec(0u32..3, 0..3)).prop_map(|(records, which, logs)| {
        let mut answer = Answer(vec![0; HEAD]);
        let taken: Vec<_> = (0u32..)
            .zip(&records)
            .flat_map(|(index, them)| them.iter().map(move |it| (index, it)))
            .collect();
        answer.numbers(TAKE, taken.iter().map(|it| it.0));
        if which.0 {
            answer.some(KEYS);
            answer.column(KEYS, taken.iter().map(|it| it.1.0.0.as_deref()));
        }
        if which.1 {
            answer.some(VALUES);
            answer.column(VALUES, taken.iter().map(|it| it.1.0.1.as_deref()));
        }
        if which.2 {
            answer.some(HEADERS);
            let headers = || taken.iter().flat_map(|it| &it.1.1);
            answer.numbers(HEADERS, taken.iter().map(|it| it.1.1.len() as u32));
            answer.column(HEADERS + 8, headers().map(|it| Some(&it.0[..])));
            answer.column(HEADERS + 32, headers().map(|it| it.1.as_deref()));
        }
        if which.3 {
            answer.some(TIMESTAMPS);
            let bytes = taken.iter().flat_map(|it| it.1.2.to_le_bytes()).collect();
            answer.list(TIMESTAMPS, taken.len(), bytes);
        }
        if which.4 {
            answer.some(OUTPUTS);
            answer.numbers(OUTPUTS, taken.iter().map(|_| 0));
        }
        let refused = (0..3u32).filter(|&it| records[it as usize].is_empty());
        answer.numbers(REFUSED, refused.clone());
        answer.column(REFUSED + 8, refused.map(|_| Some(&b"why"[..])));
        answer.list(LOGS, logs.len(), vec![2; logs.len()]);
        answer.numbers(LOGS + 8, logs.iter().copied());
        answer.column(LOGS + 16, logs.iter().map(|_| Some(&b"line"[..])));
        answer.0
    })
}

/// A `result<output, string>` in the canonical ABI: a head of addresses and lengths, and then what they are of.
struct Answer(Vec<u8>);

impl Answer {
    /// Marks an option, whose content is at `at`, as there.
    fn some(&mut self, at: usize) {
        self.0[at - 4] = 1;
    }

    fn list(&mut self, at: usize, length: usize, bytes: Vec<u8>) {
        let aligned = self.0.len().next_multiple_of(8);
        self.0.resize(aligned, 0);
        let address = BASE + aligned as u32;
        self.0[at..at + 4].copy_from_slice(&address.to_le_bytes());
        self.0[at + 4..at + 8].copy_from_slice(&(length as u32).to_le_bytes());
        self.0.extend(bytes);
    }

    fn numbers(&mut self, at: usize, numbers: impl Iterator<Item = u32>) {
        let bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
        self.list(at, bytes.len() / 4, bytes);
    }

    fn column<'a>(&mut self, at: usize, values: impl Iterator<Item = Option<&'a [u8]>>) {
        let column: weir::record::Column = values.collect();
        self.list(at, column.data.len(), column.data);
        self.numbers(at + 8, column.ends.into_iter());
        self.list(at + 16, column.nulls.len(), column.nulls);
    }
}

/// Where, how many bytes, and to what.
type Change = (usize, usize, u32);

fn change() -> impl Strategy<Value = Change> {
    let place = prop_oneof![3 => 0..HEAD, 1 => HEAD..2 * HEAD];
    let to = prop_oneof![
        3 => 0u32..6,
        2 => (0u32..512).prop_map(|it| BASE + it),
        1 => Just(u32::MAX),
        // The end of its memory.
        1 => 131_060u32..131_080,
        1 => any::<u32>(),
    ];
    // Fields are aligned to 4 bytes.
    prop_oneof![
        3 => (place.clone(), Just(4), to.clone()).prop_map(|(place, size, to)| (place / 4 * 4, size, to)),
        1 => (place, Just(1), to),
    ]
}

fn changed(mut answer: Vec<u8>, (place, size, to): Change) -> Vec<u8> {
    if answer.len() < place + size {
        answer.resize(place + size, 0);
    }
    answer[place..place + size].copy_from_slice(&to.to_le_bytes()[..size]);
    answer
}
