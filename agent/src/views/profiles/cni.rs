//! `cni`: time of CNI calls: the runtime, the plugin, the plugins and helpers it runs, and where their time went.
//!
//! A call's wall time is parted once: while it has children, the time is theirs, by their own splits; the rest is
//! the plugin's. Its own split then lacks what it spent waiting for them, which stands there as a wait for a child
//! or, in a Go program, where another thread does the waiting, as `futex` or `poll`.

use super::collect::{About, Collector, parts};
use super::owner::Owner;
use super::{Kind, Value};
use crate::enrich::ProcId;
use crate::fold::cni::{Call, tree::TreeClass};
use crate::fold::grow::{split_ns, total};
use slowpod_ebpf::abi::split::{Cause, Split};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The kind.
pub static KIND: Kind = Kind {
    name: "cni",
    about: "Time of CNI calls: the runtime, then plugin and command, then the plugins and commands it runs, then where \
            the time went; by the pod they are for.",
    values: &[Value::count("calls"), Value::time("wall")],
    default_value: 1,
    period: None,
    sampled: false,
    collect,
};

/// Causes that a plugin's main thread may wait for its children by, the likeliest first.
const WAITS: [Cause; 4] = [Cause::ChildWait, Cause::Futex, Cause::Poll, Cause::Pipe];
/// How many plugins above one another are shown: a meta-plugin, a plugin and its IPAM are three.
const NESTED_MAX: usize = 8;
/// What stands for the runtime when nothing is known of it.
const NO_RUNTIME: &str = "[unknown runtime]";

fn collect(profile: &mut Collector<'_>) {
    let state = profile.state();
    let known: BTreeMap<ProcId, &Call> = state.cni.all().map(|call| (call.id, call)).collect();
    let mut delegates: BTreeMap<ProcId, Vec<&Call>> = BTreeMap::new();
    let mut own: Vec<&Call> = Vec::new();
    for call in state.cni.all() {
        match call.work.parent.filter(|parent| known.contains_key(parent)) {
            Some(parent) => delegates.entry(parent).or_default().push(call),
            None => own.push(call),
        }
    }
    for call in own.into_iter().filter(|call| !call.end_lost) {
        if profile.filter().call(call) {
            let calls =
                Calls { delegates: &delegates, owner: owner(profile, call), until_ns: profile.until_ns() };
            let wall_ns = call.wall_ns(calls.until_ns);
            let inside_ns =
                wall_ns.min(calls.until_ns.saturating_sub(profile.from_ns().max(call.started_ns)));
            let runtime = calls.owner.process.clone();
            let runtime = if runtime.is_empty() { NO_RUNTIME } else { &*runtime };
            let number = profile.owner(calls.owner.clone());
            calls.add(profile, number, call, &[runtime], inside_ns as f64 / wall_ns.max(1) as f64);
        }
    }
}

/// Whose a call's time is: the pod's it is for. Its process is the runtime.
fn owner(profile: &Collector<'_>, call: &Call) -> Owner {
    let work = &call.work;
    let runtime = call.spawner.map(|id| Owner::of(profile.state(), id)).unwrap_or_default();
    Owner {
        pid: runtime.pid,
        process: runtime.process,
        pod_uid: work.pod.uid.clone(),
        pod_name: work.pod.name.clone(),
        namespace: work.pod.namespace.clone(),
        container_id: (!work.container_id.is_empty()).then(|| work.container_id.clone()),
        container_name: None,
        unit: None,
        in_stacks: true,
    }
}

/// The calls of one answer.
struct Calls<'a> {
    delegates: &'a BTreeMap<ProcId, Vec<&'a Call>>,
    owner: Owner,
    until_ns: u64,
}

impl Calls<'_> {
    /// Adds a call's time, each part times `scale`, above `notes`.
    fn add(&self, profile: &mut Collector<'_>, owner: u32, call: &Call, notes: &[&str], scale: f64) {
        let name = format!("{} {}", call.plugin, call.work.command);
        let notes: Vec<&str> = notes.iter().copied().chain([name.trim_end()]).collect();
        let mut add = |notes: &[&str], cause, calls, ns: u64| {
            let about = About { owner, cause, notes, ..About::default() };
            profile.add(&about, [calls, (ns as f64 * scale) as u64, 0]);
        };
        add(&notes, None, 1, 0);
        let wall_ns = call.wall_ns(self.until_ns);
        let busy_ns = call.tree.busy.total_ns().min(wall_ns);
        let part = |name| notes.iter().copied().chain([name]).collect::<Vec<&str>>();
        match (call.whole(), &call.end) {
            (Some(end), _) => {
                for (name, cause, ns) in parts(&without(&end.main, busy_ns)) {
                    add(&part(name), Some(cause), 0, ns);
                }
                add(&part("[ending]"), Some("ending"), 0, wall_ns.saturating_sub(split_ns(&end.main)));
            }
            (None, Some(_)) => add(&part("[not followed]"), Some("other"), 0, wall_ns - busy_ns),
            (None, None) => add(&part("[still running]"), Some("running"), 0, wall_ns - busy_ns),
        }
        let delegates = self.delegates.get(&call.id).map_or(&[][..], Vec::as_slice);
        let helpers = helpers(call, delegates);
        let delegated_ns = total(delegates.iter().map(|call| call.wall_ns(self.until_ns)));
        let children_ns = delegated_ns.saturating_add(total(helpers.values().map(|class| class.wall_ns)));
        if children_ns == 0 {
            add(&part("[children]"), Some("children"), 0, busy_ns);
            return;
        }
        // Children that ran side by side share the time in which at least one was there.
        let share = busy_ns as f64 / children_ns as f64;
        for (name, class) in &helpers {
            let notes = part(name);
            for (name, cause, ns) in parts(&class.split) {
                let notes: Vec<&str> = notes.iter().copied().chain([name]).collect();
                add(&notes, Some(cause), 0, (ns as f64 * share) as u64);
            }
        }
        if notes.len() < NESTED_MAX {
            for delegate in delegates {
                self.add(profile, owner, delegate, &notes, scale * share);
            }
        }
    }
}

/// What of a plugin's own split is not the wait for its children: those were there for `busy_ns`.
fn without(split: &Split, busy_ns: u64) -> Split {
    let mut own = *split;
    let mut left_ns = busy_ns;
    let mut take = |ns: &mut u64| {
        let taken_ns = left_ns.min(*ns);
        *ns -= taken_ns;
        left_ns -= taken_ns;
    };
    WAITS.iter().for_each(|cause| take(&mut own.blocked_ns[*cause as usize]));
    // It did something else beside them, for part of the time.
    own.blocked_ns.iter_mut().for_each(&mut take);
    take(&mut own.runnable_ns);
    take(&mut own.on_cpu_ns);
    own
}

/// What a call ran itself, beside plugins: all below it, less the plugins and what is below those.
fn helpers(call: &Call, delegates: &[&Call]) -> BTreeMap<Arc<str>, TreeClass> {
    let mut own = call.tree.classes.clone();
    for delegate in delegates {
        let as_class = |call: &Call| {
            let end = call.whole()?;
            Some(TreeClass { wall_ns: call.wall_ns(0), split: end.main, ..TreeClass::default() })
        };
        if let (Some(class), Some(row)) = (as_class(delegate), own.get_mut(&(true, delegate.plugin.clone())))
        {
            take_off(row, &class);
        }
        for (key, class) in &delegate.tree.classes {
            if let Some(row) = own.get_mut(key) {
                take_off(row, class);
            }
        }
    }
    own.into_iter().filter(|(_, class)| class.wall_ns > 0).map(|((_, name), class)| (name, class)).collect()
}

fn take_off(row: &mut TreeClass, class: &TreeClass) {
    let less = |mine: &mut u64, theirs: u64| *mine = mine.saturating_sub(theirs);
    less(&mut row.wall_ns, class.wall_ns);
    less(&mut row.split.on_cpu_ns, class.split.on_cpu_ns);
    less(&mut row.split.runnable_ns, class.split.runnable_ns);
    for (mine, theirs) in row.split.blocked_ns.iter_mut().zip(class.split.blocked_ns) {
        less(mine, theirs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_children_is_taken_off_what_looks_like_it_first() {
        let mut split = Split { on_cpu_ns: 10, runnable_ns: 5, ..Split::default() };
        split.blocked_ns[Cause::ChildWait as usize] = 20;
        split.blocked_ns[Cause::Futex as usize] = 30;
        split.blocked_ns[Cause::Disk as usize] = 7;
        let own = without(&split, 40);
        assert_eq!(own.blocked_ns[Cause::ChildWait as usize], 0);
        assert_eq!(own.blocked_ns[Cause::Futex as usize], 10);
        assert_eq!((own.on_cpu_ns, own.blocked_ns[Cause::Disk as usize]), (10, 7));
        assert_eq!(split_ns(&without(&split, 60)), 12);
        assert_eq!(split_ns(&without(&split, 1_000)), 0, "no part below nothing");
    }
}
