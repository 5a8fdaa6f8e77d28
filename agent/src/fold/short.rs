//! Waits too short for records of their own. In: the kernel's sums over all waits of a process, and the samples that
//! tell of the longer ones. Out: how many waits were not told, and how long they took, by process.
//!
//! The two come at different moments: samples about once a second, a row of sums up to five seconds late. So a process's
//! samples are put beside the row of sums that comes after them, rows that reach back beyond the window are left out, and
//! what is left over is never more than that many waits can take.

use super::State;
use super::grow::Grow;
use super::profile::Sums;
use crate::decode::RunQueue;
use crate::enrich::ProcId;
use slowpod_ebpf::abi::sample::{FLAG_LONG, Sample, SampleKind};
use slowpod_ebpf::abi::settings::AWAY_MIN_NS;
use std::collections::BTreeMap;

/// Processes kept: as many as the kernel has rows for, several times over.
const PROCESSES_MAX: usize = 16_384;

/// Waits of one process of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    /// By the kernel's sums.
    all: Sums,
    /// Told by samples that came before the latest of these sums.
    told: Sums,
    /// Told since.
    pending: Sums,
}

impl Waits {
    fn summed(&mut self, sums: Option<Sums>) {
        let pending = std::mem::take(&mut self.pending);
        let Some(sums) = sums else { return };
        add(&mut self.all, sums);
        add(&mut self.told, pending);
    }

    fn rest(&self) -> Sums {
        let count = self.all.count.saturating_sub(self.told.count);
        let ns = self.all.ns.saturating_sub(self.told.ns);
        Sums { count, ns: ns.min(count.saturating_mul(AWAY_MIN_NS)) }
    }
}

fn add(sums: &mut Sums, more: Sums) {
    sums.count.grow(more.count);
    sums.ns.grow(more.ns);
}

/// Waits of a window that no sample tells of, by process.
#[derive(Clone, Debug, Default)]
pub struct Short {
    blocked: BTreeMap<ProcId, Waits>,
    ready: BTreeMap<ProcId, Waits>,
    is_kept: bool,
    /// Rows of sums that found no room: the short waits of their processes are not known.
    pub evicted: u64,
}

impl Short {
    /// Empty; keeps nothing at all unless told to.
    pub fn new(is_kept: bool) -> Self {
        Short { is_kept, ..Short::default() }
    }

    /// By process: waits of one kind without a sample, of processes that have any. They are old enough for a row of
    /// sums of their own; the short-lived have their splits.
    pub fn rows(&self, kind: SampleKind) -> impl Iterator<Item = (ProcId, Sums)> {
        let table = match kind {
            SampleKind::OnCpu => None,
            SampleKind::OffCpu => Some(&self.blocked),
            SampleKind::RunQueue => Some(&self.ready),
        };
        let rows = table.into_iter().flatten().map(|(process, waits)| (*process, waits.rest()));
        rows.filter(|(_, rest)| rest.count > 0)
    }

    /// A sample of a process.
    pub(super) fn told(&mut self, process: ProcId, kind: SampleKind, sample: &Sample) {
        // Long blocks are summed apart.
        if !self.is_kept || sample.flags & FLAG_LONG != 0 {
            return;
        }
        let table = match kind {
            SampleKind::OnCpu => return,
            SampleKind::OffCpu => &mut self.blocked,
            SampleKind::RunQueue => &mut self.ready,
        };
        if table.len() < PROCESSES_MAX || table.contains_key(&process) {
            let sums = Sums { count: sample.count, ns: sample.value_ns };
            add(&mut table.entry(process).or_default().pending, sums);
        }
    }

    fn summed(&mut self, process: ProcId, row: &RunQueue, is_whole: bool) {
        let waits = row.buckets.iter().fold(0_u64, |sum, (_, count)| sum + u64::from(*count));
        let fixed = &row.fixed;
        // Who was not preempted had blocked before.
        let blocks =
            waits.saturating_sub(u64::from(fixed.preempted)).saturating_sub(u64::from(fixed.long_blocks));
        let sums = [Sums { count: blocks, ns: fixed.blocked_ns }, Sums { count: waits, ns: fixed.wait_ns }];
        for (table, sums) in [&mut self.blocked, &mut self.ready].into_iter().zip(sums) {
            if table.len() < PROCESSES_MAX || table.contains_key(&process) {
                table.entry(process).or_default().summed(is_whole.then_some(sums));
            } else {
                self.evicted += 1;
            }
        }
    }
}

impl State {
    /// A row of sums of a process, which its window holds.
    pub(super) fn summed(&mut self, process: ProcId, row: &RunQueue) {
        let is_own = self.node.as_ref().is_some_and(|node| node.agent_pid == process.tgid);
        // Of the agent itself no wait is told.
        if self.short.is_kept && !is_own {
            self.short.summed(process, row, row.fixed.from_ns >= self.window.from_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slowpod_ebpf::abi::queue::RunQueue as Fixed;
    use zerocopy::FromZeros;

    const PROCESS: ProcId = ProcId { tgid: 7, start_ns: 1 };

    fn sample(count: u64, value_ns: u64, flags: u32) -> Sample {
        Sample { count, value_ns, flags, ..Sample::new_zeroed() }
    }

    fn row(waits: u32, preempted: u32, blocked_ns: u64, wait_ns: u64) -> RunQueue {
        let fixed = Fixed { preempted, blocked_ns, wait_ns, ..Fixed::new_zeroed() };
        RunQueue { fixed, buckets: vec![(0, waits)] }
    }

    fn rest(short: &Short, kind: SampleKind) -> Option<Sums> {
        short.rows(kind).next().map(|(process, sums)| {
            assert_eq!(process, PROCESS);
            sums
        })
    }

    #[test]
    fn what_no_sample_tells_is_left() {
        let mut short = Short::new(true);
        short.told(PROCESS, SampleKind::OffCpu, &sample(2, 40_000_000, 0));
        short.told(PROCESS, SampleKind::OffCpu, &sample(1, 9_000_000_000, FLAG_LONG));
        short.told(PROCESS, SampleKind::RunQueue, &sample(1, 5_000_000, 0));
        short.told(PROCESS, SampleKind::OnCpu, &sample(99, 99, 0));
        short.summed(PROCESS, &row(12, 3, 40_700_000, 5_200_000), true);
        assert_eq!(rest(&short, SampleKind::OffCpu), Some(Sums { count: 7, ns: 700_000 }));
        assert_eq!(rest(&short, SampleKind::RunQueue), Some(Sums { count: 11, ns: 200_000 }));
        assert_eq!(rest(&short, SampleKind::OnCpu), None);
    }

    #[test]
    fn samples_and_sums_of_different_times_make_no_wait_that_was_not() {
        let mut short = Short::new(true);
        // Both from before the window, in part.
        short.told(PROCESS, SampleKind::OffCpu, &sample(1, 300_000_000, 0));
        short.summed(PROCESS, &row(5, 0, 4_000_000_000, 0), false);
        assert_eq!(rest(&short, SampleKind::OffCpu), None);
        // Its sample comes after the window's end.
        short.summed(PROCESS, &row(1, 0, 900_000_000, 0), true);
        assert_eq!(rest(&short, SampleKind::OffCpu), Some(Sums { count: 1, ns: AWAY_MIN_NS }));
        // And sums that do.
        short.told(PROCESS, SampleKind::OffCpu, &sample(3, 2_700_000_000, 0));
        assert_eq!(rest(&short, SampleKind::OffCpu), Some(Sums { count: 1, ns: AWAY_MIN_NS }));
        short.summed(PROCESS, &row(2, 0, 1_800_000_000, 0), true);
        assert_eq!(rest(&short, SampleKind::OffCpu), None);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut short = Short::new(true);
        for tgid in 0..PROCESSES_MAX as u32 + 3 {
            short.summed(ProcId { tgid, start_ns: 1 }, &row(1, 0, 5, 5), true);
        }
        assert_eq!((short.rows(SampleKind::OffCpu).count(), short.evicted), (PROCESSES_MAX, 6));
        let mut none = Short::new(false);
        none.told(PROCESS, SampleKind::OffCpu, &sample(1, 1, 0));
        assert_eq!(none.rows(SampleKind::OffCpu).count(), 0);
    }
}
