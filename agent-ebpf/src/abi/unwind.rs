//! Tables that tell how to get from a function to its caller where code keeps no frame pointers, as the agent makes them
//! of a binary's `.eh_frame`, and which processes have them. Written by the agent, read by the kernel programs.
//!
//! A table is a tree of [`Node`]s of three levels. Node 0 is the root: first addresses of index nodes, which follow it.
//! Those hold the first addresses of row nodes, which come last. What is not used holds [`NO_PC`]. Addresses are those of
//! the binary as it is linked, less where its table begins: 32 bits do.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Words of a node: half a KiB, so that a table is written by few calls.
pub const NODE_WORDS: usize = 128;
/// First addresses in a root or index node.
pub const NODE_FIRSTS: usize = NODE_WORDS;
/// Rows in a row node: pairs of address and [rule](crate::rules::unwind::Rule).
pub const NODE_ROWS: usize = NODE_WORDS / 2;
/// Rows of the largest table: what three levels hold, 8 MiB.
pub const TABLE_ROWS_MAX: usize = NODE_FIRSTS * NODE_FIRSTS * NODE_ROWS;
/// An address behind all others.
pub const NO_PC: u32 = u32::MAX;

/// Mappings of code of one process. Python with thirty extension modules has forty.
pub const MAPPINGS: usize = 64;
/// Tables at once: binaries and libraries that the processes with tables run.
pub const TABLES_MAX: u32 = 256;
/// Processes at once that have tables.
pub const PROCESSES_MAX: u32 = 512;
/// In the place of a table: the code keeps frame pointers, or nothing better is known of it.
pub const FRAME_POINTERS: u32 = u32::MAX;

/// A piece of a table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Node {
    /// First addresses, or pairs of address and rule; in ascending order.
    pub words: [u32; NODE_WORDS],
}
const _: () = assert!(size_of::<Node>() == 512);

/// A mapping of code.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Mapped {
    /// Its length.
    pub bytes: u64,
    /// What to take off an address to have the one that its table knows it by.
    pub bias: u64,
    /// Number of its table, or [`FRAME_POINTERS`].
    pub table: u32,
    /// Index nodes of that.
    pub index_nodes: u32,
}
const _: () = assert!(size_of::<Mapped>() == 24);

/// The code that a process has mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Image {
    /// Where each mapping begins, in ascending order; behind them `i64::MAX`.
    pub starts: [u64; MAPPINGS],
    /// The mappings.
    pub mapped: [Mapped; MAPPINGS],
}
const _: () = assert!(size_of::<Image>() == 2_048);

/// A process that has tables, found by its pid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Registered {
    /// Its start, as in [`super::Task::start_ns`]: another process may have the pid by now.
    pub start_ns: u64,
    /// Number of its [`Image`].
    pub image: u32,
    /// 1 = the image can be used; 0 = the agent is reading the mappings at this moment.
    pub ready: u32,
}
const _: () = assert!(size_of::<Registered>() == 16);
