//! Waits in run queues: pairs of bucket and count follow the fixed part.

use super::durations::check;
use super::{Garbled, fixed, part};
use slowpod_ebpf::abi::{self, queue::Pushed};
use slowpod_ebpf::rules::wait::BUCKETS;

/// Waits of a process or on a CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunQueue {
    /// The fixed part of the record.
    pub fixed: abi::queue::RunQueue,
    /// Buckets and how many waits fell into them.
    pub buckets: Vec<(u8, u32)>,
}

pub(super) fn run_queue(bytes: &[u8]) -> Result<RunQueue, Garbled> {
    let (fixed, rest) = fixed::<abi::queue::RunQueue>(bytes)?;
    check(
        &fixed.header,
        [
            fixed.wait_ns,
            fixed.preempted_ns,
            fixed.on_cpu_ns,
            fixed.blocked_ns,
            fixed.long_blocked_ns,
            fixed.longest_ns,
        ],
    )?;
    let (pairs, _) = part(bytes, rest, (fixed.buckets as usize).saturating_mul(8))?;
    let number = |word: &[u8]| word.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let pairs = pairs.chunks_exact(8).map(|pair| (number(&pair[..4]), number(&pair[4..])));
    // A bucket beyond the last is a wait longer than any: the last has those.
    let buckets = pairs.map(|(bucket, count)| (bucket.min(BUCKETS as u32 - 1) as u8, count)).collect();
    Ok(RunQueue { fixed, buckets })
}

pub(super) fn pushed(bytes: &[u8]) -> Result<Pushed, Garbled> {
    let (pushed, _) = fixed::<Pushed>(bytes)?;
    check(&pushed.header, [pushed.count.ns])?;
    Ok(pushed)
}
