//! `/api/v1/cni`: CNI calls with their time splits and trees, by plugin, over time, and each sandbox's attempts.
//!
//! Two splits of a call stand beside each other. `split` is the plugin's own: its main thread's, which adds up to
//! `wall_ns` together with `ending_ns`, from the main thread's end to the last thread's; what the plugin waited for its children is in there as `child_wait` (or, in a Go program, where another
//! thread does the waiting, as `futex` or `poll`). `tree` sums over all its descendants: its split adds up to its own
//! `wall_ns`, a sum that may exceed the call's. `tree.busy_ns` is the part of the call's wall time in which at least
//! one descendant was alive.

use super::cni_calls::{CallBlock, call_block};
use super::cni_flow::{self, FlowBlock};
use super::cni_sandboxes::{self, SandboxBlock};
use super::describe::OutcomesBlock;
use super::{JSON, Param, Query, View, body, filter::Filter, query::ParamKind};
use crate::enrich::cni::CniWork;
use crate::fold::Snapshot;
use crate::fold::class::Outcomes;
use crate::fold::cni::Call;
use crate::fold::grow::total;
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

/// The view of one sandbox.
pub static SANDBOX_VIEW: View = View {
    name: "cni_sandbox",
    path: "/api/v1/cni/{sandbox}",
    about: "The CNI calls of one sandbox, by its CNI_CONTAINERID, with everything that the view of all calls has.",
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
    /// CNI errors by code, in the plugins' own words.
    errors: BTreeMap<u64, u64>,
    /// Of these, conflicts: someone else changed the object first (HTTP 409).
    conflicts: usize,
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
    let mut errors = BTreeMap::new();
    for error in calls.iter().filter_map(|call| call.words.error.as_ref()) {
        *errors.entry(error.code).or_default() += 1;
    }
    Totals {
        errors,
        conflicts: count(|call| call.words.error.as_ref().is_some_and(|error| error.is_conflict())),
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
        let ended = group.iter().filter(|call| call.whole().is_some());
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
