//! The tables that a run prints.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::checker::Findings;
use crate::swaps::Counts;

/// What became of each kind of fault.
#[derive(Clone, Debug, Default)]
pub struct Recoveries(BTreeMap<&'static str, Kind>);

#[derive(Clone, Debug, Default)]
struct Kind {
    times: usize,
    recovered: Vec<Duration>,
}

impl Recoveries {
    /// Counts a fault; `None` if the next one came before all had recovered.
    pub fn add(&mut self, kind: &'static str, recovered: Option<Duration>) {
        let kind = self.0.entry(kind).or_default();
        kind.times += 1;
        kind.recovered.extend(recovered);
    }

    /// How many faults there were.
    pub fn count(&self) -> usize {
        self.0.values().map(|it| it.times).sum()
    }

    /// A line for each kind.
    pub fn table(&self) -> String {
        let mut text =
            "| fault | times | recovered in, median | max |\n|---|---|---|---|\n".to_string();
        for (name, kind) in &self.0 {
            let mut recovered = kind.recovered.clone();
            recovered.sort_unstable();
            let show = |it: Option<&Duration>| {
                it.map_or("-".to_string(), |it| format!("{:.1} s", it.as_secs_f64()))
            };
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} |",
                kind.times,
                show(recovered.get(recovered.len() / 2)),
                show(recovered.last())
            );
        }
        text
    }
}

/// What became of the records.
pub fn findings(findings: &Findings) -> String {
    let lines = [
        ("in", findings.input),
        ("of those, in twice by the brokers", findings.input_again),
        ("out, expected", findings.expected),
        ("lost", findings.lost),
        ("duplicated", findings.duplicated),
        ("reordered within a key", findings.reordered),
        ("wrong", findings.wrong),
        ("ids that differ, or aren't unique", findings.wrong_ids),
        ("dead letters, expected", findings.dead_expected),
        ("dead letters, found", findings.dead_found),
        ("dead letters, duplicated", findings.dead_duplicated),
        ("dead letters, wrong", findings.dead_wrong),
    ];
    let mut text = "| records | |\n|---|---|\n".to_string();
    for (name, count) in lines {
        let _ = writeln!(text, "| {name} | {count} |");
    }
    text
}

/// What became of the swaps.
pub fn swaps(counts: Counts) -> String {
    let Counts {
        made,
        conflicts,
        cut_off,
    } = counts;
    format!(
        "{made} made, {conflicts} told of another one under way, {cut_off} cut off with their process"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_kind_of_fault() {
        let mut recoveries = Recoveries::default();
        for seconds in [3, 1, 2] {
            recoveries.add("b", Some(Duration::from_secs(seconds)));
        }
        recoveries.add("b", None);
        recoveries.add("a", None);
        assert_eq!(recoveries.count(), 5);
        let table = recoveries.table();
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(lines, ["| a | 1 | - | - |", "| b | 4 | 2.0 s | 3.0 s |"]);
    }
}
