//! `profile`: where threads ran, as timer ticks found them. All threads of all processes, user and kernel code.

use super::collect::{About, Collector};
use super::{Kind, Value};
use slowpod_ebpf::abi::sample::SampleKind;

/// The kind. Named as Go names it: `go tool pprof` asks for `/debug/pprof/profile`.
pub static KIND: Kind = Kind {
    name: "profile",
    about: "CPU time of all threads, user and kernel, as timer ticks found them. Each sample weighs the time its tick \
            stands for, so that rates may change within a window.",
    values: &[Value::count("samples"), Value::time("cpu")],
    default_value: 1,
    period: Some(Value::time("cpu")),
    sampled: true,
    collect,
};

fn collect(profile: &mut Collector<'_>) {
    for (key, sums) in profile.state().profile.rows().filter(|(key, _)| key.kind == SampleKind::OnCpu) {
        let Some(owner) = profile.process(key.process) else { continue };
        profile.period(sums.ns / sums.count.max(1));
        let thread = key.thread();
        let about = About {
            owner,
            thread: Some(&thread),
            user_stack: key.user_stack,
            kernel_stack: key.kernel_stack,
            ..About::default()
        };
        profile.without_any_stack(&about);
        profile.add(&about, [sums.count, sums.ns, 0]);
    }
}
