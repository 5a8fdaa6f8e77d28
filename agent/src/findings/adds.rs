//! ADD calls, for the rules about what makes them slow. In: a snapshot. Out: the calls that the runtime ran itself, what
//! each waited for with its tree, and sums over calls by any part of that.

use super::human::{duration, percent};
use super::{Evidence, owner};
use crate::enrich::ProcId;
use crate::enrich::cni::CniWork;
use crate::enrich::identity::Identity;
use crate::fold::cni::Call;
use crate::fold::grow::{Grow, total};
use crate::fold::waits::{Key, Sum};
use crate::fold::{Snapshot, State};
use slowpod_ebpf::abi::split::Cause;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A cause is worth a finding from this part of its calls' time on, in percent,
pub(super) const PERCENT: u64 = 20;
/// and from so much time on: a tenth of a second is what a person begins to notice.
pub(super) const LEAST_NS: u64 = 100_000_000;

/// Characters of a container id that are shown, as runtimes do.
const ID_CHARS: usize = 13;

/// ADD calls that ended, without those of delegated plugins: their time is their parents'.
pub(super) fn ended(snapshot: &Snapshot) -> impl Iterator<Item = &Call> {
    let all = snapshot.state.cni.all();
    all.filter(|call| call.whole().is_some() && !call.is_delegated() && &*call.work.command == "ADD")
}

/// What a call and all below it waited for.
pub(super) fn waits(call: &Call) -> impl Iterator<Item = (&Key, &Sum)> {
    call.waits.rows().chain(call.tree.waits.rows())
}

/// Time of a call that the rules about single causes tell of: at most its wall time.
pub(super) fn explained_ns(call: &Call) -> u64 {
    let told = waits(call).filter(|(key, _)| {
        matches!(key.kind(), Cause::FileLock | Cause::Disk | Cause::Inet | Cause::Unix)
            || key.kernel_lock().is_some()
    });
    total(told.map(|(_, sum)| sum.blocked_ns)).min(call.wall_ns(0))
}

/// Sums over the calls that waited for one thing.
#[derive(Default)]
pub(super) struct Group<'a> {
    /// The calls, and how long each waited: over several threads, no longer than it ran.
    pub(super) calls: Vec<(&'a Call, u64)>,
    /// Their wall times.
    pub(super) wall_ns: u64,
    /// Their waits.
    pub(super) blocked_ns: u64,
    /// The rows behind it.
    pub(super) rows: Vec<(&'a Key, &'a Sum)>,
}

impl<'a> Group<'a> {
    /// Whether it is worth a finding.
    pub(super) fn counts(&self) -> bool {
        self.blocked_ns >= LEAST_NS && self.blocked_ns / PERCENT >= self.wall_ns / 100
    }

    /// Mean wait of a call.
    pub(super) fn mean_ns(&self) -> u64 {
        self.blocked_ns / self.calls.len().max(1) as u64
    }

    /// The call that waited longest.
    pub(super) fn worst(&self) -> Option<&'a Call> {
        self.calls.iter().max_by_key(|(_, blocked_ns)| *blocked_ns).map(|(call, _)| *call)
    }

    /// Names of the plugins, the most calls first.
    pub(super) fn plugins(&self) -> String {
        plugins(self.calls.iter().map(|(call, _)| *call))
    }

    /// `12 ADDs of bridge wait 1.2 s for`: mean and share.
    pub(super) fn begin(&self) -> String {
        format!(
            "{} of {} {} {} on average ({} of their time)",
            super::human::many(self.calls.len() as u64, "ADD"),
            self.plugins(),
            if self.calls.len() == 1 { "waits" } else { "wait" },
            duration(self.mean_ns()),
            percent(self.blocked_ns, self.wall_ns)
        )
    }

    /// The name of the longest row that has one.
    pub(super) fn name(&self) -> &'a str {
        let named = self.rows.iter().filter(|(_, sum)| !sum.name.is_empty());
        named.max_by_key(|(_, sum)| sum.longest_ns).map_or("", |(_, sum)| &*sum.name)
    }
}

/// Groups by whatever `of` makes of a wait; waits it makes nothing of are left out.
pub(super) fn by<'a, K: Ord>(
    calls: impl Iterator<Item = &'a Call>,
    of: impl Fn(&Key) -> Option<K>,
) -> BTreeMap<K, Group<'a>> {
    let mut groups: BTreeMap<K, Group<'a>> = BTreeMap::new();
    for call in calls {
        let mut own: BTreeMap<K, u64> = BTreeMap::new();
        for (key, sum) in waits(call) {
            let Some(thing) = of(key) else { continue };
            own.entry(thing).or_default().grow(sum.blocked_ns);
        }
        for (thing, blocked_ns) in own {
            let wall_ns = call.wall_ns(0);
            let rows = waits(call).filter(|(key, _)| of(key).is_some_and(|own| own == thing));
            let rows: Vec<_> = rows.collect();
            let group = groups.entry(thing).or_default();
            group.rows.extend(rows);
            group.calls.push((call, blocked_ns.min(wall_ns)));
            group.wall_ns.grow(wall_ns);
            group.blocked_ns.grow(blocked_ns.min(wall_ns));
        }
    }
    groups
}

/// Names of the plugins of calls, the most calls first.
pub(super) fn plugins<'a>(calls: impl Iterator<Item = &'a Call>) -> String {
    /// Plugins named; a chain has two or three.
    const NAMED_MAX: usize = 3;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        *counts.entry(&call.plugin).or_default() += 1;
    }
    let mut names: Vec<_> = counts.into_iter().collect();
    names.sort_by_key(|(_, count)| Reverse(*count));
    let names: Vec<&str> = names.into_iter().take(NAMED_MAX).map(|(name, _)| name).collect();
    names.join(", ")
}

/// The pod a call is for, as people say it.
pub(super) fn pod(work: &CniWork) -> String {
    match (&work.pod.namespace, &work.pod.name) {
        (Some(namespace), Some(name)) => format!("pod {namespace}/{name}"),
        (None, Some(name)) => format!("pod {name}"),
        (_, None) => match &work.pod.uid {
            Some(uid) => format!("pod {uid}"),
            None if work.container_id.is_empty() => "no pod".into(),
            None => format!("sandbox {}", work.container_id.chars().take(ID_CHARS).collect::<String>()),
        },
    }
}

/// A process as people say it: its name, its pid, and the pod or unit it belongs to.
pub(super) fn who(state: &State, id: ProcId) -> String {
    let Some(process) = state.processes.get(id) else { return format!("pid {}", id.tgid) };
    let owner = match (&process.cni, state.cgroups.identity(process.cgroup_id)) {
        (Some(work), _) => pod(work),
        (None, Identity::Unknown) => format!("pid {}", id.tgid),
        (None, _) => owner(state, process.cgroup_id),
    };
    format!("{} ({owner})", process.comm)
}

/// The view of one call's sandbox, or of all calls for one that names none.
pub(super) fn evidence(call: &Call) -> Evidence {
    let mut query = form_urlencoded::Serializer::new(String::new());
    match &*call.work.container_id {
        "" => Evidence { view: "cni", query: String::new() },
        id => Evidence { view: "cni_sandbox", query: query.append_pair("sandbox", id).finish() },
    }
}
