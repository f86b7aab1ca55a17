//! The name of this process among those that share a group: it's part of the `transactional.id` and `group.instance.id`
//! of each worker, so no two processes may have the same one at the same time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};
use tracing::warn;

/// A name, held for as long as this value lives.
#[derive(Debug)]
pub struct Instance {
    name: String,
    /// Locked; the operating system lets go of it however the process ends.
    lock: Option<File>,
}

impl Instance {
    /// Takes the `given` name, or else the host's name with the first number that's free, and holds it by a lock on
    /// `DATA/instances/NAME.lock`. Fails if the given name is taken.
    ///
    /// Where the folder can't be written, a name is taken without being held, with a warning. If names are `vital`, since
    /// two processes under the same one would shut each other out, it has to be a given one then.
    pub fn claim(data: &Path, given: Option<&str>, vital: bool) -> Result<Instance> {
        let folder = data.join("instances");
        let held = match given {
            Some(name) => hold(&folder, name).map(|lock| (name.to_string(), lock)),
            None => first_free(&folder, &host_name()),
        };
        let why = match held {
            Ok((name, Attempt::Held(lock))) => {
                let lock = Some(lock);
                return Ok(Instance { name, lock });
            }
            Ok((name, Attempt::Taken { by, path })) => bail!(
                "the instance name \"{name}\" is taken by {by}, which holds {}; stop it, or give this process another name",
                path.display()
            ),
            Err(why) => why,
        };
        let name = match given {
            Some(name) => {
                warn!(
                    instance = name,
                    "nothing keeps another process from this name: {why:#}"
                );
                name.to_string()
            }
            None if vital => {
                return Err(why.context(
                    "exactly-once and static membership need a name for this process, and none can be held; give it one of its own by --instance, WEIR_INSTANCE or `instance`, or a `data` folder that can be written",
                ));
            }
            None => {
                let name = format!("{}-{:08x}", host_name(), getrandom::u32()?);
                warn!(instance = name, "a name for this run alone: {why:#}");
                name
            }
        };
        Ok(Instance { name, lock: None })
    }

    /// A name that nobody holds, for what joins no group.
    pub fn unheld(name: &str) -> Instance {
        Instance {
            name: name.to_string(),
            lock: None,
        }
    }

    /// The name: at most 100 letters, digits, `.`, `_` and `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it's held, so that no other process with the same data folder can have it.
    pub fn is_held(&self) -> bool {
        self.lock.is_some()
    }
}

/// What came of asking for a name.
enum Attempt {
    Held(File),
    Taken { by: String, path: PathBuf },
}

fn first_free(folder: &Path, host: &str) -> Result<(String, Attempt)> {
    let mut number = 0u32;
    loop {
        let name = format!("{host}-{number}");
        if let held @ Attempt::Held(_) = hold(folder, &name)? {
            return Ok((name, held));
        }
        number += 1;
    }
}

/// The error says that a lock can't be had at all.
fn hold(folder: &Path, name: &str) -> Result<Attempt> {
    let path = folder.join(format!("{name}.lock"));
    let context = || format!("locking {}", path.display());
    let mut file = open(folder, &path).with_context(context)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let by = holder(&mut file);
            return Ok(Attempt::Taken { by, path });
        }
        Err(TryLockError::Error(why)) => return Err(Error::new(why).context(context())),
    }
    // The file stays when the process ends: to remove it would let two processes lock two files of the same name.
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.with_context(context)?;
    Ok(Attempt::Held(file))
}

fn open(folder: &Path, path: &Path) -> std::io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Who has the lock, as it wrote itself down.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(20).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => format!("process {}", text.trim()),
        // It has the lock and hasn't written yet.
        _ => "another process".to_string(),
    }
}

/// The host's name as far as it may stand in an instance's: 64 bytes at most on Linux, and a number comes after it.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    plain(name.trim())
}

fn plain(name: &str) -> String {
    let legal = |c: char| match c {
        '.' | '_' | '-' => c,
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    };
    let name: String = name.chars().map(legal).take(64).collect();
    match name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        true => name,
        false => format!("host{name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::check_instance;

    #[test]
    fn a_name_is_held_until_it_is_let_go() {
        let data = tempfile::tempdir().unwrap();
        let first = Instance::claim(data.path(), Some("blue"), true).unwrap();
        assert!(first.is_held());
        let why = Instance::claim(data.path(), Some("blue"), true).unwrap_err();
        let said = format!("{why:#}");
        let process = format!("process {}", std::process::id());
        assert!(
            said.contains(&process) && said.contains("blue.lock"),
            "{said}"
        );
        Instance::claim(data.path(), Some("green"), true).unwrap();
        drop(first);
        Instance::claim(data.path(), Some("blue"), true).unwrap();
    }

    #[test]
    fn names_that_nobody_gave_are_the_first_that_are_free() {
        let data = tempfile::tempdir().unwrap();
        let claim = || Instance::claim(data.path(), None, true).unwrap();
        let (zero, one) = (claim(), claim());
        let host = host_name();
        assert_eq!(zero.name(), format!("{host}-0"));
        assert_eq!(one.name(), format!("{host}-1"));
        drop(zero);
        assert_eq!(claim().name(), format!("{host}-0"));
        // A given one is no exception.
        let two = Instance::claim(data.path(), Some(&format!("{host}-2")), true).unwrap();
        let (zero, three) = (claim(), claim());
        assert_eq!(zero.name(), format!("{host}-0"));
        assert_eq!(three.name(), format!("{host}-3"));
        assert_eq!((two.is_held(), three.is_held()), (true, true));
    }

    #[test]
    fn without_a_folder_a_vital_name_must_be_given() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let why = Instance::claim(&file, None, true).unwrap_err();
        assert!(format!("{why:#}").contains("--instance"), "{why:#}");
        let given = Instance::claim(&file, Some("blue"), true).unwrap();
        assert_eq!((given.name(), given.is_held()), ("blue", false));
        let (one, other) = (
            Instance::claim(&file, None, false).unwrap(),
            Instance::claim(&file, None, false).unwrap(),
        );
        assert_ne!(one.name(), other.name());
        check_instance(one.name()).unwrap();
    }

    #[test]
    fn a_lock_is_not_looked_for_elsewhere() {
        let data = tempfile::tempdir().unwrap();
        let elsewhere = data.path().join("elsewhere");
        fs::write(&elsewhere, "precious").unwrap();
        fs::create_dir(data.path().join("instances")).unwrap();
        symlink(&elsewhere, data.path().join("instances/blue.lock")).unwrap();
        let blue = Instance::claim(data.path(), Some("blue"), false).unwrap();
        assert!(!blue.is_held());
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
    }

    #[test]
    fn any_host_s_name_will_do() {
        for host in ["", "kafka-1", "Büro", "-x", "a b", &"x".repeat(300)] {
            let name = format!("{}-4294967295", plain(host));
            check_instance(&name).unwrap_or_else(|must_be| panic!("{name} {must_be}"));
        }
    }
}
