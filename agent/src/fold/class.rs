//! What the spawns of one argv class cost. In: ended spawns. Out: sums that views divide.

use super::grow::{Grow, blocked_ns, total};
use super::netlink::NetlinkTable;
use super::union::Union;
use slowpod_ebpf::abi::{exit::Exit, split::Split};
use std::collections::BTreeMap;

/// Different spawner stacks told apart per class; a daemon spawns one class from one or two places.
pub const STACKS_MAX: usize = 16;

/// How spawns ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Exit code 0.
    pub ok: u64,
    /// Other exit codes, and how often.
    pub codes: BTreeMap<u8, u64>,
    /// Signals that ended a spawn, and how often.
    pub signals: BTreeMap<u8, u64>,
}

impl Outcomes {
    /// Counts one wait status (exit code << 8, or a signal in the low seven bits).
    pub fn count(&mut self, status: u32) {
        let signal = (status & 0x7f) as u8;
        let code = (status >> 8 & 0xff) as u8;
        match (signal, code) {
            (0, 0) => self.ok += 1,
            (0, code) => *self.codes.entry(code).or_default() += 1,
            (signal, _) => *self.signals.entry(signal).or_default() += 1,
        }
    }

    /// Adds other outcomes.
    pub fn add(&mut self, other: &Outcomes) {
        self.ok.grow(other.ok);
        for (code, count) in &other.codes {
            self.codes.entry(*code).or_default().grow(*count);
        }
        for (signal, count) in &other.signals {
            self.signals.entry(*signal).or_default().grow(*count);
        }
    }

    /// Spawns that did not end with exit code 0.
    pub fn failed(&self) -> u64 {
        total(self.codes.values().chain(self.signals.values()).copied())
    }
}

/// Sums over the spawns of one argv class in one sync loop, or in several of one daemon.
#[derive(Clone, Debug, Default)]
pub struct ClassStats {
    /// Spawns that ended, seen in full.
    pub ended: u64,
    /// Spawns that were still running at the end of the answer.
    pub running: u64,
    /// Spawns that were only counted (see `abi/flood.rs`); their times are in the sums, not in `busy`.
    pub counted: u64,
    /// Of the counted, and of those whose end was lost to the flood, how many failed.
    pub counted_failed: u64,
    /// Spawns whose end was never seen, though they are gone.
    pub ends_lost: u64,
    /// How the ended ones ended.
    pub outcomes: Outcomes,
    /// Sum of wall times, spawn to exit.
    pub wall_ns: u64,
    /// Time covered by at least one of them, from the clone call to the exit (or the reap, when the spawner
    /// was waiting for it). Counted ones cover all from the first to the last of them; workers are left out.
    pub busy: Union,
    /// Main threads' splits, which add up to `wall_ns` less the counted ones.
    pub split: Split,
    /// Time of all threads on a CPU.
    pub on_cpu_ns: u64,
    /// Time of all threads in a run queue.
    pub runnable_ns: u64,
    /// Time of all threads blocked.
    pub blocked_ns: u64,
    /// Sum of the time inside the clone call before each of them was there.
    pub clone_ns: u64,
    /// Spawns that called exec.
    pub with_exec: u64,
    /// Sum over those of the time from the clone call to the new program in place: the spawn cost.
    pub spawn_cost_ns: u64,
    /// The largest of them.
    pub spawn_cost_max_ns: u64,
    /// Failed execs of theirs.
    pub exec_fails: u64,
    /// Descendants that their own children and grandchildren were.
    pub tree_spawns: u64,
    /// Time on a CPU of those descendants.
    pub tree_on_cpu_ns: u64,
    /// What they sent over netlink.
    pub netlink: NetlinkTable,
    /// Spawner's user stacks, and how often.
    pub stacks: BTreeMap<u64, u64>,
}

impl ClassStats {
    /// Spawns in all: ended, running, counted, and those whose end was lost.
    pub fn spawns(&self) -> u64 {
        total([self.ended, self.running, self.counted, self.ends_lost])
    }

    /// Spawns that became a program, as far as is known: all but those that ended without exec.
    pub fn programs(&self) -> u64 {
        self.spawns() - (self.ended - self.with_exec)
    }

    /// Adds a spawn that ended. `begun_ns` is when the spawner entered the clone call.
    pub fn add_exit(&mut self, exit: &Exit, begun_ns: u64) {
        self.ended += 1;
        self.outcomes.count(exit.status);
        self.wall_ns.grow(exit.header.ktime_ns.saturating_sub(exit.spawned_ns));
        self.clone_ns.grow(exit.spawned_ns.saturating_sub(begun_ns));
        self.split.add(&exit.main);
        self.on_cpu_ns.grow(exit.threads.on_cpu_ns);
        self.runnable_ns.grow(exit.threads.runnable_ns);
        self.blocked_ns.grow(blocked_ns(&exit.threads));
        self.exec_fails.grow(u64::from(exit.exec_fails));
        if exit.exec_ns > 0 {
            let cost = exit.exec_ns.saturating_sub(begun_ns);
            self.with_exec += 1;
            self.spawn_cost_ns.grow(cost);
            self.spawn_cost_max_ns = self.spawn_cost_max_ns.max(cost);
        }
    }

    /// Adds the sums of another loop of the same daemon. Its loops do not overlap, so their busy times add up.
    pub fn add(&mut self, other: &ClassStats) {
        self.ended.grow(other.ended);
        self.running.grow(other.running);
        self.counted.grow(other.counted);
        self.counted_failed.grow(other.counted_failed);
        self.ends_lost.grow(other.ends_lost);
        self.outcomes.add(&other.outcomes);
        self.wall_ns.grow(other.wall_ns);
        self.busy.add_elsewhere(&other.busy);
        self.split.add(&other.split);
        self.on_cpu_ns.grow(other.on_cpu_ns);
        self.runnable_ns.grow(other.runnable_ns);
        self.blocked_ns.grow(other.blocked_ns);
        self.clone_ns.grow(other.clone_ns);
        self.with_exec.grow(other.with_exec);
        self.spawn_cost_ns.grow(other.spawn_cost_ns);
        self.spawn_cost_max_ns = self.spawn_cost_max_ns.max(other.spawn_cost_max_ns);
        self.exec_fails.grow(other.exec_fails);
        self.tree_spawns.grow(other.tree_spawns);
        self.tree_on_cpu_ns.grow(other.tree_on_cpu_ns);
        self.netlink.merge(&other.netlink);
        for (stack, count) in &other.stacks {
            self.stacks.entry(*stack).or_default().grow(*count);
        }
    }

    /// Notes the user stack a spawn was made from; 0 = none.
    pub fn add_stack(&mut self, stack: u64) {
        if stack != 0 && (self.stacks.len() < STACKS_MAX || self.stacks.contains_key(&stack)) {
            *self.stacks.entry(stack).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_fall_into_their_classes() {
        let mut outcomes = Outcomes::default();
        for status in [0, 0, 1 << 8, 127 << 8, 9, 11 | 0x80] {
            outcomes.count(status);
        }
        assert_eq!(outcomes.ok, 2);
        assert_eq!(outcomes.codes, BTreeMap::from([(1, 1), (127, 1)]));
        assert_eq!(outcomes.signals, BTreeMap::from([(9, 1), (11, 1)]));
        assert_eq!(outcomes.failed(), 4);
    }
}
