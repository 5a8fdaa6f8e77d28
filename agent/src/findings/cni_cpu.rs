//! ADD calls that are ready to run and wait for a CPU: because too many run at once, because others have the CPUs, or
//! because the quota of the runtime, in whose cgroup plugins run, withholds it.

use super::adds::{self, Group};
use super::human::{count, percent};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, cni_exec_storm, id, owner};
use crate::fold::Snapshot;
use crate::fold::cni::Call;
use crate::fold::grow::Grow;
use crate::fold::sched::owners::{HeldBy, Owner, OwnerWaits, Ran, owners};
use std::cmp::Reverse;

/// The rule.
pub static RULE: Rule = Rule {
    name: "cni_cpu",
    about: "CNI plugins that wait for a CPU: too many at once, other work, or a quota",
    find,
};

/// How long a call was ready without running, itself or a process below it: at most its wall time. A storm of commands
/// is told of with the time that its commands wait.
pub(super) fn queued_ns(call: &Call) -> u64 {
    let own_ns = call.end.as_ref().map_or(0, |end| end.main.runnable_ns);
    let below_ns = if cni_exec_storm::is_storm(call) { 0 } else { call.tree.split.runnable_ns };
    own_ns.saturating_add(below_ns).min(call.wall_ns(0))
}

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut group = Group::default();
    for call in adds::ended(snapshot) {
        let queued_ns = queued_ns(call);
        group.calls.push((call, queued_ns));
        group.blocked_ns.grow(queued_ns);
        group.wall_ns.grow(call.wall_ns(0));
    }
    if group.counts() { finding(snapshot, &group).into_iter().collect() } else { Vec::new() }
}

fn finding(snapshot: &Snapshot, group: &Group<'_>) -> Option<Finding> {
    let state = &snapshot.state;
    let worst = group.worst()?;
    let cgroup_id = state.processes.get(worst.id)?.cgroup_id;
    let whose = Owner::of(&state.cgroups, cgroup_id);
    let all = owners(&state.sched, &state.cgroups, |_| true, |_| true);
    let waits = all.get(&whose);
    let held = waits.and_then(|waits| waits.held_by(&whose));
    let cpus = state.node.as_ref().map_or(0, |node| u64::from(node.cpus));
    let at_once = at_once(group);
    let (why, fix) = match held {
        Some(HeldBy::Quota) => (
            format!(": the CPU limit of {} withholds it", owner(state, cgroup_id)),
            "raise or remove the limit: plugins run in the runtime's cgroup, and each pod's start spends of its quota.",
        ),
        Some(HeldBy::Others) => (
            format!(": {} had it meanwhile", others(&whose, waits)),
            "give the runtime's slice more weight (kubelet's system-reserved, `CPUWeight=`), or move the neighbour.",
        ),
        Some(HeldBy::Itself) | None => (
            format!(": up to {} ran at once on {} CPUs", count(at_once), count(cpus)),
            "start fewer pods at once (the kubelet's rate of pod starts, the runtime's own limit): they only take the CPUs \
             from each other. Plugins that start fewer commands need less of them.",
        ),
    };
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &group.plugins(), "add"),
        severity: Severity::of(group.mean_ns()),
        cost_ns: group.blocked_ns,
        title: format!("{} for a CPU{why}", group.begin()),
        detail: vec![format!("The call that waited most was for {}.", adds::pod(&worst.work))],
        numbers: [
            ("calls", group.calls.len() as u64),
            ("runnable_ns", group.blocked_ns),
            ("wall_ns", group.wall_ns),
            ("at_once", at_once),
            ("cpus", cpus),
        ]
        .map(|(name, number)| (name, Number::Whole(number)))
        .into(),
        fix: vec![fix.into()],
        evidence: vec![adds::evidence(worst), Evidence { view: "sched", query: "scope=pod".into() }],
        subject: Subject::Cni,
    })
}

/// Most calls alive at one instant.
fn at_once(group: &Group<'_>) -> u64 {
    let spans = group.calls.iter().map(|(call, _)| (call.started_ns, call.started_ns + call.wall_ns(0)));
    let mut changes: Vec<(u64, i64)> = spans.flat_map(|(from, until)| [(from, 1), (until, -1)]).collect();
    // At one instant ends come first: those calls did not overlap.
    changes.sort_unstable();
    let alive = changes.iter().scan(0, |alive, (_, change)| {
        *alive += change;
        Some(*alive)
    });
    alive.max().unwrap_or(0).unsigned_abs()
}

/// Who had the CPUs most, and how much of the time.
fn others(whose: &Owner, waits: Option<&OwnerWaits>) -> String {
    let Some(waits) = waits else { return "others".into() };
    let mut ran: Vec<(&Owner, u64)> = waits
        .ran
        .iter()
        .filter_map(|(ran, sum)| match ran {
            Ran::Owner(other) if other != whose => Some((other, sum.ns)),
            Ran::Owner(_) | Ran::Nobody | Ran::Untold => None,
        })
        .collect();
    ran.sort_by_key(|(_, ns)| Reverse(*ns));
    let Some((most, ns)) = ran.first() else { return "others".into() };
    let name = match most {
        Owner::Pod(uid) => format!("pod {uid}"),
        Owner::Host(unit) => unit.clone(),
        Owner::Unknown => "an unknown cgroup".into(),
    };
    format!("{name} ({} of it)", percent(*ns, waits.ran_ns(|_| true)))
}
