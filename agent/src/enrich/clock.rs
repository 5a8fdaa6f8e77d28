//! Monotonic time to wall time. In: pairs of both, as facts. Out: the wall time of any instant.
//!
//! Inside, everything is monotonic; only answers to people and other systems speak wall time. When the wall
//! clock is stepped a new pair arrives, and instants before it keep the reading that was true then.

use std::collections::VecDeque;

/// Pairs kept: one a minute and one per clock step, for more than the longest look-back.
pub const ANCHORS_MAX: usize = 256;

/// The pairs known, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    anchors: VecDeque<(u64, i64)>,
}

impl Clock {
    /// Adds a pair: at `ktime_ns` the wall clock read `wall_unix_ns`.
    pub fn anchor(&mut self, ktime_ns: u64, wall_unix_ns: i64) {
        self.anchors.push_back((ktime_ns, wall_unix_ns));
        if self.anchors.len() > ANCHORS_MAX {
            self.anchors.pop_front();
        }
    }

    /// Wall time (ns since 1970, UTC) of an instant, by the last pair before it; by the first pair for
    /// instants before all. `None` while there is no pair.
    pub fn wall_unix_ns(&self, ktime_ns: u64) -> Option<i64> {
        let after = self.anchors.partition_point(|(anchor, _)| *anchor <= ktime_ns);
        let (anchor, wall) = *self.anchors.get(after.saturating_sub(1))?;
        let delta = i128::from(ktime_ns) - i128::from(anchor);
        i64::try_from(i128::from(wall) + delta).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_changes_only_what_comes_after_it() {
        let mut clock = Clock::default();
        assert_eq!(clock.wall_unix_ns(5), None);
        clock.anchor(100, 1_000);
        clock.anchor(200, 9_000);
        assert_eq!(clock.wall_unix_ns(150), Some(1_050));
        assert_eq!(clock.wall_unix_ns(250), Some(9_050));
        assert_eq!(clock.wall_unix_ns(50), Some(950));
    }
}
