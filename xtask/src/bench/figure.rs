//! In: repeated measurements of one thing. Out: their median and range, against a limit.

/// Resamplings behind an interval: its ends are stable to the third digit.
const RESAMPLES: usize = 2_000;
/// Fewer measurements have no interval worth the name.
const INTERVAL_MIN: usize = 5;

/// One measured thing.
#[derive(Debug)]
pub(super) struct Figure {
    /// What was measured, its unit included.
    pub(super) name: String,
    /// At most this, when there is a goal.
    pub(super) limit: Option<f64>,
    /// Every measurement; never empty.
    samples: Vec<f64>,
}

impl Figure {
    /// A figure of one or more measurements.
    pub(super) fn new(name: impl Into<String>, limit: Option<f64>, mut samples: Vec<f64>) -> Figure {
        assert!(!samples.is_empty(), "a figure without measurements says nothing");
        samples.sort_by(f64::total_cmp);
        Figure { name: name.into(), limit, samples }
    }

    /// The middle measurement; of an even number, the mean of the middle two.
    pub(super) fn median(&self) -> f64 {
        middle(&self.samples)
    }

    /// Where the median lies with 95 % confidence, by resampling (the bootstrap): what would have been measured, had other
    /// ones of these measurements come. The same for the same measurements.
    pub(super) fn interval(&self) -> Option<(f64, f64)> {
        let count = self.samples.len();
        if count < INTERVAL_MIN {
            return None;
        }
        // Knuth's constants; the upper bits are the random ones.
        let mut state: u64 = 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % count
        };
        let medians = (0..RESAMPLES).map(|_| median((0..count).map(|_| self.samples[next()]).collect()));
        let mut medians: Vec<f64> = medians.collect();
        medians.sort_by(f64::total_cmp);
        Some((medians[RESAMPLES / 40], medians[RESAMPLES - 1 - RESAMPLES / 40]))
    }

    /// Whether the median is within the limit.
    pub(super) fn holds(&self) -> bool {
        self.limit.is_none_or(|limit| self.median() <= limit)
    }

    fn range(&self) -> (f64, f64) {
        (self.samples[0], self.samples[self.samples.len() - 1])
    }

    /// The figure for programs.
    pub(super) fn json(&self) -> serde_json::Value {
        let (min, max) = self.range();
        serde_json::json!({
            "name": self.name,
            "limit": self.limit,
            "holds": self.holds(),
            "median": self.median(),
            "min": min,
            "max": max,
            "median_95": self.interval(),
            "samples": self.samples,
        })
    }
}

/// The middle one of any numbers; of an even number of them, the mean of the middle two.
pub(super) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    middle(&samples)
}

fn middle(sorted: &[f64]) -> f64 {
    let (lower, upper) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    (sorted[lower] + sorted[upper]) / 2.0
}

/// The figures for people.
pub(super) fn table(figures: &[Figure]) -> String {
    let width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0).max("figure".len());
    let mut text = format!(
        "{:width$} {:>10} {:>15} {:>10} {:>10} {:>4} {:>9}\n",
        "figure", "median", "95 % of median", "min", "max", "n", "limit"
    );
    for figure in figures {
        let (min, max) = figure.range();
        let limit = figure.limit.map_or("-".to_owned(), short);
        let mark = if figure.holds() { "" } else { "  MISSED" };
        text += &format!(
            "{:width$} {:>10} {:>15} {:>10} {:>10} {:>4} {limit:>9}{mark}\n",
            figure.name,
            short(figure.median()),
            figure.interval().map_or("-".to_owned(), |(from, to)| format!(
                "{} to {}",
                short(from),
                short(to)
            )),
            short(min),
            short(max),
            figure.samples.len()
        );
    }
    text
}

/// Three places below 10, where ratios live; fewer above.
fn short(value: f64) -> String {
    let places = match value.abs() {
        small if small < 10.0 => 3,
        middle if middle < 1000.0 => 1,
        _ => 0,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Figure::new("a", None, vec![3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Figure::new("a", None, vec![4.0, 1.0, 2.0, 3.0]).median(), 2.5);
    }

    #[test]
    fn an_interval_holds_the_median_and_shrinks_with_more_measurements() {
        let spread = |count: u32| {
            let samples = (0..count).map(|number| f64::from(number * 7 % 100) / 100.0).collect();
            let figure = Figure::new("a", None, samples);
            let (from, to) = figure.interval().expect("enough measurements");
            assert!(from <= figure.median() && figure.median() <= to, "{from} {to}");
            to - from
        };
        assert!(spread(100) < spread(10) && spread(10) > 0.1);
        assert_eq!(Figure::new("a", None, vec![2.0; 5]).interval(), Some((2.0, 2.0)));
        assert_eq!(Figure::new("a", None, vec![1.0; 4]).interval(), None);
    }

    #[test]
    fn a_limit_is_for_the_median() {
        assert!(Figure::new("a", Some(1.05), vec![0.9, 1.05, 2.0]).holds());
        assert!(!Figure::new("a", Some(1.05), vec![0.9, 1.06, 1.06]).holds());
        assert!(Figure::new("a", None, vec![1e9]).holds());
    }

    #[test]
    fn a_missed_limit_is_marked() {
        let text = table(&[Figure::new("wall ratio", Some(1.05), vec![1.0625])]);
        assert!(
            text.contains("wall ratio") && text.contains("1.062") && text.ends_with("MISSED\n"),
            "{text}"
        );
    }
}
