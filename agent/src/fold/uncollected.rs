//! Ended children and the collections of them, brought together. In: ends and reaps, in either order.
//! Out: pairs.

use super::daemons::DaemonKey;
use super::loops;
use crate::enrich::ProcId;
use slowpod_ebpf::abi::reap::Reap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Ended children remembered until their parent collects them.
const UNCOLLECTED_MAX: usize = 4_096;

/// An ended child, as its collection needs it.
#[derive(Clone, Debug)]
pub(super) struct EndedChild {
    /// Its times.
    pub(super) timing: loops::Child,
    /// Who spawned it; `None` when that is not known.
    pub(super) spawner: Option<ProcId>,
    /// Its daemon.
    pub(super) daemon: DaemonKey,
    /// Its argv class.
    pub(super) class: Arc<str>,
    /// When it ended.
    pub(super) ended_ns: u64,
}

/// Children that ended and were not yet collected, and collections that came before the end was seen (the
/// two happen on different CPUs), by (spawner's pid, the child's pid as the spawner sees it).
#[derive(Clone, Debug, Default)]
pub(super) struct Uncollected {
    alive: BTreeMap<(u32, u32), ProcId>,
    ended: BTreeMap<(u32, u32), EndedChild>,
    early: BTreeMap<(u32, u32), Reap>,
    order: VecDeque<(u32, u32)>,
}

impl Uncollected {
    /// A child was spawned; what was kept of an earlier one with these pids is void.
    pub(super) fn spawned(&mut self, pids: (u32, u32), id: ProcId) {
        self.alive.insert(pids, id);
        self.ended.remove(&pids);
        self.early.remove(&pids);
    }

    /// A child ended; the collection that was seen before it, if any.
    pub(super) fn ended(&mut self, pids: (u32, u32), child: EndedChild) -> Option<Reap> {
        self.alive.remove(&pids);
        if let Some(early) = self.early.remove(&pids) {
            return Some(early);
        }
        self.ended.insert(pids, child);
        self.order.push_back(pids);
        if self.order.len() > UNCOLLECTED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        None
    }

    /// A child turned out to be gone without an end.
    pub(super) fn forget(&mut self, id: ProcId) {
        self.alive.retain(|_, alive| *alive != id);
    }

    /// A child was collected.
    pub(super) fn collected(&mut self, pids: (u32, u32), reap: &Reap) -> Collected {
        if let Some(ended) = self.ended.remove(&pids) {
            return Collected::Ended(ended);
        }
        let Some(id) = self.alive.get(&pids) else { return Collected::Unknown };
        self.early.insert(pids, *reap);
        Collected::Early(*id)
    }
}

/// Whom a collection is about.
pub(super) enum Collected {
    /// A child whose end has been seen.
    Ended(EndedChild),
    /// A child whose end has not been seen: it is on its way, or was lost.
    Early(ProcId),
    /// Nobody's known child.
    Unknown,
}
