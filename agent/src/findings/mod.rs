//! Findings: what stands out, ranked by what it costs. In: a snapshot. Out: causes in plain words, each with
//! its numbers, where to see them, and what usually helps. One file is one rule; all are in [`FINDINGS`].

mod adds;
mod callers;
pub mod cni_cpu;
pub mod cni_daemon;
pub mod cni_disk;
pub mod cni_exec_storm;
pub mod cni_nftables;
pub mod cni_retries;
pub mod cni_rtnl;
pub mod cni_server;
pub mod cni_slow;
pub mod exec_storm;
pub mod fixes;
pub mod fork_storm;
pub mod human;
pub mod incomplete;
mod kernel_lock;
pub mod lock_convoy;
pub mod netlink_refused;
pub mod path_search;
pub mod pod_slow;
pub mod run_queue;
pub mod spawn_cost;

use crate::enrich::ProcId;
use crate::enrich::identity::Identity;
use crate::fold::daemons::DaemonKey;
use crate::fold::{Snapshot, State};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// One rule.
pub struct Rule {
    /// Stable name: begins the ids of its findings.
    pub name: &'static str,
    /// What it looks for, as a clause that can follow "looked for".
    pub about: &'static str,
    /// Looks.
    pub find: fn(&Snapshot) -> Vec<Finding>,
}

/// Every rule.
pub const FINDINGS: &[&Rule] = &[
    &exec_storm::RULE,
    &lock_convoy::RULE,
    &cni_disk::RULE,
    &cni_server::RULE,
    &cni_daemon::RULE,
    &cni_cpu::RULE,
    &cni_rtnl::RULE,
    &cni_nftables::RULE,
    &cni_exec_storm::RULE,
    &cni_retries::RULE,
    &cni_slow::RULE,
    &pod_slow::RULE,
    &path_search::RULE,
    &fork_storm::RULE,
    &spawn_cost::RULE,
    &netlink_refused::RULE,
    &run_queue::RULE,
    &incomplete::RULE,
];

/// One ranked cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static str,
    /// Names this finding in answers that follow each other: rule, daemon, owner.
    pub id: String,
    /// How much it matters.
    pub severity: Severity,
    /// Time it cost in the window: what findings are ranked by.
    pub cost_ns: u64,
    /// One sentence with the numbers.
    pub title: String,
    /// More sentences.
    pub detail: Vec<String>,
    /// The numbers by name, units in the names.
    pub numbers: BTreeMap<&'static str, Number>,
    /// What usually helps.
    pub fix: Vec<String>,
    /// Where to see it: a view and its filter.
    pub evidence: Vec<Evidence>,
    /// Whom it is about.
    pub subject: Subject,
}

/// A view that shows a finding's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Name of the view.
    pub view: &'static str,
    /// Its parameters, as in a URL; empty for none.
    pub query: String,
}

/// Whom a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The agent's own sight: it concerns every answer.
    Node,
    /// The node's CNI calls.
    Cni,
    /// A daemon.
    Daemon(DaemonKey),
    /// A process.
    Process(ProcId),
    /// A pod or a unit of the host, by one of its cgroups.
    Owner(u64),
}

/// A number of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Number {
    /// A count or a time.
    Whole(u64),
    /// A part of a whole.
    Part(f64),
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Felt.
    Medium,
    /// Eats a good part of what a pod's start may take.
    High,
}

/// From here on a cost is high: a fifth of the five seconds that a pod's start may take (the SLI).
const HIGH_NS: u64 = 1_000_000_000;
/// From here on it is felt.
const MEDIUM_NS: u64 = 100_000_000;

impl Severity {
    /// Severity of a stretch of time that something has to wait for at once.
    pub fn of(cost_ns: u64) -> Self {
        match cost_ns {
            HIGH_NS.. => Severity::High,
            MEDIUM_NS.. => Severity::Medium,
            _ => Severity::Low,
        }
    }
}

/// What is asked about: its findings come before all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The node, whatever goes on there.
    #[default]
    Node,
    /// CNI calls: what else goes on beside them may cost more, and explains none of them.
    Cni,
}

/// All findings, the costliest first, those in focus before the others.
pub fn ranked(snapshot: &Snapshot, focus: Focus) -> Vec<Finding> {
    let mut findings: Vec<Finding> = FINDINGS.iter().flat_map(|rule| (rule.find)(snapshot)).collect();
    let beside = |finding: &Finding| focus == Focus::Cni && finding.subject != Subject::Cni;
    // Stable: equal costs stay in the order of the table and of the daemons.
    findings.sort_by_key(|finding| (beside(finding), Reverse((finding.cost_ns, finding.severity))));
    findings
}

/// A finding's id: rule, name and owner, in letters that need no quoting anywhere.
fn id(rule: &str, name: &str, owner: &str) -> String {
    let slug = |text: &str| {
        let plain =
            |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
        let text: String = text.chars().map(plain).collect();
        text.trim_matches('-').to_owned()
    };
    format!("{rule}/{}/{}", slug(name), slug(owner))
}

/// Who owns a cgroup, as a clause in brackets would say it.
fn owner(state: &State, cgroup_id: u64) -> String {
    match state.cgroups.identity(cgroup_id) {
        Identity::Pod(pod) => format!("pod {}", pod.uid),
        Identity::Host(host) => host.unit.clone(),
        Identity::Unknown => "owner unknown".into(),
    }
}

/// A daemon's name and its owner.
fn name_and_owner(state: &State, key: &DaemonKey) -> (String, String) {
    let name = state.daemon_label(key).unwrap_or_else(|| "a process".into());
    (name.to_string(), owner(state, key.cgroup_id))
}

/// The views' filter for a daemon: any of its processes names it.
fn pid_of(state: &State, key: &DaemonKey) -> u32 {
    state.daemons.get(key).map_or(key.root.tgid, |daemon| daemon.latest.tgid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::{Limits, Window};

    #[test]
    fn rules_have_different_names_and_find_nothing_in_nothing() {
        let mut names: Vec<&str> = FINDINGS.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FINDINGS.len());
        assert_eq!(ranked(&State::new(Window::ALL, Limits::WINDOW).finish(0), Focus::Node), []);
    }

    #[test]
    fn ids_need_no_quoting() {
        assert_eq!(
            id("exec_storm", "ip route\u{202e}\"", "kube router.service"),
            "exec_storm/ip-route/kube-router.service"
        );
    }
}
