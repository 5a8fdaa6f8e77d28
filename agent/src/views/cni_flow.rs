//! CNI calls over time: how many ADDs at once, pods coming and going. In: calls. Out: equal steps of the window.

use super::describe::Instant;
use crate::fold::State;
use crate::fold::cni::Call;
use serde::Serialize;

/// Steps of an answer: one a second for a minute's window.
const STEPS: u64 = 60;

/// Calls over time. Delegated plugins are part of their parents and do not count.
#[derive(Serialize)]
pub(super) struct FlowBlock {
    /// Most plugins at once that did an ADD.
    peak_adds: u64,
    /// Length of a step.
    step_ns: u64,
    steps: Vec<Step>,
}

/// One step.
#[derive(Serialize)]
struct Step {
    start: Instant,
    /// ADD calls that began.
    adds: u64,
    /// DEL calls that began; a sandbox has several.
    dels: u64,
    /// Sandboxes whose first ADD in the window began.
    arrivals: u64,
    /// Sandboxes whose first DEL in the window began.
    departures: u64,
    /// Most ADD calls at once.
    peak_adds: u64,
}

/// The flow of these calls between two instants.
pub(super) fn block(state: &State, calls: &[&Call], from_ns: u64, until_ns: u64) -> FlowBlock {
    let own: Vec<&&Call> = calls.iter().filter(|call| !call.is_delegated()).collect();
    let step_ns = until_ns.saturating_sub(from_ns).div_ceil(STEPS).max(1);
    let count = until_ns.saturating_sub(from_ns).div_ceil(step_ns).min(STEPS);
    let mut steps: Vec<Step> = (0..count)
        .map(|step| Step {
            start: Instant::of(state, from_ns + step * step_ns),
            adds: 0,
            dels: 0,
            arrivals: 0,
            departures: 0,
            peak_adds: 0,
        })
        .collect();
    if steps.is_empty() {
        return FlowBlock { peak_adds: 0, step_ns, steps };
    }
    let last = steps.len() - 1;
    let at = |ktime_ns: u64| ((ktime_ns.saturating_sub(from_ns) / step_ns) as usize).min(last);
    for (command, is_add) in [("ADD", true), ("DEL", false)] {
        let mut started: Vec<(&str, u64)> = own
            .iter()
            .filter(|call| &*call.work.command == command && call.started_ns >= from_ns)
            .map(|call| (&*call.work.container_id, call.started_ns))
            .collect();
        started.sort_unstable();
        let mut before = None;
        for (sandbox, started_ns) in started {
            let step = &mut steps[at(started_ns)];
            let first = u64::from(before != Some(sandbox));
            let (calls, sandboxes) = if is_add {
                (&mut step.adds, &mut step.arrivals)
            } else {
                (&mut step.dels, &mut step.departures)
            };
            *calls += 1;
            *sandboxes += first;
            before = Some(sandbox);
        }
    }
    let adds = own.iter().filter(|call| &*call.work.command == "ADD" && !call.end_lost);
    // An end goes before a start at the same instant: the two were not there at once.
    let mut changes: Vec<(u64, i64)> = adds
        .flat_map(|call| {
            let end = call.end.as_ref().map(|end| (end.ended_ns, -1));
            [Some((call.started_ns.max(from_ns), 1)), end].into_iter().flatten()
        })
        .collect();
    changes.sort_unstable();
    peaks(&changes, &mut steps, at);
    FlowBlock { peak_adds: steps.iter().map(|step| step.peak_adds).max().unwrap_or(0), step_ns, steps }
}

/// Puts the most calls at once into each step.
fn peaks(changes: &[(u64, i64)], steps: &mut [Step], at: impl Fn(u64) -> usize) {
    let (mut alive, mut reached) = (0_i64, 0);
    for (ktime_ns, change) in changes {
        let step = at(*ktime_ns);
        // What was alive goes on through the steps in between.
        for between in &mut steps[reached..=step] {
            between.peak_adds = between.peak_adds.max(alive.max(0) as u64);
        }
        reached = step;
        alive += change;
        steps[step].peak_adds = steps[step].peak_adds.max(alive.max(0) as u64);
    }
    for after in &mut steps[reached..] {
        after.peak_adds = after.peak_adds.max(alive.max(0) as u64);
    }
}
