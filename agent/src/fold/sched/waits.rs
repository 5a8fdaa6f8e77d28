//! A histogram of waits with the sums beside it. In: records. Out: percentiles with the bounds they lie between.

use crate::decode::RunQueue;
use crate::fold::grow::{Grow, total};
use slowpod_ebpf::rules::wait::{BUCKETS, lower_ns};

/// Waits of somebody, or on a CPU. Merging two gives what counting together would have given.
#[derive(Clone, Debug, PartialEq)]
pub struct Waits {
    /// How many, by bucket.
    pub buckets: [u64; BUCKETS],
    /// Sum of all waits.
    pub wait_ns: u64,
    /// Waits of threads that could have run on: preempted, or they gave the CPU up. The others had blocked and were
    /// woken.
    pub preempted: u64,
    /// Sum of those.
    pub preempted_ns: u64,
    /// Time on a CPU.
    pub on_cpu_ns: u64,
    /// Time blocked of blocks under a second.
    pub blocked_ns: u64,
    /// Longer blocks, and
    pub long_blocks: u64,
    /// their sum.
    pub long_blocked_ns: u64,
    /// The longest single wait.
    pub longest_ns: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Waits {
            buckets: [0; BUCKETS],
            wait_ns: 0,
            preempted: 0,
            preempted_ns: 0,
            on_cpu_ns: 0,
            blocked_ns: 0,
            long_blocks: 0,
            long_blocked_ns: 0,
            longest_ns: 0,
        }
    }
}

impl Waits {
    /// Adds a record's growth.
    pub fn add(&mut self, record: &RunQueue) {
        let RunQueue { fixed, buckets } = record;
        for (bucket, count) in buckets {
            self.buckets[usize::from(*bucket).min(BUCKETS - 1)].grow(u64::from(*count));
        }
        self.wait_ns.grow(fixed.wait_ns);
        self.preempted.grow(u64::from(fixed.preempted));
        self.preempted_ns.grow(fixed.preempted_ns);
        self.on_cpu_ns.grow(fixed.on_cpu_ns);
        self.blocked_ns.grow(fixed.blocked_ns);
        self.long_blocks.grow(u64::from(fixed.long_blocks));
        self.long_blocked_ns.grow(fixed.long_blocked_ns);
        self.longest_ns = self.longest_ns.max(fixed.longest_ns);
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Waits) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            mine.grow(theirs);
        }
        self.wait_ns.grow(other.wait_ns);
        self.preempted.grow(other.preempted);
        self.preempted_ns.grow(other.preempted_ns);
        self.on_cpu_ns.grow(other.on_cpu_ns);
        self.blocked_ns.grow(other.blocked_ns);
        self.long_blocks.grow(other.long_blocks);
        self.long_blocked_ns.grow(other.long_blocked_ns);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    /// How many waits: how often a thread got a CPU.
    pub fn count(&self) -> u64 {
        total(self.buckets)
    }

    /// A wait that this part of the waits, in thousandths, does not exceed: the upper bound of its bucket, or the
    /// longest wait where that is less. `None` without waits.
    pub fn percentile_ns(&self, thousandths: u64) -> Option<u64> {
        let count = self.count();
        // The rank of the wait asked for, from 1.
        let rank = (u128::from(count) * u128::from(thousandths)).div_ceil(1_000).max(1);
        let mut seen = 0_u128;
        let bucket = self.buckets.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        })?;
        Some(upper_ns(bucket).min(self.max_ns()?))
    }

    /// No wait was longer: the kernel's mark of the longest, which leaves out what is below 1,024 ns, or the bound of the
    /// last bucket where that mark was lost.
    pub fn max_ns(&self) -> Option<u64> {
        let last = self.buckets.iter().rposition(|count| *count > 0)?;
        let told = self.longest_ns.saturating_add(1_024);
        let was_lost = told < lower_ns(last);
        // Of the last bucket of all there is only the lower bound.
        let lost = if last + 1 == BUCKETS { lower_ns(last) } else { upper_ns(last) };
        Some(if was_lost { lost } else { told.min(upper_ns(last)) })
    }

    /// Time blocked, as far as it lies in a window of this length: a thread that comes back after an hour was not
    /// blocked for an hour of the last minute.
    pub fn blocked_within_ns(&self, window_ns: u64) -> u64 {
        let most = self.long_blocks.saturating_mul(window_ns);
        self.blocked_ns.saturating_add(self.long_blocked_ns.min(most))
    }
}

/// Upper bound of a bucket; the last has none.
fn upper_ns(bucket: usize) -> u64 {
    if bucket + 1 == BUCKETS { u64::MAX } else { lower_ns(bucket + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slowpod_ebpf::rules::wait::bucket;

    fn waits(all: &[u64]) -> Waits {
        let mut waits = Waits::default();
        for ns in all {
            waits.buckets[bucket(*ns) as usize] += 1;
            waits.wait_ns += ns;
            waits.longest_ns = waits.longest_ns.max(ns >> 10 << 10);
        }
        waits
    }

    #[test]
    fn percentiles_are_a_quarter_above_the_truth_at_most() {
        let all: Vec<u64> = (1..=1_000).map(|n| n * 10_000).collect();
        let waits = waits(&all);
        for thousandths in [1, 500, 900, 990, 1_000] {
            let truth = all[thousandths as usize - 1];
            let told = waits.percentile_ns(thousandths).unwrap();
            assert!(told >= truth && told <= truth + truth / 4, "{thousandths}: {told} for {truth}");
        }
        assert_eq!(waits.max_ns(), Some(10_000_000 / 1_024 * 1_024 + 1_024));
        assert_eq!(Waits::default().percentile_ns(500), None);
        let mark_lost = Waits { longest_ns: 5_000_000, ..waits.clone() };
        assert!(mark_lost.max_ns() >= Some(10_000_000) && mark_lost.max_ns() <= Some(12_500_000));
        let beyond = Waits { longest_ns: 0, ..self::waits(&[100_000_000_000]) };
        assert_eq!(beyond.max_ns(), Some(lower_ns(BUCKETS - 1)));
        assert_eq!(Waits::default().max_ns(), None);
    }

    #[test]
    fn merging_is_counting_together() {
        let (one, other) = ([5, 2_000, 70_000], [900, 3_000_000, 20_000_000_000]);
        let mut merged = waits(&one);
        merged.merge(&waits(&other));
        assert_eq!(merged, waits(&[one, other].concat()));
        assert_eq!(merged.count(), 6);
    }

    #[test]
    fn long_blocks_count_no_longer_than_the_window() {
        let waits = Waits { blocked_ns: 5, long_blocks: 2, long_blocked_ns: 3_600, ..Waits::default() };
        assert_eq!(waits.blocked_within_ns(60), 5 + 2 * 60);
        assert_eq!(waits.blocked_within_ns(10_000), 5 + 3_600);
    }
}
