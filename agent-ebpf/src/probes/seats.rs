//! Where every thread's waits for a CPU are counted: a seat by its id, found without a search. It stands beside the
//! thread's slot of `threads`, which is a full cache line.
//!
//! Two threads whose ids share a seat take it from each other, which costs time but no truth: whoever finds
//! another's seat begins it anew.

use aya_ebpf::{macros::map, maps::Array};
use slowpod_ebpf::abi::threads::SLOTS;

use super::kernel::{OFF_TASK_PID, TaskStruct};

/// The thread is on a CPU, or nothing is known of how it left.
pub const ON_CPU: u32 = 0;
/// It left the CPU while it could have run on.
pub const PREEMPTED: u32 = 1;
/// It left the CPU to wait for something.
pub const BLOCKED: u32 = 2;

/// One thread. Only the scheduler writes it, under the lock of the thread's run queue.
#[repr(C)]
pub struct Seat {
    /// Address of its `task_struct`; 0 = nobody's.
    pub key: u64,
    /// Address of its set of cgroups: when it changes, the thread was moved.
    pub css_set: u64,
    /// When it left the CPU, on the queue's clock; 0 = not seen.
    pub left_ns: u64,
    /// `sched_info.run_delay` when it left; with wake-up hooks, when it was woken (0 = not yet).
    pub queue_mark_ns: u64,
    /// From then on its row is to be looked up anew: it was too young for one of its own.
    pub young_until_ns: u64,
    /// Its cgroup.
    pub cgroup_id: u64,
    /// Its row of waits.
    pub row: u32,
    /// [`ON_CPU`], [`PREEMPTED`] or [`BLOCKED`].
    pub state: u32,
    /// Zero.
    pub reserved: u64,
}
const _: () = assert!(size_of::<Seat>() == 64);

#[map]
static SEATS: Array<Seat> = Array::with_max_entries(SLOTS, 0);

/// The seat of a thread id, whoever has it now. There is always one.
#[inline(always)]
pub fn of(tid: u32) -> Option<&'static mut Seat> {
    // SAFETY: seats are never freed; see `Seat` for who writes.
    SEATS.get_ptr_mut(tid & (SLOTS - 1)).map(|seat| unsafe { &mut *seat })
}

/// A thread was made: what its seat says is about a thread of the past.
#[inline(always)]
pub fn born(thread: *const TaskStruct) {
    if let Some(seat) = OFF_TASK_PID.of(thread).and_then(of) {
        seat.key = 0;
    }
}
