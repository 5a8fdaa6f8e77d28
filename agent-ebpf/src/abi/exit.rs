//! A process ended: how, and where its time went.

use super::{COMM_BYTES, Header, Task, split::Split};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process whose spawn was seen has ended. Emitted when its last thread leaves the CPU for good, so that
/// tearing down its memory and files is inside.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Exit {
    /// `header.ktime_ns` is the end of the process; minus `spawned_ns` it is the wall time.
    pub header: Header,
    /// The process.
    pub task: Task,
    /// Who spawned it.
    pub spawner: Task,
    /// Its cgroup id when its last thread began to exit.
    pub cgroup_id: u64,
    /// When it was spawned (monotonic ns), as in its [`super::spawn::Spawn`] record.
    pub spawned_ns: u64,
    /// When its last successful exec finished; 0 if it never called exec.
    pub exec_ns: u64,
    /// When the last thread began to exit (`sched_process_exit`); what follows is teardown.
    pub exiting_ns: u64,
    /// The main thread's split, from spawn to its own end. For a process with one thread this adds up to the
    /// wall time. After an exec by another thread that thread is the main one, and this begins with its birth.
    pub main: Split,
    /// All threads together, main included. Adds up to `thread_ns`.
    pub threads: Split,
    /// Sum of the lifetimes of all threads, main included.
    pub thread_ns: u64,
    /// How many threads it had in all, main included.
    pub thread_count: u32,
    /// Wait status as the kernel keeps it: exit code << 8, or the signal (| 0x80 with a core).
    pub status: u32,
    /// Successful execs in its life.
    pub execs: u32,
    /// Failed execs in its life.
    pub exec_fails: u32,
    /// Bits: [`FLAG_SPLIT_PARTIAL`], [`FLAG_EARLY`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// The main thread's last comm.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<Exit>() == 352);

/// One of its threads could not be tracked: the splits miss that thread's time.
pub const FLAG_SPLIT_PARTIAL: u32 = 1;
/// It was there before the programs were, and the agent asked for its end: beside task, cgroup, comm, end and status all is 0.
pub const FLAG_EARLY: u32 = 2;
