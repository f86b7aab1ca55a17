//! A store in a folder.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::FileType;
use tracing::debug;

use super::UNNAMED;
use super::audit::{self, Entry};
use super::folder::Folder;
use super::record::Record;
use crate::guest::Digest;

const MODULES: &str = "modules";
const INSTANCES: &str = "instances";
const MODULE_END: &str = ".wasm";
const RECORD_END: &str = ".json";

/// Folders are opened anew for each use, and made if they're gone.
#[derive(Debug)]
pub(super) struct Disk {
    data: PathBuf,
    instance: String,
    /// Held while a line is added, so that two don't both begin the file anew.
    audit: Mutex<()>,
}

impl Disk {
    pub(super) fn open(data: &Path, instance: &str) -> Result<Disk> {
        check(instance)?;
        let disk = Disk {
            data: data.to_path_buf(),
            instance: instance.to_string(),
            audit: Mutex::default(),
        };
        for folder in [disk.modules()?, disk.own()?] {
            // An open folder needn't be one that can be written.
            let written = folder.part("probe").map(drop);
            written.with_context(|| format!("writing to {}", folder.path("").display()))?;
            folder.remove_old_parts();
        }
        Ok(disk)
    }

    pub(super) fn put_module(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let name = module_name(&digest);
        let folder = self.modules()?;
        if !is_there(&folder, &name, bytes) {
            let written = folder.write(&name, bytes);
            written
                .with_context(|| format!("writing the module {}", folder.path(&name).display()))?;
        }
        Ok(digest)
    }

    pub(super) fn module(&self, digest: &Digest) -> Result<Vec<u8>> {
        let name = module_name(digest);
        let folder = self.modules()?;
        let path = folder.path(&name);
        let read = folder.read(&name);
        let bytes = read.with_context(|| format!("reading the module {}", path.display()))?;
        let Some(bytes) = bytes else {
            bail!(
                "the module {} is gone; put its file back there, or swap to another version",
                path.display()
            );
        };
        let is = Digest::of(&bytes);
        ensure!(
            is == *digest,
            "the module {} was changed: its SHA-256 is {is}; put the right file back there, or swap to another version",
            path.display()
        );
        Ok(bytes)
    }

    pub(super) fn load(&self, pipeline: &str) -> Result<Record> {
        check(pipeline)?;
        let record = read_record(&self.own()?, &record_name(pipeline))?;
        Ok(record.unwrap_or_default())
    }

    pub(super) fn save(&self, pipeline: &str, record: &Record) -> Result<()> {
        check(pipeline)?;
        let name = record_name(pipeline);
        let folder = self.own()?;
        let writing = || format!("writing the history {}", folder.path(&name).display());
        let text = record.text().with_context(writing)?;
        folder.write(&name, &text).with_context(writing)
    }

    pub(super) fn audit(&self, entry: &Entry) -> Result<()> {
        let _held = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.own()?;
        let added = audit::append(&folder, entry);
        added.with_context(|| format!("adding to {}", folder.path(audit::FILE).display()))
    }

    pub(super) fn prune(&self, now: SystemTime) -> Result<()> {
        let named = self.named()?;
        let folder = self.modules()?;
        folder.lock()?;
        for (name, _) in folder.entries()? {
            let digest = name.strip_suffix(MODULE_END).map(str::parse::<Digest>);
            let Some(Ok(digest)) = digest else {
                continue;
            };
            // What was put after the records were read isn't as old.
            let age = folder.written(&name)?.map(|it| now.duration_since(it));
            let is_old = age.is_some_and(|it| it.is_ok_and(|age| age > UNNAMED));
            if is_old && !named.contains(&digest) {
                let path = folder.path(&name);
                match folder.remove(&name) {
                    Ok(()) => {
                        debug!(path = %path.display(), "removed a module that no record names")
                    }
                    Err(why) => {
                        debug!(path = %path.display(), "a module that no record names stays: {why}")
                    }
                }
            }
        }
        Ok(())
    }

    /// The modules that any record names.
    fn named(&self) -> Result<HashSet<Digest>> {
        let instances = self.instances()?;
        let mut named = HashSet::new();
        for (instance, kind) in instances.entries()? {
            // The locks of the names.
            if kind == FileType::RegularFile {
                continue;
            }
            let folder = inner(&instances, &instance)?;
            for (name, _) in folder.entries()? {
                if name.ends_with(RECORD_END)
                    && let Some(record) = read_record(&folder, &name)?
                {
                    named.extend(record.digests());
                }
            }
        }
        Ok(named)
    }

    fn modules(&self) -> Result<Folder> {
        inner(&self.folder()?, MODULES)
    }

    fn instances(&self) -> Result<Folder> {
        inner(&self.folder()?, INSTANCES)
    }

    fn own(&self) -> Result<Folder> {
        inner(&self.instances()?, &self.instance)
    }

    fn folder(&self) -> Result<Folder> {
        Folder::open(&self.data)
            .with_context(|| format!("opening the folder {}", self.data.display()))
    }
}

fn inner(folder: &Folder, name: &str) -> Result<Folder> {
    let opened = folder.inner(name);
    opened.with_context(|| format!("opening the folder {}", folder.path(name).display()))
}

/// Whether the module is there and whole, and isn't pruned for now.
fn is_there(folder: &Folder, name: &str, bytes: &[u8]) -> bool {
    // Without it another process could find the file old, and remove it once it's touched.
    if folder.lock().is_err() {
        return false;
    }
    let whole = matches!(folder.read(name), Ok(Some(there)) if there == bytes);
    whole && folder.touch(name).is_ok()
}

fn read_record(folder: &Folder, name: &str) -> Result<Option<Record>> {
    let path = folder.path(name);
    let text = folder.read(name);
    let text = text.with_context(|| format!("reading the history {}", path.display()))?;
    text.map(|text| Record::read(&text))
        .transpose()
        .with_context(|| format!("the history {} can't be used", path.display()))
}

fn module_name(digest: &Digest) -> String {
    format!("{digest}{MODULE_END}")
}

fn record_name(pipeline: &str) -> String {
    format!("{pipeline}{RECORD_END}")
}

/// A name that would lead out of the folder, or be hidden in it, is refused.
fn check(name: &str) -> Result<()> {
    ensure!(
        !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']),
        "the name {name:?} can't be a file's: it must begin with a letter or digit, and have no \"/\""
    );
    Ok(())
}
