//! One process of Kafka's.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::properties::Properties;
use super::{jars, text, with_path};
use crate::wait::eventually;
use crate::watchdog::Watchdog;

const LOG4J2: &str = include_str!("../../kafka/log4j2.properties");

/// The line that Kafka 4.3 writes once it serves clients.
const STARTED: &str = "Kafka Server started";

/// It takes about 5 s on an idle machine; the rest is for busy ones.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// A broker hands its partitions over before it ends.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// A process of Kafka's. It ends with this value, or with this process, however that ends.
#[derive(Debug)]
pub(super) struct Node {
    child: Child,
    watchdog: Option<Watchdog>,
    log: PathBuf,
    /// Where its own lines begin, behind those of the process that ran in the folder before it.
    log_start: u64,
}

/// What a process needs, to be started again too.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// Where its configuration, data and log go.
    pub(super) folder: PathBuf,
    pub(super) properties: Properties,
    /// Java's, the size of its heap among them.
    pub(super) flags: &'static [&'static str],
    /// Whether the folder goes when this process ends without having dropped the node.
    pub(super) remove_folder: bool,
}

impl Setup {
    /// Writes the configuration, and makes the storage if there's none yet.
    pub(super) fn write(&self) -> Result<(), Error> {
        let folder = &self.folder;
        let data = folder.join("data");
        fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        fs::write(self.file(), self.properties.text(text(&data)?))?;
        fs::write(self.log4j2(), LOG4J2)?;
        if data.join("meta.properties").exists() {
            return Ok(());
        }
        // Any id will do, but it must be 16 bytes in Base64.
        let output = self
            .java(
                "kafka.tools.StorageTool",
                &["-Xmx256m", "-XX:TieredStopAtLevel=1"],
            )?
            .args(["format", "-t", "d2Vpci10ZXN0LWthZmthAA", "-c"])
            .arg(self.file())
            .output()?;
        ensure!(
            output.status.success(),
            "can't format Kafka's storage in {}: {}{}",
            data.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// The file that its processes log to, one after another.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    fn file(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn log4j2(&self) -> PathBuf {
        self.folder.join("log4j2.properties")
    }

    fn java(&self, class: &str, flags: &[&str]) -> Result<Command, Error> {
        let mut command = Command::new(jars::java()?);
        command
            .args(["-Xms64m", "-XX:+UseSerialGC"])
            .args(flags)
            .arg(with_path("-Dlog4j2.configurationFile=", &self.log4j2()))
            .arg("-cp")
            .arg(jars::class_path()?)
            .arg(class)
            .stdin(Stdio::null())
            .current_dir(&self.folder);
        Ok(command)
    }
}

impl Node {
    /// Starts the process; see [`wait_started`](Node::wait_started).
    pub(super) fn start(setup: &Setup) -> Result<Node, Error> {
        let log = setup.log();
        let output = OpenOptions::new().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("can't write {}", log.display()))?;
        let log_start = output.metadata()?.len();
        let child = setup
            .java("kafka.Kafka", setup.flags)?
            .arg(setup.file())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("can't start the broker")?;
        let watchdog = Watchdog::over(&child, setup.remove_folder.then_some(&setup.folder))?;
        Ok(Node {
            child,
            watchdog: Some(watchdog),
            log,
            log_start,
        })
    }

    /// Waits until it serves clients.
    pub(super) fn wait_started(&mut self) -> Result<(), Error> {
        let started = eventually("Kafka's start", START_DEADLINE, || {
            if self.own_log()?.contains(STARTED) {
                return Ok(Some(()));
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the broker ended ({status})");
            }
            Ok(None)
        });
        started.with_context(|| {
            let log = self.own_log().unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            format!("Kafka didn't start; its log ends:\n{tail}")
        })
    }

    /// The file that it logs to.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Kills it as a crash would, and waits until it is gone.
    pub(super) fn kill(&mut self) -> Result<(), Error> {
        self.child.kill().context("can't kill the broker")?;
        self.wait().map(|_| ())
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        self.signal(Signal::TERM)?;
        eventually("the broker's end", STOP_DEADLINE, || {
            Ok(self.child.try_wait()?.map(|_| ()))
        })
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), Error> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("can't send the broker {signal:?}"))
    }

    /// Waits until it ends by itself, or by a signal from the terminal.
    pub(super) fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().context("can't wait for the broker")
    }

    /// How long its log is, in bytes.
    pub(super) fn log_length(&self) -> Result<u64, Error> {
        Ok(fs::metadata(&self.log)?.len())
    }

    fn own_log(&self) -> Result<String, Error> {
        self.log_from(self.log_start)
    }

    /// Its log from a byte on.
    pub(super) fn log_from(&self, start: u64) -> Result<String, Error> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
    }
}
