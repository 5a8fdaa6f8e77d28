//! The steps of a pod's start, in the order of time, with the gaps between them.

use super::describe::{ExitBlock, SplitBlock};
use super::pods::Row;
use crate::fold::State;
use crate::fold::cni::Call;
use crate::fold::cni::attempts::Attempt;
use crate::fold::pods::phases::networks;
use crate::fold::pods::start::{Container, Start};
use serde::Serialize;
use std::sync::Arc;

/// Shortest gap that is shown as a step of its own.
const GAP_NS: u64 = 1_000_000;

/// One step.
#[derive(Serialize)]
pub(super) struct StepBlock {
    /// `cgroup`, `cni_attempt`, `cni`, `shim_start`, `create`, `start`, `exec`, `init_run` or `gap`.
    what: &'static str,
    /// Its container's kind: `sandbox`, `init` or `container`.
    of: Option<&'static str>,
    /// Plugins of an attempt, a plugin, a program.
    name: Option<String>,
    /// The sandbox's or the container's.
    container_id: Option<Arc<str>>,
    pid: Option<u32>,
    /// Since the start began.
    offset_ns: u64,
    /// `null` while it goes on.
    wall_ns: Option<u64>,
    /// `done`, `failed`, `running` or `unknown`: its end was lost.
    state: &'static str,
    exit: Option<ExitBlock>,
    /// Where the time of its main thread went.
    split: Option<SplitBlock>,
}

impl StepBlock {
    fn new(what: &'static str, start: &Start, from_ns: u64, until_ns: Option<u64>) -> Self {
        StepBlock {
            what,
            of: None,
            name: None,
            container_id: None,
            pid: None,
            offset_ns: from_ns.saturating_sub(start.begun_ns),
            wall_ns: until_ns.map(|ns| ns.saturating_sub(from_ns)),
            state: if until_ns.is_some() { "done" } else { "running" },
            exit: None,
            split: None,
        }
    }

    fn ended_as(mut self, status: Option<u32>, lost: bool) -> Self {
        self.exit = status.map(ExitBlock::of);
        self.state = match status {
            Some(0) => "done",
            Some(_) => "failed",
            None if lost => "unknown",
            None => self.state,
        };
        self
    }

    /// When it ended, since the start began; `None` while it goes on.
    fn end_ns(&self) -> Option<u64> {
        self.wall_ns.map(|wall_ns| self.offset_ns.saturating_add(wall_ns))
    }
}

/// What a container is to its pod.
pub(super) fn kind(start: &Start, container: &Container) -> &'static str {
    if start.is_sandbox(container) {
        "sandbox"
    } else if start.is_restart(container) {
        "restart"
    } else if start.is_init(container) {
        "init"
    } else {
        "container"
    }
}

/// All steps of a start.
pub(super) fn steps(state: &State, row: &Row<'_>) -> Vec<StepBlock> {
    let start = row.start;
    let mut steps = Vec::new();
    if let Some(ns) = start.cgroup_made_ns {
        steps.push(StepBlock::new("cgroup", start, ns, Some(ns)));
    }
    for sandbox in networks(state, start) {
        let attempts = sandbox.attempts.iter();
        steps.extend(attempts.map(|attempt| attempt_step(start, &sandbox.work.container_id, attempt)));
    }
    let calls = state.cni.all().filter(|call| &*call.work.command == "ADD");
    let calls = calls.filter(|call| start.sandboxes.contains(&call.work.container_id));
    steps.extend(calls.map(|call| call_step(start, call)));
    for container in start.containers.iter().filter(|container| !start.is_restart(container)) {
        container_steps(start, container, &mut steps);
    }
    steps.sort_by_key(|step| (step.offset_ns, std::cmp::Reverse(step.wall_ns)));
    with_gaps(start, steps, row.measured.until_ns)
}

fn attempt_step(start: &Start, sandbox: &Arc<str>, attempt: &Attempt) -> StepBlock {
    let until_ns = (attempt.running == 0).then_some(attempt.ended_ns);
    let plugins: Vec<&str> = attempt.calls.iter().map(|(plugin, _)| &**plugin).collect();
    let step = StepBlock::new("cni_attempt", start, attempt.started_ns, until_ns);
    let status = attempt.failed.as_ref().map(|(.., status)| *status);
    StepBlock {
        of: Some("sandbox"),
        name: Some(plugins.join(", ")),
        container_id: Some(sandbox.clone()),
        ..step.ended_as(status, attempt.uncertain)
    }
}

fn call_step(start: &Start, call: &Call) -> StepBlock {
    let end = call.end.as_ref();
    let step = StepBlock::new("cni", start, call.started_ns, end.map(|end| end.ended_ns));
    StepBlock {
        of: Some("sandbox"),
        name: Some(if call.is_delegated() { format!("> {}", call.plugin) } else { call.plugin.to_string() }),
        container_id: Some(call.work.container_id.clone()),
        pid: Some(call.id.tgid),
        split: call.whole().map(|end| (&end.main).into()),
        ..step.ended_as(end.map(|end| end.status), call.end_lost)
    }
}

fn container_steps(start: &Start, container: &Container, steps: &mut Vec<StepBlock>) {
    let kind = kind(start, container);
    let of = |step: StepBlock| StepBlock { of: Some(kind), container_id: Some(container.id.clone()), ..step };
    for step in &container.steps {
        let block = StepBlock::new(step.role.name(), start, step.started_ns, step.ended_ns);
        steps.push(StepBlock {
            pid: Some(step.id.tgid),
            split: step.split.as_ref().map(Into::into),
            ..of(block.ended_as(step.status, step.end_lost))
        });
    }
    let Some(program) = &container.program else { return };
    // An init container's run is a step itself; of the others only the begin is.
    let (what, until_ns) = match kind {
        "init" => ("init_run", container.ended_ns),
        _ => ("exec", Some(program.ran_ns)),
    };
    let run = StepBlock::new(what, start, program.ran_ns, until_ns);
    let status = container.status.filter(|_| kind == "init");
    steps.push(StepBlock {
        name: Some(program.path.to_string()),
        pid: Some(program.id.tgid),
        ..of(run.ended_as(status, false))
    });
}

/// Puts a step wherever nothing is seen to go on, from the begin to the last step's begin or, of a start that is not
/// over, to `until_ns`.
fn with_gaps(start: &Start, steps: Vec<StepBlock>, until_ns: u64) -> Vec<StepBlock> {
    let until_ns = until_ns.saturating_sub(start.begun_ns);
    let mut all = Vec::with_capacity(steps.len());
    let mut seen_ns = 0;
    let gap = |from_ns: u64, to_ns: u64| StepBlock {
        offset_ns: from_ns,
        ..StepBlock::new("gap", start, start.begun_ns, Some(start.begun_ns.saturating_add(to_ns - from_ns)))
    };
    for step in steps {
        if step.offset_ns.saturating_sub(seen_ns) >= GAP_NS {
            all.push(gap(seen_ns, step.offset_ns));
        }
        seen_ns = seen_ns.max(step.end_ns().unwrap_or(u64::MAX));
        all.push(step);
    }
    if until_ns.saturating_sub(seen_ns) >= GAP_NS {
        all.push(gap(seen_ns, until_ns));
    }
    all
}
