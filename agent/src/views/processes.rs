//! `/api/v1/processes`: processes that ended in the window, children that are alive, and the daemons that
//! spawned them, each with its time split; and failed execs.

use super::describe::{ExitBlock, Instant, ProcessBlock, SplitBlock};
use super::filter::Filter;
use super::netlink_rows::NetlinkBlock;
use super::{JSON, Param, Query, View, body, query::ParamKind};
use crate::decode::errno::errno_name;
use crate::enrich::ProcId;
use crate::enrich::processes::Process;
use crate::fold::daemons::{DaemonKey, program_of};
use crate::fold::{Counts, Snapshot, State, life::Ended};
use serde::Serialize;
use slowpod_ebpf::abi::exit::FLAG_SPLIT_PARTIAL;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The view.
pub static VIEW: View = View {
    name: "processes",
    path: "/api/v1/processes",
    about: "Processes that ended in the window and processes alive that spawned or were spawned, each with \
            its exact time split; failed execs by path.",
    params: &[STATE, SPAWNER],
    content_type: JSON,
    render,
};

const STATE: Param = Param {
    name: "state",
    about: "which processes: all, only those that ended in the window, or only those alive at its end",
    kind: ParamKind::Choice { of: &["all", "ended", "alive"] },
};
const SPAWNER: Param = Param {
    name: "spawner",
    about: "only children of this process id and of its forks without exec",
    kind: ParamKind::Count { min: 1, max: 4_194_304 },
};

/// The answer's own fields.
#[derive(Serialize)]
struct Processes {
    totals: Totals,
    /// Failed execs, the most frequent first.
    failed_execs: Vec<FailedRow>,
    /// Processes that pass the filters; the list may be shorter.
    processes_matched: usize,
    /// The living first, the youngest before the oldest; then the ended, the last before the first.
    processes: Vec<Row>,
}

/// Sums over the whole window, whatever the filters.
#[derive(Serialize)]
struct Totals {
    /// Processes spawned, the counted ones included.
    spawned: u64,
    /// Of the spawned: only counted, under flood.
    counted: u64,
    ended: u64,
    /// Children alive at the end.
    alive: usize,
    threads_made: u64,
    execs: u64,
    exec_fails: u64,
}

/// Failed execs of one path.
#[derive(Serialize)]
struct FailedRow {
    path: Arc<str>,
    errno: Cow<'static, str>,
    count: u64,
    /// Who tried, or whose child did.
    daemon: Option<Arc<str>>,
}

/// One process.
#[derive(Serialize)]
struct Row {
    state: &'static str,
    #[serde(flatten)]
    process: ProcessBlock,
    /// Name of the daemon that spawned it.
    daemon: Option<Arc<str>>,
    /// When it was made; `null` for a process older than the agent.
    spawned: Option<Instant>,
    ended: Option<Instant>,
    /// From spawn to end, or to the end of the answer; `null` when its spawn was not seen.
    wall_ns: Option<u64>,
    /// From the clone call to its program being in place.
    spawn_cost_ns: Option<u64>,
    #[serde(flatten)]
    end: Option<EndBlock>,
    /// What it sent over netlink.
    netlink: Option<NetlinkBlock>,
}

/// What is known of an ended process only.
#[derive(Serialize)]
struct EndBlock {
    exit: ExitBlock,
    /// From the last thread's exit call to the very end: memory and files being torn down.
    teardown_ns: u64,
    /// The main thread's time; adds up to `wall_ns` when there was one thread.
    split: SplitBlock,
    threads: ThreadsBlock,
    /// One of its threads was not tracked: the splits miss its time.
    split_partial: bool,
    execs: u32,
    exec_fails: u32,
}

/// All threads of a process together.
#[derive(Serialize)]
struct ThreadsBlock {
    count: u32,
    /// Sum of their lifetimes, to which the split adds up.
    thread_ns: u64,
    split: SplitBlock,
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let state = &snapshot.state;
    let filter = Filter::new(state, query);
    let spawner = query.own_count(SPAWNER.name).map(|pid| pid as u32);
    let wanted = |process: &&Process| {
        let spawned_by = |pid: u32| process.spawner.is_some_and(|id| is_or_serves(state, id, pid));
        filter.process(process) && spawner.is_none_or(spawned_by)
    };
    let which = query.own(STATE.name).unwrap_or("all");
    let mut alive: Vec<&Process> = match which {
        "ended" => Vec::new(),
        _ => living(state).filter_map(|id| state.processes.get(id)).filter(wanted).collect(),
    };
    alive.sort_by_key(|process| Reverse((process.spawned_ns, process.id)));
    let ended: Vec<&Ended> = match which {
        "alive" => Vec::new(),
        _ => state.ended.iter().rev().filter(|ended| wanted(&&ended.process)).collect(),
    };
    let until_ns = snapshot.window.until_ns.min(state.covered.1.max(snapshot.window.from_ns));
    let rows = alive.iter().map(|process| alive_row(state, process, until_ns));
    let rows = rows.chain(ended.iter().map(|ended| ended_row(state, ended)));
    let answer = Processes {
        totals: totals(state),
        failed_execs: failed_execs(state, &filter, query.rows()),
        processes_matched: alive.len() + ended.len(),
        processes: rows.take(query.rows()).collect(),
    };
    body::json(snapshot, answer)
}

/// Whether a spawner has this pid, or is a fork without exec of the process that has it.
fn is_or_serves(state: &State, spawner: ProcId, pid: u32) -> bool {
    spawner.tgid == pid || program_of(&state.processes, spawner).is_some_and(|program| program.id.tgid == pid)
}

/// Living children, and living processes that spawned.
fn living(state: &State) -> impl Iterator<Item = ProcId> {
    let daemons = state.daemons.iter().flat_map(|(_, daemon)| &daemon.members);
    let alive = daemons.filter(|id| state.processes.get(**id).is_some_and(|process| !process.gone));
    alive.chain(state.children.keys()).copied().collect::<BTreeSet<ProcId>>().into_iter()
}

fn totals(state: &State) -> Totals {
    let Counts { spawned, counted, ended, threads_made, execs, exec_fails } = state.counts;
    let alive = state.children.len();
    Totals {
        spawned: spawned.saturating_add(counted),
        counted,
        ended,
        alive,
        threads_made,
        execs,
        exec_fails,
    }
}

fn failed_execs(state: &State, filter: &Filter<'_>, rows: usize) -> Vec<FailedRow> {
    let passes = |key: &DaemonKey| state.daemons.get(key).is_some_and(|daemon| filter.daemon(key, daemon));
    let of_filter =
        state.failed.rows().filter(|(key, _)| filter.is_empty() || key.daemon.as_ref().is_some_and(passes));
    let mut failed: Vec<FailedRow> = of_filter
        .map(|(key, count)| FailedRow {
            path: key.path.clone(),
            errno: errno_name(key.errno),
            count,
            daemon: key.daemon.as_ref().and_then(|daemon| state.daemon_label(daemon)),
        })
        .collect();
    // Stable: equal counts stay in the order of daemon and path.
    failed.sort_by_key(|row| Reverse(row.count));
    failed.truncate(rows);
    failed
}

fn row(state: &State, process: &Process, daemon: Option<&DaemonKey>, until_ns: u64) -> Row {
    let spawned = (process.spawned_ns > 0).then_some(process.spawned_ns);
    // A process forked from a spawned one has its parent's exec until it calls its own.
    let cost = |spawned_ns: u64| {
        let begun_ns = if process.begun_ns > 0 { process.begun_ns } else { spawned_ns };
        (process.exec_ns > 0).then(|| process.exec_ns.saturating_sub(begun_ns))
    };
    Row {
        state: "alive",
        process: ProcessBlock::of(state, process),
        daemon: daemon.and_then(|key| state.daemon_label(key)),
        spawned: spawned.map(|spawned_ns| Instant::of(state, spawned_ns)),
        ended: None,
        wall_ns: spawned.map(|spawned_ns| until_ns.saturating_sub(spawned_ns)),
        spawn_cost_ns: spawned.and_then(cost),
        end: None,
        netlink: None,
    }
}

fn alive_row(state: &State, process: &Process, until_ns: u64) -> Row {
    let child = state.children.get(&process.id);
    Row {
        netlink: child.and_then(|child| NetlinkBlock::of(state, &child.netlink)),
        ..row(state, process, child.and_then(|child| child.daemon.as_ref()), until_ns)
    }
}

fn ended_row(state: &State, ended: &Ended) -> Row {
    let exit = &ended.exit;
    let end = EndBlock {
        exit: ExitBlock::of(exit.status),
        teardown_ns: exit.header.ktime_ns.saturating_sub(exit.exiting_ns),
        split: SplitBlock::from(&exit.main),
        threads: ThreadsBlock {
            count: exit.thread_count,
            thread_ns: exit.thread_ns,
            split: SplitBlock::from(&exit.threads),
        },
        split_partial: exit.flags & FLAG_SPLIT_PARTIAL != 0,
        execs: exit.execs,
        exec_fails: exit.exec_fails,
    };
    Row {
        state: "ended",
        ended: Some(Instant::of(state, exit.header.ktime_ns)),
        end: Some(end),
        netlink: NetlinkBlock::of(state, &ended.netlink),
        ..row(state, &ended.process, ended.daemon.as_ref(), exit.header.ktime_ns)
    }
}
