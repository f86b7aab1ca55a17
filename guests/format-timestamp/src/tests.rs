use super::*;
use weir_guest::testing::{Harness, Input};

const BTC: &str =
    r#"{"stock_name":"BTC-USD","stock_value":37812.759521484375,"timestamp":1634221557011}"#;

fn harness(config: &str) -> Harness<FormatTimestamp> {
    Harness::new(config).unwrap()
}

/// One value in, one value out.
fn check(config: &str, value: &str, expected: &str) {
    let outcome = harness(config).run_one(Input::value(value));
    assert_eq!(outcome.refused, [], "{config} {value}");
    assert_eq!(outcome.values(), [expected], "{config}");
}

/// One value in, a refusal out.
fn check_refused(config: &str, value: &str, expected: &str) {
    let outcome = harness(config).run_one(Input::value(value));
    assert_eq!(outcome.refusal(), expected, "{config} {value}");
}

fn check_config(config: &str, expected: &str) {
    let error = Harness::<FormatTimestamp>::new(config)
        .err()
        .unwrap_or_default();
    assert!(error.contains(expected), "{config}: {error:?}");
}

const SEED: &str = r#"{"from":"timestamp","rename":"event_time","to":"iso_date"}"#;

#[test]
fn the_seed_job_renames_the_time_and_adds_the_date() {
    check(
        SEED,
        BTC,
        r#"{"stock_name":"BTC-USD","stock_value":37812.759521484375,"event_time":1634221557011,"iso_date":"2021-10-14T14:25:57.011Z"}"#,
    );
}

#[test]
fn only_what_it_reads_is_asked_for() {
    assert_eq!(harness(SEED).needs(), Needs::VALUES);
    let needs = harness(r#"{"from":{"record":"timestamp"},"to":"d"}"#).needs();
    assert_eq!(needs, Needs::VALUES | Needs::TIMESTAMPS);
}

#[test]
fn records_of_a_batch_do_not_disturb_each_other() {
    let mut harness = self::harness(r#"{"from":"t","to":"d"}"#);
    let outcome = harness.run(&[
        Input::value(r#"{"t":1634221557011}"#),
        Input::value(r#"{"t":null}"#),
        Input::value(r#"{"t":0}"#),
        Input::tombstone(),
        Input::value(r#"{"t":1e20}"#),
        Input::value(r#"{"t":1634221557012}"#),
    ]);
    assert_eq!(
        outcome.values(),
        [
            r#"{"t":1634221557011,"d":"2021-10-14T14:25:57.011Z"}"#,
            r#"{"t":0,"d":"1970-01-01T00:00:00.000Z"}"#,
            "null",
            r#"{"t":1634221557012,"d":"2021-10-14T14:25:57.012Z"}"#,
        ]
    );
    let refused: Vec<usize> = outcome.refused.iter().map(|&(index, _)| index).collect();
    assert_eq!(refused, [1, 4]);
    assert_eq!(outcome.written, Needs::VALUES);
}

#[test]
fn dates_by_pattern_do_not_run_together() {
    let mut harness = self::harness(r#"{"from":"t","to":"t","format":"%F"}"#);
    let outcome = harness.run(&[
        Input::value(r#"{"t":0}"#),
        Input::value(r#"{"t":1e15}"#),
        Input::value(r#"{"t":86400000}"#),
    ]);
    assert_eq!(
        outcome.values(),
        [r#"{"t":"1970-01-01"}"#, r#"{"t":"1970-01-02"}"#]
    );
    assert_eq!(outcome.refused.len(), 1);
}

#[test]
fn units_precisions_and_zones_are_as_set() {
    check(
        r#"{"from":"t","to":"d","unit":"s"}"#,
        r#"{"t":1634221557}"#,
        r#"{"t":1634221557,"d":"2021-10-14T14:25:57Z"}"#,
    );
    check(
        r#"{"from":"t","to":"d","unit":"s","precision":"ms"}"#,
        r#"{"t":1634221557.011}"#,
        r#"{"t":1634221557.011,"d":"2021-10-14T14:25:57.011Z"}"#,
    );
    check(
        r#"{"from":"t","to":"d","unit":"us"}"#,
        r#"{"t":1634221557011022}"#,
        r#"{"t":1634221557011022,"d":"2021-10-14T14:25:57.011022Z"}"#,
    );
    check(
        r#"{"from":"t","to":"d","unit":"ns","zone":"+02:00"}"#,
        r#"{"t":1634221557011022033}"#,
        r#"{"t":1634221557011022033,"d":"2021-10-14T16:25:57.011022033+02:00"}"#,
    );
    check(
        r#"{"from":"t","to":"d","format":"%a, %d %b %Y \"%T\" %z","zone":"-09:30"}"#,
        r#"{"t":1634221557011}"#,
        r#"{"t":1634221557011,"d":"Thu, 14 Oct 2021 \"04:55:57\" -0930"}"#,
    );
}

#[test]
fn every_way_to_write_a_number_is_read_exactly_and_left_as_it_is() {
    let config = r#"{"from":"t","to":"d","precision":"us"}"#;
    for (number, date) in [
        ("1634221557011.5", "2021-10-14T14:25:57.011500Z"),
        ("1.634221557011e12", "2021-10-14T14:25:57.011000Z"),
        ("1634221557011000E-3", "2021-10-14T14:25:57.011000Z"),
        ("-1", "1969-12-31T23:59:59.999000Z"),
        ("-0.0001", "1969-12-31T23:59:59.999999Z"),
        ("-0", "1970-01-01T00:00:00.000000Z"),
    ] {
        let expected = format!(r#"{{"t":{number},"d":"{date}"}}"#);
        check(config, &format!(r#"{{"t":{number}}}"#), &expected);
    }
}

#[test]
fn strings_are_read_by_pattern() {
    check(
        r#"{"from":"t","to":"t","parse":"%Y-%m-%d %H:%M:%S","zone":"+02:00"}"#,
        r#"{"t":"2021-10-14 16:25:57","n":1}"#,
        r#"{"t":"2021-10-14T16:25:57.000+02:00","n":1}"#,
    );
    check(
        r#"{"from":"t","to":"d","parse":"rfc3339","precision":"s"}"#,
        r#"{"t":"2021-10-14T16:25:57.011\u002b02:00"}"#,
        r#"{"t":"2021-10-14T16:25:57.011\u002b02:00","d":"2021-10-14T14:25:57Z"}"#,
    );
    check(
        r#"{"from":"t","to":"d","parse":"%d.%m.%Y","format":"%s","drop":true}"#,
        r#"{"t":"14.10.2021"}"#,
        r#"{"d":"1634169600"}"#,
    );
}

#[test]
fn the_records_own_timestamp_is_a_source() {
    let config = r#"{"from":{"record":"timestamp"},"to":"meta.at","zone":"+02:00"}"#;
    let outcome = harness(config).run_one(Input::value(r#"{"n":1}"#).timestamp(1634221557011));
    assert_eq!(
        outcome.values(),
        [r#"{"n":1,"meta":{"at":"2021-10-14T16:25:57.011+02:00"}}"#]
    );
    let outcome = harness(config).run_one(Input::value("{}").no_timestamp());
    assert_eq!(outcome.refusal(), "the record has no timestamp");
    let outcome = harness(config).run_one(Input::value("{}").timestamp(i64::MAX));
    assert_eq!(
        outcome.refusal(),
        "the record's timestamp is 9223372036854775 seconds since 1970, which in its zone lies outside the years 1 to 9999"
    );
}

#[test]
fn a_source_is_kept_renamed_dropped_or_replaced_in_its_place() {
    let value = r#"{ "a": 1, "o": {"t": 0, "b": 2}, "c": 3 }"#;
    let date = "1970-01-01T00:00:00.000Z";
    let check =
        |config: &str, expected: &str| check(config, value, &expected.replace("DATE", date));
    check(
        r#"{"from":"o.t","to":"d"}"#,
        r#"{ "a": 1, "o": {"t": 0, "b": 2}, "c": 3, "d":"DATE" }"#,
    );
    check(
        r#"{"from":"o.t","to":"d","rename":"u"}"#,
        r#"{ "a": 1, "o": {"u": 0, "b": 2}, "c": 3, "d":"DATE" }"#,
    );
    check(
        r#"{"from":"o.t","to":"o.d","drop":true}"#,
        r#"{ "a": 1, "o": {"b": 2,"d":"DATE"}, "c": 3 }"#,
    );
    check(
        r#"{"from":"o.t","to":"o.t"}"#,
        r#"{ "a": 1, "o": {"t": "DATE", "b": 2}, "c": 3 }"#,
    );
    // The new name and the date's are the same: the date stands in the time's place under the new name.
    check(
        r#"{"from":"o.t","to":"o.u","rename":"u"}"#,
        r#"{ "a": 1, "o": {"u": "DATE", "b": 2}, "c": 3 }"#,
    );
}

#[test]
fn a_field_that_the_date_meets_is_replaced_kept_or_refused() {
    let value = r#"{"t":0,"d":"old","n":1}"#;
    check(
        r#"{"from":"t","to":"d"}"#,
        value,
        r#"{"t":0,"d":"1970-01-01T00:00:00.000Z","n":1}"#,
    );
    check(r#"{"from":"t","to":"d","existing":"keep"}"#, value, value);
    check(
        r#"{"from":"t","to":"d","existing":"keep","rename":"u"}"#,
        value,
        r#"{"u":0,"d":"old","n":1}"#,
    );
    check_refused(
        r#"{"from":"t","to":"d","existing":"refuse"}"#,
        value,
        "`d` exists already",
    );
    // The source itself isn't in the way.
    check(
        r#"{"from":"t","to":"t","existing":"refuse"}"#,
        r#"{"t":0}"#,
        r#"{"t":"1970-01-01T00:00:00.000Z"}"#,
    );
    check_refused(
        r#"{"from":"t","to":"d","rename":"n"}"#,
        value,
        "can't rename `t` to `n`: that field exists already",
    );
    check_refused(
        r#"{"from":"t","to":"n.d"}"#,
        value,
        "can't set `n.d`: `n` is a number, not an object",
    );
}

#[test]
fn a_missing_time_is_refused_kept_or_dropped() {
    for (value, what) in [(r#"{"n":1}"#, "missing"), (r#"{"t":null,"n":1}"#, "null")] {
        check_refused(
            r#"{"from":"t","to":"d","rename":"u"}"#,
            value,
            &format!("`t` is {what}: expected a number of milliseconds since 1970"),
        );
        check(
            r#"{"from":"t","to":"d","rename":"u","missing":"keep"}"#,
            value,
            value,
        );
        let outcome =
            harness(r#"{"from":"t","to":"d","missing":"drop"}"#).run_one(Input::value(value));
        assert!(outcome.values().is_empty() && outcome.refused.is_empty());
    }
    check_refused(
        r#"{"from":"t","to":"d","parse":"rfc3339"}"#,
        "{}",
        "`t` is missing: expected a string that tells a date",
    );
}

#[test]
fn a_tombstone_passes_is_dropped_or_refused() {
    let run = |tombstones: &str| {
        let config = format!(r#"{{"from":"t","to":"d"{tombstones}}}"#);
        harness(&config).run_one(Input::tombstone().key("k"))
    };
    assert_eq!(run("").values(), ["null"]);
    assert_eq!(run(r#","tombstones":"pass""#).values(), ["null"]);
    let dropped = run(r#","tombstones":"drop""#);
    assert!(dropped.values().is_empty() && dropped.refused.is_empty());
    let refused = run(r#","tombstones":"refuse""#);
    assert_eq!(refused.refusal(), "the value is null (a tombstone)");
}

#[test]
fn a_refusal_says_field_value_and_what_is_allowed() {
    let config = r#"{"from":"t","to":"d"}"#;
    for (value, expected) in [
        (
            r#""soon""#,
            "`t` is a string, \"soon\", not a number of milliseconds since 1970 (parse reads strings)",
        ),
        (
            "[1]",
            "`t` is an array, [1], not a number of milliseconds since 1970",
        ),
        (
            "true",
            "`t` is a boolean, true, not a number of milliseconds since 1970",
        ),
        (
            "1634221557011000000",
            "`t` is 1634221557011000000, which in UTC lies outside the years 1 to 9999",
        ),
        (
            "-62135596800001",
            "`t` is -62135596800001, which in UTC lies outside the years 1 to 9999",
        ),
        (
            "1e400",
            "`t` is 1e400, which as a number of milliseconds since 1970 lies outside the years 1 to 9999",
        ),
    ] {
        check_refused(config, &format!(r#"{{"t":{value}}}"#), expected);
    }
    let long = "\u{e9}".repeat(100);
    check_refused(
        r#"{"from":"t","to":"d","parse":"%F"}"#,
        &format!(r#"{{"t":"{long}"}}"#),
        &format!(
            "`t` is \"{}..., which parse doesn't read as a date: input contains invalid characters",
            "\u{e9}".repeat(63)
        ),
    );
    check_refused(
        r#"{"from":"t","to":"d","parse":"%F"}"#,
        r#"{"t":1}"#,
        "`t` is a number, 1, not a string that tells a date (without parse, numbers are read)",
    );
    check_refused(
        r#"{"from":"t","to":"d","parse":"%F"}"#,
        r#"{"t":"10000-01-01"}"#,
        "`t` is \"10000-01-01\", which parse doesn't read as a date: input contains invalid characters",
    );
    check_refused(
        r#"{"from":"t","to":"d","parse":"%F","format":"%F"}"#,
        r#"{"t":"0000-12-31"}"#,
        "`t` is \"0000-12-31\", which in UTC lies outside the years 1 to 9999",
    );
}

#[test]
fn what_is_no_json_object_is_refused() {
    let refusal = |value: &[u8]| {
        let outcome = harness(SEED).run_one(Input::value(value));
        outcome.refusal().to_owned()
    };
    assert!(refusal(b"{\"timestamp\":1634221557011").starts_with("malformed JSON at byte 26"));
    assert!(refusal(b"{\"timestamp\":01}").starts_with("malformed JSON at byte 1"));
    assert!(refusal(b"{\"a\":\"\xff\",\"timestamp\":1}").contains("invalid UTF-8"));
    assert_eq!(
        refusal(b"[1634221557011]"),
        "expected a JSON object, found an array"
    );
    assert!(refusal(b"").starts_with("malformed JSON at byte 0"));
}

#[test]
fn a_config_that_cannot_work_fails_before_the_first_record() {
    check_config(
        r#"{"from":"t","to":"d","format":"%Y-%Q"}"#,
        "character 4, \"%Q\"",
    );
    check_config(
        r#"{"from":"t","to":"d","rename":"a.b"}"#,
        "rename is a path, \"a.b\"",
    );
    check_config(
        r#"{"from":"t","to":"d","zone":"CET"}"#,
        "zone \"CET\" is unknown",
    );
    check_config(r#"{"from":"t","to":""}"#, "path");
    check_config(r#"{"from":"a..t","to":"d"}"#, "a..t");
    check_config(r#"{"form":"t","to":"d"}"#, "unknown field `form`");
}
