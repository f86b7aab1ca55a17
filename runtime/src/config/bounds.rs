//! Numbers within bounds, or their defaults.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::Problems;
use super::raw::Located;
use super::units::{ByteSize, show_duration};

pub(super) fn bounded_count(
    key: &str,
    given: Option<Located<u64>>,
    default: usize,
    bounds: RangeInclusive<usize>,
    problems: &mut Problems,
) -> usize {
    let show = |count: &usize| count.to_string();
    let given = given.map(|count| Located {
        line: count.line,
        value: usize::try_from(count.value).unwrap_or(usize::MAX),
    });
    bounded(key, given, default, bounds, show, problems)
}

pub(super) fn bounded_size(
    key: &str,
    given: Option<Located<ByteSize>>,
    default: ByteSize,
    bounds: RangeInclusive<ByteSize>,
    problems: &mut Problems,
) -> ByteSize {
    bounded(key, given, default, bounds, ByteSize::to_string, problems)
}

pub(super) fn bounded_duration(
    key: &str,
    given: Option<Located<Duration>>,
    default: Duration,
    bounds: RangeInclusive<Duration>,
    problems: &mut Problems,
) -> Duration {
    let show = |duration: &Duration| show_duration(*duration);
    bounded(key, given, default, bounds, show, problems)
}

fn bounded<T: PartialOrd>(
    key: &str,
    given: Option<Located<T>>,
    default: T,
    bounds: RangeInclusive<T>,
    show: impl Fn(&T) -> String,
    problems: &mut Problems,
) -> T {
    let Some(Located { line, value }) = given else {
        return default;
    };
    if bounds.contains(&value) {
        return value;
    }
    let (least, most) = (show(bounds.start()), show(bounds.end()));
    problems.at(
        line,
        format!(
            "\"{key}\" is {}, and must be from {least} to {most}",
            show(&value)
        ),
    );
    default
}
