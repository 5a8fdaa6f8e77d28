//! Exact counts for spawns that are not sent in full.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use slowpod_ebpf::abi::{
    Miss, Task,
    flood::{FloodCount, FloodKey},
    settings::{FLOOD_MARK_PERCENT, FLOOD_ROWS_MAX, FLOOD_SAMPLE},
};

use super::{
    kernel::add,
    ring::{self, Ring},
    tables::ProcessRow,
};

#[map]
static FLOOD: HashMap<FloodKey, FloodCount> = HashMap::with_max_entries(FLOOD_ROWS_MAX, 0);
/// Spawns seen on this CPU past the mark: every [`FLOOD_SAMPLE`]th is sent in full.
#[map]
static SAMPLED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

static NO_COUNT: FloodCount = FloodCount {
    spawns: 0,
    lost_ends: 0,
    nameless: 0,
    failed: 0,
    wall_ns: 0,
    on_cpu_ns: 0,
    runnable_ns: 0,
    blocked_ns: 0,
    first_ns: 0,
    last_ns: 0,
};

/// Why a spawn is counted here.
#[derive(Clone, Copy, PartialEq)]
pub enum Why {
    /// Nothing of it was sent.
    OnlyCounted,
    /// Its start was sent, its exit found the ring full.
    EndLost,
}

/// Whether the life ring is so full that most spawns are only counted.
#[inline(always)]
pub fn is_on() -> bool {
    Ring::Life.is_past(FLOOD_MARK_PERCENT)
}

/// Whether a new process is to be sent in full.
#[inline(always)]
pub fn wants_detail() -> bool {
    if !is_on() {
        return true;
    }
    let Some(sampled) = SAMPLED.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's slot.
    let turn = unsafe { *sampled };
    unsafe { *sampled = turn + 1 };
    turn % FLOOD_SAMPLE == 0
}

/// Counts a process that has ended.
#[inline(always)]
pub fn count(process: &ProcessRow, now: u64, why: Why) {
    let key = FloodKey { spawner: Task { tid: 0, ..process.spawner }, binary: process.binary };
    let Some(row) = row(&key) else {
        ring::miss(Miss::FloodTableFull);
        return;
    };
    let threads = &process.threads;
    let mut blocked_ns = 0;
    for ns in threads.blocked_ns {
        blocked_ns += ns;
    }
    // SAFETY: a row of a map that is never freed; numbers only grow by atomic adds.
    unsafe {
        match why {
            Why::OnlyCounted => add(&raw mut (*row).spawns, 1),
            Why::EndLost => {
                add(&raw mut (*row).lost_ends, 1);
                add(&raw mut (*row).nameless, u64::from(process.exec_lost));
            }
        }
        add(&raw mut (*row).failed, u64::from(process.status != 0));
        add(&raw mut (*row).wall_ns, now.wrapping_sub(process.spawned_ns));
        add(&raw mut (*row).on_cpu_ns, threads.on_cpu_ns);
        add(&raw mut (*row).runnable_ns, threads.runnable_ns);
        add(&raw mut (*row).blocked_ns, blocked_ns);
        // Two CPUs may both be first; either time will do.
        if (*row).first_ns == 0 {
            (*row).first_ns = process.spawned_ns;
        }
        (*row).last_ns = now;
    }
}

/// Counts a process that could not be tracked and is not sent: it will not be seen to end.
#[inline(always)]
pub fn count_untracked(spawner: Task, binary: [u8; slowpod_ebpf::abi::flood::BINARY_BYTES], now: u64) {
    let key = FloodKey { spawner: Task { tid: 0, ..spawner }, binary };
    let Some(row) = row(&key) else {
        ring::miss(Miss::FloodTableFull);
        return;
    };
    // SAFETY: as in `count`.
    unsafe {
        add(&raw mut (*row).spawns, 1);
        if (*row).first_ns == 0 {
            (*row).first_ns = now;
        }
        (*row).last_ns = now;
    }
}

#[inline(always)]
fn row(key: &FloodKey) -> Option<*mut FloodCount> {
    if let Some(row) = FLOOD.get_ptr_mut(key) {
        return Some(row);
    }
    const BPF_NOEXIST: u64 = 1;
    // Another CPU may have been faster: then its row is found below.
    let _ = FLOOD.insert(key, &NO_COUNT, BPF_NOEXIST);
    FLOOD.get_ptr_mut(key)
}
