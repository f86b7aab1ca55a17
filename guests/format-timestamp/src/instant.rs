//! A point in time, and how it's read from a JSON number.
//!
//! A number is read as the decimal that it is, never through floating point: `1634221557.011` seconds are exactly 11
//! milliseconds after `1634221557`. What is finer than a nanosecond is cut off towards the past.

use serde::Deserialize;
use weir_guest::json::parse_u64;

/// A point in time: seconds since 1970-01-01T00:00:00Z, not counting leap seconds, and nanoseconds after that second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    /// Whole seconds, rounded towards the past.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What a number counts since 1970-01-01T00:00:00Z, or how many digits of a second are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Seconds
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
    /// Nanoseconds
    Ns,
}

/// Why a number isn't a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// It isn't written as JSON writes numbers.
    NotANumber,
    /// It's further from 1970 than any year that is written.
    OutOfRange,
}

impl Unit {
    /// Its name in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Unit::S => "seconds",
            Unit::Ms => "milliseconds",
            Unit::Us => "microseconds",
            Unit::Ns => "nanoseconds",
        }
    }

    /// How many digits after the decimal point a second has in this unit: 0, 3, 6 or 9.
    #[inline]
    pub fn digits(self) -> usize {
        match self {
            Unit::S => 0,
            Unit::Ms => 3,
            Unit::Us => 6,
            Unit::Ns => 9,
        }
    }
}

impl Instant {
    /// The point in time that `number`, a JSON number as text, counts in `unit`.
    #[inline]
    pub fn from_number(number: &[u8], unit: Unit) -> Result<Instant, NumberError> {
        // A leading zero is for the long way to judge.
        match number.first() {
            Some(b'1'..=b'9') => {}
            _ => return Instant::from_decimal(number, unit),
        }
        match parse_u64(number) {
            Some(value) => Ok(Instant::from_count(value, unit)),
            None => Instant::from_decimal(number, unit),
        }
    }

    /// The point in time `millis` milliseconds after 1970-01-01T00:00:00Z.
    pub fn from_millis(millis: i64) -> Instant {
        Instant {
            seconds: millis.div_euclid(1000),
            nanos: millis.rem_euclid(1000) as u32 * 1_000_000,
        }
    }

    #[inline]
    fn from_count(value: u64, unit: Unit) -> Instant {
        let (seconds, nanos) = match unit {
            // As far away as an i64 goes, which no year that is written reaches.
            Unit::S => (value.min(i64::MAX as u64), 0),
            Unit::Ms => (value / 1000, (value % 1000) * 1_000_000),
            Unit::Us => (value / 1_000_000, (value % 1_000_000) * 1000),
            Unit::Ns => (value / 1_000_000_000, value % 1_000_000_000),
        };
        Instant {
            seconds: seconds as i64,
            nanos: nanos as u32,
        }
    }

    /// Any JSON number: sign, fraction and exponent.
    #[cold]
    fn from_decimal(number: &[u8], unit: Unit) -> Result<Instant, NumberError> {
        /// Nanoseconds of more digits than this lie beyond year 9999 by far, and those of fewer fit an i128.
        const MAX_DIGITS: i64 = 21;

        let decimal = Decimal::parse(number).ok_or(NumberError::NotANumber)?;
        // Where the decimal point of the nanoseconds falls, counted from the first significant digit.
        let point = decimal.point.saturating_add(9 - unit.digits() as i64);
        if decimal.digits().next().is_none() {
            return Ok(Instant {
                seconds: 0,
                nanos: 0,
            });
        }
        if point > MAX_DIGITS {
            return Err(NumberError::OutOfRange);
        }
        let mut digits = decimal.digits();
        let mut nanos: i128 = 0;
        for _ in 0..point {
            nanos = nanos * 10 + i128::from(digits.next().unwrap_or(0));
        }
        if decimal.negative {
            let finer = digits.any(|digit| digit != 0);
            nanos = -nanos - i128::from(finer);
        }
        Ok(Instant {
            seconds: nanos.div_euclid(1_000_000_000) as i64,
            nanos: nanos.rem_euclid(1_000_000_000) as u32,
        })
    }
}

/// A JSON number taken apart.
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Where the decimal point falls, counted from the first digit that isn't 0.
    point: i64,
}

impl<'a> Decimal<'a> {
    /// Takes `number` apart by the grammar of RFC 8259; `None` if it doesn't follow it.
    fn parse(number: &'a [u8]) -> Option<Decimal<'a>> {
        let negative = number.first() == Some(&b'-');
        let (whole, rest) = split_digits(&number[usize::from(negative)..]);
        if whole.is_empty() || (whole[0] == b'0' && whole.len() > 1) {
            return None;
        }
        let (fraction, rest) = match rest.strip_prefix(b".") {
            None => (&rest[..0], rest),
            Some(rest) => match split_digits(rest) {
                ([], _) => return None,
                split => split,
            },
        };
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => parse_exponent(rest)?,
            _ => return None,
        };
        let leading_zeros = whole
            .iter()
            .chain(fraction)
            .take_while(|&&digit| digit == b'0')
            .count();
        let point = (whole.len() as i64 - leading_zeros as i64).saturating_add(exponent);
        Some(Decimal {
            negative,
            whole,
            fraction,
            point,
        })
    }

    /// The digits from the first that isn't 0.
    fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        self.whole
            .iter()
            .chain(self.fraction)
            .map(|digit| digit - b'0')
            .skip_while(|&digit| digit == 0)
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The digits of an exponent, as far as an i64 goes: what is beyond changes nothing more.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut exponent: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        exponent = exponent
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'));
    }
    Some(if negative { -exponent } else { exponent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(number: &str, unit: Unit, seconds: i64, nanos: u32) {
        assert_eq!(
            Instant::from_number(number.as_bytes(), unit),
            Ok(Instant { seconds, nanos }),
            "{number}"
        );
    }

    fn check_error(number: &str, error: NumberError) {
        assert_eq!(
            Instant::from_number(number.as_bytes(), Unit::Ms),
            Err(error),
            "{number}"
        );
    }

    #[test]
    fn integers_count_in_their_unit() {
        check("1634221557011", Unit::Ms, 1634221557, 11_000_000);
        check("1634221557", Unit::S, 1634221557, 0);
        check("1634221557011022", Unit::Us, 1634221557, 11_022_000);
        check("1634221557011022033", Unit::Ns, 1634221557, 11_022_033);
        check("9999999999999999999", Unit::Ns, 9_999_999_999, 999_999_999);
        check("9999999999999999999", Unit::S, i64::MAX, 0);
        check("0", Unit::Ms, 0, 0);
        check("-0", Unit::Ms, 0, 0);
        check("7", Unit::Ms, 0, 7_000_000);
        check("-1", Unit::Ms, -1, 999_000_000);
        check("-62135596800000", Unit::Ms, -62135596800, 0);
    }

    #[test]
    fn fractions_and_exponents_are_exact() {
        check("1634221557011.5", Unit::Ms, 1634221557, 11_500_000);
        check("1634221557.011", Unit::S, 1634221557, 11_000_000);
        check("1.634221557011e12", Unit::Ms, 1634221557, 11_000_000);
        check("1634221557011E-3", Unit::S, 1634221557, 11_000_000);
        check("0.0016342215570110e+15", Unit::Ms, 1634221557, 11_000_000);
        check("-0.5", Unit::S, -1, 500_000_000);
        check("0.1", Unit::Ns, 0, 0);
        // Finer than a nanosecond: cut off towards the past.
        check("1.9", Unit::Ns, 0, 1);
        check("-0.1", Unit::Ns, -1, 999_999_999);
        check("-1e-400", Unit::Ns, -1, 999_999_999);
        check("1e-99999999999999999999", Unit::Ns, 0, 0);
        check("0e99999999999999999999", Unit::Ns, 0, 0);
        let zeros = "0".repeat(400);
        check(&format!("0.{zeros}1e410"), Unit::Ms, 1_000_000, 0);
        check(&format!("1{zeros}e-391"), Unit::Ms, 1_000_000, 0);
    }

    #[test]
    fn what_is_no_number_or_too_large_is_told_apart() {
        for text in [
            "",
            "-",
            "01",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1.5x",
            "+1",
            "NaN",
            "0x10",
            "1 ",
            "1e1.5",
            "123456789:",
            "/23456789",
            "12345678\u{e9}",
            "1234567890123456x",
            "1.e5",
        ] {
            check_error(text, NumberError::NotANumber);
        }
        for text in [
            "1e16",
            "-1e400",
            "1e99999999999999999999",
            "99999999999999999999999",
        ] {
            check_error(text, NumberError::OutOfRange);
        }
    }

    proptest! {
        #[test]
        fn every_count_agrees_with_integer_arithmetic(value: i64, digits in 1u32..19, unit in 0usize..4) {
            let value = value % 10i64.pow(digits);
            let (unit, scale) = [(Unit::S, 1_000_000_000), (Unit::Ms, 1_000_000), (Unit::Us, 1000), (Unit::Ns, 1)][unit];
            let nanos = i128::from(value) * scale;
            if nanos.unsigned_abs() < 10u128.pow(21) {
                check(
                    &value.to_string(),
                    unit,
                    nanos.div_euclid(1_000_000_000) as i64,
                    nanos.rem_euclid(1_000_000_000) as u32,
                );
            }
        }
    }
}
