//! A process or thread was made (fork, vfork, clone, clone3).

use super::{COMM_BYTES, Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One process or thread made by another. Emitted at `sched_process_fork`, before the child first runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Spawn {
    /// `header.ktime_ns` is the instant the child existed.
    pub header: Header,
    /// The thread that called fork. This is the spawner even when the child's `real_parent` is another
    /// process (`CLONE_PARENT`, as runc does).
    pub spawner: Task,
    /// The child. For a new thread, `tgid` and `start_ns` are the spawner's own.
    pub child: Task,
    /// When the spawner entered the clone call (monotonic ns); 0 when that hook is not attached.
    pub begun_ns: u64,
    /// The spawner's cgroup id, which the child inherits unless it was cloned into another.
    pub cgroup_id: u64,
    /// The spawner's user stack at this moment, as a [`super::stack::Stack::id`]; 0 = none.
    pub user_stack: u64,
    /// The spawner's kernel stack, likewise: the way from its system call to the fork, walked once per call number.
    pub kernel_stack: u64,
    /// Bits: [`FLAG_THREAD`], [`FLAG_SHARES_MEMORY`].
    pub flags: u32,
    /// The child's pid as its own innermost pid namespace counts it (what `wait4` returns in a container).
    pub inner_pid: u32,
    /// The spawner's comm, which the child starts with.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<Spawn>() == 104);

/// The child is a thread of the spawner's process, not a process.
pub const FLAG_THREAD: u32 = 1;
/// The child shares the spawner's memory (vfork, posix_spawn, Go's fork/exec).
pub const FLAG_SHARES_MEMORY: u32 = 2;
