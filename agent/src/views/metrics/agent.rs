//! Metrics of the agent itself: what it watches with, what it lost, what it holds and what it costs.

use super::{Input, text::Rows};
use crate::pipeline::ProgramCost;
use crate::views::health;
use slowpod_ebpf::abi::{Kind, Miss};
use std::collections::BTreeMap;

/// Label value for records whose kind is not known.
const ANY_KIND: &str = "any";

pub(super) fn build_info(input: &Input<'_>, rows: &mut Rows) {
    let node = &input.pulse.node;
    rows.add(&[env!("CARGO_PKG_VERSION"), &node.node_name, &node.kernel_release], 1.0);
}

pub(super) fn ready(input: &Input<'_>, rows: &mut Rows) {
    rows.add(&[], f64::from(u8::from(health::readiness(input.pulse, input.now_ns).ready)));
}

pub(super) fn probes(input: &Input<'_>, rows: &mut Rows) {
    for probe in &input.pulse.probes {
        let rung = if probe.rung.is_empty() { "none" } else { &probe.rung };
        rows.add(&[&probe.probe, rung, probe.state.name()], f64::from(u8::from(probe.state.is_on())));
    }
}

/// A count per kind, from the first page on, so that rates have a start.
fn by_kind(rows: &mut Rows, counts: &BTreeMap<&'static str, u64>) {
    for kind in Kind::ALL {
        rows.count(&[kind.name()], counts.get(kind.name()).copied().unwrap_or(0));
    }
}

pub(super) fn received(input: &Input<'_>, rows: &mut Rows) {
    by_kind(rows, &input.pulse.loss.received);
}

pub(super) fn counted(input: &Input<'_>, rows: &mut Rows) {
    by_kind(rows, &input.pulse.loss.counted);
}

pub(super) fn lost(input: &Input<'_>, rows: &mut Rows) {
    let loss = &input.pulse.loss;
    let zeros = Kind::ALL.into_iter().map(|kind| (kind.name(), 0));
    for (kind, count) in zeros.chain(loss.dropped.iter().map(|(kind, count)| (*kind, *count))) {
        rows.count(&[kind, "ring_full"], count);
    }
    rows.count(&[ANY_KIND, "late"], loss.late);
    rows.count(&[ANY_KIND, "garbled"], loss.garbled);
}

pub(super) fn unattributed(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.pulse.loss.unattributed);
}

pub(super) fn truncated(input: &Input<'_>, rows: &mut Rows) {
    let loss = &input.pulse.loss;
    rows.count(&["argv"], loss.argv_cut);
    rows.count(&["path"], loss.path_cut);
    rows.count(&["netlink_walk"], loss.netlink_cut);
    rows.count(&["split"], loss.split_partial);
    rows.count(&["stack"], input.pulse.symbols.cut);
    rows.count(&["stack_without_frame_pointers"], input.pulse.symbols.no_frame_pointers);
}

pub(super) fn ends_swept(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.pulse.loss.ends_swept);
}

pub(super) fn happenings(input: &Input<'_>, rows: &mut Rows) {
    for (kind, tally) in &input.pulse.kernel.tallies {
        rows.count(&[kind], tally.seen);
    }
}

pub(super) fn misses(input: &Input<'_>, rows: &mut Rows) {
    let zeros = Miss::ALL.into_iter().map(|miss| (miss.name(), 0));
    for (reason, count) in
        zeros.chain(input.pulse.loss.misses.iter().map(|(reason, count)| (*reason, *count)))
    {
        rows.count(&[reason], count);
    }
}

pub(super) fn overflow(input: &Input<'_>, rows: &mut Rows) {
    let totals = &input.pulse.totals;
    rows.count(&["spawns"], totals.spawns.overflowed);
    rows.count(&["exec_failures"], totals.exec_fails.overflowed);
    rows.count(&["netlink"], totals.netlink.overflowed);
    rows.count(&["cni_calls"], totals.cni.calls.overflowed);
    rows.count(&["sync_loops"], totals.loops.overflowed);
    rows.count(&["pods"], totals.run_queue.pods.overflowed);
}

pub(super) fn table_rows(input: &Input<'_>, rows: &mut Rows) {
    for (table, (used, _)) in &input.pulse.tables {
        rows.count(&[table], *used as u64);
    }
}

pub(super) fn table_rows_max(input: &Input<'_>, rows: &mut Rows) {
    for (table, (_, allowed)) in &input.pulse.tables {
        rows.count(&[table], *allowed as u64);
    }
}

pub(super) fn recorder_bytes(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.pulse.recorder.bytes as u64);
}

pub(super) fn recorder_bytes_max(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.pulse.recorder.bytes_max as u64);
}

pub(super) fn recorder_span(input: &Input<'_>, rows: &mut Rows) {
    rows.time(&[], input.pulse.recorder.span_ns);
}

pub(super) fn recorder_evicted(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.pulse.loss.recorder_evicted_bytes);
}

pub(super) fn ring_high_water(input: &Input<'_>, rows: &mut Rows) {
    for (ring, (high_water_bytes, _)) in &input.pulse.kernel.rings {
        rows.count(&[ring], *high_water_bytes);
    }
}

pub(super) fn ring_size(input: &Input<'_>, rows: &mut Rows) {
    for (ring, (_, size_bytes)) in &input.pulse.kernel.rings {
        rows.count(&[ring], *size_bytes);
    }
}

pub(super) fn symbol_stacks(input: &Input<'_>, rows: &mut Rows) {
    let counts = &input.pulse.kernel.symbols;
    rows.count(&["looked_at"], counts.stacks);
    rows.count(&["dropped"], counts.dropped);
    rows.count(&["process_gone"], counts.processes_gone);
    rows.count(&["fault"], counts.faults);
}

pub(super) fn symbol_frames(input: &Input<'_>, rows: &mut Rows) {
    let counts = &input.pulse.kernel.symbols;
    rows.count(&["yes"], counts.frames.saturating_sub(counts.unknown_frames));
    rows.count(&["no"], counts.unknown_frames);
}

pub(super) fn symbol_files(input: &Input<'_>, rows: &mut Rows) {
    let counts = &input.pulse.kernel.symbols;
    rows.count(&["read"], counts.files_read);
    rows.count(&["refused"], counts.files_refused);
    rows.count(&["flawed"], counts.files_flawed);
    rows.count(&["lines_put_off"], counts.lines_left_out);
}

pub(super) fn symbol_evicted(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.pulse.kernel.symbols.evicted);
}

pub(super) fn symbol_bytes(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.pulse.kernel.symbols.held_bytes);
}

pub(super) fn symbol_busy(input: &Input<'_>, rows: &mut Rows) {
    rows.time(&[], input.pulse.kernel.symbols.busy_ns);
}

pub(super) fn unwind_tables(input: &Input<'_>, rows: &mut Rows) {
    let counts = &input.pulse.kernel.symbols.unwind;
    rows.count(&["made"], counts.made);
    rows.count(&["flawed"], counts.flawed);
    rows.count(&["refused"], counts.refused);
    rows.count(&["fault"], counts.faults);
}

pub(super) fn unwind_processes(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.pulse.kernel.symbols.unwind.processes);
}

pub(super) fn unwind_bytes(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.pulse.kernel.symbols.unwind.kernel_bytes);
}

pub(super) fn unwind_busy(input: &Input<'_>, rows: &mut Rows) {
    rows.time(&[], input.pulse.kernel.symbols.unwind.busy_ns);
}

pub(super) fn program_runs(input: &Input<'_>, rows: &mut Rows) {
    for ProgramCost { program, runs, .. } in &input.pulse.kernel.programs {
        rows.count(&[program], *runs);
    }
}

pub(super) fn program_skips(input: &Input<'_>, rows: &mut Rows) {
    for ProgramCost { program, skipped, .. } in &input.pulse.kernel.programs {
        rows.count(&[program], *skipped);
    }
}

pub(super) fn program_run_time(input: &Input<'_>, rows: &mut Rows) {
    for ProgramCost { program, run_ns, .. } in &input.pulse.kernel.programs {
        rows.time(&[program], *run_ns);
    }
}

pub(super) fn own_cpu(input: &Input<'_>, rows: &mut Rows) {
    rows.add(&[], input.own.cpu_s);
}

pub(super) fn own_memory(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.own.resident_bytes);
}

pub(super) fn own_fds(input: &Input<'_>, rows: &mut Rows) {
    rows.count(&[], input.own.open_fds);
}

pub(super) fn own_start(input: &Input<'_>, rows: &mut Rows) {
    rows.add(&[], input.own.start_unix_s);
}
