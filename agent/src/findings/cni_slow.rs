//! CNI plugins that take long, and what they spend it on: commands they run, plugins they delegate to, or waiting.

use super::human::{count, duration, percent};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, fixes, id};
use crate::fold::Snapshot;
use crate::fold::cni::{Call, tree::TreeClass};
use crate::fold::grow::{Grow, total};
use slowpod_ebpf::abi::split::{Cause, Split};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The rule.
pub static RULE: Rule = Rule {
    name: "cni_slow",
    about: "CNI plugins that take a good part of a pod's start, and commands they run many times per call",
    find,
};

/// When one ADD in ten takes so long, that is felt: a tenth of the five seconds that a pod's start may take (the SLI).
const SLOW_NS: u64 = 500_000_000;
/// A plugin that runs so many commands in each call stands out, however fast they are. The reference bridge with
/// masquerading runs nine.
const HELPERS: u64 = 20;
/// Provided that they take at least this part of its time, in percent.
const HELPERS_PERCENT: u64 = 30;
/// And that there is so much of it in the window.
const HELPERS_NS: u64 = 50_000_000;

/// ADD calls of one plugin that ended.
#[derive(Default)]
struct Sums<'a> {
    calls: Vec<&'a Call>,
    wall_ns: u64,
    busy_ns: u64,
    own: Split,
    tree: BTreeMap<(bool, Arc<str>), TreeClass>,
}

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut plugins: BTreeMap<&Arc<str>, Sums<'_>> = BTreeMap::new();
    for call in snapshot.state.cni.all() {
        // A delegated plugin's time is its parent's.
        let Some(end) = call.end.as_ref().filter(|_| !call.is_delegated() && &*call.work.command == "ADD")
        else {
            continue;
        };
        let sums = plugins.entry(&call.plugin).or_default();
        sums.calls.push(call);
        sums.wall_ns.grow(call.wall_ns(end.ended_ns));
        sums.busy_ns.grow(call.tree.busy.total_ns());
        sums.own.add(&end.main);
        for (key, class) in &call.tree.classes {
            let row = sums.tree.entry(key.clone()).or_default();
            row.spawns.grow(class.spawns);
            row.wall_ns.grow(class.wall_ns);
        }
    }
    plugins.into_iter().filter_map(|(plugin, sums)| finding(plugin, &sums)).collect()
}

fn finding(plugin: &Arc<str>, sums: &Sums<'_>) -> Option<Finding> {
    let calls = sums.calls.len() as u64;
    let mean_ns = sums.wall_ns / calls;
    let mut walls: Vec<u64> = sums.calls.iter().map(|call| call.wall_ns(0)).collect();
    walls.sort_unstable();
    let p90_ns = walls[(walls.len() * 9).div_ceil(10) - 1];
    let helpers = sums.tree.iter().filter(|((delegated, _), _)| !delegated).map(|(_, row)| row.spawns);
    let helpers = total(helpers);
    let is_storm = helpers / calls >= HELPERS
        && sums.wall_ns >= HELPERS_NS
        && sums.busy_ns / HELPERS_PERCENT >= sums.wall_ns / 100;
    if p90_ns < SLOW_NS && !is_storm {
        return None;
    }
    let mut classes: Vec<_> = sums.tree.iter().collect();
    classes.sort_by_key(|(_, row)| Reverse(row.wall_ns));
    let slowest = sums.calls.iter().max_by_key(|call| call.wall_ns(0))?;
    let each =
        format!("ADD of {plugin} takes {} on average and {} at p90", duration(mean_ns), duration(p90_ns));
    let title = if is_storm {
        format!(
            "{each}, and runs {} commands each time, which fill {} of it",
            count(helpers / calls),
            percent(sums.busy_ns, sums.wall_ns)
        )
    } else {
        format!("{each} over {} calls: {}", count(calls), main_part(sums))
    };
    let mut detail: Vec<String> = classes
        .iter()
        .take(3)
        .map(|((_, name), row)| {
            format!(
                "{name}: {} times per call, {} in all.",
                per_call(row.spawns, calls),
                duration(row.wall_ns)
            )
        })
        .collect();
    detail.push(format!(
        "The slowest took {} ({} {}).",
        duration(slowest.wall_ns(0)),
        slowest.work.pod.namespace.as_deref().unwrap_or("namespace unknown,"),
        slowest.work.pod.name.as_deref().unwrap_or("pod unknown")
    ));
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, plugin, "add"),
        severity: Severity::of(p90_ns),
        cost_ns: sums.wall_ns,
        title,
        detail,
        numbers: BTreeMap::from([
            ("calls", Number::Whole(calls)),
            ("mean_wall_ns", Number::Whole(mean_ns)),
            ("p90_wall_ns", Number::Whole(p90_ns)),
            ("max_wall_ns", Number::Whole(slowest.wall_ns(0))),
            ("helpers", Number::Whole(helpers)),
            ("children_busy_ns", Number::Whole(sums.busy_ns)),
        ]),
        fix: vec![match classes.iter().find(|((delegated, _), _)| !delegated).filter(|_| is_storm) {
            Some(((_, class), _)) => format!("{}.", fixes::fix(class)),
            None => "see the split of the slowest calls: it tells a lock, a disk, a network wait and a busy CPU apart.".into(),
        }],
        evidence: vec![Evidence { view: "cni", query: sandbox(&slowest.work.container_id) }],
        subject: Subject::Node,
    })
}

/// The view's filter for a sandbox; the id is whatever the caller wrote.
fn sandbox(container_id: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !container_id.is_empty() {
        query.append_pair("sandbox", container_id);
    }
    query.finish()
}

fn per_call(spawns: u64, calls: u64) -> String {
    format!("{:.1}", spawns as f64 / calls.max(1) as f64)
}

/// What most of the time goes to, as a clause.
fn main_part(sums: &Sums<'_>) -> String {
    let split = &sums.own;
    let children = ("commands and plugins it runs", sums.busy_ns);
    // Waiting for a child, from whichever thread, is told by the children's time.
    let waits = Cause::ALL.into_iter().filter(|cause| *cause != Cause::ChildWait);
    let waits = waits.map(|cause| match cause {
        // A Go program's main thread sleeps on a futex while the others work or wait for children.
        Cause::Futex => {
            ("waiting for its other threads", split.blocked_ns[cause as usize].saturating_sub(sums.busy_ns))
        }
        other => (other.name(), split.blocked_ns[other as usize]),
    });
    let own = [("on a CPU", split.on_cpu_ns), ("waiting for a CPU", split.runnable_ns), children];
    let (what, ns) = waits.chain(own).max_by_key(|(_, ns)| *ns).unwrap_or(("nothing", 0));
    format!("{} of it {what}", percent(ns, sums.wall_ns))
}
