//! Durations and sizes as people write them.

use std::fmt;
use std::time::Duration;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many times 1,024 bytes.
    pub const fn kib(count: u64) -> ByteSize {
        ByteSize(count << 10)
    }

    /// So many times 1,048,576 bytes.
    pub const fn mib(count: u64) -> ByteSize {
        ByteSize(count << 20)
    }

    /// The number as a length in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Reads `16MiB`, `1 MB`, `1.5GiB` or plain bytes. The error says what would be right.
    pub fn parse(text: &str) -> Result<ByteSize, String> {
        let (number, unit) = split(text);
        let factor = SIZES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let bytes = match factor {
            Some(&(_, factor)) => scaled(number, factor),
            None => None,
        };
        bytes.map(ByteSize).ok_or_else(|| {
            r#"write a number of bytes, or a size such as "64KiB", "16MiB", "1GiB" or "1MB""#
                .to_string()
        })
    }
}

impl fmt::Display for ByteSize {
    /// In the largest binary unit that divides it: `16 MiB`, `1000 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

/// Reads `100ms`, `1.5s`, `1m` or `2h`. The error says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor = DURATIONS.iter().find(|(name, _)| *name == unit);
    let nanoseconds = match factor {
        Some(&(_, factor)) => scaled(number, factor),
        None => None,
    };
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| {
        r#"write a number and a unit, such as "100ms", "1.5s", "1m" or "2h""#.to_string()
    })
}

/// A duration as [`parse_duration`] reads it.
pub fn show_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_string();
    }
    let (unit, factor) = DURATIONS
        .iter()
        .rev()
        .find(|(_, factor)| {
            nanoseconds >= u128::from(*factor) && nanoseconds.is_multiple_of(u128::from(*factor))
        })
        .unwrap_or(&DURATIONS[0]);
    format!("{}{unit}", nanoseconds / u128::from(*factor))
}

const SIZES: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

const DURATIONS: [(&str, u64); 5] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The number in front and the unit after it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A decimal number times a factor, rounded down, if it fits.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let number = number.replace('_', "");
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.len() <= 9 => (whole, fraction),
        Some(_) => return None,
        None => (number.as_str(), ""),
    };
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let product = digits.checked_mul(u128::from(factor))?;
    let divisor = 10u128.pow(fraction.len() as u32);
    if whole.is_empty() {
        return None;
    }
    u64::try_from(product / divisor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>, shown: &str) {
            let size = ByteSize::parse(text).ok();
            assert_eq!(size, expected.map(ByteSize), "{text}");
            assert_eq!(
                size.map_or(String::new(), |size| size.to_string()),
                shown,
                "{text}"
            );
        }
        check("0", Some(0), "0 B");
        check("65_536", Some(65_536), "64 KiB");
        check("16MiB", Some(16 << 20), "16 MiB");
        check(" 1.5 GiB ", Some(3 << 29), "1536 MiB");
        check("1MB", Some(1_000_000), "1000000 B");
        check("1kb", Some(1_000), "1000 B");
        check("1.0001kB", Some(1_000), "1000 B");
        for wrong in [
            "",
            "MiB",
            "-1",
            "1e3",
            "1.MiB",
            ".5MiB",
            "1.2.3",
            "16 MiB x",
            "99999999999GiB",
            "１KiB",
        ] {
            check(wrong, None, "");
        }
    }

    #[test]
    fn durations_are_read_and_shown() {
        #[track_caller]
        fn check(text: &str, expected: Option<Duration>, shown: &str) {
            let duration = parse_duration(text).ok();
            assert_eq!(duration, expected, "{text}");
            assert_eq!(
                duration.map_or(String::new(), show_duration),
                shown,
                "{text}"
            );
        }
        check("0s", Some(Duration::ZERO), "0s");
        check("100ms", Some(Duration::from_millis(100)), "100ms");
        check("1.5s", Some(Duration::from_millis(1_500)), "1500ms");
        check("90s", Some(Duration::from_secs(90)), "90s");
        check("120 s", Some(Duration::from_secs(120)), "2m");
        check("2h", Some(Duration::from_secs(7_200)), "2h");
        check("5us", Some(Duration::from_micros(5)), "5us");
        for wrong in ["", "5", "s", "-1s", "1S", "1d", "1s2", "99999999999h"] {
            check(wrong, None, "");
        }
    }
}
