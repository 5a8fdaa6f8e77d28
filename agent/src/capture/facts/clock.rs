//! Pairs the kernel's monotonic clock with wall time. In: the two clocks. Out: `Clock` facts.

use crate::decode::fact::Fact;

/// Wall time may drift this far from the last pair before a new one is due: below what people read off a
/// clock, above what NTP slews (500 ppm) between two ticks.
const STEP_NS: u64 = 10_000_000;
/// A new pair is due after this long in any case, so that a look-back window has one near it.
const INTERVAL_NS: u64 = 60_000_000_000;
/// Readings tried for a tight pair; the loop may be descheduled in the middle of one.
const TRIES: usize = 3;

/// Both clocks at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub ktime_ns: u64,
    /// `CLOCK_REALTIME`, nanoseconds since 1970.
    pub wall_unix_ns: i64,
}

impl Reading {
    /// Reads both clocks, the wall clock between two readings of the other; the tightest of a few tries.
    pub fn now() -> Reading {
        let tries = std::array::from_fn::<_, TRIES, _>(|_| {
            let before = clock_ns(libc::CLOCK_MONOTONIC);
            let wall_unix_ns = clock_ns(libc::CLOCK_REALTIME);
            let width = clock_ns(libc::CLOCK_MONOTONIC) - before;
            (width, Reading { ktime_ns: (before + width / 2).unsigned_abs(), wall_unix_ns })
        });
        tries.into_iter().min_by_key(|(width, _)| *width).map(|(_, reading)| reading).expect("TRIES is not 0")
    }

    /// Wall time when the monotonic clock stood at 0.
    fn offset_ns(self) -> i128 {
        i128::from(self.wall_unix_ns) - i128::from(self.ktime_ns)
    }
}

/// The monotonic clock alone, nanoseconds: the time of records that are made now.
pub fn ktime_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC).unsigned_abs()
}

fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes for the length of the call.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "Linux always has CLOCK_MONOTONIC and CLOCK_REALTIME");
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Says when a new `Clock` fact is due.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockWatch {
    last: Option<Reading>,
}

impl ClockWatch {
    /// Takes a reading; returns the fact to record at `now.ktime_ns` if one is due: at first, after a step of
    /// the wall clock (by hand, by NTP, by a suspend) and every minute.
    pub fn tick(&mut self, now: Reading) -> Option<Fact> {
        let due = self.last.is_none_or(|last| {
            now.offset_ns().abs_diff(last.offset_ns()) > u128::from(STEP_NS)
                || now.ktime_ns.saturating_sub(last.ktime_ns) >= INTERVAL_NS
        });
        due.then(|| {
            self.last = Some(now);
            Fact::Clock { wall_unix_ns: now.wall_unix_ns }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: i64 = 1_718_000_000_000_000_000;

    fn at(seconds: u64, slip_ns: i64) -> Reading {
        let ktime_ns = 5_000_000_000 + seconds * 1_000_000_000;
        Reading { ktime_ns, wall_unix_ns: WALL + ktime_ns as i64 + slip_ns }
    }

    #[test]
    fn first_then_every_minute() {
        let mut watch = ClockWatch::default();
        assert_eq!(watch.tick(at(0, 0)), Some(Fact::Clock { wall_unix_ns: at(0, 0).wall_unix_ns }));
        let due: Vec<u64> = (1..=180).filter(|second| watch.tick(at(*second, 0)).is_some()).collect();
        assert_eq!(due, [60, 120, 180]);
    }

    #[test]
    fn after_a_step_forth_or_back_once() {
        let mut watch = ClockWatch::default();
        assert!(watch.tick(at(0, 0)).is_some());
        assert!(watch.tick(at(1, 10_000_000)).is_none());
        assert!(watch.tick(at(2, 10_000_001)).is_some());
        assert!(watch.tick(at(3, 10_000_001)).is_none());
        assert!(watch.tick(at(4, -86_400_000_000_000)).is_some());
        assert!(watch.tick(at(5, -86_400_000_000_000)).is_none());
    }

    #[test]
    fn a_slow_slew_adds_up_to_a_step() {
        let mut watch = ClockWatch::default();
        let due = (0..60).filter(|second| watch.tick(at(*second, *second as i64 * 500_000)).is_some());
        assert_eq!(due.collect::<Vec<_>>(), [0, 21, 42]);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut watch = ClockWatch::default();
        assert!(watch.tick(Reading { ktime_ns: u64::MAX, wall_unix_ns: i64::MIN }).is_some());
        assert!(watch.tick(Reading { ktime_ns: 0, wall_unix_ns: i64::MAX }).is_some());
    }

    #[test]
    fn the_real_clocks_agree_with_themselves() {
        let before = ktime_ns();
        let (one, two) = (Reading::now(), Reading::now());
        assert!(before <= one.ktime_ns && one.ktime_ns <= two.ktime_ns && two.ktime_ns <= ktime_ns());
        // A step between the two lines would be a real one; 1 s of slack keeps slewing hosts green.
        assert!(one.offset_ns().abs_diff(two.offset_ns()) < 1_000_000_000);
        assert!(one.wall_unix_ns > 1_700_000_000_000_000_000, "a wall clock after 2023");
    }
}
