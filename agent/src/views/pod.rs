//! `/api/v1/pods/{uid}`: the starts of one pod as waterfalls: every step that was seen, and the gaps between them.

use super::describe::{ExitBlock, Instant};
use super::pod_steps::{self, StepBlock};
use super::pods::{Row, StartBlock, rows, start_block};
use super::{JSON, Param, Query, View, body, query::ParamKind};
use crate::fold::pods::start::Container;
use crate::fold::{Snapshot, State};
use serde::Serialize;
use std::sync::Arc;

/// The view.
pub static VIEW: View = View {
    name: "pod",
    path: "/api/v1/pods/{uid}",
    about: "The starts of one pod, step by step: its cgroup, the sandbox, each CNI attempt, the runtime's processes, each \
            container's program, and the gaps in between.",
    params: &[UID],
    content_type: JSON,
    render,
};

const UID: Param = Param {
    name: "uid",
    about: "the pod's UID, or its name, or its namespace and name as in `default/web-0`",
    kind: ParamKind::Text { max_bytes: 320 },
};

/// The answer's own fields.
#[derive(Serialize)]
struct Answer {
    /// Starts of pods of this UID or name, the latest first; empty when none was seen in the window.
    starts: Vec<Waterfall>,
}

/// One start in full.
#[derive(Serialize)]
struct Waterfall {
    #[serde(flatten)]
    start: StartBlock,
    /// In the order they began. Restarts of containers are not among them.
    steps: Vec<StepBlock>,
    containers_seen: Vec<ContainerBlock>,
    /// Containers, sandboxes and steps that found no room.
    dropped: u64,
}

/// One container.
#[derive(Serialize)]
struct ContainerBlock {
    container_id: Arc<str>,
    /// `sandbox`, `init`, `restart` or `container`.
    kind: &'static str,
    program: Option<Arc<str>>,
    argv_class: Option<Arc<str>>,
    pid: Option<u32>,
    began: Instant,
    /// When its program's exec was done.
    ran: Option<Instant>,
    /// From the first work on it to its program.
    wall_ns: Option<u64>,
    ended: Option<Instant>,
    exit: Option<ExitBlock>,
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let asked = query.own(UID.name).unwrap_or_default();
    let mut rows = rows(snapshot, query);
    rows.retain(|row| is_asked(&snapshot.state, row, asked));
    rows.sort_by_key(|row| std::cmp::Reverse(row.start.begun_ns));
    let starts = rows.iter().take(query.rows()).map(|row| waterfall(&snapshot.state, row)).collect();
    body::json(snapshot, Answer { starts })
}

fn is_asked(state: &State, row: &Row<'_>, asked: &str) -> bool {
    let (namespace, name) = match asked.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, asked),
    };
    let names = state.pod_names.get(&row.pod.uid);
    let is_in = |own: &str| namespace.is_none_or(|namespace| namespace == own);
    *row.pod.uid == *asked || names.is_some_and(|own| *own.name == *name && is_in(&own.namespace))
}

fn waterfall(state: &State, row: &Row<'_>) -> Waterfall {
    let start = row.start;
    let dropped = start.containers.iter().map(|container| container.steps_dropped);
    Waterfall {
        start: start_block(state, row),
        steps: pod_steps::steps(state, row),
        containers_seen: start.containers.iter().map(|one| container_block(state, row, one)).collect(),
        dropped: crate::fold::grow::total(dropped).saturating_add(start.dropped),
    }
}

fn container_block(state: &State, row: &Row<'_>, container: &Container) -> ContainerBlock {
    let program = container.program.as_ref();
    ContainerBlock {
        container_id: container.id.clone(),
        kind: pod_steps::kind(row.start, container),
        program: program.map(|program| program.path.clone()),
        argv_class: program.map(|program| program.argv_class.clone()),
        pid: program.map(|program| program.id.tgid),
        began: Instant::of(state, container.begun_ns()),
        ran: program.map(|program| Instant::of(state, program.ran_ns)),
        wall_ns: program.map(|program| program.ran_ns.saturating_sub(container.begun_ns())),
        ended: container.ended_ns.map(|ns| Instant::of(state, ns)),
        exit: container.status.map(ExitBlock::of),
    }
}
