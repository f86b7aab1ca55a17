//! `weir produce`: made-up records at a steady rate, with the progress on standard error.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, bail};
use console::Term;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::{Produce, Rate};
use super::{UsageError, text};
use crate::cluster;
use crate::fake::{Fake, Fault, Generator};
use crate::io::{Outgoing, SendError, Sink, TransactionError, Undelivered};
use crate::kafka::{
    Admin, KafkaSink, ProducerOptions, Scope, Waker, admin_settings, permit, producer_settings,
};
use crate::record::Headers;

/// Where the time of seeded records starts, so that they are the same each time: the seed job's own example.
const SEEDED_START: i64 = 1_634_221_557_011;
/// How long a wait may keep a stop or the next look at the progress waiting.
const TICK: Duration = Duration::from_millis(50);
/// Records between two looks at the clock when there is no rate to keep.
const STRIDE: u64 = 256;

/// Partitions of a topic that isn't there yet: enough to see several workers at work.
const PARTITIONS: usize = 4;
/// Bytes that may be on their way.
const IN_FLIGHT: u64 = 32 << 20;
/// How long to wait for the last records.
const FLUSH: Duration = Duration::from_secs(60);

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    /// Records handed over.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// How many are bad in each way, in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// How long it took.
    pub time: Duration,
}

/// `weir produce`
pub fn run(args: &Produce) -> Result<(), Error> {
    let mut user = vec![("bootstrap.servers", args.bootstrap.as_str())];
    user.extend(
        args.settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
    );
    for (key, value) in &user {
        permit(Scope::Any, key, value).map_err(|refused| UsageError(format!("-X: {refused}")))?;
    }
    let topic = args.topic.as_str();
    let admin = Admin::new(&admin_settings(&user)?, cluster::TIMEOUT)?;
    admin
        .cluster_id()
        .with_context(|| format!("Kafka at {} can't be asked", args.bootstrap))?;
    if admin
        .topics(&[topic.to_string()])?
        .iter()
        .any(Result::is_err)
        && admin.create_topic(topic, PARTITIONS)?
    {
        eprintln!("made topic {topic:?} with {PARTITIONS} partitions");
    }
    let options = ProducerOptions {
        user: &user,
        in_flight: IN_FLIGHT,
        transactional_id: None,
        max_message_bytes: &[],
    };
    let waker = Waker::new()?;
    let sink = KafkaSink::new(&producer_settings(&options)?, &[topic.to_string()], &waker)?;
    let mut feed = Feed::new(sink, waker);
    let stop = Arc::new(AtomicBool::new(false));
    let produced = super::run::until_signal(&stop, || {
        let produced = produce(args, Progress::new(args.count), &stop, |fake| {
            feed.send(fake, None)
        })?;
        feed.flush()?;
        Ok(produced)
    })?;
    super::say(produced.summary(topic))
}

/// Hands fake records to a producer, waits while it's full, and counts what came back.
pub(super) struct Feed {
    sink: KafkaSink,
    waker: Waker,
    headers: Headers,
    waiting: u64,
}

impl Feed {
    pub(super) fn new(sink: KafkaSink, waker: Waker) -> Feed {
        Feed {
            sink,
            waker,
            headers: Headers::default(),
            waiting: 0,
        }
    }

    /// Sends a record to a partition, or by its key.
    pub(super) fn send(&mut self, fake: &Fake<'_>, partition: Option<i32>) -> Result<(), Error> {
        let record = Outgoing {
            output: 0,
            partition,
            key: Some(fake.key),
            value: fake.value,
            timestamp: fake.timestamp,
            headers: &self.headers,
            header_range: (0, 0),
            appended: &[],
            tag: 0,
        };
        loop {
            if self.waiting.is_multiple_of(STRIDE) {
                self.waiting -= settle(&mut self.sink)?;
            }
            match self.sink.send(&record) {
                Ok(()) => {
                    self.waiting += 1;
                    return Ok(());
                }
                Err(SendError::Full) => {
                    self.waker.wait(TICK)?;
                    self.waiting -= settle(&mut self.sink)?;
                }
                Err(SendError::Record(why) | SendError::Failed(why) | SendError::Fatal(why)) => {
                    return Err(why);
                }
                Err(SendError::Transaction(why)) => return Err(why.into_cause()),
            }
        }
    }

    /// Waits until all that was sent has come back.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + FLUSH;
        loop {
            self.waiting -= settle(&mut self.sink)?;
            if self.waiting == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} records were not acknowledged within {} s",
                    text::count(self.waiting),
                    FLUSH.as_secs()
                );
            }
            self.waker.wait(TICK)?;
        }
    }
}

/// How many deliveries came back; an error if one failed.
fn settle(sink: &mut KafkaSink) -> Result<u64, Error> {
    let (mut count, mut failed) = (0, None);
    sink.deliveries(&mut |(_, result)| {
        count += 1;
        failed = failed.take().or(result.err().map(Undelivered::into_cause));
    })
    .map_err(TransactionError::into_cause)?;
    match failed {
        Some(why) => Err(why.context("a record was not taken")),
        None => Ok(count),
    }
}

/// Makes records and hands each to `send`, which waits while there's no room, until `args.count` is reached or `stop`
/// is set. An error of `send` ends it. What was handed over is the caller's to flush.
pub fn produce(
    args: &Produce,
    mut progress: Progress,
    stop: &AtomicBool,
    mut send: impl FnMut(&Fake<'_>) -> Result<(), Error>,
) -> Result<Produced, Error> {
    let start = now();
    let mut generator = match args.seed {
        Some(seed) => Generator::new(args.subject, seed, SEEDED_START),
        None => Generator::new(args.subject, start as u64, start),
    }
    .bad(args.bad)?;
    let count = args.count.map_or(u64::MAX, |count| count.get());
    let mut produced = Produced::default();
    let mut pacer = Pacer::new(args.rate);
    let began = Instant::now();
    while produced.records < count && !stop.load(Ordering::Relaxed) {
        let due = pacer
            .due(began.elapsed(), produced.records)
            .min(count - produced.records);
        let time = now();
        for _ in 0..due {
            let fake = match args.seed {
                Some(_) => generator.next_record(),
                None => generator.next_record_at(time),
            };
            send(&fake)?;
            produced.add(&fake);
        }
        produced.time = began.elapsed();
        progress.show(&produced);
        if due == 0 {
            thread::sleep(pacer.wait(began.elapsed(), produced.records).min(TICK));
        }
    }
    progress.end();
    Ok(produced)
}

impl Produced {
    /// What a person is told at the end.
    pub fn summary(&self, topic: &str) -> String {
        let bad: u64 = self.faults.iter().sum();
        let mut summary = format!(
            "Wrote {} {} ({}) to {topic} in {}, {} a second",
            text::count(self.records),
            if self.records == 1 {
                "record"
            } else {
                "records"
            },
            text::bytes(self.bytes),
            text::time(self.time),
            text::per_second(self.records, self.time),
        );
        if bad > 0 {
            let faults: Vec<String> = Fault::ALL
                .iter()
                .zip(self.faults)
                .filter(|(_, count)| *count > 0)
                .map(|(fault, number)| format!("{} {}", fault.name(), text::count(number)))
                .collect();
            summary += &format!("; {} of them bad: {}", text::count(bad), faults.join(", "));
        }
        summary
    }

    fn add(&mut self, fake: &Fake<'_>) {
        self.records += 1;
        self.bytes += (fake.key.len() + fake.value.map_or(0, <[u8]>::len)) as u64;
        if let Some(fault) = fake.fault
            && let Some(index) = Fault::ALL.iter().position(|known| *known == fault)
        {
            self.faults[index] += 1;
        }
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Says how many records are due. What couldn't be sent for more than a second isn't caught up with, so that a broker
/// that comes back isn't flooded.
struct Pacer {
    rate: Rate,
    /// Records that were given up.
    skipped: u64,
}

impl Pacer {
    fn new(rate: Rate) -> Pacer {
        Pacer { rate, skipped: 0 }
    }

    /// The records to send now, `elapsed` after the start, with so many sent.
    fn due(&mut self, elapsed: Duration, sent: u64) -> u64 {
        let Rate::PerSecond(rate) = self.rate else {
            return STRIDE;
        };
        // The first record is due at once.
        let target = (elapsed.as_secs_f64() * rate) as u64 + 1;
        let late = target.saturating_sub(sent + self.skipped);
        let most = (rate.ceil() as u64).max(1);
        self.skipped += late.saturating_sub(most);
        late.min(most)
    }

    /// How long until a record is due, if none is now.
    fn wait(&self, elapsed: Duration, sent: u64) -> Duration {
        let Rate::PerSecond(rate) = self.rate else {
            return Duration::ZERO;
        };
        let next = Duration::try_from_secs_f64((sent + self.skipped) as f64 / rate);
        next.unwrap_or(Duration::MAX).saturating_sub(elapsed)
    }
}

/// How progress is shown, on standard error.
pub enum Progress {
    /// Not at all.
    Silent,
    /// A bar, on a terminal.
    Bar(ProgressBar),
    /// A line a second, elsewhere.
    Lines {
        /// When the next one is due.
        next: Duration,
    },
}

impl Progress {
    /// A bar if it's a terminal, otherwise lines.
    pub fn new(count: Option<NonZeroU64>) -> Progress {
        if !Term::stderr().is_term() {
            return Progress::Lines {
                next: Duration::from_secs(1),
            };
        }
        let (bar, template) = match count {
            Some(count) => (
                ProgressBar::new(count.get()),
                "{wide_bar} {human_pos} of {human_len} records, {msg} a second, {eta} to go",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {human_pos} records, {msg} a second",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress::Bar(bar)
    }

    fn show(&mut self, produced: &Produced) {
        let rate = || text::per_second(produced.records, produced.time);
        match self {
            Progress::Silent => {}
            Progress::Bar(bar) => {
                bar.set_message(rate());
                bar.set_position(produced.records);
            }
            Progress::Lines { next } => {
                if produced.time >= *next {
                    *next = produced.time + Duration::from_secs(1);
                    let records = text::count(produced.records);
                    eprintln!("{records} records, {} a second", rate());
                }
            }
        }
    }

    fn end(&mut self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Cli, Command};
    use super::*;

    fn args(line: &str) -> Produce {
        let words = ["weir", "produce", "--topic", "t"];
        match Cli::parse_from(words.into_iter().chain(line.split(' '))).command {
            Command::Produce(args) => args,
            other => panic!("{other:?}"),
        }
    }

    type Sent = (Vec<u8>, Option<Vec<u8>>, i64);

    fn run(line: &str) -> (Produced, Vec<Sent>) {
        let mut sent = Vec::new();
        let produced = produce(
            &args(line),
            Progress::Silent,
            &AtomicBool::new(false),
            |fake| {
                sent.push((
                    fake.key.to_vec(),
                    fake.value.map(<[u8]>::to_vec),
                    fake.timestamp,
                ));
                Ok(())
            },
        );
        (produced.unwrap(), sent)
    }

    #[test]
    fn a_seed_makes_the_same_records_again() {
        let (produced, first) = run("realstock --rate max --count 1000 --seed 7");
        assert_eq!((produced.records, first.len()), (1_000, 1_000));
        assert_eq!(first[0].2, SEEDED_START);
        assert_eq!(first, run("realstock --rate max --count 1000 --seed 7").1);
        assert_ne!(first, run("realstock --rate max --count 1000 --seed 8").1);
        let bytes: usize = first
            .iter()
            .map(|sent| sent.0.len() + sent.1.as_ref().unwrap().len())
            .sum();
        assert_eq!(produced.bytes, bytes as u64);
    }

    #[test]
    fn records_without_a_seed_are_of_now() {
        let before = now();
        let (_, sent) = run("pizza --rate max --count 3");
        assert!(sent.iter().all(|sent| (before..=now()).contains(&sent.2)));
    }

    #[test]
    fn bad_records_are_counted() {
        let (produced, sent) = run("bet --rate max --count 1000 --seed 1 --bad 100%");
        assert_eq!(produced.faults.iter().sum::<u64>(), 1_000);
        let nulls = sent.iter().filter(|sent| sent.1.is_none()).count() as u64;
        let index = Fault::ALL
            .iter()
            .position(|fault| *fault == Fault::NullValue)
            .unwrap();
        assert_eq!(produced.faults[index], nulls);
        assert!(nulls > 0);
    }

    #[test]
    fn a_stop_ends_it() {
        let stop = AtomicBool::new(false);
        let produced = produce(&args("stock --rate max"), Progress::Silent, &stop, |_| {
            stop.store(true, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!(produced.unwrap().records, STRIDE);
    }

    #[test]
    fn an_error_ends_it() {
        let produced = produce(
            &args("stock --rate max"),
            Progress::Silent,
            &AtomicBool::new(false),
            |_| Err(Error::msg("the topic is gone")),
        );
        assert_eq!(produced.unwrap_err().to_string(), "the topic is gone");
    }

    #[test]
    fn the_pace_is_kept() {
        let ms = Duration::from_millis;
        let mut pacer = Pacer::new(Rate::PerSecond(10.0));
        assert_eq!(pacer.due(ms(0), 0), 1);
        assert_eq!(pacer.due(ms(50), 1), 0);
        assert_eq!(pacer.wait(ms(50), 1), ms(50));
        assert_eq!(pacer.due(ms(100), 1), 1);
        assert_eq!(pacer.due(ms(700), 2), 6);
        // A minute's stall is a second's burst, then the pace goes on.
        assert_eq!(pacer.due(ms(60_000), 8), 10);
        assert_eq!(pacer.due(ms(60_000), 18), 0);
        assert_eq!(pacer.due(ms(60_100), 18), 1);
        let mut slow = Pacer::new(Rate::PerSecond(0.5));
        assert_eq!(slow.due(ms(0), 0), 1);
        assert_eq!(slow.due(ms(1_900), 1), 0);
        assert_eq!(slow.wait(ms(1_900), 1), ms(100));
        assert_eq!(slow.due(ms(2_000), 1), 1);
    }

    #[test]
    fn the_summary_says_what_was_written() {
        let mut produced = Produced {
            records: 12_345,
            bytes: 2_000_000,
            time: Duration::from_millis(2_500),
            ..Produced::default()
        };
        assert_eq!(
            produced.summary("pizza"),
            "Wrote 12,345 records (1.91 MiB) to pizza in 2.5 s, 4,938 a second"
        );
        produced.faults[0] = 3;
        produced.faults[5] = 1_000;
        let expected = "4,938 a second; 1,003 of them bad: truncated 3, null value 1,000";
        assert!(produced.summary("pizza").ends_with(expected));
    }
}
