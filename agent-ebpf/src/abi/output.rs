//! What a CNI plugin writes to its standard output and error.

use super::{Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes kept of each stream of a process. A result with the interfaces and addresses of a chain takes one to two
/// thousand.
pub const STREAM_BYTES: usize = 4_096;

/// A process of a CNI call wrote to descriptor 1 or 2. The record goes on with `len` bytes: as written in the kernel's
/// ring; behind `capture` only the fields that CNI defines, as JSON.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Output {
    /// `header.ktime_ns` is when the write began.
    pub header: Header,
    /// The process; `tid` is the thread that wrote.
    pub task: Task,
    /// 1 or 2.
    pub fd: u32,
    /// Bytes that follow.
    pub len: u32,
    /// Bytes it wrote: of this write; behind `capture`, of the whole stream.
    pub written: u32,
    /// Bits: [`FLAG_CUT`], [`FLAG_UNREAD`], [`FLAG_UNPARSED`].
    pub flags: u32,
}
const _: () = assert!(size_of::<Output>() == 48);

/// There was more than what is kept.
pub const FLAG_CUT: u32 = 1;
/// The bytes could not be read from the writer's memory.
pub const FLAG_UNREAD: u32 = 2;
/// What was written is neither a CNI result nor a CNI error; nothing of it is kept.
pub const FLAG_UNPARSED: u32 = 4;
