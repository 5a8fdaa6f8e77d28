//! What was not seen, or not whole. In: loss facts and what the fold itself notices. Out: the sums behind
//! every answer's completeness block.

use super::grow::Grow;
use slowpod_ebpf::abi::{Kind, Miss};
use std::collections::BTreeMap;

/// Sums of everything that is missing from an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loss {
    /// Records that came in, by kind.
    pub received: BTreeMap<&'static str, u64>,
    /// Records lost because a kernel ring was full, by kind.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Happenings only counted under flood, on purpose, by kind.
    pub counted: BTreeMap<&'static str, u64>,
    /// What kernel tables could not hold, by reason.
    pub misses: BTreeMap<&'static str, u64>,
    /// Times that the kernel skipped a program because it was already running on that CPU: seen on Linux 7.2.
    pub skipped: u64,
    /// Records that came later than the reorder window allows.
    pub late: u64,
    /// Bytes that were no record.
    pub garbled: u64,
    /// Execs whose argv was cut.
    pub argv_cut: u64,
    /// Paths that were cut.
    pub path_cut: u64,
    /// CNI environments of which a value was cut, or that were longer than what is looked at.
    pub cni_cut: u64,
    /// Netlink sends whose walk was cut, or that could not be read.
    pub netlink_cut: u64,
    /// Exits, execs and sends of processes whose spawn was never seen and whom the start-up scan missed.
    pub unattributed: u64,
    /// Splits that miss a thread.
    pub split_partial: u64,
    /// Ends that were lost: a sweep found the process gone.
    pub ends_swept: u64,
    /// Rows that found no room in a table of the fold, by table.
    pub evicted: BTreeMap<&'static str, u64>,
    /// Records the flight recorder had already dropped, and their bytes.
    pub recorder_evicted_records: u64,
    /// Bytes of those.
    pub recorder_evicted_bytes: u64,
}

impl Loss {
    /// Counts a record that came in.
    pub fn received(&mut self, kind: Kind) {
        *self.received.entry(kind.name()).or_default() += 1;
    }

    /// Counts records of a kind that were lost or only counted.
    pub fn lost(&mut self, kind: Kind, dropped: u64, counted: u64) {
        if dropped > 0 {
            self.dropped.entry(kind.name()).or_default().grow(dropped);
        }
        if counted > 0 {
            self.counted.entry(kind.name()).or_default().grow(counted);
        }
    }

    /// Counts what a kernel table could not hold.
    pub fn missed(&mut self, reason: Miss, count: u64) {
        self.misses.entry(reason.name()).or_default().grow(count);
    }

    /// Counts a row that found no room in `table`.
    pub fn evict(&mut self, table: &'static str, rows: u64) {
        if rows > 0 {
            self.evicted.entry(table).or_default().grow(rows);
        }
    }
}
