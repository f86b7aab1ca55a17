//! Which versions a pipeline's transforms run, what is tried beside them, and how that changes.
//!
//! A [`Deployment`] is the control side's only way to change what runs. It outlives the workers: they enlist when they start
//! and are handed what there is, and get what comes later published to them. No lock of it is on a record's way.
//!
//! - `load`: what a process starts with: the config file's versions, or those of the store.
//! - `change`: swap, rollback, promotion, the end of a trial, pause: what is asked for.
//! - `step`: what that makes of a transform, built and proven.
//! - `commit`: how it's written down and published.
//! - `crew`: the workers, and how a chain gets to them.
//! - `reconfigure`: what the config file and the modules' files say now.
//! - `probation`: a new version beside the one before it.
//! - `view`: what can be seen of it all.

mod change;
mod commit;
mod crew;
mod load;
mod probation;
mod reconfigure;
mod step;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

pub use self::change::{Change, Done, Mode, Refused, Source};
pub use self::crew::Enlisted;
pub use self::load::Means;
pub use self::probation::Standing;
pub use self::reconfigure::Prepared;
pub use self::view::{TransformView, TrialView, VersionView, VersionsView};
use crate::chain::{Share, Version};
use crate::config::{self, Secret};
use crate::guest::Host;
use crate::ids::Names;
use crate::metrics::Metrics;
use crate::shadow::Shadow;
use crate::store::{Record, Store};
use crate::worker::{Control, Shared};

/// The versions of one pipeline.
pub struct Deployment {
    host: Host,
    store: Store,
    metrics: Metrics,
    /// The pipeline's name.
    pipeline: String,
    /// The names of its outputs, the default first.
    outputs: Vec<String>,
    id_key: Option<Secret>,
    /// What its workers look at between two batches.
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Held from before a change is written down until it's published, so that changes follow each other.
    changing: tokio::sync::Mutex<()>,
}

struct State {
    /// In the order of the chain.
    transforms: Vec<Transform>,
    /// The workers that run, by number.
    crew: Vec<(usize, Arc<Control>)>,
    /// As it's on disk.
    record: Record,
    /// The versions that the metrics show as running, and as what.
    shown: Vec<(Arc<Version>, &'static str)>,
    /// Partitions of each input topic, as far as they are known.
    partitions: Vec<usize>,
    /// Another deployment takes its place: nothing is changed here any more.
    retired: bool,
}

/// One transform.
struct Transform {
    config: config::Transform,
    active: Arc<Version>,
    canary: Option<(Share, Arc<Version>)>,
    shadow: Option<(Arc<Version>, Arc<Shadow>)>,
    probation: Option<Standing>,
    /// What is being done to it.
    busy: Option<String>,
}

impl Deployment {
    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// What its workers look at between two batches.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// The active versions, in the order of the chain.
    pub fn versions(&self) -> Vec<Arc<Version>> {
        let state = self.state();
        state
            .transforms
            .iter()
            .map(|it| it.active.clone())
            .collect()
    }

    /// Notes how many partitions each input topic has.
    pub fn set_partitions(&self, partitions: Vec<usize>) {
        self.state().partitions = partitions;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What it guards is changed by assignments alone, so a panic in between leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self, transform: &config::Transform) -> Option<Names> {
        (transform.ids == config::Ids::Stable).then(|| Names {
            pipeline: self.pipeline.clone(),
            transform: transform.name.clone(),
            secret: self.id_key.clone(),
        })
    }
}

impl State {
    fn transform(&self, name: &str) -> Option<&Transform> {
        self.transforms.iter().find(|it| it.config.name == name)
    }

    fn transform_mut(&mut self, name: &str) -> Option<&mut Transform> {
        self.transforms.iter_mut().find(|it| it.config.name == name)
    }
}

/// To the millisecond, as it's written down.
fn now() -> DateTime<Utc> {
    use chrono::SubsecRound;
    Utc::now().trunc_subsecs(3)
}
