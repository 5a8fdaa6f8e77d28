//! What a storm is. In: sync loops. Out: yes or no, and how much they weigh.

use super::class::ClassStats;
use super::daemons::Daemon;
use super::grow::total;
use super::loops::Loop;
use super::{Snapshot, Window};
use std::sync::Arc;

/// A class of which fewer are spawned in a loop is a step of it, not a repetition.
pub const REPEATED: u64 = 5;
/// A program that runs longer than this on average does work of its own (a compiler, a backup): starting it is
/// not what costs. Even `iptables` behind a contended lock stays below.
pub const SHORT_NS: u64 = 1_000_000_000;
/// So many repeated short programs in one loop are a storm whatever they cost: nothing a daemon has to say in
/// one resync needs twenty programs, and at some 1 ms each they are felt.
pub const SPAWNS: u64 = 20;
/// Fewer are a storm when they fill so large a part of the loop's time,
pub const FEW_SHARE: f64 = 0.3;
/// in a loop at least so long: below a fifth of a second nobody waits for it.
pub const FEW_LOOP_NS: u64 = 200_000_000;

/// The classes of a loop that are repeated short programs: what a storm is made of.
pub fn repeated(own: &Loop) -> impl Iterator<Item = (&Arc<str>, &ClassStats)> {
    own.classes.iter().filter(|(_, class)| {
        let finished = class.ended.saturating_add(class.counted);
        class.spawns() >= REPEATED && finished > 0 && class.wall_ns / finished <= SHORT_NS
    })
}

/// Time a loop spent with children of those classes. They may run side by side: no more than the time with
/// any child.
pub fn repeated_busy_ns(own: &Loop) -> u64 {
    let summed = total(repeated(own).map(|(_, class)| class.busy.total_ns()));
    summed.min(own.busy.total_ns())
}

/// Whether a loop is a storm.
pub fn is_storm(own: &Loop) -> bool {
    let spawns = total(repeated(own).map(|(_, class)| class.spawns()));
    let fills = repeated_busy_ns(own) as f64 >= FEW_SHARE * own.duration_ns() as f64;
    spawns >= SPAWNS || (spawns >= REPEATED && own.duration_ns() >= FEW_LOOP_NS && fills)
}

/// A daemon's loops that overlap the snapshot's window, oldest first. They are whole: a loop that reaches
/// over the window's edge is not cut there.
pub fn loops<'a>(snapshot: &'a Snapshot, daemon: &'a Daemon) -> impl DoubleEndedIterator<Item = &'a Loop> {
    let Window { from_ns, until_ns } = snapshot.window;
    daemon.series.loops.iter().filter(move |own| own.end_ns >= from_ns && own.start_ns < until_ns)
}

/// Time the daemon's loops in the window had a child alive. What daemons and storms are ranked by.
pub fn score_ns<'a>(loops: impl Iterator<Item = &'a Loop>) -> u64 {
    total(loops.map(|own| own.busy.total_ns()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A loop with spawns of one class that are busy for so long together, each running `each_ns`.
    fn own(spawns: u64, busy_ns: u64, duration_ns: u64, each_ns: u64) -> Loop {
        let mut own = Loop::default();
        (own.spawned, own.start_ns, own.end_ns) = (spawns, 1_000, 1_000 + duration_ns);
        let class = own.class(&"true".into());
        (class.ended, class.wall_ns) = (spawns, spawns * each_ns);
        class.busy.add(1_000, 1_000 + busy_ns);
        own.busy.add(1_000, 1_000 + busy_ns);
        own
    }

    #[test]
    fn many_spawns_are_a_storm_and_few_only_when_they_fill_a_long_loop() {
        assert!(is_storm(&own(20, 0, 0, MS)));
        assert!(!is_storm(&own(19, 30 * MS, 199 * MS, MS)), "too short");
        assert!(is_storm(&own(5, 60 * MS, 200 * MS, MS)));
        assert!(!is_storm(&own(5, 59 * MS, 200 * MS, MS)), "hardly fills it");
        assert!(!is_storm(&own(4, 400 * MS, 400 * MS, MS)), "too few");
    }

    #[test]
    fn programs_with_work_of_their_own_are_no_storm() {
        assert!(!is_storm(&own(40, 60_000 * MS, 60_000 * MS, 1_500 * MS)), "a compiler");
        assert!(is_storm(&own(40, 12_000 * MS, 12_000 * MS, 300 * MS)), "iptables behind a lock");
    }

    #[test]
    fn repetitions_add_up_and_steps_do_not() {
        let mut mixed = Loop::default();
        for step in 0..30 {
            mixed.class(&format!("step-{step}").into()).ended = 1;
        }
        assert!(!is_storm(&mixed), "a script with thirty different steps");
        for class in ["grep", "sed", "ip route replace"] {
            mixed.class(&class.into()).ended = 7;
        }
        assert!(is_storm(&mixed), "a script with three commands in a loop");
    }

    #[test]
    fn counted_spawns_count() {
        let mut flooded = own(2, 0, 0, MS);
        assert!(!is_storm(&flooded));
        flooded.class(&"true".into()).counted = 18;
        assert!(is_storm(&flooded));
    }
}
