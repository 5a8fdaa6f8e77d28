//! Parents that wait for their children.

use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use slowpod_ebpf::abi::{Kind, reap::Reap};
use slowpod_ebpf::rules::verifier::at_most;

use super::{
    exec::syscall_result,
    flood,
    kernel::{
        OFF_REGS_ARG1, OFF_REGS_ARG2, OFF_REGS_ARG3, address, current, entry_regs, identity, is_own, now_ns,
    },
    ring::{self, Ring},
    tables::{self, TaskRow},
    text::user_value,
};

/// `WNOWAIT` of `linux/wait.h`: look, and leave the child to be waited for again.
const WNOWAIT: u64 = 0x0100_0000;
/// In `siginfo_t` on 64-bit machines: `si_code` and `si_pid`.
const SI_CODE_OFFSET: u64 = 8;
const SI_PID_OFFSET: u64 = 16;
/// Largest `si_code` of a child that ended (`CLD_EXITED`, `CLD_KILLED`, `CLD_DUMPED`); others have stopped or
/// go on.
const CLD_DUMPED: i32 = 3;

/// A thread starts to wait for a child.
#[btf_tracepoint(function = "sched_process_wait")]
pub fn process_wait(_: BtfTracePointContext) -> i32 {
    let task = current();
    if is_own(task) {
        return 0;
    }
    let now = now_ns();
    let Some(row) = tables::track_current(task, now) else { return 0 };
    if row.wait_goes_on != 0 {
        row.wait_goes_on = 0;
        return 0;
    }
    row.wait_begun_ns = now;
    row.wait_runnable_ns = row.split.runnable_ns;
    row.wait_blocked_ns = row.split.blocked_total_ns();
    row.wait_own_ns = own_ns(row, now);
    0
}

/// How long the thread that begins to wait did something else since it last made a process.
#[inline(always)]
fn own_ns(row: &TaskRow, now: u64) -> u64 {
    let since_ns = now.wrapping_sub(row.cloned_ns);
    // As in `reaped`: no part may be longer than the whole.
    let waited_ns = at_most(row.waited_ns().wrapping_sub(row.cloned_waited_ns), since_ns);
    since_ns.wrapping_sub(waited_ns)
}

#[tracepoint]
pub fn wait4_exit(ctx: TracePointContext) -> u32 {
    let child = syscall_result(&ctx);
    if child <= 0 {
        return 0;
    }
    let task = current();
    // Where the kernel wrote the wait status, if the caller asked for it.
    let status = entry_regs(task).and_then(|regs| OFF_REGS_ARG1.of(regs)).filter(|to| *to != 0);
    if status.and_then(user_value::<u32>).is_some_and(is_stop) {
        return 0;
    }
    reaped(child as u32)
}

/// Whether a wait status says that the child stopped or goes on (`WIFSTOPPED`, `WIFCONTINUED`).
#[inline(always)]
fn is_stop(status: u32) -> bool {
    status & 0xff == 0x7f || status == 0xffff
}

#[tracepoint]
pub fn waitid_exit(ctx: TracePointContext) -> u32 {
    if syscall_result(&ctx) != 0 {
        return 0;
    }
    let task = current();
    let Some(regs) = entry_regs(task) else { return 0 };
    if OFF_REGS_ARG3.of(regs).unwrap_or(0) & WNOWAIT != 0 {
        if let Some(row) = tables::task(address(task)) {
            row.wait_goes_on = 1;
        }
        return 0;
    }
    let info = OFF_REGS_ARG2.of(regs).unwrap_or(0);
    if info == 0 {
        return 0;
    }
    let code = user_value::<i32>(info + SI_CODE_OFFSET).unwrap_or(0);
    let child = user_value::<u32>(info + SI_PID_OFFSET).unwrap_or(0);
    if code > CLD_DUMPED || child == 0 {
        return 0;
    }
    reaped(child)
}

#[inline(always)]
fn reaped(child: u32) -> u32 {
    let task = current();
    if is_own(task) {
        return 0;
    }
    let Some(row) = tables::task(address(task)) else { return 0 };
    if flood::is_on() || process_is_only_counted(row) {
        ring::only_count(Kind::Reap);
        return 0;
    }
    let now = now_ns();
    let mut begun_ns = row.wait_begun_ns;
    let (mut runnable_ns, mut blocked_ns) = (0, 0);
    let (mut cloned_ns, mut own_ns) = (0, 0);
    if begun_ns == 0 {
        begun_ns = now;
    } else {
        if row.cloned_ns != 0 {
            (cloned_ns, own_ns) = (row.cloned_ns, row.wait_own_ns);
        }
        // A thread that was not seen to get its CPU (see `split`) is put right when it next leaves it, for a time
        // that may have begun before the wait: no part may be longer than what is left of the wait.
        let wait_ns = now.wrapping_sub(begun_ns);
        let blocked_total_ns = row.split.blocked_total_ns().wrapping_sub(row.wait_blocked_ns);
        blocked_ns = at_most(blocked_total_ns, wait_ns);
        let queued_ns = row.split.runnable_ns.wrapping_sub(row.wait_runnable_ns);
        runnable_ns = at_most(queued_ns, wait_ns.wrapping_sub(blocked_ns));
    }
    row.wait_begun_ns = 0;
    let parent = identity(task);
    ring::send::<Reap>(Ring::Life, |record| {
        // SAFETY: the reserved record, written in full.
        unsafe {
            record.write(Reap {
                header: ring::header::<Reap>(now),
                parent,
                wait_begun_ns: begun_ns,
                cloned_ns,
                own_ns,
                on_cpu_ns: now.wrapping_sub(begun_ns).wrapping_sub(runnable_ns).wrapping_sub(blocked_ns),
                runnable_ns,
                blocked_ns,
                child_inner_pid: child,
                reserved: 0,
            });
        }
    });
    0
}

#[inline(always)]
fn process_is_only_counted(row: &TaskRow) -> bool {
    row.process != 0 && tables::process(row.process).is_some_and(|process| process.detail == 0)
}
