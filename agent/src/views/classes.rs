//! Argv classes as blocks: what the spawns of one class cost, in one loop or over many. In: the fold's sums.
//! Out: the same sums with what can be divided out of them.

use super::describe::{OutcomesBlock, SplitBlock, Spread, ratio};
use super::netlink_rows::NetlinkBlock;
use crate::enrich::symbols::Frame;
use crate::fold::{State, class_sum::ClassSum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// From here on spawns of one class overlap. Below, they are one after the other: a serial spawner's next
/// child may run while the kernel still clears away the one before.
const OVERLAP_MIN: f64 = 1.1;
/// Stacks named per class: the most frequent ones.
const STACKS_SHOWN: usize = 5;

/// What an argv class cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassBlock {
    /// The class: `ipset add`.
    pub argv_class: Arc<str>,
    /// Spawns in all.
    pub spawns: u64,
    /// Spawns per loop that had any; left out for a single loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spawns_per_loop: Option<Spread>,
    /// Of the spawns: still running at the end of the answer.
    pub running: u64,
    /// Of the spawns: only counted, under flood. Their times are in the sums, `exits` and `split` lack them.
    pub counted: u64,
    /// Of the spawns: gone, without their end having been seen.
    pub ends_lost: u64,
    /// Spawns per second of the loop.
    pub rate_per_second: f64,
    /// Sum of wall times, spawn to exit.
    pub wall_ns: u64,
    /// Time at least one of them was alive, from the clone call on.
    pub busy_ns: u64,
    /// `busy_ns` may be more than this says.
    pub busy_is_lower_bound: bool,
    /// `busy_ns` as a part of the loop's duration.
    pub share: f64,
    /// `serial` or `overlapped`; `null` for workers and for children that stay, which have no `busy_ns`.
    pub mode: Option<&'static str>,
    /// `wall_ns / busy_ns`: how many were alive at once, on average.
    pub overlap: Option<f64>,
    /// Main threads' time; adds up to the ended spawns' part of `wall_ns`.
    pub split: SplitBlock,
    /// Time of all threads, the counted spawns' included.
    pub threads: ThreadTimes,
    /// Descendants of these spawns that ended, and
    pub tree_spawns: u64,
    /// their time on a CPU.
    pub tree_on_cpu_ns: u64,
    /// From the clone call to the new program in place; `null` when none called exec.
    pub spawn_cost: Option<SpawnCost>,
    /// How they ended.
    pub exits: OutcomesBlock,
    /// Of the counted ones: failed.
    pub counted_failed: u64,
    /// Failed execs of theirs.
    pub exec_fails: u64,
    /// What they sent over netlink; `null` when nothing.
    pub netlink: Option<NetlinkBlock>,
    /// The daemon's own call stacks that spawned them, most frequent first.
    pub stacks: Vec<StackCount>,
}

/// Time of all threads of some processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadTimes {
    /// On a CPU.
    pub on_cpu_ns: u64,
    /// In a run queue.
    pub runnable_ns: u64,
    /// Blocked.
    pub blocked_ns: u64,
}

/// What it costs until a child is its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SpawnCost {
    /// Spawns that called exec.
    pub spawns: u64,
    /// Sum.
    pub sum_ns: u64,
    /// Mean.
    pub mean_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

/// A stack and how often it spawned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackCount {
    /// The stack's id.
    pub stack_id: String,
    /// Spawns from it.
    pub spawns: u64,
    /// Its frames, the innermost first; `null` when they have no names: not yet, or the process ended before
    /// anyone looked.
    pub frames: Option<Vec<FrameBlock>>,
}

/// One frame of a call stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FrameBlock {
    /// Function; module and offset where it has no name.
    pub function: Arc<str>,
    /// Source file; empty when not known.
    pub file: Arc<str>,
    /// Line in it; 0 when not known.
    pub line: u32,
}

impl ClassBlock {
    /// The block of a class in loops that last `within_ns` together.
    pub fn of(state: &State, name: &Arc<str>, sum: &ClassSum, within_ns: u64) -> Self {
        let spawns = sum.stats.spawns();
        let overlap =
            (sum.stats.busy.total_ns() > 0).then(|| ratio(sum.stats.wall_ns, sum.stats.busy.total_ns()));
        ClassBlock {
            argv_class: name.clone(),
            spawns,
            spawns_per_loop: Spread::of(sum.per_loop.clone()),
            running: sum.stats.running,
            counted: sum.stats.counted,
            ends_lost: sum.stats.ends_lost,
            rate_per_second: ratio(spawns.saturating_mul(1_000_000_000), within_ns),
            wall_ns: sum.stats.wall_ns,
            busy_ns: sum.stats.busy.total_ns(),
            busy_is_lower_bound: sum.stats.busy.is_lower_bound(),
            share: ratio(sum.stats.busy.total_ns(), within_ns),
            mode: overlap.map(|overlap| if overlap < OVERLAP_MIN { "serial" } else { "overlapped" }),
            overlap,
            split: SplitBlock::from(&sum.stats.split),
            threads: ThreadTimes {
                on_cpu_ns: sum.stats.on_cpu_ns,
                runnable_ns: sum.stats.runnable_ns,
                blocked_ns: sum.stats.blocked_ns,
            },
            tree_spawns: sum.stats.tree_spawns,
            tree_on_cpu_ns: sum.stats.tree_on_cpu_ns,
            spawn_cost: sum.stats.spawn_cost_ns.checked_div(sum.stats.with_exec).map(|mean_ns| SpawnCost {
                spawns: sum.stats.with_exec,
                sum_ns: sum.stats.spawn_cost_ns,
                mean_ns,
                max_ns: sum.stats.spawn_cost_max_ns,
            }),
            exits: OutcomesBlock::from(&sum.stats.outcomes),
            counted_failed: sum.stats.counted_failed,
            exec_fails: sum.stats.exec_fails,
            netlink: NetlinkBlock::of(state, &sum.stats.netlink),
            stacks: stacks(state, &sum.stats.stacks),
        }
    }
}

/// Blocks of all classes, the ones that took most of the time first.
pub fn blocks(state: &State, classes: &BTreeMap<Arc<str>, ClassSum>, within_ns: u64) -> Vec<ClassBlock> {
    let blocks = classes.iter().map(|(name, sum)| ClassBlock::of(state, name, sum, within_ns));
    let mut blocks: Vec<ClassBlock> = blocks.collect();
    // Stable: classes of equal weight stay in the order of their names.
    blocks.sort_by_key(|block| std::cmp::Reverse((block.busy_ns, block.spawns)));
    blocks
}

fn stacks(state: &State, counts: &BTreeMap<u64, u64>) -> Vec<StackCount> {
    let mut counts: Vec<(u64, u64)> = counts.iter().map(|(id, spawns)| (*id, *spawns)).collect();
    counts.sort_by_key(|(id, spawns)| (std::cmp::Reverse(*spawns), *id));
    counts.truncate(STACKS_SHOWN);
    let count = |(id, spawns)| StackCount { stack_id: stack_id(id), spawns, frames: frames(state, id) };
    counts.into_iter().map(count).collect()
}

fn frames(state: &State, stack: u64) -> Option<Vec<FrameBlock>> {
    let frames = state.symbols.frames_of(stack)?;
    let block = |frame: &Frame| FrameBlock {
        function: frame.name.clone(),
        file: frame.file.clone(),
        line: frame.line,
    };
    Some(frames.map(block).collect())
}

/// A stack's id as text: JavaScript numbers do not hold all 64 bits.
pub fn stack_id(id: u64) -> String {
    format!("{id:016x}")
}
