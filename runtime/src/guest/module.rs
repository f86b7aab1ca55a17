//! A version of a transform's code: verified, compiled, linked, and cheap to clone.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::bindings::TransformPre;
use super::cache::load_fresh;
use super::compile::compile;
use super::host::Host;
use super::instance::{State, describe};
use super::limits::Limits;
use super::log::{Allowance, Flow};
use super::wrap;

/// The interface that a module must export.
pub(super) const INTERFACE: &str = "weir:transform/guest@0.1.0";

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

/// The text of [`Display`](fmt::Display), and no other: 64 lower-case hexadecimal digits.
impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Digest> {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
                _ => None,
            })
            .collect();
        let bytes = bytes.and_then(|it| it.try_into().ok());
        let bytes = bytes.with_context(|| {
            format!("\"{text}\" isn't a SHA-256, which has 64 digits of 0-9 and a-f")
        })?;
        Ok(Digest(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
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
    compile_time: Option<Duration>,
    /// Bytes of linear memory of all its guests.
    memory: Arc<AtomicU64>,
    /// Of all its guests, so that one that's made anew after a fault goes on counting. Locked by those alone that log.
    flow: Mutex<Flow>,
}

impl Module {
    /// Reads a module's file, if it has at most `max_bytes` bytes ([`Limits::max_module_bytes`]).
    pub fn read(path: &Path, max_bytes: usize) -> Result<Vec<u8>> {
        let reading = || format!("reading the module {}", path.display());
        let metadata = std::fs::metadata(path).with_context(reading)?;
        ensure!(
            metadata.is_file(),
            "the module {} isn't a file",
            path.display()
        );
        let most = max_bytes as u64;
        let mut bytes = Vec::new();
        if metadata.len() <= most {
            let file = File::open(path).with_context(reading)?;
            // The file may grow meanwhile.
            file.take(most.saturating_add(1))
                .read_to_end(&mut bytes)
                .with_context(reading)?;
        }
        let size = metadata.len().max(bytes.len() as u64);
        ensure!(
            size <= most,
            "the module {} has {size} bytes, and `max_module_bytes` allows {most}; raise it, or strip the module",
            path.display()
        );
        Ok(bytes)
    }

    /// Verifies, compiles (unless the cache has it) and links a module, and asks it within the limits what it is.
    pub fn load(host: &Host, bytes: &[u8], limits: &Limits) -> Result<Module> {
        let digest = Digest::of(bytes);
        let component = wrap::component(bytes)?;
        let cached = host.cache().and_then(|it| it.get(&digest, host.engine()));
        let (compiled, compile_time) = match cached {
            Some(compiled) => (compiled, None),
            None => {
                let began = Instant::now();
                let code = compile(host.compiler(), host.engine(), &component)
                    .context("it can't be compiled")?;
                if let Some(cache) = host.cache() {
                    cache.put(&digest, &code);
                }
                let compile_time = began.elapsed();
                let compiled = load_fresh(host.engine(), &code);
                let compiled = compiled.context("its compiled code can't be loaded")?;
                (compiled, Some(compile_time))
            }
        };
        let pre = host
            .linker()
            .instantiate_pre(&compiled)
            .and_then(TransformPre::new)
            .map_err(anyhow::Error::from)
            .with_context(|| format!("its {INTERFACE} isn't the one that this Weir speaks"))?;
        let description = describe(host, &pre, limits)
            .map_err(|fault| anyhow::anyhow!("asked what it is, {fault}"))?;
        Ok(Module(Arc::new(Inner {
            host: host.clone(),
            pre,
            digest,
            bytes: bytes.len(),
            description,
            compile_time,
            memory: Arc::default(),
            flow: Mutex::default(),
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

    /// How long it was compiled for when it was loaded; `None` if the cache had its code.
    pub fn compile_time(&self) -> Option<Duration> {
        self.0.compile_time
    }

    /// Bytes of linear memory that all its guests have.
    pub fn guest_memory(&self) -> u64 {
        self.0.memory.load(Ordering::Relaxed)
    }

    pub(super) fn memory(&self) -> &Arc<AtomicU64> {
        &self.0.memory
    }

    /// How many of `lines` its guests may write to the log now, where `most` are allowed in a second.
    pub(super) fn may_log(&self, lines: usize, most: usize) -> Allowance {
        let mut flow = self.0.flow.lock().unwrap_or_else(PoisonError::into_inner);
        flow.ask(Instant::now(), lines, most)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"module");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{digest}\""));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn nothing_else_is_a_digest() {
        let digest = Digest::of(b"module").to_string();
        let upper = digest.to_uppercase();
        let wide = format!("{}ä", &digest[..62]);
        let wrong = ["", "0", &digest[1..], &digest[2..], &upper, &wide];
        for text in wrong {
            let why = text.parse::<Digest>().unwrap_err().to_string();
            assert!(why.contains("64 digits"), "{why}");
        }
        format!("{digest}00").parse::<Digest>().unwrap_err();
        serde_json::from_str::<Digest>("7").unwrap_err();
    }
}
