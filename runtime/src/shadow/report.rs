//! What a shadow found out.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What would differ if the tried version were the active one, so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShadowReport)]
pub struct Report {
    /// When it began.
    pub since: DateTime<Utc>,
    /// Why no more batches are looked at, if that's so.
    pub ended: Option<String>,
    /// Batches that both versions were given.
    pub batches: u64,
    /// Batches that there was no room for; nothing was copied of them.
    pub dropped_batches: u64,
    /// What became of the records.
    #[serde(flatten)]
    pub counts: Counts,
    /// How the tried version's guest broke last.
    pub last_fault: Option<String>,
    /// CPU time of the active version for a record, in nanoseconds; of whole batches that it didn't break on.
    pub active_ns_per_record: Option<u64>,
    /// The same of the tried version.
    pub tried_ns_per_record: Option<u64>,
    /// The first records that are different.
    pub differences: Vec<Difference>,
}

/// What became of the records of two versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShadowCounts)]
pub struct Counts {
    /// Input records that were compared.
    pub records: u64,
    /// Of these, those that the same comes of.
    pub equal: u64,
    /// Of these, the others.
    pub different: u64,
    /// What is different.
    pub kinds: Kinds,
    /// Records that the active version refused.
    pub refused_by_active: u64,
    /// Records that the tried version refused.
    pub refused_by_tried: u64,
    /// Records that the active version broke on.
    pub broken_by_active: u64,
    /// Records that the tried version broke on.
    pub broken_by_tried: u64,
    /// Batches that the active version broke on as a whole.
    pub batches_broken_by_active: u64,
    /// Batches that the tried version broke on as a whole.
    pub batches_broken_by_tried: u64,
    /// Records of such batches that weren't run alone to see whether they're what it breaks on: it took too long, or it
    /// broke on too many batches in a row. They aren't among `records`.
    pub uncompared: u64,
}

/// The number of different records by what is different; one may be different in several ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShadowKinds)]
#[allow(missing_docs)]
pub struct Kinds {
    pub value: u64,
    pub key: u64,
    pub headers: u64,
    pub timestamp: u64,
    pub output: u64,
    pub kept_or_dropped: u64,
    pub refused: u64,
    pub broken: u64,
    pub number_of_records: u64,
}

/// What is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShadowKind)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The value of a record that comes out.
    Value,
    /// Its key.
    Key,
    /// Its headers.
    Headers,
    /// Its timestamp.
    Timestamp,
    /// The output that it goes to.
    Output,
    /// One version keeps the record, the other one drops it.
    KeptOrDropped,
    /// One version refuses the record, or both do for different reasons.
    Refused,
    /// One version breaks on the record, or both do in different ways.
    Broken,
    /// How many records come of it.
    NumberOfRecords,
}

/// An input record that two versions make something different of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShadowDifference)]
pub struct Difference {
    /// Where the record came from.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: u64,
    /// What is different.
    pub differs: Vec<Differs>,
    /// How much more is different and isn't told.
    pub left_out: usize,
}

/// One thing that is different, with what it's on both sides. Long texts are cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShadowDiffers)]
pub struct Differs {
    /// What kind of thing.
    pub kind: Kind,
    /// Of which of the records that come of the input, from 0, if several do.
    pub record: Option<usize>,
    /// Where in a value that's JSON, as `customer.cards[0].number`; a dot, a bracket or a backslash in a name has a
    /// backslash before it. Empty for the value as a whole.
    pub path: Option<String>,
    /// What the active version makes of it; null if there's nothing.
    pub active: Option<String>,
    /// What the tried version makes of it; null if there's nothing.
    pub tried: Option<String>,
    /// What else there is to say.
    pub note: Option<String>,
}

/// The differences that are told.
pub(super) const MOST_DIFFERENCES: usize = 20;

/// What was found out about some batches.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// See [`Report::ended`].
    pub(super) ended: Option<String>,
    pub(super) batches: u64,
    pub(super) counts: Counts,
    pub(super) last_fault: Option<String>,
    pub(super) active: Cost,
    pub(super) tried: Cost,
    pub(super) differences: Vec<Difference>,
}

/// CPU time, and the records that it was spent on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) nanoseconds: u64,
    pub(super) records: u64,
}

impl Findings {
    pub(super) fn add(&mut self, more: Findings) {
        self.ended = more.ended.or(self.ended.take());
        self.batches += more.batches;
        self.counts.add(&more.counts);
        self.last_fault = more.last_fault.or(self.last_fault.take());
        self.active.add(more.active);
        self.tried.add(more.tried);
        let room = MOST_DIFFERENCES.saturating_sub(self.differences.len());
        self.differences
            .extend(more.differences.into_iter().take(room));
    }
}

impl Counts {
    pub(super) fn add(&mut self, more: &Counts) {
        let Counts {
            records,
            equal,
            different,
            kinds,
            refused_by_active,
            refused_by_tried,
            broken_by_active,
            broken_by_tried,
            batches_broken_by_active,
            batches_broken_by_tried,
            uncompared,
        } = more;
        self.records += records;
        self.equal += equal;
        self.different += different;
        self.kinds.add(kinds);
        self.refused_by_active += refused_by_active;
        self.refused_by_tried += refused_by_tried;
        self.broken_by_active += broken_by_active;
        self.broken_by_tried += broken_by_tried;
        self.batches_broken_by_active += batches_broken_by_active;
        self.batches_broken_by_tried += batches_broken_by_tried;
        self.uncompared += uncompared;
    }
}

impl Kinds {
    pub(super) fn add(&mut self, more: &Kinds) {
        let mut more = *more;
        for kind in Kind::ALL {
            *self.of(kind) += *more.of(kind);
        }
    }

    /// The number of one kind.
    pub(super) fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Value => &mut self.value,
            Kind::Key => &mut self.key,
            Kind::Headers => &mut self.headers,
            Kind::Timestamp => &mut self.timestamp,
            Kind::Output => &mut self.output,
            Kind::KeptOrDropped => &mut self.kept_or_dropped,
            Kind::Refused => &mut self.refused,
            Kind::Broken => &mut self.broken,
            Kind::NumberOfRecords => &mut self.number_of_records,
        }
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 9] = [
        Kind::Value,
        Kind::Key,
        Kind::Headers,
        Kind::Timestamp,
        Kind::Output,
        Kind::KeptOrDropped,
        Kind::Refused,
        Kind::Broken,
        Kind::NumberOfRecords,
    ];
}

impl Cost {
    pub(super) fn add(&mut self, more: Cost) {
        self.nanoseconds += more.nanoseconds;
        self.records += more.records;
    }

    /// `None` if nothing was spent on any record yet.
    pub(super) fn per_record(&self) -> Option<u64> {
        self.nanoseconds.checked_div(self.records)
    }
}
