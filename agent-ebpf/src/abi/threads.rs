//! What the kernel knows of every thread of the node: one slot each, found by thread id, in two arrays that the
//! agent reads through shared memory.
//!
//! A slot is taken by the last thread that left a CPU and whose id falls on it. Ids that are [`SLOTS`] apart share
//! one, so sums of a slot are those of one thread since it took the slot, and a change of `birth` tells.

use super::{COMM_BYTES, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Slots: three times the threads of the largest nodes that the kubelet's defaults allow (110 pods). A power of
/// two. They take 4 MiB of the kernel's memory.
pub const SLOTS: u32 = 32_768;

/// On a CPU since `since_ns`.
pub const ON_CPU: u8 = 0;
/// In a run queue since `since_ns`: it was taken off the CPU.
pub const PREEMPTED: u8 = 1;
/// Blocked since `since_ns`, and from some moment on perhaps in a run queue.
pub const BLOCKED: u8 = 2;
/// Ended at `since_ns`.
pub const DEAD: u8 = 3;

/// Flag: its last absence was long, so the next is expected to be.
pub const EXPECTED_LONG: u8 = 1;
/// Flag: stacks of the present absence were looked at when it began.
pub const STACKS_TAKEN: u8 = 2;
/// Flag: the kernel keeps a row with the time split of this thread.
pub const TRACKED: u8 = 4;
/// Flag: why it is blocked was found out when the present absence began.
pub const CAUSE_TAKEN: u8 = 8;

/// A thread's time, and where it is now. One cache line: the scheduler touches two at every switch.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Slot {
    /// When the thread was born, in units of 1,024 ns since boot (it wraps after an hour): tells apart threads that
    /// had the same id.
    pub birth: u32,
    /// Thread id; 0 = the slot was never taken.
    pub tid: u32,
    /// When the present state began (monotonic ns).
    pub since_ns: u64,
    /// Time on a CPU since the slot was taken, the present state left out, as in all sums.
    pub on_cpu_ns: u64,
    /// Time in run queues.
    pub runnable_ns: u64,
    /// Time blocked.
    pub blocked_ns: u64,
    /// User stack of the present absence; 0 = none was taken.
    pub user_stack: u64,
    /// Kernel stack, likewise.
    pub kernel_stack: u64,
    /// `sched_info.run_delay` when it blocked, in units of 1,024 ns (it wraps after an hour).
    pub queue_mark: u32,
    /// [`ON_CPU`], [`PREEMPTED`], [`BLOCKED`] or [`DEAD`].
    pub state: u8,
    /// A [`super::split::Cause`] number, with [`CAUSE_TAKEN`].
    pub cause: u8,
    /// Bits: [`EXPECTED_LONG`], [`STACKS_TAKEN`], [`TRACKED`], [`CAUSE_TAKEN`].
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
}
const _: () = assert!(size_of::<Slot>() == 64);

/// Who took the slot of the same number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Owner {
    /// The thread.
    pub task: Task,
    /// Its cgroup when it was last looked at.
    pub cgroup_id: u64,
    /// Its name then.
    pub comm: [u8; COMM_BYTES],
    /// [`Slot::birth`] of the thread this is about: another one than the slot's means that the owner is not
    /// known yet.
    pub birth: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Owner>() == 48);
