//! Waits in a run queue, as histogram buckets: a quarter of an octave each, from 1 us to 17 s.

/// Buckets of a histogram. The first takes everything below [`FIRST_NS`], the last everything from some 15 s on.
pub const BUCKETS: usize = 96;
/// Upper bound, exclusive, of the first bucket.
pub const FIRST_NS: u64 = 1 << FIRST_OCTAVE;
const FIRST_OCTAVE: u32 = 10;
/// Parts of an octave: a value read from a bucket is at most a fifth off.
const PARTS: u64 = 4;

/// The bucket that a wait belongs to.
#[inline(always)]
pub fn bucket(wait_ns: u64) -> u32 {
    if wait_ns < FIRST_NS {
        return 0;
    }
    let octave = log2(wait_ns);
    let part = (wait_ns >> (octave - 2)) & (PARTS - 1);
    let bucket = (octave - FIRST_OCTAVE) * PARTS as u32 + part as u32 + 1;
    if bucket < BUCKETS as u32 { bucket } else { BUCKETS as u32 - 1 }
}

/// Lower bound of a bucket, inclusive. Of [`BUCKETS`] it is the upper bound of the last but one.
pub const fn lower_ns(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let bucket = bucket as u64 - 1;
    let octave = bucket / PARTS;
    (PARTS + bucket % PARTS) << (FIRST_OCTAVE as u64 - 2 + octave)
}

/// Position of the highest bit; BPF has no instruction for it. 0 for 0.
#[inline(always)]
fn log2(value: u64) -> u32 {
    let mut rest = value;
    let mut log = 0;
    let mut step = 32;
    while step > 0 {
        if rest >> step != 0 {
            rest >>= step;
            log += step;
        }
        step /= 2;
    }
    log
}

/// Longest waits of the present and of the one before, some 1.07 s each: `when` decides which of two places a wait
/// goes to, and a later stretch's value is larger than any of an earlier one. Microseconds (of 1,024 ns) in the low
/// 30 bits.
#[inline(always)]
pub fn longest_mark(now_ns: u64, wait_ns: u64) -> (usize, u64) {
    let stretch = now_ns >> 30;
    let wait = wait_ns >> 10;
    let wait = if wait < LONGEST_MASK { wait } else { LONGEST_MASK };
    ((stretch & 1) as usize, (stretch << 30) | wait)
}

/// The wait in a mark, nanoseconds, to 1,024 ns.
pub const fn longest_ns(mark: u64) -> u64 {
    (mark & LONGEST_MASK) << 10
}

const LONGEST_MASK: u64 = (1 << 30) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_lies_between_the_bounds_of_its_bucket() {
        for shift in 0..40 {
            for more in [0, 1, 3, 7] {
                let wait_ns = (1_u64 << shift) + ((1_u64 << shift) >> 3) * more;
                let at = bucket(wait_ns) as usize;
                assert!(lower_ns(at) <= wait_ns, "{wait_ns} in {at}");
                assert!(at + 1 == BUCKETS || wait_ns < lower_ns(at + 1), "{wait_ns} in {at}");
            }
        }
        assert_eq!(
            (bucket(0), bucket(1_023), bucket(1_024), bucket(u64::MAX)),
            (0, 0, 1, BUCKETS as u32 - 1)
        );
    }

    #[test]
    fn bounds_grow_by_a_quarter_at_most() {
        assert_eq!((lower_ns(1), lower_ns(5), lower_ns(41)), (1_024, 2_048, 1_048_576));
        for at in 1..BUCKETS - 1 {
            let (low, high) = (lower_ns(at), lower_ns(at + 1));
            assert!(high > low && high - low <= low / 4, "{at}: {low} to {high}");
        }
    }

    #[test]
    fn a_later_mark_beats_an_earlier_one_and_a_longer_wait_a_shorter() {
        let (early, late) = (longest_mark(5 << 30, 9_000_000), longest_mark(7 << 30, 2_000));
        assert_eq!(early.0, late.0);
        assert!(late.1 > early.1);
        assert!(longest_mark(5 << 30, 10_000_000).1 > early.1);
        assert_eq!(longest_ns(early.1), 9_000_000 / 1_024 * 1_024);
        assert_eq!(longest_ns(longest_mark(0, u64::MAX).1), LONGEST_MASK << 10);
        assert_ne!(longest_mark(5 << 30, 0).0, longest_mark(6 << 30, 0).0);
    }
}
