//! Spawns that take long until their program runs: a large parent that is copied, or a machine without a CPU
//! to spare.

use super::human::{count, duration, percent};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id, name_and_owner};
use crate::fold::class_sum::ClassSum;
use crate::fold::daemons::{Daemon, DaemonKey};
use crate::fold::grow::Grow;
use crate::fold::{Snapshot, storm};
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule =
    Rule { name: "spawn_cost", about: "daemons that take long to get a program started", find };

/// This part of the children's life, or more, goes by before their program is in place,
const SHARE: f64 = 0.25;
/// of at least so many, since a few may just have met a busy moment,
const SPAWNS: u64 = 10;
/// each takes at least so long: from a small parent, fork and exec of a small program take some 0.3 to 0.7 ms,
const MEAN_NS: u64 = 2_000_000;
/// and all of them in the window at least so long: what is felt.
const SUM_NS: u64 = 100_000_000;

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let daemons = snapshot.state.daemons.iter();
    daemons.filter_map(|(key, daemon)| finding(snapshot, key, daemon)).collect()
}

fn finding(snapshot: &Snapshot, key: &DaemonKey, daemon: &Daemon) -> Option<Finding> {
    let (mut spawns, mut cost_ns, mut life_ns, mut max_ns) = (0_u64, 0_u64, 0_u64, 0);
    for sum in ClassSum::over(storm::loops(snapshot, daemon)).values() {
        spawns.grow(sum.stats.with_exec);
        cost_ns.grow(sum.stats.spawn_cost_ns);
        // Like the cost, from the clone call on.
        life_ns.grow(sum.stats.wall_ns.saturating_add(sum.stats.clone_ns));
        max_ns = max_ns.max(sum.stats.spawn_cost_max_ns);
    }
    let mean_ns = cost_ns.checked_div(spawns)?;
    if spawns < SPAWNS || mean_ns < MEAN_NS || cost_ns < SUM_NS || (cost_ns as f64) < SHARE * life_ns as f64 {
        return None;
    }
    let (name, owner) = name_and_owner(&snapshot.state, key);
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &name, &owner),
        severity: Severity::of(cost_ns),
        cost_ns,
        title: format!(
            "{name} ({owner}) needs {} to get each of {} programs started, {} of their life",
            duration(mean_ns),
            count(spawns),
            percent(cost_ns, life_ns)
        ),
        detail: vec![
            format!("The slowest took {}; all together {}.", duration(max_ns), duration(cost_ns)),
            "This is the time from the clone call to the new program in place: copying the parent's page tables, \
             waiting for a CPU, reading the program."
                .into(),
        ],
        numbers: BTreeMap::from([
            ("spawns", Number::Whole(spawns)),
            ("spawn_cost_ns", Number::Whole(cost_ns)),
            ("spawn_cost_mean_ns", Number::Whole(mean_ns)),
            ("spawn_cost_max_ns", Number::Whole(max_ns)),
            ("life_ns", Number::Whole(life_ns)),
        ]),
        fix: vec![
            "spawn with vfork, posix_spawn or clone(CLONE_VM), which do not copy a large parent; or let a small \
             helper process do the spawning."
                .into(),
        ],
        evidence: vec![Evidence { view: "storms", query: format!("pid={}", daemon.latest.tgid) }],
        subject: Subject::Daemon(key.clone()),
    })
}
