//! Processes that queue for one file lock: who held it, how long the queue was.

use super::human::{count, duration, many};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, adds, id};
use crate::enrich::ProcId;
use crate::fold::grow::{Grow, total};
use crate::fold::locks::{Lock, LockId, LockWait};
use crate::fold::{Snapshot, State};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The rule.
pub static RULE: Rule = Rule {
    name: "lock_convoy",
    about: "processes that queue or wait long for one file lock, and who held it",
    find,
};

/// So many waiters are a convoy: two may meet by chance.
const WAITERS: usize = 3;
/// Fewer are worth a word when one of them waited so long: a tenth of the five seconds that a pod's start may take (the
/// SLI).
const LONG_NS: u64 = 500_000_000;
/// Holders that are named.
const HOLDERS_NAMED: usize = 3;

/// Who held a lock while others waited, and for how long.
#[derive(Clone, Copy, Default)]
struct Held {
    /// Time others waited while it held the lock.
    held_ns: u64,
    /// Longest single time.
    longest_ns: u64,
    /// How often it was the one that others waited for.
    times: u64,
}

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let locks = snapshot.state.locks.iter();
    locks.filter_map(|(lock, waits)| finding(&snapshot.state, *lock, waits)).collect()
}

fn finding(state: &State, LockId { dev, ino }: LockId, lock: &Lock) -> Option<Finding> {
    let waiters: BTreeSet<ProcId> = lock.waits.iter().map(|wait| wait.waiter).collect();
    let waited_ns = total(lock.waits.iter().map(|wait| wait.blocked_ns));
    let longest = lock.waits.iter().max_by_key(|wait| wait.blocked_ns)?;
    let is_convoy = waiters.len() >= WAITERS && waited_ns >= adds::LEAST_NS;
    if !is_convoy && longest.blocked_ns < LONG_NS {
        return None;
    }
    let queue = lock.waits.iter().map(|wait| wait.queue).max().unwrap_or(0);
    let holders = holders(state, lock);
    let said: Vec<String> = holders
        .iter()
        .take(HOLDERS_NAMED)
        .map(|(holder, held)| format!("{} for {}", adds::who(state, *holder), duration(held.held_ns)))
        .collect();
    let name = if lock.name.is_empty() { format!("inode {ino}") } else { lock.name.to_string() };
    let (what, pods) = whose(state, lock);
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &name, &format!("{dev}-{ino}")),
        severity: Severity::of(longest.blocked_ns),
        cost_ns: waited_ns,
        title: format!(
            "{what} {} for the lock {name}: {} of waiting{}{}",
            if waiters.len() == 1 { "waits" } else { "queue" },
            duration(waited_ns),
            if queue > 1 { format!(", up to {} before one", count(queue)) } else { String::new() },
            said.first().map_or_else(String::new, |first| format!("; held by {first}"))
        ),
        detail: [
            (said.len() > 1).then(|| format!("Held while others waited by {}.", said.join(", "))),
            (holders.len() > HOLDERS_NAMED).then(|| {
                let rest = holders.len() - HOLDERS_NAMED;
                format!("{} more held it in turn: each one of the queue that gets it.", count(rest as u64))
            }),
            Some(format!(
                "The longest wait took {} ({}).",
                duration(longest.blocked_ns),
                longest.work.as_deref().map_or_else(|| adds::who(state, longest.waiter), adds::pod)
            )),
            (pods > 0).then(|| format!("Meanwhile {} waited for the network.", many(pods, "pod"))),
        ]
        .into_iter()
        .flatten()
        .collect(),
        numbers: BTreeMap::from([
            ("waiters", Number::Whole(waiters.len() as u64)),
            ("waits", Number::Whole(lock.waits.len() as u64)),
            ("waited_ns", Number::Whole(waited_ns)),
            ("longest_wait_ns", Number::Whole(longest.blocked_ns)),
            ("queue_max", Number::Whole(queue)),
            ("holders", Number::Whole(holders.len() as u64)),
            (
                "longest_hold_ns",
                Number::Whole(holders.iter().map(|(_, held)| held.longest_ns).max().unwrap_or(0)),
            ),
        ]),
        fix: vec![advice(&name, pods > 0)],
        evidence: [
            Some(evidence(longest)),
            (pods > 0).then(|| Evidence { view: "cni", query: String::new() }),
        ]
        .into_iter()
        .flatten()
        .collect(),
        subject: if pods > 0 { Subject::Cni } else { Subject::Process(longest.waiter) },
    })
}

/// Who queued, and for how many pods.
fn whose(state: &State, lock: &Lock) -> (String, u64) {
    let mut comms: BTreeMap<&str, BTreeSet<ProcId>> = BTreeMap::new();
    let mut sandboxes = BTreeSet::new();
    for wait in &lock.waits {
        let comm = state.processes.get(wait.waiter).map_or("a process", |process| &*process.comm);
        comms.entry(comm).or_default().insert(wait.waiter);
        sandboxes.extend(wait.work.iter().map(|work| work.container_id.clone()));
    }
    let mut comms: Vec<_> = comms.into_iter().collect();
    comms.sort_by_key(|(_, ids)| Reverse(ids.len()));
    let names =
        comms.iter().take(HOLDERS_NAMED).map(|(comm, ids)| format!("{} {comm}", count(ids.len() as u64)));
    (names.collect::<Vec<_>>().join(", "), sandboxes.len() as u64)
}

/// Holders, the longest first. A queue is served in turn, so whoever got the lock held it until the next one got it;
/// whoever had it before the queue began is known by the waits behind it.
fn holders(state: &State, lock: &Lock) -> Vec<(ProcId, Held)> {
    let mut waits: Vec<&LockWait> = lock.waits.iter().collect();
    waits.sort_by_key(|wait| wait.ended_ns);
    let mut holders: BTreeMap<ProcId, Held> = BTreeMap::new();
    let mut got: Option<&LockWait> = None;
    for wait in waits {
        let told = wait.holder.map(|holder| state.processes.id_now(holder));
        let (holder, from_ns) = match got {
            // It was already in the queue when its predecessor got the lock, or came while that one had it.
            Some(before) if wait.begun_ns <= before.ended_ns => (Some(before.waiter), before.ended_ns),
            Some(before) if told == Some(before.waiter) => (Some(before.waiter), wait.begun_ns),
            _ => (told, wait.begun_ns),
        };
        if let Some(holder) = holder {
            let ns = wait.ended_ns.saturating_sub(from_ns);
            let held = holders.entry(holder).or_default();
            held.held_ns.grow(ns);
            held.longest_ns = held.longest_ns.max(ns);
            held.times.grow(1);
        }
        got = Some(wait);
    }
    let mut holders: Vec<_> = holders.into_iter().collect();
    holders.sort_by_key(|(id, held)| (Reverse(held.held_ns), *id));
    holders
}

fn evidence(wait: &LockWait) -> Evidence {
    match wait.work.as_deref().map(|work| &*work.container_id) {
        None | Some("") => Evidence { view: "processes", query: format!("pid={}", wait.waiter.tgid) },
        Some(id) => {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("sandbox", id).finish();
            Evidence { view: "cni_sandbox", query }
        }
    }
}

fn advice(name: &str, of_pods: bool) -> String {
    if name.ends_with("/xtables.lock") {
        return "each `iptables` takes this lock for the whole table: write all rules to one `iptables-restore \
                --noflush`, or use nftables, which has no such lock."
            .into();
    }
    if name.contains("/networks/") {
        return "the store of `host-local` has one lock per network: put it on a fast disk or a tmpfs, start fewer \
                pods at once, or use an IPAM whose store takes no lock."
            .into();
    }
    let fewer = if of_pods { "start fewer pods at once" } else { "have fewer processes ask for it at once" };
    format!("do less while the lock is held (disk writes above all), split what it protects, or {fewer}.")
}
