//! Children that never call exec, by the hundred.

use super::human::{count, duration};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id, name_and_owner};
use crate::fold::class_sum::ClassSum;
use crate::fold::daemons::{Daemon, DaemonKey};
use crate::fold::grow::Grow;
use crate::fold::{Snapshot, storm};
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule =
    Rule { name: "fork_storm", about: "daemons that fork by the hundred without calling exec", find };

/// So many in a window stand out: a pre-forking server makes its workers once.
const FORKS: u64 = 100;

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let daemons = snapshot.state.daemons.iter();
    daemons.filter_map(|(key, daemon)| finding(snapshot, key, daemon)).collect()
}

fn finding(snapshot: &Snapshot, key: &DaemonKey, daemon: &Daemon) -> Option<Finding> {
    let classes = ClassSum::over(storm::loops(snapshot, daemon));
    // Workers have no busy time: they stand for their daemon and are not what it waits for.
    let forked = classes.values().filter(|sum| sum.stats.with_exec == 0 && sum.stats.busy.total_ns() > 0);
    let (mut forks, mut wall_ns, mut busy_ns) = (0_u64, 0_u64, 0_u64);
    for sum in forked {
        forks.grow(sum.stats.ended);
        wall_ns.grow(sum.stats.wall_ns);
        busy_ns.grow(sum.stats.busy.total_ns());
    }
    if forks < FORKS {
        return None;
    }
    let (name, owner) = name_and_owner(&snapshot.state, key);
    let latest = daemon.latest.tgid;
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &name, &owner),
        severity: Severity::of(busy_ns),
        cost_ns: busy_ns,
        title: format!("{name} ({owner}) forked {} children that ended without calling exec", count(forks)),
        detail: vec![format!(
            "They lived {} on average; at least one was alive for {}.",
            duration(wall_ns / forks),
            duration(busy_ns)
        )],
        numbers: BTreeMap::from([
            ("forks", Number::Whole(forks)),
            ("wall_ns", Number::Whole(wall_ns)),
            ("busy_ns", Number::Whole(busy_ns)),
        ]),
        fix: vec!["in a shell, each `$(...)`, `( ... )` and part of a pipeline is such a fork: use the shell's own \
                   means; in a server, keep workers or use threads."
            .into()],
        evidence: vec![
            Evidence { view: "storms", query: format!("pid={latest}") },
            Evidence { view: "processes", query: format!("spawner={latest}") },
        ],
        subject: Subject::Daemon(key.clone()),
    })
}
