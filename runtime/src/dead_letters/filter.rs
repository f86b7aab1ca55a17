//! Which dead letters are meant.

use crate::letter::{Class, Letter};

/// A choice among dead letters: those that all its parts agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These classes; any if empty.
    pub classes: Vec<Class>,
    /// These transforms; any, and none, if empty.
    pub transforms: Vec<String>,
    /// From these topics; any if empty.
    pub topics: Vec<String>,
    /// That became dead letters at this time or later, in milliseconds since 1970-01-01T00:00:00Z.
    pub since: Option<i64>,
    /// That became dead letters before this time.
    pub until: Option<i64>,
}

impl Filter {
    /// Whether this letter is meant.
    pub fn takes(&self, letter: &Letter) -> bool {
        let transform = letter.transform.as_ref().map(|(name, _)| name);
        (self.classes.is_empty() || self.classes.contains(&letter.class))
            && (self.transforms.is_empty()
                || transform.is_some_and(|it| self.transforms.contains(it)))
            && (self.topics.is_empty() || self.topics.contains(&letter.topic))
            && self.since.is_none_or(|since| letter.time >= since)
            && self.until.is_none_or(|until| letter.time < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_must_agree() {
        let letter = Letter {
            reason: String::new(),
            class: Class::Trap,
            pipeline: "stocks".into(),
            transform: Some(("date".into(), String::new())),
            topic: "realstock".into(),
            partition: 0,
            offset: 0,
            time: 1_000,
            replays: 0,
        };
        let check = |filter: Filter, expected: bool| {
            assert_eq!(filter.takes(&letter), expected, "{filter:?}");
        };
        let all = Filter {
            classes: vec![Class::Deadline, Class::Trap],
            transforms: vec!["date".into()],
            topics: vec!["realstock".into()],
            since: Some(1_000),
            until: Some(1_001),
        };
        check(Filter::default(), true);
        check(all.clone(), true);
        let classes = vec![Class::Refused];
        check(
            Filter {
                classes,
                ..all.clone()
            },
            false,
        );
        let transforms = vec!["id".into()];
        check(
            Filter {
                transforms,
                ..all.clone()
            },
            false,
        );
        let topics = vec!["others".into()];
        check(
            Filter {
                topics,
                ..all.clone()
            },
            false,
        );
        let since = Some(1_001);
        check(
            Filter {
                since,
                ..all.clone()
            },
            false,
        );
        let until = Some(1_000);
        check(Filter { until, ..all }, false);
        // A letter without a transform is none of any transform's.
        let nobodys = Letter {
            transform: None,
            ..letter.clone()
        };
        let transforms = vec!["date".into()];
        assert!(
            !Filter {
                transforms,
                ..Filter::default()
            }
            .takes(&nobodys)
        );
        assert!(Filter::default().takes(&nobodys));
    }
}
