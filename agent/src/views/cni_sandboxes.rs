//! Attempts of a sandbox as blocks of an answer.

use super::describe::{ExitBlock, IdentityBlock, Instant};
use crate::fold::State;
use crate::fold::cni::attempts::{Attempt, Sandbox};
use serde::Serialize;
use std::cmp::Reverse;
use std::sync::Arc;

/// One sandbox.
#[derive(Serialize)]
pub(super) struct SandboxBlock {
    container_id: Arc<str>,
    namespace: Option<Arc<str>>,
    pod: Option<Arc<str>>,
    identity: IdentityBlock,
    /// From the first attempt's start to the first success's end; `null` while there is none.
    network_ready_ns: Option<u64>,
    /// Attempts beyond the first.
    retries: u64,
    attempts: Vec<AttemptBlock>,
    /// DEL calls of plugins that the runtime ran itself; several are normal.
    del_calls: u64,
    /// Its first call began before the answer's first record: earlier attempts may be missing.
    cut_at_start: bool,
}

/// One attempt.
#[derive(Serialize)]
struct AttemptBlock {
    started: Instant,
    wall_ns: u64,
    /// `succeeded`, `failed`, `running` or `unknown`: the end of a call was lost.
    state: &'static str,
    /// Plugins in the order they began, with their interfaces.
    chain: Vec<LinkBlock>,
    /// The first call that failed.
    failed: Option<FailedBlock>,
}

/// One plugin of a chain.
#[derive(Serialize)]
struct LinkBlock {
    plugin: Arc<str>,
    ifname: Arc<str>,
}

/// The call an attempt failed with.
#[derive(Serialize)]
struct FailedBlock {
    plugin: Arc<str>,
    ifname: Arc<str>,
    exit: ExitBlock,
}

/// Sandboxes without a network first, then the slowest.
pub(super) fn rank(sandbox: &Sandbox) -> (bool, Reverse<u64>, Arc<str>) {
    let ready_ns = sandbox.network_ready_ns();
    (ready_ns.is_some(), Reverse(ready_ns.unwrap_or(0)), sandbox.work.container_id.clone())
}

/// A sandbox's block.
pub(super) fn block(state: &State, sandbox: &Sandbox) -> SandboxBlock {
    let work = &sandbox.work;
    SandboxBlock {
        container_id: work.container_id.clone(),
        namespace: work.pod.namespace.clone(),
        pod: work.pod.name.clone(),
        identity: IdentityBlock::of_cni(work),
        network_ready_ns: sandbox.network_ready_ns(),
        retries: (sandbox.attempts.len() as u64).saturating_sub(1) + sandbox.attempts_dropped,
        attempts: sandbox.attempts.iter().map(|attempt| attempt_block(state, attempt)).collect(),
        del_calls: sandbox.del_calls,
        cut_at_start: sandbox.cut_at_start,
    }
}

fn attempt_block(state: &State, attempt: &Attempt) -> AttemptBlock {
    let link = |(plugin, ifname): &(Arc<str>, Arc<str>)| LinkBlock {
        plugin: plugin.clone(),
        ifname: ifname.clone(),
    };
    AttemptBlock {
        started: Instant::of(state, attempt.started_ns),
        wall_ns: attempt.ended_ns.saturating_sub(attempt.started_ns),
        state: match (attempt.failed.is_some(), attempt.running, attempt.uncertain) {
            (true, ..) => "failed",
            (false, 1.., _) => "running",
            (false, 0, true) => "unknown",
            (false, 0, false) => "succeeded",
        },
        chain: attempt.calls.iter().map(link).collect(),
        failed: attempt.failed.as_ref().map(|(plugin, ifname, status)| FailedBlock {
            plugin: plugin.clone(),
            ifname: ifname.clone(),
            exit: ExitBlock::of(*status),
        }),
    }
}
