//! ADD calls that wait for RTNL, the kernel's one lock for interfaces, addresses and routes.

use super::adds::{self, Group};
use super::human::duration;
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id, lock_convoy};
use crate::fold::Snapshot;
use crate::fold::grow::Grow;
use crate::fold::locks::LockId;
use crate::views;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule = Rule {
    name: "cni_rtnl",
    about: "CNI plugins that wait for the kernel's lock on network configuration",
    find,
};

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let groups = adds::by(adds::ended(snapshot), |key| key.is_rtnl().then_some(()));
    groups.values().filter(|group| group.counts()).filter_map(|group| finding(snapshot, group)).collect()
}

fn finding(snapshot: &Snapshot, group: &Group<'_>) -> Option<Finding> {
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
    let lock = state.locks.iter().find(|(id, _)| **id == LockId::Rtnl).map(|(_, lock)| lock);
    let holders = lock.map(lock_convoy::holders).unwrap_or_default();
    let held: Vec<String> = holders
        .iter()
        .take(3)
        .map(|(holder, held)| format!("{} for {}", adds::who(state, *holder), duration(held.held_ns)))
        .collect();
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &group.plugins(), "rtnl"),
        severity: Severity::of(group.mean_ns()),
        cost_ns: group.blocked_ns,
        title: format!(
            "{} for RTNL, the kernel's lock on network configuration{}",
            group.begin(),
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
        fix: vec![
            "everything that changes interfaces, addresses or routes takes this one lock, and so does taking a network \
             namespace down: look for a daemon that rewrites its routes or lists all links in a loop, and start and \
             stop fewer pods at once."
                .into(),
        ],
        evidence: vec![adds::evidence(worst), Evidence { view: "netlink", query: String::new() }],
        subject: Subject::Cni,
    })
}
