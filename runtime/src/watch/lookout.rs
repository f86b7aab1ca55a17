//! All watched files, and a look at them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::file::{Content, File, Look, State};
use super::folders::{Folders, Notices};
use super::way;

/// For how long files that are at rest wait for others that aren't. Longer than what's deployed together takes to copy;
/// a file that never rests must not hold up the others for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// The watched files. Its calls block: they're for threads that may.
pub(super) struct Lookout {
    files: BTreeMap<PathBuf, File>,
    folders: Folders,
    /// Since when files that are at rest wait for others.
    held: Option<Instant>,
    stop: Arc<AtomicBool>,
}

/// What a look showed.
pub(super) struct Seen {
    /// The files with another content.
    pub(super) changed: Vec<PathBuf>,
    /// Whether something may be missed unless there's another look soon.
    pub(super) restless: bool,
    /// When it ended.
    pub(super) at: Instant,
}

impl Lookout {
    /// Files are read until `stop`.
    pub(super) fn new(notices: Arc<Notices>, stop: Arc<AtomicBool>) -> Lookout {
        Lookout {
            files: BTreeMap::new(),
            folders: Folders::new(notices),
            held: None,
            stop,
        }
    }

    /// Looks at all files, of which there are other ones from now on if some are `wanted`. What's seen of a file in two
    /// looks that follow each other counts as at rest, so they must be far enough apart.
    pub(super) fn look(&mut self, wanted: Option<BTreeMap<PathBuf, Look>>) -> Seen {
        if let Some(wanted) = wanted {
            self.set(wanted);
        }
        // The folders come first: what changes after the look is noticed.
        let mut folders = BTreeSet::new();
        self.files
            .keys()
            .for_each(|path| way::folders(path, &mut folders));
        let mut restless = self.folders.watch(folders);

        let mut rested: Vec<(&Path, &mut File)> = Vec::new();
        let mut moving = false;
        for (path, file) in &mut self.files {
            match file.look(path) {
                State::Known => {}
                State::New => file.get_to_know(path, &self.stop),
                State::Moving => moving = true,
                State::Rested => rested.push((path, file)),
            }
        }
        let held = match rested.is_empty() {
            true => None,
            false => Some(self.held.unwrap_or_else(Instant::now)),
        };
        let mut changed = Vec::new();
        if moving && held.is_some_and(|held| held.elapsed() < PATIENCE) {
            self.held = held;
        } else {
            self.held = None;
            for (path, file) in rested {
                match file.read(path, &self.stop) {
                    Content::Same => {}
                    Content::Other => changed.push(path.to_path_buf()),
                    Content::Moving => moving = true,
                }
            }
        }
        restless |= moving;
        Seen {
            changed,
            restless,
            at: Instant::now(),
        }
    }

    fn set(&mut self, wanted: BTreeMap<PathBuf, Look>) {
        self.files.retain(|path, _| wanted.contains_key(path));
        for (path, first) in wanted {
            self.files.entry(path).or_insert_with(|| File::new(first));
        }
    }
}
