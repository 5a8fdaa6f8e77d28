//! What the programs remember: one row per tracked thread, one per tracked process.
//!
//! A process is tracked when its fork was seen. A thread is tracked when it belongs to such a process, or,
//! in any process, from the first time it forks, waits or sends over netlink.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use slowpod_ebpf::abi::{
    COMM_BYTES, Miss, Task,
    flood::BINARY_BYTES,
    settings::{PROCESSES_MAX, TASK_BYTES, TASKS_MAX},
    split::{Cause, Split},
};

use super::{
    kernel::{OFF_TASK_SIGNAL, OFF_TASK_SUM_EXEC, TaskStruct, address},
    ring,
};

/// On a CPU since `since_ns`.
pub const ON_CPU: u32 = 0;
/// In a run queue since `since_ns`.
pub const RUNNABLE: u32 = 1;
/// Blocked since `since_ns`, for `cause`.
pub const BLOCKED: u32 = 2;

/// A tracked thread. Written by the thread itself, and by the scheduler while it switches the thread.
#[repr(C)]
pub struct TaskRow {
    /// Its key: a plain number, where the address it was made from is a pointer to the verifier.
    pub key: u64,
    /// When the present state began.
    pub since_ns: u64,
    /// When tracking began: for a child of a tracked fork, its birth.
    pub begun_ns: u64,
    /// Key of its process in `PROCESSES`; 0 = the process is not tracked.
    pub process: u64,
    /// `sched_info.run_delay` when it blocked; with wake-up hooks, when it was woken (0 = not yet).
    pub queue_mark_ns: u64,
    /// `se.sum_exec_runtime` when it last got a CPU: repairs a switch that was not reported.
    pub ran_mark_ns: u64,
    /// When it entered clone, fork or vfork; 0 = not in one.
    pub clone_begun_ns: u64,
    /// When it entered the send it is in.
    pub send_begun_ns: u64,
    /// The socket of that send, for the rung whose end does not know it.
    pub send_socket: u64,
    /// When it began to wait for a child, and
    pub wait_begun_ns: u64,
    /// its time in run queues and
    pub wait_runnable_ns: u64,
    /// blocked up to then.
    pub wait_blocked_ns: u64,
    /// When it last made a process, and
    pub cloned_ns: u64,
    /// its time in run queues and blocked on a child up to then.
    pub cloned_waited_ns: u64,
    /// `Reap::own_ns` of the wait it is in.
    pub wait_own_ns: u64,
    /// [`ON_CPU`], [`RUNNABLE`] or [`BLOCKED`].
    pub state: u32,
    /// `split::Cause` number of the present or last block.
    pub cause: u32,
    /// 1 = it looked at a child's end without collecting it, so the wait goes on (Go waits like this).
    pub wait_goes_on: u32,
    /// How many messages of the present sendmmsg were seen.
    pub sendmmsg_index: u32,
    /// What is to be told of its waits: bits of `wait`.
    pub evidence: u32,
    /// Zero.
    pub reserved: u32,
    /// Its time so far, the present state left out.
    pub split: Split,
}
const _: () = assert!(size_of::<TaskRow>() <= TASK_BYTES);

impl TaskRow {
    /// Its time so far in which it could do nothing: in run queues, and blocked on a child.
    #[inline(always)]
    pub fn waited_ns(&self) -> u64 {
        self.split.runnable_ns + self.split.blocked_ns[Cause::ChildWait as usize]
    }
}

/// A tracked process. Its threads write it from several CPUs: sums only grow by atomic adds.
#[repr(C)]
pub struct ProcessRow {
    /// The process.
    pub task: Task,
    /// Who spawned it.
    pub spawner: Task,
    /// When it was spawned.
    pub spawned_ns: u64,
    /// When its last successful exec was done; 0 = never.
    pub exec_ns: u64,
    /// When the last thread so far began to exit.
    pub exiting_ns: u64,
    /// Its cgroup then.
    pub cgroup_id: u64,
    /// Threads that have not yet ended.
    pub alive: u64,
    /// Threads it had in all.
    pub thread_count: u64,
    /// Sum of the lifetimes of the threads that have ended.
    pub thread_ns: u64,
    /// Successful execs.
    pub execs: u32,
    /// Failed execs.
    pub exec_fails: u32,
    /// Wait status as far as known.
    pub status: u32,
    /// 1 = its records are sent, 0 = it is only counted (`flood`).
    pub detail: u32,
    /// 1 = a thread of it could not be tracked.
    pub partial: u32,
    /// 1 = the record of its last exec found the ring full.
    pub exec_lost: u32,
    /// Bytes of its standard output that were told of, and
    pub stdout_bytes: u16,
    /// of its standard error.
    pub stderr_bytes: u16,
    /// Zero.
    pub reserved: u32,
    /// The main thread's comm when it began to exit; zeroes before.
    pub comm: [u8; COMM_BYTES],
    /// Base name of its program.
    pub binary: [u8; BINARY_BYTES],
    /// The main thread's time.
    pub main: Split,
    /// Time of all threads that have ended.
    pub threads: Split,
}

/// By address of the `task_struct`: it stays when an exec by a non-leader changes the thread's pid.
#[map]
static TASKS: HashMap<u64, TaskRow> = HashMap::with_max_entries(TASKS_MAX, 0);
/// By address of the `signal_struct`, which all threads of a process share and which no other process gets
/// before the last of them is gone.
#[map]
static PROCESSES: HashMap<u64, ProcessRow> = HashMap::with_max_entries(PROCESSES_MAX, 0);
/// The thread that runs on this CPU.
#[map]
static RUNNING: PerCpuArray<Running> = PerCpuArray::with_max_entries(1, 0);

/// The thread that the last reported switch put on a CPU. Spares the scheduler a look-up in `TASKS` for every
/// untracked thread it takes off a CPU. A thread that is not the one expected came by a switch that was not
/// reported, and is looked up.
#[repr(C)]
pub struct Running {
    /// Address of its `task_struct`.
    pub key: u64,
    /// 1 = it is tracked.
    pub tracked: u64,
    /// See [`Running::forgotten`].
    passed: u64,
}

impl Running {
    /// The number, by way of memory: the verifier forgets what it knew of it, and so does not check what follows once for
    /// each value it may have.
    #[inline(always)]
    pub fn forgotten(&mut self, number: u64) -> u64 {
        let place = &raw mut self.passed;
        // SAFETY: this CPU's slot, used by one program at a time.
        unsafe {
            place.write_volatile(number);
            place.read_volatile()
        }
    }
}

// Rows are filled in after they were inserted: they are too large for a program's stack.
static NEW_TASK: [u8; size_of::<TaskRow>()] = [0; size_of::<TaskRow>()];
static NEW_PROCESS: [u8; size_of::<ProcessRow>()] = [0; size_of::<ProcessRow>()];

/// This CPU's slot of the tracked thread that runs on it.
#[inline(always)]
pub fn running() -> Option<&'static mut Running> {
    // SAFETY: this CPU's slot of a map that is never freed; the programs that use it cannot interrupt each other.
    RUNNING.get_ptr_mut(0).map(|slot| unsafe { &mut *slot })
}

/// A thread's row, if it is tracked.
#[inline(always)]
pub fn task(key: u64) -> Option<&'static mut TaskRow> {
    // SAFETY: rows are never freed, only reused; a thread's row is used by that thread and by the scheduler
    // under the lock of its run queue, one at a time.
    TASKS.get_ptr_mut(&key).map(|row| unsafe { &mut *row })
}

/// A process's row, if it is tracked.
#[inline(always)]
pub fn process(key: u64) -> Option<&'static mut ProcessRow> {
    // SAFETY: rows are never freed, and a row is removed only by the process's last thread.
    PROCESSES.get_ptr_mut(&key).map(|row| unsafe { &mut *row })
}

/// A process's row, by one of its threads.
#[inline(always)]
pub fn process_of(thread: *const TaskStruct) -> Option<&'static mut ProcessRow> {
    process(process_key(thread))
}

/// Key of a thread's process.
#[inline(always)]
pub fn process_key(thread: *const TaskStruct) -> u64 {
    OFF_TASK_SIGNAL.probe(thread).map_or(0, address)
}

/// Starts to track a thread that begins in `state` at `now_ns`. None when there is no room.
#[inline(always)]
pub fn add_task(key: u64, process: u64, state: u32, now_ns: u64) -> Option<&'static mut TaskRow> {
    // SAFETY: all-zero bytes are a row.
    let blank = unsafe { &*(&raw const NEW_TASK).cast::<TaskRow>() };
    if TASKS.insert(&key, blank, 0).is_err() {
        ring::miss(Miss::TaskTableFull);
        return None;
    }
    let row = task(key)?;
    row.key = key;
    row.since_ns = now_ns;
    row.begun_ns = now_ns;
    row.process = process;
    row.state = state;
    Some(row)
}

/// The running thread's row; the thread is tracked from now on if it was not.
#[inline(always)]
pub fn track_current(current: *const TaskStruct, now_ns: u64) -> Option<&'static mut TaskRow> {
    let key = address(current);
    if let Some(row) = task(key) {
        return Some(row);
    }
    let row = add_task(key, 0, ON_CPU, now_ns)?;
    row.ran_mark_ns = OFF_TASK_SUM_EXEC.of(current).unwrap_or(0);
    let running = running()?;
    (running.key, running.tracked) = (key, 1);
    Some(row)
}

/// Stops tracking a thread.
#[inline(always)]
pub fn remove_task(key: u64) {
    // A missing row is what is wanted.
    let _ = TASKS.remove(&key);
}

/// Starts to track a process. None when there is no room.
#[inline(always)]
pub fn add_process(key: u64) -> Option<&'static mut ProcessRow> {
    // SAFETY: all-zero bytes are a row.
    let blank = unsafe { &*(&raw const NEW_PROCESS).cast::<ProcessRow>() };
    if PROCESSES.insert(&key, blank, 0).is_err() {
        ring::miss(Miss::ProcessTableFull);
        return None;
    }
    process(key)
}

/// Stops tracking a process.
#[inline(always)]
pub fn remove_process(key: u64) {
    // A missing row is what is wanted.
    let _ = PROCESSES.remove(&key);
}
