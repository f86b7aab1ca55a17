//! A real Kafka broker in a process of its own: KRaft, one node, from Kafka's own jars.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, bail, ensure};

use crate::wait::eventually;
use crate::watchdog::Watchdog;

const POM: &str = include_str!("../kafka/pom.xml");
const LOG4J2: &str = include_str!("../kafka/log4j2.properties");

/// Kafka 4 needs it.
const JAVA_VERSION: u32 = 17;

/// The line that Kafka 4.3 writes once it serves clients.
const STARTED: &str = "Kafka Server started";

/// It takes about 5 s on an idle machine; the rest is for busy ones.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// A running broker. It ends with this value, or with this process, however that ends.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    watchdog: Option<Watchdog>,
    port: u16,
    log: PathBuf,
}

/// How to start a broker.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its configuration, data and log go. A folder that a broker ran in before is taken up again.
    pub folder: PathBuf,
    /// The port for clients on 127.0.0.1, or a free one.
    pub port: Option<u16>,
    /// Whether the folder goes when this process ends without having dropped the broker.
    pub remove_folder: bool,
}

impl Broker {
    /// Starts a broker and waits until it serves clients. The jars must be there (see [`download`]).
    pub fn start(options: &Options) -> Result<Broker, Error> {
        let java = java()?;
        let class_path = class_path()?;
        // A free port may be somebody else's by the time that the broker takes it.
        let tries = if options.port.is_some() { 1 } else { 3 };
        let mut attempt = 1;
        loop {
            match try_start(options, &java, &class_path) {
                Err(error)
                    if attempt < tries && format!("{error:#}").contains("already in use") =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// What clients put into `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file that the broker logs to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Kills the broker as a crash would, and waits until it is gone.
    pub fn kill(mut self) -> Result<(), Error> {
        self.child.kill().context("can't kill the broker")
    }

    /// Waits until the broker ends by itself, or by a signal from the terminal.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().context("can't wait for the broker")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
    }
}

/// The folder of Kafka's jars.
pub fn library() -> PathBuf {
    crate::root().join("target/kafka/lib")
}

/// Whether the jars of this version are all there.
pub fn is_downloaded() -> bool {
    fs::read_to_string(stamp()).is_ok_and(|pom| pom == POM)
}

/// Downloads Kafka's jars by Maven, unless they're there already, and returns their folder.
pub fn download() -> Result<PathBuf, Error> {
    let library = library();
    if is_downloaded() {
        return Ok(library);
    }
    let part = library.with_extension("part");
    let mut attempt = 1;
    loop {
        remove_folder(&part)?;
        let output = Command::new("mvn")
            .args(["--batch-mode", "--quiet", "--file"])
            .arg(crate::root().join("xtask/kafka/pom.xml"))
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(with_path("-DoutputDirectory=", &part))
            .stdin(Stdio::null())
            .output()
            .context("can't run `mvn`, which downloads Kafka's jars: apt-get install maven")?;
        if output.status.success() {
            break;
        }
        // Registries time out now and then.
        ensure!(
            attempt < 2,
            "can't download Kafka's jars by `mvn` ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        attempt += 1;
    }
    remove_folder(&library)?;
    fs::rename(&part, &library)
        .with_context(|| format!("can't move the jars to {}", library.display()))?;
    fs::write(stamp(), POM)?;
    Ok(library)
}

/// The Java to run, checked for its version.
pub fn java() -> Result<PathBuf, Error> {
    let java = match std::env::var_os("JAVA_HOME") {
        Some(home) if !home.is_empty() => Path::new(&home).join("bin/java"),
        _ => PathBuf::from("java"),
    };
    let install = "apt-get install openjdk-17-jre-headless";
    let output = Command::new(&java)
        .arg("-version")
        .output()
        .with_context(|| {
            format!(
                "can't run `{}`, which Kafka needs: {install}",
                java.display()
            )
        })?;
    let text = String::from_utf8_lossy(&output.stderr);
    let version = java_version(&text).with_context(|| {
        format!(
            "`{} -version` doesn't tell its version: {text}",
            java.display()
        )
    })?;
    ensure!(
        version >= JAVA_VERSION,
        "Kafka needs Java {JAVA_VERSION} or later, and `{}` is Java {version}: {install}",
        java.display()
    );
    Ok(java)
}

/// One of the command line tools in Kafka's jars, by its class, to be given its arguments.
pub fn tool(class: &str) -> Result<Command, Error> {
    let mut command = Command::new(java()?);
    command
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        // Without a configuration it logs errors only, and says on standard error that it has none.
        .arg("-Dlog4j2.StatusLogger.level=OFF")
        .arg("-cp")
        .arg(class_path()?)
        .arg(class)
        .stdin(Stdio::null());
    Ok(command)
}

fn try_start(options: &Options, java: &Path, class_path: &OsString) -> Result<Broker, Error> {
    let folder = &options.folder;
    let data = folder.join("data");
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let (port, controller_port) = ports(options.port)?;
    let properties = folder.join("server.properties");
    fs::write(
        &properties,
        server_properties(port, controller_port, &data)?,
    )?;
    let log4j2 = folder.join("log4j2.properties");
    fs::write(&log4j2, LOG4J2)?;
    let log = folder.join("broker.log");

    let command = |class: &str, flags: &[&str]| {
        let mut command = Command::new(java);
        command
            .args(flags)
            .arg(with_path("-Dlog4j2.configurationFile=", &log4j2))
            .arg("-cp")
            .arg(class_path)
            .arg(class)
            .stdin(Stdio::null())
            .current_dir(folder);
        command
    };

    if !data.join("meta.properties").exists() {
        // Any id will do, but it must be 16 bytes in Base64.
        let output = command(
            "kafka.tools.StorageTool",
            &["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"],
        )
        .args(["format", "-t", "d2Vpci10ZXN0LWthZmthAA", "-c"])
        .arg(&properties)
        .output()?;
        ensure!(
            output.status.success(),
            "can't format Kafka's storage in {}: {}{}",
            data.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    let output = File::create(&log).with_context(|| format!("can't write {}", log.display()))?;
    let child = command(
        "kafka.Kafka",
        // A small heap: the tests move megabytes, not gigabytes.
        &["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC"],
    )
    .arg(&properties)
    .stdout(output.try_clone()?)
    .stderr(output)
    .spawn()
    .context("can't start the broker")?;
    let watchdog = Watchdog::over(&child, options.remove_folder.then_some(folder))?;
    let mut broker = Broker {
        child,
        watchdog: Some(watchdog),
        port,
        log,
    };
    broker.wait_started()?;
    Ok(broker)
}

impl Broker {
    fn wait_started(&mut self) -> Result<(), Error> {
        let Broker { child, log, .. } = self;
        eventually("Kafka's start", START_DEADLINE, || {
            if fs::read_to_string(&*log)?.contains(STARTED) {
                return Ok(Some(()));
            }
            if let Some(status) = child.try_wait()? {
                bail!("the broker ended ({status})");
            }
            Ok(None)
        })
        .with_context(|| format!("Kafka didn't start; its log ends:\n{}", tail(log)))
    }
}

/// Settings for one node: internal topics without replicas, small buffers, no waiting for more members. Topics aren't
/// made by mistyping them, and records with old timestamps stay.
fn server_properties(port: u16, controller_port: u16, data: &Path) -> Result<String, Error> {
    let data = data
        .to_str()
        .context("the broker's folder must have a name in UTF-8")?;
    Ok(format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=4194304
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"
    ))
}

/// The client's port and another free one for the controller.
fn ports(port: Option<u16>) -> Result<(u16, u16), Error> {
    let client = TcpListener::bind(("127.0.0.1", port.unwrap_or(0)))
        .with_context(|| format!("port {} is already in use", port.unwrap_or(0)))?;
    let controller = TcpListener::bind(("127.0.0.1", 0))?;
    Ok((client.local_addr()?.port(), controller.local_addr()?.port()))
}

fn class_path() -> Result<OsString, Error> {
    ensure!(
        is_downloaded(),
        "Kafka's jars are not in {}: run `cargo xtask kafka`, or set WEIR_TEST_BOOTSTRAP to a broker that runs",
        library().display()
    );
    Ok(library().join("*").into_os_string())
}

/// Says which jars are there: a copy of the file that they were downloaded by.
fn stamp() -> PathBuf {
    library().join("pom.xml")
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn with_path(flag: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(flag);
    argument.push(path);
    argument
}

/// The first number in `openjdk version "17.0.15" 2025-04-15`.
fn java_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version \"")?;
    let digits = version.find(|c: char| !c.is_ascii_digit())?;
    version[..digits].parse().ok()
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_java() {
        let check = |text, expected| assert_eq!(java_version(text), expected);
        check("openjdk version \"17.0.15\" 2025-04-15\nmore", Some(17));
        check("openjdk version \"25\" 2025-09-16", Some(25));
        check("java version \"1.8.0_392\"", Some(1));
        check("command not found", None);
    }
}
