//! What becomes of a JSON value: the paths of the config as a tree, and the work on a text.
//!
//! Objects are scanned once for all fields that are wanted in them and in objects inside them; an array on the way is
//! written anew, each element by a plan of its own. What no path leads to is copied byte for byte.

use weir_guest::json::{Error, Fields, Found, Kind, Object, Raw};
use weir_guest::{Refusal, refuse};

use crate::action::Action;
use crate::path::Step;

/// What becomes of a value of some place.
#[derive(Default)]
pub struct Plan {
    /// How messages call the place.
    shown: String,
    /// What becomes of the value itself. Then there's nothing inside.
    action: Option<Action>,
    members: Option<Members>,
    /// What becomes of each element, if it's an array.
    elements: Option<Box<Plan>>,
    /// What must stand here for the paths to go on.
    expected: &'static str,
    is_missing_refused: bool,
}

/// What becomes of fields of an object, and of objects inside it.
struct Members {
    /// Of each place its path; objects on the way have one too.
    fields: Fields,
    places: Vec<Place>,
    found: Found,
}

/// A field, by its index in `fields`.
struct Place {
    /// What becomes of it; `members` is empty, since the fields inside are places of their own.
    plan: Plan,
    /// The object that it's a field of, unless that's the outermost.
    parent: Option<usize>,
    /// Whether there are places inside it.
    is_parent: bool,
}

/// The paths of one place, in the making.
#[derive(Default)]
pub struct Tree {
    action: Option<Action>,
    fields: Vec<(String, Tree)>,
    each: Option<Box<Tree>>,
}

/// A text that has been redacted.
pub enum Redacted<'t, 'p> {
    /// Nothing was to be changed.
    Same,
    /// An object with its edits.
    Object(Object<'t, 'p>),
    /// The new text.
    Text(Vec<u8>),
}

impl Tree {
    /// Puts in what becomes of the values at a path.
    ///
    /// # Errors
    /// Another path is the same, or leads to something around or inside of these values.
    pub fn add(&mut self, steps: &[Step], action: Action) -> Result<(), &'static str> {
        let Some((step, rest)) = steps.split_first() else {
            let is_parent = self.each.is_some() || !self.fields.is_empty();
            return match &self.action {
                Some(_) => Err("another entry has the same path"),
                None if is_parent => Err("another entry's path leads to something inside of it"),
                None => {
                    self.action = Some(action);
                    Ok(())
                }
            };
        };
        if self.action.is_some() {
            return Err("it lies inside of what another entry's path leads to");
        }
        let inside = match step {
            Step::Each => &mut **self.each.get_or_insert_default(),
            Step::Field(name) => {
                let known = self.fields.iter().position(|(other, _)| other == name);
                let index = known.unwrap_or_else(|| {
                    self.fields.push((name.clone(), Tree::default()));
                    self.fields.len() - 1
                });
                &mut self.fields[index].1
            }
        };
        inside.add(rest, action)
    }

    /// The plan of the paths. `shown` is how messages call the place, `before` what stands before a path in them.
    pub fn plan(self, shown: &str, before: &str, is_missing_refused: bool) -> Result<Plan, String> {
        self.plan_at("", shown, before, is_missing_refused)
    }

    fn plan_at(
        self,
        path: &str,
        shown: &str,
        before: &str,
        is_missing_refused: bool,
    ) -> Result<Plan, String> {
        let mut places = Vec::new();
        let mut paths = Vec::new();
        let members = match self.fields.is_empty() {
            true => None,
            false => {
                let mut waiting: Vec<(Option<usize>, String, String, Tree)> = self
                    .fields
                    .into_iter()
                    .rev()
                    .map(|(name, tree)| (None, join(path, &name), name, tree))
                    .collect();
                while let Some((parent, path, from_here, mut tree)) = waiting.pop() {
                    let fields = std::mem::take(&mut tree.fields);
                    let index = places.len();
                    let is_parent = !fields.is_empty();
                    for (name, inside) in fields.into_iter().rev() {
                        let inner = join(&path, &name);
                        waiting.push((Some(index), inner, join(&from_here, &name), inside));
                    }
                    let shown = format!("{before}`{path}`");
                    let mut plan = tree.plan_at(&path, &shown, before, is_missing_refused)?;
                    plan.expected = expected(is_parent, plan.elements.is_some());
                    paths.push(from_here);
                    places.push(Place {
                        plan,
                        parent,
                        is_parent,
                    });
                }
                Some(Members {
                    fields: Fields::new(&paths)?,
                    places,
                    found: Found::default(),
                })
            }
        };
        let elements = match self.each {
            None => None,
            Some(tree) => {
                let path = format!("{path}[*]");
                let shown = format!("{before}`{path}`");
                let plan = tree.plan_at(&path, &shown, before, is_missing_refused)?;
                Some(Box::new(plan))
            }
        };
        Ok(Plan {
            shown: shown.to_owned(),
            expected: expected(members.is_some(), elements.is_some()),
            action: self.action,
            members,
            elements,
            is_missing_refused,
        })
    }
}

impl Plan {
    /// Redacts a JSON text.
    ///
    /// # Errors
    /// It's malformed, or not of the shape that the paths say.
    #[inline]
    pub fn redact<'t>(&mut self, text: &'t [u8]) -> Result<Redacted<'t, '_>, Refusal> {
        if self.elements.is_some() {
            return self.redact_any(text);
        }
        let Some(members) = &mut self.members else {
            return Ok(Redacted::Same);
        };
        let mut object = members
            .fields
            .scan(text, &mut members.found)
            .map_err(|error| malformed(&error, &self.shown))?;
        edit(&mut members.places, &mut object)?;
        Ok(match object.is_edited() {
            true => Redacted::Object(object),
            false => Redacted::Same,
        })
    }

    /// The same where the outermost value may be an array.
    #[inline(never)]
    fn redact_any(&mut self, text: &[u8]) -> Result<Redacted<'static, 'static>, Refusal> {
        let value = Raw::parse(text).map_err(|error| malformed(&error, &self.shown))?;
        if value.is_null() {
            return Err(self.mismatch(Kind::Null));
        }
        let mut out = Vec::with_capacity(2 * text.len());
        self.write(value, &mut out)?;
        Ok(Redacted::Text(out))
    }

    /// Appends what becomes of a value.
    fn write(&mut self, value: Raw<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let kind = value.kind();
        if let Some(action) = &self.action {
            if kind == Kind::Null && leaves_null(action) {
                out.extend_from_slice(value.as_bytes());
                return Ok(());
            }
            return action
                .write(value, out)
                .map_err(|kind| no_text(&self.shown, kind, action));
        }
        match (kind, &mut self.members, &mut self.elements) {
            (Kind::Object, Some(members), _) => {
                let mut object = members
                    .fields
                    .scan(value.as_bytes(), &mut members.found)
                    .map_err(|error| malformed(&error, &self.shown))?;
                edit(&mut members.places, &mut object)?;
                object.write(out)?;
                Ok(())
            }
            (Kind::Array, _, Some(elements)) => match elements.action {
                Some(Action::Remove) => {
                    out.extend_from_slice(b"[]");
                    Ok(())
                }
                _ => value.write_elements(out, |element, out| elements.write(element, out)),
            },
            (Kind::Null, ..) => {
                self.missing()?;
                out.extend_from_slice(value.as_bytes());
                Ok(())
            }
            _ => Err(self.mismatch(kind)),
        }
    }

    /// What becomes of a record that has nothing here.
    fn missing(&self) -> Result<(), Refusal> {
        match self.is_missing_refused {
            true => Err(refuse(format!("{} is missing", self.shown))),
            false => Ok(()),
        }
    }

    /// The value can't be stepped into. What is to be hidden may be in it all the same, so the record doesn't go on.
    #[cold]
    fn mismatch(&self, kind: Kind) -> Refusal {
        refuse(format!(
            "{} is {kind}, expected {}",
            self.shown, self.expected
        ))
    }
}

impl Redacted<'_, '_> {
    /// Whether anything changes.
    pub fn is_same(&self) -> bool {
        matches!(self, Redacted::Same)
    }

    /// Appends the text, if anything changes.
    pub fn write(self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Redacted::Same => Ok(()),
            Redacted::Object(mut object) => object.write(out),
            Redacted::Text(text) => {
                out.extend_from_slice(&text);
                Ok(())
            }
        }
    }
}

/// Edits an object's fields.
#[inline]
fn edit(places: &mut [Place], object: &mut Object<'_, '_>) -> Result<(), Refusal> {
    for index in 0..places.len() {
        let place = &mut places[index];
        if place.plan.action.is_none() && place.plan.elements.is_none() {
            continue;
        }
        match object.get(index) {
            Some(value) => edit_field(place, index, value, object)?,
            None => without_field(places, index, object)?,
        }
    }
    Ok(())
}

#[inline]
fn edit_field(
    place: &mut Place,
    index: usize,
    value: Raw<'_>,
    object: &mut Object<'_, '_>,
) -> Result<(), Refusal> {
    let kind = value.kind();
    let is_left = match &place.plan.action {
        Some(Action::Remove) => {
            object.remove(index);
            return Ok(());
        }
        Some(action) => kind == Kind::Null && leaves_null(action),
        // The object's fields are other places.
        None => kind == Kind::Object && place.is_parent,
    };
    if !is_left {
        let mut result = Ok(());
        object.set_with(index, |out| result = place.plan.write(value, out));
        return result;
    }
    if object.is_repeated(index) {
        // What stands in those that don't count goes.
        object.set_raw(index, value);
    }
    Ok(())
}

/// A field that isn't there.
#[cold]
fn without_field(
    places: &[Place],
    index: usize,
    object: &mut Object<'_, '_>,
) -> Result<(), Refusal> {
    let place = &places[index];
    if object.is_repeated(index) {
        // It's there where an object around it stands several times, which other readers may look at.
        object.remove(index);
    }
    let mut around = place.parent;
    while let Some(index) = around {
        let parent = &places[index];
        match object.get(index).map(|value| value.kind()) {
            None => around = parent.parent,
            Some(Kind::Object | Kind::Null) => break,
            Some(Kind::Array) if parent.plan.elements.is_some() => return Ok(()),
            Some(kind) => return Err(parent.plan.mismatch(kind)),
        }
    }
    place.plan.missing()
}

/// Null holds nothing to hide, and stays.
fn leaves_null(action: &Action) -> bool {
    matches!(action, Action::Mask(_) | Action::Hash(_))
}

#[cold]
fn no_text(shown: &str, kind: Kind, action: &Action) -> Refusal {
    let instead = match kind {
        Kind::Array => "; for its elements, the path goes on with `[*]`",
        _ => "",
    };
    refuse(format!(
        "{shown} is {kind}, and there's no text in it to {}{instead}",
        action.name()
    ))
}

#[cold]
fn malformed(error: &Error, shown: &str) -> Refusal {
    refuse(format!("{shown}: {error}"))
}

fn expected(is_parent: bool, has_elements: bool) -> &'static str {
    match (is_parent, has_elements) {
        (true, true) => "an object or an array",
        (false, true) => "an array",
        _ => "an object",
    }
}

fn join(path: &str, name: &str) -> String {
    match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}.{name}"),
    }
}
