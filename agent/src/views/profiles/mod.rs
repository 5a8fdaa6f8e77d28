//! Profiles of processes that have none: one file per kind, one model, and encoders for what reads it. In: a
//! snapshot and a query. Out: pprof's protobuf, text, folded stacks, a flame graph.
//!
//! A kind says which rows of the fold become samples; everything else (who, names, labels, formats) is shared. The
//! routes, the index at `/debug/pprof/`, the API document, `slowpod record` and the golden tests walk [`PROFILES`].

pub mod cni;
pub mod collect;
pub mod exec;
pub mod flame;
pub mod folded;
pub mod lock;
pub mod model;
pub mod netlink;
pub mod offcpu;
pub mod owner;
pub mod params;
pub mod pprof;
pub mod profile;
pub mod sched;
pub mod svg;
pub mod text;

use super::Query;
use crate::fold::Snapshot;
use collect::Collector;
use model::Profile;

/// One kind of profile.
#[derive(Debug)]
pub struct Kind {
    /// Its name in paths and on the command line.
    pub name: &'static str,
    /// What it shows, as one sentence.
    pub about: &'static str,
    /// What each sample has values of, at most [`model::VALUES_MAX`].
    pub values: &'static [Value],
    /// Which of them is shown when none is asked for.
    pub default_value: usize,
    /// What one sample stands for, where samples are taken at a rate.
    pub period: Option<Value>,
    /// It is made from samples, which are taken and handed over more often while somebody listens.
    pub sampled: bool,
    /// Puts a snapshot's rows into a profile.
    pub collect: fn(&mut Collector<'_>),
}

/// A sort of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: &'static str,
    /// `count` or `nanoseconds`, as pprof writes them.
    pub unit: &'static str,
}

impl Value {
    /// A number of things.
    pub const fn count(name: &'static str) -> Value {
        Value { name, unit: "count" }
    }

    /// A time.
    pub const fn time(name: &'static str) -> Value {
        Value { name, unit: "nanoseconds" }
    }

    /// Whether it is a time.
    pub fn is_time(&self) -> bool {
        self.unit == "nanoseconds"
    }
}

/// Every kind, in the order the index lists them.
pub const PROFILES: &[&Kind] =
    &[&profile::KIND, &offcpu::KIND, &sched::KIND, &exec::KIND, &netlink::KIND, &lock::KIND, &cni::KIND];

/// The kind with this name.
pub fn named(name: &str) -> Option<&'static Kind> {
    PROFILES.iter().find(|kind| kind.name == name).copied()
}

/// A snapshot's profile of one kind, of what passes the query's filters.
pub fn profile(kind: &'static Kind, snapshot: &Snapshot, query: &Query) -> Profile {
    let mut collector = Collector::new(kind, snapshot, query);
    (kind.collect)(&mut collector);
    collector.finish()
}

/// What a profile can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// pprof's protobuf, gzipped.
    Pprof,
    /// Text to read.
    Text,
    /// A flame graph.
    Svg,
    /// Folded stacks.
    Folded,
}

impl Format {
    /// Writes a profile: text has so many samples at most, a flame graph or folded stacks the style's value.
    pub fn encode(self, profile: &Profile, samples_max: usize, style: svg::Style) -> Vec<u8> {
        match self {
            Format::Pprof => pprof::encode(profile),
            Format::Text => text::encode(profile, samples_max),
            Format::Svg => svg::encode(profile, None, style),
            Format::Folded => folded::encode(profile, style.value),
        }
    }
}
