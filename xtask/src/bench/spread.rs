//! Several measurements of the same thing.

/// The median of some measurements, and the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of at least one measurement.
    pub fn of(measurements: impl IntoIterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = measurements.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Spread {
            median: (low + high) / 2.0,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        }
    }

    /// `median (min-max)` with so many digits after the point, and thousands apart.
    pub fn text(&self, digits: usize) -> String {
        format!(
            "{} ({}-{})",
            number(self.median, digits),
            number(self.min, digits),
            number(self.max, digits)
        )
    }
}

/// 1234567.8 as `1,234,567.8`.
pub fn number(value: f64, digits: usize) -> String {
    let plain = format!("{value:.digits$}");
    let whole = plain.find('.').unwrap_or(plain.len());
    let mut text = String::new();
    for (index, digit) in plain.char_indices() {
        if index > 0 && index < whole && (whole - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_extremes() {
        let odd = Spread::of([3.0, 1.0, 2.5]);
        assert_eq!((odd.median, odd.min, odd.max), (2.5, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of([7.0]).median, 7.0);
    }

    #[test]
    fn prints_thousands_apart() {
        let spread = Spread::of([999.0, 1_000.0, 1_234_567.0]);
        assert_eq!(spread.text(0), "1,000 (999-1,234,567)");
        assert_eq!(Spread::of([0.5]).text(2), "0.50 (0.50-0.50)");
    }
}
