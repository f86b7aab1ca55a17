//! The program under test, as a person would run it.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use xtask::http;
use xtask::watchdog::Watchdog;

use crate::{MINUTE, Scratch, Topic, must};

/// A `weir run` in a process of its own. It's killed when it is dropped, and when the test process ends.
#[derive(Debug)]
pub struct Weir {
    child: Child,
    watchdog: Option<Watchdog>,
    /// Known once the log names it.
    admin: OnceCell<SocketAddr>,
    log: PathBuf,
    exit: Option<ExitStatus>,
}

/// A command that ran to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The exit code, or `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed to standard output.
    pub stdout: String,
    /// What it printed to standard error.
    pub stderr: String,
}

impl Weir {
    /// Writes a config into the scratch folder and starts `weir run` with it, with a free port for the admin
    /// endpoints. Returns at once; see [`Weir::wait_ready`].
    #[track_caller]
    pub fn start(scratch: &Scratch, config: &str) -> Weir {
        Weir::start_with(scratch, config, &[])
    }

    /// As [`Weir::start`], with more arguments for `weir run`.
    #[track_caller]
    pub fn start_with(scratch: &Scratch, config: &str, arguments: &[&str]) -> Weir {
        let listen = ["--listen", "127.0.0.1:0"];
        Weir::spawn(scratch, config, &[&listen, arguments].concat())
    }

    /// As [`Weir::start_with`], with nothing said about the admin endpoints' port but what the arguments say.
    #[track_caller]
    pub fn start_plain(scratch: &Scratch, config: &str, arguments: &[&str]) -> Weir {
        Weir::spawn(scratch, config, arguments)
    }

    /// As [`Weir::start`], with this library loaded before all others.
    #[track_caller]
    pub fn start_preloaded(scratch: &Scratch, config: &str, library: &Path) -> Weir {
        Weir::spawn_with(scratch, config, &["--listen", "127.0.0.1:0"], Some(library))
    }

    #[track_caller]
    fn spawn(scratch: &Scratch, config: &str, arguments: &[&str]) -> Weir {
        Weir::spawn_with(scratch, config, arguments, None)
    }

    #[track_caller]
    fn spawn_with(
        scratch: &Scratch,
        config: &str,
        arguments: &[&str],
        library: Option<&Path>,
    ) -> Weir {
        let number = (1..)
            .find(|number| !scratch.path().join(format!("weir-{number}.log")).exists())
            .expect("a folder holds fewer files than there are numbers");
        let config = scratch.write(&format!("weir-{number}.toml"), config);
        let log = scratch.path().join(format!("weir-{number}.log"));
        let output = must(File::create(&log));
        let child = must(
            Command::new(program())
                .arg("run")
                .arg("-c")
                .arg(config)
                .args(arguments)
                .envs(library.map(|it| ("LD_PRELOAD", it)))
                .current_dir(scratch.path())
                .stdin(Stdio::null())
                .stdout(must(output.try_clone()))
                .stderr(output)
                .spawn(),
        );
        let watchdog = must(Watchdog::over(&child, None));
        Weir {
            child,
            watchdog: Some(watchdog),
            admin: OnceCell::new(),
            log,
            exit: None,
        }
    }

    /// Runs any `weir` command in the scratch folder to its end.
    ///
    /// # Panics
    /// If it's still running after `deadline`.
    #[track_caller]
    pub fn command(scratch: &Scratch, deadline: Duration, arguments: &[&str]) -> Finished {
        let files = must(tempfile::tempdir_in(scratch.path()));
        let stdout = files.path().join("stdout");
        let file = must(File::create(&stdout));
        let finished = Weir::finish(scratch, deadline, arguments, file.into());
        Finished {
            stdout: read(&stdout),
            ..finished
        }
    }

    /// As [`Weir::command`], with nobody to read standard output.
    #[track_caller]
    pub fn command_unread(scratch: &Scratch, deadline: Duration, arguments: &[&str]) -> Finished {
        let (reader, writer) = must(std::io::pipe());
        drop(reader);
        Weir::finish(scratch, deadline, arguments, writer.into())
    }

    #[track_caller]
    fn finish(
        scratch: &Scratch,
        deadline: Duration,
        arguments: &[&str],
        stdout: Stdio,
    ) -> Finished {
        let files = must(tempfile::tempdir_in(scratch.path()));
        let stderr = files.path().join("stderr");
        let mut weir = Weir::spawn_to(scratch, arguments, stdout, stderr.clone());
        let code = weir.wait_exit(deadline);
        Finished {
            code,
            stdout: String::new(),
            stderr: read(&stderr),
        }
    }

    /// Starts any `weir` command in the scratch folder. What it prints to standard output is forgotten.
    #[track_caller]
    pub fn start_command(scratch: &Scratch, arguments: &[&str]) -> Weir {
        let (_, log) = must(must(tempfile::NamedTempFile::new_in(scratch.path())).keep());
        Weir::spawn_to(scratch, arguments, Stdio::null(), log)
    }

    #[track_caller]
    fn spawn_to(scratch: &Scratch, arguments: &[&str], stdout: Stdio, log: PathBuf) -> Weir {
        let child = must(
            Command::new(program())
                .args(arguments)
                .current_dir(scratch.path())
                .stdin(Stdio::null())
                .stdout(stdout)
                .stderr(must(File::create(&log)))
                .spawn(),
        );
        let watchdog = must(Watchdog::over(&child, None));
        Weir {
            child,
            watchdog: Some(watchdog),
            admin: OnceCell::new(),
            log,
            exit: None,
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the admin endpoints are, once the process has said so.
    pub fn admin(&self) -> Option<SocketAddr> {
        if self.admin.get().is_none() {
            let log = self.log();
            let (_, after) = log.split_once("admin endpoints listen=")?;
            // The end of the line shows that the address is whole.
            let (line, _) = after.split_once('\n')?;
            let address = line.split(' ').next()?;
            let _ = self.admin.set(must(address.parse()));
        }
        self.admin.get().copied()
    }

    /// What it printed so far, to both outputs.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Asks an admin endpoint, `/healthz` for example; `None` if nobody answers.
    pub fn get(&self, path: &str) -> Option<http::Response> {
        http::get(self.admin()?, path).ok()
    }

    /// A counter of `/metrics`, summed over the labels that aren't named (`pipeline="stocks"` names one); 0 if it
    /// isn't there.
    pub fn counter(&self, name: &str, labels: &[&str]) -> u64 {
        let metrics = self.get("/metrics").map(|response| response.body);
        let sum = metrics.and_then(|metrics| http::counter(&metrics, name, labels));
        sum.unwrap_or(0.0) as u64
    }

    /// Waits until `/readyz` says yes.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        self.wait_until("/readyz says yes", MINUTE, |weir| {
            (weir.get("/readyz")?.status == 200).then_some(())
        });
    }

    /// Waits for a condition, and gives up early when the process has ended.
    ///
    /// # Panics
    /// Once the deadline is over or the process is gone, with the end of its log.
    #[track_caller]
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Weir) -> Option<T>,
    ) -> T {
        let result = xtask::wait::eventually(what, deadline, || {
            let exit = self.poll_exit();
            // Looked at after the exit, so that what the process did last counts.
            match (condition(self), exit) {
                (None, Some(status)) => anyhow::bail!("weir ended ({status}) before: {what}"),
                (value, _) => Ok(value),
            }
        });
        match result {
            Ok(value) => value,
            Err(error) => panic!("{error:#}; its log ends:\n{}", self.log_tail()),
        }
    }

    /// What `/readyz` says while it says no: a line for each reason; `None` if it says yes, or nothing.
    pub fn not_ready(&self) -> Option<String> {
        let response = self.get("/readyz")?;
        (response.status == 503).then_some(response.body)
    }

    /// Waits until `/readyz` says no, with all of these words.
    #[track_caller]
    pub fn wait_not_ready(&mut self, words: &[&str]) -> String {
        self.wait_until(&format!("/readyz says no: {words:?}"), MINUTE, |weir| {
            let reasons = weir.not_ready()?;
            words
                .iter()
                .all(|it| reasons.contains(it))
                .then_some(reasons)
        })
    }

    /// Waits until its log has all of these words.
    #[track_caller]
    pub fn wait_log(&mut self, words: &[&str]) {
        self.wait_until(&format!("the log says {words:?}"), MINUTE, |weir| {
            let log = weir.log();
            words.iter().all(|it| log.contains(it)).then_some(())
        });
    }

    /// Waits until the group has committed all that is in the topic now.
    #[track_caller]
    pub fn wait_done(&mut self, input: &Topic, group: &str) {
        let ends: Vec<Option<i64>> = input.ends().into_iter().map(Some).collect();
        // A partition that never had a record has no offset to commit.
        let same = |(end, committed): (&Option<i64>, Option<i64>)| {
            *end == committed || (*end == Some(0) && committed.is_none())
        };
        self.wait_until(&format!("{group} has done all of {input}"), MINUTE, |_| {
            let committed = input.committed(group);
            ends.iter().zip(committed).all(same).then_some(())
        });
    }

    /// Asks it to stop (SIGTERM) and returns its exit code, or `None` if a signal ended it.
    #[track_caller]
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait_exit(MINUTE)
    }

    /// Kills it as a crash would (SIGKILL), and waits until it is gone.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit(MINUTE);
    }

    /// Sends a signal. Nothing happens if it has ended.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        if self.poll_exit().is_none() {
            must(kill_process(Pid::from_child(&self.child), signal));
        }
    }

    /// Waits until it ends by itself, and returns its exit code, or `None` if a signal ended it.
    #[track_caller]
    pub fn wait_exit(&mut self, deadline: Duration) -> Option<i32> {
        let result = xtask::wait::eventually("weir's end", deadline, || Ok(self.poll_exit()));
        match result {
            Ok(status) => status.code(),
            Err(error) => panic!("{error:#}; its log ends:\n{}", self.log_tail()),
        }
    }

    fn poll_exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = must(self.child.try_wait());
        }
        self.exit
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
    }
}

/// The path of a guest module in `target/guests`, `guest("filter")` for example.
///
/// # Panics
/// If it isn't there, with what to do.
#[track_caller]
pub fn guest(name: &str) -> PathBuf {
    let path = xtask::root().join(format!("target/guests/{name}.wasm"));
    assert!(
        path.exists(),
        "there's no {}: run `cargo xtask guests`",
        path.display()
    );
    path
}

/// `weir`, beside the folder of this test binary.
#[track_caller]
fn program() -> PathBuf {
    let tests = must(std::env::current_exe());
    let program = tests
        .parent()
        .and_then(Path::parent)
        .map(|folder| folder.join("weir"))
        .unwrap_or_default();
    assert!(
        program.exists(),
        "there's no {}: run `cargo xtask test kafka`, or `cargo build --release --workspace`",
        program.display()
    );
    program
}

fn read(path: &Path) -> String {
    let bytes = must(fs::read(path));
    String::from_utf8_lossy(&bytes).into_owned()
}
