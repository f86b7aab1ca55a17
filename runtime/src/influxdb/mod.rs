//! Writes all metrics to an InfluxDB, version 1 or 2, from a thread of its own: nothing here is on a record's way.
//!
//! Every `interval` the metrics are taken as they are, and wait in a bounded buffer until the database has them. While it
//! doesn't take them it's tried again with growing pauses; when the buffer is full the oldest go, and are counted.

mod line;

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use chrono::Utc;
use prometheus::{Gauge, IntCounter};
use tracing::{error, info, warn};
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{RootCerts, TlsConfig};

use crate::config::{InfluxDb, InfluxDbPlace};
use crate::fold::Fold;
use crate::metrics::Metrics;

/// How long one request may take: nobody waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the last values are written for.
const FINISH: Duration = Duration::from_secs(5);

/// What it takes beside that to tell what became of them.
const SLACK: Duration = Duration::from_secs(1);

/// The first pause after a failure; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The longest pause.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

/// Lines of one request, as InfluxDB recommends.
const LINES: usize = 5_000;

/// How many more a request may have after each that went well, below that: somebody's limit is found, and left again.
const MORE_LINES: usize = 50;

/// How often it's said that a limit was met.
const LIMIT_TOLD: Duration = Duration::from_secs(3_600);

/// What lines are put together in is a share of the buffer at most, so that no more than that is lost at once.
const SHARES: usize = 4;

/// How much of an answer is shown.
const SHOWN: usize = 300;

/// The thread that writes. Dropping it ends it without a last write.
pub struct Writer {
    stop: mpsc::Sender<()>,
    done: mpsc::Receiver<()>,
}

impl Writer {
    /// Starts to write. `instance` is the process's name, and a tag of all points.
    pub fn start(config: &InfluxDb, instance: &str, metrics: Metrics) -> Result<Writer> {
        let (stop, stopped) = mpsc::channel();
        let (written, lost, failures, buffered) = metrics.influxdb();
        let mut tags = String::new();
        line::tag(&mut tags, "instance", instance);
        for (key, value) in &config.tags {
            line::tag(&mut tags, key, value);
        }
        let mut work = Work {
            config: config.clone(),
            agent: agent(),
            tags,
            metrics,
            buffer: Buffer::new(config.buffer.0 as usize),
            failing: None,
            fold: Fold::every(LIMIT_TOLD),
            written,
            lost,
            failures,
            buffered,
        };
        let (ended, done) = mpsc::channel();
        Builder::new()
            .name("influxdb".into())
            .spawn(move || {
                work.run(&stopped);
                // Nobody waits any more.
                let _ = ended.send(());
            })
            .context("starting the thread that writes to InfluxDB")?;
        Ok(Writer { stop, done })
    }

    /// Writes what there is once more, and ends. Whoever ends the process doesn't wait long for that: an InfluxDB that
    /// doesn't answer is left alone.
    pub fn finish(self) {
        // Both fail only if the thread is gone.
        let _ = self.stop.send(());
        let _ = self.done.recv_timeout(FINISH + SLACK);
    }
}

fn agent() -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A page to log in at isn't a database.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .tls_config(tls.build())
        .build();
    config.into()
}

/// The thread's own.
struct Work {
    config: InfluxDb,
    agent: Agent,
    /// Escaped, each after a comma.
    tags: String,
    metrics: Metrics,
    buffer: Buffer,
    failing: Option<Failing>,
    /// What was said of its limits.
    fold: Fold<()>,
    written: IntCounter,
    lost: IntCounter,
    failures: IntCounter,
    buffered: Gauge,
}

/// Writes fail.
struct Failing {
    /// In a row.
    times: u32,
    /// When it's tried again.
    retry: Instant,
    /// As it was told.
    said: String,
    /// It was told that points are lost for lack of room.
    full: bool,
}

/// Points that wait, in line protocol, the oldest first.
struct Buffer {
    /// What may wait, in bytes.
    most: usize,
    /// How many lines a request may have.
    at_once: usize,
    batches: VecDeque<Lines>,
    bytes: usize,
    lines: usize,
}

/// Lines for one request.
struct Lines {
    text: String,
    count: usize,
}

/// Why points weren't taken.
enum Refused {
    /// Another try may go well.
    Now(Error),
    /// Fewer may be.
    TooMany(Error),
    /// These points never will be.
    Ever(Error),
}

impl Work {
    fn run(&mut self, stopped: &mpsc::Receiver<()>) {
        let mut next = Instant::now() + self.config.interval;
        loop {
            let now = Instant::now();
            let retry = self.failing.as_ref().map(|it| it.retry);
            // What's left of a large buffer goes on at once.
            let due = match self.buffer.lines {
                0 => next,
                _ => retry.unwrap_or(now).min(next),
            };
            match stopped.recv_timeout(due.saturating_duration_since(now)) {
                Ok(()) => {
                    self.take();
                    // One request that begins at the last moment has its time, too.
                    self.write(now + FINISH / 2, FINISH / 2);
                    let left = self.buffer.lines;
                    if left > 0 {
                        self.lost.inc_by(left as u64);
                        warn!("InfluxDB hasn't taken the last {left} points, and they are lost");
                    }
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if now >= next {
                self.take();
                // After a suspension of the machine none is made up for.
                next = (next + self.config.interval).max(now);
            }
            if self.failing.as_ref().is_none_or(|it| now >= it.retry) {
                self.write(next, TIMEOUT);
            }
        }
    }

    /// Takes the metrics as they are now.
    fn take(&mut self) {
        let families = self.metrics.gather();
        let mut text = String::new();
        let count = line::append(
            &mut text,
            &families,
            &self.tags,
            Utc::now().timestamp_millis(),
        );
        let lost = self.buffer.push(Lines { text, count });
        if lost > 0 {
            self.lost.inc_by(lost as u64);
            if let Some(failing) = self.failing.as_mut().filter(|it| !it.full) {
                failing.full = true;
                warn!(
                    "the buffer for InfluxDB is full: the oldest points are lost from now on, see weir_influxdb_points_total"
                );
            }
        }
        self.buffered.set(self.buffer.lines as f64);
    }

    /// Writes what waits, one request at least, until something fails or it's time for something else. Each request may take
    /// as long as `timeout`.
    fn write(&mut self, until: Instant, timeout: Duration) {
        let mut is_first = true;
        while let Some(batch) = self.buffer.batches.front() {
            if !std::mem::take(&mut is_first) && Instant::now() >= until {
                break;
            }
            let sent = post(&self.agent, &self.config, &batch.text, timeout);
            let count = batch.count as u64;
            match sent {
                Ok(()) => {
                    self.buffer.pop();
                    self.buffer.grow();
                    self.written.inc_by(count);
                    if let Some(Failing { times, .. }) = self.failing.take() {
                        info!(times, "InfluxDB takes the metrics again");
                    }
                }
                Err(Refused::TooMany(why)) if self.buffer.halve() => {
                    self.failures.inc();
                    let most = self.buffer.at_once;
                    if self.fold.tells((), Instant::now()).is_some() {
                        warn!(most, "InfluxDB gets fewer points at once: {why:#}");
                    }
                }
                Err(Refused::Ever(why)) => {
                    self.failures.inc();
                    self.lost.inc_by(count);
                    self.buffer.pop();
                    self.tell(&why, &format!("; {count} points are lost"));
                }
                // A single point can't be too much, so that's somebody else's answer.
                Err(Refused::Now(why) | Refused::TooMany(why)) => {
                    self.failures.inc();
                    self.tell(&why, "; it's tried again");
                    break;
                }
            }
            self.buffered.set(self.buffer.lines as f64);
        }
        self.buffered.set(self.buffer.lines as f64);
    }

    /// Notes a failure, and says so unless it's the same as before.
    fn tell(&mut self, why: &Error, what: &str) {
        let said = format!("{why:#}");
        let before = self.failing.as_ref();
        let (times, full) = before.map_or((0, false), |it| (it.times, it.full));
        if before.is_none_or(|it| it.said != said) {
            error!("InfluxDB doesn't take the metrics: {said}{what}");
        }
        let pause = (BACK_OFF * 2u32.saturating_pow(times.min(16))).min(MAX_BACK_OFF);
        self.failing = Some(Failing {
            times: times.saturating_add(1),
            retry: Instant::now() + pause,
            said,
            full,
        });
    }
}

impl Buffer {
    fn new(most: usize) -> Buffer {
        Buffer {
            most,
            at_once: LINES,
            batches: VecDeque::new(),
            bytes: 0,
            lines: 0,
        }
    }

    /// Adds lines, and returns how many are lost for it.
    fn push(&mut self, lines: Lines) -> usize {
        // While they wait, few requests are to be made of many.
        if let Some(last) = self.batches.back_mut()
            && last.count + lines.count <= self.at_once
            && last.text.len() + lines.text.len() <= self.most / SHARES
        {
            last.text.push_str(&lines.text);
            last.count += lines.count;
            self.bytes += lines.text.len();
            self.lines += lines.count;
            return self.shrink(1);
        }
        self.bytes += lines.text.len();
        self.lines += lines.count;
        let new = lines.split(self.at_once);
        let count = new.len();
        self.batches.extend(new);
        self.shrink(count)
    }

    /// Has the oldest go if it's too much, but for so many of the newest; how many lines are lost for it.
    fn shrink(&mut self, keep: usize) -> usize {
        let mut lost = 0;
        while self.bytes > self.most && self.batches.len() > keep {
            lost += self.pop().unwrap_or(0);
        }
        lost
    }

    /// Lets requests have some more lines again.
    fn grow(&mut self) {
        self.at_once = (self.at_once + MORE_LINES).min(LINES);
    }

    /// Makes two of the oldest batch, and has none be larger than these from now on; false if that's a single line.
    fn halve(&mut self) -> bool {
        let oldest = self.batches.front().map_or(0, |it| it.count);
        if oldest < 2 {
            return false;
        }
        self.at_once = oldest.div_ceil(2);
        let batches = std::mem::take(&mut self.batches).into_iter();
        self.batches = batches.flat_map(|it| it.split(self.at_once)).collect();
        true
    }

    /// Removes the oldest batch; how many lines it has.
    fn pop(&mut self) -> Option<usize> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.text.len();
        self.lines -= batch.count;
        Some(batch.count)
    }
}

impl Lines {
    /// Cuts it into pieces of so many lines at most.
    fn split(self, most: usize) -> Vec<Lines> {
        if self.count <= most {
            return vec![self];
        }
        let lines: Vec<&str> = self.text.split_inclusive('\n').collect();
        let pieces = lines.chunks(most).map(|it| Lines {
            text: it.concat(),
            count: it.len(),
        });
        pieces.collect()
    }
}

/// Sends lines to the write endpoint of version 1 or 2.
fn post(agent: &Agent, config: &InfluxDb, lines: &str, timeout: Duration) -> Result<(), Refused> {
    let url = config.url.trim_end_matches('/');
    let mut request = match &config.place {
        InfluxDbPlace::Database { name, .. } => agent
            .post(format!("{url}/write"))
            .query("db", name)
            .query("precision", "ms"),
        InfluxDbPlace::Bucket { org, bucket, .. } => agent
            .post(format!("{url}/api/v2/write"))
            .query("org", org)
            .query("bucket", bucket)
            .query("precision", "ms"),
    };
    if let Some(authorization) = config.place.authorization() {
        request = request.header("authorization", authorization);
    }
    let sent = request
        .header("content-type", "text/plain; charset=utf-8")
        .config()
        .timeout_global(Some(timeout))
        .build()
        .send(lines);
    let mut response =
        sent.map_err(|why| Refused::Now(Error::new(why).context(format!("{url} doesn't answer"))))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let text: String = text.trim().chars().take(SHOWN).collect();
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; check `username` and `password`, or `token`, in [influxdb]"
        }
        StatusCode::NOT_FOUND => match config.place {
            InfluxDbPlace::Database { .. } => {
                "; make the database (CREATE DATABASE), or check `database` and `url` in [influxdb]"
            }
            InfluxDbPlace::Bucket { .. } => "; check `org`, `bucket` and `url` in [influxdb]",
        },
        _ => "",
    };
    let why = anyhow!("{url} answers {status}: {text}{hint}");
    match status {
        // A part of the points may have been taken.
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Err(Refused::Ever(why)),
        StatusCode::PAYLOAD_TOO_LARGE => Err(Refused::TooMany(why)),
        _ => Err(Refused::Now(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize, length: usize) -> Lines {
        Lines {
            text: format!("{}\n", "x".repeat(length - 1)).repeat(count),
            count,
        }
    }

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let mut buffer = Buffer::new(2_000_000);
        assert_eq!(buffer.push(lines(2 * LINES, 100)), 0);
        assert_eq!(buffer.push(lines(2 * LINES, 100)), 0);
        assert_eq!(buffer.push(lines(10, 100)), LINES);
        assert_eq!(buffer.lines, 3 * LINES + 10);
        assert_eq!(buffer.bytes, 100 * buffer.lines);
    }

    #[test]
    fn the_newest_fit_always() {
        let mut buffer = Buffer::new(1_000);
        assert_eq!(buffer.push(lines(2 * LINES, 100)), 0);
        assert_eq!(buffer.push(lines(20, 100)), 2 * LINES);
        assert_eq!(buffer.push(lines(1, 100)), 20);
        assert_eq!((buffer.lines, buffer.bytes), (1, 100));
    }

    fn batches(buffer: &Buffer) -> Vec<(usize, usize)> {
        let batches = buffer.batches.iter();
        batches.map(|it| (it.count, it.text.len())).collect()
    }

    #[test]
    fn many_lines_are_cut_between_lines() {
        let mut buffer = Buffer::new(1 << 20);
        buffer.push(lines(2 * LINES + 1, 10));
        let whole = (LINES, LINES * 10);
        assert_eq!(batches(&buffer), [whole, whole, (1, 10)]);
        assert_eq!(buffer.pop(), Some(LINES));
    }

    #[test]
    fn what_is_too_much_for_one_request_is_halved() {
        let mut buffer = Buffer::new(1 << 20);
        buffer.push(lines(5, 10));
        assert!(buffer.halve());
        assert_eq!(batches(&buffer), [(3, 30), (2, 20)]);
        // It stays so for those that come.
        buffer.push(lines(4, 10));
        assert_eq!(batches(&buffer), [(3, 30), (2, 20), (3, 30), (1, 10)]);
        assert!(buffer.halve());
        assert!(buffer.halve());
        assert_eq!(batches(&buffer), [(1, 10); 9]);
        assert!(!buffer.halve(), "one line is one line");
        buffer.grow();
        buffer.push(lines(52, 10));
        assert_eq!(batches(&buffer)[9..], [(51, 510), (1, 10)]);
        assert_eq!(buffer.batches.len(), 11);
        assert_eq!((buffer.lines, buffer.bytes), (61, 610));
    }
}
