//! Execs that fail: a search along PATH, done again for every spawn.

use super::human::{count, duration};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id, name_and_owner, pid_of};
use crate::decode::errno::errno_name;
use crate::fold::class_sum::ClassSum;
use crate::fold::daemons::{DaemonKey, key_of};
use crate::fold::failed::FailedKey;
use crate::fold::grow::total;
use crate::fold::{Snapshot, storm};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The rule.
pub static RULE: Rule = Rule {
    name: "path_search",
    about: "daemons whose children try many paths before they find their program",
    find,
};

/// So many failed execs in a window stand out by themselves.
const FAILS: u64 = 100;
/// Fewer do when each exec that works is preceded by more than this many that fail,
const FAILS_PER_EXEC: f64 = 2.0;
/// and there are at least so many: one shell's first command says nothing.
const FAILS_MIN: u64 = 20;
/// Paths named.
const PATHS_SHOWN: usize = 3;

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut by_daemon: BTreeMap<&DaemonKey, Vec<(&FailedKey, u64)>> = BTreeMap::new();
    for (key, fails) in snapshot.state.failed.rows() {
        if let Some(daemon) = &key.daemon {
            by_daemon.entry(daemon).or_default().push((key, fails));
        }
    }
    by_daemon.into_iter().filter_map(|(key, rows)| finding(snapshot, key, rows)).collect()
}

fn classes_of(snapshot: &Snapshot, key: &DaemonKey) -> BTreeMap<Arc<str>, ClassSum> {
    let daemon = snapshot.state.daemons.get(key);
    ClassSum::over(daemon.into_iter().flat_map(|daemon| storm::loops(snapshot, daemon)))
}

/// Execs of the daemon itself, where it is another one's short-lived child: `env` searches, then becomes its
/// program.
fn execs_as_child(snapshot: &Snapshot, key: &DaemonKey) -> u64 {
    let parent = key_of(&snapshot.state.processes, key.root);
    let classes = parent.map(|parent| classes_of(snapshot, &parent)).unwrap_or_default();
    classes.get(&key.argv_class).map_or(0, |sum| sum.stats.with_exec)
}

fn finding(snapshot: &Snapshot, key: &DaemonKey, mut rows: Vec<(&FailedKey, u64)>) -> Option<Finding> {
    let state = &snapshot.state;
    let fails: u64 = rows.iter().map(|(_, fails)| fails).sum();
    let classes = classes_of(snapshot, key);
    let execs = classes.values().map(|sum| sum.stats.with_exec).sum::<u64>() + execs_as_child(snapshot, key);
    let many_each = fails >= FAILS_MIN && fails as f64 > FAILS_PER_EXEC * execs as f64;
    if fails < FAILS && !many_each {
        return None;
    }
    rows.sort_by_key(|(key, fails)| (Reverse(*fails), *key));
    // What the search took is not measured alone; it lies between the clone call and the exec that worked.
    let searching = classes.values().filter(|sum| sum.stats.exec_fails > 0);
    let cost_ns: u64 = total(searching.map(|sum| sum.stats.spawn_cost_ns));
    let (name, owner) = name_and_owner(state, key);
    let shown = rows
        .iter()
        .take(PATHS_SHOWN)
        .map(|(key, fails)| format!("{} times {}: {}", count(*fails), key.path, errno_name(key.errno)));
    let mut detail: Vec<String> = shown.collect();
    if rows.len() > PATHS_SHOWN {
        detail.push(format!("and {} more paths", count((rows.len() - PATHS_SHOWN) as u64)));
    }
    if cost_ns > 0 {
        detail.push(format!(
            "From the clone call to the program in place these spawns took {}; the search is a part of that.",
            duration(cost_ns)
        ));
    }
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &name, &owner),
        severity: Severity::of(cost_ns),
        cost_ns,
        title: format!(
            "{name} ({owner}) or its children tried {} programs that are not there or cannot be run, against {} \
             that worked",
            count(fails),
            count(execs)
        ),
        detail,
        numbers: BTreeMap::from([
            ("failed_execs", Number::Whole(fails)),
            ("execs", Number::Whole(execs)),
            ("paths", Number::Whole(rows.len() as u64)),
            ("spawn_cost_ns", Number::Whole(cost_ns)),
        ]),
        fix: vec![
            "call programs by their whole path, or look them up once; put the directory that holds them \
                   first in PATH."
                .into(),
        ],
        evidence: vec![Evidence { view: "processes", query: format!("spawner={}", pid_of(state, key)) }],
        subject: Subject::Daemon(key.clone()),
    })
}
