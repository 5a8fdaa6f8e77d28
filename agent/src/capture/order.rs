//! The reorder window. In: records from several sources, each source only nearly in order. Out: the same
//! records in the order of their times.
//!
//! **The release rule.** A drain reads the clock first (`t`), then empties every source, then releases up to
//! [`watermark`]`(t)`, which is `t - SLACK_NS`. A record stamped before that was in its ring when the drain
//! began, so it is here now, and nothing older can still come.
//!
//! A worked example, with a slack of 5. Ring A holds records of 10 and 20. The drain reads the clock
//! (`t` = 30) and empties A. Meanwhile 31 enters A and 32 enters ring B, which is emptied next and gives 12 and
//! 32. Released are 10, 12 and 20, in that order; 32 is past the watermark of 25 and waits. The next drain
//! (`t` = 60) gives 31 and releases 31, then 32. Without the wait 32 would have come before 31.
//!
//! Equal times keep the order in which they arrived. A record older than what was already released is late:
//! it goes out with the next release, before everything younger, and is counted. No release leaves more than
//! [`HELD_BYTES_MAX`] behind: the oldest go out before their watermark and are counted as early; what still
//! arrives from before them is then late.

use crate::decode;

/// How long a record may take from reading its time to lying in its ring. A program takes microseconds; an
/// interrupt, or a virtual machine that is stopped in between, takes milliseconds.
pub const SLACK_NS: u64 = 5_000_000;
/// Most bytes held from one drain to the next: both rings full twice over (4 MiB each).
pub const HELD_BYTES_MAX: usize = 16 << 20;

/// Up to when everything is here, for a drain that began at `drain_began_ns` (monotonic) and emptied every
/// source.
pub fn watermark(drain_began_ns: u64) -> u64 {
    drain_began_ns.saturating_sub(SLACK_NS)
}

/// Records held until all older ones are here: their bytes back to back, and an index over them.
#[derive(Debug)]
pub struct Order {
    bytes: Vec<u8>,
    /// In order of arrival behind what an earlier release sorted and kept.
    index: Vec<Slot>,
    /// Where the bytes that stay are packed; the two buffers change places.
    spare: Vec<u8>,
    /// Time of the youngest record released.
    released_ns: u64,
    held_bytes_max: usize,
    late: u64,
    early: u64,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
struct Slot {
    ktime_ns: u64,
    start: usize,
    len: usize,
}

impl Default for Order {
    fn default() -> Order {
        Order::with_limit(HELD_BYTES_MAX)
    }
}

impl Order {
    fn with_limit(held_bytes_max: usize) -> Order {
        Order {
            bytes: Vec::new(),
            index: Vec::new(),
            spare: Vec::new(),
            released_ns: 0,
            held_bytes_max,
            late: 0,
            early: 0,
        }
    }

    /// Takes one record in. False, and nothing done, when the bytes are not exactly one record.
    pub fn push(&mut self, record: &[u8]) -> bool {
        let Ok(header) = decode::header(record) else { return false };
        if header.len_bytes as usize != record.len() {
            return false;
        }
        self.late += u64::from(header.ktime_ns < self.released_ns);
        self.index.push(Slot { ktime_ns: header.ktime_ns, start: self.bytes.len(), len: record.len() });
        self.bytes.extend_from_slice(record);
        true
    }

    /// Appends to `out`, back to back and in order, every record of up to `watermark_ns`, the late ones, and
    /// what is too much to hold. Returns how many records. `u64::MAX` ends the window: everything goes out.
    pub fn release(&mut self, watermark_ns: u64, out: &mut Vec<u8>) -> u64 {
        // Stable, so that equal times keep their order; two sorted runs most of the time, so nearly one pass.
        self.index.sort_by_key(|slot| slot.ktime_ns);
        let until_ns = watermark_ns.max(self.released_ns);
        let ready = self.index.partition_point(|slot| slot.ktime_ns <= until_ns);
        let count = ready + self.too_many(ready);
        self.early += (count - ready) as u64;
        self.let_go(count, out);
        count as u64
    }

    /// Records that came after younger ones had been released, since the last call.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Records released before their watermark because there were too many, since the last call.
    pub fn take_early(&mut self) -> u64 {
        std::mem::take(&mut self.early)
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many of the sorted records behind the first `ready` must go too for the rest to be within the limit.
    fn too_many(&self, ready: usize) -> usize {
        let waiting = &self.index[ready..];
        let mut held_bytes: usize = waiting.iter().map(|slot| slot.len).sum();
        let over = |slot: &&Slot| {
            let over = held_bytes > self.held_bytes_max;
            held_bytes -= slot.len;
            over
        };
        waiting.iter().take_while(over).count()
    }

    /// Moves the first `count` records of the sorted index to `out` and packs the rest.
    fn let_go(&mut self, count: usize, out: &mut Vec<u8>) {
        if count == 0 {
            return;
        }
        for slot in &self.index[..count] {
            out.extend_from_slice(&self.bytes[slot.start..slot.start + slot.len]);
        }
        self.released_ns = self.released_ns.max(self.index[count - 1].ktime_ns);
        self.index.drain(..count);
        self.spare.clear();
        for slot in &mut self.index {
            let start = self.spare.len();
            self.spare.extend_from_slice(&self.bytes[slot.start..slot.start + slot.len]);
            slot.start = start;
        }
        std::mem::swap(&mut self.bytes, &mut self.spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slowpod_ebpf::abi::{Header, Kind};
    use zerocopy::IntoBytes;

    /// A record of one time that carries a number, so that each can be told from all others.
    fn record(ktime_ns: u64, number: u32) -> Vec<u8> {
        let header = Header { ktime_ns, kind: Kind::Fact as u32, len_bytes: 20 };
        [header.as_bytes(), &number.to_le_bytes()].concat()
    }

    fn read(mut batch: &[u8]) -> Vec<(u64, u32)> {
        let mut records = Vec::new();
        while !batch.is_empty() {
            let header = decode::header(batch).expect("whole records");
            let (record, rest) = batch.split_at(header.len_bytes as usize);
            let number = u32::from_le_bytes(record[16..20].try_into().expect("four bytes"));
            records.push((header.ktime_ns, number));
            batch = rest;
        }
        records
    }

    fn times(batch: &[u8]) -> Vec<u64> {
        read(batch).into_iter().map(|(ktime_ns, _)| ktime_ns).collect()
    }

    fn push(order: &mut Order, ktimes_ns: &[u64]) {
        for ktime_ns in ktimes_ns {
            assert!(order.push(&record(*ktime_ns, 0)));
        }
    }

    #[test]
    fn the_worked_example() {
        let (mut order, mut out) = (Order::default(), Vec::new());
        push(&mut order, &[10, 20, 12, 32]);
        order.release(30 - 5, &mut out);
        assert_eq!(times(&out), [10, 12, 20]);
        push(&mut order, &[31]);
        order.release(60 - 5, &mut out);
        assert_eq!(times(&out), [10, 12, 20, 31, 32]);
        assert_eq!((order.take_late(), order.take_early()), (0, 0));
        assert_eq!(order.held_bytes(), 0);
        assert_eq!(watermark(SLACK_NS + 7), 7);
        assert_eq!(watermark(3), 0);
    }

    #[test]
    fn equal_times_keep_their_order_of_arrival_across_releases() {
        let (mut order, mut out) = (Order::default(), Vec::new());
        for (ktime_ns, number) in [(50, 1), (10, 2), (50, 3)] {
            assert!(order.push(&record(ktime_ns, number)));
        }
        order.release(20, &mut out);
        assert!(order.push(&record(50, 4)));
        order.release(u64::MAX, &mut out);
        assert_eq!(read(&out), [(10, 2), (50, 1), (50, 3), (50, 4)]);
    }

    #[test]
    fn late_records_go_out_with_the_next_release_and_are_counted() {
        let (mut order, mut out) = (Order::default(), Vec::new());
        push(&mut order, &[100]);
        order.release(100, &mut out);
        push(&mut order, &[100, 40, 200, 30]);
        out.clear();
        order.release(0, &mut out);
        assert_eq!(times(&out), [30, 40, 100], "whatever the watermark");
        assert_eq!((order.take_late(), order.take_early()), (2, 0));
        assert_eq!(order.take_late(), 0);
    }

    #[test]
    fn what_is_too_much_to_hold_goes_out_early_oldest_first() {
        let (mut order, mut out) = (Order::with_limit(60), Vec::new());
        push(&mut order, &[5, 4, 3, 2, 1]);
        assert_eq!(order.release(1, &mut out), 2);
        assert_eq!(times(&out), [1, 2], "the first by its time, the second by the limit");
        assert_eq!((order.take_late(), order.take_early(), order.held_bytes()), (0, 1, 60));
        push(&mut order, &[1]);
        order.release(u64::MAX, &mut out);
        assert_eq!(times(&out), [1, 2, 1, 3, 4, 5]);
        assert_eq!((order.take_late(), order.take_early()), (1, 0));
    }

    #[test]
    fn what_is_not_one_whole_record_is_refused() {
        let (mut order, mut out) = (Order::default(), Vec::new());
        let whole = record(1, 1);
        for bytes in [&whole[..0], &whole[..15], &whole[..19], &[&whole[..], &[0]].concat()] {
            assert!(!order.push(bytes), "{} bytes", bytes.len());
        }
        order.release(u64::MAX, &mut out);
        assert!(out.is_empty());
    }

    /// Random sources and watermarks: nothing is lost or made twice, and whatever is out of order was counted.
    #[test]
    fn nothing_is_lost_and_only_late_records_are_out_of_order() {
        let mut state = 11_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut late_in_all, mut early_in_all) = (0, 0);
        for round in 0..300 {
            let limit = if round % 2 == 0 { HELD_BYTES_MAX } else { 400 };
            let (mut order, mut out, mut pushed) = (Order::with_limit(limit), Vec::new(), Vec::new());
            let mut count = 0;
            for drain in 1..40 {
                for _ in 0..next(30) {
                    let one = (drain * 100 + next(60 + round), pushed.len() as u32);
                    pushed.push(one);
                    assert!(order.push(&record(one.0, one.1)));
                }
                count += order.release(drain * 100 + next(50), &mut out);
                assert!(order.held_bytes() <= limit);
            }
            count += order.release(u64::MAX, &mut out);

            let released = read(&out);
            assert_eq!((released.len() as u64, order.held_bytes()), (count, 0));
            let mut sorted = released.clone();
            sorted.sort_by_key(|(_, number)| *number);
            assert_eq!(sorted, pushed, "round {round}");
            let mut youngest = 0;
            let behind = released.iter().filter(|(ktime_ns, _)| {
                youngest = youngest.max(*ktime_ns);
                *ktime_ns < youngest
            });
            let (behind, late, early) = (behind.count() as u64, order.take_late(), order.take_early());
            assert_eq!(behind, late, "round {round}");
            late_in_all += late;
            early_in_all += early;
            if round == 0 {
                assert_eq!((late, early), (0, 0), "what comes is always younger than the watermark before");
            }
        }
        assert!(late_in_all > 0 && early_in_all > 0, "both were tried");
    }
}
