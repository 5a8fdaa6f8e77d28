//! Time spent in spawned children, by who spawned them and from where. In: spawns that ended, or go on. Out:
//! rows that the `exec` profile is made from.
//!
//! Only what lies inside the answer's window counts: of a child that began before it, its share of the life.

use super::grow::{Grow, split_ns, total};
use super::life::Child;
use super::loops::{self, CHILD_HOLD_NS};
use super::uncollected::EndedChild;
use super::{State, Window};
use crate::enrich::{ProcId, processes::Process};
use slowpod_ebpf::abi::{exit::Exit, flood::FloodCount, reap::Reap, split::Split};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where children came from, and what they were.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpawnKey {
    /// The process that called clone.
    pub spawner: ProcId,
    /// Its user stack at that moment; 0 = not known.
    pub user_stack: u64,
    /// The child's argv class.
    pub argv_class: Arc<str>,
}

/// What children of one key took, inside the window. `clone_ns`, `split`, `ending_ns`, `collecting_ns`,
/// `running_ns` and `counted_ns` add up to the whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpawnSums {
    /// Spawns: ended, running and counted.
    pub spawns: u64,
    /// The spawner inside the clone call, before the child was there.
    pub clone_ns: u64,
    /// The children's main threads.
    pub split: Split,
    /// From their main threads' end to the last threads'.
    pub ending_ns: u64,
    /// From their end until the spawner had collected them, less what it did of its own meanwhile: it waits for them still.
    pub collecting_ns: u64,
    /// Children that still run: nothing is known yet of where their time goes.
    pub running_ns: u64,
    /// Children that were only counted, under flood.
    pub counted_ns: u64,
    /// All the children's threads on a CPU.
    pub on_cpu_ns: u64,
    /// From the clone calls to the children's programs being in place: inside of what adds up, not beside it.
    pub cost_ns: u64,
}

impl SpawnSums {
    fn add(&mut self, other: &SpawnSums) {
        self.spawns.grow(other.spawns);
        self.clone_ns.grow(other.clone_ns);
        self.split.add(&other.split);
        self.ending_ns.grow(other.ending_ns);
        self.collecting_ns.grow(other.collecting_ns);
        self.running_ns.grow(other.running_ns);
        self.counted_ns.grow(other.counted_ns);
        self.on_cpu_ns.grow(other.on_cpu_ns);
        self.cost_ns.grow(other.cost_ns);
    }

    /// All of the children's time.
    pub fn wall_ns(&self) -> u64 {
        let own = [self.clone_ns, self.ending_ns, self.collecting_ns, self.running_ns, self.counted_ns];
        total(own).saturating_add(split_ns(&self.split))
    }
}

/// All rows of a window.
#[derive(Clone, Debug, Default)]
pub struct Spawned {
    rows: BTreeMap<SpawnKey, SpawnSums>,
    rows_max: usize,
    /// Spawns that found no row of their own and went to their spawner's row of the rest.
    pub merged: u64,
}

impl Spawned {
    /// No rows yet, and at most so many; with 0 none is kept, and none is missing.
    pub fn new(rows_max: usize) -> Self {
        Spawned { rows_max, ..Spawned::default() }
    }

    /// All rows, by key.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&SpawnKey, &SpawnSums)> {
        self.rows.iter()
    }

    /// A child still runs at the end of the answer. One that has lived long is a daemon: its time is its own.
    pub(super) fn running(
        &mut self,
        process: &Process,
        child: &loops::Child,
        class: &Arc<str>,
        window: &Window,
        until_ns: u64,
    ) {
        let Some(spawner) = process.spawner else { return };
        if until_ns.saturating_sub(child.begun_ns) >= CHILD_HOLD_NS {
            return;
        }
        let running_ns = until_ns.saturating_sub(child.begun_ns.max(window.from_ns));
        let key = SpawnKey { spawner, user_stack: child.user_stack, argv_class: class.clone() };
        self.add(key, &SpawnSums { spawns: 1, running_ns, ..SpawnSums::default() });
    }

    fn add(&mut self, key: SpawnKey, sums: &SpawnSums) {
        if self.rows_max == 0 {
            return;
        }
        let room = self.rows.len() < self.rows_max || self.rows.contains_key(&key);
        let key = if room {
            key
        } else {
            // Sums by spawner stay whole: there are few of those, and they are let in past the bound.
            self.merged.grow(sums.spawns);
            SpawnKey { user_stack: 0, argv_class: super::totals::OTHER.into(), ..key }
        };
        self.rows.entry(key).or_default().add(sums);
    }
}

/// A part of a life in the place of the whole: the part that the window holds, rounded down.
struct Share {
    part_ns: u64,
    whole_ns: u64,
}

impl Share {
    fn of(&self, ns: u64) -> u64 {
        if self.part_ns >= self.whole_ns {
            return ns;
        }
        (u128::from(ns) * u128::from(self.part_ns) / u128::from(self.whole_ns)) as u64
    }

    fn of_split(&self, split: &Split) -> Split {
        Split {
            on_cpu_ns: self.of(split.on_cpu_ns),
            runnable_ns: self.of(split.runnable_ns),
            blocked_ns: split.blocked_ns.map(|ns| self.of(ns)),
        }
    }
}

impl State {
    /// A child ended inside the window.
    pub(super) fn spawned_ended(&mut self, spawner: ProcId, child: &Child, class: &Arc<str>, exit: &Exit) {
        let (begun_ns, ended_ns) = (child.timing.begun_ns, exit.header.ktime_ns);
        let from_ns = begun_ns.max(self.window.from_ns);
        let share =
            Share { part_ns: ended_ns.saturating_sub(from_ns), whole_ns: ended_ns.saturating_sub(begun_ns) };
        let lived_ns = ended_ns.saturating_sub(exit.spawned_ns);
        let sums = SpawnSums {
            spawns: 1,
            clone_ns: share.of(exit.spawned_ns.saturating_sub(begun_ns)),
            split: share.of_split(&exit.main),
            ending_ns: share.of(lived_ns.saturating_sub(split_ns(&exit.main))),
            on_cpu_ns: share.of(exit.threads.on_cpu_ns),
            cost_ns: if exit.exec_ns > 0 { share.of(exit.exec_ns.saturating_sub(begun_ns)) } else { 0 },
            ..SpawnSums::default()
        };
        let key = SpawnKey { spawner, user_stack: child.timing.user_stack, argv_class: class.clone() };
        self.spawned.add(key, &sums);
    }

    /// A child that had ended was collected inside the window.
    pub(super) fn spawned_collected(&mut self, child: &EndedChild, reap: &Reap) {
        let now_ns = reap.header.ktime_ns;
        let Some(spawner) = child.spawner.filter(|_| !child.timing.worker && self.window.holds(now_ns))
        else {
            return;
        };
        let from_ns = loops::waiting_from_ns(child.ended_ns, reap).max(self.window.from_ns);
        let sums = SpawnSums { collecting_ns: now_ns.saturating_sub(from_ns), ..SpawnSums::default() };
        let argv_class = child.class.clone();
        self.spawned.add(SpawnKey { spawner, user_stack: child.timing.user_stack, argv_class }, &sums);
    }

    /// Children were only counted.
    pub(super) fn spawned_counted(&mut self, spawner: ProcId, class: &Arc<str>, count: &FloodCount) {
        let sums = SpawnSums {
            spawns: count.spawns,
            counted_ns: count.wall_ns,
            on_cpu_ns: count.on_cpu_ns,
            ..SpawnSums::default()
        };
        self.spawned.add(SpawnKey { spawner, user_stack: 0, argv_class: class.clone() }, &sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user_stack: u64) -> SpawnKey {
        SpawnKey { spawner: ProcId { tgid: 1, start_ns: 1 }, user_stack, argv_class: "ipset add".into() }
    }

    #[test]
    fn what_finds_no_row_stays_in_the_sum_of_its_spawner() {
        let mut spawned = Spawned::new(2);
        for stack in 1..=5 {
            spawned.add(key(stack), &SpawnSums { spawns: 1, clone_ns: 10, ..SpawnSums::default() });
        }
        assert_eq!((spawned.rows().len(), spawned.merged), (3, 3));
        let sum: u64 = spawned.rows().map(|(_, sums)| sums.clone_ns).sum();
        assert_eq!(sum, 50);
        let mut none = Spawned::new(0);
        none.add(key(1), &SpawnSums { spawns: 1, ..SpawnSums::default() });
        assert_eq!((none.rows().len(), none.merged), (0, 0));
    }

    #[test]
    fn a_share_never_makes_more_of_a_time() {
        let half = Share { part_ns: 1, whole_ns: 2 };
        assert_eq!((half.of(7), half.of(u64::MAX)), (3, u64::MAX / 2));
        assert_eq!(Share { part_ns: 0, whole_ns: 0 }.of(7), 7, "a life of no length");
    }
}
