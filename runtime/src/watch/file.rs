//! One watched file: its metadata, its content, and whether it's at rest.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};
use tracing::debug;

/// Files are read in pieces of this size: past 64 KiB larger ones read no faster, and a reader stops after each.
const PIECE: usize = 128 << 10;

/// What is known of a file.
pub(super) struct File {
    /// What was seen of it when its content was last read or, until then, when it was first watched.
    known: Look,
    /// The content that was last told of or first watched, if there was one.
    digest: Option<Digest>,
    /// The content that it was first watched with is still to be read.
    new: bool,
    last: Look,
    /// What was seen of it when it couldn't be read, so that the log has it once.
    unreadable: Option<Look>,
}

/// What a look at a file showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look(Result<Stat, ErrorKind>);

/// Metadata that tells one state of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// When content or metadata changed, by the system's clock: copies with the times of the original show here alone.
    changed: (i64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Digest {
    length: u64,
    sha256: [u8; 32],
}

/// How a file is, compared with what is known of it.
pub(super) enum State {
    Known,
    /// As it was when it was first watched, and not read yet.
    New,
    /// Not as it was at the last look.
    Moving,
    /// As it was at the last look, and not as it's known.
    Rested,
}

/// How a file's content is, compared with what is known of it.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Same,
    Other,
    /// It changed while it was read.
    Moving,
}

impl File {
    /// A file that's watched since the `first` look.
    pub(super) fn new(first: Look) -> File {
        File {
            known: first,
            digest: None,
            new: true,
            last: first,
            unreadable: None,
        }
    }

    /// Looks at its metadata.
    pub(super) fn look(&mut self, path: &Path) -> State {
        let now = Look::at(path);
        let before = std::mem::replace(&mut self.last, now);
        // If it isn't as it was, nobody knows any more what it held, and so whatever it holds now is told of.
        self.new &= now == self.known;
        match now {
            _ if self.new => State::New,
            now if now == self.known => State::Known,
            now if now == before => State::Rested,
            _ => State::Moving,
        }
    }

    /// Reads the content that it's first watched with.
    pub(super) fn get_to_know(&mut self, path: &Path, stop: &AtomicBool) {
        if let Err(kind) = self.last.0 {
            self.new = false;
            self.complain(path, &kind.into());
            return;
        }
        match self.digest(path, stop) {
            Ok(Some(digest)) => (self.digest, self.new) = (Some(digest), false),
            // The next look shows it.
            Ok(None) => {}
            Err(why) => self.complain(path, &why),
        }
    }

    /// Reads a file that's at rest, and says whether its content is another one than before, once.
    pub(super) fn read(&mut self, path: &Path, stop: &AtomicBool) -> Content {
        if let Err(kind) = self.last.0 {
            self.known = self.last;
            self.complain(path, &kind.into());
            return Content::Same;
        }
        match self.digest(path, stop) {
            Ok(Some(digest)) => {
                self.known = self.last;
                match self.digest.replace(digest) == Some(digest) {
                    true => Content::Same,
                    false => Content::Other,
                }
            }
            Ok(None) => Content::Moving,
            Err(why) => {
                // It's still unknown, and so it's tried again at the next look.
                self.complain(path, &why);
                Content::Same
            }
        }
    }

    /// None if the file isn't what the last look showed, before or after, or if nobody wants to know any more.
    fn digest(&self, path: &Path, stop: &AtomicBool) -> io::Result<Option<Digest>> {
        // What was a file may be a pipe by now, which would block.
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let before = Look::of(&file.metadata()?);
        let Look(Ok(Stat { length, .. })) = before else {
            return Ok(None);
        };
        if before != self.last {
            return Ok(None);
        }
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE];
        // Not more than there was, or it would go on for as long as someone writes.
        let mut pieces = (&mut file).take(length);
        while !stop.load(Ordering::Acquire) {
            match pieces.read(&mut piece) {
                Ok(0) => {
                    let sha256 = hasher.finalize().into();
                    let unchanged = Look::of(&file.metadata()?) == before;
                    return Ok(unchanged.then_some(Digest { length, sha256 }));
                }
                Ok(read) => hasher.update(&piece[..read]),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        Ok(None)
    }

    fn complain(&mut self, path: &Path, why: &io::Error) {
        if self.unreadable.replace(self.last) != Some(self.last) {
            debug!(path = %path.display(), "a watched file can't be read: {why}");
        }
    }
}

impl Look {
    /// Looks at the metadata of what the path leads to.
    pub(super) fn at(path: &Path) -> Look {
        match std::fs::metadata(path) {
            Ok(metadata) => Look::of(&metadata),
            Err(why) => Look(Err(why.kind())),
        }
    }

    fn of(metadata: &Metadata) -> Look {
        // Reading a pipe or a device might never end.
        if !metadata.is_file() {
            return Look(Err(match metadata.is_dir() {
                true => ErrorKind::IsADirectory,
                false => ErrorKind::Unsupported,
            }));
        }
        Look(Ok(Stat {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("file"), folder.path().join("none"));
        let go_on = AtomicBool::new(false);
        let mut file = File::new(Look::at(&path));
        std::fs::write(&path, "1").unwrap();
        assert!(matches!(file.look(&path), State::Moving));
        assert!(matches!(file.look(&path), State::Rested));
        assert_eq!(file.read(&elsewhere, &go_on), Content::Same);
        assert!(matches!(file.look(&path), State::Rested));
        assert_eq!(file.read(&path, &go_on), Content::Other);
        assert!(matches!(file.look(&path), State::Known));
    }

    #[test]
    fn what_changes_while_it_is_read_has_not_come_to_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let go_on = AtomicBool::new(false);
        let mut file = File::new(Look::at(&path));
        std::fs::write(&path, "1").unwrap();
        file.look(&path);
        file.look(&path);
        std::fs::write(&path, "one").unwrap();
        assert_eq!(file.read(&path, &go_on), Content::Moving);
        assert!(matches!(file.look(&path), State::Moving));
        assert!(matches!(file.look(&path), State::Rested));
        assert_eq!(file.read(&path, &AtomicBool::new(true)), Content::Moving);
        assert_eq!(file.read(&path, &go_on), Content::Other);
    }
}
