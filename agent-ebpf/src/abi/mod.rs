//! The contract: one file per probe with its record and its hooks, and the tables that list them.
//!
//! Rules for every record: fixed-width integers only (no `usize`, no `bool`, no enums), no implicit padding
//! (the `IntoBytes` derive refuses it), [`Header`] first, a size assert beside the type.

pub mod cgroup;
pub mod cni;
pub mod exec;
pub mod exit;
pub mod flood;
pub mod netlink;
pub mod offsets;
pub mod output;
pub mod probes;
pub mod queue;
pub mod reap;
pub mod sample;
pub mod settings;
pub mod spawn;
pub mod split;
pub mod stack;
pub mod threads;
pub mod unwind;
pub mod wait;
pub mod wakes;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Starts every record, in the kernel's rings, on a tape and in the flight recorder.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// When it happened, on the kernel's monotonic clock (`CLOCK_MONOTONIC`, nanoseconds).
    pub ktime_ns: u64,
    /// What it is: a [`Kind`] as a number.
    pub kind: u32,
    /// Length of the whole record in bytes, this header included.
    pub len_bytes: u32,
}
const _: () = assert!(size_of::<Header>() == 16);

/// A process or one of its threads, named so that a recycled pid is another one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Task {
    /// When the process (the thread-group leader) started: `task_struct.start_boottime`, nanoseconds since
    /// boot. 0 when unknown.
    pub start_ns: u64,
    /// Process id as the host's initial pid namespace counts it.
    pub tgid: u32,
    /// Thread id; equals `tgid` for the main thread.
    pub tid: u32,
}
const _: () = assert!(size_of::<Task>() == 16);

/// Bytes of a task's `comm`, NUL-padded (`TASK_COMM_LEN`).
pub const COMM_BYTES: usize = 16;

/// Every kind of record. Matched everywhere without a wildcard, so a new kind does not compile until each
/// stage says what it means.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A process or thread was made: [`spawn::Spawn`].
    Spawn = 1,
    /// A process became another program: [`exec::Exec`], then path and argv bytes.
    Exec = 2,
    /// An exec failed: [`exec::ExecFail`], then path bytes.
    ExecFail = 3,
    /// A process ended, with its time split: [`exit::Exit`].
    Exit = 4,
    /// A parent collected a child: [`reap::Reap`].
    Reap = 5,
    /// A netlink message was sent: [`netlink::NetlinkSend`].
    NetlinkSend = 6,
    /// The kernel answered a netlink message with an error: [`netlink::NetlinkError`].
    NetlinkError = 7,
    /// A cgroup directory was made or removed: [`cgroup::Cgroup`], then path bytes.
    Cgroup = 8,
    /// A process was moved to another cgroup: [`cgroup::CgroupMove`].
    CgroupMove = 9,
    /// A call stack seen for the first time: [`stack::Stack`], then frame addresses.
    Stack = 10,
    /// Counts kept in the kernel for what did not go through the ring as records: [`flood::Flood`].
    Flood = 11,
    /// A program was started to do a CNI call: [`cni::Cni`], then `CNI_ARGS` bytes.
    Cni = 12,
    /// What a thread did or waited for, with its stacks: [`sample::Sample`].
    Sample = 13,
    /// Waits in run queues, counted in the kernel: [`queue::RunQueue`], then pairs of bucket and count.
    RunQueue = 14,
    /// Who ran while others waited, counted in the kernel: [`queue::Pushed`].
    Pushed = 15,
    /// A thread was blocked, and on what: [`wait::Wait`].
    Wait = 16,
    /// A CNI plugin wrote to its standard output or error: [`output::Output`], then bytes.
    Output = 17,
    /// Who woke whom, counted in the kernel while a client asks: [`wakes::Wakes`].
    Wakes = 18,
    /// A fact from outside the kernel's rings (start-up scan, clocks, losses, verdicts): JSON bytes.
    Fact = 64,
}

impl Kind {
    /// All kinds, in numeric order.
    pub const ALL: [Kind; 19] = [
        Kind::Spawn,
        Kind::Exec,
        Kind::ExecFail,
        Kind::Exit,
        Kind::Reap,
        Kind::NetlinkSend,
        Kind::NetlinkError,
        Kind::Cgroup,
        Kind::CgroupMove,
        Kind::Stack,
        Kind::Flood,
        Kind::Cni,
        Kind::Sample,
        Kind::RunQueue,
        Kind::Pushed,
        Kind::Wait,
        Kind::Output,
        Kind::Wakes,
        Kind::Fact,
    ];
    /// Slots in per-kind counter arrays: one more than the largest kind that the kernel submits.
    pub const KERNEL_SLOTS: usize = 24;

    /// The kind a number stands for; `None` for a number no kind has.
    pub fn from_u32(number: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// Name in metrics, JSON and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Spawn => "spawn",
            Kind::Exec => "exec",
            Kind::ExecFail => "exec_fail",
            Kind::Exit => "exit",
            Kind::Reap => "reap",
            Kind::NetlinkSend => "netlink_send",
            Kind::NetlinkError => "netlink_error",
            Kind::Cgroup => "cgroup",
            Kind::CgroupMove => "cgroup_move",
            Kind::Stack => "stack",
            Kind::Flood => "flood",
            Kind::Cni => "cni",
            Kind::Sample => "sample",
            Kind::RunQueue => "run_queue",
            Kind::Pushed => "pushed",
            Kind::Wait => "wait",
            Kind::Output => "output",
            Kind::Wakes => "wakes",
            Kind::Fact => "fact",
        }
    }
}

/// Reads a record's fixed part from the start of `bytes`, and hands back what follows it.
/// `None` when `bytes` is shorter than the record.
pub fn prefix<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(bytes).ok()
}

/// Names this contract: tapes and the kernel object of another one are refused. It covers the size of every
/// record; [`REVISION`] covers what sizes do not show.
pub const CONTRACT: u64 = {
    let sizes = [
        size_of::<Header>(),
        size_of::<spawn::Spawn>(),
        size_of::<exec::Exec>(),
        size_of::<exec::ExecFail>(),
        size_of::<exit::Exit>(),
        size_of::<reap::Reap>(),
        size_of::<netlink::NetlinkSend>(),
        size_of::<netlink::NetlinkError>(),
        size_of::<cgroup::Cgroup>(),
        size_of::<cgroup::CgroupMove>(),
        size_of::<stack::Stack>(),
        size_of::<flood::Flood>(),
        size_of::<cni::Cni>(),
        size_of::<sample::Sample>(),
        size_of::<queue::RunQueue>(),
        size_of::<queue::Pushed>(),
        size_of::<wait::Wait>(),
        size_of::<output::Output>(),
        size_of::<wakes::Wakes>(),
        split::CAUSES,
    ];
    let mut hash = crate::rules::hash::step(crate::rules::hash::START, REVISION);
    let mut index = 0;
    while index < sizes.len() {
        hash = crate::rules::hash::step(hash, sizes[index] as u64);
        index += 1;
    }
    hash
};
/// To be raised whenever a field of a record changes its meaning or its place.
pub const REVISION: u64 = 14;

/// Per-kind counters the kernel keeps beside its rings. `seen = submitted + dropped + counted` always holds,
/// which tests use as their oracle.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Tally {
    /// Happenings of this kind that a program saw and meant to report.
    pub seen: u64,
    /// Records that went into a ring.
    pub submitted: u64,
    /// Records lost because the ring was full.
    pub dropped: u64,
    /// Happenings that were only counted, on purpose, because the ring was nearly full.
    pub counted: u64,
}
const _: () = assert!(size_of::<Tally>() == 32);

/// Why a table in the kernel could not hold something. Index into the `MISSES` per-CPU array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Miss {
    /// No room to track a thread: its time split is missing.
    TaskTableFull = 0,
    /// No room to track a process: its exit is not reported with a split.
    ProcessTableFull = 1,
    /// No room to remember a stack.
    StackTableFull = 2,
    /// No room in the exact counters: what they should have counted is in this number only.
    FloodTableFull = 3,
    /// A stack walk failed.
    StackWalk = 4,
    /// Memory of the process could not be read (argv, path, netlink header).
    UserRead = 5,
    /// An environment was longer than what is looked at: a CNI call may have been named behind that.
    LongEnvironment = 6,
    /// Two living threads of ids that fall on one slot: the sums of one of them were given up.
    ThreadSlotShared = 7,
    /// No row for the run-queue waits of a process or cgroup: they are in the sums of the node only.
    QueueTableFull = 8,
    /// No row for who ran while another waited.
    PushedTableFull = 9,
    /// No room to remember what a thread waits for.
    WaitTableFull = 10,
    /// No row for who woke whom.
    WakeTableFull = 11,
    /// No room for tables to walk stacks by: those end where code keeps no frame pointers. Counted by the agent, which makes them.
    UnwindTablesFull = 12,
}

impl Miss {
    /// All reasons, in numeric order.
    pub const ALL: [Miss; 13] = [
        Miss::TaskTableFull,
        Miss::ProcessTableFull,
        Miss::StackTableFull,
        Miss::FloodTableFull,
        Miss::StackWalk,
        Miss::UserRead,
        Miss::LongEnvironment,
        Miss::ThreadSlotShared,
        Miss::QueueTableFull,
        Miss::PushedTableFull,
        Miss::WaitTableFull,
        Miss::WakeTableFull,
        Miss::UnwindTablesFull,
    ];
    /// Slots in the `MISSES` array.
    pub const SLOTS: usize = 16;

    /// Name in metrics and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Miss::TaskTableFull => "task_table_full",
            Miss::ProcessTableFull => "process_table_full",
            Miss::StackTableFull => "stack_table_full",
            Miss::FloodTableFull => "flood_table_full",
            Miss::StackWalk => "stack_walk",
            Miss::UserRead => "user_read",
            Miss::LongEnvironment => "long_environment",
            Miss::ThreadSlotShared => "thread_slot_shared",
            Miss::QueueTableFull => "queue_table_full",
            Miss::PushedTableFull => "pushed_table_full",
            Miss::WaitTableFull => "wait_table_full",
            Miss::WakeTableFull => "wake_table_full",
            Miss::UnwindTablesFull => "unwind_tables_full",
        }
    }
}
