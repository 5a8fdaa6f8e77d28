//! The reorder window. In: records from several rings and facts, each source nearly in order. Out: all of them
//! in the order of their times.
//!
//! **The release rule.** Before a drain begins, the clock is read: `t`. A record that happened before
//! `t - SLACK_NS` was submitted before the drain began (a program submits within microseconds of reading the
//! clock), so once the rings are drained empty, everything older than that is here and is released, sorted.
//!
//! Say two CPUs stamped records at 10, 20, 30 and 40 and submitted them as 20, 10, 40, 30, and the drain
//! (t = 35, slack 8) met the first three. 10 and 20 are released, in that order; 40 is younger than 27 and
//! waits. The next drain (t = 60) brings 30, and 30 and 40 are released. Nothing came out of order, although both
//! the submissions and the drain cut across it.
//!
//! A record older than what was already released is released at once and counted as late.

use crate::decode;

/// How long a record may take from reading the clock to lying in the ring. A program needs microseconds; a
/// virtual CPU that is taken off its core in between may need milliseconds.
pub const SLACK_NS: u64 = 5_000_000;
/// Most bytes held back. Beyond this everything is released, sorted as far as it is here.
pub const HELD_BYTES_MAX: usize = 16 << 20;

/// Records held back until all older ones are here.
#[derive(Debug, Default)]
pub struct Order {
    bytes: Vec<u8>,
    /// (time, where it begins, its length), in order of arrival.
    index: Vec<(u64, usize, usize)>,
    released_until_ns: u64,
    /// Records that came too late for their place, since the last [`Order::take_late`].
    late: u64,
}

impl Order {
    /// Takes in one record. Bytes that are no record are refused: false.
    pub fn push(&mut self, record: &[u8]) -> bool {
        let Ok(header) = decode::header(record) else { return false };
        let len = header.len_bytes as usize;
        self.late += u64::from(header.ktime_ns < self.released_until_ns);
        self.index.push((header.ktime_ns, self.bytes.len(), len));
        self.bytes.extend_from_slice(&record[..len]);
        true
    }

    /// Appends to `out` all records older than `until_ns`, sorted; equal times keep their order of arrival.
    /// Returns how many.
    pub fn release(&mut self, until_ns: u64, out: &mut Vec<u8>) -> u64 {
        let until_ns = if self.bytes.len() > HELD_BYTES_MAX { u64::MAX } else { until_ns };
        // Stable, and nearly sorted already: this is close to one pass.
        self.index.sort_by_key(|(ktime_ns, ..)| *ktime_ns);
        let released = self.index.partition_point(|(ktime_ns, ..)| *ktime_ns < until_ns);
        for (_, start, len) in &self.index[..released] {
            out.extend_from_slice(&self.bytes[*start..start + len]);
        }
        if let Some((last_ns, ..)) = released.checked_sub(1).and_then(|last| self.index.get(last)) {
            self.released_until_ns = self.released_until_ns.max(*last_ns);
        }
        self.keep(released);
        released as u64
    }

    /// Records that came too late since the last call.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Lets go of the first `released` rows of the index, and packs the bytes of the rest.
    fn keep(&mut self, released: usize) {
        let mut kept = Vec::new();
        self.index.drain(..released);
        for (_, start, len) in &mut self.index {
            let place = kept.len();
            kept.extend_from_slice(&self.bytes[*start..*start + *len]);
            *start = place;
        }
        self.bytes = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fact::{Fact, encode};

    fn record(ktime_ns: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(ktime_ns, &Fact::Clock { wall_unix_ns: 0 }, &mut bytes);
        bytes
    }

    fn times(mut records: &[u8]) -> Vec<u64> {
        let mut times = Vec::new();
        while let Ok(header) = decode::header(records) {
            times.push(header.ktime_ns);
            records = &records[header.len_bytes as usize..];
        }
        times
    }

    #[test]
    fn the_worked_example() {
        let mut order = Order::default();
        let mut out = Vec::new();
        for ktime_ns in [20, 10, 40] {
            assert!(order.push(&record(ktime_ns)));
        }
        order.release(27, &mut out);
        assert_eq!(times(&out), [10, 20]);
        order.push(&record(30));
        order.release(52, &mut out);
        assert_eq!(times(&out), [10, 20, 30, 40]);
        assert_eq!(order.take_late(), 0);
    }

    #[test]
    fn nothing_is_lost_and_only_late_records_are_out_of_order() {
        let (mut order, mut out, mut seed, mut pushed) = (Order::default(), Vec::new(), 7_u64, 0);
        for round in 1..=300_u64 {
            for _ in 0..20 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let jitter = (seed >> 33) % 150;
                order.push(&record((round * 100).saturating_sub(jitter) + 1));
                pushed += 1;
            }
            order.release(round * 100 - 90, &mut out);
        }
        order.release(u64::MAX, &mut out);
        let times = times(&out);
        assert_eq!(times.len(), pushed);
        let inversions = times.windows(2).filter(|pair| pair[0] > pair[1]).count();
        let late = order.take_late();
        assert!(late > 0, "the jitter is larger than the slack on purpose");
        assert!(inversions as u64 <= late, "{inversions} inversions, {late} late");
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let mut order = Order::default();
        assert!(!order.push(&[1, 2, 3]));
        assert!(!order.push(&record(1)[..20]));
        assert_eq!(order.release(u64::MAX, &mut Vec::new()), 0);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut order = Order::default();
        let one = record(1_000);
        let mut out = Vec::new();
        for _ in 0..HELD_BYTES_MAX / one.len() + 2 {
            order.push(&one);
        }
        assert!(order.release(0, &mut out) > 0, "beyond the bound nothing waits");
    }
}
