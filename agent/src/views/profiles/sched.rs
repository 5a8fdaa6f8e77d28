//! `sched`: where threads were ready and waited for a CPU. What Go calls scheduler latency, for any process.

use super::collect::Collector;
use super::{Kind, Value};
use slowpod_ebpf::abi::sample::SampleKind;

/// The kind.
pub static KIND: Kind = Kind {
    name: "sched",
    about: "Time threads were ready and waited for a CPU, by the stack they were in: woken, or taken off the CPU before \
            they were done (preempted). Waits below 1 ms are a row of their own for each process older than a second.",
    values: &[Value::count("waits"), Value::time("runnable")],
    default_value: 1,
    period: None,
    sampled: true,
    collect,
};

fn collect(profile: &mut Collector<'_>) {
    for (key, sums) in profile.state().profile.rows().filter(|(key, _)| key.kind == SampleKind::RunQueue) {
        let (note, cause) = if key.preempted {
            ("[runnable: preempted]", "preempted")
        } else {
            ("[runnable: woken]", "woken")
        };
        profile.add_wait(key, sums, note, cause);
    }
    profile.add_short_waits(SampleKind::RunQueue, "[runnable: waits below 1 ms]");
}
