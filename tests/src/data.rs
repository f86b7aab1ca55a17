//! Data folders of tests: one for each group, so that no test sees another one's versions and instances, and what was
//! compiled in all of them.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::{Scratch, Weir, must};

/// How long it may take to compile all guests.
const COMPILING: Duration = Duration::from_secs(300);

/// The data folder of the processes of a group. What is compiled lies in it already.
#[track_caller]
pub fn data_of(group: &str) -> PathBuf {
    let folder = own().join(group);
    let compiled = folder.join("compiled");
    if compiled.exists() {
        return folder;
    }
    make(&compiled);
    for entry in must(fs::read_dir(all_compiled())) {
        let from = must(entry).path();
        let to = compiled.join(from.file_name().unwrap_or_default());
        // Another test may have this very group, and be faster.
        if let Err(why) = fs::hard_link(&from, &to) {
            assert!(to.exists(), "{}: {why}", to.display());
        }
    }
    folder
}

/// Of all test runs.
fn shared() -> PathBuf {
    xtask::root().join("target/tmp/weir-tests")
}

/// Of this test run. Those of runs that are over are removed.
fn own() -> PathBuf {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let runs = shared().join("runs");
        make(&runs);
        for entry in must(fs::read_dir(&runs)) {
            let run = must(entry).path();
            let pid = run.file_name().unwrap_or_default();
            if !Path::new("/proc").join(pid).exists() {
                // Another run may remove it, too.
                let _ = fs::remove_dir_all(&run);
            }
        }
        let own = runs.join(std::process::id().to_string());
        make(&own);
        own
    });
    own.clone()
}

/// The compiled code of all guests.
fn all_compiled() -> PathBuf {
    static COMPILED: OnceLock<()> = OnceLock::new();
    let data = shared().join("all");
    COMPILED.get_or_init(|| {
        let guests = xtask::root().join("target/guests");
        let mut text = format!(
            "modules = {guests:?}\ndata = {data:?}\n[kafka]\n\"bootstrap.servers\" = \"localhost:1\"\n[pipelines.all]\ninput = \"in\"\noutput = \"out\"\n"
        );
        for (guest, config) in [
            ("add-uuid", "{}"),
            ("faulty", "{}"),
            ("filter", "{ keep = \"true\" }"),
            ("format-timestamp", "{ from = \"t\" }"),
            ("redact", "{ fields = [{ path = \"a\", action = \"remove\" }] }"),
            ("route", "{ rules = [{ when = \"true\", to = \"default\" }] }"),
        ] {
            text += &format!(
                "[[pipelines.all.transforms]]\nname = {guest:?}\nmodule = \"{guest}.wasm\"\nconfig = {config}\n"
            );
        }
        let scratch = Scratch::new();
        scratch.write("all.toml", text);
        let arguments = ["check", "-c", "all.toml", "--offline"];
        let finished = Weir::command(&scratch, COMPILING, &arguments);
        // A config that a guest doesn't like costs its compilation nothing.
        assert!(
            data.join("compiled").exists(),
            "nothing was compiled: {}",
            finished.stderr
        );
    });
    data.join("compiled")
}

#[track_caller]
fn make(folder: &Path) {
    must(DirBuilder::new().recursive(true).mode(0o700).create(folder));
}
