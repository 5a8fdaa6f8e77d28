//! CNI plugins that take long for none of the reasons that have rules of their own: they compute, sleep, or wait for
//! something that cannot be told. In a chain, the one that fills it.

use super::adds;
use super::human::{count, duration, percent};
use super::{Finding, Number, Rule, Severity, Subject, id};
use super::{cni_cpu, cni_exec_storm};
use crate::fold::Snapshot;
use crate::fold::cni::Call;
use crate::fold::grow::{Grow, total};
use slowpod_ebpf::abi::split::{Cause, Split};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rule.
pub static RULE: Rule = Rule {
    name: "cni_slow",
    about: "CNI plugins that take a good part of a pod's start, and the slow one of a chain",
    find,
};

/// When one ADD in ten takes so long, that is felt: a tenth of the five seconds that a pod's start may take (the SLI).
const SLOW_NS: u64 = 500_000_000;
/// In a chain, a plugin stands out that takes so much of it, in percent.
const CHAIN_PERCENT: u64 = 60;
/// And takes so long.
const CHAIN_NS: u64 = 100_000_000;
/// What other rules leave unexplained must be this part of the plugin's time, in percent.
const REST_PERCENT: u64 = 50;

/// ADD calls of one plugin that ended.
#[derive(Default)]
struct Sums<'a> {
    calls: Vec<&'a Call>,
    wall_ns: u64,
    rest_ns: u64,
    busy_ns: u64,
    own: Split,
    /// Wall times of all plugins that ran for the same interfaces; the plugins.
    chain_ns: u64,
    chain: BTreeSet<&'a str>,
}

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut chains: BTreeMap<(&str, &str), Vec<&Call>> = BTreeMap::new();
    for call in adds::ended(snapshot).filter(|call| !call.work.container_id.is_empty()) {
        chains.entry((&call.work.container_id, &call.work.ifname)).or_default().push(call);
    }
    let mut plugins: BTreeMap<&Arc<str>, Sums<'_>> = BTreeMap::new();
    for call in adds::ended(snapshot) {
        let sums = plugins.entry(&call.plugin).or_default();
        sums.calls.push(call);
        sums.wall_ns.grow(call.wall_ns(0));
        sums.rest_ns.grow(rest_ns(call));
        sums.busy_ns.grow(call.tree.busy.total_ns());
        if let Some(end) = &call.end {
            sums.own.add(&end.main);
        }
    }
    for chain in chains.values() {
        let chain_ns = total(chain.iter().map(|call| call.wall_ns(0)));
        let names: BTreeSet<&str> = chain.iter().map(|call| &*call.plugin).collect();
        for call in chain.iter().filter(|_| names.len() > 1) {
            let sums = plugins.entry(&call.plugin).or_default();
            sums.chain.extend(&names);
            sums.chain_ns
                .grow(chain_ns / chain.iter().filter(|other| other.plugin == call.plugin).count() as u64);
        }
    }
    plugins.into_iter().filter_map(|(plugin, sums)| finding(plugin, &sums)).collect()
}

/// What no other rule tells of: neither a wait that has one, nor a run queue, nor commands by the dozen.
fn rest_ns(call: &Call) -> u64 {
    let storm_ns = if cni_exec_storm::is_storm(call) { call.tree.busy.total_ns() } else { 0 };
    let told_ns = adds::explained_ns(call).saturating_add(cni_cpu::queued_ns(call)).saturating_add(storm_ns);
    call.wall_ns(0).saturating_sub(told_ns)
}

fn finding(plugin: &Arc<str>, sums: &Sums<'_>) -> Option<Finding> {
    let calls = sums.calls.len() as u64;
    let mean_ns = sums.wall_ns.checked_div(calls)?;
    let mut walls: Vec<u64> = sums.calls.iter().map(|call| call.wall_ns(0)).collect();
    walls.sort_unstable();
    let p90_ns = walls[(walls.len() * 9).div_ceil(10) - 1];
    let fills_chain =
        mean_ns >= CHAIN_NS && sums.chain_ns > 0 && sums.wall_ns / CHAIN_PERCENT >= sums.chain_ns / 100;
    if (p90_ns < SLOW_NS && !fills_chain) || sums.rest_ns / REST_PERCENT < sums.wall_ns / 100 {
        return None;
    }
    let slowest = sums.calls.iter().max_by_key(|call| call.wall_ns(0))?;
    let each =
        format!("ADD of {plugin} takes {} on average and {} at p90", duration(mean_ns), duration(p90_ns));
    let title = if fills_chain {
        let others: Vec<&str> = sums.chain.iter().copied().filter(|name| *name != &**plugin).collect();
        format!(
            "{each}: {} of its chain with {}, and {}",
            percent(sums.wall_ns, sums.chain_ns),
            others.join(", "),
            main_part(sums)
        )
    } else {
        format!("{each} over {} calls: {}", count(calls), main_part(sums))
    };
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, plugin, "add"),
        severity: Severity::of(p90_ns),
        cost_ns: sums.rest_ns,
        title,
        detail: vec![format!("The slowest took {} ({}).", duration(slowest.wall_ns(0)), adds::pod(&slowest.work))],
        numbers: BTreeMap::from([
            ("calls", Number::Whole(calls)),
            ("mean_wall_ns", Number::Whole(mean_ns)),
            ("p90_wall_ns", Number::Whole(p90_ns)),
            ("max_wall_ns", Number::Whole(slowest.wall_ns(0))),
            ("chain_wall_ns", Number::Whole(sums.chain_ns)),
            ("children_busy_ns", Number::Whole(sums.busy_ns)),
        ]),
        fix: vec![
            "the split of the slowest calls and their `waits` tell a busy CPU, a sleep and a wait apart; a CPU profile \
             of the plugin tells what it computes."
                .into(),
        ],
        evidence: vec![adds::evidence(slowest)],
        subject: Subject::Cni,
    })
}

/// What most of the time goes to, as a clause.
fn main_part(sums: &Sums<'_>) -> String {
    let split = &sums.own;
    let children = ("in commands and plugins it runs", sums.busy_ns);
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
