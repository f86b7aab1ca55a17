//! Grafana's dashboards and Prometheus's rules, against a real Prometheus and a real InfluxDB: every query is answered, and with
//! what Weir counted.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use weir_tests::{Influx, MINUTE, Prometheus, Scratch, eventually, promtool};

use crate::compose::{Seed, read};

const DATABASE: &str = "weir";

#[track_caller]
fn dashboard(name: &str) -> Value {
    let path = format!("deploy/grafana/dashboards/{name}.json");
    serde_json::from_str(&read(&path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// A query of a dashboard, and where it stands.
struct Query {
    place: String,
    text: String,
    /// Whether it's asked for one moment, not for the time shown.
    instant: bool,
}

/// All of a dashboard's panels and annotations.
fn queries(dashboard: &Value, key: &str) -> Vec<Query> {
    let query = |place: String, it: &Value| {
        Some(Query {
            place,
            text: it[key].as_str()?.to_string(),
            instant: it["instant"] == true,
        })
    };
    let mut found = Vec::new();
    for panel in items(dashboard, "panels") {
        for target in items(panel, "targets") {
            let place = format!(
                "panel {} {} {}",
                panel["id"], panel["title"], target["refId"]
            );
            found.push(query(place.clone(), target).unwrap_or_else(|| panic!("{place}: no query")));
        }
    }
    for annotation in items(&dashboard["annotations"], "list") {
        // Grafana's own asks Grafana.
        if annotation["builtIn"] != 1 {
            let place = format!("annotation {}", annotation["name"]);
            found.push(
                query(place.clone(), annotation).unwrap_or_else(|| panic!("{place}: no query")),
            );
        }
    }
    found
}

/// The variables that are filled by a query: name and query.
fn variables(dashboard: &Value) -> Vec<(String, String)> {
    let list = items(&dashboard["templating"], "list").iter();
    let asked = list.filter(|it| it["type"] == "query");
    let text = |it: &Value| it.as_str().expect("a string").to_string();
    asked
        .map(|it| (text(&it["name"]), text(&it["query"]["query"])))
        .collect()
}

/// A query with Grafana's variables filled in.
#[track_caller]
fn fill(text: &str, values: &[(String, String)]) -> String {
    let mut text = text.to_string();
    for (name, value) in values {
        text = text.replace(&format!("${name}"), value);
    }
    let left = text.match_indices('$').map(|(at, _)| &text[at + 1..]);
    let left =
        left.filter(|it| it.starts_with(|c: char| c == '_' || c == '{' || c.is_alphabetic()));
    assert_eq!(left.count(), 0, "a variable is left in {text}");
    text
}

/// What Grafana fills in for several values, or for all.
fn alternatives(values: &[String]) -> String {
    format!("({})", values.join("|"))
}

/// Grafana's own, for Prometheus and InfluxDB: short, so that few seconds of a test are enough.
fn times() -> Vec<(String, String)> {
    [
        ("__rate_interval", "10s"),
        ("__range", "120s"),
        ("__interval", "10s"),
        ("timeFilter", "time >= now() - 10m"),
    ]
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .to_vec()
}

/// Whether there's a number in what Prometheus answers: not only NaN, the quotient of nothing.
fn has_number(result: &Value) -> bool {
    let series = result.as_array().map_or(&[][..], Vec::as_slice);
    let samples = series.iter().flat_map(|it| {
        let over_time = items(it, "values").iter();
        over_time.chain(it.get("value"))
    });
    let mut numbers = samples.filter_map(|it| it[1].as_str()?.parse::<f64>().ok());
    numbers.any(f64::is_finite)
}

/// The values of the variables of Prometheus's dashboard, all of them chosen.
fn known_to_prometheus(prometheus: &Prometheus) -> Result<Vec<(String, String)>, String> {
    let mut values = times();
    for (name, query) in variables(&dashboard("weir-prometheus")) {
        let query = fill(&query, &values);
        let inside = query
            .strip_prefix("label_values(")
            .and_then(|it| it.strip_suffix(')'));
        let (selector, label) = inside
            .and_then(|it| it.rsplit_once(", "))
            .expect("label_values");
        match prometheus.label_values(selector, label) {
            Ok(found) if !found.is_empty() => values.push((name, alternatives(&found))),
            other => return Err(format!("variable {name}: {other:?}")),
        }
    }
    Ok(values)
}

/// The same of InfluxDB's.
fn known_to_influx(influx: &Influx) -> Result<Vec<(String, String)>, String> {
    let mut values = times();
    for (name, query) in variables(&dashboard("weir-influxdb")) {
        let rows = influx.rows(DATABASE, &fill(&query, &values));
        let found = rows
            .iter()
            .filter_map(|it| Some(it.get(1)?.as_str()?.to_string()));
        let found: Vec<String> = found.collect();
        if found.is_empty() {
            return Err(format!("variable {name}: nothing"));
        }
        values.push((name, alternatives(&found)));
    }
    Ok(values)
}

/// The first query of a panel, filled in.
#[track_caller]
fn query_of(name: &str, title: &str, key: &str, values: &[(String, String)]) -> String {
    let dashboard = dashboard(name);
    let panel = items(&dashboard, "panels")
        .iter()
        .find(|it| it["title"] == title);
    let panel = panel.unwrap_or_else(|| panic!("{name} has no panel {title}"));
    fill(panel["targets"][0][key].as_str().expect("a query"), values)
}

/// What is wrong with the answers of Prometheus's dashboard.
fn prometheus_lacks(prometheus: &Prometheus) -> Vec<String> {
    let dashboard = dashboard("weir-prometheus");
    let mut lacks = Vec::new();
    let values = match known_to_prometheus(prometheus) {
        Ok(values) => values,
        Err(lack) => return vec![lack],
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it's after 1970");
    let now = now.as_secs_f64();
    for query in queries(&dashboard, "expr") {
        let text = fill(&query.text, &values);
        let answer = match query.instant {
            true => prometheus.query(&text),
            false => prometheus.query_range(&text, (now - 60.0, now), 1.0),
        };
        match answer {
            Ok(result) if has_number(&result) => {}
            Ok(result) => lacks.push(format!("{}: {text}: {result}", query.place)),
            Err(error) => lacks.push(format!("{}: {text}: {error}", query.place)),
        }
    }
    lacks
}

/// What is wrong with the answers of InfluxDB's dashboard.
fn influx_lacks(influx: &Influx) -> Vec<String> {
    let dashboard = dashboard("weir-influxdb");
    let mut lacks = Vec::new();
    let values = match known_to_influx(influx) {
        Ok(values) => values,
        Err(lack) => return vec![lack],
    };
    for query in queries(&dashboard, "query") {
        let text = fill(&query.text, &values);
        let has_number = |results: &[Value]| {
            let series = results.iter().flat_map(|it| items(it, "series"));
            let rows = series.flat_map(|it| items(it, "values"));
            let mut values = rows.flat_map(|row| row.as_array().expect("a row")[1..].iter());
            values.any(Value::is_number)
        };
        match influx.try_ask(DATABASE, &text) {
            Ok(results) if has_number(&results) => {}
            Ok(results) => lacks.push(format!("{}: {text}: {results:?}", query.place)),
            Err(error) => lacks.push(format!("{}: {text}: {error}", query.place)),
        }
    }
    lacks
}

/// Asks until nothing is lacking.
#[track_caller]
fn wait_complete(what: &str, lacks: impl Fn() -> Vec<String>) {
    let mut last = Vec::new();
    let done = xtask::wait::eventually(what, MINUTE, || {
        last = lacks();
        Ok(last.is_empty().then_some(()))
    });
    assert!(done.is_ok(), "{what}:\n{}", last.join("\n"));
}

#[test]
fn every_query_is_answered_and_with_what_weir_counted() {
    let scratch = Scratch::new();
    let mut seed = Seed::start(&scratch);
    let admin = seed.weir.admin().expect("it has said where");
    let rules = xtask::root().join("deploy/prometheus/weir.rules.yml");
    let prometheus = Prometheus::start_with(&scratch, &[admin], Some(&rules));
    let mut producing = seed.produce(&scratch, &[]);
    seed.weir
        .wait_until("records flow, some to dead letters", MINUTE, |weir| {
            let count = |name| weir.counter(name, &["pipeline=\"stocks\""]);
            let flow = count("weir_records_out_total") > 1_000;
            (flow && count("weir_records_dead_lettered_total") > 0).then_some(())
        });
    // An increase is seen only from what was there before.
    eventually("no swap in Prometheus", MINUTE, || {
        let swaps = prometheus.number("sum(weir_swaps_total{result=\"made\"})")?;
        (swaps == 0.0).then_some(())
    });
    eventually("no swap in InfluxDB", MINUTE, || {
        let made = [("result", "made")];
        let swaps = seed
            .influx
            .last_sum(DATABASE, "weir_swaps_total", "value", &made)?;
        (swaps == 0.0).then_some(())
    });
    let config = "{\"keep\":\"event_time % 3 == 0\"}";
    seed.ask(&scratch, &["swap", "stocks/even", "--config", config]);
    seed.ask(&scratch, &["rollback", "stocks/even"]);

    // While records flow: otherwise there'd be no rates.
    wait_complete("Prometheus's dashboard", || prometheus_lacks(&prometheus));
    wait_complete("InfluxDB's dashboard", || influx_lacks(&seed.influx));

    // And the rate is the true one.
    let rate = seed.rate();
    let is_near = |it: f64| (it - rate).abs() < rate / 10.0;
    let title = "Records in";
    let values = known_to_prometheus(&prometheus).unwrap();
    let query = query_of("weir-prometheus", title, "expr", &values);
    eventually(&format!("{rate} in {query}"), MINUTE, || {
        prometheus.number(&query).filter(|it| is_near(*it))
    });
    let values = known_to_influx(&seed.influx).unwrap();
    let query = query_of("weir-influxdb", title, "query", &values);
    eventually(&format!("{rate} in {query}"), MINUTE, || {
        let rows = seed.influx.rows(DATABASE, &query);
        // The last row is of a time that isn't over.
        let row = rows.get(rows.len().checked_sub(2)?)?;
        row.get(1)?.as_f64().filter(|it| is_near(*it))
    });

    producing.terminate();
    seed.wait_done();
    let records = seed.input.len() as f64;
    let count = |name: &str| seed.weir.counter(name, &["pipeline=\"stocks\""]) as f64;
    // Committed offsets are counted a moment later.
    eventually("all are counted", MINUTE, || {
        (count("weir_records_in_total") == records).then_some(())
    });
    for name in [
        "weir_records_in_total",
        "weir_records_out_total",
        "weir_records_dropped_total",
        "weir_records_refused_total",
        "weir_records_dead_lettered_total",
    ] {
        let counted = count(name);
        eventually(&format!("{counted} in Prometheus: {name}"), MINUTE, || {
            let scraped = prometheus.number(&format!("sum({name}{{pipeline=\"stocks\"}})"));
            (scraped == Some(counted)).then_some(())
        });
        eventually(&format!("{counted} in InfluxDB: {name}"), MINUTE, || {
            let stocks = [("pipeline", "stocks")];
            let written = seed.influx.last_sum(DATABASE, name, "value", &stocks);
            (written == Some(counted)).then_some(())
        });
    }
    assert_eq!(
        count("weir_records_out_total"),
        seed.output.consume().len() as f64
    );
    let letters = seed.dead_letters.consume().len() as f64;
    assert_eq!(count("weir_records_dead_lettered_total"), letters);
    // The rules are looked at, too, and on the real series.
    eventually("the rollback is told", MINUTE, || {
        let alerts = "count(ALERTS{alertname=\"WeirRollback\", alertstate=\"firing\"})";
        prometheus.number(alerts)
    });
    let alerts =
        prometheus.query("ALERTS{alertname=~\"WeirStalled|WeirInstanceDown|WeirPipelineStopped\"}");
    assert_eq!(alerts, Ok(Value::Array(Vec::new())));
    assert_eq!(seed.weir.terminate(), Some(0));
}

#[test]
fn dashboards_are_in_order() {
    for name in ["weir-prometheus", "weir-influxdb"] {
        let dashboard = dashboard(name);
        assert_eq!(dashboard["uid"], name);
        assert!(dashboard["schemaVersion"].as_u64() >= Some(39), "{name}");
        let mut ids = Vec::new();
        let mut taken = Vec::new();
        for panel in items(&dashboard, "panels") {
            let (id, title) = (panel["id"].as_u64().expect("an id"), &panel["title"]);
            assert!(!ids.contains(&id), "{name}: {id} {title}");
            ids.push(id);
            let side = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
            let (x, y, w, h) = (side("x"), side("y"), side("w"), side("h"));
            assert!(x + w <= 24, "{name}: {title}");
            for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(
                    !taken.contains(&place),
                    "{name}: {title} covers another one"
                );
                taken.push(place);
            }
            if panel["type"] != "row" {
                let told = panel["description"].as_str();
                assert!(told.is_some_and(|it| !it.is_empty()), "{name}: {title}");
            }
        }
    }
}

#[test]
fn rules_and_scrape_config_are_right() {
    for arguments in [
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["check", "rules", "deploy/prometheus/weir.rules.yml"],
        ["test", "rules", "deploy/prometheus/weir.rules.test.yml"],
    ] {
        let (right, said) = promtool(&arguments, "");
        assert!(right, "{arguments:?}: {said}");
    }
}
