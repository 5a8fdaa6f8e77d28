//! Pods and units whose threads are ready and wait for a CPU: because others have it, or because their own quota withholds
//! it. The two look alike from inside a container and are mended in opposite ways.

use super::human::{count, duration, percent};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id, owner};
use crate::fold::sched::owners::{HeldBy, Owner, OwnerWaits, Ran, owners};
use crate::fold::{Snapshot, State};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule = Rule {
    name: "run_queue",
    about: "pods and units that wait for a CPU, held back by others or by their own quota",
    find,
};

/// Waits of a millisecond or more together stand out from here on,
const LONG_WAIT_NS: u64 = 500_000_000;
/// provided that they are at least this part of the time in which the owner was ready or ran, in percent,
const SHARE_PERCENT: u64 = 20;
/// and that the cause had at least this part in them.
const CAUSE_PERCENT: u64 = 30;

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let state = &snapshot.state;
    let all = owners(&state.sched, &state.cgroups, |_| true, |_| true);
    all.iter().filter_map(|(owner, waits)| finding(snapshot, owner, waits)).collect()
}

fn finding(snapshot: &Snapshot, who: &Owner, waits: &OwnerWaits) -> Option<Finding> {
    let state = &snapshot.state;
    let long_ns = waits.ran_ns(|_| true);
    let wanted_ns = waits.waits.wait_ns.saturating_add(waits.waits.on_cpu_ns);
    let reaches = |part: u64, percent: u64, whole: u64| {
        u128::from(part) * 100 >= u128::from(percent) * u128::from(whole)
    };
    if long_ns < LONG_WAIT_NS || !reaches(long_ns, SHARE_PERCENT, wanted_ns) {
        return None;
    }
    let others_ns = waits.ran_ns(|ran| matches!(ran, Ran::Owner(other) if other != who));
    let held = waits.held_by(who)?;
    let name = owner(state, waits.cgroup_id);
    let (cause_ns, why, detail, fix) = match held {
        // A pod with more threads than CPUs waits for itself: that is what it asked for.
        HeldBy::Itself => return None,
        HeldBy::Others => (
            others_ns,
            "while others had it",
            who_ran(state, who, waits, long_ns),
            vec![
                "give it a CPU request that matches its use, so that the scheduler owes it the time, or move the noisy \
                 neighbour: its requests are less than what it takes"
                    .to_owned(),
            ],
        ),
        HeldBy::Quota => (
            waits.throttle.throttled_ns.min(long_ns),
            "because its own CPU limit withheld it",
            throttled(waits),
            vec![
                "raise or remove its CPU limit: while it was held back, CPUs it could have used did something else or \
                 nothing; a request alone protects its neighbours"
                    .to_owned(),
                "or let it run fewer threads at once (GOMAXPROCS, worker pools): a quota of one CPU is spent in a quarter \
                 of its period by four threads"
                    .to_owned(),
            ],
        ),
    };
    if !reaches(cause_ns, CAUSE_PERCENT, long_ns) {
        return None;
    }
    let p99_ns = waits.waits.percentile_ns(990).unwrap_or(0);
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, held.name(), &name),
        severity: Severity::of(p99_ns),
        cost_ns: long_ns,
        title: format!(
            "{name} waited {} for a CPU {why}, {} of the time it wanted to run",
            duration(long_ns),
            percent(long_ns, wanted_ns)
        ),
        detail,
        numbers: BTreeMap::from([
            ("long_wait_ns", Number::Whole(long_ns)),
            ("on_cpu_ns", Number::Whole(waits.waits.on_cpu_ns)),
            ("others_ran_ns", Number::Whole(others_ns)),
            ("p99_ns", Number::Whole(p99_ns)),
            ("throttled_ns", Number::Whole(waits.throttle.throttled_ns)),
            ("waits", Number::Whole(waits.waits.count())),
        ]),
        fix,
        evidence: vec![Evidence { view: "sched", query: evidence(state, who, waits) }],
        subject: Subject::Owner(waits.cgroup_id),
    })
}

/// The filter that shows the owner.
fn evidence(state: &State, who: &Owner, waits: &OwnerWaits) -> String {
    let pairs = match who {
        Owner::Pod(uid) => [("scope", "pod".to_owned()), ("pod", uid.clone())],
        Owner::Host(_) | Owner::Unknown => {
            let path =
                state.cgroups.get(waits.cgroup_id).map_or_else(|| "/".to_owned(), |own| own.path.clone());
            [("scope", "pod".to_owned()), ("cgroup", path)]
        }
    };
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// The noisy neighbours by name.
fn who_ran(state: &State, who: &Owner, waits: &OwnerWaits, long_ns: u64) -> Vec<String> {
    const NAMED: usize = 3;
    let mut others: Vec<(&Owner, u64)> = waits
        .ran
        .iter()
        .filter_map(|(ran, count)| match ran {
            Ran::Owner(other) if other != who => Some((other, count.ns)),
            Ran::Owner(_) | Ran::Nobody | Ran::Untold => None,
        })
        .collect();
    others.sort_by_key(|(_, ns)| Reverse(*ns));
    let name = |other: &Owner| match other {
        Owner::Pod(uid) => format!("pod {uid}"),
        Owner::Host(unit) => unit.clone(),
        Owner::Unknown => "an unknown cgroup".into(),
    };
    let named =
        others.iter().take(NAMED).map(|(other, ns)| format!("{} {}", name(other), percent(*ns, long_ns)));
    let preempted = percent(waits.waits.preempted_ns, waits.waits.wait_ns);
    let cpus = state.node.as_ref().map_or(0, |node| node.cpus);
    vec![
        format!("Meanwhile the CPU was had by: {}.", named.collect::<Vec<_>>().join(", ")),
        format!(
            "Of its waiting, {preempted} began when it was preempted; the node has {} CPUs.",
            count(u64::from(cpus))
        ),
    ]
}

fn throttled(waits: &OwnerWaits) -> Vec<String> {
    let throttle = &waits.throttle;
    vec![format!(
        "It was throttled in {} of {} periods of its quota, for {} summed over CPUs.",
        count(throttle.throttled),
        count(throttle.periods),
        duration(throttle.throttled_ns)
    )]
}
