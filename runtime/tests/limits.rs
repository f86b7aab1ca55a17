//! Every limit, met by a guest that's after it; and what is left of its host: everything.

use std::fs::File;
use std::time::Duration;

use weir::chain::Version;
use weir::guest::{Fault, Guest, Level, Limit, Limits, Module, Output};
use weir::letter::Class;
use weir::metrics::{Metrics, Tally};

use crate::hand::{Hand, quoted, stripped};
use crate::util::{CLUSTER, batch, broken, chain, host, module, setup, texts, version, wasm};

const KEY: [u8; 32] = [7; 32];

const NO_TIME: Limits = Limits {
    deadline: Duration::from_millis(50),
    record_deadline: Duration::from_millis(20),
    ..DEFAULT
};

const DEFAULT: Limits = Limits::DEFAULT;

/// What a guest of a module does with a batch.
fn run(module: &Module, values: &[&str], limits: &Limits) -> Result<Output, Fault> {
    let mut guest = Guest::new(module, &setup("{}"), limits).unwrap();
    let result = guest.transform(&batch(values.iter().copied()), &KEY, limits.deadline);
    assert_eq!(guest.is_live(), result.is_ok());
    result
}

/// A guest that's given `values` hits a limit and says so in these words; the next guest of the same module does its
/// work.
#[track_caller]
fn hits(module: &Module, values: &[&str], limits: Limits, limit: Limit, words: &str) {
    let fault = run(module, values, &limits).unwrap_err();
    let Fault::Limit(hit, _) = fault else {
        panic!("{fault}");
    };
    assert_eq!(hit, limit, "{fault}");
    assert_eq!(fault.limit(), Some(limit.name()));
    assert_eq!(fault.class(), limit.class());
    let text = fault.to_string();
    assert!(text.contains(words), "{text}");
    assert!(
        limit == Limit::Stack || text.contains(&format!("`{}`", limit.name())),
        "it names the setting: {text}"
    );
    assert_eq!(text.lines().count(), 1);
    let metrics = Metrics::default();
    let counters = metrics.counters("p", &chain([version("faulty", "{}")]));
    counters.limit_hit(0, &fault);
    let of_limit = [("limit", limit.name())];
    assert_eq!(metrics.sum("weir_limit_hits_total", &of_limit), 1);
    assert_eq!(metrics.sum("weir_limit_hits_total", &[]), 1);
    let output = run(module, &["keep", "drop"], &limits).unwrap();
    assert!(output.refused.is_empty(), "the next one works");
}

fn faulty_hits(values: &[&str], limits: Limits, limit: Limit, words: &str) {
    hits(&module("faulty"), values, limits, limit, words);
}

/// A module that transforms without harm but for values that start with `!`.
fn hand(hand: Hand<'_>) -> Module {
    let harm = hand.transform;
    let transform = format!(
        r#"(block $harmless
            (br_if $harmless (i32.ne
                (i32.load8_u (i32.load offset=48 (local.get $batch)))
                (i32.const 33)))
            {harm})"#
    );
    let transform = &transform;
    load(&Hand { transform, ..hand }.wasm(), &DEFAULT).unwrap()
}

fn load(bytes: &[u8], limits: &Limits) -> Result<Module, String> {
    Module::load(host(), bytes, limits).map_err(|why| format!("{why:#}"))
}

#[test]
fn deadline() {
    faulty_hits(
        &["keep", "spin"],
        NO_TIME,
        Limit::Deadline,
        "it used more CPU time for one call than the 50ms that `deadline` allows; raise it",
    );
}

#[test]
fn deadline_of_a_part_of_a_batch() {
    let limits = Limits {
        deadline: Duration::from_secs(60),
        record_deadline: Duration::from_millis(20),
        ..DEFAULT
    };
    let mut guest = Guest::new(&module("faulty"), &setup("{}"), &limits).unwrap();
    let share = limits.deadline_for(2, 4_000);
    let fault = guest.transform(&batch(["keep", "spin"]), &KEY, share);
    let text = fault.unwrap_err().to_string();
    assert!(
        text.contains("than the 30ms that this batch's share of `deadline` allows"),
        "{text}"
    );
}

#[test]
fn deadline_of_a_record_alone() {
    let limits = Limits {
        deadline: Duration::from_secs(60),
        record_deadline: Duration::from_millis(20),
        ..DEFAULT
    };
    let words = "it used more CPU time for one call than the 20ms that `record_deadline` allows";
    faulty_hits(&["spin"], limits, Limit::RecordDeadline, words);
    // What an earlier transform made of one record is one record.
    let mut siblings = batch(["keep", "spin"]);
    siblings.offsets = vec![5, 5];
    siblings.ordinals = vec![0, 1];
    let mut guest = Guest::new(&module("faulty"), &setup("{}"), &limits).unwrap();
    let fault = guest.transform(&siblings, &KEY, limits.deadline);
    assert_eq!(fault.unwrap_err().limit(), Some("record_deadline"));
}

#[test]
fn memory() {
    let words = "it needs more memory than the 67108864 bytes that `memory` allows; raise it";
    faulty_hits(&["keep", "grow"], DEFAULT, Limit::Memory, words);
    faulty_hits(&["keep", "grow-pages"], DEFAULT, Limit::Memory, words);
    let grow = hand(Hand {
        transform: "(drop (memory.grow (i32.const 65000)))",
        ..Hand::default()
    });
    hits(&grow, &["!"], DEFAULT, Limit::Memory, words);
}

#[test]
fn table() {
    let grow = |by: u32| {
        hand(Hand {
            fields: "(table $table 1 funcref)",
            transform: &format!("(drop (table.grow $table (ref.null func) (i32.const {by})))"),
            ..Hand::default()
        })
    };
    let words =
        "a larger table than the 100000 elements that `max_table_elements` allows; raise it";
    hits(&grow(100_000), &["!"], DEFAULT, Limit::TableElements, words);
    assert!(run(&grow(99_999), &["!"], &DEFAULT).is_ok());
}

#[test]
fn stack() {
    let deep = hand(Hand {
        fields: "(func $down (param i64) (result i64)
                    (i64.xor (local.get 0) (call $down (i64.add (local.get 0) (i64.const 1)))))",
        transform: "(drop (call $down (i64.const 0)))",
        ..Hand::default()
    });
    let words = "its calls nest deeper than the 524288 bytes of stack that every guest has allow (in down); it must nest less";
    hits(&deep, &["!"], DEFAULT, Limit::Stack, words);
}

#[test]
fn records() {
    let limits = Limits {
        max_output_records: 10,
        ..DEFAULT
    };
    let words = "it returned 12 records of 3, and `max_output_records` allows 10; raise it";
    let values = ["flood:4", "flood:4", "flood:4"];
    faulty_hits(&values, limits, Limit::OutputRecords, words);
    let words = "it returned 10001 records of the one at offset 1, and `max_records_per_input` allows 10000";
    let values = ["keep", "flood:10001"];
    faulty_hits(&values, DEFAULT, Limit::RecordsPerInput, words);
    let fits = run(&module("faulty"), &["flood:10000", "flood:10000"], &DEFAULT);
    assert_eq!(fits.unwrap().take.len(), 20_000);
}

#[test]
fn bytes() {
    let limits = Limits {
        max_output_bytes: 1_000,
        ..DEFAULT
    };
    let padded = format!("flood:8 {}", "x".repeat(92));
    let words =
        "it returned 1600 bytes in 16 records, and `max_output_bytes` allows 1000; raise it";
    let values = [&padded[..], &padded];
    faulty_hits(&values, limits, Limit::OutputBytes, words);
    let limits = Limits {
        max_bytes_per_input: 1_000,
        ..DEFAULT
    };
    let padded = format!("flood:11 {}", "x".repeat(91));
    let words = "it returned 1100 bytes in 11 records of the one at offset 1, and `max_bytes_per_input` allows 1000";
    let values = ["keep", &padded];
    faulty_hits(&values, limits, Limit::BytesPerInput, words);
    faulty_hits(
        &["keep", "big:9"],
        DEFAULT,
        Limit::BytesPerInput,
        "it returned 9437184 bytes in 1 records of the one at offset 1",
    );
}

#[test]
fn more_than_is_looked_at() {
    let limits = Limits {
        memory: 512 << 20,
        ..DEFAULT
    };
    let words = "it returned far more than `max_output_bytes`, which is 16777216, and `max_output_records`, which is 100000, allow";
    faulty_hits(&["keep", "big:64"], limits, Limit::OutputBytes, words);
}

#[test]
fn log_lines() {
    let output = run(&module("faulty"), &["keep", "log:1000"], &DEFAULT).unwrap();
    assert_eq!(output.take, [0, 1], "the records are unharmed");
    let (last, lines) = output.logs.split_last().unwrap();
    assert_eq!(lines.len(), 100);
    assert!(
        lines
            .iter()
            .all(|it| it.index == 1 && it.level == Level::Info)
    );
    assert_eq!(last.level, Level::Warn);
    assert_eq!(
        last.message,
        "more log lines than the 100 a second that `max_log_lines` allows: the others are dropped, and counted as \
         weir_log_lines_dropped_total"
    );
    assert_eq!(output.log_lines_dropped, 900);
    let mute = Limits {
        max_log_lines: 0,
        ..DEFAULT
    };
    let output = run(&module("faulty"), &["log:2"], &mute).unwrap();
    assert_eq!((output.logs.len(), output.log_lines_dropped), (1, 2));
}

#[test]
fn module_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.wasm");
    let size = |bytes: u64| {
        // No disk holds them.
        File::create(&path).unwrap().set_len(bytes).unwrap();
        Module::read(&path, DEFAULT.max_module_bytes)
    };
    let why = format!("{:#}", size((64 << 20) + 1).unwrap_err());
    assert!(
        why.ends_with("large.wasm has 67108865 bytes, and `max_module_bytes` allows 67108864; raise it, or strip the module"),
        "{why}"
    );
    assert_eq!(size(1_000).unwrap().len(), 1_000);
}

#[test]
fn config_size() {
    let limits = Limits {
        max_config_bytes: 20,
        ..DEFAULT
    };
    let start = |config: &str| Guest::new(&module("faulty"), &setup(config), &limits);
    assert!(start(r#"{"init":"ok"}       "#).is_ok());
    let why = format!("{:#}", start(r#"{"init":"ok"}        "#).err().unwrap());
    assert_eq!(
        why,
        "its config has 21 bytes as JSON, and `max_config_bytes` allows 20; raise it, or make the config smaller"
    );
}

#[test]
fn the_limits_hold_while_it_starts() {
    let spin = "(loop $again (br $again))";
    let grow = "(drop (memory.grow (i32.const 65000)))";
    let deadline = "than the 50ms that `deadline` allows";
    let memory = "more memory than the 67108864 bytes that `memory` allows";
    let refused = |hand: Hand<'_>, words: &str| {
        let why = load(&hand.wasm(), &NO_TIME).unwrap_err();
        assert!(why.starts_with("asked what it is, it "), "{why}");
        assert!(why.contains(words), "{why}");
    };
    for (code, words) in [(spin, deadline), (grow, memory)] {
        let start = Hand {
            start: code,
            ..Hand::default()
        };
        refused(start, words);
        let describe = Hand {
            describe: code,
            ..Hand::default()
        };
        refused(describe, words);
        let init = Hand {
            init: code,
            ..Hand::default()
        };
        let init = load(&init.wasm(), &NO_TIME).unwrap();
        let why = Guest::new(&init, &setup("{}"), &NO_TIME).err().unwrap();
        let why = format!("{why:#}");
        assert!(why.starts_with("given its config, it "), "{why}");
        assert!(why.contains(words), "{why}");
    }
    let pages = Hand {
        pages: 1_025,
        ..Hand::default()
    };
    refused(pages, memory);
    let table = Hand {
        fields: "(table 100001 funcref)",
        ..Hand::default()
    };
    refused(
        table,
        "than the 100000 elements that `max_table_elements` allows",
    );
    let tables = "(table 1 funcref)".repeat(5);
    let tables = Hand {
        fields: &tables,
        ..Hand::default()
    };
    refused(
        tables,
        "it trapped: resource limit exceeded: table count too high at 5",
    );
    // And a module that needs more gets it where its transform says so.
    let limits = Limits {
        memory: 128 << 20,
        ..DEFAULT
    };
    assert!(load(&pages.wasm(), &limits).is_ok());
}

/// A trap's text, from a module as it is and from one without names.
fn trap(bytes: &[u8], value: &str) -> (String, String) {
    let text = |bytes: &[u8]| {
        let module = load(bytes, &DEFAULT).unwrap();
        match run(&module, &["keep", value], &DEFAULT).unwrap_err() {
            fault @ Fault::Trap(_) => {
                assert_eq!((fault.class(), fault.limit()), (Class::Trap, None));
                let text = fault.to_string();
                assert!(!text.contains(char::is_control), "{text}");
                assert!(text.len() < 3_000, "{text}");
                text
            }
            other => panic!("{other}"),
        }
    };
    (text(bytes), text(&stripped(bytes)))
}

#[test]
fn a_panic_says_its_text_and_where() {
    let (named, bare) = trap(&wasm("faulty"), "panic:no\nway\x1b[31m");
    assert!(
        named.starts_with("it trapped: it panicked at faulty/src/lib.rs:"),
        "{named}"
    );
    assert!(named.contains(" no way [31m (in "), "{named}");
    assert!(named.contains("faulty::transform"), "{named}");
    assert!(
        bare.starts_with("it trapped: it panicked at faulty/src/lib.rs:"),
        "{bare}"
    );
    assert!(bare.ends_with(" no way [31m"), "{bare}");
    let (named, bare) = trap(&wasm("faulty"), &format!("panic:{}", "ü".repeat(5_000)));
    assert!(named.contains("üüü"), "{named}");
    assert!(bare.contains("üüü"), "{bare}");
}

#[test]
fn traps_say_what_and_where() {
    let (named, bare) = trap(&wasm("faulty"), "trap");
    assert!(
        named.starts_with("it trapped: wasm trap: wasm `unreachable` instruction executed (in "),
        "{named}"
    );
    assert!(named.contains("faulty::transform"), "{named}");
    assert_eq!(
        bare,
        "it trapped: wasm trap: wasm `unreachable` instruction executed"
    );

    let (named, bare) = trap(&wasm("faulty"), "stack");
    for text in [&named, &bare] {
        assert!(
            text.starts_with("it trapped: wasm trap: out of bounds memory access, after so many nested calls probably since the stack in its memory is used up"),
            "{text}"
        );
    }
    assert!(named.contains("(in faulty::recurse"), "{named}");
    assert_eq!(named.matches("recurse").count(), 1, "{named}");

    // The innermost is inlined nowhere: no Rust code stands here.
    let check = |code: &str, expected: &str| {
        let hand = Hand {
            fields: &format!("(func $at_fault {code})"),
            transform: "(call $at_fault)",
            ..Hand::default()
        };
        let (named, bare) = trap(&hand.wasm(), "");
        assert_eq!(
            named,
            format!("it trapped: wasm trap: {expected} (in at_fault < transform)")
        );
        assert_eq!(bare, format!("it trapped: wasm trap: {expected}"));
    };
    check("unreachable", "wasm `unreachable` instruction executed");
    check(
        "(drop (i32.load (i32.const -4)))",
        "out of bounds memory access",
    );
    check(
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        "integer divide by zero",
    );
    check(
        "(drop (i32.trunc_f32_s (f32.const inf)))",
        "integer overflow",
    );
}

#[test]
fn what_a_module_calls_itself_stays_short_and_on_its_line() {
    let name = quoted(format!("line\n\x1b[31m{}", "x".repeat(10_000)).as_bytes());
    let hand = Hand {
        fields: &format!(r#"(func $at_fault (@name "{name}") unreachable)"#),
        transform: "(call $at_fault)",
        ..Hand::default()
    };
    let (named, _) = trap(&hand.wasm(), "");
    assert!(named.contains("(in line  [31mxxx"), "{named}");
    assert!(named.len() < 500, "{named}");
}

#[test]
fn limits_and_faults_are_counted() {
    let limits = Limits {
        deadline: Duration::from_millis(300),
        record_deadline: Duration::from_millis(50),
        ..DEFAULT
    };
    let versions = [Version {
        limits,
        ..version("faulty", "{}")
    }];
    let metrics = Metrics::default();
    let module = versions[0].module.clone();
    let mut chain = chain(versions);
    let counters = metrics.counters("p", &chain);
    let labels = ("pipeline", "p");
    let count = |name: &str, label: &str, value: &str| metrics.sum(name, &[labels, (label, value)]);
    for limit in Limit::ALL {
        let series = format!(
            "weir_limit_hits_total{{limit=\"{}\",pipeline=\"p\",transform=\"faulty\"}} 0",
            limit.name()
        );
        assert!(metrics.render().contains(&series), "{series}");
    }
    for (values, class, limit) in [
        (&["keep", "spin"][..], "deadline", "deadline"),
        (&["spin"], "deadline", "record_deadline"),
        (&["keep", "grow"], "memory", "memory"),
        (&["flood:20000"], "output", "max_records_per_input"),
        (&["panic"], "trap", "none"),
        (&["lie:take-index"], "output", "none"),
    ] {
        let before = count("weir_records_broken_total", "class", class);
        let fault = run(&module, values, &limits).unwrap_err();
        counters.limit_hit(0, &fault);
        counters.add(&Tally {
            broken: vec![(0, false, fault.class())],
            ..Tally::default()
        });
        assert_eq!(
            count("weir_records_broken_total", "class", class),
            before + 1
        );
        if limit != "none" {
            assert_eq!(count("weir_limit_hits_total", "limit", limit), 1, "{limit}");
        }
    }
    assert_eq!(metrics.sum("weir_limit_hits_total", &[labels]), 4);
    assert_eq!(metrics.sum("weir_records_broken_total", &[labels]), 6);

    let keys = chain.id_keys(CLUSTER, &[0; 16], "in", 0);
    let mut lines = 0;
    let processed = chain.run(&batch(["log:150"]), 0, &keys, &mut |_, _, _| lines += 1);
    counters.add(&Tally {
        counts: processed.unwrap().counts,
        ..Tally::default()
    });
    assert_eq!(lines, 101);
    assert_eq!(
        count("weir_log_lines_dropped_total", "transform", "faulty"),
        50
    );
}

#[test]
fn a_chain_goes_on_after_each_fault() {
    let mut chain = chain([Version {
        limits: NO_TIME,
        ..version("faulty", "{}")
    }]);
    let keys = chain.id_keys(CLUSTER, &[0; 16], "in", 0);
    let mut run = |values: &[&str]| {
        let batch = batch(values.iter().copied());
        let processed = chain.run(&batch, 0, &keys, &mut |_, _, _| {});
        processed.map(|it| texts(&it.records(&batch).values))
    };
    for verb in [
        "spin",
        "grow",
        "stack",
        "panic",
        "flood:20000",
        "big:9",
        "lie:take-index",
        "err",
    ] {
        let broken = broken(run(&["keep", verb, "keep"]).unwrap_err());
        assert_eq!(broken.offsets, (0, 2), "{verb}: {}", broken.fault);
        let after = run(&["keep", "drop", "count"]).unwrap();
        assert_eq!(
            after,
            ["keep", "1"],
            "after {verb}, a new guest's first batch"
        );
    }
}
