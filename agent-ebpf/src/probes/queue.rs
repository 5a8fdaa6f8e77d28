//! Run queues: how long the thread that gets a CPU was ready for it, and who had the CPU meanwhile.
//!
//! Runs at every switch of the machine. What a thread's switch needs to know about it stands at its seat, and its row
//! of counts is an array element: no table is searched unless the thread is new, has been moved to another cgroup,
//! or waited long.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Queue},
};
use slowpod_ebpf::{
    abi::{
        Miss, Task,
        queue::{
            CpuRow, KERNEL_THREADS, PushedCount, PushedKey, QueueKey, QueueRow, RAN_NOBODY, RAN_UNKNOWN,
            Stretch,
        },
        settings::{LONG_BLOCK_NS, LONG_WAIT_NS, PUSHED_ROWS_MAX, QUEUE_AGE_NS, QUEUE_ROWS_MAX, STRETCHES},
    },
    rules::{
        verifier::at_most,
        wait::{self, BUCKETS},
    },
};

use super::{
    away::Leaves,
    kernel::{
        OFF_CFS_RQ_RQ, OFF_RQ_CLOCK, OFF_TASK_CFS_RQ, OFF_TASK_CGROUPS, OFF_TASK_LAST_ARRIVAL,
        OFF_TASK_LAST_QUEUED, OFF_TASK_RUN_DELAY, TaskStruct, add, add32, address, cgroup_id_of, identity,
        is_user, since_boot_ns,
    },
    ring,
    seats::{self, BLOCKED, ON_CPU, PREEMPTED, Seat},
    settings,
};

/// Rows by index. Row 0 takes what found none.
#[map]
static QUEUE_ROWS: Array<QueueRow> = Array::with_max_entries(QUEUE_ROWS_MAX, 0);
/// Who has which row.
#[map]
static QUEUE_INDEX: HashMap<QueueKey, u32> = HashMap::with_max_entries(QUEUE_ROWS_MAX, 0);
/// Rows nobody has. Filled by the agent, which also takes them back when their process is gone.
#[map]
static QUEUE_FREE: Queue<u32> = Queue::with_max_entries(QUEUE_ROWS_MAX, 0);
#[map]
static QUEUE_CPU: PerCpuArray<CpuRow> = PerCpuArray::with_max_entries(1, 0);
#[map]
static PUSHED: HashMap<PushedKey, PushedCount> = HashMap::with_max_entries(PUSHED_ROWS_MAX, 0);

const BPF_NOEXIST: u64 = 1;

/// A switch. `prev_tid` and `next_tid` are 0 for the idle task.
#[inline(always)]
pub fn switched(
    (prev, prev_tid): (*const TaskStruct, u32),
    (next, next_tid): (*const TaskStruct, u32),
    leaves: Leaves,
    ktime_ns: u64,
) {
    let Some(cpu) = QUEUE_CPU.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own, and programs at this hook do not interrupt each other.
    let cpu = unsafe { &mut *cpu };
    let Some(now) = clock_ns(if next_tid != 0 { next } else { prev }, ktime_ns) else { return };
    let ran = if prev_tid == 0 { RAN_NOBODY } else { left(prev, prev_tid, leaves, now, cpu) };
    remember(cpu, ran, now);
    if next_tid != 0 {
        got(next, next_tid, now, cpu);
    }
}

/// The clock that waits are measured by: that of the run queue, which the kernel's own account is kept by and
/// which has just been set.
#[inline(always)]
fn clock_ns(task: *const TaskStruct, ktime_ns: u64) -> Option<u64> {
    match settings::SET_USE_SCHED_INFO.load() {
        0 => Some(ktime_ns),
        _ => OFF_RQ_CLOCK.of(OFF_CFS_RQ_RQ.of(OFF_TASK_CFS_RQ.of(task)?)?),
    }
}

/// A thread leaves the CPU. Its cgroup.
#[inline(always)]
fn left(task: *const TaskStruct, tid: u32, leaves: Leaves, now: u64, cpu: &mut CpuRow) -> u64 {
    let key = address(task);
    let Some(seat) = seats::of(tid) else { return 0 };
    // It has not been seen to get this CPU, or has had it for long.
    if seat.key != key || now >= seat.young_until_ns {
        settle(cpu, seat, task, key, now);
    }
    let delay_ns = delay_ns(task);
    // It got this CPU by a switch that was not reported, or left and got it again by such switches.
    if seat.state != ON_CPU || delay_ns > seat.queue_mark_ns {
        got_unseen(cpu, seat, delay_ns, now);
    }
    let ran_ns = ran_ns(seat, task, now);
    cpu.row.on_cpu_ns += ran_ns;
    if let Some(row) = row(seat.row) {
        add(&raw mut row.on_cpu_ns, ran_ns);
    }
    seat.left_ns = now;
    seat.state = if leaves == Leaves::Preempted { PREEMPTED } else { BLOCKED };
    seat.queue_mark_ns = delay_ns;
    if leaves == Leaves::ForGood {
        seat.key = 0;
    }
    seat.cgroup_id
}

/// The thread has waited since it was last seen: how long is in the kernel's account. Several such waits are told as one.
#[inline(never)]
fn got_unseen(cpu: &mut CpuRow, seat: &mut Seat, delay_ns: u64, now: u64) {
    if settings::SET_USE_SCHED_INFO.load() == 0 {
        return;
    }
    let wait_ns = delay_ns.wrapping_sub(seat.queue_mark_ns);
    let (bucket, preempted) = (wait_bucket(wait_ns) as u32, seat.state != BLOCKED);
    count_cpu(&mut cpu.row, wait_ns, bucket, preempted, now);
    if let Some(row) = row(seat.row) {
        count(row, wait_ns, bucket, preempted, 0, now);
    }
}

/// How long a thread that leaves has had the CPU: by the kernel's account, which knows of switches that were not
/// reported; with wake-up hooks, since it was seen to get it (then `left_ns`).
#[inline(always)]
fn ran_ns(seat: &Seat, task: *const TaskStruct, now: u64) -> u64 {
    let since = match settings::SET_USE_SCHED_INFO.load() {
        0 if seat.state == ON_CPU => seat.left_ns,
        0 => 0,
        _ => OFF_TASK_LAST_ARRIVAL.of(task).unwrap_or(0),
    };
    if since != 0 && now > since { now - since } else { 0 }
}

/// Adds the stretch that ends now.
#[inline(always)]
fn remember(cpu: &mut CpuRow, ran: u64, now: u64) {
    let mut at = cpu.latest as usize & (STRETCHES - 1);
    if cpu.stretches[at].ended_ns == 0 {
        // The first switch seen on this CPU: whoever ran began before that.
        cpu.stretches[at] = Stretch { ended_ns: now, cgroup_id: RAN_UNKNOWN };
        return;
    }
    if cpu.stretches[at].cgroup_id != ran {
        at = (at + 1) & (STRETCHES - 1);
        cpu.latest = at as u64;
        cpu.stretches[at].cgroup_id = ran;
    }
    cpu.stretches[at].ended_ns = now;
}

/// A thread gets the CPU.
#[inline(always)]
fn got(task: *const TaskStruct, tid: u32, now: u64, cpu: &mut CpuRow) {
    let key = address(task);
    let css_set = OFF_TASK_CGROUPS.of(task).map_or(0, address);
    let Some(seat) = seats::of(tid) else { return };
    if seat.key != key || seat.css_set != css_set || now >= seat.young_until_ns {
        settle(cpu, seat, task, key, now);
        seat.css_set = css_set;
    }
    let (here_ns, elsewhere_ns) = waited_ns(seat, task, now);
    let wait_ns = here_ns + elsewhere_ns;
    let bucket = wait_bucket(wait_ns) as u32;
    // One that is thought to run left by a switch that was not reported. A new one has left nothing yet.
    let preempted = seat.state == PREEMPTED || (seat.state == ON_CPU && seat.left_ns != 0);
    let away_ns = now.wrapping_sub(seat.left_ns);
    let blocked_ns = if seat.state == BLOCKED && away_ns > wait_ns { away_ns - wait_ns } else { 0 };
    count_cpu(&mut cpu.row, wait_ns, bucket, preempted, now);
    if let Some(row) = row(seat.row) {
        count(row, wait_ns, bucket, preempted, blocked_ns, now);
    }
    seat.state = ON_CPU;
    seat.left_ns = now;
    if settings::SET_USE_SCHED_INFO.load() != 0 {
        // What the kernel's account says as soon as the switch is done.
        seat.queue_mark_ns = delay_ns(task) + here_ns;
    }
    if wait_ns >= LONG_WAIT_NS {
        who_ran(seat.cgroup_id, now, here_ns, elsewhere_ns);
    }
}

/// How long the thread was ready: in this CPU's queue, and in others that it was moved away from.
#[inline(always)]
fn waited_ns(seat: &Seat, task: *const TaskStruct, now: u64) -> (u64, u64) {
    let queued = match settings::SET_USE_SCHED_INFO.load() {
        0 if seat.state == PREEMPTED => seat.left_ns,
        0 => seat.queue_mark_ns,
        _ => OFF_TASK_LAST_QUEUED.of(task).unwrap_or(0),
    };
    // Two CPUs' clocks may differ by a little.
    let here_ns = if queued != 0 && now > queued { now - queued } else { 0 };
    let elsewhere_ns = delay_ns(task).wrapping_sub(match settings::SET_USE_SCHED_INFO.load() {
        0 => 0,
        _ => seat.queue_mark_ns,
    });
    (here_ns, elsewhere_ns)
}

/// The kernel's own account of all the waits of a thread that have ended; 0 with wake-up hooks, which need none.
#[inline(always)]
fn delay_ns(task: *const TaskStruct) -> u64 {
    match settings::SET_USE_SCHED_INFO.load() {
        0 => 0,
        _ => OFF_TASK_RUN_DELAY.of(task).unwrap_or(0),
    }
}

/// Only this CPU writes the row.
#[inline(always)]
fn count_cpu(row: &mut QueueRow, wait_ns: u64, bucket: u32, preempted: bool, now: u64) {
    row.wait_ns += wait_ns;
    row.waits[at_most(u64::from(bucket), BUCKETS as u64 - 1) as usize] += 1;
    if preempted {
        row.preempted_ns += wait_ns;
        row.preempted += 1;
    }
    longest(row, wait_ns, now);
}

/// Several CPUs may write the row.
#[inline(always)]
fn count(row: &mut QueueRow, wait_ns: u64, bucket: u32, preempted: bool, blocked_ns: u64, now: u64) {
    add(&raw mut row.wait_ns, wait_ns);
    add32(&raw mut row.waits[at_most(u64::from(bucket), BUCKETS as u64 - 1) as usize], 1);
    if preempted {
        add(&raw mut row.preempted_ns, wait_ns);
        add32(&raw mut row.preempted, 1);
    } else if blocked_ns >= LONG_BLOCK_NS {
        add(&raw mut row.long_blocked_ns, blocked_ns);
        add32(&raw mut row.long_blocks, 1);
    } else if blocked_ns > 0 {
        add(&raw mut row.blocked_ns, blocked_ns);
    }
    longest(row, wait_ns, now);
}

/// Two CPUs may do this at once, and the shorter wait may stay: the histogram has both.
#[inline(always)]
fn longest(row: &mut QueueRow, wait_ns: u64, now: u64) {
    let (place, mark) = wait::longest_mark(now, wait_ns);
    if row.longest[place] < mark {
        row.longest[place] = mark;
    }
}

#[inline(always)]
fn row(index: u32) -> Option<&'static mut QueueRow> {
    // SAFETY: rows are never freed, and counts that CPUs share only grow by atomic adds.
    QUEUE_ROWS.get_ptr_mut(index).map(|row| unsafe { &mut *row })
}

/// Finds out whose a thread is and where its waits are counted.
#[inline(never)]
fn settle(cpu: &mut CpuRow, seat: &mut Seat, task: *const TaskStruct, key: u64, now: u64) {
    if seat.key != key {
        seat.key = key;
        seat.css_set = 0;
        seat.left_ns = 0;
        seat.queue_mark_ns = delay_ns(task);
        seat.state = ON_CPU;
    }
    seat.cgroup_id = cgroup_id_of(task).unwrap_or(0);
    seat.young_until_ns = u64::MAX;
    let mut own = Task { tid: 0, ..identity(task) };
    if !is_user(task) {
        own = Task { start_ns: 0, tgid: KERNEL_THREADS, tid: 0 };
    } else if since_boot_ns().wrapping_sub(own.start_ns) < QUEUE_AGE_NS {
        own = Task::default();
        seat.young_until_ns = now + QUEUE_AGE_NS;
    }
    let shared = QueueKey { task: Task::default(), cgroup_id: seat.cgroup_id };
    seat.row = match row_of(cpu, QueueKey { task: own, ..shared }) {
        Some(row) => row,
        None => {
            ring::miss(Miss::QueueTableFull);
            seat.young_until_ns = now + QUEUE_AGE_NS;
            row_of(cpu, shared).unwrap_or(0)
        }
    };
}

/// The row with this key, made if there is a free one.
#[inline(always)]
fn row_of(cpu: &mut CpuRow, key: QueueKey) -> Option<u32> {
    if let Some(index) = index_of(&key) {
        return Some(index);
    }
    let index = QUEUE_FREE.pop().ok().flatten()?;
    row(index)?.key = key;
    if QUEUE_INDEX.insert(&key, &index, BPF_NOEXIST).is_ok() {
        cpu.rows_begun += 1;
        return Some(index);
    }
    // Another CPU was faster, or the table is full.
    let _ = QUEUE_FREE.push(index, 0);
    index_of(&key)
}

#[inline(always)]
fn index_of(key: &QueueKey) -> Option<u32> {
    // SAFETY: an index is written once, before others can find it.
    QUEUE_INDEX.get_ptr(key).map(|index| unsafe { *index })
}

/// The bucket of a wait. A function of its own, and known to the kernel as such: of its result nothing is known then, so
/// that what follows is not verified for each bucket.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wait_bucket(wait_ns: u64) -> u64 {
    u64::from(wait::bucket(wait_ns))
}

/// Says who ran while a thread of `waiter` waited in this CPU's queue for the last `here_ns`. A function of its own, and
/// known to the kernel as such: it is verified once, not in every state that a switch may be in.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn who_ran(waiter: u64, now: u64, here_ns: u64, elsewhere_ns: u64) -> u64 {
    let Some(cpu) = QUEUE_CPU.get_ptr(0) else { return 0 };
    // SAFETY: this CPU's own, as in `switched`.
    let cpu = unsafe { &*cpu };
    let begun = now - here_ns;
    let mut told_ns = 0;
    let mut until = now;
    let mut back = 0;
    while back < STRETCHES as u64 && until > begun {
        let at = cpu.latest.wrapping_sub(back) as usize & (STRETCHES - 1);
        let before = cpu.stretches[at.wrapping_sub(1) & (STRETCHES - 1)].ended_ns;
        // The oldest stretch remembered: the one before it has been written over by the latest.
        if back == STRETCHES as u64 - 1 || before == 0 {
            break;
        }
        let from = if before > begun { before } else { begun };
        if until > from {
            push(waiter, cpu.stretches[at].cgroup_id, until - from);
            told_ns += until - from;
        }
        until = from;
        back += 1;
    }
    let untold_ns = here_ns + elsewhere_ns - at_most(told_ns, here_ns);
    if untold_ns > 0 {
        push(waiter, RAN_UNKNOWN, untold_ns);
    }
    0
}

#[inline(always)]
fn push(waiter: u64, ran: u64, ns: u64) {
    let key = PushedKey { waiter, ran };
    let count = PUSHED.get_ptr_mut(&key).or_else(|| {
        // Another CPU may have been faster: then its row is found below.
        let _ = PUSHED.insert(&key, &PushedCount { stretches: 0, ns: 0 }, BPF_NOEXIST);
        PUSHED.get_ptr_mut(&key)
    });
    match count {
        // SAFETY: rows are only removed by nobody; numbers only grow by atomic adds.
        Some(count) => unsafe {
            add(&raw mut (*count).stretches, 1);
            add(&raw mut (*count).ns, ns);
        },
        None => ring::miss(Miss::PushedTableFull),
    }
}

/// Second rung only: when a thread became ready.
#[inline(always)]
pub fn woken(task: *const TaskStruct, tid: u32, ktime_ns: u64) {
    if let Some(seat) = seats::of(tid)
        && seat.key == address(task)
        && seat.queue_mark_ns == 0
    {
        seat.queue_mark_ns = ktime_ns;
    }
}
