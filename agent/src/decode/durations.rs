//! Durations that cannot be. In: those of a record. Out: an error, so that no sum further on is spoiled by a
//! difference that went below zero.

use super::Garbled;
use slowpod_ebpf::abi::{Header, split::Split};

/// Longest duration believed in, summed over the threads of a process: 1,000 threads for ten days. Half of
/// all numbers, which a difference below zero hits, are longer.
const DURATION_MAX_NS: u64 = 1_000 * 10 * 86_400 * 1_000_000_000;

/// The parts of a split.
pub(super) fn parts(split: &Split) -> impl Iterator<Item = u64> {
    [split.on_cpu_ns, split.runnable_ns].into_iter().chain(split.blocked_ns)
}

/// Whether all of them can be durations.
pub(super) fn check(header: &Header, durations: impl IntoIterator<Item = u64>) -> Result<(), Garbled> {
    match durations.into_iter().find(|ns| *ns > DURATION_MAX_NS) {
        Some(ns) => Err(Garbled::Duration { kind: header.kind, ns }),
        None => Ok(()),
    }
}
