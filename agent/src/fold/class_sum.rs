//! Sums over several loops' argv classes. In: loops. Out: one sum per class.

use super::class::{ClassStats, Outcomes};
use super::grow::{Grow, total};
use super::loops::Loop;
use super::netlink::NetlinkTable;
use slowpod_ebpf::abi::split::Split;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sums over one argv class, of one or more loops. Fields are those of [`ClassStats`] unless they say more.
#[derive(Clone, Debug, Default)]
pub struct ClassSum {
    /// Spawns of each loop that had any.
    pub per_loop: Vec<u64>,
    /// Spawns that ended, seen in full.
    pub ended: u64,
    /// Spawns still running.
    pub running: u64,
    /// Spawns only counted.
    pub counted: u64,
    /// Of those, failed.
    pub counted_failed: u64,
    /// Spawns whose end was never seen.
    pub ends_lost: u64,
    /// How the ended ones ended.
    pub outcomes: Outcomes,
    /// Sum of wall times.
    pub wall_ns: u64,
    /// Time covered by at least one of them; loops of one daemon do not overlap, so this is a sum over loops.
    pub busy_ns: u64,
    /// It may be more.
    pub busy_is_lower_bound: bool,
    /// Main threads' split.
    pub split: Split,
    /// Time of all threads on a CPU,
    pub on_cpu_ns: u64,
    /// in a run queue,
    pub runnable_ns: u64,
    /// and blocked.
    pub blocked_ns: u64,
    /// Sum of the time inside the clone calls.
    pub clone_ns: u64,
    /// Spawns that called exec.
    pub with_exec: u64,
    /// Sum of their spawn cost.
    pub spawn_cost_ns: u64,
    /// The largest of them.
    pub spawn_cost_max_ns: u64,
    /// Failed execs.
    pub exec_fails: u64,
    /// Descendants that ended.
    pub tree_spawns: u64,
    /// Their time on a CPU.
    pub tree_on_cpu_ns: u64,
    /// What they sent over netlink.
    pub netlink: NetlinkTable,
    /// Spawner's user stacks, and how often.
    pub stacks: BTreeMap<u64, u64>,
}

impl ClassSum {
    /// Adds one loop's sums.
    pub fn add(&mut self, stats: &ClassStats) {
        self.per_loop.push(stats.spawns());
        self.ended.grow(stats.ended);
        self.running.grow(stats.running);
        self.counted.grow(stats.counted);
        self.counted_failed.grow(stats.counted_failed);
        self.ends_lost.grow(stats.ends_lost);
        self.outcomes.add(&stats.outcomes);
        self.wall_ns.grow(stats.wall_ns);
        self.busy_ns.grow(stats.busy.total_ns());
        self.busy_is_lower_bound |= stats.busy.is_lower_bound();
        self.split.add(&stats.split);
        self.on_cpu_ns.grow(stats.on_cpu_ns);
        self.runnable_ns.grow(stats.runnable_ns);
        self.blocked_ns.grow(stats.blocked_ns);
        self.clone_ns.grow(stats.clone_ns);
        self.with_exec.grow(stats.with_exec);
        self.spawn_cost_ns.grow(stats.spawn_cost_ns);
        self.spawn_cost_max_ns = self.spawn_cost_max_ns.max(stats.spawn_cost_max_ns);
        self.exec_fails.grow(stats.exec_fails);
        self.tree_spawns.grow(stats.tree_spawns);
        self.tree_on_cpu_ns.grow(stats.tree_on_cpu_ns);
        self.netlink.merge(&stats.netlink);
        for (stack, count) in &stats.stacks {
            self.stacks.entry(*stack).or_default().grow(*count);
        }
    }

    /// The classes of several loops, by name.
    pub fn over<'a>(loops: impl Iterator<Item = &'a Loop>) -> BTreeMap<Arc<str>, ClassSum> {
        let mut classes: BTreeMap<Arc<str>, ClassSum> = BTreeMap::new();
        for (name, stats) in loops.flat_map(|own| &own.classes) {
            classes.entry(name.clone()).or_default().add(stats);
        }
        classes
    }

    /// Spawns that became a program, as far as is known: all but those that ended without exec.
    pub fn programs(&self) -> u64 {
        self.spawns() - (self.ended - self.with_exec)
    }

    /// Spawns in all.
    pub fn spawns(&self) -> u64 {
        total(self.per_loop.iter().copied())
    }
}
