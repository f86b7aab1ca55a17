//! Edits: collected while the object is looked at, written in one go.

use super::fields::{NodeId, Object, ROOT, Slot};
use super::scan::skip_space;
use super::{Error, Raw, write_str};
use crate::bytes::{Pen, append};

/// An edit of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    node: NodeId,
    change: Change,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    /// The value becomes this part of the scratch text.
    Set {
        from: u32,
        to: u32,
    },
    /// The key becomes another node's.
    Rename {
        to: NodeId,
    },
    Remove,
}

/// A change of the text: what stands from `start` to `end` makes way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splice {
    start: u32,
    end: u32,
    with: With,
}

#[derive(Clone, Copy, Debug)]
enum With {
    /// A part of the scratch text.
    Scratch { from: u32, to: u32 },
    /// A node's key.
    Key(NodeId),
    /// Nothing; what goes is a member with the comma after it.
    Nothing,
    /// Nothing; what goes is an object's last member, and the comma before it goes too.
    NothingLast,
    /// A member that its object lacks, at its end, with a part of the scratch text as its value.
    Member { node: NodeId, from: u32, to: u32 },
    /// A member that its object lacks, at its end: an object of what is set inside.
    Tree(NodeId),
}

impl With {
    /// The node of the member that is made.
    fn made(self) -> Option<NodeId> {
        match self {
            With::Member { node, .. } | With::Tree(node) => Some(node),
            _ => None,
        }
    }
}

impl Object<'_, '_> {
    /// Sets a field to a value given as JSON text, which must be well-formed: it's written as it is.
    ///
    /// A field that is there keeps its place. A new one is put at the end of its object, after the whitespace that
    /// stands before the object's first field; objects that its path lacks are made.
    ///
    /// # Panics
    /// If there is no such field in [`Fields`](super::Fields).
    #[inline]
    pub fn set(&mut self, field: usize, value: &[u8]) {
        self.set_with(field, |out| append(out, value));
    }

    /// Sets a field to a value, see [`Object::set`].
    ///
    /// # Panics
    /// If there is no such field in [`Fields`](super::Fields).
    pub fn set_raw(&mut self, field: usize, value: Raw<'_>) {
        self.set(field, value.as_bytes());
    }

    /// Sets a field to a string, which gets its quotes and escapes. See [`Object::set`].
    ///
    /// # Panics
    /// If there is no such field in [`Fields`](super::Fields).
    pub fn set_str(&mut self, field: usize, value: &str) {
        self.set_with(field, |out| write_str(value, out));
    }

    /// Sets a field to the JSON text that `write` appends. See [`Object::set`].
    ///
    /// # Panics
    /// If there is no such field in [`Fields`](super::Fields).
    #[inline(always)]
    pub fn set_with(&mut self, field: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let node = self.named(field);
        let from = self.found.scratch.len() as u32;
        write(&mut self.found.scratch);
        let to = u32::try_from(self.found.scratch.len()).expect("edits are shorter than 4 GiB");
        if !self.found.ops.is_empty() {
            self.found
                .ops
                .retain(|op| op.node != node || matches!(op.change, Change::Rename { .. }));
        }
        self.found.ops.push(Op {
            node,
            change: Change::Set { from, to },
        });
    }

    /// Takes a field away, with its comma. Without such a field nothing happens.
    ///
    /// # Panics
    /// If there is no such field in [`Fields`](super::Fields).
    pub fn remove(&mut self, field: usize) {
        let node = self.named(field);
        self.found.ops.retain(|op| op.node != node);
        self.found.ops.push(Op {
            node,
            change: Change::Remove,
        });
    }

    /// The node of a field, or of the one that has been given its name.
    #[inline(always)]
    fn named(&self, field: usize) -> NodeId {
        let node = self.fields.wanted[field];
        let is_given = |op: &&Op| matches!(op.change, Change::Rename { to } if to == node);
        self.found
            .ops
            .iter()
            .find(is_given)
            .map_or(node, |op| op.node)
    }

    /// Gives a field the name of another one; it keeps its place and its value. Says whether the text has the field;
    /// without it nothing happens. From then on both mean that field: setting or removing the one or the other is the
    /// same.
    ///
    /// # Errors
    /// There is a field of the new name already (and it isn't removed by an edit before this one), or the two would
    /// not stand in the same object.
    ///
    /// # Panics
    /// If there are no such fields in [`Fields`](super::Fields).
    pub fn rename(&mut self, field: usize, to: usize) -> Result<bool, Error> {
        let node = self.fields.wanted[field];
        let to = self.fields.wanted[to];
        let path = |node: NodeId| &self.fields.nodes[node as usize].path;
        let is_removed = |node: NodeId| {
            let removes = |op: &Op| op.node == node && matches!(op.change, Change::Remove);
            self.found.ops.iter().any(removes)
        };
        let is_taken = |node: NodeId| {
            let makes = |op: &Op| match op.change {
                Change::Set { .. } => op.node == node,
                Change::Rename { to } => to == node,
                Change::Remove => false,
            };
            self.found.slots[node as usize].is_present() && !is_removed(node)
                || self.found.ops.iter().any(makes)
        };
        if !self.found.slots[node as usize].is_present() || is_removed(node) {
            return Ok(false);
        }
        if node == to {
            return Ok(true);
        }
        if self.fields.nodes[node as usize].parent != self.fields.nodes[to as usize].parent {
            return Err(Error::edit(format!(
                "can't rename `{}` to `{}`: they stand in different objects",
                path(node),
                path(to)
            )));
        }
        if is_taken(to) {
            return Err(Error::edit(format!(
                "can't rename `{}` to `{}`: that field exists already",
                path(node),
                path(to)
            )));
        }
        self.found
            .ops
            .retain(|op| op.node != node || !matches!(op.change, Change::Rename { .. }));
        self.found.ops.push(Op {
            node,
            change: Change::Rename { to },
        });
        Ok(true)
    }

    /// Whether there are edits.
    pub fn is_edited(&self) -> bool {
        !self.found.ops.is_empty()
    }

    /// Appends the text with all edits done. An edit of an object that holds an edited field wins over the field's.
    ///
    /// # Errors
    /// A field is to be set inside a value that isn't an object. Nothing has been appended then.
    pub fn write(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let base = out.len();
        let room = self.text.len() + self.found.scratch.len() + self.fields.room;
        let mut pen = Pen::new(out, room);
        if !self.write_in_order(base, &mut pen)? {
            pen.truncate(base);
            self.write_sorted(base, &mut pen)?;
        }
        pen.finish();
        Ok(())
    }

    /// Writes edits that were made in the text's order, as most are, one by one. `false` if they weren't, or need a
    /// look at each other.
    #[inline(always)]
    fn write_in_order(&self, base: usize, pen: &mut Pen<'_>) -> Result<bool, Error> {
        if !self.found.earlier.is_empty() {
            return Ok(false);
        }
        let mut cursor = 0;
        for &Op { node, change } in &self.found.ops {
            let slot = self.found.slots[node as usize];
            let (start, end, with) = match change {
                Change::Set { from, to } => {
                    let scratch = &self.found.scratch[from as usize..to as usize];
                    if slot.is_present() {
                        (slot.value as usize, slot.end as usize, scratch)
                    } else {
                        let parent = self.fields.nodes[node as usize].parent;
                        if !self.found.slots[parent as usize].is_present() {
                            return Ok(false);
                        }
                        let at = self.end_of(parent, node)? as usize;
                        if at < cursor {
                            return Ok(false);
                        }
                        pen.put(&self.text[cursor..at]);
                        self.put_member(node, base, pen);
                        cursor = at;
                        (at, at, scratch)
                    }
                }
                Change::Rename { to } => {
                    let key = &self.fields.nodes[to as usize].key[..];
                    (slot.key as usize, slot.key_end as usize, key)
                }
                Change::Remove => return Ok(false),
            };
            if start < cursor {
                return Ok(false);
            }
            pen.put(&self.text[cursor..start]);
            pen.put(with);
            cursor = end;
        }
        pen.put(&self.text[cursor..]);
        Ok(true)
    }

    #[inline(never)]
    fn write_sorted(&mut self, base: usize, pen: &mut Pen<'_>) -> Result<(), Error> {
        self.sort()?;
        let mut cursor = 0;
        for splice in &self.found.splices {
            let start = splice.start as usize;
            // Inside something that has gone already.
            if start < cursor {
                continue;
            }
            pen.put(&self.text[cursor..start]);
            cursor = splice.end as usize;
            self.put(splice.with, base, pen);
        }
        pen.put(&self.text[cursor..]);
        Ok(())
    }

    /// Appends what comes in a change's place.
    fn put(&self, with: With, base: usize, pen: &mut Pen<'_>) {
        match with {
            With::Scratch { from, to } => {
                pen.put(&self.found.scratch[from as usize..to as usize]);
            }
            With::Key(node) => pen.put(&self.fields.nodes[node as usize].key),
            With::Nothing => {}
            With::NothingLast => take_comma(base, pen),
            With::Member { node, from, to } => {
                self.put_member(node, base, pen);
                pen.put(&self.found.scratch[from as usize..to as usize]);
            }
            With::Tree(node) => {
                self.put_member(node, base, pen);
                self.write_children(node, pen);
            }
        }
    }

    /// Appends the key of a member that an object lacks. What has been written ends with what is left of the object's
    /// others.
    #[inline(always)]
    fn put_member(&self, node: NodeId, base: usize, pen: &mut Pen<'_>) {
        let node = &self.fields.nodes[node as usize];
        let last = trimmed(pen.written(), base) - 1;
        let is_first = pen.written()[last] == b'{';
        let object = self.found.slots[node.parent as usize];
        let first = object.value as usize + 1;
        let mut comma = usize::from(is_first);
        if self.text[first] <= b' ' {
            self.put_space(first, is_first, pen);
            comma = 1;
        }
        // The member starts with its comma.
        pen.put(&node.member[comma..]);
    }

    /// Appends the comma, if it isn't the first member, and the whitespace that stands before the first one.
    #[inline(never)]
    fn put_space(&self, first: usize, is_first: bool, pen: &mut Pen<'_>) {
        if !is_first {
            pen.put(b",");
        }
        let first_end = skip_space(self.text, first);
        if self.text[first_end] != b'}' {
            pen.put(&self.text[first..first_end]);
        }
    }

    #[inline(never)]
    fn write_children(&self, id: NodeId, pen: &mut Pen<'_>) {
        pen.put(b"{");
        let mut is_first = true;
        for &child in &self.fields.nodes[id as usize].children {
            if self.is_set_inside(child) {
                let member = &self.fields.nodes[child as usize].member;
                pen.put(&member[usize::from(is_first)..]);
                is_first = false;
                match self.set_of(child) {
                    Some((from, to)) => pen.put(&self.found.scratch[from as usize..to as usize]),
                    None => self.write_children(child, pen),
                }
            }
        }
        pen.put(b"}");
    }

    fn set_of(&self, node: NodeId) -> Option<(u32, u32)> {
        self.found.ops.iter().find_map(|op| match op.change {
            Change::Set { from, to } if op.node == node => Some((from, to)),
            _ => None,
        })
    }

    fn is_set_inside(&self, node: NodeId) -> bool {
        let mut children = self.fields.nodes[node as usize].children.iter();
        self.set_of(node).is_some() || children.any(|&child| self.is_set_inside(child))
    }

    /// Turns the edits into changes of the text, in the text's order.
    fn sort(&mut self) -> Result<(), Error> {
        self.found.splices.clear();
        for index in 0..self.found.ops.len() {
            let op = self.found.ops[index];
            if !self.found.earlier.is_empty() {
                self.splice_earlier(op.node);
            }
            let Some(splice) = self.splice(op)? else {
                continue;
            };
            // What is set of an object that isn't there goes in as one; if it's set itself, that counts.
            let made = splice.with.made();
            let mut splices = self.found.splices.iter_mut();
            match splices.find(|other| made.is_some() && other.with.made() == made) {
                None => self.push(splice),
                Some(other) if matches!(splice.with, With::Member { .. }) => *other = splice,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Keeps the changes in order; there are a few at most.
    fn push(&mut self, splice: Splice) {
        let splices = &mut self.found.splices;
        let after = splices
            .iter()
            .rposition(|other| other.start <= splice.start);
        splices.insert(after.map_or(0, |index| index + 1), splice);
    }

    /// An edit as a change of the text, if it changes anything.
    fn splice(&self, Op { node, change }: Op) -> Result<Option<Splice>, Error> {
        let slot = self.found.slots[node as usize];
        Ok(Some(match change {
            Change::Set { from, to } if slot.is_present() => Splice {
                start: slot.value,
                end: slot.end,
                with: With::Scratch { from, to },
            },
            Change::Set { from, to } => {
                let parent = self.fields.nodes[node as usize].parent;
                if !self.found.slots[parent as usize].is_present() {
                    return self.splice_tree(node).map(Some);
                }
                let at = self.end_of(parent, node)?;
                Splice {
                    start: at,
                    end: at,
                    with: With::Member { node, from, to },
                }
            }
            Change::Rename { to } => Splice {
                start: slot.key,
                end: slot.key_end,
                with: With::Key(to),
            },
            Change::Remove if slot.is_present() => self.splice_out(slot),
            Change::Remove => return Ok(None),
        }))
    }

    /// Puts in the outermost of the objects around a member that aren't there.
    #[inline(never)]
    fn splice_tree(&self, node: NodeId) -> Result<Splice, Error> {
        let mut missing = node;
        let mut parent = self.fields.nodes[node as usize].parent;
        while !self.found.slots[parent as usize].is_present() {
            missing = parent;
            parent = self.fields.nodes[parent as usize].parent;
        }
        let at = self.end_of(parent, node)?;
        Ok(Splice {
            start: at,
            end: at,
            with: With::Tree(missing),
        })
    }

    /// Where the members of an object end, for `node` to be put in.
    #[inline(always)]
    fn end_of(&self, object: NodeId, node: NodeId) -> Result<u32, Error> {
        let slot = self.found.slots[object as usize];
        let (start, end) = (slot.value as usize, slot.end as usize);
        if self.text[start] != b'{' {
            return Err(self.not_an_object(node, object));
        }
        Ok(trimmed(&self.text[..end - 1], start) as u32)
    }

    #[cold]
    fn not_an_object(&self, node: NodeId, parent: NodeId) -> Error {
        let slot = self.found.slots[parent as usize];
        let kind = Raw::checked(&self.text[slot.value as usize..slot.end as usize]).kind();
        Error::edit(format!(
            "can't set `{}`: `{}` is {kind}, not an object",
            self.fields.nodes[node as usize].path, self.fields.nodes[parent as usize].path
        ))
    }

    /// Takes a member out.
    fn splice_out(&self, slot: Slot) -> Splice {
        let end = slot.end as usize;
        let after = skip_space(self.text, end);
        let (end, with) = match self.text[after] {
            b',' => (skip_space(self.text, after + 1), With::Nothing),
            _ => (end, With::NothingLast),
        };
        Splice {
            start: slot.key,
            end: end as u32,
            with,
        }
    }

    /// Takes out what members of the same name, or of the names of the objects around it, stand before a field.
    #[cold]
    fn splice_earlier(&mut self, mut node: NodeId) {
        while node != ROOT {
            for index in 0..self.found.earlier.len() {
                let (replaced, slot) = self.found.earlier[index];
                if replaced == node {
                    let splice = self.splice_out(slot);
                    self.push(splice);
                }
            }
            node = self.fields.nodes[node as usize].parent;
        }
    }
}

/// Takes the comma before an object's last member, which has gone, and the whitespace around it.
#[inline(never)]
fn take_comma(base: usize, pen: &mut Pen<'_>) {
    let kept = trimmed(pen.written(), base);
    match pen.written()[kept - 1] {
        b',' => pen.truncate(kept - 1),
        _ => pen.truncate(kept),
    }
}

/// The length without the whitespace at the end, of which none stands before `base`.
#[inline]
fn trimmed(text: &[u8], base: usize) -> usize {
    // Mostly there's no whitespace, and no loop then.
    match text.last() {
        Some(last) if is_space(last) => trimmed_some(text, base),
        _ => text.len(),
    }
}

#[inline(never)]
fn trimmed_some(text: &[u8], base: usize) -> usize {
    text[base..]
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(base, |last| base + last + 1)
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}
