//! What the kernel's counters said last time, and what they grew by since. In: readings. Out: differences.

use crate::attach::counters::{Counts, ProgramRuns};
use slowpod_ebpf::abi::{Kind, Tally, flood::FloodCount, flood::FloodKey};
use std::collections::HashMap;

/// What the kernel's counters said last time.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) counts: Counts,
    pub(super) programs: Vec<ProgramRuns>,
    pub(super) flood: HashMap<FloodKey, FloodCount>,
}

/// What was counted of one kind.
pub(super) fn tally(counts: &Counts, kind: Kind) -> Tally {
    counts.tallies.iter().find(|(known, _)| *known == kind).map_or_else(Tally::default, |(_, tally)| *tally)
}

/// What a row of exact counts grew by; its times are those of the growth as far as is known.
pub(super) fn growth(before: &FloodCount, now: &FloodCount) -> FloodCount {
    FloodCount {
        spawns: now.spawns - before.spawns,
        lost_ends: now.lost_ends - before.lost_ends,
        nameless: now.nameless - before.nameless,
        failed: now.failed - before.failed,
        wall_ns: now.wall_ns - before.wall_ns,
        on_cpu_ns: now.on_cpu_ns - before.on_cpu_ns,
        runnable_ns: now.runnable_ns - before.runnable_ns,
        blocked_ns: now.blocked_ns - before.blocked_ns,
        first_ns: if before.last_ns > 0 { before.last_ns } else { now.first_ns },
        last_ns: now.last_ns,
    }
}
