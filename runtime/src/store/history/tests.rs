use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::TimeDelta;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

use super::*;

fn content(number: u64) -> Content {
    Content {
        digest: Digest::of(&number.to_le_bytes()),
        config: json!({ "number": number }),
    }
}

/// A clock that goes on by a second whenever it's looked at.
fn now() -> DateTime<Utc> {
    static SECONDS: AtomicI64 = AtomicI64::new(0);
    let seconds = SECONDS.fetch_add(1, Ordering::Relaxed);
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

impl History {
    /// The version of the content of that number, which needn't have it as its own.
    fn run(&mut self, content_number: u64, cause: Cause) {
        let number = self.number(&content(content_number), now());
        self.activate(number, cause.into(), None, now(), "swapped");
    }

    fn roll_back(&mut self) -> Option<u64> {
        let number = self.before()?.number;
        self.activate(number, Cause::Rollback.into(), None, now(), "rolled back");
        Some(number)
    }

    fn shadow(&mut self, version: u64) {
        self.try_out(Trial {
            version,
            since: now(),
            by: Cause::Api.into(),
            note: None,
            kind: TrialKind::Shadow,
        });
    }
}

fn after(causes: &[(u64, Cause)]) -> History {
    let mut history = History::default();
    for (number, cause) in causes {
        history.run(*number, *cause);
    }
    history
}

fn active(history: &History) -> Option<u64> {
    history.active().map(|it| it.number)
}

#[test]
fn the_same_module_and_config_are_the_same_version() {
    let mut history = History::default();
    let digest = Digest::of(b"module");
    let mut number = |digest, config: &str| {
        let config = serde_json::from_str(config).unwrap();
        history.number(&Content { digest, config }, now())
    };
    assert_eq!(number(digest, r#"{"a": {"x": 1, "y": [1, 2]}, "b": 2}"#), 1);
    assert_eq!(number(digest, r#"{"b": 2, "a": {"y": [1, 2], "x": 1}}"#), 1);
    assert_eq!(number(digest, r#"{"b": 2, "a": {"y": [2, 1], "x": 1}}"#), 2);
    assert_eq!(number(digest, r#"{"b": 2}"#), 3);
    assert_eq!(number(Digest::of(b"other"), r#"{"b": 2}"#), 4);
    assert_eq!(number(digest, r#"{"b": 2}"#), 3);
}

#[test]
fn a_first_start_takes_the_file() {
    let mut history = History::default();
    assert_eq!(history.active(), None);
    assert_eq!(history.at_start(&content(1), now()), Start::First);
    assert_eq!(active(&history), Some(1));
    assert_eq!(history.activations[0].by, Cause::ConfigFile.into());
    assert_eq!(history.before(), None);
}

#[test]
fn a_restart_keeps_what_was_active_while_the_file_says_the_same() {
    let mut history = after(&[(1, Cause::ConfigFile), (2, Cause::Api)]);
    history.shadow(1);
    let before = history.clone();
    assert_eq!(history.at_start(&content(1), now()), Start::Kept);
    assert_eq!(history, before);
}

#[test]
fn a_restart_takes_a_file_that_changed_and_ends_the_trial() {
    let mut history = after(&[(1, Cause::ConfigFile), (2, Cause::Api)]);
    history.shadow(1);
    let later = now() + TimeDelta::hours(1);
    let start = history.at_start(&content(3), later);
    assert_eq!(start, Start::FileChanged { was: 2 });
    assert_eq!((active(&history), history.trial.clone()), (Some(3), None));
    let ended = Ended {
        at: later,
        why: FILE_CHANGED.to_string(),
    };
    assert_eq!(history.activations[1].ended, Some(ended));
    assert_eq!(history.at_start(&content(3), later), Start::Kept);
    // Back to what it said first, which has a number already.
    let start = history.at_start(&content(1), later);
    assert_eq!(start, Start::FileChanged { was: 3 });
    assert_eq!(active(&history), Some(1));
}

#[test]
fn a_file_that_came_round_to_what_runs_is_no_change() {
    let mut history = after(&[(1, Cause::ConfigFile), (2, Cause::Api)]);
    assert_eq!(history.at_start(&content(2), now()), Start::Kept);
    assert_eq!(history.activations.len(), 2);
    // It's noted: what it said before would be a change now.
    let start = history.at_start(&content(1), now());
    assert_eq!(start, Start::FileChanged { was: 2 });
}

#[test]
fn what_a_file_brought_while_it_ran_is_no_news_at_the_next_start() {
    for cause in [Cause::ConfigFile, Cause::ModuleFile] {
        let mut history = after(&[(1, Cause::ConfigFile), (2, cause), (3, Cause::Api)]);
        assert_eq!(history.at_start(&content(2), now()), Start::Kept);
        assert_eq!(active(&history), Some(3));
    }
    let mut history = after(&[(1, Cause::ConfigFile), (2, Cause::Api)]);
    history.file_says(&content(2), now());
    history.run(3, Cause::Api);
    assert_eq!(history.at_start(&content(2), now()), Start::Kept);
}

#[test]
fn rollbacks_go_back_step_by_step() {
    let mut history = after(&[(1, Cause::ConfigFile), (2, Cause::Api), (3, Cause::Api)]);
    let went: Vec<_> = std::iter::from_fn(|| history.roll_back()).collect();
    assert_eq!(went, [2, 1]);
    assert_eq!(active(&history), Some(1));
}

#[test]
fn a_rollback_never_goes_to_what_was_given_up() {
    let before = |causes: &[(u64, Cause)]| after(causes).before().map(|it| it.number);
    let first_three = [(1, Cause::ConfigFile), (2, Cause::Api), (3, Cause::Api)];
    let then = |more: &[(u64, Cause)]| before(&[&first_three, more].concat());
    assert_eq!(then(&[(2, Cause::Rollback)]), Some(1));
    assert_eq!(then(&[(2, Cause::Probation)]), Some(1));
    assert_eq!(then(&[(1, Cause::Rollback)]), None);
    // 3 was given up before 4 came.
    assert_eq!(then(&[(2, Cause::Rollback), (4, Cause::Api)]), Some(2));
    assert_eq!(
        then(&[(2, Cause::Rollback), (4, Cause::Api), (2, Cause::Probation)]),
        Some(1)
    );
    // Taken up a second time: what was before the first is still what it goes back to.
    assert_eq!(then(&[(2, Cause::Rollback), (3, Cause::Api)]), Some(2));
    assert_eq!(then(&[(3, Cause::Api)]), Some(2));
    // Known and never taken up, such as one that was only tried: 3 was just given up for it.
    assert_eq!(then(&[(4, Cause::Rollback)]), None);
}

#[test]
fn a_rollback_whose_way_back_is_forgotten_goes_nowhere() {
    let most = MAX_ACTIVATIONS as u64;
    let all: Vec<(u64, Cause)> = (1..=most).map(|it| (it, Cause::Api)).collect();
    let before = |more: &[(u64, Cause)]| {
        let history = after(&[&all, more].concat());
        history.before().map(|it| it.number)
    };
    assert_eq!(before(&[]), Some(most - 1));
    assert_eq!(before(&[(3, Cause::Rollback)]), Some(2));
    assert_eq!(before(&[(2, Cause::Rollback)]), None);
    // All that's kept of 1 is that it came again.
    assert_eq!(before(&[(1, Cause::Rollback)]), None);
    assert_eq!(before(&[(1, Cause::Api)]), None);
    assert_eq!(before(&[(most + 1, Cause::Api)]), Some(most));
}

#[test]
fn only_what_ran_lately_is_kept_and_numbers_are_not_given_twice() {
    let mut history = History::default();
    history.at_start(&content(1), now());
    history.run(2, Cause::Api);
    history.shadow(2);
    let most = MAX_ACTIVATIONS as u64;
    for number in 3..=most + 10 {
        history.run(number, Cause::Api);
    }
    assert_eq!(history.activations.len(), MAX_ACTIVATIONS);
    let kept: Vec<u64> = history.versions.iter().map(|it| it.number).collect();
    // The file's and the tried one are kept, however old.
    let expected: Vec<u64> = [1, 2].into_iter().chain(11..=most + 10).collect();
    assert_eq!(kept, expected);
    history.end_trial();
    assert_eq!(history.known(2), None);
    // What was forgotten is a new version.
    assert_eq!(history.number(&content(2), now()), most + 11);
    // It never ran, and is forgotten too; its number stays its own.
    history.run(most, Cause::Api);
    assert_eq!(history.known(most + 11), None);
    assert_eq!(history.number(&content(3), now()), most + 12);
}

#[test]
fn what_is_not_known_can_be_neither_activated_nor_tried() {
    let mut history = after(&[(1, Cause::ConfigFile)]);
    let before = history.clone();
    history.activate(7, Cause::Api.into(), None, now(), "swapped");
    history.shadow(7);
    assert_eq!(history, before);
}

#[test]
fn histories_that_contradict_themselves_are_found_out() {
    let good = after(&[(1, Cause::ConfigFile), (2, Cause::Api)]);
    good.check().unwrap();
    let wrong = |change: fn(&mut History)| {
        let mut history = good.clone();
        change(&mut history);
        history.check().unwrap_err().to_string()
    };
    let said = wrong(|it| it.versions[1].number = 1);
    assert_eq!(said, "two versions are number 1");
    let said = wrong(|it| it.versions[1].number = 0);
    assert_eq!(said, "no version can have the number 0");
    let said = wrong(|it| it.versions[1].number = u64::MAX);
    assert!(said.contains("18446744073709551615"), "{said}");
    let said = wrong(|it| it.next = u64::MAX);
    assert!(said.contains("2^53"), "{said}");
    let said = wrong(|it| drop(it.versions.pop()));
    assert_eq!(said, "it names version 2, and there's none");
    let said = wrong(|it| it.activations[0].ended = None);
    assert_eq!(said, "two versions are active");
}

/// What can be done with a history.
#[derive(Clone, Debug)]
enum Act {
    Number(u64),
    Start(u64),
    FileSays(u64),
    /// One of those that are known.
    Activate(Index, Cause),
    Shadow(Index),
    EndTrial,
    RollBack,
    /// It's written and read again.
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let causes = [
        Cause::ConfigFile,
        Cause::ModuleFile,
        Cause::Api,
        Cause::Rollback,
        Cause::Promotion,
        Cause::Probation,
    ];
    prop_oneof![
        4 => (0..12u64).prop_map(Act::Number),
        2 => (0..12u64).prop_map(Act::Start),
        1 => (0..12u64).prop_map(Act::FileSays),
        8 => (any::<Index>(), select(causes.to_vec())).prop_map(|(it, cause)| Act::Activate(it, cause)),
        2 => any::<Index>().prop_map(Act::Shadow),
        1 => Just(Act::EndTrial),
        2 => Just(Act::RollBack),
        1 => Just(Act::Restart),
    ]
}

impl History {
    /// What must be active after it, if it's known.
    fn act(&mut self, act: Act) -> Option<u64> {
        let any = |it: Index, history: &History| match history.versions.as_slice() {
            [] => 0,
            some => it.get(some).number,
        };
        let before = active(self);
        match act {
            Act::Number(it) => {
                self.number(&content(it), now());
                before
            }
            Act::Start(it) => {
                let start = self.at_start(&content(it), now());
                assert_eq!(start == Start::First, before.is_none());
                match start {
                    Start::Kept => before,
                    _ => Some(self.number(&content(it), now())),
                }
            }
            Act::FileSays(it) => {
                self.file_says(&content(it), now());
                before
            }
            Act::Activate(it, cause) => {
                let number = any(it, self);
                self.activate(number, cause.into(), None, now(), "swapped");
                Some(number).filter(|it| *it > 0)
            }
            Act::Shadow(it) => {
                self.shadow(any(it, self));
                before
            }
            Act::EndTrial => {
                self.end_trial();
                before
            }
            Act::RollBack => self.roll_back().or(before),
            Act::Restart => {
                let text = serde_json::to_string(self).unwrap();
                let read: History = serde_json::from_str(&text).unwrap();
                assert_eq!(read, *self);
                *self = read;
                before
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_is_done_a_history_is_sound(acts in vec(act(), 0..400)) {
        let mut history = History::default();
        let mut numbers: BTreeMap<u64, Content> = BTreeMap::new();
        for act in acts {
            let expected = history.act(act);
            history.check().unwrap();
            prop_assert_eq!(active(&history), expected);
            let open = history.activations.iter().filter(|it| it.ended.is_none()).count();
            prop_assert_eq!(open, usize::from(!history.activations.is_empty()));
            prop_assert!(history.activations.len() <= MAX_ACTIVATIONS);
            for known in &history.versions {
                let content = numbers.entry(known.number).or_insert_with(|| known.content.clone());
                prop_assert_eq!(&*content, &known.content);
            }
            let contents: Vec<&Content> = history.versions.iter().map(|it| &it.content).collect();
            let twice = (1..contents.len()).any(|it| contents[..it].contains(&contents[it]));
            prop_assert!(!twice);
            // However often it's gone back, no version comes twice.
            let mut back = history.clone();
            let mut been: BTreeSet<u64> = active(&back).into_iter().collect();
            while let Some(number) = back.roll_back() {
                prop_assert!(been.insert(number), "{number} again");
            }
        }
    }
}
