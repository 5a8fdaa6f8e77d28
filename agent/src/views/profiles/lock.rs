//! `lock`: where threads waited for locks: files' (flock, fcntl) and futexes, on which mutexes and condition
//! variables stand.

use super::collect::{Collector, cause_note};
use super::{Kind, Value};
use slowpod_ebpf::abi::sample::SampleKind;
use slowpod_ebpf::abi::split::Cause;

/// The kind.
pub static KIND: Kind = Kind {
    name: "lock",
    about: "Time threads waited for file locks and futexes, by stack. Idle threads of Go programs and of thread pools \
            wait on futexes too: their stacks tell them apart.",
    values: &[Value::count("contentions"), Value::time("delay")],
    default_value: 1,
    period: None,
    sampled: true,
    collect,
};

fn collect(profile: &mut Collector<'_>) {
    let is_lock = |cause: Cause| matches!(cause, Cause::FileLock | Cause::Futex);
    let rows = profile.state().profile.rows();
    for (key, sums) in rows.filter(|(key, _)| key.kind == SampleKind::OffCpu && is_lock(key.cause)) {
        profile.add_wait(key, sums, cause_note(key.cause), key.cause.name());
    }
}
