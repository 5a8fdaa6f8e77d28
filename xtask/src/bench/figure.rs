//! In: repeated measurements of one thing. Out: their median and range, against a limit.

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
        let upper = self.samples.len() / 2;
        let lower = (self.samples.len() - 1) / 2;
        (self.samples[lower] + self.samples[upper]) / 2.0
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
            "samples": self.samples,
        })
    }
}

/// The figures for people.
pub(super) fn table(figures: &[Figure]) -> String {
    let width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0).max("figure".len());
    let mut text = format!(
        "{:width$} {:>10} {:>10} {:>10} {:>4} {:>9}\n",
        "figure", "median", "min", "max", "n", "limit"
    );
    for figure in figures {
        let (min, max) = figure.range();
        let limit = figure.limit.map_or("-".to_owned(), short);
        let mark = if figure.holds() { "" } else { "  MISSED" };
        text += &format!(
            "{:width$} {:>10} {:>10} {:>10} {:>4} {limit:>9}{mark}\n",
            figure.name,
            short(figure.median()),
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
