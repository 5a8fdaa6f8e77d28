//! Where threads spend their time: one program on `sched_switch`, and the wake-up hook of the second rung.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use slowpod_ebpf::abi::split::CAUSES;
use slowpod_ebpf::rules::verifier::at_most;

use super::{
    blocked, exit,
    kernel::{
        OFF_CFS_RQ_RQ, OFF_RQ_CLOCK, OFF_TASK_CFS_RQ, OFF_TASK_LAST_QUEUED, OFF_TASK_PID, OFF_TASK_RUN_DELAY,
        OFF_TASK_STATE, TaskStruct, address, now_ns,
    },
    settings,
    tables::{self, BLOCKED, ON_CPU, RUNNABLE, TaskRow},
};

/// `TASK_DEAD` of `linux/sched.h`: the thread leaves the CPU for the last time.
const TASK_DEAD: u32 = 0x80;

/// Runs at every context switch of the machine, so the way through for an untracked thread comes first:
/// two loads and one failed look-up.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let prev: *const TaskStruct = ctx.arg(1);
    let next: *const TaskStruct = ctx.arg(2);
    let Some(running) = tables::running() else { return 0 };
    let mut now = 0;
    if *running != 0 {
        let key = *running;
        *running = 0;
        // A thread tracked by a program that did not get to set the slot is put right when it comes back.
        if key == address(prev) {
            now = now_ns();
            leave(&ctx, prev, key, now);
        }
    }
    // The idle task has pid 0.
    if OFF_TASK_PID.of(next).unwrap_or(0) == 0 {
        return 0;
    }
    let key = address(next);
    if let Some(row) = tables::task(key) {
        if now == 0 {
            now = now_ns();
        }
        enter(row, next, now);
        *running = key;
    }
    0
}

/// `prev` leaves the CPU.
#[inline(always)]
fn leave(ctx: &BtfTracePointContext, prev: *const TaskStruct, key: u64, now: u64) {
    let Some(row) = tables::task(key) else { return };
    row.split.on_cpu_ns += now.wrapping_sub(row.since_ns);
    row.since_ns = now;
    let state = if settings::SET_SWITCH_HAS_STATE.load() != 0 {
        ctx.arg::<u32>(3)
    } else {
        OFF_TASK_STATE.of(prev).unwrap_or(0)
    };
    if state & TASK_DEAD != 0 {
        exit::thread_ended(prev, key, row, now);
        return;
    }
    let preempted = ctx.arg::<u8>(0) != 0;
    if preempted || state == 0 {
        row.state = RUNNABLE;
        return;
    }
    row.state = BLOCKED;
    row.cause = blocked::cause(prev) as u32;
    row.queue_mark_ns = match settings::SET_USE_SCHED_INFO.load() {
        0 => 0,
        _ => OFF_TASK_RUN_DELAY.of(prev).unwrap_or(0),
    };
}

/// `next` gets the CPU.
#[inline(always)]
fn enter(row: &mut TaskRow, next: *const TaskStruct, now: u64) {
    let away = now.wrapping_sub(row.since_ns);
    let queued = if row.state == BLOCKED { at_most(queued_ns(row, next, now), away) } else { away };
    row.split.runnable_ns += queued;
    let cause = at_most(u64::from(row.cause), CAUSES as u64 - 1) as usize;
    row.split.blocked_ns[cause] += away.wrapping_sub(queued);
    row.since_ns = now;
    row.state = ON_CPU;
}

/// How long a thread that had blocked was ready before it got the CPU.
#[inline(always)]
fn queued_ns(row: &TaskRow, next: *const TaskStruct, now: u64) -> u64 {
    match settings::SET_USE_SCHED_INFO.load() {
        0 => match row.queue_mark_ns {
            0 => 0,
            woken => now.wrapping_sub(woken),
        },
        _ => sched_info_queued_ns(row, next).unwrap_or(0),
    }
}

/// The kernel's own account, which needs no wake-up hook: waits that ended when the thread was moved to
/// another run queue (`run_delay`), and the one that ends now.
#[inline(always)]
fn sched_info_queued_ns(row: &TaskRow, next: *const TaskStruct) -> Option<u64> {
    let moved = OFF_TASK_RUN_DELAY.of(next)?.wrapping_sub(row.queue_mark_ns);
    let last_queued = OFF_TASK_LAST_QUEUED.of(next)?;
    if last_queued == 0 {
        return Some(moved);
    }
    let clock = OFF_RQ_CLOCK.of(OFF_CFS_RQ_RQ.of(OFF_TASK_CFS_RQ.of(next)?)?)?;
    // Two CPUs' clocks may differ by a little.
    Some(moved.wrapping_add(if clock > last_queued { clock - last_queued } else { 0 }))
}

/// Second rung only: when a blocked thread became ready.
#[btf_tracepoint(function = "sched_wakeup")]
pub fn sched_wakeup(ctx: BtfTracePointContext) -> i32 {
    let woken: *const TaskStruct = ctx.arg(0);
    if let Some(row) = tables::task(address(woken))
        && row.state == BLOCKED
        && row.queue_mark_ns == 0
    {
        row.queue_mark_ns = now_ns();
    }
    0
}
