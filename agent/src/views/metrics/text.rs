//! Prometheus text format, version 0.0.4. In: a metric and its rows. Out: lines.
//!
//! Written here rather than with a client library: the sums exist already, and the libraries at hand write
//! OpenMetrics, whose counters `promtool check metrics` does not take.

use super::{Kind, Metric};
use crate::fold::grow::{Grow, total};
use crate::fold::sched::waits::Waits;
use crate::fold::totals::{DURATION_BOUNDS_S, Durations};
use slowpod_ebpf::rules::wait;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Longest label value. A class is a binary's name and a few words; what is longer is hostile or useless.
pub(super) const LABEL_BYTES_MAX: usize = 128;
/// Buckets of waits at which the bounds of their metrics lie: from 4 us to 1 s, each four times the one before.
const WAIT_BOUNDS: [usize; 10] = [9, 17, 25, 33, 41, 49, 57, 65, 73, 81];
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
    Histogram(Histogram),
}

/// Counts by upper bound.
#[derive(Default)]
struct Histogram {
    bounds_s: Vec<f64>,
    /// One count per bound, and one above all.
    buckets: Vec<u64>,
    sum_ns: u64,
}

impl Rows {
    pub(super) fn new(labels: usize) -> Self {
        Rows { labels, rows: BTreeMap::new() }
    }

    /// Adds a number to the row with these label values.
    pub(super) fn add(&mut self, labels: &[&str], number: f64) {
        match self.rows.entry(self.key(labels)).or_insert(Value::Number(0.0)) {
            Value::Number(sum) => *sum += number,
            Value::Histogram(_) => unreachable!("a metric's rows are all of one sort"),
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
        let (bounds_s, buckets) = (DURATION_BOUNDS_S.to_vec(), durations.buckets.to_vec());
        self.histogram(labels, Histogram { bounds_s, buckets, sum_ns: durations.duration_ns });
    }

    /// Adds waits, by every second octave: the bounds are those of the kernel's buckets, so the counts are exact.
    pub(super) fn waits(&mut self, labels: &[&str], waits: &Waits) {
        let mut buckets = vec![0; WAIT_BOUNDS.len() + 1];
        for (bucket, count) in waits.buckets.iter().enumerate() {
            buckets[WAIT_BOUNDS.partition_point(|bound| *bound <= bucket)].grow(*count);
        }
        let bounds_s = WAIT_BOUNDS.map(|bucket| wait::lower_ns(bucket) as f64 / 1e9).to_vec();
        self.histogram(labels, Histogram { bounds_s, buckets, sum_ns: waits.wait_ns });
    }

    fn histogram(&mut self, labels: &[&str], more: Histogram) {
        match self.rows.entry(self.key(labels)).or_insert_with(|| Value::Histogram(Histogram::default())) {
            Value::Histogram(sum) => merge(sum, more),
            Value::Number(_) => unreachable!("a metric's rows are all of one sort"),
        }
    }

    fn key(&self, labels: &[&str]) -> Vec<String> {
        assert_eq!(labels.len(), self.labels, "a row has the labels its metric names");
        labels.iter().map(|value| label(value)).collect()
    }
}

fn merge(sum: &mut Histogram, more: Histogram) {
    if sum.buckets.is_empty() {
        *sum = more;
        return;
    }
    sum.sum_ns.grow(more.sum_ns);
    for (mine, theirs) in sum.buckets.iter_mut().zip(more.buckets) {
        mine.grow(theirs);
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
            Value::Histogram(histogram) => write_histogram(out, name, &labels, histogram),
        }
    }
}

fn write_histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut below: u64 = 0;
    for (bound, count) in histogram.bounds_s.iter().zip(&histogram.buckets) {
        below.grow(*count);
        line(out, format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}"));
    }
    let count = total(histogram.buckets.iter().copied());
    line(out, format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"));
    line(out, format_args!("{name}_sum{} {}", braces(labels), histogram.sum_ns as f64 / 1e9));
    line(out, format_args!("{name}_count{} {count}", braces(labels)));
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
