//! ADD calls that wait for a lock of the kernel which netlink requests take: who held it, and before which requests.

use super::adds::{self, Group};
use super::human::duration;
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id, lock_convoy};
use crate::fold::Snapshot;
use crate::fold::grow::Grow;
use crate::fold::locks::LockId;
use crate::fold::waits::KernelLock;
use crate::views;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What a rule says of its lock.
pub(super) struct About {
    pub(super) lock: KernelLock,
    /// What it is, as a clause that can follow "wait for".
    pub(super) what: &'static str,
    pub(super) fix: &'static str,
}

/// The finding about this lock, if ADDs wait for it.
pub(super) fn find(snapshot: &Snapshot, rule: &Rule, about: &About) -> Vec<Finding> {
    let groups = adds::by(adds::ended(snapshot), |key| (key.kernel_lock() == Some(about.lock)).then_some(()));
    let worth = groups.values().filter(|group| group.counts());
    worth.filter_map(|group| finding(snapshot, rule, about, group)).collect()
}

fn finding(snapshot: &Snapshot, rule: &Rule, about: &About, group: &Group<'_>) -> Option<Finding> {
    let state = &snapshot.state;
    let worst = group.worst()?;
    let mut messages: BTreeMap<String, u64> = BTreeMap::new();
    for (key, sum) in &group.rows {
        if let Some(message) = views::netlink_wait(state, key) {
            messages.entry(message).or_default().grow(sum.blocked_ns);
        }
    }
    let mut messages: Vec<_> = messages.into_iter().collect();
    messages.sort_by_key(|(_, ns)| Reverse(*ns));
    let said: Vec<String> =
        messages.iter().take(3).map(|(name, ns)| format!("{} before {name}", duration(*ns))).collect();
    let lock = state.locks.iter().find(|(id, _)| **id == LockId::Kernel(about.lock)).map(|(_, lock)| lock);
    let holders = lock.map(lock_convoy::holders).unwrap_or_default();
    let held: Vec<String> = holders
        .iter()
        .take(3)
        .map(|(holder, held)| format!("{} for {}", adds::who(state, *holder), duration(held.held_ns)))
        .collect();
    Some(Finding {
        rule: rule.name,
        id: id(rule.name, &group.plugins(), about.lock.name()),
        severity: Severity::of(group.mean_ns()),
        cost_ns: group.blocked_ns,
        title: format!(
            "{} for {}{}",
            group.begin(),
            about.what,
            held.first().map_or_else(String::new, |first| format!("; held by {first}"))
        ),
        detail: [
            (!said.is_empty()).then(|| format!("{}.", said.join(", "))),
            (held.len() > 1).then(|| format!("Held while others waited by {}.", held.join(", "))),
        ]
        .into_iter()
        .flatten()
        .collect(),
        numbers: BTreeMap::from([
            ("calls", Number::Whole(group.calls.len() as u64)),
            ("blocked_ns", Number::Whole(group.blocked_ns)),
            ("wall_ns", Number::Whole(group.wall_ns)),
            ("holders", Number::Whole(holders.len() as u64)),
        ]),
        fix: vec![about.fix.into()],
        evidence: vec![adds::evidence(worst), Evidence { view: "netlink", query: String::new() }],
        subject: Subject::Cni,
    })
}
