//! Where measurements are made: a broker, the programs, a folder; and programs under measurement.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use xtask::broker::{self, Broker};
use xtask::http;
use xtask::wait::eventually;
use xtask::watchdog::Watchdog;

use super::spread::number;
use crate::machine::{self, Need};
use crate::{cargo, guests};

/// A round takes seconds; this is for machines that do something else at the same time.
pub(super) const ROUND_DEADLINE: Duration = Duration::from_secs(900);

/// A broker, started for the measurement unless `WEIR_TEST_BOOTSTRAP` names one, and what's needed beside it.
pub(super) struct Site {
    /// Where the built programs are.
    pub(super) programs: PathBuf,
    /// Where Kafka is.
    pub(super) bootstrap: String,
    /// Before the folder, which it's in.
    broker: Option<Broker>,
    folder: TempDir,
}

/// Fails if the warm-up takes all records.
pub(super) fn check_warmup(warmup: u64, records: u64) -> Result<(), Error> {
    ensure!(
        warmup < records,
        "--warmup {warmup} leaves nothing of --records {records} to measure"
    );
    Ok(())
}

impl Site {
    /// Builds and starts what is needed.
    pub(super) fn prepare() -> Result<Site, Error> {
        machine::check(&[Need::Build, Need::Kafka])?;
        guests::build()?;
        let programs = cargo::build_programs()?;
        broker::download()?;
        let folder = tempfile::Builder::new().prefix("weir-bench-").tempdir()?;
        let started = match std::env::var("WEIR_TEST_BOOTSTRAP") {
            Ok(_) => None,
            Err(_) => Some(Broker::start(&broker::Options {
                folder: folder.path().join("kafka"),
                port: None,
                remove_folder: true,
                authorizer: false,
            })?),
        };
        let bootstrap = match &started {
            Some(broker) => broker.bootstrap(),
            None => std::env::var("WEIR_TEST_BOOTSTRAP")?,
        };
        Ok(Site {
            programs,
            bootstrap,
            broker: started,
            folder,
        })
    }

    /// A folder that is gone afterwards.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A name for a topic, of this measurement alone on a broker that is used for other things too.
    pub(super) fn name(&self, what: &str) -> String {
        match self.broker {
            Some(_) => what.to_string(),
            None => format!("{what}-bench-{}", std::process::id()),
        }
    }

    /// By Kafka's own tool: the tasks know no Kafka client.
    pub(super) fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        settings: &[&str],
    ) -> Result<(), Error> {
        broker::create_topic(&self.bootstrap, name, partitions, settings)
    }

    /// A config with the seed job (see the README) in a group of the output's name, with a data folder of its own, and
    /// further lines of its pipeline.
    pub(super) fn seed_job(&self, input: &str, output: &str, lines: &str) -> String {
        format!(
            "\
modules = {modules:?}
data = {data:?}

[kafka]
\"bootstrap.servers\" = {bootstrap:?}

[pipelines.stocks]
input = [{input:?}]
output = {output:?}
group = {output:?}
{lines}

[[pipelines.stocks.transforms]]
name = \"id\"
module = \"add-uuid.wasm\"
config = {{ field = \"id\" }}

[[pipelines.stocks.transforms]]
name = \"date\"
module = \"format-timestamp.wasm\"
config = {{ from = \"timestamp\", rename = \"event_time\", to = \"iso_date\" }}

[[pipelines.stocks.transforms]]
name = \"even\"
module = \"filter.wasm\"
config = {{ keep = \"event_time % 2 == 0\" }}
",
            modules = guests::folder(),
            data = self.folder().join(format!("{output}-data")),
            bootstrap = self.bootstrap,
        )
    }
}

/// A `weir run` under measurement.
pub(super) struct Weir {
    pub(super) running: Running,
    /// Where its endpoints are.
    pub(super) admin: SocketAddr,
}

impl Site {
    /// Starts `weir run` with a config of this text. `name` is that of its files in the folder.
    pub(super) fn run_weir(&self, name: &str, config: &str) -> Result<Weir, Error> {
        self.run_weir_with(name, config, &[])
    }

    /// As [`run_weir`](Site::run_weir), with further options.
    pub(super) fn run_weir_with(
        &self,
        name: &str,
        config: &str,
        options: &[&str],
    ) -> Result<Weir, Error> {
        let file = self.folder().join(format!("{name}.toml"));
        fs::write(&file, config)?;
        let admin = free_address()?;
        let mut command = Command::new(self.programs.join("weir"));
        command
            .arg("run")
            .arg("-c")
            .arg(&file)
            .args(["--listen", &admin.to_string()])
            .args(options);
        let running = self.start(&mut command, name)?;
        Ok(Weir { running, admin })
    }

    /// Makes a topic with so many records of `realstock`.
    pub(super) fn fill(&self, topic: &str, partitions: u32, records: u64) -> Result<(), Error> {
        self.create_topic(topic, partitions, &[])?;
        println!(
            "writing {} records to {topic} ({partitions} partitions) on {}",
            number(records as f64, 0),
            self.bootstrap
        );
        let count = records.to_string();
        let arguments = ["--rate", "max", "--count", &count];
        self.produce(topic, &arguments)?.wait_success()
    }

    /// Starts `weir produce realstock` into a topic, as fast as these arguments say.
    pub(super) fn produce(&self, topic: &str, arguments: &[&str]) -> Result<Running, Error> {
        let mut command = Command::new(self.programs.join("weir"));
        command
            .args(["produce", "realstock", "--bootstrap", &self.bootstrap])
            .args(["--topic", topic, "--seed", "1"])
            .args(arguments);
        self.start(&mut command, &format!("{topic}-produce"))
    }

    /// Starts a program that writes to a log.
    fn start(&self, command: &mut Command, name: &str) -> Result<Running, Error> {
        let log = self.folder().join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("can't run {}", command.get_program().display()))?;
        Running::new(child, log)
    }
}

impl Weir {
    /// Waits for what `/metrics` or `/proc` say, for as long as it runs.
    pub(super) fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&str, u32) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let Weir { running, admin } = self;
        let Running { child, log, .. } = running;
        eventually(what, ROUND_DEADLINE, || {
            if let Some(status) = child.try_wait()? {
                bail!("weir ended ({status})");
            }
            // It listens a moment after its start.
            match http::get(*admin, "/metrics") {
                Ok(response) => look(&response.body, child.id()),
                Err(_) => Ok(None),
            }
        })
        .with_context(|| format!("weir's log says:\n{}", text(log)))
    }
}

/// A program under measurement. It's killed when it is dropped, and when this process ends.
pub(super) struct Running {
    pub(super) child: Child,
    watchdog: Option<Watchdog>,
    pub(super) log: PathBuf,
}

impl Running {
    pub(super) fn new(child: Child, log: PathBuf) -> Result<Running, Error> {
        let watchdog = Watchdog::over(&child, None)?;
        Ok(Running {
            child,
            watchdog: Some(watchdog),
            log,
        })
    }

    pub(super) fn terminate(&mut self) -> Result<(), Error> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("can't stop weir")?;
        self.wait_success()
    }

    pub(super) fn wait_success(&mut self) -> Result<(), Error> {
        let Running { child, log, .. } = self;
        let status = eventually("its end", ROUND_DEADLINE, || Ok(child.try_wait()?))?;
        ensure!(
            status.success(),
            "it ended with {status}; its log says:\n{}",
            text(log)
        );
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
    }
}

fn free_address() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

fn text(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}
