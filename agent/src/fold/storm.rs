//! What a storm is. In: sync loops. Out: yes or no, and how much they weigh.

use super::daemons::Daemon;
use super::loops::Loop;
use super::{Snapshot, Window};

/// This many spawns in one loop are a storm whatever they cost: nothing a daemon has to say in one resync
/// needs twenty programs, and at some 1 ms each they are felt.
pub const SPAWNS: u64 = 20;
/// Fewer spawns are a storm when they fill much of a loop that is long enough to be felt: so many,
pub const FEW_SPAWNS: u64 = 5;
/// so large a part of the loop's time,
pub const FEW_SHARE: f64 = 0.3;
/// in a loop at least so long: below a fifth of a second nobody waits for it.
pub const FEW_LOOP_NS: u64 = 200_000_000;

/// Whether a loop is a storm.
pub fn is_storm(own: &Loop) -> bool {
    let fills = own.busy.total_ns() as f64 >= FEW_SHARE * own.duration_ns() as f64;
    own.spawns() >= SPAWNS || (own.spawns() >= FEW_SPAWNS && own.duration_ns() >= FEW_LOOP_NS && fills)
}

/// A daemon's loops that overlap the snapshot's window, oldest first. They are whole: a loop that reaches
/// over the window's edge is not cut there.
pub fn loops<'a>(snapshot: &'a Snapshot, daemon: &'a Daemon) -> impl DoubleEndedIterator<Item = &'a Loop> {
    let Window { from_ns, until_ns } = snapshot.window;
    daemon.series.loops.iter().filter(move |own| own.end_ns >= from_ns && own.start_ns < until_ns)
}

/// Time the daemon's loops in the window had a child alive. What daemons and storms are ranked by.
pub fn score_ns<'a>(loops: impl Iterator<Item = &'a Loop>) -> u64 {
    loops.map(|own| own.busy.total_ns()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(spawned: u64, busy_ns: u64, duration_ns: u64) -> Loop {
        let mut own = Loop::default();
        (own.spawned, own.start_ns, own.end_ns) = (spawned, 1_000, 1_000 + duration_ns);
        own.busy.add(1_000, 1_000 + busy_ns);
        own
    }

    #[test]
    fn many_spawns_are_a_storm_and_few_only_when_they_fill_a_long_loop() {
        const MS: u64 = 1_000_000;
        assert!(is_storm(&own(20, 0, 0)));
        assert!(!is_storm(&own(19, 30 * MS, 199 * MS)), "too short");
        assert!(is_storm(&own(5, 60 * MS, 200 * MS)));
        assert!(!is_storm(&own(5, 59 * MS, 200 * MS)), "hardly fills it");
        assert!(!is_storm(&own(4, 400 * MS, 400 * MS)), "too few");
    }

    #[test]
    fn counted_spawns_count() {
        let mut flooded = own(2, 0, 0);
        assert!(!is_storm(&flooded));
        flooded.counted = 18;
        assert!(is_storm(&flooded));
    }
}
