//! A program was started to do a CNI call: what its environment says.

use super::{COMM_BYTES, Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest `CNI_ARGS` kept, in bytes: what runtimes write takes some 250.
pub const ARGS_BYTES: usize = 1_024;

/// An exec with `CNI_COMMAND` in its environment. Follows that exec's own record. The record goes on with
/// `args_len` bytes of `CNI_ARGS`. All values are what the caller wrote: any bytes but NUL.
///
/// Children of a plugin inherit its environment, so they are told of in the same way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Cni {
    /// `header.ktime_ns` is a moment after the exec's.
    pub header: Header,
    /// The process; `tid == tgid`.
    pub task: Task,
    /// The cgroup it ran in: the runtime's, not the pod's.
    pub cgroup_id: u64,
    /// Which variables were there: bits of [`crate::rules::env::Key::bit`].
    pub found: u32,
    /// Which of their values were longer than what is kept, likewise; and [`FLAG_ENV_CUT`].
    pub cut: u32,
    /// Bytes of `CNI_ARGS` that follow the fixed part.
    pub args_len: u32,
    /// Zero.
    pub reserved: u32,
    /// The process's comm.
    pub comm: [u8; COMM_BYTES],
    /// `CNI_COMMAND`, NUL-padded as all that follow: ADD, DEL, CHECK, GC, STATUS, VERSION.
    pub command: [u8; 16],
    /// `CNI_IFNAME`; the kernel takes 15 bytes at most.
    pub ifname: [u8; 16],
    /// `TRACEPARENT`; 55 bytes in version 00 of the W3C format.
    pub traceparent: [u8; 64],
    /// `CNI_CONTAINERID`; 64 hexadecimal digits with every Kubernetes runtime.
    pub container_id: [u8; 128],
    /// `CNI_NETNS`.
    pub netns: [u8; 256],
}
const _: () = assert!(size_of::<Cni>() == 552);

/// In [`Cni::cut`]: the environment was longer than what is looked at, so more variables may have been there.
pub const FLAG_ENV_CUT: u32 = 1 << 31;
