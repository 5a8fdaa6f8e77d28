//! `/api/v1/cni`: CNI calls with their time splits and trees, by plugin, over time, and each sandbox's attempts.
//!
//! Two splits of a call stand beside each other. `split` is the plugin's own: its main thread's, which adds up to
//! `wall_ns` together with `ending_ns`, from the main thread's end to the last thread's; what the plugin waited for its children is in there as `child_wait` (or, in a Go program, where another
//! thread does the waiting, as `futex` or `poll`). `tree` sums over all its descendants: its split adds up to its own
//! `wall_ns`, a sum that may exceed the call's. `tree.busy_ns` is the part of the call's wall time in which at least
//! one descendant was alive.

use super::cni_flow::{self, FlowBlock};
use super::cni_sandboxes::{self, SandboxBlock};
use super::describe::{ExitBlock, IdentityBlock, Instant, OutcomesBlock, ProcessRef, SplitBlock};
use super::{JSON, Param, Query, View, body, filter::Filter, query::ParamKind};
use crate::enrich::cni::CniWork;
use crate::fold::class::Outcomes;
use crate::fold::cni::{Call, End};
use crate::fold::grow::{split_ns, total};
use crate::fold::{Snapshot, State};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The view.
pub static VIEW: View = View {
    name: "cni",
    path: "/api/v1/cni",
    about: "CNI calls, the slowest first, each with its pod, its time split and what its children did; by command and \
            plugin; how many at once; and per sandbox the attempts until its network was ready.",
    params: &[SANDBOX],
    content_type: JSON,
    render,
};

const SANDBOX: Param = Param {
    name: "sandbox",
    about: "only the sandbox with this CNI_CONTAINERID",
    kind: ParamKind::Text { max_bytes: 260 },
};

/// The answer's own fields.
#[derive(Serialize)]
struct Cni {
    totals: Totals,
    /// By command and plugin, the most time first.
    by_plugin: Vec<PluginBlock>,
    flow: FlowBlock,
    /// Over the sandboxes whose network was ready: from the first attempt's start to the first success's end.
    network_ready_ns: Option<Percentiles>,
    /// Sandboxes that pass the filters; the list may be shorter.
    sandboxes_matched: usize,
    /// Those without a network first, then the slowest.
    sandboxes: Vec<SandboxBlock>,
    /// Calls that pass the filters; the list may be shorter.
    calls_matched: usize,
    /// The slowest first.
    calls: Vec<CallBlock>,
}

/// Sums over the calls that pass the filters.
#[derive(Serialize)]
struct Totals {
    calls: usize,
    failed: usize,
    in_flight: usize,
    /// Gone, and nobody saw how.
    ends_lost: usize,
    /// Without `K8S_POD_UID`: STATUS and VERSION, and callers that are no Kubernetes runtime.
    without_pod: usize,
    /// How the ended ones ended.
    exits: OutcomesBlock,
}

/// How values are spread, by nearest rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Percentiles {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl Percentiles {
    /// Of values; `None` of none.
    pub(super) fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let max = *values.last()?;
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        Some(Percentiles { p50: rank(50), p90: rank(90), p99: rank(99), max })
    }
}

/// Calls of one command and plugin.
#[derive(Serialize)]
struct PluginBlock {
    command: Arc<str>,
    plugin: Arc<str>,
    /// Run by another plugin.
    delegated: bool,
    calls: usize,
    failed: usize,
    in_flight: usize,
    /// Of those that ended.
    wall_ns: Option<Percentiles>,
    exits: OutcomesBlock,
}

/// One call.
#[derive(Serialize)]
struct CallBlock {
    command: Arc<str>,
    plugin: Arc<str>,
    path: String,
    /// `ended`, `running` or `lost`: gone, and nobody saw how.
    state: &'static str,
    container_id: Arc<str>,
    ifname: Arc<str>,
    netns: Arc<str>,
    namespace: Option<Arc<str>>,
    pod: Option<Arc<str>>,
    identity: IdentityBlock,
    traceparent: Option<Arc<str>>,
    pid: u32,
    start_ns: u64,
    /// The runtime, or the plugin that delegates.
    spawner: Option<ProcessRef>,
    /// Run by another plugin, with this process id.
    delegated_by: Option<u32>,
    started: Instant,
    ended: Option<Instant>,
    wall_ns: u64,
    exit: Option<ExitBlock>,
    /// The main thread's time; adds up to `wall_ns` together with `ending_ns`.
    split: Option<SplitBlock>,
    /// From the main thread's end to the last thread's: a program of several threads ends when all have.
    ending_ns: u64,
    threads: Option<ThreadsBlock>,
    split_partial: bool,
    tree: TreeBlock,
    /// Descendants alive when it ended.
    outlived_by: u32,
    /// It began before the answer's first record: its tree may miss what happened until then.
    cut_at_start: bool,
}

/// All threads of a plugin together.
#[derive(Serialize)]
struct ThreadsBlock {
    count: u32,
    /// Sum of their lifetimes, to which the split adds up.
    thread_ns: u64,
    split: SplitBlock,
}

/// All descendants of a plugin together.
#[derive(Serialize)]
struct TreeBlock {
    spawns: u64,
    /// Of these, only counted, under flood.
    counted: u64,
    /// Time in which at least one was alive.
    busy_ns: u64,
    /// Sum of their wall times, to which the split adds up.
    wall_ns: u64,
    split: SplitBlock,
    /// The most time first.
    classes: Vec<TreeClassBlock>,
}

/// One sort of descendants.
#[derive(Serialize)]
struct TreeClassBlock {
    /// Base name of a delegated plugin, or argv class of a helper.
    name: Arc<str>,
    delegated: bool,
    spawns: u64,
    failed: u64,
    wall_ns: u64,
    split: SplitBlock,
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let state = &snapshot.state;
    let until_ns = snapshot.window.until_ns.min(state.covered.1.max(snapshot.window.from_ns));
    let filter = Filter::new(state, query);
    let passes = |call: &&Call| is_of(&call.work, query) && filter.call(call);
    let mut calls: Vec<&Call> = state.cni.all().filter(passes).collect();
    calls.sort_by_key(|call| (Reverse(call.wall_ns(until_ns)), call.id));
    let passes = |work: &CniWork| is_of(work, query) && filter.work(work);
    let mut sandboxes: Vec<_> = state.cni.sandboxes.iter().filter(|sandbox| passes(&sandbox.work)).collect();
    sandboxes.sort_by_key(|sandbox| cni_sandboxes::rank(sandbox));
    let ready = sandboxes.iter().filter_map(|sandbox| sandbox.network_ready_ns()).collect();
    let answer = Cni {
        totals: totals(&calls),
        by_plugin: by_plugin(&calls),
        flow: cni_flow::block(state, &calls, snapshot.window.from_ns.max(state.covered.0), until_ns),
        network_ready_ns: Percentiles::of(ready),
        sandboxes_matched: sandboxes.len(),
        sandboxes: sandboxes
            .into_iter()
            .take(query.rows())
            .map(|one| cni_sandboxes::block(state, one))
            .collect(),
        calls_matched: calls.len(),
        calls: calls.into_iter().take(query.rows()).map(|call| call_block(state, call, until_ns)).collect(),
    };
    body::json(snapshot, answer)
}

/// Whether this is about the sandbox asked for.
fn is_of(work: &CniWork, query: &Query) -> bool {
    query.own(SANDBOX.name).is_none_or(|id| id == &*work.container_id)
}

fn outcomes<'a>(calls: impl Iterator<Item = &'a Call>) -> OutcomesBlock {
    let mut outcomes = Outcomes::default();
    calls.filter_map(|call| call.end.as_ref()).for_each(|end| outcomes.count(end.status));
    (&outcomes).into()
}

fn is_running(call: &Call) -> bool {
    call.end.is_none() && !call.end_lost
}

fn totals(calls: &[&Call]) -> Totals {
    let count = |is: fn(&Call) -> bool| calls.iter().filter(|call| is(call)).count();
    Totals {
        calls: calls.len(),
        failed: count(Call::failed),
        in_flight: count(is_running),
        ends_lost: count(|call| call.end_lost),
        without_pod: count(|call| call.work.pod.uid.is_none()),
        exits: outcomes(calls.iter().copied()),
    }
}

fn by_plugin(calls: &[&Call]) -> Vec<PluginBlock> {
    let mut groups: BTreeMap<(&str, &str, bool), Vec<&Call>> = BTreeMap::new();
    for call in calls {
        groups.entry((&call.work.command, &call.plugin, call.is_delegated())).or_default().push(call);
    }
    let total_ns = |group: &[&Call]| total(group.iter().map(|call| call.wall_ns(call.started_ns)));
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, group)| Reverse(total_ns(group)));
    let block = |((command, plugin, delegated), group): ((&str, &str, bool), Vec<&Call>)| {
        let ended = group.iter().filter(|call| call.end.is_some());
        PluginBlock {
            command: command.into(),
            plugin: plugin.into(),
            delegated,
            calls: group.len(),
            failed: group.iter().filter(|call| call.failed()).count(),
            in_flight: group.iter().filter(|call| is_running(call)).count(),
            wall_ns: Percentiles::of(ended.map(|call| call.wall_ns(0)).collect()),
            exits: outcomes(group.iter().copied()),
        }
    };
    groups.into_iter().map(block).collect()
}

fn call_block(state: &State, call: &Call, until_ns: u64) -> CallBlock {
    let work = &call.work;
    let end = call.end.as_ref();
    CallBlock {
        command: work.command.clone(),
        plugin: call.plugin.clone(),
        path: call.path.clone(),
        state: match (end.is_some(), call.end_lost) {
            (true, _) => "ended",
            (false, true) => "lost",
            (false, false) => "running",
        },
        container_id: work.container_id.clone(),
        ifname: work.ifname.clone(),
        netns: work.netns.clone(),
        namespace: work.pod.namespace.clone(),
        pod: work.pod.name.clone(),
        identity: IdentityBlock::of_cni(work),
        traceparent: (!work.traceparent.is_empty()).then(|| work.traceparent.clone()),
        pid: call.id.tgid,
        start_ns: call.id.start_ns,
        spawner: call.spawner.map(|id| ProcessRef::of(state, id)),
        delegated_by: work.parent.map(|id| id.tgid),
        started: Instant::of(state, call.started_ns),
        ended: end.map(|end| Instant::of(state, end.ended_ns)),
        wall_ns: call.wall_ns(until_ns),
        exit: end.map(|end| ExitBlock::of(end.status)),
        split: end.map(|end| (&end.main).into()),
        ending_ns: end.map_or(0, |end| call.wall_ns(0).saturating_sub(split_ns(&end.main))),
        threads: end.map(threads_block),
        split_partial: end.is_some_and(|end| end.partial),
        tree: tree_block(call),
        outlived_by: end.map_or(0, |end| end.outlived_by),
        cut_at_start: call.cut_at_start,
    }
}

fn threads_block(end: &End) -> ThreadsBlock {
    ThreadsBlock { count: end.thread_count, thread_ns: end.thread_ns, split: (&end.threads).into() }
}

fn tree_block(call: &Call) -> TreeBlock {
    let tree = &call.tree;
    let mut classes: Vec<TreeClassBlock> = tree
        .classes
        .iter()
        .map(|((delegated, name), class)| TreeClassBlock {
            name: name.clone(),
            delegated: *delegated,
            spawns: class.spawns,
            failed: class.failed,
            wall_ns: class.wall_ns,
            split: (&class.split).into(),
        })
        .collect();
    classes.sort_by_key(|class| Reverse(class.wall_ns));
    TreeBlock {
        spawns: tree.spawns,
        counted: tree.counted,
        busy_ns: tree.busy.total_ns(),
        wall_ns: tree.wall_ns,
        split: (&tree.split).into(),
        classes,
    }
}
