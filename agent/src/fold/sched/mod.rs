//! Run queues. In: counts of waits, of who ran meanwhile, of throttling. Out: waits by CPU, by process and cgroup, and
//! over time; sums only, so that any two answers merge exactly.

pub mod heat;
pub mod owners;
pub mod waits;

use super::State;
use super::grow::Grow;
use crate::decode::{RunQueue, fact};
use crate::enrich::ProcId;
use heat::{Heat, Of};
use slowpod_ebpf::abi::queue::{KERNEL_THREADS, NO_CPU, Pushed, PushedCount};
use std::collections::BTreeMap;
use std::sync::Arc;
use waits::Waits;

/// Rows of waits kept; a window of an hour on a busy node has some thousand processes. What finds no room is added to
/// one row that is nobody's.
pub const ROWS_MAX: usize = 16_384;
/// (who waited, who ran) pairs kept.
pub const PUSHED_MAX: usize = 16_384;
/// Cgroups whose throttling is kept.
pub const THROTTLED_MAX: usize = 4_096;

/// Whose waits they are, within a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// One process.
    Process(ProcId),
    /// Processes that lived less than a second, and such as found no row of their own.
    ShortLived,
    /// All threads of the kernel.
    KernelThreads,
}

/// One row of waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Its cgroup; 0 = what found no room in the kernel's tables.
    pub cgroup_id: u64,
    /// Who waited.
    pub who: Who,
}

/// How often a cgroup was held back by its own CPU quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Periods of the quota that began while it wanted to run.
    pub periods: u64,
    /// Of these, how many it was throttled in.
    pub throttled: u64,
    /// How long its CPUs were withheld, all of them together.
    pub throttled_ns: u64,
}

/// Run queues, in the window.
#[derive(Clone, Debug)]
pub struct Sched {
    /// By CPU number: together the node.
    pub cpus: BTreeMap<u32, Waits>,
    /// By process and cgroup. Together they are as many waits as the CPUs have.
    pub rows: BTreeMap<Row, Waits>,
    /// Long waits: by who waited and who ran, as cgroup ids or the marks of the kernel's records.
    pub pushed: BTreeMap<(u64, u64), PushedCount>,
    /// Throttling, by cgroup.
    pub throttles: BTreeMap<u64, Throttle>,
    /// Time in which some thread of the node waited for a CPU, as the kernel's pressure accounting says; `None` where
    /// it has none.
    pub pressure_ns: Option<u64>,
    /// Waits over time.
    pub heat: Heat,
    /// Rows that found no room.
    pub evicted: u64,
    /// Whether more is kept than the totals.
    is_kept: bool,
}

impl Sched {
    /// Empty; keeps `heat_cells` cells of waits over time, with 0 nothing at all.
    pub fn new(heat_cells: usize) -> Self {
        Sched {
            cpus: BTreeMap::new(),
            rows: BTreeMap::new(),
            pushed: BTreeMap::new(),
            throttles: BTreeMap::new(),
            pressure_ns: None,
            heat: Heat::new(heat_cells),
            evicted: 0,
            is_kept: heat_cells > 0,
        }
    }

    /// Waits of the whole node.
    pub fn node(&self) -> Waits {
        self.cpus.values().fold(Waits::default(), |mut sum, waits| {
            sum.merge(waits);
            sum
        })
    }

    fn throttled(&mut self, cgroup_id: u64, fact: &fact::Throttled) {
        let table = &mut self.throttles;
        if table.len() >= THROTTLED_MAX && !table.contains_key(&cgroup_id) {
            self.evicted += 1;
            return;
        }
        let row = table.entry(cgroup_id).or_default();
        row.periods.grow(fact.periods);
        row.throttled.grow(fact.throttled);
        row.throttled_ns.grow(fact.throttled_ns);
    }

    fn row(&mut self, row: Row) -> &mut Waits {
        if self.rows.len() < ROWS_MAX || self.rows.contains_key(&row) {
            return self.rows.entry(row).or_default();
        }
        self.evicted += 1;
        // One row takes all of these, so that the sum over rows stays whole.
        self.rows.entry(Row { cgroup_id: 0, who: Who::ShortLived }).or_default()
    }
}

impl State {
    pub(super) fn run_queue(&mut self, record: &RunQueue) {
        let fixed = &record.fixed;
        let id = ProcId::of(&fixed.key.task);
        let who = match fixed.key.task.tgid {
            0 => Who::ShortLived,
            KERNEL_THREADS => Who::KernelThreads,
            // Also sharpens the start time of a process that the scan found.
            _ => Who::Process(self.processes.resolve(&fixed.key.task).unwrap_or(id)),
        };
        let until_ns = fixed.header.ktime_ns;
        if !self.window.holds(until_ns) {
            return;
        }
        // What grew before the window is counted with the rest, and has no slot of its own.
        let from_ns = fixed.from_ns.max(self.window.from_ns);
        if fixed.cpu != NO_CPU {
            self.totals.run_queue.node.add(record);
            if self.sched.is_kept {
                self.sched.cpus.entry(fixed.cpu).or_default().add(record);
                self.sched.heat.add(Of::Cpu(fixed.cpu), from_ns, until_ns, &record.buckets);
            }
            return;
        }
        if let Who::Process(process) = who {
            self.summed(process, record);
        }
        let row = Row { cgroup_id: self.cgroups.key(fixed.key.cgroup_id), who };
        if self.sched.is_kept {
            self.sched.row(row).add(record);
            self.sched.heat.add(Of::Row(row), from_ns, until_ns, &record.buckets);
        }
        if let Some(labels) = self.pod_labels(row.cgroup_id) {
            self.totals.run_queue.pods.row(&labels.0, &labels.1).add(record);
        }
    }

    pub(super) fn pushed(&mut self, pushed: &Pushed) {
        if !self.window.holds(pushed.header.ktime_ns) || !self.sched.is_kept {
            return;
        }
        // What stands for no cgroup is no id, and so its own key.
        let key = (self.cgroups.key(pushed.key.waiter), self.cgroups.key(pushed.key.ran));
        let table = &mut self.sched.pushed;
        if table.len() >= PUSHED_MAX && !table.contains_key(&key) {
            self.sched.evicted += 1;
            return;
        }
        let row = table.entry(key).or_default();
        row.stretches.grow(pushed.count.stretches);
        row.ns.grow(pushed.count.ns);
    }

    pub(super) fn throttled(&mut self, fact: &fact::Throttled) {
        let cgroup_id = self.cgroups.key(fact.cgroup_id);
        if self.sched.is_kept {
            self.sched.throttled(cgroup_id, fact);
        }
        if let Some(labels) = self.pod_labels(cgroup_id) {
            let is_whole = self.cgroups.identity(cgroup_id).container_id().is_none();
            let row = self.totals.run_queue.throttled.row(&labels.0, &labels.1);
            let sum = if is_whole { &mut row.pod_ns } else { &mut row.containers_ns };
            sum.grow(fact.throttled_ns);
        }
    }
}

impl State {
    /// Namespace and name of the pod that a cgroup belongs to, empty while they are not known; `None` when it is no
    /// pod's.
    fn pod_labels(&self, cgroup_id: u64) -> Option<(Arc<str>, Arc<str>)> {
        let pod = self.cgroups.identity(cgroup_id).pod()?;
        let name = self.pod_names.get(&pod.uid);
        Some(name.map_or_else(Default::default, |name| (name.namespace.clone(), name.name.clone())))
    }
}
