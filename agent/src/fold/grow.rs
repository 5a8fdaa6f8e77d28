//! Sums that stop at the largest number. In: numbers out of records, which may come from a tape that lies or a
//! kernel that is wrong. Out: sums that neither wrap nor panic.

use slowpod_ebpf::abi::split::Split;

/// A sum that can grow.
pub trait Grow {
    /// Adds, and stays at the largest number where the sum would be larger.
    fn grow(&mut self, by: u64);
}

impl Grow for u64 {
    fn grow(&mut self, by: u64) {
        *self = self.saturating_add(by);
    }
}

/// The sum of numbers, at most the largest there is.
pub fn total(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

/// Time blocked, all causes together.
pub fn blocked_ns(split: &Split) -> u64 {
    total(split.blocked_ns)
}

/// All of a split's time.
pub fn split_ns(split: &Split) -> u64 {
    total([split.on_cpu_ns, split.runnable_ns, blocked_ns(split)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_stop_at_the_largest_number() {
        assert_eq!(total([1, 2, 3]), 6);
        assert_eq!(total([u64::MAX, 1]), u64::MAX);
        let mut sum = u64::MAX - 1;
        sum.grow(5);
        assert_eq!(sum, u64::MAX);
    }
}
