//! Swaps beside the faults: each brings a version of the filter that keeps what the one before it kept.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use anyhow::Error;
use xtask::http;

use crate::config::{FILTER, PIPELINE, keep};
use crate::fleet::Fleet;
use crate::plan::{Swap, Way};

/// All swaps of a run, and what came of them.
#[derive(Default)]
pub struct Swaps {
    begun: usize,
    running: Vec<Running>,
    /// What came of those that have ended.
    pub counts: Counts,
    /// What must not happen.
    pub troubles: Vec<String>,
}

/// How many swaps ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The workers have it.
    pub made: usize,
    /// Something else was being done to the transform, or had ended the trial that was to be promoted.
    pub conflicts: usize,
    /// The process ended before it answered, or hadn't begun to listen.
    pub cut_off: usize,
}

struct Running {
    slot: usize,
    /// The process that was asked.
    pid: u32,
    thread: JoinHandle<Result<Answer, Error>>,
}

enum Answer {
    Made,
    Conflict,
    Other(String),
}

impl Swaps {
    /// Asks the process of a slot for a swap, and doesn't wait for the answer.
    pub fn begin(&mut self, swap: Swap, fleet: &Fleet) {
        let Some((pid, admin)) = fleet.admin(swap.slot) else {
            self.counts.cut_off += 1;
            return;
        };
        self.begun += 1;
        let number = self.begun;
        self.running.push(Running {
            slot: swap.slot,
            pid,
            thread: thread::spawn(move || bring(admin, number, swap.way)),
        });
    }

    /// Counts what has ended by now, or waits for all.
    pub fn collect(&mut self, fleet: &Fleet, wait: bool) {
        let (ended, running) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|it| wait || it.thread.is_finished());
        self.running = running;
        let ended: Vec<Running> = ended;
        for Running { slot, pid, thread } in ended {
            let trouble = match thread.join() {
                Ok(Ok(Answer::Made)) => {
                    self.counts.made += 1;
                    continue;
                }
                Ok(Ok(Answer::Conflict)) => {
                    self.counts.conflicts += 1;
                    continue;
                }
                Ok(Err(_)) if fleet.pid(slot) != Some(pid) => {
                    self.counts.cut_off += 1;
                    continue;
                }
                Ok(Ok(Answer::Other(what))) => what,
                Ok(Err(why)) => format!("{why:#}"),
                Err(_) => "its thread panicked".to_string(),
            };
            let trouble = format!("process {slot} was to swap a version: {trouble}");
            self.troubles.push(trouble);
        }
    }
}

/// A version, and if it's tried first, its promotion.
fn bring(admin: SocketAddr, number: usize, way: Way) -> Result<Answer, Error> {
    let mode = match way {
        Way::Active => "",
        Way::Canary => r#","mode":"canary","percent":50"#,
        Way::Shadow => r#","mode":"shadow""#,
    };
    let body = format!(r#"{{"config":{{"keep":"{}"}}{mode}}}"#, keep(number));
    let answer = post(admin, "versions", &body)?;
    match (&answer, way) {
        (Answer::Made, Way::Canary | Way::Shadow) => post(admin, "promote", "{}"),
        _ => Ok(answer),
    }
}

fn post(admin: SocketAddr, what: &str, body: &str) -> Result<Answer, Error> {
    let path = format!("/v1/pipelines/{PIPELINE}/transforms/{FILTER}/{what}");
    let json = [("content-type", "application/json")];
    let answer = http::request(admin, "POST", &path, &json, body.as_bytes())?;
    Ok(match answer.status {
        200 => Answer::Made,
        409 => Answer::Conflict,
        status => Answer::Other(format!("{status}: {}", answer.body)),
    })
}
