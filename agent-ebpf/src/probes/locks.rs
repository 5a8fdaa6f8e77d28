//! Whom a thread runs into: the holder of a file lock, the owner of a mutex of the kernel. Kept in the thread's row
//! until it goes to sleep over it (`wait`, `thing`).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use slowpod_ebpf::rules::verifier::opaque;

use super::{
    kernel::{FileLock, OFF_LOCK_BLOCKER, OFF_LOCK_PID, address, current, now_ns},
    tables, wait,
};

/// `FILE_LOCK_DEFERRED` of `linux/filelock.h`: the request is in the queue.
const DEFERRED: i32 = 1;
/// Requests before it that are counted: a convoy of more is one of that many.
const QUEUE_MAX: u64 = 128;
/// `LCB_F_MUTEX` of `trace/events/lock.h`, and nothing else: it will sleep, since spinning did not help.
const SLEEPS_ON_MUTEX: u32 = 1 << 5;

#[btf_tracepoint(function = "flock_lock_inode")]
pub fn flock_lock_inode(ctx: BtfTracePointContext) -> i32 {
    asked(ctx.arg(1), ctx.arg(2));
    0
}

#[btf_tracepoint(function = "posix_lock_inode")]
pub fn posix_lock_inode(ctx: BtfTracePointContext) -> i32 {
    asked(ctx.arg(1), ctx.arg(2));
    0
}

/// The running thread asked for a lock, and this is what came of it.
#[inline(always)]
fn asked(request: *const FileLock, outcome: i32) {
    if outcome != DEFERRED {
        return;
    }
    let Some(row) = tables::task(address(current())) else { return };
    if let Some(waiter) = wait::waiter_of(row) {
        waiter.holder = 0;
        waiter.queue = 0;
        waiter.request = address(request);
        lock_queue(row.key);
    }
}

/// Goes from a request to the one it waits for, and on to the lock itself: requests queue behind one another.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lock_queue(key: u64) -> u64 {
    let Some(waiter) = wait::waiter(key) else { return 0 };
    let mut lock = waiter.request as *const FileLock;
    let (mut before, mut holder) = (0, 0);
    while before < QUEUE_MAX {
        let Some(next) = OFF_LOCK_BLOCKER.probe(lock).filter(|next| !next.is_null()) else { break };
        lock = next;
        holder = OFF_LOCK_PID.probe(lock).unwrap_or(0);
        before = opaque(before) + 1;
    }
    waiter.holder = holder;
    waiter.queue = before as u32;
    0
}

#[btf_tracepoint(function = "contention_begin")]
pub fn contention_begin(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<u32>(1) != SLEEPS_ON_MUTEX {
        return 0;
    }
    let Some(row) = tables::task(address(current())) else { return 0 };
    if row.evidence & wait::FOLLOWED != 0
        && let Some(waiter) = wait::waiter_of(row)
    {
        waiter.mutex = ctx.arg::<u64>(0);
        waiter.mutex_ns = now_ns();
    }
    0
}
