//! Numbers the agent hands to the kernel programs before it loads them, as read-only globals, and the sizes
//! of the kernel's tables. The verifier sees constants.

/// Bytes of the ring for process life, cgroups and stacks. 4 MiB holds some 6,000 whole spawns, three
/// seconds of a storm at full speed on two cores.
pub const LIFE_RING_BYTES: u32 = 4 << 20;
/// Bytes of the ring for netlink: its own, so that a netlink storm cannot hide an exec storm.
pub const NETLINK_RING_BYTES: u32 = 1 << 20;
/// Bytes of the ring for samples, and for the stacks they name: 32,000 samples, as when ten thousand threads that wait
/// for one thing all get a CPU before the reader does.
pub const SAMPLES_RING_BYTES: u32 = 4 << 20;
/// An absence from the CPU shorter than this is only summed, per thread: it gets no record and no stacks.
pub const AWAY_MIN_NS: u64 = 1_000_000;
/// Past this fill, in percent, of the life ring the kernel only counts most spawns.
pub const FLOOD_MARK_PERCENT: u64 = 60;
/// While it only counts: one spawn in this many still goes out in full.
pub const FLOOD_SAMPLE: u64 = 16;
/// A record submitted past this fill, in percent, wakes the reader; below it the reader's timer does, since a
/// wake-up costs the producer more than the whole program.
pub const WAKE_MARK_PERCENT: u64 = 25;
/// Threads tracked at once. Each takes [`TASK_BYTES`] or less.
pub const TASKS_MAX: u32 = 16_384;
/// Processes tracked at once.
pub const PROCESSES_MAX: u32 = 8_192;
/// (spawner, binary) rows of exact counts.
pub const FLOOD_ROWS_MAX: u32 = 4_096;
/// Stacks remembered as already sent; the oldest are forgotten and sent again.
pub const STACKS_MAX: u32 = 4_096;
/// Processes whose run-queue waits are counted apart, half a KiB each; the others are counted by cgroup.
pub const QUEUE_ROWS_MAX: u32 = 4_096;
/// A process gets its own row of waits at this age: the short-lived have their splits, and thousands of them would
/// leave no rows.
pub const QUEUE_AGE_NS: u64 = 1_000_000_000;
/// Waits from here on say who ran meanwhile: a scheduling slice is about 3 ms.
pub const LONG_WAIT_NS: u64 = 1_000_000;
/// A block from here on is counted as a long one: longer than the agent's tick, it began before the last one.
pub const LONG_BLOCK_NS: u64 = 1_000_000_000;
/// Stretches of running that a CPU remembers; neighbours of one cgroup are one stretch. A power of two.
pub const STRETCHES: usize = 16;
/// (who waited, who ran) rows.
pub const PUSHED_ROWS_MAX: u32 = 4_096;
/// (who woke, who was woken) rows, counted while a client asks: every pair of a node's busy processes.
pub const WAKE_ROWS_MAX: u32 = 8_192;
/// Threads of CNI calls, and others that wait for a file lock, whose waits are followed at once: a hundred calls of
/// Go plugins and their IPAM. Each takes some 600 bytes.
pub const WAITERS_MAX: u32 = 2_048;
/// Processes of CNI calls that run as the agent attaches, and whose ends it asks for: a runtime does some tens at once.
pub const EARLY_MAX: u32 = 1_024;
/// Upper bound of one tracked thread's state.
pub const TASK_BYTES: usize = 256;

/// Numbers the agent may change while the programs run: indices into the map `KNOBS`, of u64 values.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knob {
    /// Time between two ticks of the sampling timers, nanoseconds. (The kernel tells a program the period its timer
    /// began with, whatever it was changed to.)
    SamplePeriodNs = 0,
    /// Stacks of absent threads that each CPU may look at in [`LOOKS_STRETCH_NS`].
    Looks = 1,
}

impl Knob {
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// The stretch of time that [`Knob::Looks`] is about: a power of two, 134 ms.
pub const LOOKS_STRETCH_NS: u64 = 1 << 27;

/// Names of the read-only globals of the kernel object, beside the offsets of [`super::offsets`].
pub mod globals {
    /// u64: bytes of the life ring as created; the fill marks are computed from it.
    pub const LIFE_RING_BYTES: &str = "SET_LIFE_RING_BYTES";
    /// u64: bytes of the netlink ring as created.
    pub const NETLINK_RING_BYTES: &str = "SET_NETLINK_RING_BYTES";
    /// u32: the agent's own tgid; it is not watched. 0 = watch everything.
    pub const OWN_TGID: &str = "SET_OWN_TGID";
    /// u32: 0 = cgroup id from the v2 hierarchy; n = from v1 controller number n - 1 (`css_set.subsys[n - 1]`).
    pub const CGROUP_SOURCE: &str = "SET_CGROUP_SOURCE";
    /// u32: hierarchy id whose cgroup events are wanted (0 = v2).
    pub const CGROUP_HIERARCHY: &str = "SET_CGROUP_HIERARCHY";
    /// u32: 1 = the run-queue time comes from the kernel's `sched_info`; 0 = from the wake-up hooks.
    pub const USE_SCHED_INFO: &str = "SET_USE_SCHED_INFO";
    /// u32: 1 = this kernel has `bpf_task_pt_regs` (5.15+), so syscall numbers and arguments can be read.
    pub const HAVE_PT_REGS: &str = "SET_HAVE_PT_REGS";
    /// u32: 1 = `sched_switch` hands over the state `prev` had (5.18+); 0 = it must be read from the task.
    pub const SWITCH_HAS_STATE: &str = "SET_SWITCH_HAS_STATE";
    /// [u32; 5]: numbers of the system calls that send on a socket, in the order of
    /// [`crate::rules::netlink::SendCall`]; u32::MAX = this architecture does not have it.
    pub const SEND_CALLS: &str = "SET_SEND_CALLS";
    /// [u32; 2]: numbers of the system calls recvmsg and recvfrom.
    pub const RECEIVE_CALLS: &str = "SET_RECEIVE_CALLS";
    /// u32: 1 = take user and kernel stacks of spawners.
    pub const SPAWN_STACKS: &str = "SET_SPAWN_STACKS";
    /// u64: [`super::AWAY_MIN_NS`], or what was chosen in its place.
    pub const AWAY_MIN_NS: &str = "SET_AWAY_MIN_NS";
    /// [u8; 512]: what each syscall number is called, as [`crate::rules::op::Op`] numbers.
    pub const SYSCALL_OP: &str = "SET_SYSCALL_OP";
    /// [u8; 512]: what each syscall number may block on, as [`crate::rules::cause::Call`] numbers.
    pub const SYSCALL_CLASS: &str = "SET_SYSCALL_CLASS";
}
/// Length of the syscall class table; a larger number is [`crate::rules::cause::Call::Unknown`].
pub const SYSCALL_SLOTS: usize = 512;
