//! Sums since the agent started, for metrics. In: ended spawns, sends, loops. Out: rows with few labels.
//!
//! Bounded: a daemon or class beyond [`ROWS_MAX`] goes to the row [`OTHER`], and no label is a pid or a UID.

use super::grow::Grow;
use slowpod_ebpf::abi::split::Split;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows kept of each table: enough for every daemon of a node with its usual commands, few enough for a
/// scrape.
pub const ROWS_MAX: usize = 400;
/// Label of the row that takes what found none.
pub const OTHER: &str = "other";

/// Sums over one (daemon, argv class).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpawnTotals {
    /// Spawns that ended or were counted.
    pub spawns: u64,
    /// Of these, not with exit code 0.
    pub failed: u64,
    /// Sum of wall times.
    pub wall_ns: u64,
    /// Sum of splits; its on-CPU part covers all threads.
    pub split: Split,
}

/// A bounded table of sums with two labels.
#[derive(Clone, Debug, Default)]
pub struct Table<T> {
    rows: BTreeMap<(Arc<str>, Arc<str>), T>,
    /// Times a row was asked for that found no room.
    pub overflowed: u64,
}

impl<T: Default> Table<T> {
    /// The row of these labels, made when new; the `other` row when there is no room.
    pub fn row(&mut self, first: &Arc<str>, second: &Arc<str>) -> &mut T {
        let key = (first.clone(), second.clone());
        let key = if self.rows.len() < ROWS_MAX || self.rows.contains_key(&key) {
            key
        } else {
            self.overflowed += 1;
            (OTHER.into(), OTHER.into())
        };
        self.rows.entry(key).or_default()
    }

    /// Rows, by labels.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, &T)> {
        self.rows.iter().map(|((first, second), sums)| (&**first, &**second, sums))
    }
}

/// Upper bounds of the sync-loop duration histogram, in seconds: from one probe burst to the worst resync
/// reported in the field (minutes).
pub const LOOP_BOUNDS_S: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Durations of a daemon's sync loops.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopTotals {
    /// Loops that ended.
    pub loops: u64,
    /// Sum of their durations.
    pub duration_ns: u64,
    /// Sum of the time they had a child alive.
    pub busy_ns: u64,
    /// Loops by duration: one count per bound of [`LOOP_BOUNDS_S`], and one above all.
    pub buckets: [u64; LOOP_BOUNDS_S.len() + 1],
}

impl LoopTotals {
    /// Counts a loop that ended.
    pub fn add(&mut self, duration_ns: u64, busy_ns: u64) {
        self.loops += 1;
        self.duration_ns.grow(duration_ns);
        self.busy_ns.grow(busy_ns);
        let seconds = duration_ns as f64 / 1e9;
        self.buckets[LOOP_BOUNDS_S.partition_point(|bound| *bound < seconds)] += 1;
    }
}

/// All sums since the start.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// By (daemon, argv class).
    pub spawns: Table<SpawnTotals>,
    /// By (daemon, errno name).
    pub exec_fails: Table<u64>,
    /// By (daemon, message name).
    pub netlink: Table<super::netlink::MessageSums>,
    /// By (daemon, "").
    pub loops: Table<LoopTotals>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_bound_share_one() {
        let mut table = Table::<u64>::default();
        for row in 0..ROWS_MAX + 50 {
            *table.row(&"d".into(), &format!("{row}").into()) += 1;
        }
        assert_eq!(table.rows().count(), ROWS_MAX + 1);
        assert_eq!(table.overflowed, 50);
        assert_eq!(table.rows().map(|(_, _, n)| *n).sum::<u64>(), ROWS_MAX as u64 + 50);
    }

    #[test]
    fn durations_fall_into_inclusive_buckets() {
        let mut totals = LoopTotals::default();
        totals.add(10_000_000, 0);
        totals.add(400_000_000_000, 0);
        assert_eq!(totals.buckets[0], 1, "le is inclusive");
        assert_eq!(totals.buckets[LOOP_BOUNDS_S.len()], 1);
    }
}
