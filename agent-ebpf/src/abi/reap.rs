//! A parent collected a child with wait4 or waitid.

use super::{Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One child collected, and what the collecting thread's wait cost it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Reap {
    /// `header.ktime_ns` is the instant the wait call returned.
    pub header: Header,
    /// The thread that waited.
    pub parent: Task,
    /// When it began to wait (`sched_process_wait`); 0 when not known.
    pub wait_begun_ns: u64,
    /// When it last made a process, whichever, before it began to wait; 0 when it was not seen to.
    pub cloned_ns: u64,
    /// Of the time from `cloned_ns` to `wait_begun_ns`: on a CPU, or blocked on anything but a child. The rest it spent
    /// in a run queue, or in the clone call for a child that shares its memory.
    pub own_ns: u64,
    /// Of the wait: on a CPU.
    pub on_cpu_ns: u64,
    /// Of the wait: in a run queue (the wake-up after the child ended).
    pub runnable_ns: u64,
    /// Of the wait: blocked. The three add up to the wait.
    pub blocked_ns: u64,
    /// The child's pid as the parent's pid namespace counts it.
    pub child_inner_pid: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Reap>() == 88);
