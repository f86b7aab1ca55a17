//! strftime patterns, checked once and used for every record: the calendar library's, with the errors of a config.

use std::fmt::Write;

use chrono::format::{DelayedFormat, Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, Utc};

use crate::instant::Instant;
use crate::iso;

/// How a point in time is written by a pattern, in a zone.
pub struct Writer {
    items: Vec<Item<'static>>,
    zone: FixedOffset,
}

/// How a string is read as a point in time.
pub enum Reader {
    /// RFC 3339, which always names its offset.
    Rfc3339,
    /// A strftime pattern.
    Pattern {
        /// The pattern's parts.
        items: Vec<Item<'static>>,
        /// Of strings that don't name theirs.
        zone: FixedOffset,
    },
}

impl Writer {
    /// A writer for `pattern`, or what is wrong with it.
    pub fn new(pattern: &str, zone: FixedOffset) -> Result<Writer, String> {
        let writer = Writer {
            items: items(pattern)?,
            zone,
        };
        let mut text = String::new();
        let sample = Instant {
            seconds: 0,
            nanos: 0,
        };
        // `%#z` is only for reading.
        writer
            .write(sample, &mut text)
            .ok_or("it has a specifier that can only be read, not written (%#z): use %z")?;
        Ok(writer)
    }

    /// Appends the instant to `text`; `None` if its year there isn't 1 to 9999.
    pub fn write(&self, instant: Instant, text: &mut String) -> Option<()> {
        if !iso::in_range(instant, self.zone.local_minus_utc()) {
            return None;
        }
        let time = DateTime::from_timestamp(instant.seconds, instant.nanos)?;
        let formatted = if self.zone.local_minus_utc() == 0 {
            // So that `%Z` says UTC.
            time.format_with_items(self.items.iter())
        } else {
            time.with_timezone(&self.zone)
                .format_with_items(self.items.iter())
        };
        formatted.write_to(text).ok()
    }
}

impl Reader {
    /// A reader for `pattern`, or what is wrong with it. Strings that don't name their offset are in `zone`.
    pub fn new(pattern: &str, zone: FixedOffset) -> Result<Reader, String> {
        let items = items(pattern)?;
        // What the pattern itself writes must be enough to tell a point in time.
        let sample = sample(&items);
        let reader = Reader::Pattern { items, zone };
        match reader.read(&sample) {
            Ok(_) => Ok(reader),
            Err(_) => Err(
                "it doesn't tell a date: it needs year, month and day (%Y-%m-%d), or the like, and any time of day from the hour on"
                    .to_string(),
            ),
        }
    }

    /// The point in time that `text` tells, or why it tells none. A date without a time of day is its midnight, one
    /// with an hour and no more the start of the hour, and a leap second the second after it.
    pub fn read(&self, text: &str) -> Result<Instant, String> {
        match self {
            Reader::Rfc3339 => DateTime::parse_from_rfc3339(text)
                .map(|time| instant(time.to_utc()))
                .map_err(|error| error.to_string()),
            Reader::Pattern { items, zone } => {
                let mut parsed = Parsed::new();
                parse(&mut parsed, text, items.iter()).map_err(|error| error.to_string())?;
                let ends_at_the_hour = parsed.hour_mod_12().is_some() && parsed.second().is_none();
                if ends_at_the_hour && parsed.minute().is_none() {
                    parsed.set_minute(0).map_err(|error| error.to_string())?;
                }
                resolve(&parsed, *zone).map(instant)
            }
        }
    }
}

/// What was parsed as a point in time, in the offset that it names or else in `zone`.
fn resolve(parsed: &Parsed, zone: FixedOffset) -> Result<DateTime<Utc>, String> {
    if parsed.offset().is_some() || parsed.timestamp().is_some() {
        let time = parsed.to_datetime().map_err(|error| error.to_string())?;
        return Ok(time.to_utc());
    }
    let no_time = parsed.hour_div_12().is_none()
        && parsed.hour_mod_12().is_none()
        && parsed.minute().is_none()
        && parsed.second().is_none()
        && parsed.nanosecond().is_none();
    let date = parsed.to_naive_date().map_err(|error| error.to_string())?;
    let time = match no_time {
        true => NaiveTime::MIN,
        false => parsed.to_naive_time().map_err(|error| error.to_string())?,
    };
    date.and_time(time)
        .checked_sub_offset(zone)
        .map(|time| time.and_utc())
        .ok_or_else(|| "input is out of range".to_string())
}

fn instant(time: DateTime<Utc>) -> Instant {
    let nanos = time.timestamp_subsec_nanos();
    // The calendar library counts a leap second as the second nanosecond-billion of the one before.
    Instant {
        seconds: time.timestamp() + i64::from(nanos / 1_000_000_000),
        nanos: nanos % 1_000_000_000,
    }
}

/// The pattern's items, or the place of the first one that is none.
fn items(pattern: &str) -> Result<Vec<Item<'static>>, String> {
    StrftimeItems::new(pattern).parse_to_owned().map_err(|_| {
        // What comes before the wrong specifier is right, and nothing longer that ends at a % is.
        let at = pattern
            .match_indices('%')
            .map(|(at, _)| at).rfind(|&at| StrftimeItems::new(&pattern[..at]).parse().is_ok())
            .unwrap_or(0);
        let specifier: String = pattern[at..].chars().take(3).collect();
        format!(
            "no strftime specifier starts at character {}, {specifier:?}; a percent sign itself is %%",
            pattern[..at].chars().count() + 1,
        )
    })
}

/// A point in time as these items write it; what can only be read is an offset.
fn sample(items: &[Item<'static>]) -> String {
    let time = NaiveDate::from_ymd_opt(2001, 7, 8)
        .and_then(|date| date.and_hms_opt(0, 34, 59))
        .unwrap_or_default();
    let mut text = String::new();
    for item in items {
        let written = DelayedFormat::new_with_offset(
            Some(time.date()),
            Some(time.time()),
            &Utc,
            std::iter::once(item),
        );
        if written.write_to(&mut text).is_err() {
            let _ = text.write_str("+0000");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BTC: Instant = Instant {
        seconds: 1634221557,
        nanos: 11_000_000,
    };

    fn zone(minutes: i32) -> FixedOffset {
        FixedOffset::east_opt(minutes * 60).unwrap()
    }

    fn check_write(pattern: &str, minutes: i32, expected: &str) {
        let mut text = String::new();
        let writer = Writer::new(pattern, zone(minutes)).unwrap();
        writer.write(BTC, &mut text).unwrap();
        assert_eq!(text, expected);
    }

    fn check_read(pattern: &str, minutes: i32, text: &str, seconds: i64, nanos: u32) {
        let reader = Reader::new(pattern, zone(minutes)).unwrap();
        assert_eq!(reader.read(text), Ok(Instant { seconds, nanos }), "{text}");
    }

    #[test]
    fn a_pattern_writes_in_its_zone() {
        check_write("%Y-%m-%d %H:%M:%S%.3f", 0, "2021-10-14 14:25:57.011");
        check_write("%a, %d %b %Y %T %z", 120, "Thu, 14 Oct 2021 16:25:57 +0200");
        check_write("%H Uhr \u{2603} 100 %%", -570, "04 Uhr \u{2603} 100 %");
        check_write("%Z", 0, "UTC");
        check_write("%Z", 120, "+02:00");
        check_write("%s", 120, "1634221557");
    }

    #[test]
    fn a_pattern_reads_in_the_offset_it_names_or_its_zone() {
        check_read("%Y-%m-%d %H:%M:%S", 0, "2021-10-14 14:25:57", 1634221557, 0);
        check_read(
            "%Y-%m-%d %H:%M:%S",
            120,
            "2021-10-14 16:25:57",
            1634221557,
            0,
        );
        check_read("%F %T %z", 120, "2021-10-14 16:25:57 +0200", 1634221557, 0);
        check_read("%F %T %z", 0, "2021-10-14 04:55:57 -0930", 1634221557, 0);
        check_read(
            "%FT%T%.f%#z",
            0,
            "2021-10-14T16:25:57.011+02",
            1634221557,
            11_000_000,
        );
        check_read("%s", 120, "1634221557", 1634221557, 0);
        check_read("%s%.3f", 0, "1634221557.011", 1634221557, 11_000_000);
        check_read("%d/%m/%y %I:%M %p", 0, "14/10/21 02:25 pm", 1634221500, 0);
    }

    #[test]
    fn a_date_is_its_midnight_in_the_zone() {
        check_read("%Y-%m-%d", 0, "2021-10-14", 1634169600, 0);
        check_read("%d.%m.%Y", 120, "14.10.2021", 1634162400, 0);
        check_read("%Y-%j", 0, "2021-287", 1634169600, 0);
        check_read("%G-W%V-%u", 0, "2021-W41-4", 1634169600, 0);
        check_read("%Y-%m-%d %H", 0, "2021-10-14 14", 1634220000, 0);
        check_read("%Y%m%d%H%z", 0, "2021101414+0200", 1634212800, 0);
        check_read("%F %I %p", 0, "2021-10-14 02 pm", 1634220000, 0);
    }

    #[test]
    fn rfc_3339_is_read_with_any_offset_and_fraction() {
        let check = |text: &str, seconds, nanos| {
            assert_eq!(
                Reader::Rfc3339.read(text),
                Ok(Instant { seconds, nanos }),
                "{text}"
            );
        };
        check("2021-10-14T14:25:57.011Z", 1634221557, 11_000_000);
        check("2021-10-14t16:25:57+02:00", 1634221557, 0);
        check("2021-10-14 14:25:57.0110000009z", 1634221557, 11_000_000);
        check("0001-01-01T00:00:00Z", -62_135_596_800, 0);
        check("2016-12-31T23:59:60.5Z", 1483228800, 500_000_000);
    }

    #[test]
    fn what_tells_no_time_is_an_error() {
        for text in [
            "",
            "2021-10-14",
            "2021-13-14T00:00:00Z",
            "2021-10-14T14:25:57",
            "1634221557011",
        ] {
            assert!(Reader::Rfc3339.read(text).is_err(), "{text}");
        }
        let reader = Reader::new("%Y-%m-%d %H:%M", zone(0)).unwrap();
        for text in [
            "2021-02-29 10:00",
            "2021-02-28 24:00",
            "2021-02-28 10:00 ",
            "2021-02-28",
            "x",
            "",
        ] {
            assert!(reader.read(text).is_err(), "{text}");
        }
        // Beyond the calendar in UTC, though the local time isn't.
        let reader = Reader::new("%Y-%m-%d", zone(60)).unwrap();
        let first = NaiveDate::MIN.to_string();
        assert_eq!(
            reader.read(&first),
            Err("input is out of range".to_string())
        );
    }

    #[test]
    fn a_wrong_pattern_is_refused_where_it_is_wrong() {
        let check = |pattern, expected: &str| {
            let error = Writer::new(pattern, zone(0)).err().unwrap();
            assert!(error.contains(expected), "{error}");
        };
        check("%Y-%Q", "character 4, \"%Q\"");
        check("%Y-%m-%", "character 7, \"%\"");
        check("%Q%Y", "character 1, \"%Q%\"");
        check("\u{2603}%%%!x%Y", "character 4, \"%!x\"");
        check("%#z", "only be read");
    }

    #[test]
    fn a_pattern_that_tells_no_date_is_refused() {
        for pattern in [
            "%H:%M:%S",
            "%m-%d",
            "%Y-%m",
            "noon",
            "%z",
            "%Y-%m-%d %M",
            "%F %H %S",
        ] {
            let error = Reader::new(pattern, zone(0)).err().unwrap_or_default();
            assert!(error.contains("doesn't tell a date"), "{pattern}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_a_pattern_writes_it_reads_again(
            seconds in -62_135_596_800i64..=253_402_300_799, nanos in 0u32..1_000_000_000, minutes in -1439i32..=1439,
            pattern in prop::sample::select(vec!["%Y-%m-%dT%H:%M:%S%.9f", "%FT%T%.f%:z", "%e %B %Y, %r %9f"]),
        ) {
            let instant = Instant { seconds, nanos };
            let mut text = String::new();
            let written = Writer::new(pattern, zone(minutes)).unwrap().write(instant, &mut text);
            if written.is_some() {
                prop_assert_eq!(Reader::new(pattern, zone(minutes)).unwrap().read(&text), Ok(instant));
            }
        }

        #[test]
        fn no_pattern_and_no_text_panics(pattern in "(%[-_0]?[.:#]?[0-9a-zA-Z+%]|.){0,6}", text in ".{0,20}") {
            let mut written = String::new();
            if let Ok(writer) = Writer::new(&pattern, zone(120)) {
                writer.write(BTC, &mut written);
            }
            if let Ok(reader) = Reader::new(&pattern, zone(120)) {
                let _ = reader.read(&text);
                let _ = reader.read(&written);
            }
        }
    }
}
