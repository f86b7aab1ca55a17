//! A real Prometheus, and its `promtool`, from Debian's package `prometheus`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use xtask::http;

use crate::daemon::Daemon;
use crate::{Scratch, form, must};

/// How often it scrapes, in seconds.
const INTERVAL: u32 = 1;

/// A running Prometheus that scrapes as the job `weir`. Each test starts its own; it ends with this value.
#[derive(Debug)]
pub struct Prometheus {
    _daemon: Daemon,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts one that scrapes `/metrics` of each target every second.
    #[track_caller]
    pub fn start(scratch: &Scratch, targets: &[SocketAddr]) -> Prometheus {
        Prometheus::start_with(scratch, targets, None)
    }

    /// As [`start`](Prometheus::start), with a file of rules, which are looked at every second, too.
    #[track_caller]
    pub fn start_with(
        scratch: &Scratch,
        targets: &[SocketAddr],
        rules: Option<&Path>,
    ) -> Prometheus {
        let rules: Vec<&Path> = rules.into_iter().collect();
        Prometheus::launch(scratch, targets, &format!("rule_files: {rules:?}"), "")
    }

    /// As [`start`](Prometheus::start), for targets that speak TLS with a certificate of this authority (a PEM file).
    #[track_caller]
    pub fn start_secure(scratch: &Scratch, targets: &[SocketAddr], authority: &Path) -> Prometheus {
        let tls = format!("scheme: https, tls_config: {{ca_file: {authority:?}}}, ");
        Prometheus::launch(scratch, targets, "", &tls)
    }

    /// With this line of its config, and these fields of the job.
    #[track_caller]
    fn launch(scratch: &Scratch, targets: &[SocketAddr], line: &str, fields: &str) -> Prometheus {
        let folder = tempfile::Builder::new()
            .prefix("prometheus-")
            .tempdir_in(scratch.path());
        let folder = must(folder).keep();
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        // JSON is YAML.
        let config = format!(
            "global: {{scrape_interval: {INTERVAL}s, evaluation_interval: {INTERVAL}s}}\n\
             {line}\n\
             scrape_configs: [{{job_name: weir, {fields}static_configs: [{{targets: {targets:?}}}]}}]\n"
        );
        let file = folder.join("prometheus.yml");
        must(std::fs::write(&file, config));
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            "--web.listen-address=127.0.0.1:0".to_string(),
            "--log.format=logfmt".to_string(),
        ];
        let log = folder.join("prometheus.log");
        let mut daemon = Daemon::start("prometheus", "prometheus", arguments, log);
        let address = daemon.wait("the start", |log| {
            log.contains("Server is ready").then_some(())?;
            let line = log.lines().find(|it| it.contains("msg=\"Listening on\""))?;
            line.split("address=").nth(1)?.trim().parse().ok()
        });
        Prometheus {
            _daemon: daemon,
            address,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of an expression now: a list of series for most, each with `metric` and `value`.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Result<Value, String> {
        let data = self.post("/api/v1/query", &[("query", expression)])?;
        Ok(data["result"].clone())
    }

    /// An expression's values over time, each `step` seconds from `start` to `end`, in seconds since 1970.
    #[track_caller]
    pub fn query_range(
        &self,
        expression: &str,
        (start, end): (f64, f64),
        step: f64,
    ) -> Result<Value, String> {
        let (start, end, step) = (start.to_string(), end.to_string(), step.to_string());
        #[rustfmt::skip]
        let fields = [("query", expression), ("start", &start), ("end", &end), ("step", &step)];
        let data = self.post("/api/v1/query_range", &fields)?;
        Ok(data["result"].clone())
    }

    /// An expression's value as one number, `sum(weir_records_in_total)` for example; `None` if it has none.
    ///
    /// # Panics
    /// If it's wrong, or has more than one.
    #[track_caller]
    pub fn number(&self, expression: &str) -> Option<f64> {
        let result = match self.query(expression) {
            Ok(result) => result,
            Err(error) => panic!("Prometheus on {expression}: {error}"),
        };
        let series = result.as_array().cloned().unwrap_or_default();
        assert!(
            series.len() < 2,
            "{expression} has several values: {result}"
        );
        series.first()?["value"][1].as_str()?.parse().ok()
    }

    /// The values of a label among the series that a selector takes.
    #[track_caller]
    pub fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>, String> {
        let path = format!(
            "/api/v1/label/{label}/values?{}",
            form::encode(&[("match[]", selector)])
        );
        let values = data(must(http::get(self.address, &path)))?;
        let values = values.as_array().cloned().unwrap_or_default();
        let values = values.iter().filter_map(Value::as_str);
        Ok(values.map(str::to_string).collect())
    }

    #[track_caller]
    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value, String> {
        data(must(form::post(self.address, path, fields)))
    }
}

/// What an answer has, or its error.
fn data(answer: http::Response) -> Result<Value, String> {
    let body: Value = serde_json::from_str(&answer.body)
        .map_err(|_| format!("{}: {}", answer.status, answer.body))?;
    match body["status"].as_str() {
        Some("success") => Ok(body["data"].clone()),
        _ => Err(format!("{}: {}", answer.status, body["error"])),
    }
}

/// Runs `promtool` with something for its standard input, and returns whether it found all right, and what it said.
#[track_caller]
pub fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    // A file, so that neither side can wait for the other.
    let mut stdin = must(tempfile::tempfile());
    must(std::io::Write::write_all(&mut stdin, input.as_bytes()));
    must(std::io::Seek::rewind(&mut stdin));
    let finished = Command::new("promtool")
        .args(arguments)
        .current_dir(xtask::root())
        .stdin(Stdio::from(stdin))
        .output();
    let output = match finished {
        Ok(output) => output,
        Err(error) => {
            panic!("promtool: {error}; install it (on Debian) by\n  apt-get install prometheus")
        }
    };
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}
