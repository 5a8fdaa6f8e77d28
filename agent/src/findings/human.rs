//! Numbers as people read them. In: nanoseconds, counts, shares. Out: short text with a unit.

/// A span of time to three digits: `870 ns`, `1.52 ms`, `3.5 s`, `12 min 5 s`.
pub fn duration(ns: u64) -> String {
    const MINUTE_NS: u64 = 60_000_000_000;
    if ns >= 10 * MINUTE_NS {
        let seconds = ns.saturating_add(500_000_000) / 1_000_000_000;
        return format!("{} min {} s", seconds / 60, seconds % 60);
    }
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "us")];
    // The rounded value decides the unit, so that 999.6 us is 1 ms.
    let unit = units.into_iter().find(|(scale, _)| ns as f64 >= scale * 0.9995);
    unit.map_or_else(|| format!("{ns} ns"), |(scale, unit)| format!("{} {unit}", digits(ns as f64 / scale)))
}

/// A number to three digits, without zeroes that say nothing.
fn digits(value: f64) -> String {
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// A part of a whole in percent: `57 %`; below one percent `<1 %`.
pub fn percent(part: u64, whole: u64) -> String {
    match part as f64 / whole.max(1) as f64 * 100.0 {
        0.0 => "0 %".into(),
        share if share < 1.0 => "<1 %".into(),
        share => format!("{share:.0} %"),
    }
}

/// A count with what is counted: `1 daemon`, `2,000 daemons`.
pub fn many(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A count with its thousands set apart: `12,345`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
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
    fn durations_have_three_digits_and_the_right_unit() {
        for (ns, expected) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1 us"),
            (1_520_000, "1.52 ms"),
            (15_230_000, "15.2 ms"),
            (999_600, "1 ms"),
            (999_499_000, "999 ms"),
            (3_500_000_000, "3.5 s"),
            (100_000_000_000, "100 s"),
            (725_400_000_000, "12 min 5 s"),
        ] {
            assert_eq!(duration(ns), expected);
        }
    }

    #[test]
    fn shares_and_counts() {
        assert_eq!(percent(3_541, 6_200), "57 %");
        assert_eq!(percent(1, 1_000), "<1 %");
        assert_eq!(percent(0, 0), "0 %");
        assert_eq!(percent(7, 7), "100 %");
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(many(1, "loop"), "1 loop");
        assert_eq!(many(2_000, "loop"), "2,000 loops");
    }
}
