//! ADD calls that wait for a disk, and how busy it was meanwhile.

use super::adds::{self, Group};
use super::human::{count, duration, percent};
use super::{Finding, Number, Rule, Severity, Subject, id};
use crate::fold::pressure::Growth;
use crate::fold::waits::Thing;
use crate::fold::{Snapshot, State};
use slowpod_ebpf::abi::split::Cause;
use slowpod_ebpf::rules::op::Op;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule =
    Rule { name: "cni_disk", about: "CNI plugins that wait for a disk, and how busy it is", find };

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    // Calls on paths do not tell their device: one row for all devices then.
    let groups = adds::by(adds::ended(snapshot), |key| (key.kind() == Cause::Disk).then_some(()));
    groups.values().filter(|group| group.counts()).filter_map(|group| finding(snapshot, group)).collect()
}

fn finding(snapshot: &Snapshot, group: &Group<'_>) -> Option<Finding> {
    let state = &snapshot.state;
    let worst = group.worst()?;
    let from_ns = group.calls.iter().map(|(call, _)| call.started_ns).min()?;
    let until_ns = group.calls.iter().map(|(call, _)| call.started_ns + call.wall_ns(0)).max()?;
    let io = state.pressure.over(from_ns, until_ns).unwrap_or_default();
    let (ops, syncs) = ops(group);
    let device = device(state, group);
    Some(Finding {
        rule: RULE.name,
        id: id(RULE.name, &group.plugins(), &device),
        severity: Severity::of(group.mean_ns()),
        cost_ns: group.blocked_ns,
        title: format!("{} for {device}, mostly in {}", group.begin(), ops.first().map_or("", |(op, _)| op.name())),
        detail: detail(group, &ops, &io),
        numbers: BTreeMap::from([
            ("calls", Number::Whole(group.calls.len() as u64)),
            ("blocked_ns", Number::Whole(group.blocked_ns)),
            ("wall_ns", Number::Whole(group.wall_ns)),
            ("fsyncs", Number::Whole(syncs)),
            ("node_io_some_ns", Number::Whole(io.io_some_ns)),
            ("node_io_span_ns", Number::Whole(io.span_ns)),
        ]),
        fix: vec![
            "put what the plugins write (below /var/lib/cni, /run and the network's dataDir) on a faster disk or a \
             tmpfs, and keep image pulls and logs off that device."
                .into(),
        ],
        evidence: vec![adds::evidence(worst)],
        subject: Subject::Cni,
    })
}

/// Time by call, the most first; and how many syncs.
fn ops(group: &Group<'_>) -> (Vec<(Op, u64)>, u64) {
    let (mut ops, mut syncs) = (BTreeMap::<Op, u64>::new(), 0);
    for (key, sum) in &group.rows {
        *ops.entry(key.op).or_default() += sum.blocked_ns;
        syncs += if key.op == Op::Sync { sum.waits } else { 0 };
    }
    let mut ops: Vec<_> = ops.into_iter().collect();
    ops.sort_by_key(|(_, ns)| Reverse(*ns));
    (ops, syncs)
}

/// The device that most of the waits were for, as far as they tell.
fn device(state: &State, group: &Group<'_>) -> String {
    let mut devices: BTreeMap<u32, u64> = BTreeMap::new();
    for (key, sum) in &group.rows {
        if let Thing::File { dev, .. } = key.thing {
            *devices.entry(dev).or_default() += sum.blocked_ns;
        }
    }
    match devices.into_iter().max_by_key(|(_, ns)| *ns) {
        None => "a disk".into(),
        Some((dev, _)) => match state.pressure.disk_name(dev) {
            Some(name) => format!("the disk {name}"),
            None => format!("device {}:{}", dev >> 20, dev & 0xf_ffff),
        },
    }
}

fn detail(group: &Group<'_>, ops: &[(Op, u64)], io: &Growth) -> Vec<String> {
    let said: Vec<String> =
        ops.iter().take(3).map(|(op, ns)| format!("{} in {}", duration(*ns), op.name())).collect();
    let mut detail = vec![format!("{}.", said.join(", "))];
    if !group.name().is_empty() {
        detail.push(format!("The longest wait was for {}.", group.name()));
    }
    if io.span_ns > 0 {
        let disks: Vec<String> = io
            .disks
            .iter()
            .take(2)
            .map(|disk| {
                let busy_ns = disk.busy_ms.saturating_mul(1_000_000).min(io.span_ns);
                format!(
                    "{} was busy {} of it ({} writes)",
                    disk.name,
                    percent(busy_ns, io.span_ns),
                    count(disk.writes)
                )
            })
            .collect();
        detail.push(format!(
            "Around these calls ({}) some thread of the node waited for I/O {} of the time{}{}.",
            duration(io.span_ns),
            percent(io.io_some_ns.min(io.span_ns), io.span_ns),
            if disks.is_empty() { "" } else { "; " },
            disks.join(", ")
        ));
    }
    detail
}
