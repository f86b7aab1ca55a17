//! The setting that transforms of the value share.

use serde::Deserialize;

use crate::{Refusal, Verdict, refuse};

/// What becomes of a record whose value is null: Kafka's sign for a key that was deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Tombstones {
    /// It goes on as it is.
    #[default]
    Pass,
    /// It ends here.
    Drop,
    /// It's refused.
    Refuse,
}

impl Tombstones {
    /// What [`apply`](crate::Transform::apply) returns for such a record.
    ///
    /// # Errors
    /// The record is refused.
    pub fn verdict(self) -> Result<Verdict, Refusal> {
        match self {
            Tombstones::Pass => Ok(Verdict::Keep),
            Tombstones::Drop => Ok(Verdict::Drop),
            Tombstones::Refuse => Err(refuse("the value is null (a tombstone)")),
        }
    }
}
