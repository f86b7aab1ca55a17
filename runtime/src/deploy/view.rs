//! What can be seen of a pipeline's versions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Deployment, Refused, Transform};
use crate::chain::Sight;
use crate::guest::Digest;
use crate::shadow::Report;
use crate::store::{Activation, Known, Paused, Record, Trial, TrialKind};

/// A transform as it stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TransformView {
    /// Its name.
    pub transform: String,
    /// The version that runs.
    pub active: VersionView,
    /// What is tried beside it, if something is.
    pub trial: Option<TrialView>,
    /// Until when the active version is on probation, if it is.
    pub probation_until: Option<DateTime<Utc>>,
}

/// A version, and what was seen of it in this process since it started or the version was loaded.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// Its number in the transform's history.
    pub version: u64,
    /// The SHA-256 of its module's file.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// What the module says that it is: name and version.
    pub module: String,
    /// Since when it's active or tried.
    pub since: Option<DateTime<Utc>>,
    /// Records that it was given and took.
    pub records: u64,
    /// Of those, records that it refused.
    pub refused: u64,
    /// How often its guests broke.
    pub broken: u64,
    /// CPU time a record, in nanoseconds.
    pub ns_per_record: f64,
}

/// What is tried.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TrialView {
    /// The version.
    pub version: VersionView,
    /// How.
    pub kind: TrialKind,
    /// What a shadow found so far.
    pub report: Option<Report>,
}

/// A transform's history.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionsView {
    /// The pipeline's name.
    pub pipeline: String,
    /// The transform's name.
    pub transform: String,
    /// The active version's number.
    pub active: u64,
    /// What is tried, if something is.
    pub trial: Option<Trial>,
    /// All that it ran, the newest first.
    pub history: Vec<Activation>,
    /// What each number stands for.
    pub versions: Vec<Known>,
}

impl Deployment {
    /// Its transforms as they stand, in the order of the chain.
    pub fn view(&self) -> Vec<TransformView> {
        let state = self.state();
        let transforms = state.transforms.iter();
        transforms.map(|it| it.view(&state.record)).collect()
    }

    /// Since when it reads no more, and by whom, if that's so.
    pub fn paused(&self) -> Option<Paused> {
        self.state().record.paused.clone()
    }

    /// How many bytes a module of this transform may have.
    pub fn max_module_bytes(&self, name: &str) -> Result<usize, Refused> {
        let state = self.state();
        let transform = state.transform(name);
        let transform = transform.ok_or_else(|| state.unknown(&self.pipeline, name))?;
        Ok(transform.config.limits.max_module_bytes)
    }

    /// A transform's history.
    pub fn history_view(&self, name: &str) -> Result<VersionsView, Refused> {
        let state = self.state();
        let unknown = || state.unknown(&self.pipeline, name);
        let active = state.transform(name).ok_or_else(unknown)?.active.number;
        let history = state.record.transforms.get(name).ok_or_else(unknown)?;
        Ok(VersionsView {
            pipeline: self.pipeline.clone(),
            transform: name.to_string(),
            active,
            trial: history.trial.clone(),
            history: history.activations.iter().rev().cloned().collect(),
            versions: history.versions.clone(),
        })
    }
}

impl Transform {
    fn view(&self, record: &Record) -> TransformView {
        let history = record.transforms.get(&self.config.name);
        let since = history
            .and_then(|it| it.activations.last())
            .map(|it| it.since);
        let trial = history.and_then(|it| it.trial.as_ref());
        let tried = match (&self.canary, &self.shadow) {
            (Some((_, version)), _) => Some((version, None)),
            (None, Some((version, shadow))) => Some((version, Some(shadow.report()))),
            (None, None) => None,
        };
        TransformView {
            transform: self.config.name.clone(),
            active: view(&self.active, since),
            trial: tried.zip(trial).map(|((version, report), trial)| {
                let mut version = view(version, Some(trial.since));
                // No worker counts what a shadow does.
                if let Some(report) = &report {
                    version.records = report.counts.records;
                    version.refused = report.counts.refused_by_tried;
                    version.broken = report.counts.broken_by_tried;
                    version.ns_per_record = report.tried_ns_per_record.unwrap_or(0) as f64;
                }
                TrialView {
                    version,
                    kind: trial.kind,
                    report,
                }
            }),
            probation_until: self.probation.as_ref().map(|it| it.until),
        }
    }
}

fn view(version: &crate::chain::Version, since: Option<DateTime<Utc>>) -> VersionView {
    let seen: Sight = version.seen.now();
    let description = version.module.description();
    VersionView {
        version: version.number,
        digest: *version.module.digest(),
        module: format!("{} {}", description.name, description.version),
        since,
        records: seen.records,
        refused: seen.refused,
        broken: seen.faults,
        ns_per_record: seen.nanos_per_record(),
    }
}
