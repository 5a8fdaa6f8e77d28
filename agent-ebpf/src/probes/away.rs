//! Threads that are away from the CPU: how long, why, and with which stacks. Called from the one program on
//! `sched_switch`.
//!
//! Most absences are short, and all that happens for those is a few loads and stores in the thread's slot. Stacks
//! cost a hundred times as much. A user stack can only be had as the thread leaves, when nobody knows how long it
//! will be away, so it is taken of threads whose last absence was long, and of those that wait for a lock or for a
//! child. A kernel stack can also be had of a thread that comes back. Both within a budget.

use aya_ebpf::{macros::map, maps::PerCpuArray, programs::BtfTracePointContext};
use slowpod_ebpf::abi::{
    sample::{FLAG_PREEMPTED, SampleKind},
    settings::{Knob, LOOKS_STRETCH_NS},
    split::Cause,
    threads::{BLOCKED, CAUSE_TAKEN, DEAD, EXPECTED_LONG, ON_CPU, PREEMPTED, STACKS_TAKEN, Slot, TRACKED},
};
use slowpod_ebpf::rules::verifier::at_most;

use super::{
    blocked::{self, LongCall},
    kernel::{OFF_TASK_PID, OFF_TASK_RUN_DELAY, TaskStruct, identity, is_own, is_user},
    sample::{self, What},
    settings,
    split::queue_wait_ns,
    stack::{self, Place, Side},
    threads,
};

/// How a thread leaves the CPU.
#[derive(Clone, Copy, PartialEq)]
pub enum Leaves {
    Preempted,
    Blocked,
    ForGood,
}

impl Leaves {
    /// From its number.
    #[inline(always)]
    pub fn of(number: u64) -> Leaves {
        match number {
            0 => Leaves::Preempted,
            1 => Leaves::Blocked,
            _ => Leaves::ForGood,
        }
    }
}

/// In the place of a [`Cause`]'s number: there is none. (An `Option` leaves its value undefined without one, and the
/// verifier refuses a program that as much as moves that.)
pub const NO_CAUSE: u32 = u32::MAX;

/// Looks at stacks on this CPU in the present stretch of time.
#[repr(C)]
struct Budget {
    /// Which stretch, counted since boot.
    stretch: u64,
    /// Looks so far at threads that wait for a lock. There are few, and they tell most: a storm of short children must
    /// not use theirs up.
    spent_on_locks: u64,
    /// Looks at all others.
    spent: u64,
}

#[map]
static BUDGET: PerCpuArray<Budget> = PerCpuArray::with_max_entries(1, 0);
/// `prev`, the running thread, leaves the CPU. `tracked`: why it blocks, by the row it has in the table of tracked threads;
/// [`NO_CAUSE`] = it has none.
#[inline(always)]
pub fn left(ctx: &BtfTracePointContext, prev: *const TaskStruct, how: Leaves, tracked: u32, now: u64) {
    let tid = OFF_TASK_PID.of(prev).unwrap_or(0);
    // The idle task.
    if tid == 0 {
        return;
    }
    let Some(slot) = threads::slot(tid) else { return };
    if slot.birth != threads::birth(prev) {
        threads::take(slot, prev, tid, now);
    } else if slot.state == ON_CPU {
        slot.on_cpu_ns += now.wrapping_sub(slot.since_ns);
    }
    slot.since_ns = now;
    let expected_long = slot.flags & EXPECTED_LONG;
    slot.flags = expected_long | if tracked != NO_CAUSE { TRACKED } else { 0 };
    match how {
        Leaves::ForGood => {
            slot.state = DEAD;
            return;
        }
        Leaves::Preempted => slot.state = PREEMPTED,
        Leaves::Blocked => {
            slot.state = BLOCKED;
            slot.queue_mark = match settings::SET_USE_SCHED_INFO.load() {
                0 => 0,
                _ => mark(OFF_TASK_RUN_DELAY.of(prev).unwrap_or(0)),
            };
            if tracked != NO_CAUSE {
                slot.cause = tracked as u8;
                slot.flags |= CAUSE_TAKEN;
            }
        }
    }
    let call = match (how, tracked) {
        (Leaves::Preempted | Leaves::ForGood, _) => LongCall::None,
        (Leaves::Blocked, NO_CAUSE) => blocked::long_call(),
        (Leaves::Blocked, cause) => match cause {
            cause if cause == Cause::FileLock as u32 => LongCall::Lock,
            cause if cause == Cause::ChildWait as u32 => LongCall::Child,
            _ => LongCall::None,
        },
    };
    if (expected_long != 0 || call != LongCall::None) && is_watched(prev) && may_look(now, call) {
        let cause = match (how, tracked) {
            (Leaves::Preempted | Leaves::ForGood, _) => NO_CAUSE,
            (Leaves::Blocked, NO_CAUSE) => blocked::cause(prev),
            (Leaves::Blocked, cause) => cause,
        };
        look(ctx, slot, prev, cause, now);
    }
}

/// Takes down the running thread's stacks, and why it blocks; [`NO_CAUSE`] = it does not.
#[inline(always)]
fn look(ctx: &BtfTracePointContext, slot: &mut Slot, prev: *const TaskStruct, cause: u32, now: u64) {
    let task = identity(prev);
    slot.kernel_stack = match cause {
        // Of a thread that was taken off the CPU the kernel's stack tells nothing but that.
        NO_CAUSE => 0,
        // From these calls the kernel takes the same way to sleep each time.
        cause if takes_one_way(cause) => stack::of_call(ctx, Place::SAMPLES, prev, task, now),
        _ => stack::id(ctx, Place::SAMPLES, prev, task, Side::Kernel, now),
    };
    if cause != NO_CAUSE {
        slot.cause = cause as u8;
        slot.flags |= CAUSE_TAKEN;
    }
    slot.user_stack = stack::id(ctx, Place::SAMPLES, prev, task, Side::User, now);
    slot.flags |= STACKS_TAKEN;
    threads::look_at_owner(slot, prev);
}

/// Whether threads that block for this cause all have the kernel's stack of their system call.
#[inline(always)]
fn takes_one_way(cause: u32) -> bool {
    cause == Cause::ChildWait as u32 || cause == Cause::Futex as u32 || cause == Cause::Sleep as u32
}

/// What a slot knew of a thread that gets a CPU.
pub enum Knew {
    /// Nothing: it was never seen to leave, or another thread took its slot meanwhile.
    Nothing,
    /// It has no row in the table of tracked threads.
    Untracked,
    /// It has; and of its absence it spent so long in a run queue.
    Tracked { queued_ns: u64 },
}

/// `next` gets the CPU; another thread is still the running one.
#[inline(always)]
pub fn came(next: *const TaskStruct, tid: u32, now: u64) -> Knew {
    let Some(slot) = threads::slot(tid) else { return Knew::Nothing };
    if slot.birth != threads::birth(next) {
        return Knew::Nothing;
    }
    let state = slot.state;
    let since = slot.since_ns;
    let away = now.wrapping_sub(since);
    slot.since_ns = now;
    slot.state = ON_CPU;
    let queued = match state {
        PREEMPTED => away,
        BLOCKED => at_most(queued_ns(slot.queue_mark, next, now), away),
        // It left by a switch that was not reported: what it did meanwhile is not known.
        _ => return Knew::Nothing,
    };
    let blocked = away.wrapping_sub(queued);
    slot.runnable_ns += queued;
    slot.blocked_ns += blocked;
    let tracked = slot.flags & TRACKED != 0;
    let min = settings::SET_AWAY_MIN_NS.load();
    if away < min {
        slot.flags &= !EXPECTED_LONG;
    } else {
        slot.flags |= EXPECTED_LONG;
        if is_watched(next) {
            tell(slot, next, &Absence { state, since, blocked, queued, min, now });
        }
    }
    if tracked { Knew::Tracked { queued_ns: queued } } else { Knew::Untracked }
}

/// A long absence that is over.
struct Absence {
    /// [`PREEMPTED`] or [`BLOCKED`].
    state: u8,
    /// When it began.
    since: u64,
    /// How much of it was blocked,
    blocked: u64,
    /// and how much in a run queue.
    queued: u64,
    /// What is not worth a record.
    min: u64,
    /// When it ended.
    now: u64,
}

/// Sends what an absence is made of: blocked, then waiting for a CPU.
#[inline(always)]
fn tell(slot: &Slot, next: *const TaskStruct, absence: &Absence) {
    let Some(owner) = threads::owner(slot.tid) else { return };
    if owner.birth != slot.birth {
        return;
    }
    let (mut user_stack, mut kernel_stack, mut cause) = (slot.user_stack, slot.kernel_stack, slot.cause);
    if slot.flags & CAUSE_TAKEN == 0 {
        cause = blocked::cause_of_returning(next) as u8;
    }
    if slot.flags & STACKS_TAKEN == 0 {
        user_stack = 0;
        kernel_stack = 0;
        if absence.state == BLOCKED && may_look(absence.now, LongCall::None) {
            kernel_stack = stack::of_other(next, owner.task, absence.now);
        }
    }
    let what = What {
        user_stack,
        kernel_stack,
        period_ns: 0,
        begun_ns: absence.since,
        value_ns: absence.blocked,
        kind: SampleKind::OffCpu,
        cause: u32::from(cause),
        flags: 0,
    };
    if absence.state == BLOCKED && absence.blocked >= absence.min {
        sample::send(absence.now, owner, &what);
    }
    if absence.queued >= absence.min {
        sample::send(
            absence.now,
            owner,
            &What {
                begun_ns: absence.now - absence.queued,
                value_ns: absence.queued,
                kind: SampleKind::RunQueue,
                cause: Cause::Other as u32,
                flags: if absence.state == PREEMPTED { FLAG_PREEMPTED } else { 0 },
                ..what
            },
        );
    }
}

/// Threads of the kernel wait for work most of their time, and the agent for those it watches.
#[inline(always)]
fn is_watched(thread: *const TaskStruct) -> bool {
    !is_own(thread) && is_user(thread)
}

/// How long a thread that had blocked was ready before it got the CPU.
#[inline(always)]
fn queued_ns(then: u32, next: *const TaskStruct, now: u64) -> u64 {
    match settings::SET_USE_SCHED_INFO.load() {
        0 if then == 0 => 0,
        0 => since_mark(then, now),
        // Waits that ended when it was moved to another run queue, and the one that ends now.
        _ => OFF_TASK_RUN_DELAY.of(next).map_or(0, |delay| since_mark(then, delay)) + queue_wait_ns(next),
    }
}

/// Second rung only: a blocked thread is ready from now on.
#[inline(always)]
pub fn woken(thread: *const TaskStruct, now: u64) {
    if let Some(slot) = threads::slot(OFF_TASK_PID.of(thread).unwrap_or(0))
        && slot.birth == threads::birth(thread)
        && slot.state == BLOCKED
        && slot.queue_mark == 0
    {
        slot.queue_mark = mark(now);
    }
}

/// A growing number of nanoseconds as a slot keeps it: a microsecond is fine enough, and 32 bits wrap after an hour.
#[inline(always)]
fn mark(ns: u64) -> u32 {
    (ns >> 10) as u32
}

/// How much a number has grown since.
#[inline(always)]
fn since_mark(then: u32, ns: u64) -> u64 {
    u64::from(mark(ns).wrapping_sub(then)) << 10
}

/// Whether a stack may be looked at now.
#[inline(always)]
fn may_look(now: u64, call: LongCall) -> bool {
    let Some(budget) = BUDGET.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's slot of a map that is never freed; the scheduler does not interrupt itself.
    let budget = unsafe { &mut *budget };
    let stretch = now / LOOKS_STRETCH_NS;
    if budget.stretch != stretch {
        *budget = Budget { stretch, spent_on_locks: 0, spent: 0 };
    }
    let spent = if call == LongCall::Lock { &mut budget.spent_on_locks } else { &mut budget.spent };
    *spent += 1;
    *spent <= settings::knob(Knob::Looks)
}
