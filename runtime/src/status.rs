//! What the process knows about its pipelines: written by their supervisors, read by the admin endpoints.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::worker::Control;

/// The state of all pipelines.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<Vec<Arc<Pipeline>>>>);

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
    /// Adds a pipeline that isn't started, in the place of one of the same name if there's one.
    pub fn add(&self, name: &str) -> Arc<Pipeline> {
        let pipeline = Arc::new(Pipeline {
            name: name.into(),
            inner: Mutex::new(Inner {
                state: State::Waiting("not started".into()),
                workers: Vec::new(),
                failed: 0,
                topics: None,
            }),
        });
        let mut all = self.lock();
        match all.iter_mut().find(|it| it.name == name) {
            Some(same) => *same = pipeline.clone(),
            None => all.push(pipeline.clone()),
        }
        pipeline
    }

    /// Takes a pipeline out.
    pub fn remove(&self, name: &str) {
        self.lock().retain(|it| it.name != name);
    }

    /// The pipelines, in the order in which they were added.
    pub fn pipelines(&self) -> Vec<Arc<Pipeline>> {
        self.lock().clone()
    }

    /// The pipeline of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Pipeline>> {
        self.lock().iter().find(|it| it.name == name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Pipeline>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the process isn't ready, a line for each reason; empty if it is.
    pub fn not_ready(&self) -> Vec<String> {
        let pipelines = self.pipelines();
        let reasons = pipelines
            .iter()
            .filter_map(|it| Some(format!("{}: {}", it.name, it.not_ready()?)));
        reasons.collect()
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

    /// The workers that it has, those among them that wait to be started anew.
    pub fn workers(&self) -> usize {
        let inner = self.lock();
        inner.workers.len() + inner.failed
    }

    /// Why it isn't ready, if it isn't.
    pub fn not_ready(&self) -> Option<String> {
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
        let status = Status::default();
        let pipeline = status.add("a");
        assert_eq!(status.not_ready(), ["a: waiting: not started"]);
        pipeline.set(State::Running);
        let worker = Arc::new(Control::new(Waker::new().unwrap(), Arc::default()));
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
