//! Several brokers, any of which can crash and come back.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, anyhow, bail, ensure};
use rustix::process::Signal;

use super::node::{Node, Setup};
use super::properties::Properties;
use super::{jars, port};
use crate::wait::eventually;

/// A broker of a cluster is one of several on one machine, that move little and start often.
const BROKER_FLAGS: &[&str] = &["-Xmx384m", "-XX:TieredStopAtLevel=1"];

/// A controller's part is small.
const CONTROLLER_FLAGS: &[&str] = &["-Xmx192m", "-XX:TieredStopAtLevel=1"];

/// A running cluster. It ends with this value, or with this process, however that ends.
///
/// The controller is a process of its own, which stays up: so any broker can be gone, or all, without an election among
/// controllers. Topics of three brokers get three replicas, and a record is acknowledged by two.
///
/// A broker is named by its number, from 0; Kafka's id of it is one more.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    ports: Vec<u16>,
    setups: Vec<Setup>,
    brokers: Vec<State>,
    /// Declared after the brokers, so that it ends after them.
    controller: Node,
}

#[derive(Debug)]
enum State {
    Up(Node),
    /// It ended as it should, or never began.
    Down,
    /// It was killed, when the controller's log was so long.
    Killed(u64),
}

/// What a broker's log says then.
const LOST_MARKERS: &str = "these partitions are likely deleted already and hence can be skipped";

/// How long the controller may take to notice that a broker is gone; it waits for the broker's session to end.
const FENCING_DEADLINE: Duration = Duration::from_secs(60);

/// How to start a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Where configurations, data and logs go, in a folder for each process.
    pub folder: PathBuf,
    /// How many brokers, at least 1.
    pub brokers: usize,
    /// Whether the processes' folders go when this process ends without having dropped the cluster.
    pub remove_folder: bool,
}

impl Cluster {
    /// Starts a cluster and waits until all of its brokers serve clients. The jars must be there (see
    /// [`download`](super::download)).
    pub fn start(options: &ClusterOptions) -> Result<Cluster, Error> {
        ensure!(options.brokers > 0, "a cluster has at least one broker");
        port::until_free(3, || try_start(options))
    }

    /// What clients put into `bootstrap.servers`: all brokers.
    pub fn bootstrap(&self) -> String {
        let brokers = self.ports.iter().map(|port| format!("127.0.0.1:{port}"));
        brokers.collect::<Vec<_>>().join(",")
    }

    /// How many brokers it has, those that are down included.
    pub fn brokers(&self) -> usize {
        self.brokers.len()
    }

    /// The folder that each process has its own in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills a broker as a crash would, and waits until it is gone.
    pub fn kill(&mut self, broker: usize) -> Result<(), Error> {
        let length = self.controller.log_length()?;
        self.take(broker, State::Killed(length))?.kill()
    }

    /// Asks a broker to end: it hands its partitions over before, if there's another one.
    pub fn stop(&mut self, broker: usize) -> Result<(), Error> {
        self.take(broker, State::Down)?.stop()
    }

    /// Starts all brokers that are down, at their old addresses and with the data that they had, and waits until they
    /// serve clients.
    ///
    /// A broker that was killed starts once the controller has noticed. One that is back before that serves at first, then
    /// loses its partitions and gets them again; transactions that end meanwhile lose markers (KAFKA-20734, in 4.3.1), and
    /// readers of committed records see what was aborted.
    pub fn restart(&mut self) -> Result<(), Error> {
        for (broker, state) in self.brokers.iter().enumerate() {
            let State::Killed(length) = *state else {
                continue;
            };
            let noticed = format!("Fencing broker {} at epoch", broker + 1);
            eventually(&noticed, FENCING_DEADLINE, || {
                let log = self.controller.log_from(length)?;
                Ok(log.contains(&noticed).then_some(()))
            })?;
        }
        let mut started = Vec::new();
        for (state, setup) in self.brokers.iter_mut().zip(&self.setups) {
            if !matches!(state, State::Up(_)) {
                *state = State::Up(Node::start(setup)?);
                started.push(state);
            }
        }
        started.into_iter().try_for_each(|state| match state {
            State::Up(node) => node.wait_started(),
            _ => Ok(()),
        })
    }

    /// How often brokers ended a transaction without telling a partition of it that had no leader at that moment
    /// (KAFKA-20734): no client can promise anything then.
    pub fn lost_markers(&self) -> Result<usize, Error> {
        let logs = self.setups.iter().map(|setup| {
            let log = fs::read_to_string(setup.log())?;
            Ok(log.matches(LOST_MARKERS).count())
        });
        logs.sum()
    }

    /// Stops a broker's time: its connections stay open, and nothing comes of them.
    pub fn pause(&self, broker: usize) -> Result<(), Error> {
        self.running(broker)?.signal(Signal::STOP)
    }

    /// Lets a broker go on that [`pause`](Cluster::pause) has stopped.
    pub fn resume(&self, broker: usize) -> Result<(), Error> {
        self.running(broker)?.signal(Signal::CONT)
    }

    /// Makes other brokers the leaders of topics' partitions (names with their numbers of partitions). All brokers must
    /// be up and have a replica of each. Every `turn` gives another order.
    pub fn move_leaders(&self, topics: &[(&str, usize)], turn: usize) -> Result<(), Error> {
        let brokers = self.brokers.len();
        let mut partitions = String::new();
        for &(topic, count) in topics {
            for partition in 0..count {
                let nth = |n| (partition + turn + n) % brokers + 1;
                let order: Vec<String> = (0..brokers).map(|n| nth(n).to_string()).collect();
                let comma = if partitions.is_empty() { "" } else { "," };
                let _ = write!(
                    partitions,
                    "{comma}{{\"topic\":{topic:?},\"partition\":{partition},\"replicas\":[{}]}}",
                    order.join(",")
                );
            }
        }
        let file = self.folder.join("leaders.json");
        fs::write(
            &file,
            format!("{{\"version\":1,\"partitions\":[{partitions}]}}"),
        )?;
        // The first replica is the preferred leader; then each becomes what it is preferred for.
        self.tool(
            "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
            &["--execute", "--reassignment-json-file"],
            &file,
        )?;
        self.tool(
            "org.apache.kafka.tools.LeaderElectionCommand",
            &["--election-type", "preferred", "--path-to-json-file"],
            &file,
        )
    }

    fn tool(&self, class: &str, arguments: &[&str], file: &Path) -> Result<(), Error> {
        let output = jars::tool(class)?
            .args(["--bootstrap-server", &self.bootstrap()])
            .args(arguments)
            .arg(file)
            .output()?;
        ensure!(
            output.status.success(),
            "{class} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn take(&mut self, broker: usize, state: State) -> Result<Node, Error> {
        self.running(broker)?;
        match std::mem::replace(&mut self.brokers[broker], state) {
            State::Up(node) => Ok(node),
            _ => bail!("broker {broker} isn't running"),
        }
    }

    fn running(&self, broker: usize) -> Result<&Node, Error> {
        match self.brokers.get(broker) {
            Some(State::Up(node)) => Ok(node),
            _ => bail!("broker {broker} isn't running"),
        }
    }
}

fn try_start(options: &ClusterOptions) -> Result<Cluster, Error> {
    let mut ports = port::free(options.brokers + 1)?;
    let controller_port = ports.pop().context("there's one for the controller")?;
    let setup = |name: &str, properties, flags| Setup {
        folder: options.folder.join(name),
        properties,
        flags,
        remove_folder: options.remove_folder,
    };
    let mut setups = Vec::new();
    for (broker, &port) in ports.iter().enumerate() {
        setups.push(setup(
            &format!("broker-{broker}"),
            Properties::broker(broker + 1, options.brokers, port, controller_port),
            BROKER_FLAGS,
        ));
    }
    let controller = setup(
        "controller",
        Properties::controller(options.brokers, controller_port),
        CONTROLLER_FLAGS,
    );
    // A second or two for each, most of it Java's start.
    thread::scope(|scope| {
        let writes: Vec<_> = setups
            .iter()
            .chain([&controller])
            .map(|setup| scope.spawn(|| setup.write()))
            .collect();
        writes.into_iter().try_for_each(|it| {
            it.join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
        })
    })?;
    let mut cluster = Cluster {
        folder: options.folder.clone(),
        ports,
        brokers: setups.iter().map(|_| State::Down).collect(),
        setups,
        controller: Node::start(&controller)?,
    };
    cluster.restart()?;
    Ok(cluster)
}
