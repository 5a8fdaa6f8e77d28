//! `/api/v1/storms`: which daemons spawn, in which sync loops, with which commands, and what that costs.

use super::classes::{self, ClassBlock};
use super::describe::{IdentityBlock, Instant, ProcessRef, Spread, ratio};
use super::filter::Filter;
use super::netlink_rows::NetlinkBlock;
use super::{JSON, Param, Query, View, body, query};
use crate::fold::daemons::{Daemon, DaemonKey};
use crate::fold::grow::total;
use crate::fold::loops::{Loop, Waits};
use crate::fold::{Snapshot, State, class_sum::ClassSum, storm};
use serde::Serialize;
use std::cmp::Reverse;
use std::sync::Arc;

/// The view.
pub static VIEW: View = View {
    name: "storms",
    path: "/api/v1/storms",
    about: "Daemons that spawn processes, storms first, ranked by how long their sync loops had a child alive, \
            with each loop's argv classes and what they cost.",
    params: &[LOOPS],
    content_type: JSON,
    render,
};

/// Loops shown of each daemon when not asked for otherwise.
const LOOPS_DEFAULT: usize = 5;
const LOOPS: Param = Param {
    name: "loops",
    about: "of each daemon, show this many of its latest loops and of its worst (default 5)",
    kind: query::ParamKind::Count { min: 0, max: 100 },
};

/// The answer's own fields.
#[derive(Serialize)]
struct Storms {
    /// How `score_ns` is computed.
    ranked_by: &'static str,
    /// Daemons that spawned in the window and pass the filters; the list may be shorter.
    daemons_matched: usize,
    daemons: Vec<DaemonBlock>,
}

/// Says in every answer what the ranking means.
const RANKED_BY: &str = "storms first, then by score_ns: time in which the daemon's sync loops that overlap the \
                         window had at least one child alive";

/// One daemon.
#[derive(Serialize)]
struct DaemonBlock {
    name: Arc<str>,
    comm: Arc<str>,
    path: String,
    /// Its processes that spawned; the newest 64.
    pids: Vec<u32>,
    /// How many processes it has had in all.
    processes: u64,
    cgroup: Option<String>,
    identity: IdentityBlock,
    /// Who keeps spawning it; `null` for a process older than the agent.
    root: Option<ProcessRef>,
    /// One of its loops in the window is a storm.
    storm: bool,
    score_ns: u64,
    /// Loops since the answer's first record, of which the window may show fewer.
    loops_total: u64,
    /// Threads its processes have made since they are watched.
    threads_made: u64,
    /// What it sent over netlink itself, in the window.
    netlink: Option<NetlinkBlock>,
    series: SeriesBlock,
    /// Argv classes over all loops in the window.
    classes: Vec<ClassBlock>,
    latest_loops: Vec<LoopBlock>,
    worst_loops: Vec<LoopBlock>,
}

/// A daemon's loops in the window, as distributions.
#[derive(Serialize)]
struct SeriesBlock {
    loops: usize,
    duration_ns: Option<Spread>,
    busy_ns: Option<Spread>,
    /// From a loop's end to the next one's start.
    gap_ns: Option<Spread>,
    /// From a loop's start to the next one's.
    period_ns: Option<Spread>,
    spawns_per_loop: Option<Spread>,
    /// Of all loops' time together, the part with a child alive.
    share: f64,
}

/// One sync loop.
#[derive(Serialize)]
struct LoopBlock {
    number: u64,
    start: Instant,
    duration_ns: u64,
    spawns: u64,
    counted: u64,
    busy_ns: u64,
    /// `busy_ns` as a part of `duration_ns`.
    share: f64,
    busy_is_lower_bound: bool,
    peak_alive: usize,
    storm: bool,
    open: bool,
    cut_at_start: bool,
    waits: WaitsBlock,
    /// What the daemon itself sent over netlink meanwhile.
    netlink: Option<NetlinkBlock>,
    classes: Vec<ClassBlock>,
}

/// What the daemon spent waiting for children.
#[derive(Serialize)]
struct WaitsBlock {
    reaps: u64,
    wall_ns: u64,
    on_cpu_ns: u64,
    runnable_ns: u64,
    blocked_ns: u64,
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let state = &snapshot.state;
    let filter = Filter::new(state, query);
    let of_window = state.daemons.iter().filter(|(key, daemon)| filter.daemon(key, daemon));
    let mut ranked: Vec<_> = of_window
        .filter(|(_, daemon)| storm::loops(snapshot, daemon).next().is_some())
        .map(|(key, daemon)| {
            let is_storm = storm::loops(snapshot, daemon).any(storm::is_storm);
            (is_storm, storm::score_ns(storm::loops(snapshot, daemon)), key, daemon)
        })
        .collect();
    ranked.sort_by_key(|(is_storm, score_ns, key, _)| (Reverse((*is_storm, *score_ns)), *key));
    let loops = query.own_count(LOOPS.name).unwrap_or(LOOPS_DEFAULT);
    let shown = ranked.iter().take(query.rows());
    let storms = Storms {
        ranked_by: RANKED_BY,
        daemons_matched: ranked.len(),
        daemons: shown
            .map(|(_, score, key, daemon)| daemon_block(snapshot, key, daemon, *score, loops))
            .collect(),
    };
    body::json(snapshot, storms)
}

fn daemon_block(
    snapshot: &Snapshot,
    key: &DaemonKey,
    daemon: &Daemon,
    score_ns: u64,
    shown: usize,
) -> DaemonBlock {
    let state = &snapshot.state;
    let loops: Vec<&Loop> = storm::loops(snapshot, daemon).collect();
    let within_ns = total(loops.iter().map(|own| own.duration_ns()));
    let mut worst = loops.clone();
    worst.sort_by_key(|own| (Reverse(own.busy.total_ns()), own.number));
    let block = |own: &&Loop| loop_block(state, own);
    DaemonBlock {
        name: daemon.name.clone(),
        comm: daemon.comm.clone(),
        path: daemon.path_text(),
        pids: daemon.members.iter().map(|member| member.tgid).collect(),
        processes: daemon.member_count,
        cgroup: state.cgroups.get(key.cgroup_id).map(|cgroup| cgroup.path.clone()),
        identity: IdentityBlock::of(state, key.cgroup_id),
        root: (!key.argv_class.is_empty()).then(|| ProcessRef::of(state, key.root)),
        storm: loops.iter().any(|own| storm::is_storm(own)),
        score_ns,
        loops_total: daemon.series.begun,
        threads_made: threads_made(state, daemon),
        netlink: NetlinkBlock::of(state, &daemon.netlink),
        series: series_block(&loops),
        classes: classes::blocks(state, &ClassSum::over(loops.iter().copied()), within_ns),
        latest_loops: loops.iter().rev().take(shown).map(block).collect(),
        worst_loops: worst.iter().take(shown).map(block).collect(),
    }
}

fn threads_made(state: &State, daemon: &Daemon) -> u64 {
    let members = daemon.members.iter().filter_map(|id| state.processes.get(*id));
    members.map(|process| u64::from(process.threads_made)).sum()
}

fn series_block(loops: &[&Loop]) -> SeriesBlock {
    let spread = |value: fn(&Loop) -> u64| Spread::of(loops.iter().map(|own| value(own)).collect());
    let between = |value: fn(&Loop, &Loop) -> u64| {
        Spread::of(loops.windows(2).map(|pair| value(pair[0], pair[1])).collect())
    };
    let sum = |value: fn(&Loop) -> u64| total(loops.iter().map(|own| value(own)));
    SeriesBlock {
        loops: loops.len(),
        duration_ns: spread(Loop::duration_ns),
        busy_ns: spread(|own| own.busy.total_ns()),
        gap_ns: between(|one, next| next.start_ns.saturating_sub(one.end_ns)),
        period_ns: between(|one, next| next.start_ns.saturating_sub(one.start_ns)),
        spawns_per_loop: spread(Loop::spawns),
        share: ratio(sum(|own| own.busy.total_ns()), sum(Loop::duration_ns)),
    }
}

fn loop_block(state: &State, own: &Loop) -> LoopBlock {
    let busy_ns = own.busy.total_ns();
    let mut classes = classes::blocks(state, &ClassSum::over(std::iter::once(own)), own.duration_ns());
    classes.iter_mut().for_each(|class| class.spawns_per_loop = None);
    let Waits { reaps, wall_ns, on_cpu_ns, runnable_ns, blocked_ns } = own.waits;
    LoopBlock {
        number: own.number,
        start: Instant::of(state, own.start_ns),
        duration_ns: own.duration_ns(),
        spawns: own.spawns(),
        counted: own.counted,
        busy_ns,
        share: ratio(busy_ns, own.duration_ns()),
        busy_is_lower_bound: own.busy.is_lower_bound(),
        peak_alive: own.peak_alive,
        storm: storm::is_storm(own),
        open: own.open,
        cut_at_start: own.cut_at_start,
        waits: WaitsBlock { reaps, wall_ns, on_cpu_ns, runnable_ns, blocked_ns },
        netlink: NetlinkBlock::of(state, &own.netlink),
        classes,
    }
}
