//! A real Kafka in processes of its own, from Kafka's own jars: one broker, or a cluster of several.

mod cluster;
mod jars;
mod node;
pub mod port;
mod properties;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Error, ensure};

pub use cluster::{Cluster, ClusterOptions};
pub use jars::{download, is_downloaded, java, library, tool};
use node::{Node, Setup};
use properties::Properties;

/// A running broker. It ends with this value, or with this process, however that ends.
#[derive(Debug)]
pub struct Broker {
    node: Node,
    port: u16,
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
    /// Whether it obeys access control lists. Without any, everyone may do everything.
    pub authorizer: bool,
}

impl Broker {
    /// Starts a broker and waits until it serves clients. The jars must be there (see [`download`]).
    pub fn start(options: &Options) -> Result<Broker, Error> {
        // A free port may be somebody else's by the time that the broker takes it.
        let tries = if options.port.is_some() { 1 } else { 3 };
        port::until_free(tries, || try_start(options))
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
        self.node.log()
    }

    /// Kills the broker as a crash would, and waits until it is gone.
    pub fn kill(mut self) -> Result<(), Error> {
        self.node.kill()
    }

    /// Waits until the broker ends by itself, or by a signal from the terminal.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.node.wait()
    }
}

fn try_start(options: &Options) -> Result<Broker, Error> {
    let port = match options.port {
        Some(port) => port::ensure_free(port)?,
        None => port::free(1)?[0],
    };
    let setup = Setup {
        folder: options.folder.clone(),
        properties: match options.authorizer {
            true => Properties::alone(port, port::free(1)?[0]).authorized(),
            false => Properties::alone(port, port::free(1)?[0]),
        },
        // A small heap: the tests move megabytes, not gigabytes.
        flags: &["-Xmx512m"],
        remove_folder: options.remove_folder,
    };
    setup.write()?;
    let mut node = Node::start(&setup)?;
    node.wait_started()?;
    Ok(Broker { node, port })
}

/// Makes a topic by Kafka's own tool, for those who know no Kafka client. Settings are `max.message.bytes=2097152` and the
/// like.
pub fn create_topic(
    bootstrap: &str,
    name: &str,
    partitions: u32,
    settings: &[&str],
) -> Result<(), Error> {
    let output = tool("org.apache.kafka.tools.TopicCommand")?
        .args(["--bootstrap-server", bootstrap])
        .args(["--create", "--topic", name])
        .args(["--partitions", &partitions.to_string()])
        .args(["--replication-factor", "1"])
        .args(settings.iter().flat_map(|it| ["--config", it]))
        .output()?;
    ensure!(
        output.status.success(),
        "can't create the topic {name}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn with_path(flag: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(flag);
    argument.push(path);
    argument
}

/// A path for a file of properties.
fn text(path: &Path) -> Result<&str, Error> {
    path.to_str()
        .context("the broker's folder must have a name in UTF-8")
}
