//! The processes under test: some `weir run` in one group, each in a folder of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, ensure};
use rustix::process::{Pid, Signal, kill_process};
use xtask::http;
use xtask::wait::eventually;
use xtask::watchdog::Watchdog;

/// Longer than the drain timeout of the config, and a broker's start.
const END: Duration = Duration::from_secs(60);

/// All processes, by slot: a slot is empty while its process is down.
pub struct Fleet {
    program: PathBuf,
    folder: PathBuf,
    config: PathBuf,
    processes: Vec<Option<Process>>,
    /// What went wrong with processes that nobody had touched.
    troubles: Vec<String>,
}

struct Process {
    child: Child,
    watchdog: Option<Watchdog>,
    log: PathBuf,
    /// Where its own lines begin, behind those of the process that had the slot before it.
    log_start: u64,
}

impl Fleet {
    /// An empty fleet with so many slots, of processes that run `program` with one config.
    pub fn new(program: &Path, folder: &Path, config: &str, slots: usize) -> Result<Fleet, Error> {
        ensure!(program.exists(), "there's no {}", program.display());
        let file = folder.join("weir.toml");
        fs::write(&file, config)?;
        Ok(Fleet {
            program: program.to_path_buf(),
            folder: folder.to_path_buf(),
            config: file,
            processes: (0..slots).map(|_| None).collect(),
            troubles: Vec::new(),
        })
    }

    /// The slots whose processes run.
    pub fn running(&self) -> Vec<usize> {
        let slots = self.processes.iter().enumerate();
        let running = slots.filter(|(_, process)| process.is_some());
        running.map(|(slot, _)| slot).collect()
    }

    /// Starts the process of an empty slot.
    pub fn start(&mut self, slot: usize) -> Result<(), Error> {
        ensure!(self.processes[slot].is_none(), "slot {slot} isn't empty");
        let folder = self.folder.join(format!("weir-{slot}"));
        fs::create_dir_all(&folder)?;
        let log = folder.join("weir.log");
        let output = OpenOptions::new().create(true).append(true).open(&log)?;
        let log_start = output.metadata()?.len();
        let child = Command::new(&self.program)
            .arg("run")
            .arg("-c")
            .arg(&self.config)
            .args(["--listen", "127.0.0.1:0"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("can't run {}", self.program.display()))?;
        let watchdog = Some(Watchdog::over(&child, None)?);
        self.processes[slot] = Some(Process {
            child,
            watchdog,
            log,
            log_start,
        });
        Ok(())
    }

    /// Kills a process as a crash would.
    pub fn kill(&mut self, slot: usize) -> Result<(), Error> {
        let mut process = self.take(slot)?;
        process.child.kill()?;
        process.child.wait()?;
        Ok(())
    }

    /// Asks a process to end, and waits until it has. Another exit code than 0 is a trouble.
    pub fn terminate(&mut self, slot: usize) -> Result<(), Error> {
        self.signal(slot, Signal::TERM)?;
        let mut process = self.take(slot)?;
        let ended = eventually("a process's end", END, || Ok(process.child.try_wait()?));
        match ended {
            Ok(status) if status.success() => {}
            Ok(status) => self.troubles.push(format!(
                "process {slot} was asked to end, and ended with {status}; its log ends:\n{}",
                process.tail()
            )),
            Err(_) => {
                process.keep_stacks();
                self.troubles.push(format!(
                    "process {slot} was asked to end, and hadn't after {END:?}; its log ends:\n{}",
                    process.tail()
                ));
            }
        }
        Ok(())
    }

    /// Sends a process a signal.
    pub fn signal(&mut self, slot: usize, signal: Signal) -> Result<(), Error> {
        let process = self.processes.get(slot).and_then(Option::as_ref);
        let process = process.with_context(|| format!("slot {slot} is empty"))?;
        kill_process(Pid::from_child(&process.child), signal)
            .with_context(|| format!("can't send process {slot} {signal:?}"))
    }

    /// Notes processes that ended without having been asked to, and starts them again.
    pub fn check(&mut self) -> Result<(), Error> {
        for slot in self.running() {
            let Some(process) = &mut self.processes[slot] else {
                continue;
            };
            if let Some(status) = process.child.try_wait()? {
                self.troubles.push(format!(
                    "process {slot} ended by itself ({status}); its log ends:\n{}",
                    process.tail()
                ));
                self.processes[slot] = None;
                self.start(slot)?;
            }
        }
        Ok(())
    }

    /// Whether `/readyz` of a process says yes.
    pub fn is_ready(&self, slot: usize) -> bool {
        let admin = self.admin(slot);
        let response = admin.and_then(|(_, admin)| http::get(admin, "/readyz").ok());
        response.is_some_and(|it| it.status == 200)
    }

    /// The id of a slot's process, and where its endpoints are, if it has said so yet.
    pub fn admin(&self, slot: usize) -> Option<(u32, SocketAddr)> {
        let process = self.processes.get(slot)?.as_ref()?;
        Some((process.child.id(), process.admin()?))
    }

    /// The id of a slot's process.
    pub fn pid(&self, slot: usize) -> Option<u32> {
        let process = self.processes.get(slot)?.as_ref()?;
        Some(process.child.id())
    }

    /// What went wrong with processes.
    pub fn troubles(&self) -> &[String] {
        &self.troubles
    }

    fn take(&mut self, slot: usize) -> Result<Process, Error> {
        let process = self.processes.get_mut(slot).and_then(Option::take);
        process.with_context(|| format!("slot {slot} is empty"))
    }
}

impl Process {
    /// Where its endpoints are, once it has said so.
    fn admin(&self) -> Option<SocketAddr> {
        let log = self.own_log();
        let (_, after) = log.split_once("admin endpoints listen=")?;
        // The end of the line shows that the address is whole.
        after.split_once('\n')?.0.parse().ok()
    }

    /// Writes down where its threads are, beside its log, if there's a debugger to ask.
    fn keep_stacks(&self) {
        let gdb = Command::new("gdb")
            .args(["-batch", "-ex", "thread apply all backtrace 30", "-p"])
            .arg(self.child.id().to_string())
            .stdin(Stdio::null())
            .output();
        if let Ok(output) = gdb {
            // It's an extra; what is wrong is told anyway.
            let _ = fs::write(self.log.with_file_name("stacks.txt"), output.stdout);
        }
    }

    fn own_log(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_start))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        }
    }

    fn tail(&self) -> String {
        let log = self.own_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
    }
}
