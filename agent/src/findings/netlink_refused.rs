//! Netlink requests that the kernel refuses again and again.

use super::human::{count, percent};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id, name_and_owner, owner, pid_of};
use crate::decode::errno::errno_name;
use crate::fold::grow;
use crate::fold::netlink::NetlinkTable;
use crate::fold::{Sender, Snapshot};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule = Rule {
    name: "netlink_refused",
    about: "processes whose netlink requests the kernel keeps refusing",
    find,
};

/// So many refusals in a window stand out; a reconciling daemon meets a few.
const REFUSED: u64 = 100;
/// Fewer do when they are the larger part of what was asked,
const SHARE: f64 = 0.5;
/// and at least so many.
const REFUSED_MIN: u64 = 20;

/// What a refusal of this kind usually means, by errno (`errno.h`).
const MEANINGS: &[(u32, &str)] = &[
    (1, "EPERM: the sender lacks CAP_NET_ADMIN in the namespace it acts on"),
    (2, "ENOENT: it asks for what is not there; look before deleting, or take \"not there\" as done"),
    (3, "ESRCH: it deletes routes or rules that are gone; keep track of what was set"),
    (16, "EBUSY: another writer holds what it wants to change; retry later, not at once"),
    (
        17,
        "EEXIST: it adds what is there; compare with the present state first, or replace (NLM_F_REPLACE, `-exist`)",
    ),
    (19, "ENODEV: it names interfaces that are gone; follow link events"),
    (22, "EINVAL: requests are malformed or too new for this kernel"),
    (95, "EOPNOTSUPP: this kernel lacks what is asked for; probe once"),
    (105, "ENOBUFS: a socket buffer is too small for the answer; raise SO_RCVBUF"),
];

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let senders = snapshot.state.senders.iter();
    senders.filter_map(|(sender, table)| finding(snapshot, sender, table)).collect()
}

fn finding(snapshot: &Snapshot, sender: &Sender, table: &NetlinkTable) -> Option<Finding> {
    let state = &snapshot.state;
    let total = table.total();
    let most = total.refused >= REFUSED_MIN && total.refused as f64 > SHARE * total.messages as f64;
    if total.refused < REFUSED && !most {
        return None;
    }
    let (name, owner, pid, subject) = match sender {
        Sender::Process(id) => {
            let process = state.processes.get(*id);
            let name =
                process.map_or_else(|| "a process".to_owned(), |process| process.argv_class.to_string());
            let owner = owner(state, process.map_or(0, |process| process.cgroup_id));
            (name, owner, id.tgid, Subject::Process(*id))
        }
        Sender::Children(key, class) => {
            let (name, owner) = name_and_owner(state, key);
            (format!("`{class}` of {name}"), owner, pid_of(state, key), Subject::Daemon(key.clone()))
        }
    };
    // A refused request's own time is not known: it has its part of its type's.
    let refused_ns = |inside_ns: u64, refused: u64, messages: u64| {
        (u128::from(inside_ns) * u128::from(refused) / u128::from(messages.max(refused).max(1))) as u64
    };
    let cost_ns =
        grow::total(table.rows().map(|(_, sums)| refused_ns(sums.inside_ns, sums.refused, sums.messages)));
    let mut errnos: Vec<(u32, u64)> = table.errnos.iter().map(|(errno, count)| (*errno, *count)).collect();
    errnos.sort_by_key(|(errno, count)| (Reverse(*count), *errno));
    let by = errnos.iter().map(|(errno, times)| format!("{} {}", errno_name(*errno), count(*times)));
    let meaning = |errno: u32| MEANINGS.iter().find(|(known, _)| *known == errno);
    let fix = errnos.iter().filter_map(|(errno, _)| meaning(*errno)).map(|(_, text)| format!("{text}."));
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &name, &owner),
        severity: Severity::of(cost_ns),
        cost_ns,
        title: format!(
            "the kernel refused {} of {} netlink requests of {name} ({owner}), {}",
            count(total.refused),
            count(total.messages),
            percent(total.refused, total.messages)
        ),
        detail: vec![format!("By reason: {}.", by.collect::<Vec<_>>().join(", "))],
        numbers: BTreeMap::from([
            ("refused", Number::Whole(total.refused)),
            ("messages", Number::Whole(total.messages)),
            ("inside_ns", Number::Whole(cost_ns)),
        ]),
        fix: fix.collect(),
        evidence: vec![Evidence { view: "netlink", query: format!("pid={pid}") }],
        subject,
    })
}
