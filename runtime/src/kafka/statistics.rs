//! What a consumer's client says of itself once a second (librdkafka's STATISTICS.md): how far its partitions reach, and
//! whether its brokers answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::io::{Statistics, TopicPartition};

/// How often the client says it.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// A broker that hasn't answered for so long is told of, beside the time that it may keep an idle fetch.
const SILENT: Duration = Duration::from_secs(5);

/// The parts that are read.
#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    name: String,
    nodeid: i32,
    state: String,
    /// Requests that wait for an answer.
    #[serde(default)]
    waitresp_cnt: i64,
    /// Microseconds since something was received; -1 if nothing was.
    #[serde(default)]
    rxidle: i64,
}

#[derive(Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: HashMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    partition: i32,
    /// The number of the broker that it's fetched from; -1 if there's none.
    #[serde(default)]
    broker: i32,
    /// "active" while it's fetched.
    #[serde(default)]
    fetch_state: String,
    /// The offset after the last record that readers of committed records may have; negative while it isn't known.
    #[serde(default)]
    ls_offset: i64,
}

/// What was heard of brokers.
#[derive(Default)]
pub(super) struct Heard {
    /// How long an idle fetch is kept by a broker (`fetch.wait.max.ms`).
    fetch_wait: Duration,
    /// When each was last seen to answer, or to have nothing to answer.
    brokers: HashMap<i32, Instant>,
}

impl Heard {
    /// Of brokers that may keep an idle fetch for so long.
    pub(super) fn new(fetch_wait: Duration) -> Heard {
        Heard {
            fetch_wait,
            ..Heard::default()
        }
    }

    /// Takes in what the client says; `None` if that's not what it's known to say.
    pub(super) fn take_in(&mut self, json: &str, now: Instant) -> Option<Statistics> {
        let report: Report = serde_json::from_str(json).ok()?;
        let (mut ends, mut fetched_from) = (HashMap::new(), Vec::new());
        for (name, topic) in report.topics {
            let name: Arc<str> = name.into();
            for it in topic.partitions.into_values() {
                if it.fetch_state == "active" {
                    fetched_from.push(it.broker);
                }
                if let ("active", Ok(end)) = (&*it.fetch_state, u64::try_from(it.ls_offset)) {
                    let id = TopicPartition {
                        topic: name.clone(),
                        partition: it.partition,
                    };
                    ends.insert(id, end);
                }
            }
        }
        let mut silent: Option<(String, Duration)> = None;
        // The client isn't even connected to others.
        let leaders = report.brokers.into_values();
        let leaders: Vec<Broker> = leaders
            .filter(|it| it.nodeid >= 0 && fetched_from.contains(&it.nodeid))
            .collect();
        self.brokers
            .retain(|id, _| leaders.iter().any(|it| it.nodeid == *id));
        for it in leaders {
            let heard = self.brokers.entry(it.nodeid).or_insert(now);
            let idle = Duration::from_micros(u64::try_from(it.rxidle).unwrap_or(u64::MAX));
            if it.state == "UP" && (it.waitresp_cnt == 0 || idle < 2 * INTERVAL + self.fetch_wait) {
                *heard = now;
            }
            let time = now.saturating_duration_since(*heard);
            if time >= SILENT + self.fetch_wait
                && silent.as_ref().is_none_or(|(_, most)| time > *most)
            {
                silent = Some((it.name, time));
            }
        }
        Some(Statistics { ends, silent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: &str, waiting: i64, idle: i64) -> String {
        format!(
            r#"{{"name":"x","brokers":{{
                "b:9092/bootstrap":{{"name":"b:9092/bootstrap","nodeid":-1,"state":"DOWN","toppars":{{}}}},
                "b:9093/2":{{"name":"b:9093/2","nodeid":2,"state":"INIT","toppars":{{"in-1":{{"topic":"in","partition":1}}}}}},
                "b:9092/1":{{"name":"b:9092/1","nodeid":1,"state":"{state}","waitresp_cnt":{waiting},"rxidle":{idle},
                    "toppars":{{"in-0":{{"topic":"in","partition":0}}}}}}}},
              "topics":{{"in":{{"topic":"in","partitions":{{
                "0":{{"partition":0,"broker":1,"fetch_state":"active","ls_offset":42}},
                "1":{{"partition":1,"broker":2,"fetch_state":"none","ls_offset":7}},
                "2":{{"partition":2,"broker":1,"fetch_state":"active","ls_offset":-1001}},
                "-1":{{"partition":-1,"fetch_state":"none","ls_offset":-1001}}}}}}}}}}"#
        )
    }

    #[test]
    fn partitions_that_are_fetched_have_an_end() {
        let statistics = Heard::default().take_in(&report("UP", 1, 100_000), Instant::now());
        let ends = statistics.unwrap().ends.into_iter();
        let ends: Vec<_> = ends.map(|(id, end)| (id.to_string(), end)).collect();
        assert_eq!(ends, [("in/0".to_string(), 42)]);
        assert_eq!(Heard::default().take_in("{", Instant::now()), None);
    }

    #[test]
    fn a_leader_that_does_not_answer_is_told_of() {
        let mut heard = Heard::default();
        let start = Instant::now();
        let mut silent = |state, waiting, idle, at| {
            let now = start + Duration::from_secs(at);
            heard
                .take_in(&report(state, waiting, idle), now)
                .unwrap()
                .silent
        };
        let told = |time| Some(("b:9092/1".to_string(), Duration::from_secs(time)));
        assert_eq!(silent("UP", 1, 400_000, 0), None);
        assert_eq!(silent("UP", 1, 4_400_000, 4), None);
        assert_eq!(silent("UP", 1, 5_400_000, 5), told(5));
        assert_eq!(silent("DOWN", 0, -1, 8), told(8));
        // Nothing is asked for while enough has been read.
        assert_eq!(silent("UP", 0, 9_000_000, 9), None);
    }
}
