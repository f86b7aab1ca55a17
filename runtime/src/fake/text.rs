//! Numbers as JSON text, without the formatting machinery: a benchmark's input must cost less than what it measures.

/// What prices and loads are counted in: 1/4096, so that they're exact in a double and in at most 12 decimals.
pub(super) const UNITS: i64 = 4096;

/// Appends an integer.
pub(super) fn push_int(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a number of [`UNITS`], not negative, with its decimals (at least one) and nothing rounded.
pub(super) fn push_units(out: &mut Vec<u8>, units: i64) {
    push_int(out, units / UNITS);
    // 10^12 / 4096 = 5^12.
    let mut rest = (units % UNITS) as u64 * 244_140_625;
    let mut digits = [b'0'; 12];
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    let len = digits
        .iter()
        .rposition(|&digit| digit != b'0')
        .map_or(1, |last| last + 1);
    out.push(b'.');
    out.extend_from_slice(&digits[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: i64) -> String {
        let mut out = Vec::new();
        push_int(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    fn units(value: i64) -> String {
        let mut out = Vec::new();
        push_units(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_are_written_as_the_standard_library_does() {
        for value in [0, 7, 10, 1634221557011, -1, i64::MAX, i64::MIN] {
            assert_eq!(int(value), value.to_string());
        }
    }

    #[test]
    fn units_are_written_as_doubles_are() {
        assert_eq!(units(154_881_063), "37812.759521484375");
        for value in (0..400_000).step_by(7) {
            assert_eq!(units(value), format!("{:?}", value as f64 / 4096.0));
        }
    }
}
