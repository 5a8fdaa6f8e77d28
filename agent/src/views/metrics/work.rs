//! Metrics of the node's daemons: what they spawn, how their time went, what they send; and of CNI calls.

use super::{Input, text::Rows};
use crate::fold::netlink::MessageSums;
use crate::fold::pods::phases::Phase;
use crate::fold::totals::SpawnTotals;
use slowpod_ebpf::abi::split::Cause;

fn each_spawn(input: &Input<'_>, mut put: impl FnMut(&[&str], &SpawnTotals)) {
    for (daemon, class, totals) in input.pulse.totals.spawns.rows() {
        put(&[daemon, class], totals);
    }
}

pub(super) fn spawns(input: &Input<'_>, rows: &mut Rows) {
    each_spawn(input, |labels, totals| rows.count(labels, totals.spawns));
}

pub(super) fn spawn_failures(input: &Input<'_>, rows: &mut Rows) {
    each_spawn(input, |labels, totals| rows.count(labels, totals.failed));
}

pub(super) fn spawn_wall(input: &Input<'_>, rows: &mut Rows) {
    each_spawn(input, |labels, totals| rows.time(labels, totals.wall_ns));
}

pub(super) fn spawn_on_cpu(input: &Input<'_>, rows: &mut Rows) {
    each_spawn(input, |labels, totals| rows.time(labels, totals.split.on_cpu_ns));
}

pub(super) fn spawn_runnable(input: &Input<'_>, rows: &mut Rows) {
    each_spawn(input, |labels, totals| rows.time(labels, totals.split.runnable_ns));
}

/// By daemon, over its classes: classes times causes would be too many rows. A daemon has all causes from
/// its first spawn on, so that rates have a start.
pub(super) fn spawn_blocked(input: &Input<'_>, rows: &mut Rows) {
    for (daemon, _, totals) in input.pulse.totals.spawns.rows() {
        for cause in Cause::ALL {
            rows.time(&[daemon, cause.name()], totals.split.blocked_ns[cause as usize]);
        }
    }
}

pub(super) fn exec_failures(input: &Input<'_>, rows: &mut Rows) {
    for (daemon, error, count) in input.pulse.totals.exec_fails.rows() {
        rows.count(&[daemon, error], *count);
    }
}

pub(super) fn loop_durations(input: &Input<'_>, rows: &mut Rows) {
    for (daemon, _, loops) in input.pulse.totals.loops.rows() {
        rows.durations(&[daemon], loops);
    }
}

pub(super) fn loop_busy(input: &Input<'_>, rows: &mut Rows) {
    for (daemon, _, loops) in input.pulse.totals.loops.rows() {
        rows.time(&[daemon], loops.busy_ns);
    }
}

fn each_message(input: &Input<'_>, mut put: impl FnMut(&[&str], &MessageSums)) {
    for (sender, message, sums) in input.pulse.totals.netlink.rows() {
        put(&[sender, message], sums);
    }
}

pub(super) fn netlink_messages(input: &Input<'_>, rows: &mut Rows) {
    each_message(input, |labels, sums| rows.count(labels, sums.messages));
}

pub(super) fn netlink_bytes(input: &Input<'_>, rows: &mut Rows) {
    each_message(input, |labels, sums| rows.count(labels, sums.bytes));
}

pub(super) fn netlink_inside(input: &Input<'_>, rows: &mut Rows) {
    each_message(input, |labels, sums| rows.time(labels, sums.inside_ns));
}

pub(super) fn netlink_refused(input: &Input<'_>, rows: &mut Rows) {
    each_message(input, |labels, sums| rows.count(labels, sums.refused));
}

pub(super) fn cni_durations(input: &Input<'_>, rows: &mut Rows) {
    for (command, plugin, durations) in input.pulse.totals.cni.calls.rows() {
        rows.durations(&[command, plugin], durations);
    }
}

pub(super) fn cni_failed(input: &Input<'_>, rows: &mut Rows) {
    for (command, plugin, failed) in input.pulse.totals.cni.failed.rows() {
        rows.count(&[command, plugin], *failed);
    }
}

pub(super) fn cni_errors(input: &Input<'_>, rows: &mut Rows) {
    for (plugin, code, errors) in input.pulse.totals.cni.errors.rows() {
        rows.count(&[plugin, code], *errors);
    }
}

pub(super) fn cni_conflicts(input: &Input<'_>, rows: &mut Rows) {
    for (plugin, _, conflicts) in input.pulse.totals.cni.conflicts.rows() {
        rows.count(&[plugin], *conflicts);
    }
}

pub(super) fn cni_in_flight(input: &Input<'_>, rows: &mut Rows) {
    for ((command, plugin), count) in &input.pulse.cni_in_flight {
        rows.count(&[command, plugin], *count);
    }
}

/// There from the first scrape on, so that rates have a start.
pub(super) fn cni_ready(input: &Input<'_>, rows: &mut Rows) {
    rows.durations(&[], &input.pulse.totals.cni.network_ready);
}

/// There from the first scrape on, so that rates have a start.
pub(super) fn pod_starts(input: &Input<'_>, rows: &mut Rows) {
    rows.durations(&[], &input.pulse.totals.pods.start);
}

pub(super) fn pod_phases(input: &Input<'_>, rows: &mut Rows) {
    for (phase, durations) in Phase::ALL.into_iter().zip(&input.pulse.totals.pods.phases) {
        rows.durations(&[phase.name()], durations);
    }
}
/// There from the first scrape on, as all of the node's.
pub(super) fn run_queue(input: &Input<'_>, rows: &mut Rows) {
    rows.waits(&[], &input.pulse.totals.run_queue.node);
}

pub(super) fn pod_run_queue(input: &Input<'_>, rows: &mut Rows) {
    for (namespace, pod, waits) in input.pulse.totals.run_queue.pods.rows() {
        rows.waits(&[namespace, pod], waits);
    }
}

/// Every pod that ran is there, so that rates have a start.
pub(super) fn pod_throttled(input: &Input<'_>, rows: &mut Rows) {
    let totals = &input.pulse.totals.run_queue;
    for (namespace, pod, _) in totals.pods.rows() {
        rows.time(&[namespace, pod], 0);
    }
    for (namespace, pod, throttled) in totals.throttled.rows() {
        rows.time(&[namespace, pod], throttled.ns());
    }
}

pub(super) fn cpu_pressure(input: &Input<'_>, rows: &mut Rows) {
    rows.time(&[], input.pulse.totals.run_queue.pressure_ns);
}
