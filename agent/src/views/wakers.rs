//! `/api/v1/sched/wakers`: who woke whom, and the chains that make. Counted while somebody asks.

use super::describe::{IdentityBlock, ProcessRef, ratio};
use super::filter::Filter;
use super::{JSON, Query, View, body};
use crate::enrich::ProcId;
use crate::fold::grow::{Grow, total};
use crate::fold::wakes::Waker;
use crate::fold::{Snapshot, State};
use serde::Serialize;
use slowpod_ebpf::abi::wakes::WakeCount;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The view.
pub static VIEW: View = View {
    name: "wakers",
    path: "/api/v1/sched/wakers",
    about: "Who woke the threads of a process, how often and after how long a block, and who woke those in turn. Counted \
            only while somebody asks: without `ago` the answer comes when `seconds` are over (default 5).",
    params: &[],
    content_type: JSON,
    render,
};

/// How long it counts when it is not told.
pub const SECONDS_DEFAULT_NS: u64 = 5_000_000_000;
/// Wakers named per process.
const WAKERS_SHOWN: usize = 10;
/// Longest chain: a request passes through fewer processes of one node.
const CHAIN_MAX: usize = 8;

/// The answer's own fields.
#[derive(Serialize)]
struct Wakers {
    /// Wake-ups of the whole node.
    wakes: u64,
    /// Processes that pass the filters; the list may be shorter.
    woken_matched: usize,
    /// The longest blocked before they were woken come first.
    woken: Vec<Woken>,
}

/// A process whose threads were woken.
#[derive(Serialize)]
struct Woken {
    process: ProcessRef,
    identity: IdentityBlock,
    wakes: u64,
    /// How long its threads had been blocked when they were woken.
    blocked_ns: u64,
    by: Vec<By>,
    /// From its main waker to that one's main waker, and so on, until an interrupt or one that was there before.
    chain: Vec<Link>,
}

/// Who woke it.
#[derive(Serialize)]
struct By {
    #[serde(flatten)]
    who: Link,
    wakes: u64,
    blocked_ns: u64,
    /// Of its time blocked before it was woken.
    share: f64,
}

/// What woke a thread.
#[derive(Serialize)]
struct Link {
    /// `process`, `timer`, `device`, `network` (the process is then who ran: the sender, if it is on this machine), `softirq`
    /// or `idle`.
    waker: &'static str,
    process: Option<ProcessRef>,
    identity: Option<IdentityBlock>,
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let state = &snapshot.state;
    let filter = Filter::new(state, query);
    let mut sums: BTreeMap<ProcId, WakeCount> = BTreeMap::new();
    for ((woken, _), count) in &state.wakes.rows {
        let sum = sums.entry(*woken).or_default();
        sum.wakes.grow(count.wakes);
        sum.blocked_ns.grow(count.blocked_ns);
    }
    let wakes = total(sums.values().map(|sum| sum.wakes));
    let passes = |id: &ProcId| match state.processes.get(*id) {
        Some(process) => filter.process(process),
        None => filter.is_empty(),
    };
    let mut all: Vec<(ProcId, WakeCount)> = sums.into_iter().filter(|(id, _)| passes(id)).collect();
    // Stable: equal ones stay in order of their pids.
    all.sort_by_key(|(_, sum)| Reverse((sum.blocked_ns, sum.wakes)));
    let shown = all.iter().take(query.rows());
    let woken = shown.map(|(id, sum)| woken(state, *id, *sum)).collect();
    body::json(snapshot, Wakers { wakes, woken_matched: all.len(), woken })
}

fn woken(state: &State, id: ProcId, sum: WakeCount) -> Woken {
    let mut by: Vec<(Waker, &WakeCount)> = state.wakes.of(id).collect();
    by.sort_by_key(|(_, count)| Reverse((count.blocked_ns, count.wakes)));
    let by = by.into_iter().take(WAKERS_SHOWN).map(|(waker, count)| By {
        who: link(state, waker),
        wakes: count.wakes,
        blocked_ns: count.blocked_ns,
        share: ratio(count.blocked_ns, sum.blocked_ns),
    });
    Woken {
        process: ProcessRef::of(state, id),
        identity: identity(state, id),
        wakes: sum.wakes,
        blocked_ns: sum.blocked_ns,
        by: by.collect(),
        chain: chain(state, id),
    }
}

/// Who woke it, who woke that one, and so on.
fn chain(state: &State, woken: ProcId) -> Vec<Link> {
    let (mut seen, mut links) = (vec![woken], Vec::new());
    while let Some(last) = seen.last().copied() {
        // A thread that wakes another of its own process tells nothing new.
        let others = state.wakes.of(last).filter(|(waker, _)| *waker != Waker::Process(last));
        let Some((waker, _)) = others.max_by_key(|(_, count)| (count.blocked_ns, count.wakes)) else { break };
        links.push(link(state, waker));
        match waker.process() {
            Some(id) if !seen.contains(&id) && links.len() < CHAIN_MAX => seen.push(id),
            Some(_) | None => break,
        }
    }
    links
}

fn link(state: &State, waker: Waker) -> Link {
    let process = waker.process();
    Link {
        waker: waker.name(),
        process: process.map(|id| ProcessRef::of(state, id)),
        identity: process.map(|id| identity(state, id)),
    }
}

fn identity(state: &State, id: ProcId) -> IdentityBlock {
    match state.processes.get(id) {
        Some(process) => IdentityBlock::of_process(state, process),
        None => IdentityBlock::Unknown,
    }
}
