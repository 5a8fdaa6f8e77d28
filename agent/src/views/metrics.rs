//! `/metrics`: sums since the start, and what the agent itself costs and loses. In: a [`Pulse`] and the
//! process's own cost. Out: Prometheus text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! [`METRICS`] is the one list of names, types, labels and help; the dashboard and the rules are checked
//! against it. Labels are bounded and are never a pid or a UID.

mod agent;
mod text;
mod work;

use crate::pipeline::Pulse;
use Kind::{Counter, Gauge, Histogram};
use text::Rows;

/// MIME type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Type of a metric, in Prometheus's sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound, with their sum.
    Histogram,
}

/// One metric.
pub struct Metric {
    /// Its name, with unit and suffix.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it means, as one sentence.
    pub help: &'static str,
    /// Puts its rows.
    collect: fn(&Input<'_>, &mut Rows),
}

/// What metrics are made of.
struct Input<'a> {
    pulse: &'a Pulse,
    own: &'a OwnCost,
    now_ns: u64,
}

/// What the agent's process costs, as the kernel accounts it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnCost {
    /// CPU time, user and system, seconds.
    pub cpu_s: f64,
    /// Memory held, bytes.
    pub resident_bytes: u64,
    /// File descriptors open.
    pub open_fds: u64,
    /// When it started, seconds since 1970.
    pub start_unix_s: f64,
}

/// Renders all metrics at `now_ns` on the kernel's monotonic clock.
pub fn render(pulse: &Pulse, own: &OwnCost, now_ns: u64) -> String {
    let input = Input { pulse, own, now_ns };
    let mut out = String::with_capacity(32 << 10);
    for metric in METRICS {
        let mut rows = Rows::new(metric.labels.len());
        (metric.collect)(&input, &mut rows);
        text::write(&mut out, metric, &rows);
    }
    out
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    collect: fn(&Input<'_>, &mut Rows),
) -> Metric {
    Metric { name, kind, labels, help, collect }
}

/// Every metric, in the order they are shown.
#[rustfmt::skip] // One metric is two lines here; as blocks of seven the table would not be one.
pub const METRICS: &[Metric] = &[
    metric("slowpod_build_info", Gauge, &["version", "node", "kernel_release"],
        "Always 1; its labels say which agent runs where.", agent::build_info),
    metric("slowpod_ready", Gauge, &[],
        "1 while the agent can answer, as /readyz says.", agent::ready),
    metric("slowpod_probe_attached", Gauge, &["probe", "rung", "state"],
        "1 for a probe that is in use, 0 for one that could not be had.", agent::probes),

    metric("slowpod_spawns_total", Counter, &["daemon", "argv_class"],
        "Processes spawned by a daemon that have ended, those only counted under flood included.", work::spawns),
    metric("slowpod_spawn_failures_total", Counter, &["daemon", "argv_class"],
        "Of the spawns, those that did not end with exit code 0.", work::spawn_failures),
    metric("slowpod_spawn_wall_seconds_total", Counter, &["daemon", "argv_class"],
        "Wall time of the spawns, from fork to exit.", work::spawn_wall),
    metric("slowpod_spawn_on_cpu_seconds_total", Counter, &["daemon", "argv_class"],
        "Time the spawns were on a CPU, all their threads.", work::spawn_on_cpu),
    metric("slowpod_spawn_runnable_seconds_total", Counter, &["daemon", "argv_class"],
        "Time the spawns waited in a run queue, all their threads.", work::spawn_runnable),
    metric("slowpod_spawn_blocked_seconds_total", Counter, &["daemon", "cause"],
        "Time the spawns were blocked, all their threads, by what they waited for.", work::spawn_blocked),
    metric("slowpod_exec_failures_total", Counter, &["daemon", "error"],
        "Execs that failed; a search through PATH makes one per directory.", work::exec_failures),

    metric("slowpod_sync_loop_duration_seconds", Histogram, &["daemon"],
        "Length of a daemon's sync loops that have ended, first spawn to last activity.", work::loop_durations),
    metric("slowpod_sync_loop_busy_seconds_total", Counter, &["daemon"],
        "Of the sync loops, the time in which at least one child was alive.", work::loop_busy),

    metric("slowpod_cni_call_duration_seconds", Histogram, &["command", "plugin"],
        "Wall time of CNI plugin processes that have ended, delegated ones included.", work::cni_durations),
    metric("slowpod_cni_calls_failed_total", Counter, &["command", "plugin"],
        "Of the CNI calls, those that did not end with exit code 0.", work::cni_failed),
    metric("slowpod_cni_errors_total", Counter, &["plugin", "code"],
        "CNI errors in the plugins' own words, by their code.", work::cni_errors),
    metric("slowpod_cni_conflicts_total", Counter, &["plugin"],
        "Of the CNI errors, those because someone else changed the object first (HTTP 409).", work::cni_conflicts),
    metric("slowpod_cni_in_flight", Gauge, &["command", "plugin"],
        "CNI calls running now.", work::cni_in_flight),
    metric("slowpod_cni_network_ready_seconds", Histogram, &[],
        "Per sandbox, from its first ADD attempt's start to its first success's end, retries included.", work::cni_ready),

    metric("slowpod_pod_start_seconds", Histogram, &[],
        "Starts of pods that were seen whole, from the pod's cgroup to its first container's program.", work::pod_starts),
    metric("slowpod_pod_start_phase_seconds", Histogram, &["phase"],
        "The same by phase; the phases of a start add up to it.", work::pod_phases),

    metric("slowpod_netlink_messages_total", Counter, &["sender", "message"],
        "Netlink messages sent.", work::netlink_messages),
    metric("slowpod_netlink_bytes_total", Counter, &["sender", "message"],
        "Bytes of the netlink sends that carried them.", work::netlink_bytes),
    metric("slowpod_netlink_inside_seconds_total", Counter, &["sender", "message"],
        "Time inside the netlink send calls.", work::netlink_inside),
    metric("slowpod_netlink_refused_total", Counter, &["sender", "message"],
        "Netlink requests that the kernel answered with an error.", work::netlink_refused),

    metric("slowpod_run_queue_wait_seconds", Histogram, &[],
        "How long threads that were ready waited for a CPU, one wait per switch to a thread.", work::run_queue),
    metric("slowpod_pod_run_queue_wait_seconds", Histogram, &["namespace", "pod"],
        "The same for the threads of a pod.", work::pod_run_queue),
    metric("slowpod_pod_cpu_throttled_seconds_total", Counter, &["namespace", "pod"],
        "How long a pod's own CPU quota withheld CPUs from it, all of them together.", work::pod_throttled),
    metric("slowpod_cpu_pressure_seconds_total", Counter, &[],
        "Time in which some thread of the node waited for a CPU, by the kernel's pressure accounting.", work::cpu_pressure),

    metric("slowpod_records_received_total", Counter, &["kind"],
        "Records that came in.", agent::received),
    metric("slowpod_records_lost_total", Counter, &["kind", "reason"],
        "Records lost: the kernel's ring was full, they came too late to be ordered, or were garbled.", agent::lost),
    metric("slowpod_records_counted_total", Counter, &["kind"],
        "Happenings that were only counted, on purpose, under flood.", agent::counted),
    metric("slowpod_records_unattributed_total", Counter, &[],
        "Records about processes that nothing else told of.", agent::unattributed),
    metric("slowpod_records_truncated_total", Counter, &["what"],
        "Records of which a part was cut or could not be read.", agent::truncated),
    metric("slowpod_ends_swept_total", Counter, &[],
        "Processes found gone whose end was never seen.", agent::ends_swept),
    metric("slowpod_kernel_happenings_total", Counter, &["kind"],
        "Happenings that the kernel programs saw and meant to report.", agent::happenings),
    metric("slowpod_kernel_table_misses_total", Counter, &["reason"],
        "What tables in the kernel could not hold, or programs could not read.", agent::misses),
    metric("slowpod_label_overflow_total", Counter, &["table"],
        "Times a row of metrics found no room of its own and was added to the row called other.", agent::overflow),
    metric("slowpod_table_rows", Gauge, &["table"],
        "Rows in use in the agent's tables.", agent::table_rows),
    metric("slowpod_table_rows_max", Gauge, &["table"],
        "Rows the agent's tables can hold.", agent::table_rows_max),
    metric("slowpod_flight_recorder_bytes", Gauge, &[],
        "Bytes of records kept for look-back.", agent::recorder_bytes),
    metric("slowpod_flight_recorder_bytes_max", Gauge, &[],
        "Bytes the flight recorder may keep.", agent::recorder_bytes_max),
    metric("slowpod_flight_recorder_span_seconds", Gauge, &[],
        "How far back one can look.", agent::recorder_span),
    metric("slowpod_flight_recorder_evicted_bytes_total", Counter, &[],
        "Bytes of records dropped before their time, to stay in bounds.", agent::recorder_evicted),
    metric("slowpod_ring_high_water_bytes", Gauge, &["ring"],
        "Most bytes seen waiting in a ring between kernel and agent.", agent::ring_high_water),
    metric("slowpod_ring_size_bytes", Gauge, &["ring"],
        "Bytes a ring between kernel and agent holds.", agent::ring_size),
    metric("slowpod_symbol_stacks_total", Counter, &["outcome"],
        "Stacks that were to be named: looked at, dropped since too many came at once, or of processes that were gone.", agent::symbol_stacks),
    metric("slowpod_symbol_frames_total", Counter, &["named"],
        "Frames of the stacks that were looked at, by whether they have a name.", agent::symbol_frames),
    metric("slowpod_symbol_files_total", Counter, &["outcome"],
        "Programs and libraries whose symbols were wanted: read, refused (no plain file), flawed, or named without lines as reading these took too long.", agent::symbol_files),
    metric("slowpod_symbol_tables_evicted_total", Counter, &[],
        "Symbol tables that had to make room for others.", agent::symbol_evicted),
    metric("slowpod_symbol_bytes", Gauge, &[],
        "Memory held for symbols.", agent::symbol_bytes),
    metric("slowpod_symbol_busy_seconds_total", Counter, &[],
        "Time spent naming stacks, on a thread of its own.", agent::symbol_busy),
    metric("slowpod_unwind_tables_total", Counter, &["outcome"],
        "Tables for stacks of programs without frame pointers: made, of flawed descriptions, refused for want of room, or failed.", agent::unwind_tables),
    metric("slowpod_unwind_processes", Gauge, &[],
        "Processes whose stacks are walked by tables.", agent::unwind_processes),
    metric("slowpod_unwind_bytes", Gauge, &[],
        "Memory of the kernel held for these tables.", agent::unwind_bytes),
    metric("slowpod_unwind_busy_seconds_total", Counter, &[],
        "Time spent making them, on a thread of its own.", agent::unwind_busy),
    metric("slowpod_program_runs_total", Counter, &["program"],
        "Runs of a kernel program, while kernel.bpf_stats_enabled is set.", agent::program_runs),
    metric("slowpod_program_run_seconds_total", Counter, &["program"],
        "Time inside a kernel program, while kernel.bpf_stats_enabled is set.", agent::program_run_time),

    metric("slowpod_program_skips_total", Counter, &["program"],
        "Times the kernel skipped a program because it was already running on that CPU: what it would have seen is lost.",
        agent::program_skips),

    metric("process_cpu_seconds_total", Counter, &[],
        "CPU time of the agent itself, user and system.", agent::own_cpu),
    metric("process_resident_memory_bytes", Gauge, &[],
        "Memory of the agent itself.", agent::own_memory),
    metric("process_open_fds", Gauge, &[],
        "File descriptors the agent has open.", agent::own_fds),
    metric("process_start_time_seconds", Gauge, &[],
        "When the agent started, in seconds since 1970.", agent::own_start),
];

#[cfg(test)]
mod tests;
