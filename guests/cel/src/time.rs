//! CEL's timestamps and durations: text, calendar and arithmetic, by integers alone.

use std::fmt::{Display, Formatter};

const NANOS: i128 = 1_000_000_000;
const DAY: i64 = 86_400;
/// 0001-01-01T00:00:00Z, CEL's first timestamp.
const FIRST: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z, the second of CEL's last timestamp.
const LAST: i64 = 253_402_300_799;
/// The units of durations in nanoseconds; a name that another one starts with comes later.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS),
    ("m", 60 * NANOS),
    ("h", 3600 * NANOS),
];

/// A point in time between the years 1 and 9999, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    seconds: i64,
    /// 0 to 999,999,999, counted up from `seconds`.
    nanos: u32,
}

impl Timestamp {
    /// A timestamp from seconds since 1970, or `None` outside the years 1 to 9999.
    pub fn from_seconds(seconds: i64) -> Option<Timestamp> {
        Timestamp::new(seconds, 0)
    }

    /// A timestamp from milliseconds since 1970, or `None` outside the years 1 to 9999.
    pub fn from_millis(millis: i64) -> Option<Timestamp> {
        let nanos = millis.rem_euclid(1000) as u32 * 1_000_000;
        Timestamp::new(millis.div_euclid(1000), nanos)
    }

    /// Reads RFC 3339: `2021-10-14T14:25:57.011Z`, `2021-10-14T16:25:57+02:00`. Digits of a fraction past the ninth
    /// are cut off.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let bytes = text.as_bytes();
        if bytes.len() < 20 || bytes[4] != b'-' || bytes[7] != b'-' {
            return None;
        }
        if !matches!(bytes[10], b'T' | b't') || bytes[13] != b':' || bytes[16] != b':' {
            return None;
        }
        let number = |from: usize, to: usize| digits(&bytes[from..to]);
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut rest = &bytes[19..];
        let mut nanos = 0;
        if let [b'.', fraction @ ..] = rest {
            let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if length == 0 {
                return None;
            }
            nanos = fraction_nanos(&fraction[..length]);
            rest = &fraction[length..];
        }
        let offset = match rest {
            b"Z" | b"z" => 0,
            _ => offset_seconds(rest).filter(|_| matches!(rest[0], b'+' | b'-'))?,
        };
        let seconds = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        Timestamp::new(seconds - offset, nanos)
    }

    /// Seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// This time plus a duration; `None` outside the years 1 to 9999.
    pub fn plus(self, duration: Duration) -> Option<Timestamp> {
        Timestamp::from_total(self.total() + i128::from(duration.nanos))
    }

    /// This time minus a duration; `None` outside the years 1 to 9999.
    pub fn minus(self, duration: Duration) -> Option<Timestamp> {
        Timestamp::from_total(self.total() - i128::from(duration.nanos))
    }

    /// The time from `other` to this one; `None` if it is longer than a duration can be.
    pub fn since(self, other: Timestamp) -> Option<Duration> {
        Duration::from_total(self.total() - other.total())
    }

    /// A part of the date or the time of day, as a clock `offset` seconds east of UTC shows it.
    pub fn part(self, part: Part, offset: i64) -> i64 {
        let seconds = self.seconds + offset;
        let days = seconds.div_euclid(DAY);
        let time = seconds.rem_euclid(DAY);
        let (year, month, day) = civil_from_days(days);
        match part {
            Part::FullYear => year,
            Part::Month => month - 1,
            Part::Date => day,
            Part::DayOfMonth => day - 1,
            // 1970-01-01 was a Thursday.
            Part::DayOfWeek => (days + 4).rem_euclid(7),
            Part::DayOfYear => days - days_from_civil(year, 1, 1),
            Part::Hours => time / 3600,
            Part::Minutes => time / 60 % 60,
            Part::Seconds => time % 60,
            Part::Milliseconds => i64::from(self.nanos / 1_000_000),
        }
    }

    fn new(seconds: i64, nanos: u32) -> Option<Timestamp> {
        (FIRST..=LAST)
            .contains(&seconds)
            .then_some(Timestamp { seconds, nanos })
    }

    fn total(self) -> i128 {
        i128::from(self.seconds) * NANOS + i128::from(self.nanos)
    }

    fn from_total(total: i128) -> Option<Timestamp> {
        let seconds = i64::try_from(total.div_euclid(NANOS)).ok()?;
        Timestamp::new(seconds, total.rem_euclid(NANOS) as u32)
    }
}

/// RFC 3339 in UTC, with as many digits of a fraction as are needed.
impl Display for Timestamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let part = |part| self.part(part, 0);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z",
            part(Part::FullYear),
            part(Part::Month) + 1,
            part(Part::Date),
            part(Part::Hours),
            part(Part::Minutes),
            part(Part::Seconds),
            fraction_text(self.nanos)
        )
    }
}

/// A length of time that fits into 64 bits of nanoseconds, about 292 years either way, as in CEL's reference
/// implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    nanos: i64,
}

impl Duration {
    /// Reads numbers with units: `1h30m`, `-1.5s`, `250ms`. Units are `h`, `m`, `s`, `ms`, `us`, `µs`, `ns`; a plain
    /// `0` needs none. Below a nanosecond, digits are cut off.
    pub fn parse(text: &str) -> Option<Duration> {
        let (negative, mut rest) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            [b'+', ..] => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Some(Duration { nanos: 0 });
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (integer, after) = split_digits(rest);
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => split_digits(after),
                None => ("", after),
            };
            if integer.is_empty() && fraction.is_empty() {
                return None;
            }
            let (after, unit) = UNITS
                .iter()
                .find_map(|&(name, unit)| Some((after.strip_prefix(name)?, unit)))?;
            // 18 digits reach below a nanosecond for every unit.
            let fraction = &fraction[..fraction.len().min(18)];
            for (digits, divisor) in [(integer, 1), (fraction, 10_i128.pow(fraction.len() as u32))]
            {
                if !digits.is_empty() {
                    let number: i128 = digits.parse().ok()?;
                    total = total.checked_add(number.checked_mul(unit)? / divisor)?;
                }
            }
            rest = after;
        }
        Duration::from_total(if negative { -total } else { total })
    }

    /// The duration in nanoseconds.
    pub fn nanos(self) -> i64 {
        self.nanos
    }

    /// The sum; `None` out of range.
    pub fn plus(self, other: Duration) -> Option<Duration> {
        let nanos = self.nanos.checked_add(other.nanos)?;
        Some(Duration { nanos })
    }

    /// The difference; `None` out of range.
    pub fn minus(self, other: Duration) -> Option<Duration> {
        let nanos = self.nanos.checked_sub(other.nanos)?;
        Some(Duration { nanos })
    }

    /// The whole duration in hours, minutes, seconds or milliseconds, towards zero. `None` for a part that a duration
    /// doesn't have.
    pub fn part(self, part: Part) -> Option<i64> {
        let second = NANOS as i64;
        match part {
            Part::Hours => Some(self.nanos / (3600 * second)),
            Part::Minutes => Some(self.nanos / (60 * second)),
            Part::Seconds => Some(self.nanos / second),
            Part::Milliseconds => Some(self.nanos / 1_000_000),
            _ => None,
        }
    }

    fn from_total(total: i128) -> Option<Duration> {
        let nanos = i64::try_from(total).ok()?;
        Some(Duration { nanos })
    }
}

/// Seconds, with as many digits of a fraction as are needed: `5400s`, `-1.5s`.
impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let nanos = self.nanos.unsigned_abs();
        let (seconds, nanos) = (nanos / NANOS as u64, nanos % NANOS as u64);
        write!(f, "{sign}{seconds}{}s", fraction_text(nanos as u32))
    }
}

/// What the accessors of timestamps and durations ask for. Months and days of the month, week and year count from 0,
/// as CEL has it, but `Date` from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `getFullYear`
    FullYear,
    /// `getMonth`, January is 0
    Month,
    /// `getDate`, from 1
    Date,
    /// `getDayOfMonth`, from 0
    DayOfMonth,
    /// `getDayOfWeek`, Sunday is 0
    DayOfWeek,
    /// `getDayOfYear`, from 0
    DayOfYear,
    /// `getHours`
    Hours,
    /// `getMinutes`
    Minutes,
    /// `getSeconds`
    Seconds,
    /// `getMilliseconds`
    Milliseconds,
}

/// Reads a time zone as seconds east of UTC: `UTC`, `Z`, `+05:30`, `-08:00` or `02:00`.
pub fn zone_offset(zone: &str) -> Option<i64> {
    match zone {
        "UTC" | "Z" | "" => Some(0),
        _ => offset_seconds(zone.as_bytes()),
    }
}

fn offset_seconds(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    if text.len() != 5 || text[2] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(&text[..2])?, digits(&text[3..])?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

fn fraction_nanos(digits: &[u8]) -> u32 {
    (0..9).fold(0, |nanos, place| {
        nanos * 10 + digits.get(place).map_or(0, |digit| u32::from(digit - b'0'))
    })
}

fn fraction_text(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar: eras of 400 years, years that start in March
/// (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The year, month (from 1) and day (from 1) of a day since 1970-01-01: the way back of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Timestamp::parse(text).unwrap().to_string(), expected);
    }

    #[test]
    fn timestamps_come_back_in_utc() {
        check("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z");
        check("2021-10-14T16:25:57.0110+02:00", "2021-10-14T14:25:57.011Z");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
        check(
            "9999-12-31T23:59:59.999999999Z",
            "9999-12-31T23:59:59.999999999Z",
        );
        check("2000-02-29T23:59:59-00:30", "2000-03-01T00:29:59Z");
    }

    #[test]
    fn what_is_no_rfc_3339_is_none() {
        for text in [
            "",
            "2021-10-14",
            "2021-10-14T14:25:57",
            "2021-10-14T14:25:57 Z",
            "2021-10-14T14:25:57.Z",
            "2021-02-29T00:00:00Z",
            "2021-13-01T00:00:00Z",
            "2021-10-14T24:00:00Z",
            "2021-10-14T14:25:60Z",
            "2021-10-14T14:25:5é",
            "2021-10-14T14:25:57+0200",
            "2021-10-14T14:25:5702:00",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_add_up() {
        for (text, expected) in [
            ("1h30m", "5400s"),
            ("-1.5s", "-1.5s"),
            ("0", "0s"),
            ("1.0000000019s", "1.000000001s"),
            ("0.5h", "1800s"),
            ("1m1ms1us1ns", "60.001001001s"),
            ("-9223372036854775808ns", "-9223372036.854775808s"),
        ] {
            assert_eq!(Duration::parse(text).unwrap().to_string(), expected);
        }
        for text in ["", "-", "1", "s", "1x", "1s2", ".s", "9223372037s", "1e3s"] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }
}
