//! Containers, by podman or docker: as much as it takes to run an image and to look at it from outside.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Error, bail, ensure};

/// The image that `cargo xtask image` builds.
pub const IMAGE: &str = "localhost/weir";

/// The environment variable that names the engine to use.
const ENGINE: &str = "WEIR_CONTAINER_ENGINE";

/// Where whoever starts containers may not raise limits, those that engines set by themselves can't be set.
pub const LIMITS: [&str; 4] = [
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1024:1024",
];

/// Nothing that Weir doesn't need. Docker has no folders that can be written in spite of `--read-only`, podman has some.
const CONFINED: [&str; 5] = [
    "--read-only",
    "--cap-drop",
    "all",
    "--security-opt",
    "no-new-privileges",
];

/// Marks containers of the tasks and tests. Their names say which process started them.
const LABEL: &str = "weir.kind=temporary";

/// A program that builds images and runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `podman`
    Podman,
    /// `docker`, and the engine that it talks to.
    Docker,
}

impl Engine {
    /// What `WEIR_CONTAINER_ENGINE` names; otherwise podman, or else docker. An error says what to install.
    pub fn find() -> Result<Engine, Error> {
        match std::env::var(ENGINE).as_deref() {
            Ok("podman") => return Ok(Engine::Podman),
            Ok("docker") => return Ok(Engine::Docker),
            Ok(other) => bail!("{ENGINE} must be podman or docker, not {other:?}"),
            Err(_) => {}
        }
        let works = |engine: &Engine| {
            let status = engine
                .command()
                .arg("info")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success())
        };
        let found = [Engine::Podman, Engine::Docker].into_iter().find(works);
        found.context(
            "neither `podman info` nor `docker info` works, and containers need one of them; on Debian or Ubuntu\n  \
             apt-get install podman runc mmdebstrap",
        )
    }

    /// Calls it.
    pub fn command(self) -> Command {
        let mut command = Command::new(self.program());
        command.stdin(Stdio::null());
        command
    }

    /// Calls it to the end, and returns what it printed to standard output, without the last line's end.
    pub fn output(self, arguments: &[&str]) -> Result<String, Error> {
        let program = self.program();
        let output = self
            .command()
            .args(arguments)
            .output()
            .with_context(|| format!("can't run `{program}`"))?;
        ensure!(
            output.status.success(),
            "`{program} {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.trim_end().to_string())
    }

    /// Whether it has this image, and needn't fetch it.
    pub fn has(self, image: &str) -> bool {
        self.output(&["image", "inspect", image]).is_ok()
    }

    /// Its name as a command.
    pub fn program(self) -> &'static str {
        match self {
            Engine::Podman => "podman",
            Engine::Docker => "docker",
        }
    }

    /// The arguments that run a container in the network of this machine, with a root that can't be written and without
    /// any capability.
    fn confined(self) -> Vec<&'static str> {
        let mut arguments = vec!["--network", "host", "--no-healthcheck"];
        arguments.extend(CONFINED);
        arguments.extend(LIMITS);
        if self == Engine::Podman {
            arguments.push("--read-only-tmpfs=false");
        }
        arguments
    }

    /// Runs a container to its end, and returns what it printed to standard output.
    pub fn run(self, options: &[&str], image: &str, arguments: &[&str]) -> Result<String, Error> {
        let confined = self.confined();
        self.output(
            &[
                &["run", "--rm"],
                &confined[..],
                options,
                &[image],
                arguments,
            ]
            .concat(),
        )
    }
}

/// A volume with a name of its own. It's removed when it is dropped.
#[derive(Debug)]
pub struct Volume {
    engine: Engine,
    name: String,
}

impl Volume {
    /// Makes one.
    pub fn create(engine: Engine) -> Result<Volume, Error> {
        let name = unique_name();
        engine.output(&["volume", "create", &name])?;
        Ok(Volume { engine, name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // One that stays does no harm.
        let _ = self.engine.output(&["volume", "rm", "--force", &self.name]);
    }
}

/// A container that runs in the background, in the network of this machine, with a root that can't be written and without
/// any capability. It's removed when it is dropped, or by the next process that starts one.
#[derive(Debug)]
pub struct Container {
    engine: Engine,
    name: String,
}

impl Container {
    /// Starts it. `options` are the engine's, `arguments` the program's.
    pub fn start(
        engine: Engine,
        options: &[&str],
        image: &str,
        arguments: &[&str],
    ) -> Result<Container, Error> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| remove_abandoned(engine));
        let name = unique_name();
        let head = ["run", "--detach", "--name", &name, "--label", LABEL];
        let confined = engine.confined();
        // From here on it's removed whatever happens.
        let container = Container {
            engine,
            name: name.clone(),
        };
        engine.output(&[&head, &confined[..], options, &[image], arguments].concat())?;
        Ok(container)
    }

    /// The engine that runs it.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A field that the engine knows of it, `.State.ExitCode` for example.
    pub fn inspect(&self, field: &str) -> Result<String, Error> {
        let format = format!("{{{{{field}}}}}");
        self.engine
            .output(&["container", "inspect", "--format", &format, &self.name])
    }

    /// Whether its program hasn't ended.
    pub fn is_running(&self) -> Result<bool, Error> {
        Ok(self.inspect(".State.Running")? == "true")
    }

    /// The id of its first process, on this machine.
    pub fn pid(&self) -> Result<u32, Error> {
        let pid = self.inspect(".State.Pid")?;
        pid.parse()
            .ok()
            .filter(|&pid| pid != 0)
            .with_context(|| format!("the container {} doesn't run", self.name))
    }

    /// What it printed so far, to both outputs.
    pub fn log(&self) -> Result<String, Error> {
        let output = self.engine.command().args(["logs", &self.name]).output()?;
        let both = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&both).into_owned())
    }

    /// Runs another command in it, and returns what that printed to standard output.
    pub fn exec(&self, command: &[&str]) -> Result<String, Error> {
        self.engine
            .output(&[&["exec", &self.name], command].concat())
    }

    /// Asks it to stop, waits for as long as service managers do, and returns its exit code.
    pub fn stop(&self) -> Result<i32, Error> {
        self.engine.output(&["stop", "--time", "40", &self.name])?;
        let code = self.inspect(".State.ExitCode")?;
        code.parse().context("the exit code is no number")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Fails if it never was.
        remove(self.engine, &self.name);
    }
}

fn remove(engine: Engine, name: &str) {
    let _ = engine.output(&["rm", "--force", "--volumes", name]);
}

/// Containers outlive whoever started them, and was killed.
fn remove_abandoned(engine: Engine) {
    let filter = format!("label={LABEL}");
    let listed = engine.output(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]);
    for name in listed.unwrap_or_default().lines() {
        let owner = name.split('-').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            remove(engine, name);
        }
    }
}

fn unique_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("weir-{}-{count}", std::process::id())
}
