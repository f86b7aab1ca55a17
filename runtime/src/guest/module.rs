//! A version of a transform's code: verified, compiled, linked, and cheap to clone.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::bindings::TransformPre;
use super::cache::load_fresh;
use super::compile::compile;
use super::host::Host;
use super::instance::{State, describe};
use super::limits::Limits;
use super::wrap;

/// The interface that a module must export.
pub(super) const INTERFACE: &str = "weir:transform/guest@0.1.0";

/// A module file may be this large, in bytes. The largest of our own is below 1 MiB.
pub const MAX_MODULE_BYTES: u64 = 64 << 20;

/// The SHA-256 of a module's file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a module's bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits, for logs, labels and tables.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a module says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name, such as `format-timestamp`.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it does, in a sentence.
    pub summary: String,
    /// The JSON Schema of its config, as text.
    pub config_schema: String,
}

/// A module that can be run.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    host: Host,
    pre: TransformPre<State>,
    digest: Digest,
    bytes: usize,
    description: Description,
}

impl Module {
    /// Reads a module's file.
    pub fn read(path: &Path) -> Result<Vec<u8>> {
        let metadata = std::fs::metadata(path)
            .with_context(|| format!("reading the module {}", path.display()))?;
        ensure!(
            metadata.is_file(),
            "the module {} isn't a file",
            path.display()
        );
        ensure!(
            metadata.len() <= MAX_MODULE_BYTES,
            "the module {} has {} bytes, and at most {MAX_MODULE_BYTES} are taken",
            path.display(),
            metadata.len()
        );
        std::fs::read(path).with_context(|| format!("reading the module {}", path.display()))
    }

    /// Verifies, compiles (unless the cache has it) and links a module, and asks it what it is.
    pub fn load(host: &Host, bytes: &[u8]) -> Result<Module> {
        let digest = Digest::of(bytes);
        let component = wrap::component(bytes)?;
        let cached = host.cache().and_then(|it| it.get(&digest, host.engine()));
        let compiled = match cached {
            Some(compiled) => compiled,
            None => {
                let code = compile(host.compiler(), host.engine(), &component)
                    .context("it can't be compiled")?;
                if let Some(cache) = host.cache() {
                    cache.put(&digest, &code);
                }
                load_fresh(host.engine(), &code).context("its compiled code can't be loaded")?
            }
        };
        let pre = host
            .linker()
            .instantiate_pre(&compiled)
            .and_then(TransformPre::new)
            .map_err(anyhow::Error::from)
            .with_context(|| format!("its {INTERFACE} isn't the one that this Weir speaks"))?;
        let description = describe(host, &pre, &Limits::default())
            .map_err(|fault| anyhow::anyhow!("asked what it is, {fault}"))?;
        Ok(Module(Arc::new(Inner {
            host: host.clone(),
            pre,
            digest,
            bytes: bytes.len(),
            description,
        })))
    }

    /// The digest of the file.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> usize {
        self.0.bytes
    }

    /// What the module says that it is.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    pub(super) fn host(&self) -> &Host {
        &self.0.host
    }

    pub(super) fn pre(&self) -> &TransformPre<State> {
        &self.0.pre
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Description { name, version, .. } = self.description();
        write!(f, "{name} {version} ({})", self.digest().short())
    }
}
