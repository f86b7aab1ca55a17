//! A real InfluxDB 1.x, `influxd` from Debian's package `influxdb`.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;
use xtask::broker::port;
use xtask::http;

use crate::daemon::Daemon;
use crate::{Scratch, form, must};

/// A running InfluxDB without databases. Each test starts its own; it ends with this value.
#[derive(Debug)]
pub struct Influx {
    /// `None` between [`stop`](Influx::stop) and [`start_again`](Influx::start_again).
    daemon: Option<Daemon>,
    address: SocketAddr,
    folder: PathBuf,
    /// User and password, if it asks for them.
    login: Option<(String, String)>,
}

impl Influx {
    /// Starts one that lets everybody in, with a folder of its own in the scratch folder.
    #[track_caller]
    pub fn start(scratch: &Scratch) -> Influx {
        Influx::launch(scratch, None)
    }

    /// Starts one that asks for a user and password, and knows this one alone, who may do everything. InfluxDB 1.6 takes
    /// them as Basic authentication or as `u` and `p` of the URL; `Authorization: Token` came with 1.8.
    #[track_caller]
    pub fn start_with_login(scratch: &Scratch, user: &str, password: &str) -> Influx {
        let influx = Influx::launch(scratch, Some((user.into(), password.into())));
        // The first user is the one thing that can be made without being one.
        let quoted = password.replace('\'', "\\'");
        influx.ask(
            "",
            &format!("CREATE USER \"{user}\" WITH PASSWORD '{quoted}' WITH ALL PRIVILEGES"),
        );
        influx
    }

    #[track_caller]
    fn launch(scratch: &Scratch, login: Option<(String, String)>) -> Influx {
        let port = must(port::free(1))[0];
        let folder = scratch.path().join(format!("influxdb-{port}"));
        must(std::fs::create_dir(&folder));
        let mut influx = Influx {
            daemon: None,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            folder,
            login,
        };
        let config = influx.config();
        must(std::fs::write(influx.config_file(), config));
        influx.start_again();
        influx
    }

    fn config(&self) -> String {
        let folder = |name: &str| self.folder.join(name);
        let (meta, data, wal) = (folder("meta"), folder("data"), folder("wal"));
        let (address, login) = (self.address, self.login.is_some());
        // The first address is that of the service for backups, which nobody asks here.
        format!(
            "reporting-disabled = true\n\
             bind-address = \"127.0.0.1:0\"\n\
             [meta]\n\
             dir = {meta:?}\n\
             [data]\n\
             dir = {data:?}\n\
             wal-dir = {wal:?}\n\
             [http]\n\
             bind-address = \"{address}\"\n\
             auth-enabled = {login}\n\
             log-enabled = true\n\
             [monitor]\n\
             store-enabled = false\n\
             [subscriber]\n\
             enabled = false\n\
             [continuous_queries]\n\
             enabled = false\n"
        )
    }

    fn config_file(&self) -> PathBuf {
        self.folder.join("influxdb.conf")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `[influxdb]` takes as `url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it logged since it was last started, a line for each request among it.
    #[track_caller]
    pub fn log(&self) -> String {
        self.daemon().log()
    }

    /// Makes a database.
    #[track_caller]
    pub fn create(&self, database: &str) {
        self.ask("", &format!("CREATE DATABASE \"{database}\""));
    }

    /// Asks in InfluxQL, with times in milliseconds: the `results` of the answer, one for each statement.
    ///
    /// # Panics
    /// If it doesn't answer, or with an error.
    #[track_caller]
    pub fn ask(&self, database: &str, query: &str) -> Vec<Value> {
        match self.try_ask(database, query) {
            Ok(results) => results,
            Err(error) => panic!("InfluxDB on {query}: {error}"),
        }
    }

    /// As [`ask`](Influx::ask), with the error that InfluxDB answers with.
    #[track_caller]
    pub fn try_ask(&self, database: &str, query: &str) -> Result<Vec<Value>, String> {
        let path = self.path("/query", &[("db", database), ("epoch", "ms")]);
        let answer = must(form::post(self.address, &path, &[("q", query)]));
        let body: Value = serde_json::from_str(&answer.body)
            .map_err(|_| format!("{}: {}", answer.status, answer.body))?;
        let none = Vec::new();
        let results = body["results"].as_array().unwrap_or(&none);
        let mut errors = results
            .iter()
            .map(|it| &it["error"])
            .chain([&body["error"]]);
        if let Some(error) = errors.find(|it| !it.is_null()) {
            return Err(format!("{}: {error}", answer.status));
        }
        Ok(results.clone())
    }

    /// The rows of all series that answer one statement, without their tags.
    #[track_caller]
    pub fn rows(&self, database: &str, query: &str) -> Vec<Vec<Value>> {
        let results = self.ask(database, query);
        let series = results.iter().filter_map(|it| it["series"].as_array());
        let rows = series.flatten().filter_map(|it| it["values"].as_array());
        rows.flatten()
            .filter_map(|row| row.as_array().cloned())
            .collect()
    }

    /// The sum over all series of their last values of a field, for the points with these tags; `None` if there's no
    /// point. What a counter says in all.
    #[track_caller]
    pub fn last_sum(
        &self,
        database: &str,
        measurement: &str,
        field: &str,
        tags: &[(&str, &str)],
    ) -> Option<f64> {
        let mut query = format!("SELECT last(\"{field}\") FROM \"{measurement}\"");
        for (n, (tag, value)) in tags.iter().enumerate() {
            let word = if n == 0 { "WHERE" } else { "AND" };
            query += &format!(" {word} \"{tag}\" = '{value}'");
        }
        query += " GROUP BY *";
        let rows = self.rows(database, &query);
        let values = rows.iter().filter_map(|row| row.get(1)?.as_f64());
        values.reduce(|sum, value| sum + value)
    }

    /// Writes line protocol with times in milliseconds, as Weir does.
    ///
    /// # Panics
    /// If it doesn't take it.
    #[track_caller]
    pub fn write(&self, database: &str, lines: &str) {
        let path = self.path("/write", &[("db", database), ("precision", "ms")]);
        let answer = http::request(self.address, "POST", &path, &[], lines.as_bytes());
        let answer = must(answer);
        assert_eq!(answer.status, 204, "{}", answer.body);
    }

    /// The login counts in the URL alone, not among a form's fields.
    fn path(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let mut fields = fields.to_vec();
        if let Some((user, password)) = &self.login {
            fields.extend([("u", user.as_str()), ("p", password.as_str())]);
        }
        format!("{path}?{}", form::encode(&fields))
    }

    /// Ends it (SIGTERM) and waits until it's gone. Its data stay.
    #[track_caller]
    pub fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(Signal::TERM);
            daemon.wait_end();
        }
    }

    /// Starts it anew at the same address, with the data that it had.
    #[track_caller]
    pub fn start_again(&mut self) {
        let arguments = ["run".into(), "-config".into(), self.config_file()];
        let log = self.folder.join("influxd.log");
        let mut daemon = Daemon::start("influxd", "influxdb", arguments, log);
        let address = self.address;
        daemon.wait("an answer", |_| {
            let answer = http::get(address, "/ping").ok()?;
            (answer.status == 204).then_some(())
        });
        self.daemon = Some(daemon);
    }

    /// Has it stand still: connections are taken and nothing is answered.
    #[track_caller]
    pub fn pause(&self) {
        self.daemon().signal(Signal::STOP);
    }

    /// Has it go on after [`pause`](Influx::pause).
    #[track_caller]
    pub fn resume(&self) {
        self.daemon().signal(Signal::CONT);
    }

    #[track_caller]
    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }
}
