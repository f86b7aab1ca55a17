//! The program under test in a container of its image.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::time::Duration;

use xtask::container::{Container, Engine, IMAGE};
use xtask::http;

use crate::{MINUTE, Scratch, Topic, broker, must};

/// A `weir run` in a container, on the tests' broker. It's removed when it is dropped.
#[derive(Debug)]
pub struct Contained {
    container: Container,
    /// Known once the log names it.
    admin: OnceCell<SocketAddr>,
}

/// What runs containers, and has the image.
///
/// # Panics
/// If there's no engine or no image, with what to do.
#[track_caller]
pub fn engine() -> Engine {
    let engine = must(Engine::find());
    assert!(
        engine.has(IMAGE),
        "there's no image {IMAGE}: run `cargo xtask image`"
    );
    engine
}

impl Contained {
    /// Writes a config into the scratch folder, and starts a container with it and with further options. The config may
    /// say `${WEIR_BOOTSTRAP}`.
    #[track_caller]
    pub fn start(scratch: &Scratch, config: &str, options: &[&str]) -> Contained {
        let config = scratch.write("contained.toml", config);
        // Not where the image's own is: the variable is what counts.
        let volume = format!("{}:/run/weir/own.toml:ro", config.display());
        let kafka = format!("WEIR_BOOTSTRAP={}", broker().bootstrap());
        let fixed = ["--env", &kafka, "--env", "WEIR_CONFIG=/run/weir/own.toml"];
        let all = [&fixed[..], &["--volume", &volume], options].concat();
        Contained {
            container: must(Container::start(engine(), &all, IMAGE, &[])),
            admin: OnceCell::new(),
        }
    }

    /// The container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// What it printed so far.
    #[track_caller]
    pub fn log(&self) -> String {
        must(self.container.log())
    }

    /// Where the admin endpoints are, as this machine reaches them, once the process has said so.
    #[track_caller]
    pub fn admin(&self) -> Option<SocketAddr> {
        if self.admin.get().is_none() {
            let log = self.log();
            let (_, after) = log.split_once("admin endpoints listen=")?;
            let (line, _) = after.split_once('\n')?;
            let address: SocketAddr = must(line.split(' ').next()?.parse());
            let _ = self.admin.set(([127, 0, 0, 1], address.port()).into());
        }
        self.admin.get().copied()
    }

    /// A counter of `/metrics`, summed over all labels; 0 if it isn't there.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics").map(|answer| answer.body);
        let sum = metrics.and_then(|metrics| http::counter(&metrics, name, &[]));
        sum.unwrap_or(0.0) as u64
    }

    /// Waits until `/readyz` says yes.
    #[track_caller]
    pub fn wait_ready(&self) {
        self.wait_until("/readyz says yes", MINUTE, |weir| {
            (weir.get("/readyz")?.status == 200).then_some(())
        });
    }

    /// Waits until the group has committed all that is in the topic now.
    #[track_caller]
    pub fn wait_done(&self, input: &Topic, group: &str) {
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

    /// Waits for a condition, and gives up early when the container has ended.
    ///
    /// # Panics
    /// Once the deadline is over or the container ended, with its log.
    #[track_caller]
    pub fn wait_until<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Contained) -> Option<T>,
    ) -> T {
        let result = xtask::wait::eventually(what, deadline, || {
            let running = self.container.is_running()?;
            match (condition(self), running) {
                (None, false) => anyhow::bail!("the container ended before: {what}"),
                (value, _) => Ok(value),
            }
        });
        match result {
            Ok(value) => value,
            Err(error) => panic!("{error:#}; its log says:\n{}", self.log()),
        }
    }

    /// Stops it as people do (`podman stop`), and returns its exit code.
    #[track_caller]
    pub fn stop(&self) -> i32 {
        must(self.container.stop())
    }

    fn get(&self, path: &str) -> Option<http::Response> {
        http::get(self.admin()?, path).ok()
    }
}
