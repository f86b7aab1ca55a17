//! The scan: one pass over a text, which checks it and notes where the wanted fields are.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::edit::{Op, Splice};
use super::raw::{Kind, Raw};
use super::scan::{literal, number, skip_space, string};
use super::shape::{Member, Shape};
use super::{Cause, Error, MAX_DEPTH, write_str};

/// The fields that a transform reads or changes, compiled once from their paths. A field is named by its index in the
/// list of paths.
#[derive(Clone, Debug)]
pub struct Fields {
    /// The root, and then every field and every object on the way to one.
    pub(crate) nodes: Vec<Node>,
    /// The node of each field.
    pub(crate) wanted: Vec<NodeId>,
    /// Bytes that keys and punctuation of new members may take.
    pub(crate) room: usize,
    /// Tells these fields from others, for what is remembered of a scan; clones share it. Never 0.
    number: u64,
}

/// The number of the next fields.
static NEXT: AtomicU64 = AtomicU64::new(1);

pub(crate) type NodeId = u32;
pub(crate) const ROOT: NodeId = 0;
pub(crate) const NO_NODE: NodeId = NodeId::MAX;

/// A field that is wanted, or an object in which some are.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name in its object.
    pub(crate) name: String,
    /// The name as a JSON string, with its quotes.
    pub(crate) key: Vec<u8>,
    /// A comma, the key and a colon.
    pub(crate) member: Vec<u8>,
    /// The first eight bytes of the name, see [`prefix`].
    prefix: u64,
    /// The path from the root, as it was given.
    pub(crate) path: String,
    /// The root is its own parent.
    pub(crate) parent: NodeId,
    pub(crate) children: Vec<NodeId>,
}

/// Where a member stands in the text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    /// The key's opening quote.
    pub(crate) key: u32,
    /// After the key's closing quote; 0 if there is no such member.
    pub(crate) key_end: u32,
    /// The value's first byte.
    pub(crate) value: u32,
    /// After the value's last byte.
    pub(crate) end: u32,
}

impl Slot {
    pub(crate) fn is_present(&self) -> bool {
        self.key_end != 0
    }
}

/// What a scan found, kept from record to record so that a scan allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// One for each node.
    pub(crate) slots: Vec<Slot>,
    /// Members that a later one of the same name replaces.
    pub(crate) earlier: Vec<(NodeId, Slot)>,
    /// The nodes of the containers around the scan's position that have one, each with its depth.
    opened: Vec<(NodeId, usize)>,
    /// Whether each container around the scan's position is an object, one bit for each depth.
    outer: [u64; MAX_DEPTH / 64],
    /// The members of the outermost object.
    members: Vec<Member>,
    shape: Shape,
    /// The edits, in the order of the calls.
    pub(crate) ops: Vec<Op>,
    /// The texts that edits put in.
    pub(crate) scratch: Vec<u8>,
    /// The edits as changes of the text.
    pub(crate) splices: Vec<Splice>,
}

/// A text that is one well-formed JSON object, with the wanted fields found in it, to read and to edit.
///
/// Reading gives what the text holds; edits show in what [`Object::write`] writes.
pub struct Object<'t, 'f> {
    pub(crate) text: &'t [u8],
    pub(crate) fields: &'f Fields,
    pub(crate) found: &'f mut Found,
}

impl Fields {
    /// Compiles paths such as `id` or `meta.id`; the [module](super) says how a dot is escaped.
    ///
    /// # Errors
    /// A path or one of its names is empty, or a backslash stands before something else than a dot or a backslash.
    pub fn new(paths: &[impl AsRef<str>]) -> Result<Fields, String> {
        let mut fields = Fields::none();
        for path in paths {
            let path = path.as_ref();
            let mut node = ROOT;
            let mut walked = String::new();
            for name in names(path)? {
                if !walked.is_empty() {
                    walked.push('.');
                }
                walked.push_str(&name.replace('\\', r"\\").replace('.', r"\."));
                node = fields.child_or_new(node, name, &walked);
            }
            fields.wanted.push(node);
        }
        Ok(fields)
    }

    /// No fields at all.
    pub(crate) fn none() -> Fields {
        let root = Node {
            name: String::new(),
            key: Vec::new(),
            member: Vec::new(),
            prefix: 0,
            path: String::new(),
            parent: ROOT,
            children: Vec::new(),
        };
        Fields {
            nodes: vec![root],
            wanted: Vec::new(),
            room: 0,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// A field's path.
    ///
    /// # Panics
    /// If there is no such field.
    pub fn path(&self, field: usize) -> &str {
        &self.nodes[self.wanted[field] as usize].path
    }

    /// Whether two fields are members of the same object, so that one can be renamed to the other.
    ///
    /// # Panics
    /// If there is no such field.
    pub fn are_siblings(&self, one: usize, other: usize) -> bool {
        let parent = |field: usize| self.nodes[self.wanted[field] as usize].parent;
        parent(one) == parent(other)
    }

    /// Checks that a text is one well-formed JSON object, and finds the fields in it.
    // Only what went wrong comes back from the call, so that the object isn't written to memory and read again.
    #[inline(always)]
    pub fn scan<'t, 'f>(
        &'f self,
        text: &'t [u8],
        found: &'f mut Found,
    ) -> Result<Object<'t, 'f>, Error> {
        self.find(text, found)?;
        Ok(Object {
            text,
            fields: self,
            found,
        })
    }

    #[inline(always)]
    fn find(&self, text: &[u8], found: &mut Found) -> Result<(), Error> {
        if found.shape.is_for(self.number) && text.len() <= u32::MAX as usize {
            match found.shape.owns_slots() {
                true => found.clear(),
                false => found.reset(self.nodes.len()),
            }
            if let Some(non_ascii) = found.shape.find(text, &mut found.slots) {
                return check_utf8(text, non_ascii);
            }
        }
        self.scan_object(text, found)
    }

    #[inline(never)]
    fn scan_object(&self, text: &[u8], found: &mut Found) -> Result<(), Error> {
        match self.scan_value(text, found)?.kind() {
            Kind::Object => Ok(()),
            kind => Err(Error(Cause::NotAnObject { kind })),
        }
    }

    /// Checks that a text is one well-formed JSON value, and finds the fields in it if it is an object.
    pub(crate) fn scan_value<'t>(
        &self,
        text: &'t [u8],
        found: &mut Found,
    ) -> Result<Raw<'t>, Error> {
        found.reset(self.nodes.len());
        if text.len() > u32::MAX as usize {
            return Err(Error::syntax(0, "the text is longer than 4 GiB"));
        }
        let mut depth = 0;
        let mut in_object = false;
        // The node of the current object, if some of its members are wanted.
        let mut tracked = NO_NODE;
        // The node of the value that is read next.
        let mut node = ROOT;
        let mut non_ascii = false;
        // Whether the value is an object of nothing but scalars so far.
        let start = skip_space(text, 0);
        let mut pos = start;
        let mut is_flat = text.get(start) == Some(&b'{');
        found.slots[ROOT as usize] = Slot {
            key_end: 1,
            ..Slot::default()
        };
        'value: loop {
            if in_object {
                if text.get(pos) != Some(&b'"') {
                    return Err(unexpected(text, pos, "expected a field name in quotes"));
                }
                let key_start = pos;
                let key = string(text, pos + 1, &mut non_ascii)?;
                node = NO_NODE;
                if tracked != NO_NODE {
                    node = self.child(tracked, text, pos + 1, key.end - 1, key.escaped);
                    if node != NO_NODE {
                        self.start_member(found, node, pos, key.end);
                    }
                }
                pos = skip_space(text, key.end);
                if text.get(pos) != Some(&b':') {
                    return Err(unexpected(text, pos, "expected ':'"));
                }
                pos = skip_space(text, pos + 1);
                if is_flat {
                    found.members.push(Member {
                        slot: Slot {
                            key: key_start as u32,
                            key_end: key.end as u32,
                            value: pos as u32,
                            end: 0,
                        },
                        node,
                    });
                }
            }
            if node != NO_NODE {
                found.slots[node as usize].value = pos as u32;
            }
            match text.get(pos) {
                Some(b'"') => pos = string(text, pos + 1, &mut non_ascii)?.end,
                Some(b'-' | b'0'..=b'9') => pos = number(text, pos)?,
                Some(&open @ (b'{' | b'[')) => {
                    is_flat &= depth == 0;
                    pos = skip_space(text, pos + 1);
                    // In ASCII a closing bracket stands two after its opening one.
                    if text.get(pos) == Some(&(open + 2)) {
                        pos += 1;
                    } else {
                        if depth == MAX_DEPTH {
                            return Err(Error::syntax(pos - 1, "more than 1024 levels deep"));
                        }
                        let bit = 1 << (depth % 64);
                        match in_object {
                            true => found.outer[depth / 64] |= bit,
                            false => found.outer[depth / 64] &= !bit,
                        }
                        depth += 1;
                        in_object = open == b'{';
                        tracked = NO_NODE;
                        if node != NO_NODE {
                            found.opened.push((node, depth));
                            if in_object {
                                tracked = self.if_parent(node);
                            }
                        }
                        node = NO_NODE;
                        continue 'value;
                    }
                }
                Some(_) => pos = literal(text, pos)?,
                None => return Err(unexpected(text, pos, "expected a value")),
            }
            if is_flat && let Some(member) = found.members.last_mut() {
                member.slot.end = pos as u32;
            }
            // The value has been read, and perhaps it was the last one of its container, and that of its own.
            loop {
                if node != NO_NODE {
                    found.slots[node as usize].end = pos as u32;
                }
                if depth == 0 {
                    break 'value;
                }
                pos = skip_space(text, pos);
                match text.get(pos) {
                    Some(b',') => {
                        pos = skip_space(text, pos + 1);
                        node = NO_NODE;
                        continue 'value;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ if in_object => return Err(unexpected(text, pos, "expected ',' or '}'")),
                    _ => return Err(unexpected(text, pos, "expected ',' or ']'")),
                }
                pos += 1;
                node = NO_NODE;
                if let Some(&(opened, at)) = found.opened.last()
                    && at == depth
                {
                    node = opened;
                    found.opened.pop();
                }
                depth -= 1;
                in_object = found.outer[depth / 64] >> (depth % 64) & 1 == 1;
                tracked = match found.opened.last() {
                    Some(&(opened, at)) if at == depth && in_object => self.if_parent(opened),
                    _ => NO_NODE,
                };
            }
        }
        let end = pos;
        if skip_space(text, end) != text.len() {
            let pos = skip_space(text, end);
            return Err(Error::syntax(pos, "expected nothing after the value"));
        }
        check_utf8(text, non_ascii)?;
        if is_flat && found.earlier.is_empty() {
            let root = found.slots[ROOT as usize];
            found.shape.learn(self.number, text, root, &found.members);
        }
        Ok(Raw::checked(&text[start..end]))
    }

    /// Notes where a wanted member starts.
    #[inline(always)]
    fn start_member(&self, found: &mut Found, node: NodeId, key: usize, key_end: usize) {
        if found.slots[node as usize].is_present() {
            self.replace_member(found, node);
        }
        let slot = &mut found.slots[node as usize];
        slot.key = key as u32;
        slot.key_end = key_end as u32;
    }

    /// Makes room for a second member of the same name.
    #[cold]
    fn replace_member(&self, found: &mut Found, node: NodeId) {
        let slot = std::mem::take(&mut found.slots[node as usize]);
        found.earlier.push((node, slot));
        let mut inside = self.nodes[node as usize].children.clone();
        while let Some(node) = inside.pop() {
            found.slots[node as usize] = Slot::default();
            inside.extend(&self.nodes[node as usize].children);
        }
    }

    /// The node itself if it has children.
    #[inline(always)]
    fn if_parent(&self, node: NodeId) -> NodeId {
        match self.nodes[node as usize].children.is_empty() {
            true => NO_NODE,
            false => node,
        }
    }

    /// The child of `parent` whose name is the string's text from `start` to `end`.
    #[inline(always)]
    fn child(
        &self,
        parent: NodeId,
        text: &[u8],
        start: usize,
        end: usize,
        escaped: bool,
    ) -> NodeId {
        let children = &self.nodes[parent as usize].children;
        if escaped {
            return self.escaped_child(children, &text[start - 1..end + 1]);
        }
        let len = end - start;
        let prefix = prefix(text, start, len);
        for &child in children {
            let node = &self.nodes[child as usize];
            let name = node.name.as_bytes();
            if node.prefix == prefix
                && name.len() == len
                && (len <= 8 || name[8..] == text[start + 8..end])
            {
                return child;
            }
        }
        NO_NODE
    }

    #[cold]
    fn escaped_child(&self, children: &[NodeId], key: &[u8]) -> NodeId {
        // Its UTF-8 has yet to be checked.
        let Ok(key) = std::str::from_utf8(key) else {
            return NO_NODE;
        };
        let key = Raw::checked(key.as_bytes());
        let named = |&&child: &&NodeId| key.says(&self.nodes[child as usize].name);
        children.iter().find(named).copied().unwrap_or(NO_NODE)
    }

    fn child_or_new(&mut self, parent: NodeId, name: String, path: &str) -> NodeId {
        let named = |&&child: &&NodeId| self.nodes[child as usize].name == name;
        if let Some(&child) = self.nodes[parent as usize].children.iter().find(named) {
            return child;
        }
        let child = self.nodes.len() as NodeId;
        let mut key = Vec::new();
        write_str(&name, &mut key);
        let member = [b",", &key[..], b":"].concat();
        // It may be a new object, with its braces.
        self.room += member.len() + 2;
        self.nodes.push(Node {
            prefix: prefix(name.as_bytes(), 0, name.len()),
            key,
            member,
            name,
            path: path.to_owned(),
            parent,
            children: Vec::new(),
        });
        self.nodes[parent as usize].children.push(child);
        child
    }
}

impl Found {
    /// Forgets the text before.
    fn reset(&mut self, nodes: usize) {
        self.shape.leave_slots();
        if self.slots.len() != nodes {
            self.slots.clear();
            self.slots.resize(nodes, Slot::default());
        }
        // Not all of a slot, which would be a call to fill memory.
        for slot in &mut self.slots {
            slot.key_end = 0;
        }
        self.clear();
    }

    /// Forgets the text before, but for the slots.
    #[inline]
    fn clear(&mut self) {
        self.earlier.clear();
        self.opened.clear();
        self.members.clear();
        self.ops.clear();
        self.scratch.clear();
    }
}

impl<'t> Object<'t, '_> {
    /// The field's value in the text, if it has the field.
    ///
    /// # Panics
    /// If there is no such field in [`Fields`].
    #[inline]
    pub fn get(&self, field: usize) -> Option<Raw<'t>> {
        let slot = self.found.slots[self.fields.wanted[field] as usize];
        slot.is_present()
            .then(|| Raw::checked(&self.text[slot.value as usize..slot.end as usize]))
    }

    /// Whether the text has the field; null is a value too.
    ///
    /// # Panics
    /// If there is no such field in [`Fields`].
    #[inline]
    pub fn has(&self, field: usize) -> bool {
        self.found.slots[self.fields.wanted[field] as usize].is_present()
    }

    /// Whether members that don't count, since a later one has the same name, stand before the field or before one of
    /// the objects around it. They may hold anything. Any edit of the field takes them away, [`Object::remove`] of one
    /// that isn't there too.
    ///
    /// # Panics
    /// If there is no such field in [`Fields`].
    #[inline]
    pub fn is_repeated(&self, field: usize) -> bool {
        !self.found.earlier.is_empty() && self.has_earlier(self.fields.wanted[field])
    }

    #[cold]
    fn has_earlier(&self, mut node: NodeId) -> bool {
        while node != ROOT {
            if self.found.earlier.iter().any(|(other, _)| *other == node) {
                return true;
            }
            node = self.fields.nodes[node as usize].parent;
        }
        false
    }

    /// The whole object.
    #[inline]
    pub fn root(&self) -> Raw<'t> {
        let slot = self.found.slots[ROOT as usize];
        Raw::checked(&self.text[slot.value as usize..slot.end as usize])
    }
}

impl fmt::Debug for Object<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Object").field(&self.root()).finish()
    }
}

/// The first eight bytes of a name as a number, zeros after it if it is shorter.
#[inline(always)]
fn prefix(text: &[u8], start: usize, len: usize) -> u64 {
    let word = match text.get(start..).and_then(<[u8]>::first_chunk) {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            for (to, from) in eight.iter_mut().zip(&text[start..]) {
                *to = *from;
            }
            u64::from_le_bytes(eight)
        }
    };
    match len {
        0 => 0,
        1..8 => word & (u64::MAX >> (64 - 8 * len)),
        _ => word,
    }
}

/// Checks the UTF-8 of a text, if it's known to have `non_ascii` bytes.
#[inline(always)]
fn check_utf8(text: &[u8], non_ascii: bool) -> Result<(), Error> {
    if non_ascii && let Err(error) = std::str::from_utf8(text) {
        return Err(Error::syntax(error.valid_up_to(), "invalid UTF-8"));
    }
    Ok(())
}

#[cold]
fn unexpected(text: &[u8], pos: usize, expected: &'static str) -> Error {
    match pos < text.len() {
        true => Error::syntax(pos, expected),
        false => Error::syntax(text.len(), "the text ends too early"),
    }
}

/// The names that a path consists of.
pub(crate) fn names(path: &str) -> Result<Vec<String>, String> {
    let mut names = vec![String::new()];
    let mut chars = path.chars();
    while let Some(char) = chars.next() {
        let char = match char {
            '.' => {
                names.push(String::new());
                continue;
            }
            '\\' => match chars.next() {
                Some(escaped @ ('.' | '\\')) => escaped,
                _ => {
                    return Err(format!(
                        "field path `{path}`: a backslash must stand before a dot or a backslash"
                    ));
                }
            },
            char => char,
        };
        if let Some(name) = names.last_mut() {
            name.push(char);
        }
    }
    match names.iter().any(String::is_empty) {
        true => Err(format!(
            "field path `{path}`: a name is empty; write `name` or `object.name`"
        )),
        false => Ok(names),
    }
}
