//! Sync loops: maximal bursts of spawns under one daemon. In: spawns and their ends, in time order.
//! Out: per daemon its loops, per loop and argv class what they cost.
//!
//! **The rule.** A loop goes on while one of the daemon's children that is younger than [`CHILD_HOLD_NS`] is
//! alive, or while less than [`LOOP_GAP_NS`] has passed since a child was spawned, ended or was collected.
//! So pauses inside one resync do not split it, serial and parallel spawners obey the same rule, and a child
//! that is meant to stay (a daemon's daemon) does not keep a loop open for ever. A loop ends at its last
//! activity, not at the end of the gap.

use super::class::ClassStats;
use super::grow::Grow;
use super::nameless::{Gone, Nameless};
use super::netlink::NetlinkTable;
use super::union::Union;
use crate::enrich::ProcId;
use slowpod_ebpf::abi::{exit::Exit, flood::FloodCount, reap::Reap};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Longest silence inside one loop. Two resyncs a second apart are two; a garbage collection, a lock or an
/// API round trip inside one is shorter.
pub const LOOP_GAP_NS: u64 = 500_000_000;
/// A living child holds its loop open this long: a slow `iptables-restore` is part of its resync, a child
/// that lives longer than this is most likely a daemon itself.
pub const CHILD_HOLD_NS: u64 = 30_000_000_000;
/// Argv classes told apart in one loop; the rest share the row [`OTHER_CLASS`].
pub const CLASSES_MAX: usize = 48;
/// Name of the row for classes beyond [`CLASSES_MAX`].
pub const OTHER_CLASS: &str = "(other)";

/// What the daemon's threads spent waiting for children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Children collected.
    pub reaps: u64,
    /// Time from the wait call to the child.
    pub wall_ns: u64,
    /// Of it on a CPU,
    pub on_cpu_ns: u64,
    /// in a run queue after the child was done,
    pub runnable_ns: u64,
    /// and blocked.
    pub blocked_ns: u64,
}

impl Waits {
    fn add(&mut self, reap: &Reap) {
        self.reaps += 1;
        if reap.wait_begun_ns > 0 {
            // The parts are cut to the whole: a wait that began inside a switch has been seen with parts that
            // were more than it.
            let wall_ns = reap.header.ktime_ns.saturating_sub(reap.wait_begun_ns);
            let blocked_ns = reap.blocked_ns.min(wall_ns);
            let runnable_ns = reap.runnable_ns.min(wall_ns - blocked_ns);
            self.wall_ns.grow(wall_ns);
            self.on_cpu_ns.grow(wall_ns - blocked_ns - runnable_ns);
            self.runnable_ns.grow(runnable_ns);
            self.blocked_ns.grow(blocked_ns);
        }
    }
}

/// From when on the collector of a child that ended at `ended_ns` had nothing to do but to collect it. What it did
/// of its own may lie before the end or after it: it is taken for later, so that no work is called waiting.
pub(super) fn waiting_from_ns(ended_ns: u64, reap: &Reap) -> u64 {
    let wait_begun_ns = if reap.wait_begun_ns > 0 { reap.wait_begun_ns } else { reap.header.ktime_ns };
    let cloned_ns = if reap.cloned_ns > 0 { reap.cloned_ns } else { wait_begun_ns };
    let idle_ns = wait_begun_ns.saturating_sub(ended_ns.max(cloned_ns)).saturating_sub(reap.own_ns);
    ended_ns.max(wait_begun_ns.saturating_sub(idle_ns))
}

/// One sync loop.
#[derive(Clone, Debug, Default)]
pub struct Loop {
    /// Number of this loop in its daemon's series, from 0.
    pub number: u64,
    /// When the clone call of its first spawn was entered.
    pub start_ns: u64,
    /// Its last activity so far.
    pub end_ns: u64,
    /// Children spawned, seen one by one.
    pub spawned: u64,
    /// Children that were only counted.
    pub counted: u64,
    /// Time with at least one child alive.
    pub busy: Union,
    /// Most children alive at once.
    pub peak_alive: usize,
    /// By argv class.
    pub classes: BTreeMap<Arc<str>, ClassStats>,
    /// What the daemon spent waiting.
    pub waits: Waits,
    /// What the daemon itself sent over netlink meanwhile.
    pub netlink: NetlinkTable,
    /// It may have begun before what the answer covers.
    pub cut_at_start: bool,
    /// It was still going on at the end of the answer.
    pub open: bool,
    alive: BTreeSet<(u64, ProcId)>,
    settled: bool,
}

/// A child that is alive, or ended and not yet collected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Child {
    /// When its clone call was entered.
    pub begun_ns: u64,
    /// When it was made.
    pub spawned_ns: u64,
    /// User stack of the spawner at that moment; 0 = none.
    pub user_stack: u64,
    /// It has spawned children of its own without calling exec: it is a worker of the same daemon, and its
    /// own life says nothing about what the daemon waits for.
    pub worker: bool,
    /// [`Loop::number`] of the loop it was spawned in.
    pub loop_number: u64,
}

impl Loop {
    /// Length, first clone call to last activity.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Spawns in all.
    pub fn spawns(&self) -> u64 {
        self.spawned.saturating_add(self.counted)
    }

    /// The class's sums, made when new.
    pub fn class(&mut self, name: &Arc<str>) -> &mut ClassStats {
        let name = if self.classes.len() < CLASSES_MAX || self.classes.contains_key(name) {
            name.clone()
        } else {
            OTHER_CLASS.into()
        };
        self.classes.entry(name).or_default()
    }

    /// Whether the loop is over at `now_ns`, by the rule above.
    fn is_over(&self, now_ns: u64) -> bool {
        let held =
            self.alive.last().is_some_and(|(spawned, _)| now_ns.saturating_sub(*spawned) < CHILD_HOLD_NS);
        !held && now_ns.saturating_sub(self.end_ns) > LOOP_GAP_NS
    }

    /// One whose end was lost turned out to be of another class.
    fn rename_lost(&mut self, from: &Arc<str>, to: &Arc<str>) {
        if let Some(stats) = self.classes.get_mut(from).filter(|stats| stats.ends_lost > 0) {
            stats.ends_lost -= 1;
            if stats.spawns() == 0 {
                self.classes.remove(from);
            }
            self.class(to).ends_lost += 1;
        }
    }

    fn touch(&mut self, now_ns: u64) {
        self.end_ns = self.end_ns.max(now_ns);
    }

    /// Gives back the memory that only a loop that goes on needs.
    fn seal(&mut self) {
        self.busy.seal();
        self.classes.values_mut().for_each(|stats| stats.busy.seal());
    }
}

/// The loops of one daemon.
#[derive(Clone, Debug)]
pub struct Series {
    /// The latest loops, oldest first; the last may still be going on.
    pub loops: VecDeque<Loop>,
    /// Loops begun in all.
    pub begun: u64,
    /// Loops no longer kept.
    pub evicted: u64,
    loops_max: usize,
    nameless: Nameless,
}

impl Series {
    /// No loops yet; the latest `loops_max` will be kept.
    pub fn new(loops_max: usize) -> Self {
        Series { loops: VecDeque::new(), begun: 0, evicted: 0, loops_max, nameless: Nameless::default() }
    }

    /// The loop going on at `now_ns`; a new one if the last is over.
    fn current(&mut self, now_ns: u64, covered_from_ns: u64) -> &mut Loop {
        if self.loops.back().is_none_or(|last| last.is_over(now_ns)) {
            if let Some(over) = self.loops.back_mut() {
                over.seal();
            }
            self.loops.push_back(Loop {
                number: self.begun,
                start_ns: now_ns,
                end_ns: now_ns,
                cut_at_start: now_ns.saturating_sub(covered_from_ns) < LOOP_GAP_NS,
                ..Loop::default()
            });
            self.begun += 1;
            if self.loops.len() > self.loops_max {
                self.loops.pop_front();
                self.evicted += 1;
            }
        }
        let last = self.loops.len() - 1;
        &mut self.loops[last]
    }

    /// The loop of this number, while it is kept.
    fn numbered(&mut self, number: u64) -> Option<&mut Loop> {
        let first = self.loops.front()?.number;
        self.loops.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// A child was spawned. Notes in it which loop it belongs to.
    pub fn spawn(&mut self, id: ProcId, child: &mut Child, covered_from_ns: u64) {
        let current = self.current(child.begun_ns, covered_from_ns);
        // Of threads that clone at the same time, the one that began first need not be the first to finish.
        current.start_ns = current.start_ns.min(child.begun_ns);
        current.touch(child.spawned_ns);
        current.spawned += 1;
        current.alive.insert((child.spawned_ns, id));
        current.peak_alive = current.peak_alive.max(current.alive.len());
        child.loop_number = current.number;
    }

    /// A child turned out to be a worker: from now on it holds no loop open.
    pub fn is_worker(&mut self, id: ProcId, child: &Child) {
        if let Some(own) = self.numbered(child.loop_number) {
            own.alive.remove(&(child.spawned_ns, id));
        }
    }

    /// A child ended. Gives the class's sums, for what else is known of it.
    pub fn exit(
        &mut self,
        id: ProcId,
        child: &Child,
        class: &Arc<str>,
        exit: &Exit,
    ) -> Option<&mut ClassStats> {
        let now_ns = exit.header.ktime_ns;
        let is_last = self.loops.back().is_some_and(|last| last.number == child.loop_number);
        let own = self.numbered(child.loop_number)?;
        own.alive.remove(&(child.spawned_ns, id));
        // A worker may outlive the loop it was made in by many others.
        let belongs = if child.worker {
            is_last && !own.is_over(now_ns)
        } else {
            now_ns.saturating_sub(child.spawned_ns) < CHILD_HOLD_NS
        };
        if belongs {
            own.touch(now_ns);
        }
        if belongs && !child.worker {
            own.busy.add(child.begun_ns, now_ns);
        }
        let stats = own.class(class);
        stats.add_exit(exit, child.begun_ns);
        stats.add_stack(child.user_stack);
        if !child.worker {
            stats.busy.add(child.begun_ns, now_ns);
        }
        Some(stats)
    }

    /// A child is gone and its end was not seen, nor what it became if it is `nameless`.
    pub fn lost(&mut self, id: ProcId, child: &Child, class: &Arc<str>, nameless: bool) {
        let gone = Gone { loop_number: child.loop_number, class: class.clone() };
        let binary = if nameless { self.nameless.gone(gone) } else { None };
        if let Some(own) = self.numbered(child.loop_number) {
            own.alive.remove(&(child.spawned_ns, id));
            own.class(binary.as_ref().unwrap_or(class)).ends_lost += 1;
        }
    }

    /// A child that ended at `ended_ns` was collected. The time up to there belongs to the spawn as far as the
    /// spawner waited for it, or for a CPU: on a busy machine it is not back from clone when a short child has ended.
    pub fn reap(&mut self, child: &Child, class: &Arc<str>, ended_ns: u64, reap: &Reap) {
        let Some(own) = self.numbered(child.loop_number) else { return };
        own.waits.add(reap);
        let now_ns = reap.header.ktime_ns;
        if !child.worker && ended_ns.saturating_sub(child.spawned_ns) < CHILD_HOLD_NS && !own.is_over(now_ns)
        {
            own.touch(now_ns);
            let from_ns = waiting_from_ns(ended_ns, reap);
            own.busy.add(from_ns, now_ns);
            own.class(class).busy.add(from_ns, now_ns);
        }
    }

    /// A child turned out to be dead at `now_ns`; its exit may follow, or was lost.
    pub fn died(&mut self, id: ProcId, child: &Child, now_ns: u64) {
        let Some(own) = self.numbered(child.loop_number) else { return };
        let was_alive = own.alive.remove(&(child.spawned_ns, id));
        // One that stayed for long died long after its loop was over.
        if was_alive && now_ns.saturating_sub(child.spawned_ns) < CHILD_HOLD_NS {
            own.touch(now_ns);
        }
    }

    /// Children that were only counted. `count.first_ns` is that of the row's whole life, so it may lie in an
    /// earlier flood, loops ago.
    pub fn flood(&mut self, class: &Arc<str>, count: &FloodCount, covered_from_ns: u64) {
        for gone in self.nameless.counted(class, count.nameless) {
            if let Some(own) = self.numbered(gone.loop_number) {
                own.rename_lost(&gone.class, class);
            }
        }
        let going_on = self.loops.iter().rev().find(|own| own.start_ns <= count.last_ns);
        let own = match going_on.filter(|own| !own.is_over(count.last_ns)).map(|own| own.number) {
            Some(number) => self.numbered(number),
            None => {
                let last_end_ns = self.loops.back().map_or(0, |last| last.end_ns);
                let is_first = count.first_ns > last_end_ns;
                let start_ns = if is_first { count.first_ns } else { count.last_ns };
                Some(self.current(start_ns.max(covered_from_ns), covered_from_ns))
            }
        };
        let Some(own) = own else { return };
        own.touch(count.last_ns);
        own.counted.grow(count.spawns);
        let from_ns = count.first_ns.max(own.start_ns);
        own.busy.add(from_ns, count.last_ns);
        let stats = own.class(class);
        stats.counted.grow(count.spawns);
        stats.counted_failed.grow(count.failed);
        stats.wall_ns.grow(count.wall_ns);
        stats.on_cpu_ns.grow(count.on_cpu_ns);
        stats.runnable_ns.grow(count.runnable_ns);
        stats.blocked_ns.grow(count.blocked_ns);
        stats.busy.add(from_ns, count.last_ns);
    }

    /// Tells duration and busy time of each loop that is over and was not told yet.
    pub fn settle(&mut self, now_ns: u64, mut tell: impl FnMut(u64, u64)) {
        let last = self.loops.len().saturating_sub(1);
        for (index, own) in self.loops.iter_mut().enumerate() {
            if !own.settled && (index < last || own.is_over(now_ns)) {
                own.settled = true;
                tell(own.duration_ns(), own.busy.total_ns());
            }
        }
    }

    /// A child is still alive at the end of the answer, `until_ns`.
    pub fn running(&mut self, child: &Child, class: &Arc<str>, until_ns: u64) -> Option<&mut ClassStats> {
        let own = self.numbered(child.loop_number)?;
        if until_ns.saturating_sub(child.spawned_ns) < CHILD_HOLD_NS && !child.worker {
            own.busy.add(child.begun_ns, until_ns);
            own.class(class).busy.add(child.begun_ns, until_ns);
            own.end_ns = own.end_ns.max(until_ns);
        }
        let stats = own.class(class);
        stats.running += 1;
        Some(stats)
    }

    /// Ends the answer at `until_ns`: says which loops were still going on. To be called after
    /// [`Series::running`] for each living child.
    pub fn finish(&mut self, until_ns: u64) {
        let last = self.loops.len().saturating_sub(1);
        for (index, own) in self.loops.iter_mut().enumerate() {
            own.open = own.end_ns >= until_ns || (index == last && !own.is_over(until_ns));
        }
    }
}
