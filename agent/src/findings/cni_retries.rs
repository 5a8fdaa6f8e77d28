//! Sandboxes that got no network at their first attempt: what the plugins said, and whether it gets worse the more
//! there are.

use super::adds;
use super::human::{count, duration, many};
use super::{Finding, Number, Rule, Severity, Subject, id};
use crate::fold::Snapshot;
use crate::fold::cni::Call;
use crate::fold::cni::attempts::Sandbox;
use crate::fold::grow::total;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rule.
pub static RULE: Rule = Rule {
    name: "cni_retries",
    about: "pods whose network took several attempts, and what the plugins said",
    find,
};

/// Calls from which on it can be told whether failures rise with load.
const LOAD_CALLS: usize = 12;
/// Failures rise with load when the busier half of the calls fails at least so many times as often as the other.
const RISES: usize = 2;

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut failed: BTreeMap<&Arc<str>, Vec<&Call>> = BTreeMap::new();
    for call in adds::ended(snapshot).filter(|call| call.failed()) {
        failed.entry(&call.plugin).or_default().push(call);
    }
    failed.into_iter().filter_map(|(plugin, calls)| finding(snapshot, plugin, &calls)).collect()
}

/// Time from a sandbox's first attempt to the one that worked, or to the end of the last.
fn lost_ns(sandbox: &Sandbox) -> u64 {
    let Some(first) = sandbox.attempts.first() else { return 0 };
    let good = sandbox.attempts.iter().find(|attempt| attempt.succeeded()).map(|attempt| attempt.started_ns);
    let end_ns = good.or_else(|| sandbox.attempts.last().map(|attempt| attempt.ended_ns)).unwrap_or(0);
    end_ns.saturating_sub(first.started_ns)
}

fn finding(snapshot: &Snapshot, plugin: &Arc<str>, failed: &[&Call]) -> Option<Finding> {
    let pods: BTreeSet<&str> = failed.iter().map(|call| &*call.work.container_id).collect();
    let sandboxes =
        snapshot.state.cni.sandboxes.iter().filter(|sandbox| pods.contains(&*sandbox.work.container_id));
    let cost_ns = total(sandboxes.map(lost_ns)).max(total(failed.iter().map(|call| call.wall_ns(0))));
    if cost_ns < adds::LEAST_NS {
        return None;
    }
    let errors = failed.iter().filter_map(|call| call.words.error.as_ref());
    let conflicts = errors.clone().filter(|error| error.is_conflict()).count() as u64;
    let mut codes: BTreeMap<(u64, &str), u64> = BTreeMap::new();
    errors.for_each(|error| *codes.entry((error.code, &*error.msg)).or_default() += 1);
    let mut codes: Vec<_> = codes.into_iter().collect();
    codes.sort_by_key(|(_, times)| Reverse(*times));
    let why = match codes.first() {
        None => "without a CNI error".to_owned(),
        Some(((code, msg), _)) => format!("CNI error {code}, `{msg}`"),
    };
    let load = load(adds::ended(snapshot).filter(|call| call.plugin == *plugin).collect());
    let rises = load.is_some_and(|(quiet, busy)| busy >= 2 && busy >= RISES * quiet.max(1));
    let calls = adds::ended(snapshot).filter(|call| call.plugin == *plugin).count() as u64;
    let mut detail: Vec<String> = codes
        .iter()
        .take(3)
        .map(|((code, msg), times)| format!("{} times CNI error {code}: {msg}.", count(*times)))
        .collect();
    if conflicts > 0 {
        detail.push(format!(
            "{} conflicts: someone else changed the object first, so the work was done in vain.",
            count(conflicts)
        ));
    }
    if let Some((quiet, busy)) = load.filter(|_| rises) {
        detail.push(format!(
            "A feedback loop: of the ADDs that began with few others at work {} failed, of those with many {}. Each retry \
             is more load, and more load is more retries.",
            count(quiet as u64),
            count(busy as u64)
        ));
    }
    let worst = failed.iter().max_by_key(|call| call.wall_ns(0))?;
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, plugin, codes.first().map_or("", |((_, msg), _)| msg)),
        severity: Severity::of(cost_ns / pods.len().max(1) as u64),
        cost_ns,
        title: format!(
            "{} of {} of {plugin} failed ({why}), for {}: {} until it worked or was given up{}",
            count(failed.len() as u64),
            many(calls, "ADD"),
            many(pods.len() as u64, "pod"),
            duration(cost_ns),
            if rises { "; failures rise with load" } else { "" }
        ),
        detail,
        numbers: BTreeMap::from([
            ("calls", Number::Whole(calls)),
            ("failed", Number::Whole(failed.len() as u64)),
            ("pods", Number::Whole(pods.len() as u64)),
            ("conflicts", Number::Whole(conflicts)),
            ("failed_at_low_load", Number::Whole(load.map_or(0, |(quiet, _)| quiet as u64))),
            ("failed_at_high_load", Number::Whole(load.map_or(0, |(_, busy)| busy as u64))),
        ]),
        fix: vec![
            if conflicts > 0 {
                "several nodes or plugins write the same object: give each node a block of addresses of its own, take a \
                 lease around the write, and let retries wait a random and growing time."
            } else {
                "see the plugin's own words above; retries of the kubelet come every few seconds, so each failure costs \
                 more than the ADD itself."
            }
            .into(),
        ],
        evidence: vec![adds::evidence(worst)],
        subject: Subject::Cni,
    })
}

/// Failures among the calls that began with few others at work, and among those that began with many: halves of the
/// calls. `None` when there are too few calls, or the load was always the same.
fn load(calls: Vec<&Call>) -> Option<(usize, usize)> {
    if calls.len() < LOAD_CALLS {
        return None;
    }
    let mut starts: Vec<u64> = calls.iter().map(|call| call.started_ns).collect();
    let mut ends: Vec<u64> = calls.iter().map(|call| call.started_ns + call.wall_ns(0)).collect();
    starts.sort_unstable();
    ends.sort_unstable();
    let at_work = |ns: u64| starts.partition_point(|at| *at <= ns) - ends.partition_point(|at| *at <= ns);
    let mut by_load: Vec<(usize, bool)> =
        calls.iter().map(|call| (at_work(call.started_ns), call.failed())).collect();
    by_load.sort_unstable();
    let (quiet, busy) = by_load.split_at(by_load.len() / 2);
    let differ = quiet.first()?.0 < busy.last()?.0;
    let failures = |half: &[(usize, bool)]| half.iter().filter(|(_, failed)| *failed).count();
    differ.then(|| (failures(quiet), failures(busy)))
}
