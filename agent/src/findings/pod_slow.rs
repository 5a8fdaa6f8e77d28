//! Pods that take longer to start than they may, and the phase that takes the time.

use super::human::{count, duration, many, percent};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, id};
use crate::fold::grow::total;
use crate::fold::pods::phases::{Measured, Phase, Progress, measure};
use crate::fold::pods::{Pod, SLOW_NS};
use crate::fold::{Snapshot, State};
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule = Rule {
    name: "pod_slow",
    about: "pods that take longer than 5 s to start, and the phase of the start that is to blame",
    find,
};

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let state = &snapshot.state;
    let until_ns = snapshot.window.until_ns.min(state.covered.1);
    let starts = state.pods.iter().flat_map(|pod| pod.starts.iter().map(move |start| (pod, start)));
    let starts = starts.filter(|(_, start)| !start.cut_at_start && start.begun_ns < until_ns);
    let measured = starts.map(|(pod, start)| (pod, measure(state, start, until_ns)));
    let measured: Vec<(&Pod, Measured)> =
        measured.filter(|(_, measured)| measured.until_ns >= snapshot.window.from_ns).collect();
    let (slow, others): (Vec<_>, Vec<_>) =
        measured.into_iter().partition(|(_, measured)| measured.is_slow(SLOW_NS));
    let started = others.iter().filter(|(_, measured)| measured.progress == Progress::Started);
    finding(state, &slow, slow.len() + started.count()).into_iter().collect()
}

fn finding(state: &State, slow: &[(&Pod, Measured)], all: usize) -> Option<Finding> {
    let of = |phase: &Phase| total(slow.iter().map(|(_, measured)| measured.phases_ns[*phase as usize]));
    let (slowest, measured) = slow.iter().max_by_key(|(pod, measured)| (measured.wall_ns(), &pod.uid))?;
    let phase = Phase::ALL.into_iter().max_by_key(of)?;
    let wall_ns = total(slow.iter().map(|(_, measured)| measured.wall_ns()));
    let waiting = slow.iter().filter(|(_, measured)| measured.progress == Progress::Starting).count();
    let parts: Vec<String> = Phase::ALL
        .into_iter()
        .filter(|phase| of(phase) > 0)
        .map(|phase| format!("{} {}", place(phase), percent(of(&phase), wall_ns)))
        .collect();
    let mut detail = vec![format!("Of their time: {}.", parts.join(", "))];
    if waiting > 0 {
        detail.push(format!("{} had not started at the end.", count(waiting as u64)));
    }
    detail.push(format!("The slowest, {}, took {}.", name(state, slowest), duration(measured.wall_ns())));
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, phase.name(), "node"),
        severity: Severity::High,
        cost_ns: of(&phase),
        title: format!(
            "{} of {} took longer than {} to start; {} of that time went {}",
            count(slow.len() as u64),
            many(all as u64, "pod"),
            duration(SLOW_NS),
            percent(of(&phase), wall_ns),
            place(phase)
        ),
        detail,
        numbers: BTreeMap::from([
            ("slow_starts", Number::Whole(slow.len() as u64)),
            ("starts", Number::Whole(all as u64)),
            ("not_started", Number::Whole(waiting as u64)),
            ("slow_wall_ns", Number::Whole(wall_ns)),
            ("max_wall_ns", Number::Whole(measured.wall_ns())),
            ("phase_ns", Number::Whole(of(&phase))),
            ("phase_share", Number::Part(of(&phase) as f64 / wall_ns.max(1) as f64)),
        ]),
        fix: vec![fix(phase).into()],
        evidence: vec![
            Evidence { view: "pods", query: String::new() },
            Evidence { view: "pod", query: by_uid(&slowest.uid) },
        ],
        subject: Subject::Node,
    })
}

/// Where a phase lies, as a clause that can follow "went".
fn place(phase: Phase) -> &'static str {
    match phase {
        Phase::BeforeSandbox => "before the sandbox",
        Phase::Network => "into the network (CNI)",
        Phase::Sandbox => "into the sandbox (shim, runc)",
        Phase::BeforeContainer => "between sandbox and container",
        Phase::Container => "into the container (shim, runc)",
    }
}

fn fix(phase: Phase) -> &'static str {
    match phase {
        Phase::BeforeSandbox => {
            "look at the kubelet and the runtime: volumes that are mounted, secrets and config maps that are fetched, a \
             queue of pod workers; the node's processes do nothing for these pods in that time."
        }
        Phase::Network => {
            "see the CNI findings and the calls' time splits: they tell what the plugins waited for."
        }
        Phase::Sandbox | Phase::Container => {
            "see the waterfall: its steps tell which of shim, runc create and runc start takes the time, and on what."
        }
        Phase::BeforeContainer => {
            "look at image pulls (registry, disk, serialised pulls), at volumes, and at the kubelet's own sync loop."
        }
    }
}

fn name(state: &State, pod: &Pod) -> String {
    match state.pod_names.get(&pod.uid) {
        Some(names) => format!("{}/{}", names.namespace, names.name),
        None => format!("pod {}", pod.uid),
    }
}

/// The view's parameter for a pod; the UID is whatever the caller of the plugin wrote.
fn by_uid(uid: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair("uid", uid).finish()
}
