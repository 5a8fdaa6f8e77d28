//! New processes and threads.

use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use slowpod_ebpf::abi::{
    COMM_BYTES, Kind, Task,
    flood::BINARY_BYTES,
    spawn::{FLAG_SHARES_MEMORY, FLAG_THREAD, Spawn},
};

use super::{
    flood,
    kernel::{
        TaskStruct, add, address, cgroup_id, comm, current, identity, innermost_pid, is_own, is_user, memory,
        now_ns,
    },
    ring::{self, Ring},
    seats, settings,
    stack::{self, Place, Side},
    tables::{self, RUNNABLE},
    wait,
};

/// A child exists and has not run yet. The running thread is the spawner, also when the child is given
/// another parent (`CLONE_PARENT`).
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let spawner: *const TaskStruct = ctx.arg(0);
    let child: *const TaskStruct = ctx.arg(1);
    seats::born(child);
    if !is_user(child) {
        return 0;
    }
    let born = Born { spawner, child, now: now_ns(), begun_ns: 0, flags: 0, evidence: 0 };
    let who = identity(child);
    let process = who.tid == who.tgid;
    // The agent's threads are its own affair; a process it starts is one like any other.
    if !process && is_own(spawner) {
        return 0;
    }
    if process {
        let shares = memory(spawner) == memory(child);
        new_process(&ctx, Born { flags: if shares { FLAG_SHARES_MEMORY } else { 0 }, ..born }, who);
    } else {
        new_thread(Born { flags: FLAG_THREAD, ..born }, who);
    }
    0
}

/// What the programs below need to know of a birth.
#[derive(Clone, Copy)]
struct Born {
    spawner: *const TaskStruct,
    child: *const TaskStruct,
    now: u64,
    begun_ns: u64,
    flags: u32,
    /// Whether the spawner's waits are followed, and so the child's.
    evidence: u32,
}

#[inline(always)]
fn new_process(ctx: &BtfTracePointContext, mut born: Born, who: Task) {
    let spawner = identity(born.spawner);
    (born.begun_ns, born.evidence) = clone_begun(born.spawner, born.now);
    let mut detail = flood::wants_detail();
    if detail {
        let (mut user_stack, mut kernel_stack) = (0, 0);
        if settings::SET_SPAWN_STACKS.load() != 0 {
            user_stack = stack::id(ctx, Place::LIFE, born.spawner, spawner, Side::User, born.now);
            kernel_stack = stack::of_call(ctx, Place::LIFE, born.spawner, spawner, born.now);
        }
        // A spawn that found the ring full is one of which nothing is sent.
        detail = send(&born, spawner, who, user_stack, kernel_stack);
    } else {
        ring::only_count(Kind::Spawn);
    }
    if track_process(&born, spawner, who, detail).is_none() && !detail {
        flood::count_untracked(spawner, padded(comm(born.spawner)), born.now);
    }
}

#[inline(always)]
fn track_process(born: &Born, spawner: Task, who: Task, detail: bool) -> Option<()> {
    let key = tables::process_key(born.child);
    let process = tables::add_process(key)?;
    process.task = who;
    process.spawner = spawner;
    process.spawned_ns = born.now;
    process.alive = 1;
    process.thread_count = 1;
    process.detail = u32::from(detail);
    process.binary = padded(comm(born.spawner));
    let Some(row) = tables::add_task(address(born.child), key, RUNNABLE, born.now) else {
        tables::remove_process(key);
        return None;
    };
    row.evidence = born.evidence;
    Some(())
}

#[inline(always)]
fn new_thread(born: Born, who: Task) {
    let key = tables::process_key(born.child);
    let mut detail = true;
    if let Some(process) = tables::process(key) {
        detail = process.detail != 0;
        add(&raw mut process.thread_count, 1);
        // A thread that is not tracked will not be seen to end, so it must not count as alive.
        if let Some(row) = tables::add_task(address(born.child), key, RUNNABLE, born.now) {
            row.evidence = tables::task(address(born.spawner)).map_or(0, |spawner| wait::inherited(spawner));
            add(&raw mut process.alive, 1);
        } else {
            process.partial = 1;
        }
    }
    if !detail || flood::is_on() {
        ring::only_count(Kind::Spawn);
        return;
    }
    let (begun_ns, _) = clone_begun(born.spawner, born.now);
    send(&Born { begun_ns, ..born }, identity(born.spawner), who, 0, 0);
}

#[inline(always)]
fn send(born: &Born, spawner: Task, child: Task, user_stack: u64, kernel_stack: u64) -> bool {
    let inner_pid = match innermost_pid(born.child) {
        Some((pid, _)) => pid,
        None => child.tid,
    };
    let (cgroup_id, comm) = (cgroup_id(born.spawner), comm(born.spawner));
    ring::send::<Spawn>(Ring::Life, |record| {
        // SAFETY: the reserved record, written in full.
        unsafe {
            record.write(Spawn {
                header: ring::header::<Spawn>(born.now),
                spawner,
                child,
                begun_ns: born.begun_ns,
                cgroup_id,
                user_stack,
                kernel_stack,
                flags: born.flags,
                inner_pid,
                comm,
            });
        }
    })
}

/// When the spawner entered the call it is in, and what its child inherits. It is tracked from its first spawn on.
#[inline(always)]
fn clone_begun(spawner: *const TaskStruct, now: u64) -> (u64, u32) {
    let Some(row) = tables::track_current(spawner, now) else { return (0, 0) };
    row.cloned_ns = now;
    row.cloned_waited_ns = row.waited_ns();
    let begun = row.clone_begun_ns;
    row.clone_begun_ns = 0;
    (begun, wait::inherited(row))
}

#[inline(always)]
fn padded(comm: [u8; COMM_BYTES]) -> [u8; BINARY_BYTES] {
    let mut binary = [0; BINARY_BYTES];
    binary[..COMM_BYTES].copy_from_slice(&comm);
    binary
}

#[tracepoint]
pub fn clone_enter(_: TracePointContext) -> u32 {
    clone_entered()
}

#[tracepoint]
pub fn clone3_enter(_: TracePointContext) -> u32 {
    clone_entered()
}

#[tracepoint]
pub fn fork_enter(_: TracePointContext) -> u32 {
    clone_entered()
}

#[tracepoint]
pub fn vfork_enter(_: TracePointContext) -> u32 {
    clone_entered()
}

#[inline(always)]
fn clone_entered() -> u32 {
    let current = current();
    if !is_own(current) {
        let now = now_ns();
        if let Some(row) = tables::track_current(current, now) {
            row.clone_begun_ns = now;
        }
    }
    0
}
