//! Cgroup directories made and removed, and processes moved between them.

use super::{Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest cgroup path kept, in bytes; longer ones keep their end, which holds the container id.
pub const PATH_BYTES: usize = 512;

/// A cgroup directory was made or removed. The record goes on with `path_len` bytes of its path, relative to
/// the hierarchy's root (`/kubepods/besteffort/pod…`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Cgroup {
    /// When.
    pub header: Header,
    /// The cgroup's id: its directory's inode number.
    pub id: u64,
    /// Hierarchy it belongs to (0 = cgroup v2, else as in `/proc/self/cgroup`).
    pub hierarchy: u32,
    /// 1 = made, 0 = removed.
    pub made: u32,
    /// Bytes of path that follow.
    pub path_len: u32,
    /// 1 when the path was cut.
    pub path_cut: u32,
}
const _: () = assert!(size_of::<Cgroup>() == 40);

/// A process (or one thread) was moved to another cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CgroupMove {
    /// When.
    pub header: Header,
    /// Who was moved.
    pub task: Task,
    /// The cgroup it is in now.
    pub cgroup_id: u64,
    /// Hierarchy, as in [`Cgroup::hierarchy`].
    pub hierarchy: u32,
    /// 1 when the whole process moved, 0 for one thread.
    pub whole_process: u32,
}
const _: () = assert!(size_of::<CgroupMove>() == 48);
