//! InfluxDB's line protocol: a point for each series.

use std::fmt::Write;

use prometheus::proto::{Metric, MetricFamily, MetricType};

/// Appends a line for each series of these families, and returns how many there are. Labels are tags, after `tags`, which
/// are escaped already; a label that's empty is none. A counter or gauge has a field `value`; a histogram has `count`, `sum`,
/// and for each bucket a field named by its upper bound, cumulated as Prometheus has it.
pub(super) fn append(
    text: &mut String,
    families: &[MetricFamily],
    tags: &str,
    time_ms: i64,
) -> usize {
    let mut lines = 0;
    for family in families {
        for series in family.get_metric() {
            let before = text.len();
            escape(text, family.name());
            text.push_str(tags);
            for label in series.get_label() {
                tag(text, label.name(), label.value());
            }
            text.push(' ');
            match fields(text, family.get_field_type(), series) {
                true => {
                    // Writing to a string can't fail.
                    let _ = writeln!(text, " {time_ms}");
                    lines += 1;
                }
                // InfluxDB has no NaN and no infinity.
                false => text.truncate(before),
            }
        }
    }
    lines
}

/// Appends a tag; one without a value is none.
pub(super) fn tag(text: &mut String, key: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    text.push(',');
    escape(text, key);
    text.push('=');
    escape(text, value);
}

fn fields(text: &mut String, kind: MetricType, series: &Metric) -> bool {
    let value = match kind {
        MetricType::COUNTER => series.get_counter().get_value(),
        MetricType::GAUGE => series.get_gauge().get_value(),
        MetricType::HISTOGRAM => {
            let histogram = series.get_histogram();
            let (count, sum) = (histogram.get_sample_count(), histogram.get_sample_sum());
            let _ = write!(text, "count={count},sum={sum}");
            for bucket in histogram.get_bucket() {
                let (bound, count) = (bucket.upper_bound(), bucket.cumulative_count());
                if bound.is_finite() {
                    let _ = write!(text, ",{bound}={count}");
                }
            }
            let _ = write!(text, ",+Inf={count}");
            return sum.is_finite();
        }
        _ => return false,
    };
    let _ = write!(text, "value={value}");
    value.is_finite()
}

/// Commas, spaces and equals signs end a part. A backslash at the end would escape what comes next, and a new line ends the
/// point: neither can be written.
fn escape(text: &mut String, part: &str) {
    for it in part.chars() {
        match it {
            ',' | ' ' | '=' => {
                text.push('\\');
                text.push(it);
            }
            '\\' => text.push('/'),
            it if it.is_control() => text.push_str("\\ "),
            it => text.push(it),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

    use super::*;

    fn lines(registry: &Registry, tags: &str) -> String {
        let mut text = String::new();
        append(&mut text, &registry.gather(), tags, 1_700_000_000_123);
        text
    }

    #[test]
    fn a_line_for_each_series() {
        let registry = Registry::new();
        let opts = Opts::new("a_total", "help");
        let counter = IntCounterVec::new(opts, &["pipeline", "transform"]).unwrap();
        counter.with_label_values(&["p", "x"]).inc_by(7);
        counter.with_label_values(&["p", ""]).inc();
        registry.register(Box::new(counter)).unwrap();
        assert_eq!(
            lines(&registry, ",instance=i"),
            "a_total,instance=i,pipeline=p value=1 1700000000123\n\
             a_total,instance=i,pipeline=p,transform=x value=7 1700000000123\n"
        );
    }

    #[test]
    fn a_histogram_has_a_field_for_each_bucket() {
        let registry = Registry::new();
        let opts = HistogramOpts::new("b_seconds", "help").buckets(vec![0.001, 1.0]);
        let histogram = HistogramVec::new(opts, &["p"]).unwrap();
        let one = histogram.with_label_values(&["x"]);
        [0.000_976_562_5, 0.5, 2.0]
            .into_iter()
            .for_each(|it| one.observe(it));
        registry.register(Box::new(histogram)).unwrap();
        assert_eq!(
            lines(&registry, ""),
            "b_seconds,p=x count=3,sum=2.5009765625,0.001=1,1=2,+Inf=3 1700000000123\n"
        );
    }

    #[test]
    fn nothing_breaks_out_of_its_place() {
        let mut text = String::new();
        tag(&mut text, "a=b", "c, d\ne\\");
        assert_eq!(text, ",a\\=b=c\\,\\ d\\ e/");
    }

    #[test]
    fn what_is_no_number_is_no_point() {
        let registry = Registry::new();
        let gauge = Gauge::new("c", "help").unwrap();
        gauge.set(f64::NAN);
        registry.register(Box::new(gauge)).unwrap();
        assert_eq!(lines(&registry, ""), "");
    }
}
