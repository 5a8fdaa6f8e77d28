//! Run queues: how long threads that were ready waited for a CPU, and who ran instead.
//!
//! The kernel keeps histograms per CPU and per process, and a table of who ran while others waited long. The
//! agent reads them on a tick; what they grew by enters as these records. In the kernel numbers only grow.

use super::{Header, Task, settings::STRETCHES};
use crate::rules::wait::BUCKETS;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Whose waits a row counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct QueueKey {
    /// The process; `tid` is 0. All 0: processes of the cgroup that are too young to have a row of their own
    /// ([`super::settings::QUEUE_AGE_NS`]) or found no room. `tgid` [`KERNEL_THREADS`]: all kernel threads.
    pub task: Task,
    /// Its cgroup; 0 = whatever found no room.
    pub cgroup_id: u64,
}
const _: () = assert!(size_of::<QueueKey>() == 24);

/// Pid that stands for all kernel threads: that of `kthreadd`, their parent.
pub const KERNEL_THREADS: u32 = 2;

/// What is counted of one process, or on one CPU. Numbers only grow, those of 32 bits around their end.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct QueueRow {
    /// Whose; zeroes for a CPU.
    pub key: QueueKey,
    /// Sum of all waits.
    pub wait_ns: u64,
    /// Of it, waits of threads that had not blocked before: they were preempted, or gave the CPU up.
    pub preempted_ns: u64,
    /// Time on a CPU, as threads left it.
    pub on_cpu_ns: u64,
    /// Time blocked, as threads came back, of blocks below [`super::settings::LONG_BLOCK_NS`].
    pub blocked_ns: u64,
    /// The same of longer blocks, and
    pub long_blocked_ns: u64,
    /// Marks of [`crate::rules::wait::longest_mark`].
    pub longest: [u64; 2],
    /// their number.
    pub long_blocks: u32,
    /// Number of waits in `preempted_ns`.
    pub preempted: u32,
    /// Number of waits, by [`crate::rules::wait::bucket`].
    pub waits: [u32; BUCKETS],
}
const _: () = assert!(size_of::<QueueRow>() == 472);

/// One CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CpuRow {
    /// What is counted on it. Of the numbers a process's row has, those about blocks stay 0.
    pub row: QueueRow,
    /// Who ran lately: a ring that ends at `latest`.
    pub stretches: [Stretch; STRETCHES],
    /// Place of the latest stretch.
    pub latest: u64,
    /// Rows of [`QueueKey`] that this CPU began.
    pub rows_begun: u64,
}
const _: () = assert!(size_of::<CpuRow>() == 744);

/// A stretch of time in which threads of one cgroup had the CPU; it began where the one before it ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Stretch {
    /// When it ended, on the run queue's clock; 0 = there was none yet.
    pub ended_ns: u64,
    /// Their cgroup, or [`RAN_NOBODY`].
    pub cgroup_id: u64,
}
const _: () = assert!(size_of::<Stretch>() == 16);

/// Growth of one row, entered as a record by the agent. [`RunQueue::buckets`] pairs of u32 follow: a bucket and how
/// many waits fell into it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RunQueue {
    /// When the row was read.
    pub header: Header,
    /// When it was read before.
    pub from_ns: u64,
    /// Whose; zeroes for a CPU.
    pub key: QueueKey,
    /// Number of the CPU; [`NO_CPU`] for a process.
    pub cpu: u32,
    /// Pairs that follow.
    pub buckets: u32,
    /// See [`QueueRow`].
    pub wait_ns: u64,
    /// See [`QueueRow`].
    pub preempted_ns: u64,
    /// See [`QueueRow`].
    pub on_cpu_ns: u64,
    /// See [`QueueRow`].
    pub blocked_ns: u64,
    /// See [`QueueRow`].
    pub long_blocked_ns: u64,
    /// Longest single wait since the row was read before, to 1,024 ns.
    pub longest_ns: u64,
    /// See [`QueueRow`].
    pub long_blocks: u32,
    /// See [`QueueRow`].
    pub preempted: u32,
}
const _: () = assert!(size_of::<RunQueue>() == 112);

/// [`RunQueue::cpu`] of a row that is a process's.
pub const NO_CPU: u32 = u32::MAX;

/// Who waited, and who had the CPU meanwhile; of waits of [`super::settings::LONG_WAIT_NS`] or more.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PushedKey {
    /// Cgroup of the thread that waited.
    pub waiter: u64,
    /// Cgroup of who ran, [`RAN_NOBODY`] or [`RAN_UNKNOWN`].
    pub ran: u64,
}
const _: () = assert!(size_of::<PushedKey>() == 16);

/// [`PushedKey::ran`]: the CPU was idle. A thread that is ready and does not run on an idle CPU is held back by its
/// own CPU quota, or its CPU was asleep.
pub const RAN_NOBODY: u64 = u64::MAX;
/// [`PushedKey::ran`]: not known. The wait was longer than what a CPU remembers, or began in another CPU's queue.
pub const RAN_UNKNOWN: u64 = u64::MAX - 1;

/// How much of whose waits somebody else had the CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PushedCount {
    /// Stretches of running, in long waits.
    pub stretches: u64,
    /// Their time.
    pub ns: u64,
}
const _: () = assert!(size_of::<PushedCount>() == 16);

/// Growth of one row of [`PushedKey`], entered as a record by the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Pushed {
    /// When the row was read.
    pub header: Header,
    /// When it was read before.
    pub from_ns: u64,
    /// Who waited, who ran.
    pub key: PushedKey,
    /// Growth.
    pub count: PushedCount,
}
const _: () = assert!(size_of::<Pushed>() == 56);
