//! What the process knows about its pipelines: written by their supervisors, read by the admin endpoints.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::worker::Control;

/// The state of all pipelines.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Vec<Pipeline>>);

/// One pipeline's state.
#[derive(Debug)]
pub struct Pipeline {
    name: String,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    workers: Vec<Arc<Control>>,
    failed: usize,
    /// What is wrong with the pipeline's topics, if something is.
    topics: Option<String>,
}

/// Where a pipeline stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for something that isn't there yet, such as Kafka or a topic.
    Waiting(String),
    /// Its workers have been started, and those that fail are started anew.
    Running,
    /// Its workers finish what they have in hand, and why.
    Stopping(String),
    /// It ended, and why.
    Stopped(String),
}

impl Status {
    /// Pipelines of these names, none of them started.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Status {
        let pipeline = |name: &str| Pipeline {
            name: name.into(),
            inner: Mutex::new(Inner {
                state: State::Waiting("not started".into()),
                workers: Vec::new(),
                failed: 0,
                topics: None,
            }),
        };
        Status(Arc::new(names.into_iter().map(pipeline).collect()))
    }

    /// The pipelines, in the order of the config.
    pub fn pipelines(&self) -> impl Iterator<Item = &Pipeline> {
        self.0.iter()
    }

    /// The pipeline of this place in the config.
    pub fn pipeline(&self, index: usize) -> &Pipeline {
        &self.0[index]
    }

    /// Why the process isn't ready, a line for each reason; empty if it is.
    pub fn not_ready(&self) -> Vec<String> {
        let reasons = self
            .pipelines()
            .filter_map(|it| Some((it, it.not_ready()?)));
        reasons
            .map(|(it, why)| format!("{}: {why}", it.name))
            .collect()
    }
}

impl Pipeline {
    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Sets where it stands.
    pub fn set(&self, state: State) {
        self.lock().state = state;
    }

    /// Sets the workers that it has, and how many more wait to be started anew.
    pub fn set_workers(&self, workers: Vec<Arc<Control>>, failed: usize) {
        let mut inner = self.lock();
        inner.workers = workers;
        inner.failed = failed;
    }

    /// Sets what is wrong with its topics, while it runs.
    pub fn set_topics(&self, wrong: Option<String>) {
        self.lock().topics = wrong;
    }

    fn not_ready(&self) -> Option<String> {
        let inner = self.lock();
        match &inner.state {
            State::Running => {
                let joined = inner.workers.iter().filter(|it| it.joined()).count();
                let all = inner.workers.len() + inner.failed;
                if joined < all {
                    return Some(format!("{joined} of {all} workers have joined the group"));
                }
                let trouble = inner.workers.iter().find_map(|it| it.trouble());
                inner.topics.clone().or(trouble)
            }
            state => Some(state.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is one assignment, so a panic in between leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Waiting(what) => write!(f, "waiting: {what}"),
            State::Running => f.write_str("running"),
            State::Stopping(why) => write!(f, "stopping: {why}"),
            State::Stopped(why) => write!(f, "stopped: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Waker;

    #[test]
    fn a_pipeline_is_ready_only_while_it_runs_and_its_workers_have_joined() {
        let status = Status::new(["a"]);
        let pipeline = status.pipeline(0);
        assert_eq!(status.not_ready(), ["a: waiting: not started"]);
        pipeline.set(State::Running);
        let worker = Arc::new(Control::new(Waker::new().unwrap()));
        pipeline.set_workers(vec![worker], 1);
        assert_eq!(
            status.not_ready(),
            ["a: 0 of 2 workers have joined the group"]
        );
        // The worker with the bad record has gone, and none is left that has not joined.
        pipeline.set_workers(Vec::new(), 0);
        pipeline.set(State::Stopping("a record".into()));
        assert_eq!(status.not_ready(), ["a: stopping: a record"]);
    }
}
