//! `weir dead-letters replay`.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::super::run::until_signal;
use super::super::table::Table;
use super::super::{load, load_app, say, text};
use super::args::Replay;
use super::{Passed, chosen, columns};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::dead_letters::{
    Back, DeadLetters, Entry, Fate, Job, Passage, Post, Report, Seen, Through, replay,
};
use crate::instance::Instance;
use crate::store::Store;

/// Replays dead letters.
pub fn run(args: &Replay) -> Result<()> {
    let mut config = load(&args.whose.file)?;
    let name = chosen(&config, args.whose.pipeline.as_deref())?
        .name
        .clone();
    // The other pipelines' modules are of no concern.
    config.pipelines.retain(|it| it.name == name);
    let stop = AtomicBool::new(false);
    let mut report = Report::default();
    let mut failed = Failed::default();
    let began = Instant::now();
    let done = until_signal(&stop, || {
        work(args, config, &stop, &mut report, &mut failed)
    });
    // What was done before a failure stays, and is told.
    let topic = match &done {
        Ok(topic) => topic.as_str(),
        Err(_) => "the topic",
    };
    if done.is_ok() || report != Report::default() {
        tell(args, &report, &failed, began.elapsed())?;
        let passed = Passed {
            others: report.others.clone(),
            foreign: report.foreign,
        };
        passed.tell(topic);
    }
    done?;
    if report.stopped {
        bail!("stopped before its end; start it again to go on");
    }
    if !report.left.is_empty() {
        let count = text::count(report.left.values().sum());
        bail!("letters that can't be replayed so: {count}");
    }
    Ok(())
}

/// Replays; gives the name of the dead letter topic.
fn work(
    args: &Replay,
    config: Config,
    stop: &AtomicBool,
    report: &mut Report,
    failed: &mut Failed,
) -> Result<String> {
    let (pipeline, passage) = match args.to_input {
        true => {
            let pipeline = config.pipelines[0].clone();
            let cluster = Cluster::look(&pipeline)?;
            let back = Back::new(&pipeline, &cluster)?;
            (pipeline, Passage::Back(back))
        }
        false => {
            let app = load_app(config, Instance::unheld("replay"), Store::in_memory())?;
            let loaded = &app.pipelines()[0];
            let pipeline = loaded.config().clone();
            let cluster = Cluster::look(&pipeline)?;
            let through = Through::new(&pipeline, &loaded.deployment().versions(), &cluster.id)?;
            (pipeline, Passage::Chain(Box::new(through)))
        }
    };
    let mut letters = DeadLetters::open(&pipeline)?;
    let topic = letters.topic().to_string();
    let post = match args.dry_run {
        true => None,
        false => {
            let post = Post::open(&pipeline, &passage, &letters)?;
            // Another replay may have gone on until just now.
            letters.refresh()?;
            Some(post)
        }
    };
    let filter = args.which.filter();
    let job = Job {
        filter: &filter,
        limit: args.limit.map_or(u64::MAX, |it| it.get()),
        passage,
        post,
        stop,
    };
    let mut progress = Progress::new();
    let mut show = |seen: Seen<'_>| {
        match seen {
            Seen::At(at, total, report) => progress.show(at, total, report.replayed()),
            Seen::Fate(entry, fate) => failed.note(entry, fate),
        }
        Ok(())
    };
    let replayed = replay(&mut letters, job, report, &mut show);
    progress.end();
    replayed.map(|()| topic)
}

/// Letters that aren't mended: the first ones, as programs are told of them, and how many there are besides.
#[derive(Default)]
struct Failed {
    listed: Vec<Value>,
    more: u64,
}

impl Failed {
    /// What's held in memory, and what a person reads. All are in the dead letter topic again.
    const LISTED: usize = 1_000;

    fn note(&mut self, entry: &Entry, fate: &Fate) {
        let Some(failure) = failure(entry, fate) else {
            return;
        };
        match self.listed.len() < Failed::LISTED {
            true => self.listed.push(failure),
            false => self.more += 1,
        }
    }
}

/// What a program is told of a letter that isn't mended.
fn failure(entry: &Entry, fate: &Fate) -> Option<Value> {
    let (state, failure) = match fate {
        Fate::Again(failure) => ("dead letter", failure),
        Fate::Skipped(failure) => ("skipped", failure),
        Fate::Out(_) | Fate::Back | Fate::Left(_) | Fate::Halt(_) => return None,
    };
    let letter = &entry.letter;
    Some(json!({
        "partition": entry.partition,
        "offset": entry.offset,
        "from": {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset},
        "becomes": state,
        "class": failure.class.as_str(),
        "transform": failure.transform.as_ref().map(|(name, _)| name),
        "reason": failure.reason,
    }))
}

fn tell(args: &Replay, report: &Report, failed: &Failed, time: Duration) -> Result<()> {
    let again: u64 = report.again.values().sum();
    if args.json {
        let left: Vec<Value> = report
            .left
            .iter()
            .map(|(why, letters)| json!({"reason": why, "letters": letters}))
            .collect();
        return say(json!({
            "dry_run": args.dry_run,
            "replayed": report.replayed(),
            "out": report.out, "records": report.records, "dropped": report.dropped,
            "to_input": report.back, "dead_letters": again, "skipped": report.skipped,
            "filtered": report.filtered, "left": left, "failed": failed.listed,
            "failed_besides": failed.more, "stopped": report.stopped,
        }));
    }
    if args.dry_run && !failed.listed.is_empty() {
        let mut table = Table::new()
            .text("letter")
            .text("from")
            .text("becomes")
            .text("class")
            .text("transform")
            .text("reason");
        for it in &failed.listed {
            let from = &it["from"];
            let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
            table.row([
                format!("{}:{}", it["partition"], it["offset"]),
                format!(
                    "{}/{}:{}",
                    word(&from["topic"]),
                    from["partition"],
                    from["offset"]
                ),
                word(&it["becomes"]),
                word(&it["class"]),
                word(&it["transform"]),
                text::record(Some(word(&it["reason"]).as_bytes()), REASON_COLUMNS),
            ]);
        }
        table.lines(columns()).iter().try_for_each(say)?;
        if failed.more > 0 {
            say(format_args!("and {} more", text::count(failed.more)))?;
        }
        say("")?;
    }
    let mut table = Table::new().text("what became of them").number("letters");
    let mut row = |what: &str, letters: u64| {
        if letters > 0 {
            table.row([what.to_string(), text::count(letters)]);
        }
    };
    row(
        &format!("came out, as {} records", text::count(report.records)),
        report.out,
    );
    row("dropped by the chain", report.dropped);
    row("back in their topics", report.back);
    for ((class, transform), letters) in &report.again {
        let by = transform.as_ref().map(|it| format!(" in {it}"));
        let what = format!("dead letters again: {class}{}", by.unwrap_or_default());
        row(&what, *letters);
    }
    row("failed again and skipped", report.skipped);
    for (why, letters) in &report.left {
        row(&format!("left: {why}"), *letters);
    }
    row("pending, and left out by the filters", report.filtered);
    if report.replayed() + report.filtered == 0 && report.left.is_empty() {
        return say("nothing to replay");
    }
    table.lines(columns()).iter().try_for_each(say)?;
    match args.dry_run {
        true => say("nothing was written (--dry-run)"),
        false => say(format_args!(
            "{} replayed in {}",
            text::count(report.replayed()),
            text::time(time)
        )),
    }
}

/// What a reason may take of a table that isn't cut to a terminal.
const REASON_COLUMNS: usize = 500;

/// How far a replay is, on standard error: a bar on a terminal, a line a second elsewhere.
enum Progress {
    Bar(ProgressBar),
    Lines(Instant),
}

impl Progress {
    fn new() -> Progress {
        if !Term::stderr().is_term() {
            return Progress::Lines(Instant::now());
        }
        Progress::bar(ProgressDrawTarget::stderr())
    }

    fn bar(target: ProgressDrawTarget) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = "{wide_bar} {human_pos} of {human_len} records, {msg} replayed, {eta} to go";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress::Bar(bar)
    }

    fn show(&mut self, at: u64, total: u64, replayed: u64) {
        match self {
            Progress::Bar(bar) => {
                bar.set_length(total);
                bar.set_message(text::count(replayed));
                bar.set_position(at);
            }
            Progress::Lines(last) => {
                if last.elapsed() >= Duration::from_secs(1) {
                    *last = Instant::now();
                    eprintln!(
                        "{} of {} records, {} replayed",
                        text::count(at),
                        text::count(total),
                        text::count(replayed)
                    );
                }
            }
        }
    }

    fn end(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that keeps what's written to it, with `<` where a line is cleared.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl Screen {
        fn write(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            100
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.write(text)
        }

        fn clear_line(&self) -> io::Result<()> {
            self.write("<")
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_says_how_far_it_is_and_goes() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let mut progress = Progress::bar(target);
        progress.show(1_000, 4_000, 700);
        let shown = screen.0.lock().unwrap().clone();
        let line = shown.rsplit('<').next().unwrap_or_default();
        assert!(
            line.contains(" 1,000 of 4,000 records, 700 replayed, "),
            "{shown:?}"
        );
        // A quarter of the bar.
        let (bar, _) = line.split_once(' ').unwrap_or_default();
        let done = bar.chars().filter(|&it| it == '=').count();
        assert!(done > 0 && line.contains('>'), "{shown:?}");
        progress.end();
        let shown = screen.0.lock().unwrap().clone();
        assert!(shown.ends_with('<'), "{shown:?}");
    }
}
