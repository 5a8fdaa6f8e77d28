//! Where a thread's time went: on a CPU, waiting for one, or blocked, and on what.
//!
//! The kernel keeps one [`Split`] per tracked thread and moves it forward at every `sched_switch` of that
//! thread, always on the same clock, so the parts add up to the whole by construction.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a thread was blocked on. The field's own words; see DESIGN §2.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Block I/O, or a regular file's inode, journal or page lock.
    Disk = 0,
    /// flock, fcntl or OFD locks.
    FileLock = 1,
    /// A futex: mutexes, condition variables, Go's scheduler.
    Futex = 2,
    /// Waiting for a child: wait4, waitid, or a vfork child that has not yet called exec.
    ChildWait = 3,
    /// A netlink socket, the RTNL lock included.
    Netlink = 4,
    /// A TCP, UDP or raw internet socket.
    Inet = 5,
    /// A unix-domain socket.
    Unix = 6,
    /// A pipe or FIFO.
    Pipe = 7,
    /// A timer: nanosleep, a poll with nothing but a time-out.
    Sleep = 8,
    /// A page fault that was not block I/O (memory-map lock, userfaultfd, reclaim).
    PageFault = 9,
    /// epoll, or poll and select on several descriptors: what it waits for cannot be told from here.
    Poll = 10,
    /// None of the above.
    Other = 11,
}

/// How many causes there are.
pub const CAUSES: usize = 12;

impl Cause {
    /// All causes, in numeric order.
    pub const ALL: [Cause; CAUSES] = [
        Cause::Disk,
        Cause::FileLock,
        Cause::Futex,
        Cause::ChildWait,
        Cause::Netlink,
        Cause::Inet,
        Cause::Unix,
        Cause::Pipe,
        Cause::Sleep,
        Cause::PageFault,
        Cause::Poll,
        Cause::Other,
    ];

    /// Key in JSON (`blocked_by`) and label value in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Disk => "disk",
            Cause::FileLock => "file_lock",
            Cause::Futex => "futex",
            Cause::ChildWait => "child_wait",
            Cause::Netlink => "netlink",
            Cause::Inet => "inet",
            Cause::Unix => "unix_socket",
            Cause::Pipe => "pipe",
            Cause::Sleep => "sleep",
            Cause::PageFault => "page_fault",
            Cause::Poll => "poll",
            Cause::Other => "other",
        }
    }
}

/// Time by state, in nanoseconds. `on_cpu_ns + runnable_ns + sum(blocked_ns)` is the tracked interval.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Split {
    /// Running on a CPU (interrupts that hit meanwhile included).
    pub on_cpu_ns: u64,
    /// Ready, waiting in a run queue.
    pub runnable_ns: u64,
    /// Blocked, by [`Cause`] number.
    pub blocked_ns: [u64; CAUSES],
}
const _: () = assert!(size_of::<Split>() == 112);

impl Split {
    /// Nanoseconds blocked, all causes together.
    pub fn blocked_total_ns(&self) -> u64 {
        self.blocked_ns.iter().sum()
    }

    /// Nanoseconds in all: the length of the tracked interval.
    pub fn total_ns(&self) -> u64 {
        self.on_cpu_ns + self.runnable_ns + self.blocked_total_ns()
    }

    /// Adds another split to this one, saturating.
    pub fn add(&mut self, other: &Split) {
        self.on_cpu_ns = self.on_cpu_ns.saturating_add(other.on_cpu_ns);
        self.runnable_ns = self.runnable_ns.saturating_add(other.runnable_ns);
        for (mine, theirs) in self.blocked_ns.iter_mut().zip(other.blocked_ns) {
            *mine = mine.saturating_add(theirs);
        }
    }
}
