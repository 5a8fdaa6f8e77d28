//! A process became another program, or tried to.

use super::{COMM_BYTES, Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest path kept, in bytes. Longer ones are cut and flagged.
pub const PATH_BYTES: usize = 256;
/// Longest argv kept, in bytes, NUL separators included. Longer ones are cut and flagged: attribution needs
/// the leading words only.
pub const ARGV_BYTES: usize = 512;

/// A successful exec. The record goes on with `path_len` bytes of the path as given to exec, then `argv_len`
/// bytes of argv, NUL-separated as in `/proc/PID/cmdline`. Neither needs to be UTF-8.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Exec {
    /// `header.ktime_ns` is the instant the new program was in place.
    pub header: Header,
    /// The process; `tid == tgid` always, since the calling thread becomes the leader.
    pub task: Task,
    /// The cgroup it ran in at this instant.
    pub cgroup_id: u64,
    /// Thread id that called exec; differs from `task.tid` when a non-leader thread did.
    pub old_tid: u32,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// Mount namespace (its inode number, as `readlink /proc/PID/ns/mnt` shows); 0 when not known.
    pub mount_ns: u32,
    /// Pid namespace, likewise.
    pub pid_ns: u32,
    /// Network namespace, likewise.
    pub net_ns: u32,
    /// Bits: [`FLAG_SCRIPT`], [`FLAG_PATH_CUT`], [`FLAG_ARGV_CUT`], [`FLAG_ARGV_UNREAD`], [`FLAG_REDACTED`],
    /// [`FLAG_CLASS_ONLY`].
    pub flags: u32,
    /// Length of the whole argv in bytes, before cutting.
    pub argv_total_bytes: u32,
    /// Bytes of path that follow the fixed part.
    pub path_len: u16,
    /// Bytes of argv that follow the path.
    pub argv_len: u16,
    /// The process's comm after the exec.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<Exec>() == 88);

/// The file was run by an interpreter: a `#!` script (argv holds the interpreter, then the script's path, then the
/// arguments), or a format that binfmt_misc knows.
pub const FLAG_SCRIPT: u32 = 1;
/// The path was longer than [`PATH_BYTES`].
pub const FLAG_PATH_CUT: u32 = 2;
/// The argv was longer than [`ARGV_BYTES`].
pub const FLAG_ARGV_CUT: u32 = 4;
/// The argv could not be read at all.
pub const FLAG_ARGV_UNREAD: u32 = 8;
/// The agent, never the kernel: something that looked like a secret was taken out of argv.
pub const FLAG_REDACTED: u32 = 16;
/// The agent, never the kernel: argv holds the words of its argv class and nothing else.
pub const FLAG_CLASS_ONLY: u32 = 32;

/// An exec that failed. The record goes on with `path_len` bytes of the path as given.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExecFail {
    /// `header.ktime_ns` is the instant the call returned.
    pub header: Header,
    /// The thread that tried.
    pub task: Task,
    /// The cgroup it runs in.
    pub cgroup_id: u64,
    /// Why, as a positive errno (2 = ENOENT, 13 = EACCES).
    pub errno: u32,
    /// Bits: [`FLAG_PATH_CUT`].
    pub flags: u32,
    /// Bytes of path that follow the fixed part.
    pub path_len: u32,
    /// Zero.
    pub reserved: u32,
    /// The caller's comm.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<ExecFail>() == 72);
