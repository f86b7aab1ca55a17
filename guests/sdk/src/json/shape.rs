//! The shape of the last object: the records of a stream mostly have the same fields in the same order, so what stands
//! between their values is the same text, sixteen bytes of which are compared at once.
//!
//! That a text has the shape shows that it's well-formed: what stands between the values is byte for byte that of a text
//! which was, and each value is checked as the scan does it. A text that hasn't is left to the scan, as is one with a
//! fault. So what a scan finds never depends on the shape, only its speed does.
//!
//! Shapes are kept of objects whose values are all strings, numbers and literals.

use super::block::{Block, Long, digits, equal, string_stops};
use super::fields::{NO_NODE, NodeId, ROOT, Slot};
use super::raw::{Kind, Raw};
use super::scan::{literal, number, string};

/// The last object's shape, and whose fields it was scanned for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    /// The number of the [`Fields`](super::Fields); 0 if there is no shape.
    fields: u64,
    /// The members in order.
    steps: Vec<Step>,
    /// What stands between the values beyond the first sixteen bytes of each, end to end.
    rests: Vec<u8>,
    /// What stands after the last value.
    tail: Gap,
    /// How much whitespace stands before the object.
    before: u32,
    /// How much whitespace stands after the object.
    after: u32,
    /// The texts in a row that didn't have the shape.
    misses: u32,
    /// Whether the slots were last written by [`Shape::find`], in full: then it writes all that it wrote before.
    owns_slots: bool,
}

/// A member of the object that is scanned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) slot: Slot,
    pub(crate) node: NodeId,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    /// What stands between the value before and this one.
    gap: Gap,
    /// Where the key stands, in bytes before the value.
    key: u32,
    key_end: u32,
    /// [`NO_NODE`] if the member isn't wanted.
    node: NodeId,
    /// What the value was.
    kind: Kind,
}

/// A text between values.
#[derive(Clone, Copy, Debug, Default)]
struct Gap {
    /// Its first sixteen bytes; of the text after the last value the last sixteen, at the end.
    block: Block,
    /// The bytes of `block` that aren't its, one bit for each.
    others: u32,
    len: u32,
    /// Where its bytes beyond the first sixteen are in [`Shape::rests`].
    rest: u32,
}

/// Members beyond which no shape is kept.
const MAX_STEPS: usize = 64;

impl Shape {
    /// Finds the members in a text that has the shape, and says whether there are non-ASCII bytes in it. `None` if the
    /// text hasn't the shape; slots may have been written.
    ///
    /// Slots of members that the shape lacks are left as they are, see [`Shape::owns_slots`].
    #[inline(always)]
    pub(crate) fn find(&mut self, text: &[u8], slots: &mut [Slot]) -> Option<bool> {
        self.owns_slots = false;
        let long = Long::new(text)?;
        let mut pos = 0;
        let mut non_ascii = false;
        for step in &self.steps {
            let start = pos + step.gap.len as usize;
            // The whole of a gap, and a value of one byte or more after it.
            if start >= text.len() || !self.is_next(&step.gap, text, pos) {
                return None;
            }
            // Mostly it's of the kind that it was before.
            let is_string = text[start] == b'"';
            pos = if is_string && step.kind == Kind::String {
                short_string(text, long, start + 1, &mut non_ascii)?
            } else if !is_string && step.kind == Kind::Number {
                short_number(text, long, start)?
            } else {
                other_value(text, start, &mut non_ascii)?
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
        let tail = &self.tail;
        if text.len() - pos != tail.len as usize
            || equal(long.last(), &tail.block) | tail.others != ALL
        {
            return None;
        }
        // The object is where it was, from the front and from the back.
        slots[ROOT as usize] = Slot {
            key: 0,
            key_end: 1,
            value: self.before,
            end: text.len() as u32 - self.after,
        };
        self.owns_slots = true;
        self.misses = 0;
        Some(non_ascii)
    }

    /// Whether there is a shape of an object that was scanned for these fields.
    #[inline(always)]
    pub(crate) fn is_for(&self, fields: u64) -> bool {
        self.fields == fields
    }

    /// Whether the slots are those of the last text that had the shape.
    #[inline(always)]
    pub(crate) fn owns_slots(&self) -> bool {
        self.owns_slots
    }

    /// Slots are about to be written by the scan.
    pub(crate) fn leave_slots(&mut self) {
        self.owns_slots = false;
    }

    /// Whether the text at `pos` is the gap's; it has as many bytes there.
    #[inline(always)]
    fn is_next(&self, gap: &Gap, text: &[u8], pos: usize) -> bool {
        let Some(block) = text[pos..].first_chunk() else {
            return self.is_next_near_the_end(gap, text, pos);
        };
        equal(block, &gap.block) | gap.others == ALL
            && (gap.len <= 16 || self.has_rest(gap, text, pos))
    }

    #[inline(never)]
    fn has_rest(&self, gap: &Gap, text: &[u8], pos: usize) -> bool {
        let (rest, len) = (gap.rest as usize, gap.len as usize);
        text[pos + 16..pos + len] == self.rests[rest..rest + len - 16]
    }

    /// The same within the last sixteen bytes of the text, for which a gap is shorter than that.
    #[inline(never)]
    fn is_next_near_the_end(&self, gap: &Gap, text: &[u8], pos: usize) -> bool {
        let len = gap.len as usize;
        len <= 16 && text[pos..pos + len] == gap.block[..len]
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
        self.rests.clear();
        self.steps.clear();
        let mut pos = 0;
        for Member { slot, node } in members {
            let gap = self.gap(&text[pos..slot.value as usize]);
            self.steps.push(Step {
                gap,
                key: slot.value - slot.key,
                key_end: slot.value - slot.key_end,
                node: *node,
                kind: Raw::checked(&text[slot.value as usize..slot.end as usize]).kind(),
            });
            pos = slot.end as usize;
        }
        let tail = &text[pos..];
        if tail.len() > 16 {
            return;
        }
        self.tail = Gap {
            others: ALL >> tail.len(),
            len: tail.len() as u32,
            ..Gap::default()
        };
        self.tail.block[16 - tail.len()..].copy_from_slice(tail);
        self.before = root.value;
        self.after = text.len() as u32 - root.end;
        self.fields = fields;
    }

    fn gap(&mut self, text: &[u8]) -> Gap {
        let mut gap = Gap {
            others: (ALL << text.len().min(16)) & ALL,
            len: text.len() as u32,
            rest: self.rests.len() as u32,
            ..Gap::default()
        };
        let (first, rest) = text.split_at(text.len().min(16));
        gap.block[..first.len()].copy_from_slice(first);
        self.rests.extend_from_slice(rest);
        gap
    }
}

/// All bytes of a block.
const ALL: u32 = 0xffff;

/// The end of the string whose opening quote stands before `pos`.
#[inline(always)]
fn short_string(text: &[u8], long: Long<'_>, pos: usize, non_ascii: &mut bool) -> Option<usize> {
    let stops = long.mask16(pos, string_stops);
    if stops != 0 {
        let stop = pos + stops.trailing_zeros() as usize;
        if text[stop] == b'"' {
            return Some(stop + 1);
        }
    } else if pos + 16 <= text.len() {
        // Up to 48 bytes, as dates and UUIDs have.
        let stops = long.mask32(pos + 16, string_stops);
        if stops != 0 {
            let stop = pos + 16 + stops.trailing_zeros() as usize;
            if text[stop] == b'"' {
                return Some(stop + 1);
            }
        }
    }
    other_value(text, pos - 1, non_ascii)
}

/// The end of the number at `pos`, or of what else stands there.
#[inline(always)]
fn short_number(text: &[u8], long: Long<'_>, pos: usize) -> Option<usize> {
    let start = pos + usize::from(text[pos] == b'-');
    let mask = long.mask32(start, digits);
    let whole = mask.trailing_ones() as usize;
    let is_zero_first = text.get(start) == Some(&b'0');
    // No digit, or a zero before others. Without branches, of which there would be two.
    if (whole == 0) | (is_zero_first & (whole > 1)) {
        return not_a_string(text, pos);
    }
    let mut end = whole;
    let mut next = text.get(start + end).copied().unwrap_or_default();
    if next == b'.' {
        let digits = (mask >> (whole + 1)).trailing_ones() as usize;
        if digits == 0 {
            return None;
        }
        end += 1 + digits;
        next = text.get(start + end).copied().unwrap_or_default();
    }
    // Longer than what was looked at, or with an exponent.
    if (end >= 32) | (next | 0x20 == b'e') {
        return not_a_string(text, pos);
    }
    Some(start + end)
}

#[inline(never)]
fn not_a_string(text: &[u8], pos: usize) -> Option<usize> {
    other_value(text, pos, &mut false)
}

/// The end of the value at `pos`, which may be of any kind but an array and an object.
#[inline(never)]
fn other_value(text: &[u8], pos: usize, non_ascii: &mut bool) -> Option<usize> {
    match text[pos] {
        b'"' => Some(string(text, pos + 1, non_ascii).ok()?.end),
        b'-' | b'0'..=b'9' => number(text, pos).ok(),
        b'{' | b'[' => None,
        _ => literal(text, pos).ok(),
    }
}
