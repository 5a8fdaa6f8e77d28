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

/// Programs that the kernel has skipped since, and how often.
pub(super) fn skips<'a>(
    before: &'a [ProgramRuns],
    now: &'a [ProgramRuns],
) -> impl Iterator<Item = (&'static str, u64)> + 'a {
    let known = |name| before.iter().find(|program| program.name == name).map_or(0, |known| known.skipped);
    now.iter().filter_map(move |program| {
        let count = program.skipped.saturating_sub(known(program.name));
        (count > 0).then_some((program.name, count))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_told_once() {
        let read = |fork, exec| {
            [("process_fork", fork), ("process_exec", exec)].map(|(name, skipped)| ProgramRuns {
                name,
                runs: 9,
                run_ns: 9,
                skipped,
            })
        };
        let told = |before: &[ProgramRuns], now: &[ProgramRuns]| skips(before, now).collect::<Vec<_>>();
        assert_eq!(told(&[], &read(0, 2)), [("process_exec", 2)]);
        assert_eq!(told(&read(0, 2), &read(1, 2)), [("process_fork", 1)]);
        assert_eq!(told(&read(1, 2), &read(1, 2)), []);
    }
}
