//! Where threads spent their time, by stack: on a CPU, blocked, or waiting for a CPU. In: samples. Out: rows
//! that every profile kind is made from.

use super::State;
use super::grow::Grow;
use crate::decode::Sample;
use crate::enrich::{ProcId, text};
use slowpod_ebpf::abi::sample::{FLAG_PREEMPTED, SampleKind};
use slowpod_ebpf::abi::{COMM_BYTES, split::Cause};
use std::collections::BTreeMap;

/// Who, what and where: rows with the same key are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// On a CPU, blocked, or waiting for one.
    pub kind: SampleKind,
    /// The process.
    pub process: ProcId,
    /// The cgroup the thread ran in.
    pub cgroup_id: u64,
    /// The thread's name, NUL-padded: see [`Key::thread`].
    pub comm: [u8; COMM_BYTES],
    /// Why it was blocked; of other kinds always `other`.
    pub cause: Cause,
    /// Of [`SampleKind::RunQueue`]: it had not blocked before, but was taken off the CPU.
    pub preempted: bool,
    /// Its user stack by id; 0 = none was taken.
    pub user_stack: u64,
    /// Its kernel stack, likewise.
    pub kernel_stack: u64,
}

impl Key {
    /// The thread's name, fit to be shown.
    pub fn thread(&self) -> String {
        text::comm(&self.comm)
    }
}

/// Sums over one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How often: timer ticks, or waits that ended. A wait that goes on has time but no count.
    pub count: u64,
    /// How long, nanoseconds.
    pub ns: u64,
}

/// All rows of a window.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    rows: BTreeMap<Key, Sums>,
    rows_max: usize,
    /// Samples that found no row of their own, and went to their process's row without stacks.
    pub merged: u64,
}

impl Profile {
    /// An empty profile of at most so many rows; with 0 nothing is kept at all, and nothing is missing.
    pub fn new(rows_max: usize) -> Self {
        Profile { rows_max, ..Profile::default() }
    }

    /// All rows, by key.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&Key, &Sums)> {
        self.rows.iter()
    }

    /// Time of one kind, nanoseconds.
    pub fn total_ns(&self, kind: SampleKind) -> u64 {
        super::grow::total(self.rows().filter(|(key, _)| key.kind == kind).map(|(_, sums)| sums.ns))
    }

    fn add(&mut self, key: Key, sums: Sums) {
        if self.rows_max == 0 {
            return;
        }
        let room = self.rows.len() < self.rows_max || self.rows.contains_key(&key);
        let key = if room {
            key
        } else {
            // Sums by process and cause stay whole: there are few of those, and they are let in past the bound.
            self.merged.grow(1);
            Key { comm: [0; COMM_BYTES], user_stack: 0, kernel_stack: 0, ..key }
        };
        let row = self.rows.entry(key).or_default();
        row.count.grow(sums.count);
        row.ns.grow(sums.ns);
    }
}

impl State {
    pub(super) fn sample(&mut self, sample: &Sample) {
        let fixed = &sample.fixed;
        let now_ns = fixed.header.ktime_ns;
        let process = self.known_or_stub(now_ns, &fixed.task, &fixed.comm, fixed.cgroup_id);
        self.stacks.used(fixed.user_stack);
        self.stacks.used(fixed.kernel_stack);
        if !self.window.holds(now_ns) {
            return;
        }
        let key = Key {
            kind: sample.kind,
            process,
            cgroup_id: self.cgroups.key(fixed.cgroup_id),
            comm: fixed.comm,
            cause: sample.cause,
            preempted: fixed.flags & FLAG_PREEMPTED != 0,
            user_stack: fixed.user_stack,
            kernel_stack: fixed.kernel_stack,
        };
        self.short.told(process, sample.kind, fixed);
        self.profile.add(key, Sums { count: fixed.count, ns: fixed.value_ns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(process: u32, user_stack: u64) -> Key {
        Key {
            kind: SampleKind::OffCpu,
            process: ProcId { tgid: process, start_ns: 1 },
            cgroup_id: 5,
            comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
            cause: Cause::Futex,
            preempted: false,
            user_stack,
            kernel_stack: 0,
        }
    }

    #[test]
    fn what_finds_no_row_stays_in_the_sum_of_its_process() {
        let mut profile = Profile::new(2);
        for stack in 1..=5 {
            profile.add(key(1, stack), Sums { count: 1, ns: 10 });
        }
        profile.add(key(1, 2), Sums { count: 1, ns: 10 });
        assert_eq!((profile.rows().len(), profile.merged), (3, 3));
        assert_eq!(profile.total_ns(SampleKind::OffCpu), 60);
        let (rest, sums) = profile.rows().find(|(key, _)| key.user_stack == 0).unwrap();
        assert_eq!((rest.cause, *sums), (Cause::Futex, Sums { count: 3, ns: 30 }));
    }

    #[test]
    fn a_state_that_keeps_no_profile_misses_none() {
        let mut profile = Profile::new(0);
        profile.add(key(1, 1), Sums { count: 1, ns: 10 });
        assert_eq!((profile.rows().len(), profile.merged), (0, 0));
    }
}
