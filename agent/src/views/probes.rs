//! `/api/v1/probes`: one verdict per probe, and the node it was passed on.

use super::{JSON, Query, View, body};
use crate::fold::{Snapshot, facts};
use serde::Serialize;
use slowpod_ebpf::abi::probes::{Need, PROBES, Probe};
use std::collections::BTreeMap;

/// The view.
pub static VIEW: View = View {
    name: "probes",
    path: "/api/v1/probes",
    about: "What the agent watches: for each probe whether it is attached, on which rung, or why not and \
            what is lost.",
    params: &[],
    content_type: JSON,
    render,
};

/// State of a probe that no record told of.
const UNKNOWN: &str = "unknown";

/// The answer's own fields.
#[derive(Serialize)]
struct Probes<'a> {
    /// The node; `null` before the agent said where it is.
    node: Option<&'a facts::Node>,
    /// Probes by state.
    states: BTreeMap<&'a str, usize>,
    /// In the order they are attached.
    probes: Vec<Row<'a>>,
}

/// One probe.
#[derive(Serialize)]
struct Row<'a> {
    probe: &'a str,
    /// `attached`, `degraded`, `unsupported`, `denied`, `broken`, `off`, or `unknown` before a verdict.
    state: &'a str,
    /// The agent does not start without it.
    required: bool,
    /// The rung in use; empty when none is.
    rung: &'a str,
    /// Why not a better one.
    why: &'a str,
    /// What is lost by that; empty when nothing is.
    consequence: &'a str,
    /// What is lost when it is missing.
    without_it: &'a str,
}

fn render(snapshot: &Snapshot, _: &Query) -> Vec<u8> {
    let state = &snapshot.state;
    let probes: Vec<Row<'_>> = PROBES.iter().map(|probe| row(probe, state.probes.get(probe.name))).collect();
    let mut states = BTreeMap::new();
    for row in &probes {
        *states.entry(row.state).or_default() += 1;
    }
    body::json(snapshot, Probes { node: state.node.as_ref(), states, probes })
}

fn row<'a>(probe: &'a Probe, verdict: Option<&'a facts::Probe>) -> Row<'a> {
    Row {
        probe: probe.name,
        state: verdict.map_or(UNKNOWN, |verdict| verdict.state.name()),
        required: probe.need == Need::Required,
        rung: verdict.map_or("", |verdict| &verdict.rung),
        why: verdict.map_or("", |verdict| &verdict.why),
        consequence: verdict.map_or("", |verdict| &verdict.consequence),
        without_it: probe.gives,
    }
}
