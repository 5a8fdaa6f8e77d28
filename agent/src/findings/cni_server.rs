//! ADD calls that wait for another host over TCP: the API server behind an IPAM above all.

use super::adds::{self, Group};
use super::human::{count, duration};
use super::{Finding, Number, Rule, Severity, Subject, id};
use crate::fold::Snapshot;
use crate::fold::waits::Thing;
use core::net::SocketAddr;
use slowpod_ebpf::abi::split::Cause;
use slowpod_ebpf::rules::op::Op;
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule = Rule {
    name: "cni_server",
    about: "CNI plugins that wait for a server over the network, the API server above all",
    find,
};

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let groups = adds::by(adds::ended(snapshot), |key| match key.thing {
        Thing::Inet(remote) if key.kind() == Cause::Inet => Some(remote),
        _ => None,
    });
    let worth = groups.iter().filter(|(_, group)| group.counts());
    worth.filter_map(|(remote, group)| finding(snapshot, *remote, group)).collect()
}

fn finding(snapshot: &Snapshot, remote: SocketAddr, group: &Group<'_>) -> Option<Finding> {
    let worst = group.worst()?;
    let is_api_server = snapshot.state.is_api_server(&remote);
    let server =
        if is_api_server { format!("the API server ({remote})") } else { format!("the server {remote}") };
    let (mut connecting_ns, mut rounds, mut retransmits) = (0, 0, 0);
    for (key, sum) in &group.rows {
        connecting_ns += if key.op == Op::Connect { sum.blocked_ns } else { 0 };
        rounds += if key.op == Op::Connect { 0 } else { sum.waits };
        retransmits = retransmits.max(sum.retransmits);
    }
    let conflicts = group.calls.iter().filter_map(|(call, _)| call.words.error.as_ref());
    let conflicts = conflicts.filter(|error| error.is_conflict()).count() as u64;
    let calls = group.calls.len() as u64;
    let mut detail = vec![format!(
        "{} waits for an answer per call; {} of it all went into connecting{}.",
        count(rounds / calls.max(1)),
        duration(connecting_ns),
        match retransmits {
            0 => String::new(),
            more => format!(", and up to {} segments of a connection had to be sent again", count(more)),
        }
    )];
    if conflicts > 0 {
        detail.push(format!(
            "{} of these calls ended in a conflict: someone else had changed the object.",
            count(conflicts)
        ));
    }
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &group.plugins(), &remote.to_string()),
        severity: Severity::of(group.mean_ns()),
        cost_ns: group.blocked_ns,
        title: format!("{} for {server}", group.begin()),
        detail,
        numbers: BTreeMap::from([
            ("calls", Number::Whole(calls)),
            ("blocked_ns", Number::Whole(group.blocked_ns)),
            ("wall_ns", Number::Whole(group.wall_ns)),
            ("connecting_ns", Number::Whole(connecting_ns)),
            ("waits", Number::Whole(rounds)),
            ("retransmits_max", Number::Whole(retransmits)),
            ("conflicts", Number::Whole(conflicts)),
        ]),
        fix: vec![
            if is_api_server {
                "let a daemon of the node hand out addresses from a block of its own, so that an ADD need not ask the \
                 API server; or give the node's blocks more room, and look at the API server's own latency."
            } else {
                "look at the server's own latency; a daemon on the node that keeps its answers would take it out of \
                 each ADD."
            }
            .into(),
        ],
        evidence: vec![adds::evidence(worst)],
        subject: Subject::Cni,
    })
}
