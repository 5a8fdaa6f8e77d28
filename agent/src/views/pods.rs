//! `/api/v1/pods`: starts of pods, how long each took and in which phase; how phases are spread; which one to blame.

use super::cni::Percentiles;
use super::describe::{Instant, ratio};
use super::filter::Filter;
use super::{JSON, Param, Query, View, body, query::ParamKind};
use crate::fold::grow::total;
use crate::fold::pods::phases::{Measured, Phase, Progress, measure, networks};
use crate::fold::pods::{Pod, SLOW_NS, start::Start};
use crate::fold::{Snapshot, State};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The view.
pub static VIEW: View = View {
    name: "pods",
    path: "/api/v1/pods",
    about: "Starts of pods, the slowest first, from the pod's cgroup to its first container's program; percentiles by \
            phase; how many were too slow, and which phase is to blame.",
    params: &[OVER],
    content_type: JSON,
    render,
};

const OVER: Param = Param {
    name: "over",
    about: "how long a start may take before it counts as too slow (default 5 seconds)",
    kind: ParamKind::Seconds { min_ns: 1_000_000, max_ns: super::query::SPAN_MAX_NS },
};

/// The answer's own fields.
#[derive(Serialize)]
struct Pods {
    totals: Totals,
    /// From begin to first container's program, of starts that are over and were seen from their begin.
    start_ns: Option<Percentiles>,
    /// In the order of time.
    phases: Vec<PhaseBlock>,
    /// The phase that took most of the slow starts' time; of all starts' when none was slow.
    blame: Option<BlameBlock>,
    /// The slowest first.
    pods: Vec<StartBlock>,
}

/// Numbers of starts that pass the filters; the list may be shorter.
#[derive(Serialize)]
struct Totals {
    starts: usize,
    started: usize,
    starting: usize,
    given_up: usize,
    /// Hollow pods.
    network_only: usize,
    /// They began before the answer's first record, so they are in no percentile and no share.
    cut_at_start: usize,
    /// What counts as too slow.
    over_ns: u64,
    /// Starts that took longer, or have not come to their end for longer.
    over: usize,
    /// Of those that are over or too slow already.
    over_share: f64,
}

#[derive(Serialize)]
struct PhaseBlock {
    phase: &'static str,
    wall_ns: Option<Percentiles>,
    /// Of all phases' time.
    share: f64,
    /// Slow starts in which no phase was longer.
    blamed: usize,
}

#[derive(Serialize)]
struct BlameBlock {
    phase: &'static str,
    /// Of the time of the starts looked at.
    share: f64,
    /// Starts looked at.
    starts: usize,
    /// They were too slow; else these are all.
    slow: bool,
}

/// One start.
#[derive(Serialize)]
pub(super) struct StartBlock {
    pod_uid: Arc<str>,
    namespace: Option<Arc<str>>,
    pod: Option<Arc<str>>,
    /// Its quality-of-service class.
    qos: &'static str,
    /// Which start of this pod: 0 is the first that was seen.
    number: u64,
    /// `started`, `starting`, `given_up`, or `network_only` for a hollow pod.
    state: &'static str,
    began: Instant,
    /// From its begin to its first container's program; up to now, or to its being given up, when there is none.
    wall_ns: u64,
    /// From its begin to the program of the last container, restarts left out; `null` while none runs.
    all_ran_ns: Option<u64>,
    /// Time by phase; adds up to `wall_ns`.
    phases: BTreeMap<&'static str, u64>,
    /// The longest phase.
    longest: &'static str,
    /// Sandboxes; more than one is a retry.
    sandboxes: usize,
    /// CNI attempts beyond each sandbox's first.
    network_retries: u64,
    /// Containers, the sandbox's own and restarts not among them.
    containers: usize,
    /// Containers that run again what another one ran that has ended.
    restarts: usize,
    /// Of these, those that the order shows to be init containers.
    init_containers: usize,
    /// The pod's cgroup was there before the answer's first record: its begin is not known.
    cut_at_start: bool,
    /// When its cgroup was made; `null` when that was not seen.
    cgroup_made: Option<Instant>,
    /// When its cgroup was removed.
    cgroup_gone: Option<Instant>,
}

/// A start, and what was measured of it.
pub(super) struct Row<'a> {
    pub(super) pod: &'a Pod,
    pub(super) number: u64,
    pub(super) start: &'a Start,
    pub(super) measured: Measured,
}

impl Row<'_> {
    fn is_over(&self, over_ns: u64) -> bool {
        self.measured.is_slow(over_ns) && !self.start.cut_at_start
    }
}

/// The starts that an answer is about: something of them happened in its window.
pub(super) fn rows<'a>(snapshot: &'a Snapshot, query: &Query) -> Vec<Row<'a>> {
    let state = &snapshot.state;
    let filter = Filter::new(state, query);
    let until_ns = snapshot.window.until_ns.min(state.covered.1.max(snapshot.window.from_ns));
    let starts = state.pods.iter().flat_map(|pod| {
        let starts = pod.starts.iter().enumerate();
        starts.map(move |(at, start)| (pod, pod.starts_dropped + at as u64, start))
    });
    let starts = starts.map(|(pod, number, start)| Row {
        pod,
        number,
        start,
        measured: measure(state, start, until_ns),
    });
    starts
        .filter(|row| {
            row.start.begun_ns < snapshot.window.until_ns && last_ns(row) >= snapshot.window.from_ns
        })
        .filter(|row| {
            let containers = row.start.containers.iter().map(|container| &container.id);
            filter.pod(&row.pod.uid, containers.chain(&row.start.sandboxes).map(|id| &**id))
        })
        .filter(|row| passes(state, &filter, query, row.start))
        .collect()
}

/// When something last happened in a start.
fn last_ns(row: &Row<'_>) -> u64 {
    let containers = row.start.containers.iter();
    let ran = containers.filter_map(|container| Some(container.program.as_ref()?.ran_ns));
    ran.chain([row.measured.until_ns]).max().unwrap_or(row.measured.until_ns)
}

/// Whether one of a start's processes passes the filters that are about processes.
fn passes(state: &State, filter: &Filter<'_>, query: &Query, start: &Start) -> bool {
    if query.pid.is_none() && query.comm.is_none() && query.cgroup.is_none() {
        return true;
    }
    let steps = start.containers.iter().flat_map(|container| &container.steps).map(|step| step.id);
    let programs = start.containers.iter().filter_map(|container| Some(container.program.as_ref()?.id));
    steps.chain(programs).filter_map(|id| state.processes.get(id)).any(|process| filter.process(process))
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let over_ns = query.own_span(OVER.name).unwrap_or(SLOW_NS);
    let mut rows = rows(snapshot, query);
    rows.sort_by_key(|row| (Reverse(row.measured.wall_ns()), row.pod.uid.clone(), row.number));
    let whole: Vec<&Row<'_>> = rows
        .iter()
        .filter(|row| row.measured.progress == Progress::Started && !row.start.cut_at_start)
        .collect();
    let slow: Vec<&Row<'_>> = rows.iter().filter(|row| row.is_over(over_ns)).collect();
    let answer = Pods {
        totals: totals(&rows, whole.len(), &slow, over_ns),
        start_ns: Percentiles::of(whole.iter().map(|row| row.measured.wall_ns()).collect()),
        phases: phases(&whole, &slow),
        blame: if slow.is_empty() { blame(&whole, false) } else { blame(&slow, true) },
        pods: rows.iter().take(query.rows()).map(|row| start_block(&snapshot.state, row)).collect(),
    };
    body::json(snapshot, answer)
}

fn totals(rows: &[Row<'_>], whole: usize, slow: &[&Row<'_>], over_ns: u64) -> Totals {
    let count = |progress: Progress| rows.iter().filter(|row| row.measured.progress == progress).count();
    let unfinished = slow.iter().filter(|row| row.measured.progress == Progress::Starting).count();
    Totals {
        starts: rows.len(),
        started: count(Progress::Started),
        starting: count(Progress::Starting),
        given_up: count(Progress::GivenUp),
        network_only: count(Progress::NetworkOnly),
        cut_at_start: rows.iter().filter(|row| row.start.cut_at_start).count(),
        over_ns,
        over: slow.len(),
        over_share: ratio(slow.len() as u64, (whole + unfinished) as u64),
    }
}

fn phases(whole: &[&Row<'_>], slow: &[&Row<'_>]) -> Vec<PhaseBlock> {
    let all_ns = total(whole.iter().map(|row| row.measured.wall_ns()));
    let block = |phase: Phase| {
        let of: Vec<u64> = whole.iter().map(|row| row.measured.phases_ns[phase as usize]).collect();
        PhaseBlock {
            phase: phase.name(),
            share: ratio(total(of.iter().copied()), all_ns),
            wall_ns: Percentiles::of(of),
            blamed: slow.iter().filter(|row| row.measured.longest() == phase).count(),
        }
    };
    Phase::ALL.into_iter().map(block).collect()
}

fn blame(rows: &[&Row<'_>], slow: bool) -> Option<BlameBlock> {
    let all_ns = total(rows.iter().map(|row| row.measured.wall_ns()));
    let of = |phase: &Phase| total(rows.iter().map(|row| row.measured.phases_ns[*phase as usize]));
    let phase = Phase::ALL.into_iter().max_by_key(of).filter(|_| !rows.is_empty())?;
    Some(BlameBlock { phase: phase.name(), share: ratio(of(&phase), all_ns), starts: rows.len(), slow })
}

/// A start's block.
pub(super) fn start_block(state: &State, row: &Row<'_>) -> StartBlock {
    let Row { pod, number, start, measured } = row;
    let names = state.pod_names.get(&pod.uid);
    let attempts = networks(state, start).map(|network| {
        (network.attempts.len() as u64).saturating_sub(1).saturating_add(network.attempts_dropped)
    });
    let sandboxes = start
        .containers
        .iter()
        .filter(|container| start.is_sandbox(container) && !start.sandboxes.contains(&container.id));
    let ran = start.own_containers().filter(|container| !start.is_restart(container));
    let ran = ran.filter_map(|container| Some(container.program.as_ref()?.ran_ns));
    let restarts = start.own_containers().filter(|container| start.is_restart(container)).count();
    StartBlock {
        pod_uid: pod.uid.clone(),
        namespace: names.map(|names| names.namespace.clone()),
        pod: names.map(|names| names.name.clone()),
        qos: pod.qos.name(),
        number: *number,
        state: measured.progress.name(),
        began: Instant::of(state, start.begun_ns),
        wall_ns: measured.wall_ns(),
        all_ran_ns: ran.max().map(|ns| ns.saturating_sub(start.begun_ns)),
        phases: Phase::ALL
            .into_iter()
            .map(|phase| (phase.name(), measured.phases_ns[phase as usize]))
            .collect(),
        longest: measured.longest().name(),
        sandboxes: start.sandboxes.len() + sandboxes.count(),
        network_retries: total(attempts),
        containers: start.own_containers().count() - restarts,
        restarts,
        init_containers: start.own_containers().filter(|container| start.is_init(container)).count(),
        cut_at_start: start.cut_at_start,
        cgroup_made: start.cgroup_made_ns.map(|ns| Instant::of(state, ns)),
        cgroup_gone: start.cgroup_gone_ns.map(|ns| Instant::of(state, ns)),
    }
}
