//! Where measurements are made: a broker, the programs, a folder; and programs under measurement.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Error, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use xtask::broker::{self, Broker};
use xtask::wait::eventually;
use xtask::watchdog::Watchdog;

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

    /// A config with the seed job (see the README) in a group of the output's name, and further lines of its pipeline.
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
            data = self.folder().join("weir-data"),
            bootstrap = self.bootstrap,
        )
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

pub(super) fn free_address() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

pub(super) fn text(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}
