//! Which columns a transform reads.

use std::ops::BitOr;

use crate::bindings;

/// The parts of a record that a transform reads, such as `Needs::KEYS | Needs::VALUES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs(bindings::Needs);

impl Needs {
    /// Nothing: the transform treats all records alike.
    pub const NONE: Needs = Needs(bindings::Needs::empty());
    /// [`Record::key`](crate::Record::key)
    pub const KEYS: Needs = Needs(bindings::Needs::KEYS);
    /// [`Record::value`](crate::Record::value)
    pub const VALUES: Needs = Needs(bindings::Needs::VALUES);
    /// [`Record::headers`](crate::Record::headers), and [`Record::add_header`](crate::Record::add_header), which
    /// keeps those that are there
    pub const HEADERS: Needs = Needs(bindings::Needs::HEADERS);
    /// [`Record::timestamp`](crate::Record::timestamp) and its type, and v7 ids
    pub const TIMESTAMPS: Needs = Needs(bindings::Needs::TIMESTAMPS);
    /// [`Record::offset`](crate::Record::offset), [`Record::ordinal`](crate::Record::ordinal), and all that is drawn
    /// at random: v4 and v7 ids
    pub const POSITIONS: Needs = Needs(bindings::Needs::POSITIONS);
    /// Everything.
    pub const ALL: Needs = Needs(bindings::Needs::all());

    /// Whether all of `other` is asked for.
    #[inline]
    pub const fn contains(self, other: Needs) -> bool {
        self.0.contains(other.0)
    }
}

impl BitOr for Needs {
    type Output = Needs;

    fn bitor(self, other: Needs) -> Needs {
        Needs(self.0 | other.0)
    }
}

impl From<Needs> for bindings::Needs {
    fn from(needs: Needs) -> bindings::Needs {
        needs.0
    }
}
