//! CNI plugins that run commands by the dozen in each ADD.

use super::adds;
use super::human::{count, duration, percent};
use super::{Finding, Number, Rule, Severity, Subject, fixes, id};
use crate::fold::Snapshot;
use crate::fold::cni::{Call, tree::TreeClass};
use crate::fold::grow::{Grow, total};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The rule.
pub static RULE: Rule =
    Rule { name: "cni_exec_storm", about: "CNI plugins that run commands by the dozen in each call", find };

/// A plugin that runs so many commands in each call stands out, however fast they are. The reference bridge with
/// masquerading runs nine.
const HELPERS: u64 = 20;
/// Provided that its children take at least this part of its time, in percent.
const PERCENT: u64 = 30;
/// And that there is so much of it in the window.
const LEAST_NS: u64 = 50_000_000;

/// Whether a call's commands are what fills it.
pub(super) fn is_storm(call: &Call) -> bool {
    helpers(call) >= HELPERS && call.tree.busy.total_ns() / PERCENT >= call.wall_ns(0) / 100
}

fn helpers(call: &Call) -> u64 {
    total(call.tree.classes.iter().filter(|((delegated, _), _)| !delegated).map(|(_, class)| class.spawns))
}

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut plugins: BTreeMap<&Arc<str>, Vec<&Call>> = BTreeMap::new();
    for call in adds::ended(snapshot).filter(|call| is_storm(call)) {
        plugins.entry(&call.plugin).or_default().push(call);
    }
    plugins.into_iter().filter_map(|(plugin, calls)| finding(plugin, &calls)).collect()
}

fn finding(plugin: &Arc<str>, calls: &[&Call]) -> Option<Finding> {
    let number = calls.len() as u64;
    let wall_ns = total(calls.iter().map(|call| call.wall_ns(0)));
    let busy_ns = total(calls.iter().map(|call| call.tree.busy.total_ns()));
    if busy_ns < LEAST_NS {
        return None;
    }
    let mut classes: BTreeMap<&Arc<str>, TreeClass> = BTreeMap::new();
    for ((_, name), class) in
        calls.iter().flat_map(|call| &call.tree.classes).filter(|((delegated, _), _)| !delegated)
    {
        let row = classes.entry(name).or_default();
        row.spawns.grow(class.spawns);
        row.wall_ns.grow(class.wall_ns);
    }
    let mut classes: Vec<_> = classes.into_iter().collect();
    classes.sort_by_key(|(_, class)| Reverse(class.wall_ns));
    let helpers = total(calls.iter().map(|call| helpers(call)));
    let worst = calls.iter().max_by_key(|call| call.wall_ns(0))?;
    let said = classes.iter().take(3).map(|(name, class)| {
        format!(
            "`{name}`: {:.1} times per call, {} in all.",
            class.spawns as f64 / number as f64,
            duration(class.wall_ns)
        )
    });
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, plugin, "add"),
        severity: Severity::of(busy_ns / number),
        cost_ns: busy_ns,
        title: format!(
            "{plugin} runs {} commands in each ADD, which fill {} of its {}",
            count(helpers / number),
            percent(busy_ns, wall_ns),
            duration(wall_ns / number)
        ),
        detail: said.collect(),
        numbers: BTreeMap::from([
            ("calls", Number::Whole(number)),
            ("helpers", Number::Whole(helpers)),
            ("children_busy_ns", Number::Whole(busy_ns)),
            ("wall_ns", Number::Whole(wall_ns)),
        ]),
        fix: classes.first().map(|(class, _)| format!("{}.", fixes::fix(class))).into_iter().collect(),
        evidence: vec![adds::evidence(worst)],
        subject: Subject::Cni,
    })
}
