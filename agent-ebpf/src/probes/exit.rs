//! Ends of threads and processes.

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::{HashMap, LruHashMap},
    programs::BtfTracePointContext,
};
use core::ptr;
use slowpod_ebpf::abi::{
    Kind,
    exit::{Exit, FLAG_EARLY, FLAG_SPLIT_PARTIAL},
    settings::EARLY_MAX,
    split::Split,
};

use super::{
    flood,
    kernel::{
        OFF_SIGNAL_FLAGS, OFF_SIGNAL_GROUP_EXIT_CODE, OFF_TASK_EXIT_CODE, OFF_TASK_PID, OFF_TASK_SIGNAL,
        OFF_TASK_TGID, TaskStruct, add, cgroup_id, comm, identity, now_ns,
    },
    ring::{self, Ring},
    tables::{self, ProcessRow, TaskRow},
    wait,
};

/// `SIGNAL_GROUP_EXIT` of `linux/sched/signal.h`: the whole process ends with `group_exit_code`.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// A thread begins to exit: what its process ends with, in case it is the last one.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let task: *const TaskStruct = ctx.arg(0);
    if let Some(process) = tables::process_of(task) {
        process.exiting_ns = now_ns();
        if is_main(task) {
            process.comm = comm(task);
        }
        process.cgroup_id = cgroup_id(task);
        if let Some(status) = wait_status(task) {
            process.status = status;
        }
    } else if is_main(task) {
        early_ended(task);
    }
    0
}

/// Processes that were there before these programs, and whose ends the agent wants to know, by process id.
#[map]
static EARLY: HashMap<u32, u32> = HashMap::with_max_entries(EARLY_MAX, 0);

/// The main thread of a process that is not tracked begins to exit.
#[inline(always)]
fn early_ended(task: *const TaskStruct) {
    let Some(tgid) = OFF_TASK_TGID.of(task) else { return };
    if EARLY.remove(&tgid).is_err() {
        return;
    }
    let (task_id, cgroup_id, comm) = (identity(task), cgroup_id(task), comm(task));
    let status = wait_status(task).unwrap_or(0);
    ring::send::<Exit>(Ring::Life, |record| {
        // SAFETY: the reserved record, written in full.
        unsafe {
            ptr::write_bytes(record, 0, 1);
            (*record).header = ring::header::<Exit>(now_ns());
            (*record).task = task_id;
            (*record).cgroup_id = cgroup_id;
            (*record).status = status;
            (*record).flags = FLAG_EARLY;
            (*record).comm = comm;
        }
    });
}

/// What a parent's wait would report, as far as this thread's end decides it.
#[inline(always)]
fn wait_status(task: *const TaskStruct) -> Option<u32> {
    let signal = OFF_TASK_SIGNAL.probe(task)?;
    if OFF_SIGNAL_FLAGS.probe(signal)? & SIGNAL_GROUP_EXIT != 0 {
        return OFF_SIGNAL_GROUP_EXIT_CODE.probe(signal);
    }
    if is_main(task) { OFF_TASK_EXIT_CODE.of(task) } else { None }
}

#[inline(always)]
fn is_main(task: *const TaskStruct) -> bool {
    OFF_TASK_PID.of(task) == OFF_TASK_TGID.of(task)
}

/// A tracked thread has left the CPU for good. Runs inside the scheduler: nothing here may sleep.
#[inline(always)]
pub fn thread_ended(task: *const TaskStruct, row: &TaskRow, now: u64) {
    wait::thread_ended(row, now);
    // After an exec by another thread that one has the leader's place and pid.
    thread_gone(row.key, u64::from(is_main(task)), now);
}

/// A function of its own, and known to the kernel as such: it is verified once, not in every state that a switch may be
/// in.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn thread_gone(key: u64, is_main: u64, now: u64) -> u64 {
    let Some(row) = tables::task(key) else { return 0 };
    let process_key = row.process;
    if process_key != 0
        && let Some(process) = tables::process(process_key)
    {
        add_split(&raw mut process.threads, &row.split);
        add(&raw mut process.thread_ns, now.wrapping_sub(row.begun_ns));
        if is_main != 0 {
            process.main = row.split;
        }
        if is_last(process_key, process) {
            process_ended(process, now);
            tables::remove_process(process_key);
        }
    }
    tables::remove_task(key);
    0
}

/// Which process: its key, which may come again, and its birth.
#[repr(C)]
struct Ended {
    process: u64,
    spawned_ns: u64,
}

/// Processes with several threads that have ended lately. Of threads that end at the same time, the one that
/// puts its process in here is the last. (An atomic decrement that hands back what is left would do, but takes
/// Linux 5.12.) The oldest are forgotten.
#[map]
static ENDED: LruHashMap<Ended, u32> = LruHashMap::with_max_entries(1024, 0);

/// Takes a thread off its process, and tells whether it was the last.
#[inline(always)]
fn is_last(key: u64, process: &mut ProcessRow) -> bool {
    if process.thread_count == 1 {
        return true;
    }
    let ended = Ended { process: key, spawned_ns: process.spawned_ns };
    let alive = &raw mut process.alive;
    add(alive, u64::MAX);
    const BPF_NOEXIST: u64 = 1;
    // SAFETY: a field of a map value, just written by the line above and by other CPUs.
    unsafe { ptr::read_volatile(alive) == 0 && ENDED.insert(&ended, &1, BPF_NOEXIST).is_ok() }
}

#[inline(always)]
fn add_split(sum: *mut Split, part: &Split) {
    // SAFETY: only addresses are made here.
    let (on_cpu, runnable, blocked) =
        unsafe { (&raw mut (*sum).on_cpu_ns, &raw mut (*sum).runnable_ns, &raw mut (*sum).blocked_ns) };
    add(on_cpu, part.on_cpu_ns);
    add(runnable, part.runnable_ns);
    for (cause, ns) in part.blocked_ns.iter().enumerate() {
        add(blocked.cast::<u64>().wrapping_add(cause), *ns);
    }
}

#[inline(always)]
fn process_ended(process: &ProcessRow, now: u64) {
    if process.detail == 0 {
        ring::only_count(Kind::Exit);
        flood::count(process, now, flood::Why::OnlyCounted);
        return;
    }
    let sent = ring::send::<Exit>(Ring::Life, |record| {
        // SAFETY: the reserved record, written in full.
        unsafe {
            (*record).header = ring::header::<Exit>(now);
            (*record).task = process.task;
            (*record).spawner = process.spawner;
            (*record).cgroup_id = process.cgroup_id;
            (*record).spawned_ns = process.spawned_ns;
            (*record).exec_ns = process.exec_ns;
            (*record).exiting_ns = process.exiting_ns;
            (*record).main = process.main;
            (*record).threads = process.threads;
            (*record).thread_ns = process.thread_ns;
            (*record).thread_count = process.thread_count as u32;
            (*record).status = process.status;
            (*record).execs = process.execs;
            (*record).exec_fails = process.exec_fails;
            (*record).flags = if process.partial != 0 { FLAG_SPLIT_PARTIAL } else { 0 };
            (*record).reserved = 0;
            (*record).comm = process.comm;
        }
    });
    if !sent {
        flood::count(process, now, flood::Why::EndLost);
    }
}
