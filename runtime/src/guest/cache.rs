//! Compiled code on disk, so that a warm start compiles nothing.
//!
//! Compiled code is native code that's barely checked when it's loaded, so the cache is only as safe as its folder.
//! It's used only if the folder is a real one, owned by the process's user and closed to everyone else; and an entry
//! only if its checksum covers this engine, this module and these very bytes, which are then loaded from memory.
#![allow(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};
use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::module::Digest;

/// Entries that are kept; the oldest go first.
const MAX_ENTRIES: usize = 64;

const CHECKSUM: usize = 32;

/// A folder of compiled code.
pub(super) struct Cache {
    folder: PathBuf,
    /// Differs between engines that can't run each other's code.
    engine: u64,
}

impl Cache {
    /// Makes or opens the folder; `None`, and a warning, if it can't be trusted.
    pub(super) fn open(folder: &Path, engine: &Engine) -> Option<Cache> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Cache {
            folder: folder.to_path_buf(),
            engine: hasher.finish(),
        };
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(anyhow::Error::from);
        match made.and_then(|()| trusted(folder)) {
            Ok(()) => Some(cache),
            Err(error) => {
                warn!(folder = %folder.display(), "compiled code isn't cached: {error:#}");
                None
            }
        }
    }

    /// The compiled code of a module, if it's there and whole.
    pub(super) fn get(&self, digest: &Digest, engine: &Engine) -> Option<Component> {
        let path = self.path(digest);
        match self.read(&path, digest) {
            Ok(None) => None,
            Ok(Some(code)) => match deserialize(engine, &code) {
                Ok(component) => Some(component),
                Err(error) => {
                    warn!(path = %path.display(), "compiling anew: the cached code can't be loaded: {error:#}");
                    None
                }
            },
            Err(error) => {
                warn!(path = %path.display(), "compiling anew: the cached code isn't used: {error:#}");
                None
            }
        }
    }

    /// Keeps the compiled code of a module. A failure costs the next start a compilation, and no more.
    pub(super) fn put(&self, digest: &Digest, code: &[u8]) {
        let path = self.path(digest);
        match self.write(&path, digest, code) {
            Ok(()) => self.prune(),
            Err(error) => warn!(path = %path.display(), "compiled code isn't cached: {error:#}"),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder
            .join(format!("{digest}-{:016x}.cwasm", self.engine))
    }

    fn read(&self, path: &Path, digest: &Digest) -> Result<Option<Vec<u8>>> {
        trusted(&self.folder)?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path);
        let mut file = match file {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        owned(&file.metadata()?)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        ensure!(
            bytes.len() > CHECKSUM
                && bytes[..CHECKSUM] == self.checksum(digest, &bytes[CHECKSUM..]),
            "its checksum is wrong"
        );
        Ok(Some(bytes.split_off(CHECKSUM)))
    }

    fn write(&self, path: &Path, digest: &Digest, code: &[u8]) -> Result<()> {
        trusted(&self.folder)?;
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&part)?;
            file.write_all(&self.checksum(digest, code))?;
            file.write_all(code)?;
            file.sync_all()?;
            fs::rename(&part, path)?;
            File::open(&self.folder)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written.context("writing it")
    }

    fn checksum(&self, digest: &Digest, code: &[u8]) -> [u8; CHECKSUM] {
        let mut hasher = Sha256::new();
        hasher.update(self.engine.to_le_bytes());
        hasher.update(digest.as_bytes());
        hasher.update(code);
        hasher.finalize().into()
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut entries: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|it| it == "cwasm"))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        entries.sort();
        let surplus = entries.len().saturating_sub(MAX_ENTRIES);
        for (_, path) in entries.into_iter().take(surplus) {
            debug!(path = %path.display(), "removing the oldest compiled code");
            let _ = fs::remove_file(path);
        }
    }
}

/// Loads code that this process, or its compiling child, has just made.
pub(super) fn load_fresh(engine: &Engine, code: &[u8]) -> Result<Component> {
    deserialize(engine, code)
}

fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component> {
    // SAFETY: `code` was made by this very engine's configuration in this process or in its child, and has not been
    // out of our hands since: it comes from a pipe of ours, or from a file whose folder and owner were checked and
    // whose checksum covers engine, module and these bytes, which sit in memory now and can't change under us.
    let component = unsafe { Component::deserialize(engine, code) };
    Ok(component?)
}

fn trusted(folder: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(folder)?;
    ensure!(metadata.is_dir(), "it must be a folder, and not a link");
    owned(&metadata)?;
    ensure!(
        metadata.mode() & 0o077 == 0,
        "the folder is open to other users; `chmod 700` it"
    );
    Ok(())
}

fn owned(metadata: &fs::Metadata) -> Result<()> {
    let user = rustix::process::geteuid().as_raw();
    ensure!(
        metadata.uid() == user,
        "it belongs to user {}, and this process runs as user {user}",
        metadata.uid()
    );
    Ok(())
}
