//! `/api/v1/sched`: how long threads that were ready waited for a CPU, by node, CPU, owner and process; who ran
//! instead; and what held them back.

use super::describe::{IdentityBlock, ProcessRef, ratio};
use super::filter::Filter;
use super::query::ParamKind;
use super::{JSON, Param, Query, View, body};
use crate::fold::grow::total;
use crate::fold::sched::owners::{Owner, OwnerWaits, Ran, owners};
use crate::fold::sched::waits::Waits;
use crate::fold::sched::{Row, Throttle, Who};
use crate::fold::{Snapshot, State};
use serde::Serialize;
use slowpod_ebpf::abi::queue::PushedCount;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The view.
pub static VIEW: View = View {
    name: "sched",
    path: "/api/v1/sched",
    about: "Run-queue latency: how long threads that were ready waited for a CPU, by node, CPU, pod or unit, and \
            process; preempted apart from woken, held back by others apart from a quota, and who ran instead.",
    params: &[SCOPE],
    content_type: JSON,
    render,
};

const SCOPE: Param = Param {
    name: "scope",
    about: "which parts: all, or only the node, its CPUs, owners (pods and units of the host), or processes",
    kind: ParamKind::Choice { of: &["all", "node", "cpu", "pod", "process"] },
};

/// The answer's own fields. Parts that were not asked for are left out.
#[derive(Serialize)]
struct Sched {
    /// All waits of the machine, whatever the filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Node>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<Vec<Cpu>>,
    /// Pods and units that pass the filters; the list may be shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    owners_matched: Option<usize>,
    /// Who waited longest in all comes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    owners: Option<Vec<OwnerBlock>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes_matched: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<Vec<ProcessBlock>>,
}

#[derive(Serialize)]
struct Node {
    #[serde(flatten)]
    waits: WaitsBlock,
    /// Time in which at least one thread waited, as the kernel's pressure accounting says; `null` where it has none.
    pressure_ns: Option<u64>,
}

#[derive(Serialize)]
struct Cpu {
    cpu: u32,
    #[serde(flatten)]
    waits: WaitsBlock,
}

/// Waits, in numbers.
#[derive(Serialize)]
pub(super) struct WaitsBlock {
    /// How often a thread got a CPU; each time it had waited, if only for nothing.
    waits: u64,
    p50_ns: Option<u64>,
    p90_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
    /// Sum of all waits.
    wait_ns: u64,
    on_cpu_ns: u64,
    /// Threads that could have run on when they lost the CPU.
    preempted: Part,
    /// Threads that had blocked and were woken.
    woken: Part,
}

/// A part of the waits.
#[derive(Serialize)]
struct Part {
    waits: u64,
    wait_ns: u64,
}

impl From<&Waits> for WaitsBlock {
    fn from(waits: &Waits) -> Self {
        let count = waits.count();
        WaitsBlock {
            waits: count,
            p50_ns: waits.percentile_ns(500),
            p90_ns: waits.percentile_ns(900),
            p99_ns: waits.percentile_ns(990),
            max_ns: waits.max_ns(),
            wait_ns: waits.wait_ns,
            on_cpu_ns: waits.on_cpu_ns,
            preempted: Part { waits: waits.preempted, wait_ns: waits.preempted_ns },
            woken: Part {
                waits: count.saturating_sub(waits.preempted),
                wait_ns: waits.wait_ns.saturating_sub(waits.preempted_ns),
            },
        }
    }
}

/// A pod or a unit of the host.
#[derive(Serialize)]
struct OwnerBlock {
    identity: IdentityBlock,
    #[serde(flatten)]
    waits: WaitsBlock,
    /// What held it back for longest: `quota`, `others` or `itself`; `null` when it hardly waited for long.
    held_by: Option<&'static str>,
    /// Waits of a millisecond or more, all together.
    long_wait_ns: u64,
    /// Of those, who had the CPU meanwhile, longest first.
    ran_instead: Vec<RanBlock>,
    /// What its own CPU quota withheld; `null` when it did not.
    throttled: Option<ThrottleBlock>,
}

#[derive(Serialize)]
struct RanBlock {
    /// `itself`, `other`, `nobody` (the CPU was idle: a quota held the thread back, or the CPU slept) or `untold` (the wait
    /// began in another CPU's queue, or longer ago than a CPU remembers).
    who: &'static str,
    identity: Option<IdentityBlock>,
    stretches: u64,
    ns: u64,
    /// Of the owner's long waits.
    share: f64,
}

#[derive(Serialize)]
struct ThrottleBlock {
    periods: u64,
    throttled: u64,
    /// Summed over CPUs.
    throttled_ns: u64,
}

impl ThrottleBlock {
    fn of(throttle: &Throttle) -> Option<Self> {
        let Throttle { periods, throttled, throttled_ns } = *throttle;
        (throttled > 0).then_some(ThrottleBlock { periods, throttled, throttled_ns })
    }
}

/// A process, or those of a cgroup that have no row of their own.
#[derive(Serialize)]
struct ProcessBlock {
    /// `process`, `short_lived` (processes that lived less than a second) or `kernel_threads`.
    kind: &'static str,
    process: Option<ProcessRef>,
    identity: IdentityBlock,
    #[serde(flatten)]
    waits: WaitsBlock,
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let state = &snapshot.state;
    let filter = Filter::new(state, query);
    let scope = query.own(SCOPE.name).unwrap_or("all");
    let wants = |part: &str| scope == "all" || scope == part;
    let rows = query.rows();
    let mut sched = Sched {
        node: wants("node").then(|| node(state)),
        cpus: wants("cpu").then(|| cpus(state)),
        owners_matched: None,
        owners: None,
        processes_matched: None,
        processes: None,
    };
    if wants("pod") {
        let all = owners(&state.sched, &state.cgroups, |row| filter.waits(row), |id| filter.cgroup(id));
        sched.owners_matched = Some(all.len());
        sched.owners = Some(owner_blocks(state, &all, rows));
    }
    if wants("process") {
        let mut all: Vec<(&Row, &Waits)> =
            state.sched.rows.iter().filter(|(row, _)| filter.waits(row)).collect();
        all.sort_by_key(|(row, waits)| (Reverse(waits.wait_ns), **row));
        sched.processes_matched = Some(all.len());
        sched.processes =
            Some(all.into_iter().take(rows).map(|(row, waits)| process(state, row, waits)).collect());
    }
    body::json(snapshot, sched)
}

fn node(state: &State) -> Node {
    Node { waits: WaitsBlock::from(&state.sched.node()), pressure_ns: state.sched.pressure_ns }
}

fn cpus(state: &State) -> Vec<Cpu> {
    state.sched.cpus.iter().map(|(cpu, waits)| Cpu { cpu: *cpu, waits: WaitsBlock::from(waits) }).collect()
}

fn owner_blocks(state: &State, all: &BTreeMap<Owner, OwnerWaits>, rows: usize) -> Vec<OwnerBlock> {
    let mut ranked: Vec<(&Owner, &OwnerWaits)> = all.iter().collect();
    // Stable: equal ones stay in order of the owners.
    ranked.sort_by_key(|(_, waits)| Reverse(waits.waits.wait_ns));
    let block = |(owner, waits): (&Owner, &OwnerWaits)| OwnerBlock {
        identity: IdentityBlock::owner(state, waits.cgroup_id),
        waits: WaitsBlock::from(&waits.waits),
        held_by: waits.held_by(owner).map(|held| held.name()),
        long_wait_ns: waits.ran_ns(|_| true),
        ran_instead: ran_blocks(state, owner, waits),
        throttled: ThrottleBlock::of(&waits.throttle),
    };
    ranked.into_iter().take(rows).map(block).collect()
}

/// Who ran, named; those who ran least are left to the sums.
fn ran_blocks(state: &State, owner: &Owner, waits: &OwnerWaits) -> Vec<RanBlock> {
    const SHOWN: usize = 10;
    let mut ran: Vec<(&Ran, &PushedCount)> = waits.ran.iter().collect();
    ran.sort_by_key(|(_, count)| Reverse(count.ns));
    let long_ns = total(ran.iter().map(|(_, count)| count.ns));
    let block = |(ran, count): (&Ran, &PushedCount)| {
        let (who, identity) = match ran {
            Ran::Owner(other) if other == owner => ("itself", None),
            Ran::Owner(other) => ("other", Some(named(state, other))),
            Ran::Nobody => ("nobody", None),
            Ran::Untold => ("untold", None),
        };
        RanBlock { who, identity, stretches: count.stretches, ns: count.ns, share: ratio(count.ns, long_ns) }
    };
    ran.into_iter().take(SHOWN).map(block).collect()
}

/// An owner as an identity: one of its cgroups tells.
fn named(state: &State, owner: &Owner) -> IdentityBlock {
    let of_owner = |id: &u64| Owner::of(&state.cgroups, *id) == *owner;
    let ran = state.sched.pushed.keys().map(|(_, ran)| *ran).find(of_owner);
    IdentityBlock::owner(state, ran.unwrap_or(0))
}

fn process(state: &State, row: &Row, waits: &Waits) -> ProcessBlock {
    let (kind, process) = match row.who {
        Who::Process(id) => ("process", Some(ProcessRef::of(state, id))),
        Who::ShortLived => ("short_lived", None),
        Who::KernelThreads => ("kernel_threads", None),
    };
    ProcessBlock {
        kind,
        process,
        identity: IdentityBlock::of(state, row.cgroup_id),
        waits: WaitsBlock::from(waits),
    }
}
