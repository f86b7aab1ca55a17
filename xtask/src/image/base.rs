//! `debian:bookworm-slim`: fetched, or made here from Debian's packages.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Error, bail, ensure};
use xtask::container::Engine;

/// As deploy/Dockerfile names it.
const BASE: &str = "docker.io/library/debian:bookworm-slim";

/// What the published image leaves out, too.
const LEFT_OUT: [&str; 5] = ["doc", "info", "lintian", "locale", "man"];

/// `usrmerge` brings a whole Perl for a job that's done by then.
const NO_PERL: &str = "chroot \"$1\" apt-get --quiet --yes purge usrmerge '^perl$' '^perl-modules' '^libperl5' '^libgdbm' \
                       libfile-find-rule-perl libnumber-compare-perl libtext-glob-perl";

/// Has the engine have the base: takes what it has, otherwise fetches it, otherwise makes it.
pub(super) fn ensure(engine: Engine) -> Result<(), Error> {
    if engine.has(BASE) {
        return Ok(());
    }
    let Err(why) = engine.output(&["pull", "--quiet", BASE]) else {
        return Ok(());
    };
    println!("{BASE} can't be fetched, so it's made here of Debian's packages");
    make(engine).with_context(|| format!("{BASE} can be neither fetched ({why:#}) nor made"))
}

fn make(engine: Engine) -> Result<(), Error> {
    let folder = xtask::root().join("target/image");
    fs::create_dir_all(&folder)?;
    let tar = folder.join("base.tar");
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=minbase"])
        // So that no stage has to install anything; libssl comes with the first.
        .arg("--include=ca-certificates,usr-is-merged")
        .args(LEFT_OUT.map(|it| format!("--dpkgopt=path-exclude=/usr/share/{it}/*")))
        .arg("--dpkgopt=path-include=/usr/share/doc/*/copyright")
        .arg(format!("--customize-hook={NO_PERL}"))
        .arg("bookworm")
        .arg(&tar)
        // The same packages give the same file.
        .env("SOURCE_DATE_EPOCH", "0")
        .stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(why) => bail!(
            "can't run `mmdebstrap` ({why}); on Debian or Ubuntu it comes with\n  apt-get install mmdebstrap"
        ),
    };
    ensure!(
        output.status.success(),
        "`mmdebstrap` failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let path = tar
        .to_str()
        .context("the workspace's folder must have a name in UTF-8")?;
    engine.output(&["import", path, BASE])?;
    Ok(())
}
