//! Where threads spend their time: one program on `sched_switch`, and the wake-up hook of the second rung.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use slowpod_ebpf::abi::split::{CAUSES, Cause};
use slowpod_ebpf::rules::verifier::at_most;

use super::{
    away::{self, Knew, Leaves, NO_CAUSE},
    blocked, exit,
    kernel::{
        OFF_CFS_RQ_RQ, OFF_RQ_CLOCK, OFF_TASK_CFS_RQ, OFF_TASK_LAST_ARRIVAL, OFF_TASK_LAST_QUEUED,
        OFF_TASK_PID, OFF_TASK_RUN_DELAY, OFF_TASK_STATE, OFF_TASK_SUM_EXEC, TaskStruct, address, now_ns,
    },
    queue, settings,
    tables::{self, BLOCKED, ON_CPU, RUNNABLE, TaskRow},
    wait,
};

/// `TASK_DEAD` of `linux/sched.h`: the thread leaves the CPU for the last time.
const TASK_DEAD: u32 = 0x80;

/// Runs at every context switch of the machine, so the way through for untracked threads comes first: a few
/// loads and one failed look-up.
///
/// Not every switch is reported: a thread that switches where the kernel does not trace (seen with an agent
/// inside a virtual machine) hands its CPU over unseen. A thread that leaves a CPU it was never seen to get,
/// or gets one while it seems to have one, is put right by the kernel's own accounts.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let prev: *const TaskStruct = ctx.arg(1);
    let next: *const TaskStruct = ctx.arg(2);
    let Some(running) = tables::running() else { return 0 };
    let now = now_ns();
    let how = running.forgotten(how(&ctx, prev) as u64);
    let (prev_tid, tid) = (OFF_TASK_PID.of(prev).unwrap_or(0), OFF_TASK_PID.of(next).unwrap_or(0));
    queue::switched((prev, prev_tid), (next, tid), Leaves::of(how), now);
    let key = address(prev);
    let mut tracked = NO_CAUSE;
    if (running.key != key || running.tracked != 0)
        && let Some(row) = tables::task(key)
    {
        if row.state != ON_CPU {
            let came = now.wrapping_sub(ran_unseen_ns(row, prev, now));
            enter(row, prev, queued_ns(row, prev, came), came);
        }
        tracked = leave(prev, row, Leaves::of(running.forgotten(how)), now);
    }
    let tracked = running.forgotten(u64::from(tracked)) as u32;
    away::left(&ctx, prev, Leaves::of(running.forgotten(how)), tracked, now);
    let key = address(next);
    (running.key, running.tracked) = (key, 0);
    // The idle task has pid 0.
    if tid == 0 {
        return 0;
    }
    let knew = away::came(next, tid, now);
    if let Knew::Untracked = knew {
        return 0;
    }
    if let Some(row) = tables::task(key) {
        let queued = match knew {
            Knew::Tracked { queued_ns } if row.state != ON_CPU => queued_ns,
            _ => {
                if row.state == ON_CPU {
                    leave_unseen(row, next, now);
                }
                queued_ns(row, next, now)
            }
        };
        enter(row, next, queued, now);
        running.tracked = 1;
    }
    0
}

/// Why `prev` leaves the CPU.
#[inline(always)]
fn how(ctx: &BtfTracePointContext, prev: *const TaskStruct) -> Leaves {
    let state = if settings::SET_SWITCH_HAS_STATE.load() != 0 {
        ctx.arg::<u32>(3)
    } else {
        OFF_TASK_STATE.of(prev).unwrap_or(0)
    };
    if state & TASK_DEAD != 0 {
        return Leaves::ForGood;
    }
    let preempted = ctx.arg::<u8>(0) != 0;
    if preempted || state == 0 { Leaves::Preempted } else { Leaves::Blocked }
}

/// `prev` leaves the CPU. Returns why it blocks, if it does: a [`Cause`] as its number.
#[inline(always)]
fn leave(prev: *const TaskStruct, row: &mut TaskRow, how: Leaves, now: u64) -> u32 {
    row.split.on_cpu_ns += now.wrapping_sub(row.since_ns);
    row.since_ns = now;
    match how {
        Leaves::ForGood => {
            exit::thread_ended(prev, row, now);
            return Cause::Other as u32;
        }
        Leaves::Preempted => {
            row.state = RUNNABLE;
            return Cause::Other as u32;
        }
        Leaves::Blocked => {}
    }
    row.state = BLOCKED;
    let cause = blocked::cause(prev);
    row.cause = cause;
    wait::begins(row);
    row.queue_mark_ns = match settings::SET_USE_SCHED_INFO.load() {
        0 => 0,
        _ => OFF_TASK_RUN_DELAY.of(prev).unwrap_or(0),
    };
    cause
}

/// `next` gets the CPU, after so long in a run queue.
#[inline(always)]
fn enter(row: &mut TaskRow, next: *const TaskStruct, queued: u64, now: u64) {
    let away = now.wrapping_sub(row.since_ns);
    let queued = if row.state == BLOCKED { at_most(queued, away) } else { away };
    row.split.runnable_ns += queued;
    let cause = at_most(u64::from(row.cause), CAUSES as u64 - 1) as usize;
    row.split.blocked_ns[cause] += away.wrapping_sub(queued);
    wait::ends(row, row.since_ns, away.wrapping_sub(queued), now);
    row.since_ns = now;
    row.state = ON_CPU;
    row.ran_mark_ns = OFF_TASK_SUM_EXEC.of(next).unwrap_or(0);
}

/// How long a thread that is leaving the CPU had it, by the kernel's account, when it was not seen to get it.
#[inline(always)]
fn ran_unseen_ns(row: &TaskRow, prev: *const TaskStruct, now: u64) -> u64 {
    let ran = match (rq_clock_ns(prev), OFF_TASK_LAST_ARRIVAL.of(prev)) {
        (Some(clock), Some(arrived)) if clock > arrived => clock - arrived,
        _ => 0,
    };
    at_most(ran, now.wrapping_sub(row.since_ns))
}

/// `next` gets a CPU although it was not seen to leave one: what it ran is in the kernel's account, and for the
/// rest it was away for a reason nobody saw.
#[inline(always)]
fn leave_unseen(row: &mut TaskRow, next: *const TaskStruct, now: u64) {
    let ran = OFF_TASK_SUM_EXEC.of(next).unwrap_or(row.ran_mark_ns).wrapping_sub(row.ran_mark_ns);
    let ran = at_most(ran, now.wrapping_sub(row.since_ns));
    row.split.on_cpu_ns += ran;
    row.since_ns = row.since_ns.wrapping_add(ran);
    row.state = BLOCKED;
    row.cause = Cause::Other as u32;
    // Of the kernel's account of waits only the last one is known to lie inside.
    row.queue_mark_ns = match settings::SET_USE_SCHED_INFO.load() {
        0 => 0,
        _ => OFF_TASK_RUN_DELAY.of(next).unwrap_or(0),
    };
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
    Some(moved.wrapping_add(queue_wait_ns(next)))
}

/// How long `next`, which gets the CPU now, was in this CPU's run queue, by the kernel's own account.
#[inline(always)]
pub fn queue_wait_ns(next: *const TaskStruct) -> u64 {
    match (OFF_TASK_LAST_QUEUED.of(next), rq_clock_ns(next)) {
        // Two CPUs' clocks may differ by a little.
        (Some(queued), Some(clock)) if queued != 0 && clock > queued => clock - queued,
        _ => 0,
    }
}

/// The clock of the run queue a thread is on, which the kernel's account is kept by.
#[inline(always)]
fn rq_clock_ns(task: *const TaskStruct) -> Option<u64> {
    OFF_RQ_CLOCK.of(OFF_CFS_RQ_RQ.of(OFF_TASK_CFS_RQ.of(task)?)?)
}

/// Second rung only: when a blocked thread became ready.
#[btf_tracepoint(function = "sched_wakeup")]
pub fn sched_wakeup(ctx: BtfTracePointContext) -> i32 {
    let woken: *const TaskStruct = ctx.arg(0);
    let now = now_ns();
    away::woken(woken, now);
    queue::woken(woken, OFF_TASK_PID.of(woken).unwrap_or(0), now);
    if let Some(row) = tables::task(address(woken))
        && row.state == BLOCKED
        && row.queue_mark_ns == 0
    {
        row.queue_mark_ns = now;
    }
    0
}
