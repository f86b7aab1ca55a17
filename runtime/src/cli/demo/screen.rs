//! The part of the demo that is seen: a table that redraws itself on a terminal, a line a second in a pipe, and a
//! summary at the end.

use std::collections::VecDeque;
use std::io::{self, Stdout, Write};
use std::time::Duration;

use console::{Term, style, truncate_str};

use super::super::table::Table;
use super::super::text;

/// Rates are those of this long a time before now.
const RATE_WINDOW: Duration = Duration::from_secs(3);
/// Plain lines come this far apart.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Records shown before and after the chain.
const SAMPLES: usize = 3;
/// Lines that a record takes at most on a terminal; in 80 columns one of the demo's takes three.
const SAMPLE_LINES: usize = 3;
/// In a pipe there's no width to keep to, but a record of a megabyte would still hide the rest.
const PIPE_COLUMNS: usize = 400;

/// What to try after the demo.
const TRY_NEXT: [(&str, &str); 4] = [
    (
        "weir demo --rate max --records 1000000",
        "as fast as this machine goes",
    ),
    (
        "weir demo --bootstrap localhost:9092",
        "the same through a real Kafka",
    ),
    (
        "weir produce --topic pizza pizza --bad 1%",
        "other records, some malformed",
    ),
    ("weir run -c weir.toml", "your own; see docs/config.md"),
];

/// Where the demo stands.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Since the first record was made.
    pub elapsed: Duration,
    /// What records flow through, such as "a mock cluster in this process".
    pub cluster: String,
    /// The input topic.
    pub input: String,
    /// The output topic.
    pub output: String,
    /// Records that will be made, if that is known.
    pub wanted: Option<u64>,
    /// Records that were consumed.
    pub records_in: u64,
    /// Records that were produced and acknowledged.
    pub records_out: u64,
    /// The chain, in order.
    pub steps: Vec<Step>,
    /// Some records before and after; the first three are shown.
    pub samples: Vec<Sample>,
}

/// One transform.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The transform's name.
    pub name: String,
    /// What it runs, such as "add-uuid 0.1.0".
    pub module: String,
    /// Records that went in.
    pub records_in: u64,
    /// Records that came out.
    pub records_out: u64,
    /// Records that it decided to drop.
    pub dropped: u64,
    /// Records that it refused.
    pub refused: u64,
}

/// A record before and after the chain.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The value that was consumed.
    pub before: Option<Vec<u8>>,
    /// What became of it.
    pub after: After,
}

/// What became of a record.
#[derive(Clone, Debug)]
pub enum After {
    /// It came out with this value.
    Value(Option<Vec<u8>>),
    /// The transform of this name dropped it.
    Dropped(String),
    /// A transform refused it.
    Refused {
        /// The transform's name.
        transform: String,
        /// What it said.
        reason: String,
    },
}

/// Shows snapshots, one after the other. A terminal is as it was once the screen is dropped.
pub struct Screen<W: Write> {
    out: W,
    mode: Mode,
    /// Lines of the frame that stands on the terminal.
    drawn: usize,
    /// When the last plain line was written.
    last_line: Option<Duration>,
    history: History,
}

/// How a screen shows what it's given.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// In place, on a terminal of so many rows and columns, asked anew for each frame.
    Terminal(fn() -> (usize, usize)),
    /// A line a second.
    Lines,
}

impl Screen<Stdout> {
    /// Standard output: in place if it's a terminal that can, otherwise in lines.
    pub fn stdout() -> Screen<Stdout> {
        let term = Term::stdout();
        let mode = match term.is_term() && !console::is_dumb() {
            true => Mode::Terminal(|| {
                let (rows, columns) = Term::stdout().size();
                (rows.into(), columns.into())
            }),
            false => Mode::Lines,
        };
        Screen::new(io::stdout(), mode)
    }
}

impl<W: Write> Screen<W> {
    /// A screen that writes to `out`.
    pub fn new(out: W, mode: Mode) -> Screen<W> {
        Screen {
            out,
            mode,
            drawn: 0,
            last_line: None,
            history: History::default(),
        }
    }

    /// Shows a snapshot. Several a second make a lively table; lines stay a second apart.
    pub fn draw(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.history.add(snapshot);
        match self.mode {
            Mode::Terminal(size) => self.draw_frame(snapshot, size()),
            Mode::Lines => self.draw_line(snapshot),
        }
    }

    /// Shows the last snapshot, then the summary and what to try next.
    pub fn finish(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.history.add(snapshot);
        let columns = match self.mode {
            Mode::Terminal(size) => {
                self.draw_frame(snapshot, size())?;
                self.restore()?;
                size().1
            }
            Mode::Lines => {
                writeln!(self.out)?;
                for line in [
                    steps(snapshot, None).lines(None),
                    samples(snapshot, PIPE_COLUMNS, 1),
                ]
                .concat()
                {
                    writeln!(self.out, "{line}")?;
                }
                PIPE_COLUMNS
            }
        };
        writeln!(self.out)?;
        for line in summary(snapshot, columns) {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()
    }

    fn draw_frame(
        &mut self,
        snapshot: &Snapshot,
        (rows, columns): (usize, usize),
    ) -> io::Result<()> {
        let mut lines = frame(snapshot, &self.history.rates(), columns);
        // The cursor stands on the line below; a frame that is higher than the terminal can't be gone back over.
        lines.truncate(rows.saturating_sub(1));
        let mut text = String::new();
        match self.drawn {
            // No cursor, and no wrapping of lines when the terminal is made narrower.
            0 => text.push_str("\x1b[?25l\x1b[?7l"),
            drawn => text.push_str(&format!("\x1b[{drawn}A")),
        }
        for (index, line) in lines.iter().enumerate() {
            let line = match index == 0 && console::colors_enabled() {
                true => style(line).bold().to_string(),
                false => line.clone(),
            };
            // Erased first: after a line as wide as the terminal the cursor stands on its last character.
            text.push_str(&format!("\r\x1b[K{line}\n"));
        }
        text.push_str("\x1b[J");
        self.drawn = lines.len().max(1);
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn draw_line(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let is_due = match self.last_line {
            Some(last) => snapshot.elapsed.saturating_sub(last) >= LINE_INTERVAL,
            None => true,
        };
        if !is_due {
            return Ok(());
        }
        if self.last_line.is_none() {
            writeln!(self.out, "{}", title(snapshot))?;
        }
        self.last_line = Some(snapshot.elapsed);
        writeln!(self.out, "{}", line(snapshot, &self.history.rates()))?;
        self.out.flush()
    }

    /// Gives the terminal its cursor and its wrapping back.
    fn restore(&mut self) -> io::Result<()> {
        if self.drawn == 0 {
            return Ok(());
        }
        self.drawn = 0;
        self.out.write_all(b"\x1b[?7h\x1b[?25h")?;
        self.out.flush()
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.restore();
    }
}

/// Records a second: of the whole pipeline, then of each step, in and out.
struct Rates {
    whole: (String, String),
    steps: Vec<(String, String)>,
}

/// Counts of the last while, to work rates out from.
#[derive(Default)]
struct History(VecDeque<(Duration, Vec<(u64, u64)>)>);

impl History {
    fn add(&mut self, snapshot: &Snapshot) {
        let mut counts = vec![(snapshot.records_in, snapshot.records_out)];
        counts.extend(
            snapshot
                .steps
                .iter()
                .map(|step| (step.records_in, step.records_out)),
        );
        while let Some((time, _)) = self.0.get(1)
            && snapshot.elapsed.saturating_sub(*time) >= RATE_WINDOW
        {
            self.0.pop_front();
        }
        self.0.push_back((snapshot.elapsed, counts));
    }

    fn rates(&self) -> Rates {
        let (Some((start, first)), Some((end, last))) = (self.0.front(), self.0.back()) else {
            return Rates {
                whole: Default::default(),
                steps: Vec::new(),
            };
        };
        let (time, since_start) = match self.0.len() {
            // A single look: the average since the start.
            1 => (*end, true),
            _ => (end.saturating_sub(*start), false),
        };
        let mut rates = last.iter().enumerate().map(|(index, now)| {
            let before = match since_start {
                true => (0, 0),
                false => first.get(index).copied().unwrap_or_default(),
            };
            (
                text::per_second(now.0.saturating_sub(before.0), time),
                text::per_second(now.1.saturating_sub(before.1), time),
            )
        });
        Rates {
            whole: rates.next().unwrap_or_default(),
            steps: rates.collect(),
        }
    }
}

/// The lines of a frame, each at most `columns` wide.
fn frame(snapshot: &Snapshot, rates: &Rates, columns: usize) -> Vec<String> {
    let cut = |line: String| truncate_str(&line, columns, "…").into_owned();
    let mut lines = vec![cut(title(snapshot)), cut(progress(snapshot)), String::new()];
    lines.extend(steps(snapshot, Some(rates)).lines(Some(columns)));
    lines.extend(samples(snapshot, columns, SAMPLE_LINES));
    lines
}

fn title(snapshot: &Snapshot) -> String {
    let names = snapshot.steps.iter().map(|step| step.name.as_str());
    let way: Vec<&str> = [snapshot.input.as_str()]
        .into_iter()
        .chain(names)
        .chain([snapshot.output.as_str()])
        .collect();
    format!("{} on {}", way.join(" > "), snapshot.cluster)
}

fn progress(snapshot: &Snapshot) -> String {
    let time = text::time(snapshot.elapsed);
    let records = text::count(snapshot.records_in);
    match snapshot.wanted {
        Some(wanted) => {
            let filled = (snapshot.records_in.min(wanted) * 20)
                .checked_div(wanted)
                .unwrap_or(0) as usize;
            format!(
                "[{:20}] {records} of {} records, {time}",
                "=".repeat(filled),
                text::count(wanted)
            )
        }
        None => format!("{records} records, {time}"),
    }
}

/// Rates only while it runs.
fn steps(snapshot: &Snapshot, rates: Option<&Rates>) -> Table {
    let mut table = Table::new()
        .text("STEP")
        .text("MODULE")
        .number("IN")
        .number("OUT")
        .number("DROPPED")
        .number("REFUSED");
    if rates.is_some() {
        table = table.number("IN/S").number("OUT/S");
    }
    for (index, step) in snapshot.steps.iter().enumerate() {
        let mut row = vec![step.name.clone(), step.module.clone()];
        let counts = [
            step.records_in,
            step.records_out,
            step.dropped,
            step.refused,
        ];
        row.extend(counts.map(text::count));
        if let Some((records_in, records_out)) = rates.and_then(|rates| rates.steps.get(index)) {
            row.extend([records_in.clone(), records_out.clone()]);
        }
        table.row(row);
    }
    table
}

/// Records before and after, each in at most so many lines.
fn samples(snapshot: &Snapshot, columns: usize, most: usize) -> Vec<String> {
    const LABEL: usize = "before  ".len();
    let columns = columns.saturating_sub(LABEL);
    let shown = |bytes| text::record(bytes, columns * most);
    let mut lines = Vec::new();
    for sample in snapshot.samples.iter().take(SAMPLES) {
        let after = match &sample.after {
            After::Value(value) => shown(value.as_deref()),
            After::Dropped(transform) => format!("(dropped by {transform})"),
            // The reason is the guest's text, as little to be trusted as a record.
            After::Refused { transform, reason } => {
                let reason = shown(Some(reason.as_bytes()));
                format!("(refused by {transform}: {reason})")
            }
        };
        lines.push(String::new());
        for (label, text) in [
            ("before  ", shown(sample.before.as_deref())),
            ("after   ", after),
        ] {
            let mut label = label.to_string();
            for line in text::chop(&text, columns, most) {
                lines.push(label + &line);
                label = " ".repeat(LABEL);
            }
        }
    }
    lines
}

fn line(snapshot: &Snapshot, rates: &Rates) -> String {
    let mut line = format!(
        "{}: {} in ({}/s)",
        text::time(snapshot.elapsed),
        text::count(snapshot.records_in),
        rates.whole.0,
    );
    for (index, step) in snapshot.steps.iter().enumerate() {
        let rate = rates.steps.get(index).map_or("0", |rate| rate.1.as_str());
        line += &format!(
            ", {} {} ({rate}/s)",
            step.name,
            text::count(step.records_out)
        );
    }
    line + &format!(
        ", {} out ({}/s)",
        text::count(snapshot.records_out),
        rates.whole.1
    )
}

fn summary(snapshot: &Snapshot, columns: usize) -> Vec<String> {
    let dropped = snapshot.steps.iter().map(|step| step.dropped).sum();
    let refused = snapshot.steps.iter().map(|step| step.refused).sum();
    let transforms = match snapshot.steps.len() {
        1 => "1 transform".to_string(),
        number => format!("{number} transforms"),
    };
    let mut lines = text::wrap(
        &format!(
            "{} records through {transforms} in {}, {} a second: {} came out, {} were dropped, {} refused",
            text::count(snapshot.records_in),
            text::time(snapshot.elapsed),
            text::per_second(snapshot.records_in, snapshot.elapsed),
            text::count(snapshot.records_out),
            text::count(dropped),
            text::count(refused),
        ),
        columns,
    );
    lines.extend([String::new(), "Try next:".to_string()]);
    lines.extend(TRY_NEXT.map(|(command, why)| format!("  {command:42}  {why}")));
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Cli;

    /// A second and a half at 10,000 records a second, times `factor`.
    fn snapshot(factor: u64) -> Snapshot {
        let records = 15_000 * factor;
        let step = |name: &str, module: &str, dropped: u64| Step {
            name: name.to_string(),
            module: module.to_string(),
            records_in: records,
            records_out: records - dropped,
            dropped,
            refused: 0,
        };
        Snapshot {
            elapsed: Duration::from_millis(1_500 * factor),
            cluster: "a mock cluster in this process".to_string(),
            input: "realstock".to_string(),
            output: "stocks".to_string(),
            wanted: Some(60_000),
            records_in: records,
            records_out: records / 2,
            steps: vec![
                step("id", "add-uuid 0.1.0", 0),
                step("even", "filter 0.1.0", records / 2),
            ],
            samples: vec![
                Sample {
                    before: Some(br#"{"timestamp":2}"#.to_vec()),
                    after: After::Value(Some(br#"{"id":"0190","event_time":2}"#.to_vec())),
                },
                Sample {
                    before: Some(b"\x1b[2Jboo".to_vec()),
                    after: After::Refused {
                        transform: "id".to_string(),
                        reason: "not JSON: \x07".to_string(),
                    },
                },
                Sample {
                    before: None,
                    after: After::Dropped("even".to_string()),
                },
                Sample {
                    before: Some(b"the fourth".to_vec()),
                    after: After::Value(None),
                },
            ],
        }
    }

    fn shown(mode: Mode, show: impl FnOnce(&mut Screen<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        show(&mut Screen::new(&mut out, mode));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_frame_shows_steps_rates_and_samples() {
        let mut history = History::default();
        history.add(&snapshot(1));
        history.add(&snapshot(2));
        let expected = r#"realstock > id > even > stocks on a mock cluster in this process
[==========          ] 30,000 of 60,000 records, 3.0 s

STEP  MODULE              IN     OUT  DROPPED  REFUSED    IN/S   OUT/S
id    add-uuid 0.1.0  30,000  30,000        0        0  10,000  10,000
even  filter 0.1.0    30,000  15,000   15,000        0  10,000   5,000

before  {"timestamp":2}
after   {"id":"0190","event_time":2}

before  \u{1b}[2Jboo
after   (refused by id: not JSON: \u{7})

before  null
after   (dropped by even)"#;
        assert_eq!(
            frame(&snapshot(2), &history.rates(), 80).join("\n"),
            expected
        );
        for line in frame(&snapshot(2), &history.rates(), 20) {
            assert!(console::measure_text_width(&line) <= 20, "{line}");
        }
    }

    #[test]
    fn a_record_wider_than_the_terminal_goes_on_below() {
        let snapshot = Snapshot {
            samples: vec![Sample {
                before: Some(b"0123456789".to_vec()),
                after: After::Value(Some("日本語日本語日本語".into())),
            }],
            ..Snapshot::default()
        };
        let expected = [
            "",
            "before  0123456",
            "        789",
            "after   日本語",
            "        日本語",
            "        日本語",
        ];
        assert_eq!(samples(&snapshot, 15, 3), expected);
        assert_eq!(
            samples(&snapshot, 15, 1)[1..],
            ["before  012345…", "after   日本語…"]
        );
    }

    #[test]
    fn a_narrow_terminal_gets_the_whole_summary() {
        let lines = summary(&snapshot(4), 40);
        let sentence = lines.split(|line| line.is_empty()).next().unwrap();
        assert!(sentence.iter().all(|line| line.len() <= 40), "{sentence:?}");
        assert!(sentence.join(" ").ends_with("0 refused"), "{sentence:?}");
        assert!(
            summary(&snapshot(4), 80)
                .iter()
                .all(|line| line.len() <= 80)
        );
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut history = History::default();
        let mut at = |milliseconds, records| {
            history.add(&Snapshot {
                elapsed: Duration::from_millis(milliseconds),
                records_in: records,
                ..Snapshot::default()
            });
            history.rates().whole.0
        };
        assert_eq!(at(0, 0), "0");
        assert_eq!(at(1_000, 1_000), "1,000");
        assert_eq!(at(2_000, 3_000), "1,500");
        assert_eq!(at(4_000, 3_000), "667");
        assert_eq!(at(5_000, 3_000), "0");
        assert_eq!(at(9_000, 3_000), "0");
    }

    #[test]
    fn a_terminal_is_redrawn_in_place_and_restored() {
        let text = shown(Mode::Terminal(|| (6, 40)), |screen| {
            screen.draw(&snapshot(1)).unwrap();
            screen.draw(&snapshot(2)).unwrap();
        });
        // Five lines fit above the cursor, so five are gone back over.
        assert_eq!(text.matches("\r\x1b[K").count(), 10, "{text:?}");
        assert_eq!(text.matches("\x1b[5A").count(), 1, "{text:?}");
        assert!(text.starts_with("\x1b[?25l\x1b[?7l"), "{text:?}");
        assert!(text.ends_with("\x1b[?7h\x1b[?25h"), "{text:?}");
    }

    #[test]
    fn a_terminal_keeps_the_last_frame_above_the_summary() {
        let text = shown(Mode::Terminal(|| (40, 200)), |screen| {
            screen.finish(&snapshot(4)).unwrap();
        });
        let frame = text.find("60,000 of 60,000 records").unwrap();
        let restored = text.find("\x1b[?25h").unwrap();
        let summary = text.find("Try next:").unwrap();
        assert!(frame < restored && restored < summary, "{text:?}");
        assert_eq!(text.matches("\x1b[?25h").count(), 1);
    }

    #[test]
    fn a_pipe_gets_a_line_a_second_and_the_samples_at_the_end() {
        let text = shown(Mode::Lines, |screen| {
            let mut early = snapshot(1);
            screen.draw(&early).unwrap();
            early.elapsed += Duration::from_millis(999);
            screen.draw(&early).unwrap();
            screen.draw(&snapshot(2)).unwrap();
            screen.finish(&snapshot(4)).unwrap();
        });
        let expected = r#"realstock > id > even > stocks on a mock cluster in this process
1.5 s: 15,000 in (10,000/s), id 15,000 (10,000/s), even 7,500 (5,000/s), 7,500 out (5,000/s)
3.0 s: 30,000 in (10,000/s), id 30,000 (10,000/s), even 15,000 (5,000/s), 15,000 out (5,000/s)

STEP  MODULE              IN     OUT  DROPPED  REFUSED
id    add-uuid 0.1.0  60,000  60,000        0        0
even  filter 0.1.0    60,000  30,000   30,000        0

before  {"timestamp":2}
after   {"id":"0190","event_time":2}

before  \u{1b}[2Jboo
after   (refused by id: not JSON: \u{7})

before  null
after   (dropped by even)

60,000 records through 2 transforms in 6.0 s, 10,000 a second: 30,000 came out, 30,000 were dropped, 0 refused

Try next:
"#;
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn what_to_try_next_can_be_typed() {
        for (command, _) in TRY_NEXT {
            if let Err(error) = Cli::try_parse_from(command.split(' ')) {
                panic!("{command}: {error}");
            }
        }
    }
}
