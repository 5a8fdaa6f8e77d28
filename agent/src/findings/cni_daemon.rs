//! ADD calls of a thin plugin, that wait for a daemon of the node over a unix socket.

use super::adds::{self, Group};
use super::human::duration;
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id};
use crate::enrich::ProcId;
use crate::fold::Snapshot;
use slowpod_ebpf::abi::split::Cause;
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule = Rule {
    name: "cni_daemon",
    about: "CNI plugins that wait for a daemon of the node over a unix socket",
    find,
};

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let groups = adds::by(adds::ended(snapshot), |key| (key.kind() == Cause::Unix).then_some(key.holder));
    let worth = groups.iter().filter(|(_, group)| group.counts());
    worth.filter_map(|(daemon, group)| finding(snapshot, *daemon, group)).collect()
}

fn finding(snapshot: &Snapshot, daemon: Option<ProcId>, group: &Group<'_>) -> Option<Finding> {
    let worst = group.worst()?;
    let name = daemon.map_or_else(|| "a daemon".into(), |id| adds::who(&snapshot.state, id));
    let socket = group.name();
    let asks = group.rows.iter().map(|(_, sum)| sum.waits).sum();
    let mut fix = vec![
        "the plugin only asks: what is slow is the daemon. Look at its own profile, its locks and its queue."
            .to_owned(),
    ];
    let mut evidence = vec![adds::evidence(worst)];
    if let Some(id) = daemon {
        fix.push(format!(
            "its CPU: /debug/pprof/profile?pid={0}; what it waits for: /debug/pprof/offcpu?pid={0}.",
            id.tgid
        ));
        evidence.insert(0, Evidence { view: "processes", query: format!("pid={}", id.tgid) });
    }
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &name, socket),
        severity: Severity::of(group.mean_ns()),
        cost_ns: group.blocked_ns,
        title: format!(
            "{} for {name}{}",
            group.begin(),
            if socket.is_empty() { String::new() } else { format!(", over {socket}") }
        ),
        detail: vec![format!(
            "The longest took {} ({}).",
            duration(group.calls.iter().map(|(_, ns)| *ns).max().unwrap_or(0)),
            adds::pod(&worst.work)
        )],
        numbers: BTreeMap::from([
            ("calls", Number::Whole(group.calls.len() as u64)),
            ("blocked_ns", Number::Whole(group.blocked_ns)),
            ("wall_ns", Number::Whole(group.wall_ns)),
            ("waits", Number::Whole(asks)),
        ]),
        fix,
        evidence,
        subject: Subject::Cni,
    })
}
