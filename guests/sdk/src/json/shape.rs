//! The shape of the last object: the records of a stream mostly have the same fields in the same order, so what stands
//! between their values is the same text, sixteen bytes of which are compared at once.
//!
//! That a text has the shape shows that it's well-formed: what stands between the values is byte for byte that of a text
//! which was, and each value is checked as the scan does it. A text that hasn't is left to the scan, as is one with a
//! fault. So what a scan finds never depends on the shape, only its speed does.
//!
//! Shapes are kept of objects whose values are all strings, numbers and literals.

use super::block::{Block, equal};
use super::fields::{NO_NODE, NodeId, ROOT, Slot};
use super::scan::{literal, number, string};

/// The last object's shape, and whose fields it was scanned for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    /// The number of the [`Fields`](super::Fields); 0 if there is no shape.
    fields: u64,
    /// What stands between the values, end to end, and sixteen bytes after it.
    texts: Vec<u8>,
    /// The members in order.
    steps: Vec<Step>,
    /// How long the text after the last value is.
    tail: usize,
    /// How much whitespace stands before the object.
    before: u32,
    /// How much whitespace stands after the object.
    after: usize,
    /// The texts in a row that didn't have the shape.
    misses: u32,
}

/// A member of the object that is scanned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) slot: Slot,
    pub(crate) node: NodeId,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    /// The length of the text between the value before and this one.
    len: u32,
    /// Where the key stands, in bytes before the value.
    key: u32,
    key_end: u32,
    /// [`NO_NODE`] if the member isn't wanted.
    node: NodeId,
}

/// Members beyond which no shape is kept.
const MAX_STEPS: usize = 64;

impl Shape {
    /// Finds the members in a text that has the shape, and says whether there are non-ASCII bytes in it. `None` if the text hasn't the shape; slots may have been written.
    #[inline(always)]
    pub(crate) fn find(&self, fields: u64, text: &[u8], slots: &mut [Slot]) -> Option<bool> {
        if self.fields != fields || text.len() > u32::MAX as usize {
            return None;
        }
        let mut pos = 0;
        let mut at = 0;
        let mut non_ascii = false;
        for step in &self.steps {
            let len = step.len as usize;
            if !self.is_next(at, len, text, pos) {
                return None;
            }
            at += len;
            pos += len;
            let start = pos;
            pos = match text.get(pos) {
                Some(b'"') => string(text, pos + 1, &mut non_ascii).ok()?.end,
                Some(b'-' | b'0'..=b'9') => number(text, pos).ok()?,
                Some(b'{' | b'[') | None => return None,
                Some(_) => literal(text, pos).ok()?,
            };
            if step.node != NO_NODE {
                slots[step.node as usize] = Slot {
                    key: start as u32 - step.key,
                    key_end: start as u32 - step.key_end,
                    value: start as u32,
                    end: pos as u32,
                };
            }
        }
        if text.len() - pos != self.tail || !self.is_next(at, self.tail, text, pos) {
            return None;
        }
        // The object is where it was, from the front and from the back.
        let root = &mut slots[ROOT as usize];
        root.key_end = 1;
        root.value = self.before;
        root.end = (text.len() - self.after) as u32;
        Some(non_ascii)
    }

    /// Whether the next `len` bytes at `pos` are those of the shape's texts at `at`.
    #[inline(always)]
    fn is_next(&self, at: usize, len: usize, text: &[u8], pos: usize) -> bool {
        let block = |text: &[u8], pos: usize| -> Option<Block> {
            text.get(pos..).and_then(<[u8]>::first_chunk).copied()
        };
        if len <= 16
            && let Some(ours) = block(&self.texts, at)
            && let Some(theirs) = block(text, pos)
        {
            return (equal(&ours, &theirs) | u32::MAX << len) == u32::MAX;
        }
        text.get(pos..pos + len) == self.texts.get(at..at + len)
    }

    /// Keeps the shape of a well-formed object with nothing but these members, all of them scalars.
    pub(crate) fn learn(&mut self, fields: u64, text: &[u8], root: Slot, members: &[Member]) {
        self.misses = self.misses.saturating_add(1);
        // A stream of many shapes doesn't pay for learning each of them.
        if self.misses > 8 && !self.misses.is_multiple_of(32) {
            return;
        }
        self.fields = 0;
        if members.is_empty() || members.len() > MAX_STEPS {
            return;
        }
        self.texts.clear();
        self.steps.clear();
        let mut pos = 0;
        for Member { slot, node } in members {
            let start = slot.value as usize;
            self.texts.extend_from_slice(&text[pos..start]);
            self.steps.push(Step {
                len: (start - pos) as u32,
                key: slot.value - slot.key,
                key_end: slot.value - slot.key_end,
                node: *node,
            });
            pos = slot.end as usize;
        }
        self.tail = text.len() - pos;
        self.before = root.value;
        self.after = text.len() - root.end as usize;
        self.texts.extend_from_slice(&text[pos..]);
        self.texts.extend_from_slice(&[0; 16]);
        self.fields = fields;
    }

    /// A text had the shape.
    #[inline(always)]
    pub(crate) fn hit(&mut self) {
        self.misses = 0;
    }
}
