//! `offcpu`: where threads were blocked, and why.

use super::collect::{Collector, cause_note};
use super::{Kind, Value};
use slowpod_ebpf::abi::sample::SampleKind;

/// The kind.
pub static KIND: Kind = Kind {
    name: "offcpu",
    about: "Time threads were blocked, by the stack they blocked in and the cause. A wait that goes on counts up to the \
            window's end. Waits below 1 ms are a row of their own for each process older than a second. Time in run queues \
            is `sched`.",
    values: &[Value::count("waits"), Value::time("blocked")],
    default_value: 1,
    period: None,
    sampled: true,
    collect,
};

fn collect(profile: &mut Collector<'_>) {
    for (key, sums) in profile.state().profile.rows().filter(|(key, _)| key.kind == SampleKind::OffCpu) {
        profile.add_wait(key, sums, cause_note(key.cause), key.cause.name());
    }
    profile.add_short_waits(SampleKind::OffCpu, "[blocked: waits below 1 ms]");
}
