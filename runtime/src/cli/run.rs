//! `weir run`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::warn;

use super::args::Run;
use super::{load, load_app, permitted};
use crate::app::Signal;
use crate::config::{self, Config, Delivery};
use crate::instance::Instance;
use crate::store::Store;

/// Runs the pipelines until a signal.
pub fn run(args: &Run) -> Result<()> {
    let mut config = load(&args.file)?;
    config.admin.listen = args.listen.or(config.admin.listen);
    let name = args.instance.as_deref().or(config.instance.as_deref());
    let vital =
        |it: &config::Pipeline| it.static_membership || it.delivery == Delivery::ExactlyOnce;
    let instance = Instance::claim(&config.data, name, config.pipelines.iter().any(vital))?;
    let store = match Store::open(&config.data, instance.name()) {
        Ok(store) => store,
        Err(why) => {
            warn!(
                "versions aren't kept, and a restart knows of no swap: {why:#}; give `data` a folder that this process's user can write, in a container a volume"
            );
            Store::in_memory()
        }
    };
    let app = load_app(config, instance, store)?;
    let (file, listen) = (args.file.clone(), args.listen);
    let read = move || {
        let mut config = Config::load(&file.config, &permitted)?;
        config.admin.listen = listen.or(config.admin.listen);
        Ok(config)
    };
    runtime()?.block_on(async { app.run(told()?, Arc::new(read)).await })
}

/// The control side's runtime: one thread, since it touches no record.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the control side")
}

/// A message for each SIGINT, SIGTERM and SIGHUP.
fn told() -> Result<mpsc::UnboundedReceiver<Signal>> {
    let (tell, told) = mpsc::unbounded_channel();
    let mut stop = signals()?;
    let mut hangups = signal(SignalKind::hangup()).context("listening for signals")?;
    // It ends with the runtime, or with the receiver.
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                Some(()) = stop.recv() => Signal::Stop,
                Some(()) = hangups.recv() => Signal::Reload,
                else => return,
            };
            if tell.send(signal).is_err() {
                return;
            }
        }
    });
    Ok(told)
}

/// A message for each SIGINT or SIGTERM.
pub(super) fn signals() -> Result<mpsc::UnboundedReceiver<()>> {
    let (told, stop) = mpsc::unbounded_channel();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).context("listening for signals")?;
        let told = told.clone();
        // It ends with the runtime, or with the receiver.
        tokio::spawn(
            async move { while signals.recv().await.is_some() && told.send(()).is_ok() {} },
        );
    }
    Ok(stop)
}

/// Does something that blocks, and sets `stop` at the first signal.
pub(super) fn until_signal<R: Send>(
    stop: &AtomicBool,
    work: impl FnOnce() -> Result<R> + Send,
) -> Result<R> {
    std::thread::scope(|scope| {
        let (done, mut finished) = tokio::sync::oneshot::channel::<()>();
        let working = scope.spawn(|| {
            let result = work();
            drop(done);
            result
        });
        runtime()?.block_on(async {
            let mut signals = signals()?;
            tokio::select! {
                Some(()) = signals.recv() => {
                    stop.store(true, Ordering::Relaxed);
                    let _ = finished.await;
                }
                _ = &mut finished => {}
            }
            anyhow::Ok(())
        })?;
        working
            .join()
            .map_err(|_| anyhow::anyhow!("it panicked; the message is above"))?
    })
}
