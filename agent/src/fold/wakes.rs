//! Who woke whom. In: counts taken while a client asked. Out: rows by who was woken and by whom.

use super::State;
use super::grow::Grow;
use crate::decode;
use crate::enrich::ProcId;
use slowpod_ebpf::abi::wakes::{Context, WakeCount};
use std::collections::BTreeMap;

/// Rows kept: twice what the kernel counts at once.
pub const ROWS_MAX: usize = 16_384;

/// What woke a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waker {
    /// A thread of this process.
    Process(ProcId),
    /// A sleep or a time-out was over.
    Timer,
    /// A device's interrupt.
    Device,
    /// A packet came. The process is who ran at that moment: the sender, if it is on the same machine.
    Network(ProcId),
    /// Some other part of an interrupt.
    Softirq,
    /// The idle loop of a CPU.
    Idle,
}

impl Waker {
    fn of(wakes: &decode::Wakes) -> Waker {
        let process = ProcId::of(&wakes.fixed.key.waker);
        match wakes.context {
            Context::Thread => Waker::Process(process),
            Context::Timer => Waker::Timer,
            Context::Device => Waker::Device,
            Context::Network => Waker::Network(process),
            Context::Softirq => Waker::Softirq,
            Context::Idle => Waker::Idle,
        }
    }

    /// Name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Waker::Process(_) => "process",
            Waker::Timer => "timer",
            Waker::Device => "device",
            Waker::Network(_) => "network",
            Waker::Softirq => "softirq",
            Waker::Idle => "idle",
        }
    }

    /// The process that did it, or that ran.
    pub const fn process(self) -> Option<ProcId> {
        match self {
            Waker::Process(id) | Waker::Network(id) => Some(id),
            Waker::Timer | Waker::Device | Waker::Softirq | Waker::Idle => None,
        }
    }
}

/// Everything counted in the window, by who was woken.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    /// By who was woken, then by whom.
    pub rows: BTreeMap<(ProcId, Waker), WakeCount>,
    /// Wake-ups that found no row.
    pub evicted: u64,
}

impl Wakes {
    /// Who woke a process.
    pub fn of(&self, woken: ProcId) -> impl Iterator<Item = (Waker, &WakeCount)> {
        let first = Waker::Process(ProcId { tgid: 0, start_ns: 0 });
        self.rows.range((woken, first)..=(woken, Waker::Idle)).map(|((_, waker), count)| (*waker, count))
    }
}

impl State {
    pub(super) fn wakes(&mut self, wakes: &decode::Wakes) {
        // Also sharpens the start times of processes that the scan found.
        let woken = self.processes.resolve(&wakes.fixed.key.woken);
        let waker = self.processes.resolve(&wakes.fixed.key.waker);
        if self.limits.profile_rows_max == 0 || !self.window.holds(wakes.fixed.header.ktime_ns) {
            return;
        }
        let woken = woken.unwrap_or(ProcId::of(&wakes.fixed.key.woken));
        let by = match (Waker::of(wakes), waker) {
            (Waker::Process(_), Some(id)) => Waker::Process(id),
            (Waker::Network(_), Some(id)) => Waker::Network(id),
            (as_told, _) => as_told,
        };
        let key = (woken, by);
        if self.wakes.rows.len() >= ROWS_MAX && !self.wakes.rows.contains_key(&key) {
            self.wakes.evicted.grow(wakes.fixed.count.wakes);
            return;
        }
        let row = self.wakes.rows.entry(key).or_default();
        row.wakes.grow(wakes.fixed.count.wakes);
        row.blocked_ns.grow(wakes.fixed.count.blocked_ns);
    }
}
