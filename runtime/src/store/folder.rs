//! A folder of the store's: opened without following a link, and from then on it's that one whatever its path names.

use std::fs::{DirBuilder, File};
use std::io::{Error, Read, Result, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use tracing::debug;

/// The end of a temporary file's name.
const PART: &str = ".part";

/// No write takes as long: an older temporary file is of a process that crashed. Process ids don't tell, since
/// containers that share a folder don't share those.
const MAX_WRITE: Duration = Duration::from_secs(60 * 60);

/// An open folder.
pub(super) struct Folder {
    path: PathBuf,
    file: File,
}

impl Folder {
    /// Makes or opens a folder, and its parent.
    pub(super) fn open(path: &Path) -> Result<Folder> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Folder {
            path: path.to_path_buf(),
            file: File::open(path)?,
        })
    }

    /// Makes or opens a folder within this one, which mustn't be a link.
    pub(super) fn inner(&self, name: &str) -> Result<Folder> {
        let open = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&self.file, name, flags, Mode::empty())
        };
        let file = match open() {
            Err(Errno::NOENT) => {
                match mkdirat(&self.file, name, Mode::RWXU) {
                    Err(Errno::EXIST) => {}
                    made => made?,
                }
                self.sync()?;
                open()
            }
            opened => opened,
        };
        let path = self.path(name);
        let file = file.map_err(|why| match why {
            Errno::NOTDIR | Errno::LOOP => Error::other("it must be a folder, and not a link"),
            why => why.into(),
        })?;
        Ok(Folder {
            path,
            file: file.into(),
        })
    }

    /// The path of what's in it, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What's in it, as far as the names are text, and what each is.
    pub(super) fn entries(&self) -> Result<Vec<(String, FileType)>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.file)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name != "." && name != ".." {
                let stat = statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW);
                let kind = match stat {
                    // Another process was faster.
                    Err(Errno::NOENT) => continue,
                    stat => FileType::from_raw_mode(stat?.st_mode),
                };
                entries.push((name.to_string(), kind));
            }
        }
        Ok(entries)
    }

    /// The content of a file; none if it isn't there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut file = match self.file(name, OFlags::RDONLY) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Opens a file, or makes it, to add to its end.
    pub(super) fn append(&self, name: &str) -> Result<File> {
        self.file(name, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)
    }

    /// Has a file written now, as far as its age goes.
    pub(super) fn touch(&self, name: &str) -> Result<()> {
        self.file(name, OFlags::RDONLY)?
            .set_modified(SystemTime::now())
    }

    /// Replaces a file, or makes it: whenever the machine crashes there's the old content or the new one.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut part = self.part(name)?;
        part.fill(bytes)?;
        part.replace(name)?;
        self.sync()
    }

    /// Begins a file that's to replace another.
    pub(super) fn part(&self, name: &str) -> Result<Part<'_>> {
        let name = format!("{name}.{}-{:08x}{PART}", process::id(), getrandom::u32()?);
        let file = self.file(&name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        Ok(Part {
            folder: self,
            name,
            file,
        })
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<()> {
        Ok(renameat(&self.file, from, &self.file, to)?)
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        Ok(unlinkat(&self.file, name, AtFlags::empty())?)
    }

    /// When a file was last written; none if it isn't there.
    pub(super) fn written(&self, name: &str) -> Result<Option<SystemTime>> {
        match statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            stat => {
                let seconds = u64::try_from(stat?.st_mtime).unwrap_or(0);
                Ok(SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
            }
        }
    }

    /// Makes what was renamed in it last.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all()
    }

    /// Waits until no other has it locked, and has it locked for as long as this value lives.
    pub(super) fn lock(&self) -> Result<()> {
        self.file.lock()
    }

    /// Removes what crashes left behind.
    pub(super) fn remove_old_parts(&self) {
        let Ok(entries) = self.entries() else {
            return;
        };
        for (name, _) in entries.iter().filter(|(name, _)| name.ends_with(PART)) {
            let Ok(Some(written)) = self.written(name) else {
                continue;
            };
            if written.elapsed().is_ok_and(|age| age > MAX_WRITE) {
                debug!(path = %self.path(name).display(), "removing what a crash left unfinished");
                let _ = self.remove(name);
            }
        }
    }

    /// Opens what mustn't be a link, or anything else than a file.
    fn file(&self, name: &str, flags: OFlags) -> Result<File> {
        // A pipe mustn't hold it up before it's found out.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.file, name, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::LOOP) => return Err(Error::other("it's a link, and links aren't followed")),
            file => File::from(file?),
        };
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(Error::other("it isn't a file")),
        }
    }
}

/// A file on its way: if it doesn't replace another, it's gone with this value.
pub(super) struct Part<'a> {
    folder: &'a Folder,
    name: String,
    file: File,
}

impl Part<'_> {
    /// Writes bytes, and has them on disk.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()
    }

    /// Takes the place of a file. It's for good once the folder is [`sync`](Folder::sync)ed.
    pub(super) fn replace(self, name: &str) -> Result<()> {
        self.folder.rename(&self.name, name)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        // Once it has replaced another, nothing has this name.
        let _ = self.folder.remove(&self.name);
    }
}
