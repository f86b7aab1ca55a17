//! Compiling, bounded and out of the way: in a child process of the same program.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use wasmtime::Engine;

use super::host::{Compiler, engine};

/// CPU time of a compiling child. The largest of our own modules takes about a second.
const CPU_SECONDS: u64 = 120;

/// Address space of a compiling child. The largest of our own modules takes about 120 MB.
const ADDRESS_SPACE: u64 = 4 << 30;

/// Compiles a component to native code.
pub(super) fn compile(compiler: &Compiler, engine: &Engine, component: &[u8]) -> Result<Vec<u8>> {
    match compiler {
        Compiler::InProcess => Ok(engine.precompile_component(component)?),
        Compiler::Child(program) => in_child(program, component),
    }
}

fn in_child(program: &Path, component: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program)
        .arg("compile")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting the compiling process {}", program.display()))?;
    let mut input = child
        .stdin
        .take()
        .context("the child has no standard input")?;
    let output = std::thread::scope(|scope| {
        // A child that has ended early says why on its standard error; the broken pipe adds nothing.
        scope.spawn(move || input.write_all(component));
        child.wait_with_output()
    })
    .context("waiting for the compiling process")?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match (said.trim(), output.status.signal()) {
        ("", Some(signal)) => bail!(
            "the compiling process was ended by signal {signal}: it may use {CPU_SECONDS} s of CPU time and {} GiB of memory",
            ADDRESS_SPACE >> 30
        ),
        ("", None) => bail!("the compiling process ended with {}", output.status),
        (said, _) => bail!("{said}"),
    }
}

/// The compiling child's life: a component on standard input, native code on standard output.
pub fn compile_stdin() -> Result<()> {
    limit(Resource::Cpu, CPU_SECONDS)?;
    limit(Resource::As, ADDRESS_SPACE)?;
    // A lower priority is a courtesy; without it the result is the same.
    let _ = nice(10);
    let mut component = Vec::new();
    std::io::stdin()
        .read_to_end(&mut component)
        .context("reading the component")?;
    let code = engine()?.precompile_component(&component)?;
    std::io::stdout()
        .write_all(&code)
        .context("writing the compiled code")
}

fn limit(resource: Resource, most: u64) -> Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let most = hard.map_or(most, |hard| hard.min(most));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(resource, limit).with_context(|| format!("limiting {resource:?}"))
}
