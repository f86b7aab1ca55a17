//! Notices from the operating system of what happens in folders.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{
    Config, Error, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
};
use tokio::sync::Notify;
use tracing::warn;

/// Folders that the operating system watches.
pub(super) struct Folders {
    watcher: Option<RecommendedWatcher>,
    notices: Arc<Notices>,
    warned: bool,
}

/// What the watcher's thread tells.
#[derive(Default)]
pub(super) struct Notices {
    /// Rings when something has happened in a watched folder, however much it is.
    pub(super) bell: Notify,
    /// The watched folders, with device and inode: none if one was removed or renamed and must be watched anew. Not to be
    /// locked while the watcher is called, since its thread takes the lock too.
    folders: Mutex<HashMap<PathBuf, Option<(u64, u64)>>>,
}

impl Folders {
    /// Watches nothing yet. Without a watcher there's a warning, and never a notice.
    pub(super) fn new(notices: Arc<Notices>) -> Folders {
        let mut folders = Folders {
            watcher: None,
            notices,
            warned: false,
        };
        match watcher(Arc::clone(&folders.notices)) {
            Ok(watcher) => folders.watcher = Some(watcher),
            Err(why) => folders.warn(&why),
        }
        folders
    }

    /// Watches these folders and no others. Says whether one is watched only since now, or is gone: what happened there
    /// before shows only at another look.
    pub(super) fn watch(&mut self, wanted: BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let watched = self.notices.folders().keys().cloned().collect::<Vec<_>>();
        for folder in watched.iter().filter(|it| !wanted.contains(*it)) {
            self.notices.folders().remove(folder);
            // An error says that it's gone.
            let _ = watcher.unwatch(folder);
        }
        let (mut news, mut trouble) = (false, None);
        for folder in wanted {
            let Ok(metadata) = fs::metadata(&folder) else {
                news = true;
                continue;
            };
            let identity = Some((metadata.dev(), metadata.ino()));
            // Before it's watched: if it's renamed right after, that must be noted here.
            let before = self.notices.folders().insert(folder.clone(), identity);
            if before == Some(identity) {
                continue;
            }
            if before.is_some() {
                // Otherwise late notices of the old folder would be taken for ones of the new.
                let _ = watcher.unwatch(&folder);
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => news = true,
                Err(why) => {
                    self.notices.folders().remove(&folder);
                    match gone(&why) {
                        true => news = true,
                        false => trouble = Some(why),
                    }
                }
            }
        }
        if let Some(why) = trouble {
            self.warn(&why);
        }
        news
    }

    fn warn(&mut self, why: &Error) {
        if std::mem::replace(&mut self.warned, true) {
            return;
        }
        let why = match &why.kind {
            ErrorKind::MaxFilesWatch => {
                "the limit of watched folders is reached; raise fs.inotify.max_user_watches"
                    .to_string()
            }
            ErrorKind::Io(why) if why.raw_os_error() == Some(libc::EMFILE) => {
                format!("{why}; raise fs.inotify.max_user_instances or the limit of open files")
            }
            _ => why.to_string(),
        };
        warn!("changed files are found only by a look every few seconds: {why}");
    }
}

impl Notices {
    fn folders(&self) -> MutexGuard<'_, HashMap<PathBuf, Option<(u64, u64)>>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: Result<Event, Error>) {
        match event {
            Ok(event) if event.need_rescan() => self.lose(|_| true),
            Ok(event) => match event.kind {
                // Reading changes nothing, and our own would ring the bell.
                EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => return,
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                    self.lose(|folder| event.paths.iter().any(|it| it == folder));
                }
                _ => {}
            },
            // Notices may be missing.
            Err(_) => self.lose(|_| true),
        }
        self.bell.notify_one();
    }

    fn lose(&self, lost: impl Fn(&Path) -> bool) {
        for (folder, identity) in self.folders().iter_mut() {
            if lost(folder) {
                *identity = None;
            }
        }
    }
}

fn watcher(notices: Arc<Notices>) -> Result<RecommendedWatcher, Error> {
    let mut watcher = notify::recommended_watcher(move |event| notices.take(event))?;
    // It doesn't say if its thread couldn't be started, and panics when it's used, or dropped, without one; but not here.
    if let Err(why) = watcher.configure(Config::default()) {
        std::mem::forget(watcher);
        return Err(why);
    }
    Ok(watcher)
}

fn gone(why: &Error) -> bool {
    match &why.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(why) => why.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_news_until_it_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| root.path().join(name));
        let notices = Arc::<Notices>::default();
        let mut folders = Folders::new(Arc::clone(&notices));
        let mut watch =
            |wanted: &[&PathBuf]| folders.watch(wanted.iter().copied().cloned().collect());
        fs::create_dir(&one).unwrap();
        assert!(
            watch(&[&one, &two]),
            "one is watched only since now, and two isn't there"
        );
        fs::create_dir(&two).unwrap();
        assert!(watch(&[&one, &two]), "two is watched only since now");
        assert!(!watch(&[&one, &two]));
        fs::rename(&one, root.path().join("old")).unwrap();
        fs::create_dir(&one).unwrap();
        assert!(watch(&[&one, &two]), "one is another folder");
        watch(&[&two]);
        assert!(!watch(&[&two]));
        assert_eq!(notices.folders().keys().collect::<Vec<_>>(), [&two]);
    }
}
