//! What the admin API takes and answers: served by [`crate::admin`], asked by the commands.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::chain::Unit;
use crate::deploy::{Done, TransformView};
use crate::guest::Digest;

/// A transform of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Target {
    /// The pipeline's name.
    pub pipeline: String,
    /// The transform's name.
    pub transform: String,
}

/// A version to run or to try. At least one of `module`, `digest` and `config` is given; what isn't is the active version's.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// The module, as base64.
    pub module: Option<String>,
    /// The SHA-256 of a module that Weir has had before.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// The config. `${…}` stands for what it stands for in the config file's config of this transform, and nothing else.
    #[schema(value_type = Option<Object>)]
    pub config: Option<Value>,
    /// What is done with it; `active` if nothing is said.
    pub mode: Option<Mode>,
    /// A canary's share in percent, from 0.01 to 99.99.
    pub percent: Option<f64>,
    /// What it's a share of; keys if nothing is said.
    pub unit: Option<Unit>,
    /// What is new, for people.
    pub note: Option<String>,
}

/// What goes beside a module that is the whole body.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct VersionQuery {
    /// The config, as JSON text.
    pub config: Option<String>,
    /// What is done with it; `active` if nothing is said.
    pub mode: Option<Mode>,
    /// A canary's share in percent, from 0.01 to 99.99.
    pub percent: Option<f64>,
    /// What it's a share of; keys if nothing is said.
    pub unit: Option<Unit>,
    /// What is new, for people.
    pub note: Option<String>,
}

/// What is done with a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It runs.
    #[default]
    Active,
    /// It's given copies of what the active one is given, and writes nothing.
    Shadow,
    /// It runs for a share of the records.
    Canary,
}

/// Where to go back to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// The number of a version; without it, the one before the active one.
    pub to: Option<u64>,
    /// Why, for people.
    pub note: Option<String>,
}

/// A change that was made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// What was done.
    #[serde(flatten)]
    pub done: Done,
    /// The consumer group.
    pub group: String,
    /// How many members it has, in all processes; null if the brokers don't say. Only this process's have the change.
    pub members: Option<usize>,
}

/// Whether a pipeline reads.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Paused {
    /// The pipeline's name.
    pub pipeline: String,
    /// Whether it reads no more for now.
    pub paused: bool,
    /// Whether that's news.
    pub changed: bool,
}

/// A pipeline as it stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PipelineView {
    /// Its name.
    pub pipeline: String,
    /// Where it stands.
    pub state: String,
    /// Why it isn't ready, if it isn't.
    pub not_ready: Option<String>,
    /// The workers of this process.
    pub workers: usize,
    /// The consumer group.
    pub group: String,
    /// What is promised about each record.
    pub delivery: String,
    /// Since when it reads no more, and by whom, if that's so.
    pub paused: Option<crate::store::Paused>,
    /// Its transforms, in the order of the chain.
    pub transforms: Vec<TransformView>,
}
