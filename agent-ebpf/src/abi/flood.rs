//! Exact counts for what did not go through the ring: per (spawner, binary), kept in the kernel.
//!
//! Past [`super::settings::FLOOD_MARK_PERCENT`] of the ring the kernel sends the detail of one spawn in
//! [`super::settings::FLOOD_SAMPLE`] and only counts the others here; a record that found the ring full is
//! counted here too. Numbers only grow, so a reader takes differences.

use super::{COMM_BYTES, Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a binary's base name kept in a key, NUL-padded; longer names are cut.
pub const BINARY_BYTES: usize = 32;

/// Who spawned what.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FloodKey {
    /// The spawning process; `tid` is 0 so that its threads share a row.
    pub spawner: Task,
    /// Base name of the last program it became; the spawner's comm when it never called exec.
    pub binary: [u8; BINARY_BYTES],
}
const _: () = assert!(size_of::<FloodKey>() == 48);

/// Sums over the counted spawns of one key; times and failures cover `spawns` and `lost_ends` together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FloodCount {
    /// Spawns that ended and of which no record was sent at all.
    pub spawns: u64,
    /// Spawns whose start was sent as a record but whose exit found the ring full.
    pub lost_ends: u64,
    /// Of `lost_ends`: those of which the record of their last exec was lost as well, so that nothing else tells what
    /// program they were.
    pub nameless: u64,
    /// Of spawns and lost ends, with a non-zero wait status.
    pub failed: u64,
    /// Sum of their wall times, nanoseconds.
    pub wall_ns: u64,
    /// Sum of their time on a CPU, all threads.
    pub on_cpu_ns: u64,
    /// Sum of their time in a run queue.
    pub runnable_ns: u64,
    /// Sum of their time blocked.
    pub blocked_ns: u64,
    /// When the first of them was spawned, and
    pub first_ns: u64,
    /// when the last of them ended (monotonic ns).
    pub last_ns: u64,
}
const _: () = assert!(size_of::<FloodCount>() == 80);

/// A row's growth since the last tick, entered as a record by the agent. All fields of `count` are
/// differences but the two times.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Flood {
    /// When the counters were read.
    pub header: Header,
    /// Whose counts.
    pub key: FloodKey,
    /// How much they grew.
    pub count: FloodCount,
    /// Cgroup id of the spawner; 0 when not known.
    pub cgroup_id: u64,
    /// The spawner's comm; empty when not known.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<Flood>() == 168);
