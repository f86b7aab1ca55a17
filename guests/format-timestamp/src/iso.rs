//! Points in time as ISO 8601 (RFC 3339) text, by integer arithmetic.
//!
//! This is the common case, so it goes a shorter way than the calendar library: records that follow each other mostly
//! fall on the same day, whose text is kept; the time of day is eight digits and colons made in one 64-bit word. The
//! tests hold it to the calendar library over all days and a sample of all times.

use crate::instant::{Instant, Unit};

/// 0001-01-01T00:00:00 and 9999-12-31T23:59:59 in seconds since 1970: the years that four digits write.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const SECONDS_PER_DAY: i64 = 86_400;

/// Writes points in time as JSON strings like `"2021-10-14T14:25:57.011Z"`.
pub struct Iso {
    /// Seconds east of UTC.
    offset: i64,
    precision: Unit,
    /// The first second of the day that stands in `text`, in local time.
    day: i64,
    /// The last time written, in quotes.
    text: [u8; CAPACITY],
    len: usize,
}

/// `"2021-10-14T14:25:57.011222333+02:00"`
const CAPACITY: usize = 37;
/// Where the date, the time of day and the fraction start in the text.
const DATE: usize = 1;
const TIME: usize = 12;
const FRACTION: usize = 20;

impl Iso {
    /// A writer with a number of digits after the second (the rest is cut off) and an offset from UTC in seconds,
    /// whole minutes and less than a day.
    pub fn new(precision: Unit, offset: i32) -> Iso {
        let mut iso = Iso {
            offset: i64::from(offset),
            precision,
            day: 0,
            text: *b"\"1970-01-01T00:00:00.000000000+00:00\"",
            len: 0,
        };
        let mut end = FRACTION;
        if precision != Unit::S {
            end += 1 + precision.digits();
        }
        if offset == 0 {
            iso.text[end] = b'Z';
            end += 1;
        } else {
            let minutes = offset.unsigned_abs() / 60;
            iso.text[end] = if offset < 0 { b'-' } else { b'+' };
            iso.text[end + 1..end + 3].copy_from_slice(&two(minutes / 60));
            iso.text[end + 3] = b':';
            iso.text[end + 4..end + 6].copy_from_slice(&two(minutes % 60));
            end += 6;
        }
        iso.text[end] = b'"';
        iso.len = end + 1;
        iso
    }

    /// The instant as a JSON string with its quotes; `None` if its year there isn't 1 to 9999.
    #[inline]
    pub fn write(&mut self, instant: Instant) -> Option<&[u8]> {
        let local = instant.seconds.wrapping_add(self.offset);
        let mut second = local.wrapping_sub(self.day) as u64;
        if second >= SECONDS_PER_DAY as u64 {
            second = self.write_date(local)?;
        }
        let time = time_of_day(second as u32).to_le_bytes();
        self.text[TIME..FRACTION].copy_from_slice(&time);
        let nanos = instant.nanos;
        match self.precision {
            Unit::S => {}
            Unit::Ms => self.write_fraction(0, nanos / 1_000_000),
            Unit::Us => {
                self.write_fraction(0, nanos / 1_000_000);
                self.write_fraction(1, nanos / 1000 % 1000);
            }
            Unit::Ns => {
                self.write_fraction(0, nanos / 1_000_000);
                self.write_fraction(1, nanos / 1000 % 1000);
                self.write_fraction(2, nanos % 1000);
            }
        }
        Some(&self.text[..self.len])
    }

    /// Writes the date of a local time and returns the second of its day.
    #[cold]
    fn write_date(&mut self, local: i64) -> Option<u64> {
        if !RANGE.contains(&local) {
            return None;
        }
        let (year, month, day) = civil((local.div_euclid(SECONDS_PER_DAY)) as i32);
        let text = &mut self.text[DATE..TIME - 1];
        text[..2].copy_from_slice(&two(year / 100));
        text[2..4].copy_from_slice(&two(year % 100));
        text[5..7].copy_from_slice(&two(month));
        text[8..10].copy_from_slice(&two(day));
        let second = local.rem_euclid(SECONDS_PER_DAY);
        self.day = local - second;
        Some(second as u64)
    }

    /// Writes three digits of the fraction, the `group`th from the left.
    #[inline]
    fn write_fraction(&mut self, group: usize, value: u32) {
        let start = FRACTION + 1 + 3 * group;
        self.text[start..start + 3].copy_from_slice(&three(value));
    }
}

/// Whether the year of a point in time is 1 to 9999 at `offset` seconds east of UTC.
pub fn in_range(instant: Instant, offset: i32) -> bool {
    RANGE.contains(&instant.seconds.wrapping_add(i64::from(offset)))
}

/// Year, month and day of a number of days since 1970-01-01, for years 1 to 9999.
///
/// Neri and Schneider, "Euclidean affine functions and their application to calendar algorithms", 2022.
fn civil(days: i32) -> (u32, u32, u32) {
    /// Days from 0000-03-01, where the computation's years start, to 1970-01-01.
    const EPOCH: i32 = 719_468;

    let quarters = 4 * (days + EPOCH) as u32 + 3;
    let century = quarters / 146_097;
    let day_of_century = quarters % 146_097 / 4;
    let product = 2_939_745 * u64::from(4 * day_of_century + 3);
    let year_of_century = (product >> 32) as u32;
    let day_of_year = product as u32 / 2_939_745 / 4;
    let month_and_day = 2141 * day_of_year + 197_913;
    let month = month_and_day >> 16;
    let day = (month_and_day & 0xffff) / 2141 + 1;
    // Months 13 and 14 are January and February of the next year.
    let after_december = u32::from(day_of_year >= 306);
    (
        100 * century + year_of_century + after_december,
        month - 12 * after_december,
        day,
    )
}

/// `14:25:57` for a second of the day, the first character in the lowest byte.
#[inline]
fn time_of_day(second: u32) -> u64 {
    let hour = second / 3600;
    let minute = second / 60 % 60;
    // Three numbers below 100 side by side, each in the place of its tens.
    let numbers = u64::from(hour) | u64::from(minute) << 24 | u64::from(second % 60) << 48;
    // x * 103 / 1024 is x / 10 for x below 179, and stays below 2^14, so the three don't touch.
    let tens = ((numbers * 103) >> 10) & 0x000f_0000_0f00_000f;
    let ones = numbers - 10 * tens;
    tens + (ones << 8) + u64::from_le_bytes(*b"00:00:00")
}

#[inline]
fn two(value: u32) -> [u8; 2] {
    let tens = (value * 103) >> 10;
    [b'0' + tens as u8, b'0' + (value - 10 * tens) as u8]
}

/// Three digits; x * 41 / 4096 is x / 100 for x below 1000 and more.
#[inline]
fn three(value: u32) -> [u8; 3] {
    let hundreds = (value * 41) >> 12;
    let [tens, ones] = two(value - 100 * hundreds);
    [b'0' + hundreds as u8, tens, ones]
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, SecondsFormat};
    use proptest::prelude::*;

    fn write(iso: &mut Iso, seconds: i64, nanos: u32) -> Option<String> {
        let json = iso.write(Instant { seconds, nanos })?;
        let text = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    fn check(precision: Unit, offset: i32, seconds: i64, nanos: u32, expected: &str) {
        let mut iso = Iso::new(precision, offset);
        assert_eq!(write(&mut iso, seconds, nanos).as_deref(), Some(expected));
    }

    #[test]
    fn known_times_are_written() {
        check(
            Unit::Ms,
            0,
            1634221557,
            11_000_000,
            "2021-10-14T14:25:57.011Z",
        );
        check(
            Unit::Ms,
            7200,
            1634221557,
            11_000_000,
            "2021-10-14T16:25:57.011+02:00",
        );
        check(
            Unit::S,
            -34200,
            1634221557,
            999_999_999,
            "2021-10-14T04:55:57-09:30",
        );
        check(Unit::Us, 0, 951782400, 1_999, "2000-02-29T00:00:00.000001Z");
        check(
            Unit::Ns,
            19800,
            -1,
            999_999_999,
            "1970-01-01T05:29:59.999999999+05:30",
        );
        check(Unit::S, 0, -62_135_596_800, 0, "0001-01-01T00:00:00Z");
        check(
            Unit::Ms,
            0,
            253_402_300_799,
            999_999_999,
            "9999-12-31T23:59:59.999Z",
        );
    }

    #[test]
    fn years_that_four_digits_do_not_write_are_none_in_local_time() {
        let mut utc = Iso::new(Unit::Ms, 0);
        assert_eq!(write(&mut utc, -62_135_596_801, 999_999_999), None);
        assert_eq!(write(&mut utc, 253_402_300_800, 0), None);
        assert_eq!(write(&mut utc, i64::MAX, 0), None);
        assert_eq!(write(&mut utc, i64::MIN, 0), None);
        let mut east = Iso::new(Unit::Ms, 3600);
        assert_eq!(write(&mut east, 253_402_300_799, 0), None);
        assert_eq!(write(&mut east, i64::MAX, 0), None);
        assert_eq!(
            write(&mut east, -62_135_600_400, 0).as_deref(),
            Some("0001-01-01T00:00:00.000+01:00")
        );
    }

    #[test]
    fn a_refused_time_leaves_the_next_one_right() {
        let mut iso = Iso::new(Unit::S, 0);
        write(&mut iso, 86_399, 0);
        assert_eq!(write(&mut iso, 253_402_300_800, 0), None);
        assert_eq!(
            write(&mut iso, 1, 0).as_deref(),
            Some("1970-01-01T00:00:01Z")
        );
        assert_eq!(
            write(&mut iso, 86_400, 0).as_deref(),
            Some("1970-01-02T00:00:00Z")
        );
        assert_eq!(
            write(&mut iso, -1, 0).as_deref(),
            Some("1969-12-31T23:59:59Z")
        );
    }

    #[test]
    fn every_day_of_years_1_to_9999_is_the_calendar_librarys() {
        let mut date = NaiveDate::from_ymd_opt(1, 1, 1).unwrap();
        let first = (*RANGE.start() / SECONDS_PER_DAY) as i32;
        let last = RANGE.end().div_euclid(SECONDS_PER_DAY) as i32;
        for days in first..=last {
            assert_eq!(civil(days), (date.year() as u32, date.month(), date.day()));
            date = date.succ_opt().unwrap();
        }
        assert_eq!(date, NaiveDate::from_ymd_opt(10000, 1, 1).unwrap());
    }

    #[test]
    fn every_second_of_a_day_and_every_group_of_digits_is_right() {
        for second in 0..86_400 {
            let text = time_of_day(second).to_le_bytes();
            let (hour, minute) = (second / 3600, second / 60 % 60);
            let expected = format!("{hour:02}:{minute:02}:{:02}", second % 60);
            assert_eq!(text, expected.as_bytes());
        }
        for value in 0..1000 {
            assert_eq!(three(value), format!("{value:03}").as_bytes());
        }
        for value in 0..100 {
            assert_eq!(two(value), format!("{value:02}").as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        /// Two times through one writer, so that the second may find the date of the first.
        #[test]
        fn any_time_is_the_calendar_librarys(
            first in RANGE, step in -200_000i64..200_000, nanos in 0u32..1_000_000_000,
            minutes in -1439i32..=1439, precision in 0usize..4,
        ) {
            let (precision, format) = [
                (Unit::S, SecondsFormat::Secs), (Unit::Ms, SecondsFormat::Millis),
                (Unit::Us, SecondsFormat::Micros), (Unit::Ns, SecondsFormat::Nanos),
            ][precision];
            let zone = FixedOffset::east_opt(minutes * 60).unwrap();
            let mut iso = Iso::new(precision, minutes * 60);
            for seconds in [first, first + step] {
                let time = DateTime::from_timestamp(seconds, nanos).unwrap().with_timezone(&zone);
                let expected = (1..=9999).contains(&time.year()).then(|| time.to_rfc3339_opts(format, true));
                prop_assert_eq!(write(&mut iso, seconds, nanos), expected.clone());
                prop_assert_eq!(in_range(Instant { seconds, nanos }, minutes * 60), expected.is_some());
            }
        }
    }
}
