//! Servers of others, from Debian packages, as processes of a test's own.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use xtask::watchdog::Watchdog;

use crate::{MINUTE, eventually, must};

/// A process that logs to a file. It's killed when it is dropped, and when the test process ends.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    watchdog: Option<Watchdog>,
    log: PathBuf,
    /// Where its own lines begin, behind those of the process before it.
    log_start: usize,
}

impl Daemon {
    /// Starts a program that `apt-get install PACKAGE` brings. The package's own service isn't needed, nor in the way.
    #[track_caller]
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &'static str,
        package: &str,
        arguments: impl IntoIterator<Item = A>,
        log: PathBuf,
    ) -> Daemon {
        let output = must(OpenOptions::new().create(true).append(true).open(&log));
        let log_start = must(output.metadata()).len() as usize;
        let started = Command::new(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(must(output.try_clone()))
            .stderr(output)
            .spawn();
        let child = match started {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                panic!("there's no {name}: install it (on Debian) by\n  apt-get install {package}")
            }
            started => must(started),
        };
        let watchdog = must(Watchdog::over(&child, None));
        Daemon {
            name,
            child,
            watchdog: Some(watchdog),
            log,
            log_start,
        }
    }

    /// Waits for something that it does or says, and gives up early if it has ended.
    #[track_caller]
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&str) -> Option<T>,
    ) -> T {
        let what = format!("{what} of {}", self.name);
        eventually(&what, MINUTE, || {
            let ended = must(self.child.try_wait());
            let log = self.log();
            let value = condition(&log);
            if let (None, Some(status)) = (&value, ended) {
                panic!("{} ended ({status}); its log:\n{log}", self.name);
            }
            value
        })
    }

    /// What it printed.
    #[track_caller]
    pub(crate) fn log(&self) -> String {
        let log = must(fs::read(&self.log));
        String::from_utf8_lossy(&log[self.log_start..]).into_owned()
    }

    /// Sends it a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        must(kill_process(Pid::from_child(&self.child), signal));
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait_end(mut self) {
        let what = format!("the end of {}", self.name);
        eventually(&what, MINUTE, || must(self.child.try_wait()));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
    }
}
