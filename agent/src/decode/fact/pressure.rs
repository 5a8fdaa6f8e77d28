//! How busy the node's disks are, as a fact.

use serde::{Deserialize, Serialize};

/// Counters of the node's disks since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// Microseconds in which some thread waited for I/O (PSI `some`); 0 without PSI.
    pub io_some_us: u64,
    /// Microseconds in which no thread ran because of it (PSI `full`).
    pub io_full_us: u64,
    /// Devices that were ever used.
    pub disks: Vec<Disk>,
}

/// Counters of one device since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Number as the kernel has it: major << 20 | minor.
    pub dev: u32,
    /// Kernel's name of it.
    pub name: String,
    /// Reads that completed.
    pub reads: u64,
    /// Writes that completed.
    pub writes: u64,
    /// Milliseconds in which it had something to do.
    pub busy_ms: u64,
}
