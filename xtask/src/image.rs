//! `cargo xtask image`: the container image, also where no stage of it can fetch a toolchain or its base.

mod base;
mod measure;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, ensure};
use clap::Args;
use xtask::container::{Engine, IMAGE, LIMITS};

use crate::machine::{self, Need};
use crate::{cargo, guests};

const EXAMPLES: &str = "\
Examples:
  cargo xtask image                     # localhost/weir, its size, its start
  cargo xtask image --measure           # memory, too, with a real Kafka
  cargo xtask image --inside            # compiled in a stage of the build
  podman run --rm --env WEIR_BOOTSTRAP=kafka:9092 localhost/weir

WEIR_CONTAINER_ENGINE=docker takes docker where there's podman, too.";

/// Build the container image by podman or docker, and print its size and start time.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Compile in a stage of the build, with nothing of this machine but the sources.
    #[arg(long, conflicts_with = "program")]
    inside: bool,
    /// A `weir` that was built before, instead of building one; its guests are those in target/guests.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Measure with a real Kafka: the start to the first record, and memory.
    #[arg(long)]
    measure: bool,
}

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut needs = vec![Need::Containers];
    if !arguments.inside && arguments.program.is_none() {
        needs.push(Need::Build);
    }
    if arguments.measure {
        needs.push(Need::Kafka);
    }
    machine::check(&needs)?;
    let engine = Engine::find()?;
    base::ensure(engine)?;
    match (&arguments.program, arguments.inside) {
        (_, true) => make(engine, "compiled")?,
        (Some(program), false) => give(engine, program)?,
        (None, false) => {
            guests::build()?;
            give(engine, &cargo::build_programs()?.join("weir"))?;
        }
    }
    print_size(engine)?;
    measure::start(engine)?;
    if arguments.measure {
        measure::seed_job(engine)?;
    }
    Ok(())
}

/// Builds the image of a `weir` that is there and of the guests in their folder, for tasks that need it.
pub fn build(weir: &Path) -> Result<(), Error> {
    let engine = Engine::find()?;
    base::ensure(engine)?;
    give(engine, weir)
}

/// Puts what the build takes from outside into its folder, and builds.
fn give(engine: Engine, weir: &Path) -> Result<(), Error> {
    let folder = xtask::root().join("target/image/program");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("can't remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder.join("guests"))?;
    // Line tables and symbols are five sixths of it. A guest's backtrace needs none: its names are in the module.
    let stripped = Command::new("strip")
        .arg("-o")
        .arg(folder.join("weir"))
        .arg(weir)
        .status()
        .context(
            "can't run `strip`; on Debian or Ubuntu it comes with `apt-get install binutils`",
        )?;
    ensure!(stripped.success(), "can't strip {}", weir.display());
    fs::set_permissions(folder.join("weir"), Permissions::from_mode(0o755))?;
    for module in shipped()? {
        let to = folder
            .join("guests")
            .join(module.file_name().unwrap_or_default());
        fs::copy(&module, &to).with_context(|| format!("can't copy {}", module.display()))?;
        fs::set_permissions(&to, Permissions::from_mode(0o644))?;
    }
    make(engine, "given")
}

/// The guests that come with Weir: all but the one of the tests.
fn shipped() -> Result<Vec<PathBuf>, Error> {
    let folder = guests::folder();
    let entries = fs::read_dir(&folder).with_context(|| {
        format!(
            "there are no guests in {}: run `cargo xtask guests`",
            folder.display()
        )
    })?;
    let mut modules = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "wasm") && !path.ends_with("faulty.wasm") {
            modules.push(path);
        }
    }
    modules.sort();
    Ok(modules)
}

/// Builds the image with the program of that stage.
fn make(engine: Engine, program: &str) -> Result<(), Error> {
    let commit = Commit::read();
    let mut command = engine.command();
    command
        .current_dir(xtask::root())
        .args([
            "build",
            "--quiet",
            "--file",
            "deploy/Dockerfile",
            "--tag",
            IMAGE,
        ])
        .args(LIMITS)
        // A stage that has to fetch something does it as this machine does.
        .args(["--network", "host"])
        .args(["--build-arg", &format!("PROGRAM={program}")])
        .args([
            "--build-arg",
            &format!("VERSION={}", env!("CARGO_PKG_VERSION")),
        ])
        .args(["--build-arg", &format!("REVISION={}", commit.id)])
        .args(["--build-arg", &format!("CREATED={}", commit.time)]);
    match engine {
        Engine::Podman => {
            // The other format has no health checks.
            command.args(["--format", "docker"]);
            command.args(["--pull=missing"]);
            // The same files give the same layers, byte for byte.
            command.args(["--timestamp", &commit.seconds]);
        }
        Engine::Docker => {
            command.args([
                "--build-arg",
                &format!("SOURCE_DATE_EPOCH={}", commit.seconds),
            ]);
        }
    }
    // The image's id is of no use: the next one replaces it.
    let output = command
        .arg(".")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("can't run `{}`", engine.program()))?;
    ensure!(
        output.status.success(),
        "building the image failed ({}); see above",
        output.status
    );
    Ok(())
}

/// What the image is labelled with.
struct Commit {
    id: String,
    /// In ISO 8601.
    time: String,
    /// Since 1970.
    seconds: String,
}

impl Commit {
    /// Reads it from git; a tree without it has no commit and the first second of all.
    fn read() -> Commit {
        let output = Command::new("git")
            .args(["log", "-1", "--format=%H %cI %ct"])
            .current_dir(xtask::root())
            .output();
        let text = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        let text = text.unwrap_or_default();
        let mut words = text.split_whitespace().map(str::to_string);
        match (words.next(), words.next(), words.next()) {
            (Some(id), Some(time), Some(seconds)) => Commit { id, time, seconds },
            _ => Commit {
                id: "unknown".to_string(),
                time: "1970-01-01T00:00:00Z".to_string(),
                seconds: "0".to_string(),
            },
        }
    }
}

/// Prints how large it is: unpacked on disk, and packed as it goes over the wire.
fn print_size(engine: Engine) -> Result<(), Error> {
    let size = engine.output(&["image", "inspect", "--format", "{{.Size}}", IMAGE])?;
    let size: f64 = size.parse().context("the image's size is no number")?;
    let mut save = engine
        .command()
        .args(["save", IMAGE])
        .stdout(Stdio::piped())
        .spawn()?;
    let saved = save.stdout.take().context("it was piped")?;
    let packed = Command::new("sh")
        .args(["-c", "gzip | wc -c"])
        .stdin(saved)
        .output()
        .context("can't run `gzip`")?;
    ensure!(save.wait()?.success(), "the image can't be saved");
    let packed = String::from_utf8_lossy(&packed.stdout);
    let packed: f64 = packed.trim().parse().context("`wc -c` gave no number")?;
    println!(
        "{IMAGE}  {:.1} MB on disk, {:.1} MB packed",
        size / 1e6,
        packed / 1e6
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_compiled_by_the_toolchain_of_the_repository() {
        let read = |name: &str| fs::read_to_string(xtask::root().join(name)).unwrap();
        let toolchain = read("rust-toolchain.toml");
        let (_, version) = toolchain.split_once("channel = \"").unwrap();
        let (version, _) = version.split_once('"').unwrap();
        assert!(read("deploy/Dockerfile").contains(&format!("\nARG RUST={version}\n")));
    }
}
