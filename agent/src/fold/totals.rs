//! Sums since the agent started, for metrics. In: ended spawns, sends, loops. Out: rows with few labels.
//!
//! Bounded: a daemon or class beyond [`ROWS_MAX`] goes to the row [`OTHER`], and no label is a pid or a UID.

use super::cni::Call;
use super::grow::Grow;
use super::pods::phases::{Measured, Phase};
use super::sched::waits::Waits;
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

/// Upper bounds of the duration histograms, in seconds: from one probe burst or a quick CNI plugin to the worst
/// resync reported in the field (minutes).
pub const DURATION_BOUNDS_S: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Durations: of a daemon's sync loops, of a plugin's calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// How many ended.
    pub count: u64,
    /// Sum of their durations.
    pub duration_ns: u64,
    /// Sum of the time that sync loops had a child alive; 0 elsewhere.
    pub busy_ns: u64,
    /// How many by duration: one count per bound of [`DURATION_BOUNDS_S`], and one above all.
    pub buckets: [u64; DURATION_BOUNDS_S.len() + 1],
}

impl Durations {
    /// Counts one that ended.
    pub fn add(&mut self, duration_ns: u64, busy_ns: u64) {
        self.count.grow(1);
        self.duration_ns.grow(duration_ns);
        self.busy_ns.grow(busy_ns);
        let seconds = duration_ns as f64 / 1e9;
        self.buckets[DURATION_BOUNDS_S.partition_point(|bound| *bound < seconds)] += 1;
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
    pub loops: Table<Durations>,
    /// CNI calls and sandboxes.
    pub cni: CniTotals,
    /// Waits in run queues.
    pub run_queue: RunQueueTotals,
    /// Starts of pods.
    pub pods: PodTotals,
}

/// Starts of pods that were seen from begin to end.
#[derive(Clone, Debug, Default)]
pub struct PodTotals {
    /// From the pod's cgroup to its first container's program.
    pub start: Durations,
    /// By phase, in the order of [`Phase::ALL`].
    pub phases: [Durations; Phase::ALL.len()],
}

impl PodTotals {
    /// Counts a start that is over.
    pub fn started(&mut self, measured: &Measured) {
        self.start.add(measured.wall_ns(), 0);
        for (durations, ns) in self.phases.iter_mut().zip(measured.phases_ns) {
            durations.add(ns, 0);
        }
    }
}

/// CNI since the start.
#[derive(Clone, Debug, Default)]
pub struct CniTotals {
    /// Calls that ended, by (command, plugin).
    pub calls: Table<Durations>,
    /// Of these, those that failed, by (command, plugin).
    pub failed: Table<u64>,
    /// CNI errors in the plugins' own words, by (plugin, code).
    pub errors: Table<u64>,
    /// Of these, conflicts: someone else changed the object first, by (plugin, "").
    pub conflicts: Table<u64>,
    /// From a sandbox's first attempt's start to its first success's end.
    pub network_ready: Durations,
}

/// Run queues since the start.
#[derive(Clone, Debug, Default)]
pub struct RunQueueTotals {
    /// The node.
    pub node: Waits,
    /// Pods, by (namespace, name).
    pub pods: Table<Waits>,
    /// How long pods were held back by their own CPU quotas, by (namespace, name).
    pub throttled: Table<ThrottledTotals>,
    /// Time in which some thread waited for a CPU, by the kernel's pressure accounting.
    pub pressure_ns: u64,
}

/// Time in which quotas withheld CPUs from a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThrottledTotals {
    /// Quotas of its containers, together.
    pub containers_ns: u64,
    /// The quota of the pod as a whole.
    pub pod_ns: u64,
}

impl ThrottledTotals {
    /// All of it: a pod's quota and those of its containers withhold the same time.
    pub fn ns(&self) -> u64 {
        self.containers_ns.max(self.pod_ns)
    }
}

impl CniTotals {
    /// Counts a call that ended.
    pub fn ended(&mut self, call: &Call, ended_ns: u64) {
        let command = call.command_label().into();
        self.calls.row(&command, &call.plugin).add(ended_ns.saturating_sub(call.started_ns), 0);
        *self.failed.row(&command, &call.plugin) += u64::from(call.failed());
        if let Some(error) = &call.words.error {
            *self.errors.row(&call.plugin, &error.code.to_string().into()) += 1;
            *self.conflicts.row(&call.plugin, &Arc::default()) += u64::from(error.is_conflict());
        }
    }
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
        let mut totals = Durations::default();
        totals.add(10_000_000, 0);
        totals.add(400_000_000_000, 0);
        assert_eq!(totals.buckets[0], 1, "le is inclusive");
        assert_eq!(totals.buckets[DURATION_BOUNDS_S.len()], 1);
    }
}
