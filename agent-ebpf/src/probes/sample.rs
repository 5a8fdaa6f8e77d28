//! What threads are doing when a timer looks, and the record of it; `away` sends the same for those it finds
//! waiting.

use aya_ebpf::{macros::perf_event, programs::PerfEventContext};
use slowpod_ebpf::abi::{
    sample::{Sample, SampleKind},
    settings::Knob,
    threads::Owner,
};

use super::{
    kernel::{OFF_TASK_PID, cgroup_id, comm, current, identity, is_user, now_ns},
    ring::{self, Ring},
    settings,
    stack::{self, Place, Side},
};

/// What a record says beside who and when.
pub struct What {
    pub user_stack: u64,
    pub kernel_stack: u64,
    pub period_ns: u64,
    pub begun_ns: u64,
    pub value_ns: u64,
    pub kind: SampleKind,
    pub cause: u32,
    pub flags: u32,
}

/// Runs at each tick of a CPU's sampling timer.
#[perf_event]
pub fn cpu_sample(ctx: PerfEventContext) -> u32 {
    let task = current();
    // The idle task.
    if OFF_TASK_PID.of(task).unwrap_or(0) == 0 {
        return 0;
    }
    let now = now_ns();
    let period_ns = settings::knob(Knob::SamplePeriodNs);
    let owner =
        Owner { task: identity(task), cgroup_id: cgroup_id(task), comm: comm(task), birth: 0, reserved: 0 };
    let kernel_stack = stack::id(&ctx, Place::TIMER, task, owner.task, Side::Kernel, now);
    let user_stack =
        if is_user(task) { stack::id(&ctx, Place::TIMER, task, owner.task, Side::User, now) } else { 0 };
    send(
        now,
        &owner,
        &What {
            user_stack,
            kernel_stack,
            period_ns,
            begun_ns: now,
            value_ns: period_ns,
            kind: SampleKind::OnCpu,
            cause: 0,
            flags: 0,
        },
    );
    0
}

/// Sends one sample.
#[inline(always)]
pub fn send(now: u64, who: &Owner, what: &What) {
    ring::send::<Sample>(Ring::Samples, |record| {
        // SAFETY: the reserved record, written in full.
        unsafe {
            (*record).header = ring::header::<Sample>(now);
            (*record).task = who.task;
            (*record).cgroup_id = who.cgroup_id;
            (*record).user_stack = what.user_stack;
            (*record).kernel_stack = what.kernel_stack;
            (*record).count = 1;
            (*record).value_ns = what.value_ns;
            (*record).period_ns = what.period_ns;
            (*record).begun_ns = what.begun_ns;
            (*record).kind = what.kind as u32;
            (*record).cause = what.cause;
            (*record).flags = what.flags;
            (*record).reserved = 0;
            (*record).comm = who.comm;
        }
    });
}
