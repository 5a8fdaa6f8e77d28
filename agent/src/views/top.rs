//! `/api/v1/top`: processes, and the pods and units they belong to, by what they take: time on a CPU, ready for one,
//! blocked, and making children.

use super::describe::{IdentityBlock, ProcessRef, ratio};
use super::filter::Filter;
use super::query::ParamKind;
use super::{JSON, Param, Query, View, body};
use crate::enrich::{ProcId, processes::Process};
use crate::fold::grow::{Grow, total};
use crate::fold::sched::owners::Owner;
use crate::fold::sched::{Row, Who};
use crate::fold::{Snapshot, State};
use serde::Serialize;
use slowpod_ebpf::abi::{queue::KERNEL_THREADS, sample::SampleKind, settings::QUEUE_AGE_NS};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The view.
pub static VIEW: View = View {
    name: "top",
    path: "/api/v1/top",
    about: "What processes take, and the pods and units they belong to: time on a CPU, ready for one, blocked and by \
            which cause, and what making children costs. The largest first.",
    params: &[SORT],
    content_type: JSON,
    render,
};

/// What the rows are ranked by.
pub const SORT: Param =
    Param { name: "sort", about: "what the largest comes first of", kind: ParamKind::Choice { of: &SORTS } };
/// What rows can be ranked by.
pub const SORTS: [&str; 4] = ["on_cpu", "runnable", "blocked", "spawn_cost"];

/// The answer's own fields.
#[derive(Serialize)]
struct Top {
    /// CPUs that anything ran on.
    cpus: usize,
    /// Time on these by anybody, whatever the filters.
    on_cpu_ns: u64,
    /// Pods and units that pass the filters; the list may be shorter.
    owners_matched: usize,
    owners: Vec<OwnerBlock>,
    processes_matched: usize,
    processes: Vec<ProcessBlock>,
}

/// A pod or a unit of the host: the sum of its processes.
#[derive(Serialize)]
struct OwnerBlock {
    identity: IdentityBlock,
    /// `NAMESPACE/NAME` of a pod, when it is known.
    pod: Option<String>,
    /// Processes that lived for a second or longer.
    processes: usize,
    #[serde(flatten)]
    takes: TakesBlock,
}

/// A process, or those of a cgroup that have no row of their own.
#[derive(Serialize)]
struct ProcessBlock {
    /// `process`, `short_lived` (processes that lived less than a second) or `kernel_threads`.
    kind: &'static str,
    process: Option<ProcessRef>,
    identity: IdentityBlock,
    pod: Option<String>,
    #[serde(flatten)]
    takes: TakesBlock,
}

/// What somebody takes.
#[derive(Serialize)]
struct TakesBlock {
    on_cpu_ns: u64,
    /// CPUs it had on average.
    cpus_used: f64,
    /// Ready, and waiting for a CPU.
    runnable_ns: u64,
    /// Blocked, all threads together. A wait that goes on counts from when it was last told of.
    blocked_ns: u64,
    /// Blocked for a millisecond or longer, by cause; causes without time are left out.
    blocked_by: BTreeMap<&'static str, u64>,
    spawns: u64,
    /// From clone calls to the children's programs being in place.
    spawn_cost_ns: u64,
    /// All of the children's time, of which the cost is the beginning.
    children_ns: u64,
    /// Of it, on a CPU.
    children_on_cpu_ns: u64,
}

/// What somebody takes, as summed.
#[derive(Clone, Debug, Default)]
struct Takes {
    /// As counted when threads leave their CPU, and as ticks found them.
    on_cpu_ns: u64,
    ticked_ns: u64,
    tick_ns: u64,
    runnable_ns: u64,
    blocked_ns: u64,
    blocked_by: BTreeMap<&'static str, u64>,
    spawns: u64,
    spawn_cost_ns: u64,
    children_ns: u64,
    children_on_cpu_ns: u64,
}

impl Takes {
    /// A thread that never leaves its CPU is counted when it does; until then only ticks tell of it. Few ticks are
    /// too coarse to say anything.
    fn settle(&mut self) {
        const TICKS_MIN: u64 = 5;
        let told = self.ticked_ns > self.on_cpu_ns.saturating_add(self.on_cpu_ns / 2);
        if told && self.ticked_ns >= self.on_cpu_ns.saturating_add(TICKS_MIN * self.tick_ns) {
            self.on_cpu_ns = self.ticked_ns;
        }
        // What is told of waits that go on is not in the counts, and short waits are not in what is told.
        self.blocked_ns = self.blocked_ns.max(total(self.blocked_by.values().copied()));
    }

    fn add(&mut self, other: &Takes) {
        self.on_cpu_ns.grow(other.on_cpu_ns);
        self.runnable_ns.grow(other.runnable_ns);
        self.blocked_ns.grow(other.blocked_ns);
        for (cause, ns) in &other.blocked_by {
            self.blocked_by.entry(cause).or_default().grow(*ns);
        }
        self.spawns.grow(other.spawns);
        self.spawn_cost_ns.grow(other.spawn_cost_ns);
        self.children_ns.grow(other.children_ns);
        self.children_on_cpu_ns.grow(other.children_on_cpu_ns);
    }

    /// The place among others, by what is asked for; what is equal there is ranked by the CPU.
    fn rank(&self, sort: &str) -> Reverse<(u64, u64)> {
        let first = match sort {
            "runnable" => self.runnable_ns,
            "blocked" => self.blocked_ns,
            "spawn_cost" => self.spawn_cost_ns,
            _ => self.on_cpu_ns,
        };
        Reverse((first, self.on_cpu_ns))
    }

    fn block(&self, window_ns: u64) -> TakesBlock {
        TakesBlock {
            on_cpu_ns: self.on_cpu_ns,
            cpus_used: ratio(self.on_cpu_ns, window_ns),
            runnable_ns: self.runnable_ns,
            blocked_ns: self.blocked_ns,
            blocked_by: self.blocked_by.clone(),
            spawns: self.spawns,
            spawn_cost_ns: self.spawn_cost_ns,
            children_ns: self.children_ns,
            children_on_cpu_ns: self.children_on_cpu_ns,
        }
    }
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let state = &snapshot.state;
    let from_ns = snapshot.window.from_ns.max(state.covered.0);
    let window_ns = snapshot.window.until_ns.min(state.covered.1).saturating_sub(from_ns);
    let filter = Filter::new(state, query);
    let sort = query.own(SORT.name).unwrap_or(SORTS[0]);
    let mut all = takes(state, window_ns);
    all.values_mut().for_each(Takes::settle);
    let on_cpu_ns = total(all.values().map(|takes| takes.on_cpu_ns));
    let mut rows: Vec<(Row, Takes)> =
        all.into_iter().filter(|(row, _)| passes(state, &filter, row)).collect();
    let mut owners: BTreeMap<Owner, OwnerSum> = BTreeMap::new();
    for (row, takes) in &rows {
        let identity = identity(state, row);
        let sum = owners.entry(owner(&identity)).or_insert_with(|| OwnerSum::new(identity));
        sum.processes += usize::from(matches!(row.who, Who::Process(_)));
        sum.takes.add(takes);
    }
    // Both sorts are stable: what is equal stays in order of pids and paths.
    let mut owners: Vec<OwnerSum> = owners.into_values().collect();
    owners.sort_by_key(|sum| sum.takes.rank(sort));
    rows.sort_by_key(|(_, takes)| takes.rank(sort));
    let answer = Top {
        cpus: state.sched.cpus.len(),
        on_cpu_ns,
        owners_matched: owners.len(),
        owners: owners.iter().take(query.rows()).map(|sum| sum.block(state, window_ns)).collect(),
        processes_matched: rows.len(),
        processes: rows.iter().take(query.rows()).map(|row| process(state, row, window_ns)).collect(),
    };
    body::json(snapshot, answer)
}

/// Everything that is known of, by row.
fn takes(state: &State, window_ns: u64) -> BTreeMap<Row, Takes> {
    let mut all: BTreeMap<Row, Takes> = BTreeMap::new();
    for (row, waits) in &state.sched.rows {
        // A process that moved to another cgroup is one all the same.
        let takes = all.entry(of_process(state, *row)).or_default();
        takes.on_cpu_ns.grow(waits.on_cpu_ns);
        takes.runnable_ns.grow(waits.wait_ns);
        takes.blocked_ns.grow(waits.blocked_within_ns(window_ns));
    }
    for (key, sums) in state.profile.rows() {
        let row = row_of(state, &all, key.process, key.cgroup_id);
        let takes = all.entry(row).or_default();
        match key.kind {
            SampleKind::OnCpu => {
                takes.ticked_ns.grow(sums.ns);
                takes.tick_ns = takes.tick_ns.max(sums.ns / sums.count.max(1));
            }
            SampleKind::OffCpu => takes.blocked_by.entry(key.cause.name()).or_default().grow(sums.ns),
            // In the counts, all of it.
            SampleKind::RunQueue => {}
        }
    }
    for (key, sums) in state.spawned.rows() {
        let cgroup_id = state.processes.get(key.spawner).map_or(0, |process| process.cgroup_id);
        let row = of_process(state, Row { cgroup_id, who: Who::Process(key.spawner) });
        let takes = all.entry(row).or_default();
        takes.spawns.grow(sums.spawns);
        takes.spawn_cost_ns.grow(sums.cost_ns);
        takes.children_ns.grow(sums.wall_ns());
        takes.children_on_cpu_ns.grow(sums.on_cpu_ns);
    }
    all
}

/// The one row of a process, whichever cgroup a part of it was counted in.
fn of_process(state: &State, row: Row) -> Row {
    match row.who {
        Who::Process(id) => match state.processes.get(id) {
            Some(process) => Row { cgroup_id: process.cgroup_id, ..row },
            None => row,
        },
        Who::ShortLived | Who::KernelThreads => row,
    }
}

/// Where what a thread was seen doing is added: its process's own row, unless its waits are counted with those of others.
fn row_of(state: &State, all: &BTreeMap<Row, Takes>, id: ProcId, cgroup_id: u64) -> Row {
    let own = of_process(state, Row { cgroup_id, who: Who::Process(id) });
    let shared = match state.processes.get(id) {
        Some(process) if is_kernels(process) => Row { cgroup_id, who: Who::KernelThreads },
        Some(process) if is_short_lived(state, process) => Row { cgroup_id, who: Who::ShortLived },
        Some(_) | None => return own,
    };
    if all.contains_key(&shared) && !all.contains_key(&own) { shared } else { own }
}

/// Threads of the kernel are children of one.
fn is_kernels(process: &Process) -> bool {
    let made_by = process.spawner.map_or(process.scanned_ppid, |spawner| spawner.tgid);
    made_by == KERNEL_THREADS || process.id.tgid == KERNEL_THREADS
}

/// Whether it may never have been old enough for a row of its own.
fn is_short_lived(state: &State, process: &Process) -> bool {
    let young = state.covered.1.saturating_sub(process.spawned_ns) < QUEUE_AGE_NS;
    process.spawned_ns > 0 && (process.gone || young)
}

fn passes(state: &State, filter: &Filter<'_>, row: &Row) -> bool {
    match row.who {
        Who::Process(id) => match state.processes.get(id) {
            Some(process) => filter.process(process),
            None => filter.waits(row),
        },
        Who::ShortLived | Who::KernelThreads => filter.waits(row),
    }
}

/// Who a row belongs to: who works for a pod is the pod's.
fn identity(state: &State, row: &Row) -> IdentityBlock {
    match row.who {
        Who::Process(id) => match state.processes.get(id) {
            Some(process) => IdentityBlock::of_process(state, process),
            None => IdentityBlock::of(state, row.cgroup_id),
        },
        Who::ShortLived | Who::KernelThreads => IdentityBlock::of(state, row.cgroup_id),
    }
}

/// The containers of a pod, or of a unit, are one.
fn owner(identity: &IdentityBlock) -> Owner {
    match identity {
        IdentityBlock::Pod { pod_uid, .. } => Owner::Pod(pod_uid.clone()),
        IdentityBlock::Host { unit, .. } => Owner::Host(unit.clone()),
        IdentityBlock::Unknown => Owner::Unknown,
    }
}

/// An owner's rows together.
struct OwnerSum {
    identity: IdentityBlock,
    processes: usize,
    takes: Takes,
}

impl OwnerSum {
    fn new(identity: IdentityBlock) -> Self {
        OwnerSum { identity: identity.without_container(), processes: 0, takes: Takes::default() }
    }

    fn block(&self, state: &State, window_ns: u64) -> OwnerBlock {
        OwnerBlock {
            identity: self.identity.clone(),
            pod: pod_name(state, &self.identity),
            processes: self.processes,
            takes: self.takes.block(window_ns),
        }
    }
}

fn pod_name(state: &State, identity: &IdentityBlock) -> Option<String> {
    let IdentityBlock::Pod { pod_uid, .. } = identity else { return None };
    state.pod_names.get(pod_uid).map(|pod| format!("{}/{}", pod.namespace, pod.name))
}

fn process(state: &State, (row, takes): &(Row, Takes), window_ns: u64) -> ProcessBlock {
    let (kind, process) = match row.who {
        Who::Process(id) => ("process", Some(ProcessRef::of(state, id))),
        Who::ShortLived => ("short_lived", None),
        Who::KernelThreads => ("kernel_threads", None),
    };
    let identity = identity(state, row);
    ProcessBlock { kind, process, pod: pod_name(state, &identity), identity, takes: takes.block(window_ns) }
}
