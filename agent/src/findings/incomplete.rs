//! What the agent did not see, when it matters for the other findings.

use super::human::{count, many};
use super::{Evidence, Finding, Number, Rule, Severity, Subject};
use crate::fold::Snapshot;
use crate::fold::grow::total;
use crate::fold::loss::Loss;
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule =
    Rule { name: "incomplete", about: "losses that make the other findings' numbers too small", find };

/// Records whose loss changes numbers of loops and processes, not only who they are about.
const VITAL: [&str; 4] = ["spawn", "exec", "exit", "flood"];

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let Loss { dropped, counted, misses, ends_swept, late, .. } = &snapshot.state.loss;
    let lost: u64 = total(dropped.values().copied()).saturating_add(*late);
    let vital: u64 = total(VITAL.iter().filter_map(|kind| dropped.get(kind).copied()));
    let only_counted: u64 = total(counted.values().copied());
    let missed: u64 = total(misses.values().copied());
    let mut detail = Vec::new();
    let named = |what: &BTreeMap<&'static str, u64>| {
        what.iter().map(|(name, times)| format!("{name} {}", count(*times))).collect::<Vec<_>>().join(", ")
    };
    if !dropped.is_empty() {
        detail.push(format!("A full ring lost records: {}.", named(dropped)));
    }
    if *late > 0 {
        detail.push(format!("{} came too late to be put in order.", many(*late, "record")));
    }
    if only_counted > 0 {
        detail.push(format!(
            "Under flood the kernel only counted: {}. Counts are exact, times of single processes are a sample.",
            named(counted)
        ));
    }
    if missed > 0 {
        detail.push(format!("Tables in the kernel were full, or memory unreadable: {}.", named(misses)));
    }
    if *ends_swept > 0 {
        detail.push(format!("A sweep found {} gone whose end was not seen.", many(*ends_swept, "spawn")));
    }
    if detail.is_empty() {
        return Vec::new();
    }
    let severity = match (vital, total([only_counted, missed, lost])) {
        (1.., _) => Severity::High,
        (0, 1..) => Severity::Medium,
        (0, 0) => Severity::Low,
    };
    let seen: u64 = snapshot.state.loss.received.values().sum();
    vec![Finding {
        rule: RULE.name,
        id: RULE.name.into(),
        severity,
        cost_ns: 0,
        title: format!(
            "this answer misses something: {} lost, {} only counted, {} seen",
            many(lost, "record"),
            many(only_counted, "happening"),
            many(seen, "record")
        ),
        detail,
        numbers: BTreeMap::from([
            ("lost", Number::Whole(lost)),
            ("counted_only", Number::Whole(only_counted)),
            ("missed", Number::Whole(missed)),
            ("ends_swept", Number::Whole(*ends_swept)),
            ("seen", Number::Whole(seen)),
        ]),
        fix: vec![
            "give the agent more CPU, or ask for a shorter window; what is exact all the same stands in the \
                   completeness block."
                .into(),
        ],
        evidence: vec![Evidence { view: "probes", query: String::new() }],
        subject: Subject::Node,
    }]
}
