//! Prometheus text format, version 0.0.4. In: a metric and its rows. Out: lines.
//!
//! Written here rather than with a client library: the sums exist already, and the libraries at hand write
//! OpenMetrics, whose counters `promtool check metrics` does not take.

use super::{Kind, Metric};
use crate::fold::totals::{DURATION_BOUNDS_S, Durations};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Longest label value. A class is a binary's name and a few words; what is longer is hostile or useless.
pub(super) const LABEL_BYTES_MAX: usize = 128;
/// Label value of a name that is not known: an empty one would mean "no such label".
const UNKNOWN: &str = "unknown";

/// Rows of one metric. Rows whose labels are the same once cut to length are added up, since Prometheus
/// refuses a page that has a row twice.
pub(super) struct Rows {
    labels: usize,
    rows: BTreeMap<Vec<String>, Value>,
}

/// A row's value.
enum Value {
    Number(f64),
    Durations(Durations),
}

impl Rows {
    pub(super) fn new(labels: usize) -> Self {
        Rows { labels, rows: BTreeMap::new() }
    }

    /// Adds a number to the row with these label values.
    pub(super) fn add(&mut self, labels: &[&str], number: f64) {
        match self.rows.entry(self.key(labels)).or_insert(Value::Number(0.0)) {
            Value::Number(sum) => *sum += number,
            Value::Durations(_) => unreachable!("a metric's rows are all of one sort"),
        }
    }

    /// Adds a count.
    pub(super) fn count(&mut self, labels: &[&str], count: u64) {
        self.add(labels, count as f64);
    }

    /// Adds a time, as seconds.
    pub(super) fn time(&mut self, labels: &[&str], nanoseconds: u64) {
        self.add(labels, nanoseconds as f64 / 1e9);
    }

    /// Adds durations.
    pub(super) fn durations(&mut self, labels: &[&str], durations: &Durations) {
        match self.rows.entry(self.key(labels)).or_insert_with(|| Value::Durations(Durations::default())) {
            Value::Durations(sum) => merge(sum, durations),
            Value::Number(_) => unreachable!("a metric's rows are all of one sort"),
        }
    }

    fn key(&self, labels: &[&str]) -> Vec<String> {
        assert_eq!(labels.len(), self.labels, "a row has the labels its metric names");
        labels.iter().map(|value| label(value)).collect()
    }
}

fn merge(sum: &mut Durations, more: &Durations) {
    sum.count += more.count;
    sum.duration_ns += more.duration_ns;
    sum.busy_ns += more.busy_ns;
    for (mine, theirs) in sum.buckets.iter_mut().zip(more.buckets) {
        *mine += theirs;
    }
}

/// A label value of bounded length that is not empty.
fn label(value: &str) -> String {
    if value.is_empty() {
        return UNKNOWN.into();
    }
    if value.len() <= LABEL_BYTES_MAX {
        return value.into();
    }
    let mut end = LABEL_BYTES_MAX - '…'.len_utf8();
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &value[..end])
}

/// Writes a metric; nothing if it has no rows.
pub(super) fn write(out: &mut String, metric: &Metric, rows: &Rows) {
    if rows.rows.is_empty() {
        return;
    }
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let name = metric.name;
    line(out, format_args!("# HELP {name} {}", metric.help));
    line(out, format_args!("# TYPE {name} {kind}"));
    for (values, value) in &rows.rows {
        let labels = pairs(metric.labels, values);
        match value {
            Value::Number(number) => line(out, format_args!("{name}{} {number}", braces(&labels))),
            Value::Durations(durations) => write_durations(out, name, &labels, durations),
        }
    }
}

fn write_durations(out: &mut String, name: &str, labels: &str, durations: &Durations) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut below = 0;
    for (bound, count) in DURATION_BOUNDS_S.iter().zip(durations.buckets) {
        below += count;
        line(out, format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}"));
    }
    line(out, format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", durations.count));
    line(out, format_args!("{name}_sum{} {}", braces(labels), durations.duration_ns as f64 / 1e9));
    line(out, format_args!("{name}_count{} {}", braces(labels), durations.count));
}

fn pairs(names: &[&str], values: &[String]) -> String {
    let pairs = names.iter().zip(values).map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// What the format asks to be escaped in label values, and nothing else.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn braces(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}
