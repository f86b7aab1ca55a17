//! Calls of cargo, always over a whole workspace and with the release profile.
//!
//! Cargo unites the features of the packages that it builds together, so that `--package weir` and `--workspace` could
//! compile the same dependency twice. One way of calling it compiles wasmtime and librdkafka once.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Error, bail, ensure};
use serde_json::Value;

/// The two workspaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workspace {
    /// The runtime, its tests, benchmarks and tasks.
    Main,
    /// The guests and their SDK: no wasmtime, another target.
    Guests,
}

impl Workspace {
    /// Its folder.
    pub fn folder(self) -> PathBuf {
        match self {
            Workspace::Main => xtask::root(),
            Workspace::Guests => xtask::root().join("guests"),
        }
    }

    /// Cargo in its folder, where its `.cargo/config.toml` counts.
    pub fn cargo(self) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.folder()).stdin(Stdio::null());
        if self == Workspace::Guests {
            command.env("CARGO_TARGET_DIR", self.folder().join("target"));
        }
        command
    }

    /// The names of a package's targets of one kind ("test", "bench", "cdylib"), as (package, target).
    pub fn targets(self, kind: &str) -> Result<Vec<(String, String)>, Error> {
        let output = self
            .cargo()
            .args(["metadata", "--no-deps", "--format-version=1"])
            .output()
            .context("can't run `cargo metadata`")?;
        ensure!(
            output.status.success(),
            "`cargo metadata` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        Ok(targets_of(&metadata, kind))
    }
}

/// Builds all programs, for whatever task, and returns the folder that they are in.
pub fn build_programs() -> Result<PathBuf, Error> {
    // A test is named, too: then the features are those of a build with tests, here as everywhere.
    run(Workspace::Main.cargo().args([
        "build",
        "--release",
        "--workspace",
        "--bins",
        "--test",
        "kafka",
    ]))?;
    programs()
}

/// The folder of the programs: this one's own.
fn programs() -> Result<PathBuf, Error> {
    let xtask = std::env::current_exe()?;
    let folder = xtask.parent().context("a program lies in a folder")?;
    Ok(folder.to_path_buf())
}

/// Runs a command with its output shown, and fails when it fails.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let text = shown(command);
    let status = command
        .status()
        .with_context(|| format!("can't run `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// As a person would type it.
fn shown(command: &Command) -> String {
    let mut words = vec!["cargo".to_string()];
    if command.get_program() != program() {
        words = vec![command.get_program().to_string_lossy().into_owned()];
    }
    words.extend(command.get_args().map(|word| word.to_string_lossy().into()));
    words.join(" ")
}

/// The cargo that runs this program.
fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn targets_of(metadata: &Value, kind: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let mut kinds = target["kind"].as_array().into_iter().flatten();
            if !kinds.any(|value| value == kind) {
                continue;
            }
            if let (Some(package), Some(target)) =
                (package["name"].as_str(), target["name"].as_str())
            {
                found.push((package.to_string(), target.to_string()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_targets_of_a_kind() {
        let metadata = serde_json::json!({"packages": [
            {"name": "add-uuid", "targets": [
                {"name": "add_uuid", "kind": ["cdylib", "rlib"]},
                {"name": "unit", "kind": ["test"]},
            ]},
            {"name": "weir-guest", "targets": [{"name": "weir_guest", "kind": ["lib"]}]},
        ]});
        let check = |kind, expected: &[(&str, &str)]| {
            let found = targets_of(&metadata, kind);
            let found: Vec<_> = found.iter().map(|(a, b)| (&**a, &**b)).collect();
            assert_eq!(found, expected);
        };
        check("cdylib", &[("add-uuid", "add_uuid")]);
        check("test", &[("add-uuid", "unit")]);
        check("bench", &[]);
    }
}
