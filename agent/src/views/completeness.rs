//! The blocks that every answer carries: which window it is about, and what is missing from it.

use crate::decode::Stack;
use crate::decode::fact::{Probe, ProbeState};
use crate::fold::grow::Grow;
use crate::fold::{Snapshot, Window};
use serde::Serialize;
use slowpod_ebpf::abi::stack::FRAMES;
use std::collections::BTreeMap;

/// Which time an answer is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowBlock {
    /// Begin of the window, RFC 3339, UTC; `null` while no clock reading is known.
    pub from: Option<String>,
    /// End of the window.
    pub until: Option<String>,
    /// Its length in seconds.
    pub seconds: f64,
    /// Of it, how much records cover.
    pub covered_seconds: f64,
    /// Begin on the kernel's monotonic clock, nanoseconds.
    pub from_ktime_ns: u64,
    /// End on that clock.
    pub until_ktime_ns: u64,
}

/// What is missing from an answer. All empty or zero: nothing is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CompletenessBlock {
    /// Nothing is missing.
    pub complete: bool,
    /// Records lost, by kind.
    pub lost: BTreeMap<&'static str, u64>,
    /// Happenings that were only counted under flood, by kind; their numbers are in the sums.
    pub counted_only: BTreeMap<&'static str, u64>,
    /// Things cut short, by what.
    pub truncated: BTreeMap<&'static str, u64>,
    /// Records about processes that nothing else told of.
    pub unattributed: u64,
    /// Rows that found no room, by table; and what the flight recorder had dropped.
    pub evicted: BTreeMap<&'static str, u64>,
    /// Probes that are missing or on a lower rung, with the consequence, and other reasons for doubt.
    pub degraded: Vec<String>,
}

/// The window block of a snapshot.
pub fn window(snapshot: &Snapshot) -> WindowBlock {
    let Snapshot { window, state } = snapshot;
    let (from_ns, until_ns) = bounds(window, state.covered);
    // Not one record: the window lies before all there is.
    let covered_from_ns = if state.covered.1 == 0 { until_ns } else { from_ns.max(state.covered.0) };
    let wall = |ktime_ns| state.clock.wall_unix_ns(ktime_ns).map(super::describe::rfc3339);
    WindowBlock {
        from: wall(from_ns),
        until: wall(until_ns),
        seconds: span_s(from_ns, until_ns),
        covered_seconds: span_s(covered_from_ns.min(until_ns), until_ns),
        from_ktime_ns: from_ns,
        until_ktime_ns: until_ns,
    }
}

/// A window's ends as instants: all of a tape is from its first to its last record.
fn bounds(window: &Window, covered: (u64, u64)) -> (u64, u64) {
    let from_ns = if window.from_ns == 0 { covered.0 } else { window.from_ns };
    let until_ns = if window.until_ns == u64::MAX { covered.1 } else { window.until_ns };
    (from_ns, until_ns.max(from_ns))
}

fn span_s(from_ns: u64, until_ns: u64) -> f64 {
    until_ns.saturating_sub(from_ns) as f64 / 1e9
}

/// The completeness block of a snapshot.
pub fn completeness(snapshot: &Snapshot) -> CompletenessBlock {
    let loss = &snapshot.state.loss;
    let mut block = CompletenessBlock {
        lost: loss.dropped.clone(),
        counted_only: loss.counted.clone(),
        unattributed: loss.unattributed,
        evicted: loss.evicted.clone(),
        ..CompletenessBlock::default()
    };
    note(&mut block.lost, "late", loss.late);
    note(&mut block.lost, "garbled", loss.garbled);
    note(&mut block.lost, "program_runs_skipped", loss.skipped);
    note(&mut block.truncated, "argv", loss.argv_cut);
    note(&mut block.truncated, "cni_environment", loss.cni_cut);
    note(&mut block.truncated, "life", loss.ends_swept);
    note(&mut block.truncated, "path", loss.path_cut);
    note(&mut block.truncated, "netlink_walk", loss.netlink_cut);
    note(&mut block.truncated, "split", loss.split_partial);
    let cut = snapshot.state.stacks.iter().filter(|stack| stack.frames.len() >= FRAMES).count();
    note(&mut block.truncated, "stacks", cut as u64);
    let whole = |stack: &Stack| stack.fixed.user == 0 || snapshot.state.symbols.is_whole(stack.fixed.id);
    let broken = snapshot.state.stacks.iter().filter(|stack| stack.frames.len() < FRAMES && !whole(stack));
    note(&mut block.truncated, "stacks_without_frame_pointers", broken.count() as u64);
    let names = &snapshot.state.symbols.loss;
    note(&mut block.truncated, "stack_names_behind", names.dropped);
    note(
        &mut block.truncated,
        "stack_names_process_gone",
        names.processes_gone.saturating_add(names.processes_changed),
    );
    note(&mut block.truncated, "stack_names_untold", names.dangling);
    note(&mut block.evicted, "stack_names", names.evicted);
    note(&mut block.evicted, "recorder_records", loss.recorder_evicted_records);
    for (reason, count) in &loss.misses {
        note(&mut block.truncated, reason, *count);
    }
    let mut blind = false;
    for probe in snapshot.state.probes.values().filter(|probe| probe.state != ProbeState::Attached) {
        let Probe { probe, state, rung, consequence, .. } = probe;
        blind |= !state.is_on();
        block.degraded.push(match state.is_on() {
            true => format!("{probe} is on a lower rung, {rung}"),
            false => format!("{probe} is {}: {consequence}", state.name()),
        });
    }
    let covered = window(snapshot);
    if covered.seconds - covered.covered_seconds > 0.5 {
        let (have, asked) = (covered.covered_seconds, covered.seconds);
        blind = true;
        block.degraded.push(format!("records cover the last {have:.1} of the {asked:.1} seconds asked for"));
    }
    // Short argv and evicted rows are said, but the numbers beside them are whole.
    block.complete = block.lost.is_empty()
        && block.counted_only.is_empty()
        && block.evicted.is_empty()
        && !blind
        && loss.netlink_cut == 0
        && loss.split_partial == 0
        && loss.ends_swept == 0
        && loss.misses.is_empty();
    block
}

fn note(map: &mut BTreeMap<&'static str, u64>, what: &'static str, count: u64) {
    if count > 0 {
        map.entry(what).or_default().grow(count);
    }
}
