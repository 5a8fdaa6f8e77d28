//! Call stacks, sent once each and then named by a hash of their frames.

use super::{Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most frames kept of one stack: what the kernel walks unless `kernel.perf_event_max_stack` was raised. Deeper
/// ones are cut at the root end, and one of this depth is taken for cut.
pub const FRAMES: usize = 127;

/// A stack seen for the first time since attach. The record goes on with `depth` addresses (u64, the
/// innermost frame first).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Stack {
    /// When.
    pub header: Header,
    /// Whose it is: user addresses mean nothing without the process.
    pub task: Task,
    /// FNV-1a over tgid (user stacks only) and frames; never 0. What other records name it by.
    pub id: u64,
    /// Frames that follow.
    pub depth: u32,
    /// 1 = user stack, 0 = kernel stack.
    pub user: u32,
}
const _: () = assert!(size_of::<Stack>() == 48);
