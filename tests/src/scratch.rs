//! A folder for each test.

use std::fs;
use std::path::{Path, PathBuf};

use crate::must;

/// A test's own folder. It goes with the test, unless the test failed: then it stays, and its path is printed.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a new folder, named after the test.
    #[track_caller]
    pub fn new() -> Scratch {
        let folder = must(
            tempfile::Builder::new()
                .prefix(&format!("weir-{}-", test_name()))
                .tempdir(),
        );
        Scratch(folder.keep())
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its path.
    #[track_caller]
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        must(fs::write(&path, bytes));
        path
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the test's files: {}", self.0.display());
        } else {
            // A folder that stays behind in the system's temporary folder does no harm.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The running test's name as letters, digits and hyphens: libtest names each test's thread after it.
pub(crate) fn test_name() -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("test");
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_the_test_that_passed() {
        let scratch = Scratch::new();
        let path = scratch.path().to_path_buf();
        assert!(path.to_str().unwrap().contains("goes-with-the-test"));
        scratch.write("file", "x");
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_stays_with_the_test_that_failed() {
        let thread = std::thread::spawn(|| {
            let scratch = Scratch::new();
            std::panic::panic_any(scratch.path().to_path_buf());
        });
        let path = *thread.join().unwrap_err().downcast::<PathBuf>().unwrap();
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }
}
