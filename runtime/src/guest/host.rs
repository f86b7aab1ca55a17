//! The process's part of the sandbox: one engine, one linker, one ticker.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OptLevel, ProfilingStrategy};

use super::cache::Cache;
use super::instance::State;

/// How often a running guest's deadline is looked at.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The stack that a guest's calls nest on, in bytes. It isn't a setting: it's a part of the stack of whichever thread
/// calls the guest, and a Rust guest keeps all that's larger in a stack of its own in its memory, 1 MiB unless it's linked
/// with another size. wasmtime's own default.
pub(super) const MAX_WASM_STACK: usize = 512 << 10;

/// Who compiles.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// A child process that runs this program with the argument `compile`, within limits and at low priority, so that
    /// a module that's dear to compile can't take the process down with it.
    Child(PathBuf),
    /// This process.
    InProcess,
}

impl Compiler {
    /// This very program in a child process, also after its file was replaced.
    pub fn this_program() -> Compiler {
        Compiler::Child(PathBuf::from("/proc/self/exe"))
    }
}

/// The sandbox of a process.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    engine: Engine,
    linker: Linker<State>,
    compiler: Compiler,
    cache: Option<Cache>,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Host {
    /// Builds the engine and starts its ticker. Compiled code is kept in the folder `cache`, if one is given and fit
    /// for it.
    pub fn new(compiler: Compiler, cache: Option<PathBuf>) -> Result<Host> {
        let engine = engine()?;
        let cache = cache.and_then(|folder| Cache::open(&folder, &engine));
        let (stop, stopped) = channel::<()>();
        let ticking = engine.clone();
        let ticker = std::thread::Builder::new()
            .name("ticker".into())
            .spawn(move || {
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    ticking.increment_epoch();
                }
            })
            .context("starting the ticker thread")?;
        Ok(Host(Arc::new(Inner {
            linker: Linker::new(&engine),
            engine,
            compiler,
            cache,
            ticker: Some((stop, ticker)),
        })))
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(super) fn linker(&self) -> &Linker<State> {
        &self.0.linker
    }

    pub(super) fn compiler(&self) -> &Compiler {
        &self.0.compiler
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((stop, ticker)) = self.ticker.take() {
            drop(stop);
            // It can't have panicked, and there's nobody to tell if it had.
            let _ = ticker.join();
        }
    }
}

/// The one place that configures wasmtime. The compiling child builds the same engine.
pub(super) fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK)
        // Limits count per memory, so a guest has one; and what Rust's guests don't need stays shut.
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        // A trap's memory is where the guest left its panic message.
        .coredump_on_trap(true);
    // `perf record` then names the functions of guests.
    if std::env::var_os("WEIR_PERFMAP").is_some() {
        config.profiler(ProfilingStrategy::PerfMap);
    }
    Engine::new(&config)
        .map_err(anyhow::Error::from)
        .context("setting up the WebAssembly engine")
}
