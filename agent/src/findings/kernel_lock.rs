//! ADD calls that wait for a lock of the kernel which netlink requests take: who held it, and before which requests.

use super::adds::{self, Group};
use super::human::{count, duration};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id};
use crate::enrich::ProcId;
use crate::fold::grow::Grow;
use crate::fold::waits::KernelLock;
use crate::fold::{Snapshot, State};
use crate::views;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

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
    let holders = holders(state, group);
    let held: Vec<String> = holders.iter().take(3).map(|(name, held)| held.said(state, name)).collect();
    Some(Finding {
        rule: rule.name,
        id: id(rule.name, &group.plugins(), about.lock.name()),
        severity: Severity::of(group.mean_ns()),
        cost_ns: group.blocked_ns,
        title: format!(
            "{} for {}{}",
            group.begin(),
            about.what,
            held.first().map_or_else(String::new, |first| format!("; held by {first} in all"))
        ),
        detail: [
            (!said.is_empty()).then(|| format!("{}.", said.join(", "))),
            (held.len() > 1).then(|| format!("Of the waiting, it was held by {}.", held.join(", "))),
        ]
        .into_iter()
        .flatten()
        .collect(),
        numbers: BTreeMap::from([
            ("calls", Number::Whole(group.calls.len() as u64)),
            ("blocked_ns", Number::Whole(group.blocked_ns)),
            ("wall_ns", Number::Whole(group.wall_ns)),
            ("holders", Number::Whole(holders.iter().map(|(_, held)| held.by.len() as u64).sum())),
        ]),
        fix: vec![about.fix.into()],
        evidence: vec![adds::evidence(worst), Evidence { view: "netlink", query: String::new() }],
        subject: Subject::Cni,
    })
}

/// Processes of one name that had the lock.
#[derive(Default)]
struct Held {
    by: BTreeSet<ProcId>,
    /// Waits that ended, or began, while they had it.
    waited_ns: u64,
}

impl Held {
    fn said(&self, state: &State, name: &str) -> String {
        let waited = duration(self.waited_ns);
        match (self.by.len(), self.by.first()) {
            (1, Some(only)) => format!("{} for {waited}", adds::who(state, *only)),
            (many, _) => format!("{} {name} processes for {waited}", count(many as u64)),
        }
    }
}

/// Who had the lock, by name, those behind whom the waits were longest first. The lock is got in no certain order, so what
/// is known is whom each wait was behind, and no more.
fn holders(state: &State, group: &Group<'_>) -> Vec<(String, Held)> {
    let mut names: BTreeMap<String, Held> = BTreeMap::new();
    for (key, sum) in &group.rows {
        let Some(id) = key.holder.map(|holder| state.processes.id_now(holder)) else { continue };
        let name =
            state.processes.get(id).map_or_else(|| "unknown".into(), |process| process.comm.to_string());
        let held = names.entry(name).or_default();
        held.by.insert(id);
        held.waited_ns.grow(sum.blocked_ns);
    }
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_key(|(_, held)| Reverse(held.waited_ns));
    names
}
