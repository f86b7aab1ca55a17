//! Modules that load, modules that don't, and what a broken guest does to its host: nothing.

use std::time::Duration;

use weir::guest::{Compiler, Fault, Guest, Host, Limits, Module, Output, Shape, imports};

use crate::util::{batch, host, module, setup, texts, wasm};

const KEY: [u8; 32] = [7; 32];
const DEADLINE: Duration = Duration::from_secs(1);

fn refused(bytes: &[u8]) -> String {
    match Module::load(host(), bytes, &Limits::default()) {
        Ok(module) => panic!("{module:?} was taken"),
        Err(why) => format!("{why:#}"),
    }
}

/// What `faulty` makes of these verbs under these limits.
fn faulty(verbs: &[&str], limits: Limits) -> Result<Output, Fault> {
    let mut guest = Guest::new(&module("faulty"), &setup("{}"), &limits).unwrap();
    let result = guest.transform(&batch(verbs.iter().copied()), &KEY, limits.deadline);
    assert_eq!(
        guest.is_live(),
        result.is_ok(),
        "a guest lives until its first fault"
    );
    if result.is_err() {
        let again = guest
            .transform(&batch(["keep"]), &KEY, limits.deadline)
            .unwrap_err();
        assert_eq!(
            again,
            Fault::Error("it broke before and can't be called again".into())
        );
    }
    result
}

fn fault(verb: &str) -> Fault {
    faulty(&["keep", verb, "keep"], Limits::default()).unwrap_err()
}

#[test]
fn all_our_guests_load_and_import_nothing() {
    for name in [
        "add-uuid",
        "format-timestamp",
        "filter",
        "route",
        "redact",
        "faulty",
    ] {
        let bytes = wasm(name);
        assert_eq!(
            imports(&bytes).unwrap(),
            (Shape::CoreModule, Vec::new()),
            "{name}"
        );
        let module = Module::load(host(), &bytes, &Limits::default()).unwrap();
        assert_eq!(module.description().name, name);
        assert!(
            !module.description().summary.is_empty(),
            "{name} says what it does"
        );
        let schema: serde_json::Value =
            serde_json::from_str(&module.description().config_schema).unwrap();
        assert!(schema.is_object(), "{name} has a schema");
    }
}

#[test]
fn what_is_not_a_transform_is_refused_with_the_reason() {
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        let why = refused(bytes);
        assert!(
            why.contains(expected),
            "{why:?} doesn't contain {expected:?}"
        );
    };
    check(b"not wasm", "it isn't a WebAssembly module");
    check(b"", "it isn't a WebAssembly module");
    check(b"(module)", "this is the text format");
    check(&wasm("filter")[..1000], "damaged WebAssembly module");
    check(
        &wat(
            r#"(module (import "wasi_snapshot_preview1" "clock_time_get" (func)) (import "env" "f" (func)))"#,
        ),
        "it imports wasi_snapshot_preview1::clock_time_get, env::f, and Weir offers no imports",
    );
    check(
        &wat(r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#),
        "it imports wasi:clocks/wall-clock@0.2.0",
    );
    check(&wat("(module)"), "weir-guest");
    check(
        &wat("(component)"),
        "it doesn't export weir:transform/guest@0.1.0",
    );
    check(
        &wat(r#"(component (instance $i) (export "weir:transform/guest@0.9.0" (instance $i)))"#),
        "it's built for weir:transform/guest@0.9.0, and this Weir speaks weir:transform/guest@0.1.0",
    );
    check(
        &wat(r#"(component (instance $i) (export "weir:transform/guest@0.1.0" (instance $i)))"#),
        "its weir:transform/guest@0.1.0 isn't the one that this Weir speaks",
    );
}

#[test]
fn a_config_that_a_guest_refuses_is_said_with_its_reason() {
    let why = |guest: &str, config: &str| {
        let refused = Guest::new(&module(guest), &setup(config), &Limits::default());
        format!("{:#}", refused.err().expect("refused"))
    };
    assert!(why("filter", r#"{"keep":"a +"}"#).starts_with("it refuses its config: "));
    assert!(why("add-uuid", r#"{"feild":"id"}"#).contains("feild"));
    assert!(why("faulty", r#"{"init":"refuse"}"#).starts_with("it refuses its config: "));
    assert!(
        why("faulty", r#"{"init":"panic"}"#)
            .starts_with("given its config, it trapped: it panicked at ")
    );
    let limits = Limits {
        deadline: Duration::from_millis(50),
        ..Limits::default()
    };
    let spinning = Guest::new(&module("faulty"), &setup(r#"{"init":"spin"}"#), &limits);
    let why = format!("{:#}", spinning.err().expect("refused"));
    assert!(
        why.contains("more CPU time for one call than the 50ms that `deadline` allows"),
        "{why}"
    );
}

#[test]
fn a_refusal_is_data() {
    let output = faulty(&["keep", "refuse", "drop", "keep"], Limits::default()).unwrap();
    assert_eq!(output.take, [0, 3]);
    assert_eq!(output.refused.len(), 1);
    assert_eq!(output.refused[0].0, 1);
    assert!(!output.refused[0].1.is_empty());
}

#[test]
fn an_error_is_a_fault_with_its_text() {
    assert!(matches!(fault("err"), Fault::Error(why) if !why.is_empty()));
}

/// What `faulty` returns for `lie:WHAT`, and what it's about.
const LIES: [(&str, &str); 30] = [
    ("take-decreases", "take: an index is below"),
    ("take-index", "take: index 3,"),
    ("too-few-values", "values: 2 values where there must be 3"),
    ("too-many-values", "values: 4 values where there must be 3"),
    ("too-many-keys", "keys: 4 values where there must be 3"),
    ("ends-decrease", "values: an end is below"),
    (
        "data-too-long",
        "values: the last value ends at byte 9 of 10",
    ),
    (
        "data-too-short",
        "values: the last value ends at byte 9 of 8",
    ),
    (
        "end-too-large",
        "values: the last value ends at byte 4294967295 of 9",
    ),
    ("nulls-too-short", "values: a null bitmap of 1 bytes"),
    ("nulls-too-long", "values: a null bitmap of 2 bytes"),
    (
        "null-bit-past-end",
        "values: the null bitmap has bits set past",
    ),
    ("null-with-bytes", "values: value 0 is null and has bytes"),
    ("header-counts", "headers.counts: 4 values"),
    (
        "header-sum",
        "headers.names: 3 values where there must be 4",
    ),
    (
        "header-sum-overflow",
        "headers.names: 3 values where there must be 4294967299",
    ),
    ("header-values", "headers.values: 4 values"),
    ("header-name-null", "headers.names: a name is null"),
    ("timestamps", "timestamps: 4 values"),
    ("timestamp-range", "timestamps: -2,"),
    ("outputs", "outputs: 4 values"),
    ("output-index", "outputs: index 1000,"),
    ("refused-and-taken", "record 1 is both refused and taken"),
    ("refused-twice", "refused.indexes: an index isn't above"),
    ("refused-index", "refused.indexes: index 3,"),
    ("reason-count", "refused.reasons: 0 values"),
    ("reason-utf8", "refused.reasons: text 0 isn't UTF-8"),
    ("reason-null", "refused.reasons: text 0 is null"),
    ("log-index", "logs.indexes: index 3,"),
    ("log-utf8", "logs.messages: text 0 isn't UTF-8"),
];

#[test]
fn every_lie_is_found_out_and_named() {
    for (lie, about) in LIES {
        match fault(&format!("lie:{lie}")) {
            Fault::Output(why) => assert!(why.starts_with(about), "{lie}: {why}"),
            other => panic!("{lie}: {other}"),
        }
    }
}

#[test]
fn a_warm_start_takes_the_compiled_code_and_a_damaged_one_is_compiled_anew() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("compiled");
    let child = Compiler::Child(env!("CARGO_BIN_EXE_weir").into());
    let nobody = Compiler::Child("/nonexistent/compiler".into());
    let bytes = wasm("add-uuid");
    let load = |compiler: &Compiler| {
        let host = Host::new(compiler.clone(), Some(cache.clone())).unwrap();
        Module::load(&host, &bytes, &Limits::default())
    };
    let cold = format!("{:#}", load(&nobody).unwrap_err());
    assert!(
        cold.contains("starting the compiling process /nonexistent/compiler"),
        "{cold}"
    );
    load(&child).unwrap();
    load(&nobody).expect("a warm start needs no compiler");

    let entry = std::fs::read_dir(&cache)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut code = std::fs::read(&entry).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::write(&entry, code).unwrap();
    assert!(load(&nobody).is_err(), "damaged code isn't loaded");
    load(&child).expect("it's compiled anew");
    load(&nobody).expect("and mended");
}

#[test]
fn a_cache_folder_open_to_others_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("compiled");
    std::fs::create_dir(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o755)).unwrap();
    let host = Host::new(
        Compiler::Child(env!("CARGO_BIN_EXE_weir").into()),
        Some(cache.clone()),
    )
    .unwrap();
    Module::load(&host, &wasm("add-uuid"), &Limits::default()).unwrap();
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);
}

#[test]
fn only_what_is_needed_crosses() {
    let needs = |guest: &str, config: &str| {
        let guest = Guest::new(&module(guest), &setup(config), &Limits::default()).unwrap();
        let needs = guest.needs();
        (
            needs.keys,
            needs.values,
            needs.headers,
            needs.timestamps,
            needs.positions,
        )
    };
    assert_eq!(
        needs("filter", r#"{"keep":"a == 1"}"#),
        (false, true, false, false, false)
    );
    assert_eq!(
        needs("filter", r#"{"keep":"record.partition == 1"}"#),
        (false, false, false, false, false)
    );
    assert_eq!(needs("add-uuid", "{}"), (false, true, false, false, true));
    let date = r#"{"from":"timestamp","rename":"event_time","to":"iso_date"}"#;
    assert_eq!(
        needs("format-timestamp", date),
        (false, true, false, false, false)
    );
}

#[test]
fn a_filter_returns_indexes_and_nothing_else() {
    let setup = setup(r#"{"keep":"a % 2 == 0"}"#);
    let mut guest = Guest::new(&module("filter"), &setup, &Limits::default()).unwrap();
    let output = guest
        .transform(&batch([r#"{"a":1}"#, r#"{"a":2}"#]), &KEY, DEADLINE)
        .unwrap();
    assert_eq!(
        output,
        Output {
            take: vec![1],
            ..Output::default()
        }
    );
}

#[test]
fn edits_keep_every_other_byte() {
    let setup = setup(r#"{"from":"t","to":"d"}"#);
    let mut guest = Guest::new(&module("format-timestamp"), &setup, &Limits::default()).unwrap();
    let input = "{ \"n\" : 1.10e+2 ,\t\"t\":0, \"x\":[1 ,2]}";
    let output = guest.transform(&batch([input]), &KEY, DEADLINE).unwrap();
    let out = &texts(&output.values.unwrap())[0];
    assert!(out.starts_with(input.strip_suffix('}').unwrap()), "{out}");
    assert!(out.contains("\"1970-01-01T00:00:00.000Z\""), "{out}");
}
