//! The settings of Kafka's processes.

/// The settings of one process, but for where its data goes.
#[derive(Clone, Debug)]
pub(super) struct Properties(String);

/// The node id of a cluster's controller; its brokers count from 1.
const CONTROLLER: u32 = 100;

/// Small buffers and no waiting for more members. Topics aren't made by mistyping them, and records with old timestamps
/// stay.
const COMMON: &str = "\
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=4194304
auto.create.topics.enable=false
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=6000
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=1000
";

/// What comes of a crash shows within seconds: brokers that are gone, and transactions that nobody ends.
const PROMPT: &str = "\
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
";

const AUTHORIZER: &str = "\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
";

impl Properties {
    /// One process that is broker and controller.
    pub(super) fn alone(port: u16, controller_port: u16) -> Properties {
        let voter = 1;
        Properties(format!(
            "\
process.roles=broker,controller
node.id=1
controller.quorum.voters={voter}@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
{COMMON}{}",
            replicas(1, 1)
        ))
    }

    /// The only process of a cluster that takes no records. It's the one that makes topics, with the cluster's defaults.
    pub(super) fn controller(brokers: usize, port: u16) -> Properties {
        Properties(format!(
            "\
process.roles=controller
node.id={CONTROLLER}
controller.quorum.voters={CONTROLLER}@127.0.0.1:{port}
listeners=CONTROLLER://127.0.0.1:{port}
{COMMON}{PROMPT}{}",
            replicas_among(brokers)
        ))
    }

    /// Broker `id` of `brokers`.
    pub(super) fn broker(id: usize, brokers: usize, port: u16, controller_port: u16) -> Properties {
        Properties(format!(
            "\
process.roles=broker
node.id={id}
controller.quorum.voters={CONTROLLER}@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
{COMMON}{PROMPT}{}",
            replicas_among(brokers)
        ))
    }

    /// The same with access control lists. What none is about, everyone may do; brokers are clients like any other.
    pub(super) fn authorized(self) -> Properties {
        Properties(format!("{}{AUTHORIZER}", self.0))
    }

    /// As a file's text.
    pub(super) fn text(&self, data: &str) -> String {
        format!("{}log.dirs={data}\n", self.0)
    }
}

/// Acknowledged by two of three: the third may be gone.
fn replicas_among(brokers: usize) -> String {
    let count = brokers.min(3);
    replicas(count, count.div_ceil(2))
}

fn replicas(count: usize, in_sync: usize) -> String {
    format!(
        "\
default.replication.factor={count}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={count}
transaction.state.log.replication.factor={count}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={count}
share.coordinator.state.topic.min.isr={in_sync}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_brokers_acknowledge_by_two() {
        let text = Properties::broker(2, 3, 9092, 9093).text("/data");
        for line in [
            "node.id=2",
            "controller.quorum.voters=100@127.0.0.1:9093",
            "default.replication.factor=3",
            "min.insync.replicas=2",
            "transaction.state.log.min.isr=2",
            "log.dirs=/data",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
    }

    #[test]
    fn no_setting_stands_twice() {
        let all = [
            Properties::alone(1, 2).authorized(),
            Properties::controller(3, 2),
            Properties::broker(1, 3, 1, 2),
        ];
        for properties in all {
            let text = properties.text("/data");
            let mut keys: Vec<&str> = text
                .lines()
                .map(|it| it.split('=').next().unwrap())
                .collect();
            let count = keys.len();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), count, "{text}");
        }
    }
}
