//! CNI calls. In: spawns, execs with a CNI environment, exits. Out: one [`Call`] per plugin process with its time
//! split and its tree, and the series of attempts per sandbox.
//!
//! The environment is inherited, so every descendant of a plugin is known to belong to its call. A descendant
//! with a CNI environment of the same sandbox whose program lies beside the plugin's own is a delegated plugin
//! (`host-local` below `bridge`): a call of its own, and part of its parent's tree. All others are helpers
//! (`iptables`, a script's children): part of the tree only.

pub mod attempts;
pub mod tree;
pub mod words;

use super::State;
use super::waits::{Key, Sum, Waits};
use crate::decode::{self, cni::Environment};
use crate::enrich::{ProcId, cni::CniWork, processes::Process, text};
use attempts::Sandboxes;
use slowpod_ebpf::abi::exit::{Exit, FLAG_EARLY, FLAG_SPLIT_PARTIAL};
use slowpod_ebpf::abi::split::Split;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tree::Tree;
use words::Words;

/// Calls in flight that are followed; a runtime does some tens at once. Beyond this new ones are counted as
/// evicted.
pub const LIVE_MAX: usize = 4_096;
/// How many plugins above one another are credited with what a process below them did. A meta-plugin, a plugin
/// and its IPAM are three.
const NESTED_MAX: usize = 8;
/// Commands of the specification (CNI 1.1); anything else is one label in metrics.
const COMMANDS: [&str; 6] = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];

/// How a call ended, as its exit tells.
#[derive(Clone, Debug)]
pub struct End {
    /// When.
    pub ended_ns: u64,
    /// Wait status.
    pub status: u32,
    /// The plugin's main thread; adds up to the call's wall time less what other threads outlived it by.
    pub main: Split,
    /// All threads of the plugin.
    pub threads: Split,
    /// Sum of their lifetimes, to which `threads` adds up.
    pub thread_ns: u64,
    /// How many there were.
    pub thread_count: u32,
    /// A thread was not tracked: the splits miss its time.
    pub partial: bool,
    /// Descendants that were still alive.
    pub outlived_by: u32,
    /// It was followed from its beginning; else it was there before the agent, and the splits are empty.
    pub followed: bool,
}

/// One plugin process.
#[derive(Clone, Debug)]
pub struct Call {
    /// The process.
    pub id: ProcId,
    /// Who spawned it: the runtime, or the plugin that delegates to it.
    pub spawner: Option<ProcId>,
    /// What it does, and for whom.
    pub work: Arc<CniWork>,
    /// Base name of its program.
    pub plugin: Arc<str>,
    /// Path of its program as given to exec.
    pub path: String,
    /// When its process was spawned; when it was first heard of, if that was not seen.
    pub started_ns: u64,
    /// Its end; `None` while it runs, or when its end was lost.
    pub end: Option<End>,
    /// It is gone, and its end was not seen.
    pub end_lost: bool,
    /// It began before the answer's first record: its tree may miss what happened until then.
    pub cut_at_start: bool,
    /// What its own threads waited for.
    pub waits: Waits,
    /// What its descendants did.
    pub tree: Tree,
    /// What it wrote.
    pub words: Words,
    /// Descendants alive.
    below: u32,
}

impl Call {
    /// Its end, if it was followed from its beginning: what can be compared with other calls.
    pub fn whole(&self) -> Option<&End> {
        self.end.as_ref().filter(|end| end.followed)
    }

    /// From spawn to end, or up to `until_ns` while it runs.
    pub fn wall_ns(&self, until_ns: u64) -> u64 {
        self.end.as_ref().map_or(until_ns, |end| end.ended_ns).saturating_sub(self.started_ns)
    }

    /// A plugin that another plugin runs.
    pub fn is_delegated(&self) -> bool {
        self.work.parent.is_some()
    }

    /// Whether it is known to have failed.
    pub fn failed(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.status != 0)
    }

    /// Its command, or `other` for one that the specification does not have.
    pub fn command_label(&self) -> &'static str {
        COMMANDS.into_iter().find(|command| *command == &*self.work.command).unwrap_or(super::totals::OTHER)
    }
}

/// All calls known.
#[derive(Clone, Debug)]
pub struct Calls {
    live: BTreeMap<ProcId, Call>,
    ended: VecDeque<Call>,
    ended_max: usize,
    /// Calls that found no room.
    pub evicted: u64,
    /// Attempts by sandbox.
    pub sandboxes: Sandboxes,
}

impl Calls {
    /// None yet; keeps the last `ended_max` that ended.
    pub fn new(ended_max: usize) -> Self {
        Calls {
            live: BTreeMap::new(),
            ended: VecDeque::new(),
            ended_max,
            evicted: 0,
            sandboxes: Sandboxes::new(ended_max),
        }
    }

    /// Calls in flight, by process.
    pub fn live(&self) -> impl Iterator<Item = &Call> {
        self.live.values()
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.live.len()
    }

    /// All calls: those that ended, in the order of their ends, then those in flight.
    pub fn all(&self) -> impl Iterator<Item = &Call> {
        self.ended.iter().chain(self.live.values())
    }

    fn begin(&mut self, call: Call) {
        if self.live.len() >= LIVE_MAX {
            self.evicted += 1;
            return;
        }
        if !call.is_delegated() {
            self.sandboxes.started(&call);
        }
        self.live.insert(call.id, call);
    }

    fn keep(&mut self, call: Call) {
        self.ended.push_back(call);
        if self.ended.len() > self.ended_max {
            self.ended.pop_front();
            self.evicted += 1;
        }
    }

    /// The live calls that a process below `nearest` belongs to, the nearest first.
    fn above(&mut self, nearest: ProcId, mut each: impl FnMut(&mut Call)) {
        let mut next = Some(nearest);
        for _ in 0..NESTED_MAX {
            let Some(call) = next.and_then(|id| self.live.get_mut(&id)) else { return };
            next = call.work.parent;
            each(call);
        }
    }
}

/// The nearest call above a process; for a plugin, the one that runs it.
fn nearest_above(process: &Process) -> Option<ProcId> {
    let work = process.cni.as_ref()?;
    if work.is_of(process.id) { work.parent } else { Some(work.call) }
}

impl State {
    pub(super) fn cni(&mut self, cni: &decode::Cni) {
        let fixed = &cni.fixed;
        let now_ns = fixed.header.ktime_ns;
        let id = self.known_or_stub(now_ns, &fixed.task, &fixed.comm, fixed.cgroup_id);
        self.loss.cni_cut += u64::from(fixed.cut != 0 && self.window.holds(now_ns));
        self.cni_environment(id, &cni.environment, now_ns);
    }

    /// The start-up scan found the variables of a call in a process's environment. It comes by parents first, as a rule.
    pub(super) fn cni_scanned(&mut self, id: ProcId, environment: &Environment, now_ns: u64) {
        let parent = self.processes.get(id).map_or(0, |process| process.scanned_ppid);
        let above = self.processes.lives_of(parent).next_back().and_then(|parent| parent.cni.clone());
        if let Some(process) = self.processes.get_mut(id) {
            process.cni = above;
        }
        self.cni_environment(id, environment, now_ns);
    }

    /// A process has such variables: it is a call, or part of the one above it.
    fn cni_environment(&mut self, id: ProcId, environment: &Environment, now_ns: u64) {
        let Some(process) = self.processes.get(id) else { return };
        let inherited =
            process.cni.clone().filter(|work| work.environment.container_id == environment.container_id);
        let parent = match inherited {
            // A wrapper became the plugin proper.
            Some(work) if work.is_of(id) => return,
            Some(work) if !self.lies_beside(process, work.call) => return,
            Some(work) => Some(work.call),
            None => None,
        };
        let work = Arc::new(CniWork::new(id, parent, environment.clone()));
        self.pod_names.learn(&work.pod);
        if let Some(process) = self.processes.get_mut(id) {
            process.cni = Some(Arc::clone(&work));
        }
        self.begin_call(id, work, now_ns);
    }

    /// A process that a keyframe tells of is in a call, or is one.
    pub(super) fn cni_told(&mut self, id: ProcId, now_ns: u64) {
        let work =
            self.processes.get(id).filter(|process| !process.gone).and_then(|process| process.cni.clone());
        if let Some(work) = work.filter(|work| work.is_of(id) && !self.cni.live.contains_key(&work.call)) {
            self.begin_call(id, work, now_ns);
        }
    }

    fn begin_call(&mut self, id: ProcId, work: Arc<CniWork>, now_ns: u64) {
        let Some(process) = self.processes.get(id) else { return };
        let name =
            if process.path.is_empty() { process.comm.as_bytes() } else { text::base_name(&process.path) };
        let started_ns = if process.spawned_ns > 0 { process.spawned_ns } else { now_ns };
        let call = Call {
            id: work.call,
            spawner: process.spawner,
            work,
            plugin: text::safe(name, tree::NAME_BYTES).into(),
            path: process.path_text(),
            started_ns,
            end: None,
            end_lost: false,
            cut_at_start: started_ns < self.covered.0 || process.spawned_ns == 0,
            waits: Waits::default(),
            tree: Tree::default(),
            words: Words::default(),
            below: 0,
        };
        if !call.is_delegated() {
            self.pods.network_begins(&call);
        }
        self.cni.begin(call);
    }

    /// Whether a process's program lies in the directory of a call's plugin.
    fn lies_beside(&self, process: &Process, call: ProcId) -> bool {
        let folder = |process: &Process| {
            process.path.iter().rposition(|byte| *byte == b'/').map(|slash| process.path[..slash].to_vec())
        };
        let plugin = self.processes.get(call).and_then(folder);
        plugin.is_some() && plugin == folder(process)
    }

    /// A process was spawned: its parent's work is its own by now.
    pub(super) fn cni_spawned(&mut self, child: ProcId) {
        if let Some(nearest) = self.processes.get(child).and_then(nearest_above) {
            self.cni.above(nearest, |call| call.below += 1);
        }
    }

    /// A process ended: it is a call, or part of one, or has nothing to do with any.
    pub(super) fn cni_ended(&mut self, process: &Process, class: &Arc<str>, exit: &Exit) {
        let Some(work) = &process.cni else { return };
        let is_call = work.is_of(process.id);
        let followed = exit.flags & FLAG_EARLY == 0;
        if let Some(nearest) = nearest_above(process) {
            let name = if is_call {
                text::safe(text::base_name(&process.path), tree::NAME_BYTES).into()
            } else {
                class.clone()
            };
            self.cni.above(nearest, |call| {
                call.below = call.below.saturating_sub(1);
                if followed {
                    call.tree.add(&name, is_call, exit);
                }
            });
        }
        if !is_call {
            return;
        }
        let Some(mut call) = self.cni.live.remove(&work.call) else { return };
        let now_ns = exit.header.ktime_ns;
        // The exit knows when the process was spawned, even when its spawn was not seen.
        if exit.spawned_ns > 0 {
            call.started_ns = exit.spawned_ns;
        }
        call.end = Some(End {
            ended_ns: now_ns,
            status: exit.status,
            main: exit.main,
            threads: exit.threads,
            thread_ns: exit.thread_ns,
            thread_count: exit.thread_count,
            partial: exit.flags & FLAG_SPLIT_PARTIAL != 0,
            outlived_by: call.below,
            followed,
        });
        if !call.is_delegated() {
            self.cni.sandboxes.ended(&call, now_ns, exit.status);
        }
        if self.window.holds(now_ns) {
            if followed {
                self.totals.cni.ended(&call, now_ns);
            }
            self.cni.keep(call);
        }
    }

    /// A process that was there before the agent has ended: nothing else is known of it, so it is part of no sum.
    pub(super) fn early_exit(&mut self, exit: &Exit) {
        let Some(id) = self.processes.resolve(&exit.task) else { return };
        if let Some(process) = self.processes.get(id).cloned() {
            self.cni_ended(&process, &process.comm, exit);
        }
        self.gone(exit.header.ktime_ns, id);
    }

    /// A process is gone, and its end was not seen.
    pub(super) fn cni_lost(&mut self, id: ProcId, now_ns: u64) {
        let work = self.processes.get(id).and_then(|process| process.cni.as_ref());
        let Some(call) = work.filter(|work| work.is_of(id)).map(|work| work.call) else { return };
        let Some(mut call) = self.cni.live.remove(&call) else { return };
        call.end_lost = true;
        if !call.is_delegated() {
            self.cni.sandboxes.lost(&call);
        }
        if self.window.holds(now_ns) {
            self.cni.keep(call);
        }
    }

    /// A process of a call waited.
    pub(super) fn cni_waited(&mut self, id: ProcId, work: &CniWork, key: &Key, sum: &Sum) {
        let above = if work.is_of(id) {
            if let Some(call) = self.cni.live.get_mut(&work.call) {
                call.waits.add(key, sum);
            }
            work.parent
        } else {
            Some(work.call)
        };
        if let Some(nearest) = above {
            self.cni.above(nearest, |call| call.tree.waits.add(key, sum));
        }
    }

    /// A process of a call wrote something.
    pub(super) fn cni_said(&mut self, output: &decode::Output) {
        let id = self.processes.resolve(&output.fixed.task);
        let Some(work) = id.and_then(|id| self.processes.get(id)?.cni.clone()) else { return };
        let own = id.is_some_and(|id| work.is_of(id));
        if let Some(call) = self.cni.live.get_mut(&work.call) {
            call.words.add(output, own);
        }
    }

    /// Processes below a spawner that were only counted, under flood.
    pub(super) fn cni_counted(&mut self, spawner: ProcId, class: &Arc<str>, spawns: u64) {
        let Some(work) = self.processes.get(spawner).and_then(|process| process.cni.clone()) else { return };
        self.cni.above(work.call, |call| call.tree.count(class, spawns));
    }
}
