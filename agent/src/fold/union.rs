//! Length of a union of intervals, as they come in. In: [start, end) pairs, mostly in order of their ends.
//! Out: how much time at least one of them covers.

use std::collections::VecDeque;

/// Disjoint pieces kept open for merging. A serial storm makes one per child; beyond this the oldest are
/// only summed, and an interval that reaches back behind them is cut there.
pub const PIECES_MAX: usize = 4_096;

/// A union of time intervals.
#[derive(Clone, Debug, Default)]
pub struct Union {
    pieces: VecDeque<(u64, u64)>,
    summed_ns: u64,
    summed_until_ns: u64,
    cut: bool,
}

impl Union {
    /// Adds an interval. An empty or reversed one adds nothing.
    pub fn add(&mut self, start_ns: u64, end_ns: u64) {
        let start_ns = if start_ns < self.summed_until_ns {
            self.cut = true;
            self.summed_until_ns
        } else {
            start_ns
        };
        if end_ns <= start_ns {
            return;
        }
        // Most come after all others.
        if self.pieces.back().is_none_or(|(_, end)| *end < start_ns) {
            self.pieces.push_back((start_ns, end_ns));
            self.bound();
            return;
        }
        // Pieces [first, last) touch the new interval and melt into it.
        let first = self.pieces.partition_point(|(_, end)| *end < start_ns);
        let last = self.pieces.partition_point(|(start, _)| *start <= end_ns);
        let (mut start, mut end) = (start_ns, end_ns);
        for (piece_start, piece_end) in self.pieces.drain(first..last) {
            start = start.min(piece_start);
            end = end.max(piece_end);
        }
        self.pieces.insert(first, (start, end));
        self.bound();
    }

    fn bound(&mut self) {
        if self.pieces.len() > PIECES_MAX
            && let Some((start, end)) = self.pieces.pop_front()
        {
            self.summed_ns += end - start;
            self.summed_until_ns = end;
        }
    }

    /// Lets go of the single pieces, for a union that is done but for stragglers: they count from the last
    /// piece on.
    pub fn seal(&mut self) {
        for (start, end) in std::mem::take(&mut self.pieces) {
            self.summed_ns += end - start;
            self.summed_until_ns = end;
        }
    }

    /// Adds the length of a union that lies elsewhere: the two do not overlap.
    pub fn add_elsewhere(&mut self, other: &Union) {
        self.summed_ns = self.summed_ns.saturating_add(other.total_ns());
        self.cut |= other.cut;
    }

    /// Nanoseconds covered by at least one interval.
    pub fn total_ns(&self) -> u64 {
        self.summed_ns + self.pieces.iter().map(|(start, end)| end - start).sum::<u64>()
    }

    /// Whether an interval had to be cut, so that the total is a lower bound.
    pub fn is_lower_bound(&self) -> bool {
        self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn union(intervals: &[(u64, u64)]) -> u64 {
        let mut union = Union::default();
        for (start, end) in intervals {
            union.add(*start, *end);
        }
        union.total_ns()
    }

    #[test]
    fn overlaps_count_once_in_any_order() {
        //  0----10   20---30
        //     5-------25
        assert_eq!(union(&[(0, 10), (20, 30)]), 20);
        assert_eq!(union(&[(0, 10), (20, 30), (5, 25)]), 30);
        assert_eq!(union(&[(5, 25), (0, 10), (20, 30)]), 30);
        assert_eq!(union(&[(0, 10), (10, 20)]), 20, "touching pieces melt");
        assert_eq!(union(&[(3, 3), (9, 4)]), 0);
    }

    #[test]
    fn agrees_with_counting_every_nanosecond() {
        let mut seed = 1_u64;
        for _ in 0..200 {
            let mut covered = [false; 200];
            let mut sum = Union::default();
            for _ in 0..20 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let start = (seed >> 33) % 180;
                let end = start + (seed >> 50) % 20;
                sum.add(start, end);
                covered[start as usize..end as usize].fill(true);
            }
            assert_eq!(sum.total_ns(), covered.iter().filter(|c| **c).count() as u64);
        }
    }

    #[test]
    fn many_pieces_stay_exact_in_order_and_say_when_they_are_not() {
        let mut sum = Union::default();
        for piece in 0..3 * PIECES_MAX as u64 {
            sum.add(piece * 10, piece * 10 + 4);
        }
        assert_eq!(sum.total_ns(), 3 * PIECES_MAX as u64 * 4);
        assert!(!sum.is_lower_bound());
        sum.add(0, 40);
        assert!(sum.is_lower_bound());
    }

    #[test]
    fn unions_that_lie_apart_add_up() {
        let (mut one, mut other) = (Union::default(), Union::default());
        one.add(0, 10);
        other.add(100, 105);
        other.add(107, 110);
        one.add_elsewhere(&other);
        assert_eq!((one.total_ns(), one.is_lower_bound()), (18, false));
    }

    #[test]
    fn a_sealed_union_keeps_its_length_and_takes_stragglers_from_its_end_on() {
        let mut sum = Union::default();
        sum.add(0, 10);
        sum.add(20, 30);
        sum.seal();
        assert_eq!(sum.total_ns(), 20);
        sum.add(5, 35);
        assert_eq!(sum.total_ns(), 25);
        assert!(sum.is_lower_bound());
    }
}
