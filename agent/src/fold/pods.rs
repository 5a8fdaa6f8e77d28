//! Starts of pods. In: cgroups made and removed, execs and exits of runtimes and containers, CNI calls. Out: per pod
//! UID the starts, with what was seen of each.
//!
//! A pod's start begins when its cgroup is made, or with the first thing that is done for it if that is earlier or
//! nobody made a cgroup under watch; it is over when the first container's program runs. A sandbox that is made anew
//! before that is a retry and part of the same start; one that is made anew later, or a cgroup that was removed and
//! comes back, begins another start of the same pod.

pub mod phases;
pub mod start;

use super::State;
use super::cni::Call;
use crate::enrich::ProcId;
use crate::enrich::cgroups::Cgroup;
use crate::enrich::identity::{Identity, PodRef, Qos, identify};
use crate::enrich::processes::Process;
use crate::enrich::runtime::{Role, RuntimeWork, work_of};
use slowpod_ebpf::abi::exit::Exit;
use start::{Container, Program, STEPS_MAX, Start, Step};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// How long a start may take, if nothing else is said: Kubernetes' objective for the 99th percentile (sig-scalability).
pub const SLOW_NS: u64 = 5_000_000_000;
/// Starts kept of one pod; a pod that is started more often in a window is crashing, and its last starts tell it.
const STARTS_MAX: usize = 8;
/// Containers that runtimes work on and whose pod is not known yet. It is known a few milliseconds later, or never, for
/// containers that are no pod's: so these make room silently.
const UNPLACED_MAX: usize = 512;
/// A start is counted in the totals so long after its container's program ran: by then late records are in.
const SETTLED_NS: u64 = 2_000_000_000;

/// One pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its UID.
    pub uid: Arc<str>,
    /// Quality-of-service class, as its cgroup's path tells.
    pub qos: Qos,
    /// Its starts, oldest first.
    pub starts: Vec<Start>,
    /// Starts beyond [`STARTS_MAX`].
    pub starts_dropped: u64,
}

/// All pods of which a start, or a part of one, was seen.
#[derive(Clone, Debug)]
pub struct Pods {
    known: BTreeMap<Arc<str>, Pod>,
    order: VecDeque<Arc<str>>,
    max: usize,
    /// Pods whose cgroup was there before: what is seen of them is no whole start.
    old: BTreeSet<Arc<str>>,
    /// Container id to pod UID, also of pods that are old; no more than there are cgroups.
    owners: BTreeMap<Arc<str>, Arc<str>>,
    /// Containers whose pod is not known yet, oldest first.
    unplaced: VecDeque<Container>,
    /// Live processes that are a step of a container's start, or its program.
    watched: BTreeMap<ProcId, Arc<str>>,
    /// Pods that found no room.
    pub evicted: u64,
}

impl Pods {
    /// None yet; keeps `max`.
    pub fn new(max: usize) -> Self {
        Pods {
            known: BTreeMap::new(),
            order: VecDeque::new(),
            max,
            old: BTreeSet::new(),
            owners: BTreeMap::new(),
            unplaced: VecDeque::new(),
            watched: BTreeMap::new(),
            evicted: 0,
        }
    }

    /// All pods, by UID.
    pub fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.known.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The pod with this UID, if a start of it was seen.
    pub fn get(&self, uid: &str) -> Option<&Pod> {
        self.known.get(uid)
    }

    /// Starts that have been over for [`SETTLED_NS`] and were not handed out before.
    pub(super) fn settle(&mut self, now_ns: u64, mut over: impl FnMut(&Start)) {
        for start in self.known.values_mut().flat_map(|pod| &mut pod.starts).filter(|start| !start.counted) {
            if start.started_ns().is_some_and(|ns| now_ns.saturating_sub(ns) >= SETTLED_NS) {
                start.counted = true;
                over(start);
            }
        }
    }

    /// The pod with this UID, made when new.
    fn of(&mut self, uid: &str) -> Option<&mut Pod> {
        if !self.known.contains_key(uid) {
            let uid: Arc<str> = uid.into();
            self.order.push_back(uid.clone());
            let pod = Pod { uid: uid.clone(), qos: Qos::Unknown, starts: Vec::new(), starts_dropped: 0 };
            self.known.insert(uid, pod);
            while self.order.len() > self.max {
                self.evict_oldest();
            }
        }
        self.known.get_mut(uid)
    }

    fn evict_oldest(&mut self) {
        let Some(pod) = self.order.pop_front().and_then(|uid| self.known.remove(&uid)) else { return };
        for container in pod.starts.iter().flat_map(|start| &start.containers) {
            self.owners.remove(&container.id);
            self.watched.retain(|_, id| *id != container.id);
        }
        self.evicted += 1;
    }

    /// The start that goes on for a pod; a new one, begun at `now_ns`, when `is_new` says so of the last.
    fn start(&mut self, uid: &str, now_ns: u64, is_new: impl Fn(&Start) -> bool) -> Option<&mut Start> {
        let cut_at_start = self.old.contains(uid);
        let pod = self.of(uid)?;
        if pod.starts.last().is_none_or(is_new) {
            if pod.starts.len() >= STARTS_MAX {
                pod.starts.remove(0);
                pod.starts_dropped += 1;
            }
            pod.starts.push(Start::new(now_ns, cut_at_start));
        }
        let start = pod.starts.last_mut()?;
        start.begun_ns = start.begun_ns.min(now_ns);
        Some(start)
    }

    fn pod_made(&mut self, pod: &PodRef, now_ns: u64) {
        self.old.remove(pod.uid.as_str());
        let Some(start) = self.start(&pod.uid, now_ns, |last| last.cgroup_gone_ns.is_some()) else { return };
        start.cgroup_made_ns.get_or_insert(now_ns);
        if let Some(known) = self.of(&pod.uid) {
            known.qos = pod.qos;
        }
    }

    fn container_made(&mut self, pod: &PodRef, container_id: &str, now_ns: u64) {
        if let Some(container) = self.place(&pod.uid, container_id, now_ns) {
            container.cgroup_made_ns.get_or_insert(now_ns);
        }
        if let Some(known) = self.of(&pod.uid) {
            known.qos = pod.qos;
        }
    }

    /// The container of a pod, with what was known of it before its pod was.
    fn place(&mut self, uid: &str, container_id: &str, now_ns: u64) -> Option<&mut Container> {
        if !self.owners.contains_key(container_id) {
            let at = self.unplaced.iter().position(|container| &*container.id == container_id);
            let container = at.and_then(|at| self.unplaced.remove(at));
            let container = container.unwrap_or_else(|| Container::new(container_id.into(), now_ns));
            let id = container.id.clone();
            let start = self.start(uid, container.heard_ns, |last| last.cgroup_gone_ns.is_some())?;
            start.add(container);
            self.owners.insert(id, uid.into());
        }
        self.container(container_id)
    }

    /// A container that is known, with its pod or without.
    fn container(&mut self, id: &str) -> Option<&mut Container> {
        match self.owners.get(id) {
            Some(uid) => {
                let starts = self.known.get_mut(uid)?.starts.iter_mut().rev();
                starts.flat_map(|start| &mut start.containers).find(|container| &*container.id == id)
            }
            None => self.unplaced.iter_mut().find(|container| &*container.id == id),
        }
    }

    fn gone(&mut self, pod: &PodRef, now_ns: u64) {
        if let Some(id) = &pod.container_id {
            if let Some(container) = self.container(id) {
                container.ended_ns.get_or_insert(now_ns);
            }
            return;
        }
        self.old.remove(pod.uid.as_str());
        if let Some(start) = self.known.get_mut(pod.uid.as_str()).and_then(|pod| pod.starts.last_mut()) {
            start.cgroup_gone_ns.get_or_insert(now_ns);
        }
    }

    /// A runtime's process works on a container.
    fn runtime_exec(&mut self, process: &Process, work: &RuntimeWork, now_ns: u64) {
        let Some(id) = work.container_id.clone() else { return };
        let begins = matches!(work.role, Role::ShimStart | Role::Create | Role::Start | Role::Monitor);
        if !begins {
            return;
        }
        let started_ns = if process.spawned_ns > 0 { process.spawned_ns } else { now_ns };
        if self.container(&id).is_none() {
            self.unplaced.push_back(Container::new(id.clone(), started_ns));
            while self.unplaced.len() > UNPLACED_MAX {
                if let Some(old) = self.unplaced.pop_front() {
                    self.watched.retain(|_, id| *id != old.id);
                }
            }
        }
        let Some(container) = self.container(&id).filter(|_| work.role != Role::Monitor) else { return };
        if container.steps.len() >= STEPS_MAX {
            container.steps_dropped += 1;
            return;
        }
        container.steps.push(Step::new(process.id, work.role, started_ns));
        self.watched.insert(process.id, id);
    }

    /// A program runs in a container's cgroup.
    fn container_exec(&mut self, pod: &PodRef, container_id: &str, process: &Process, now_ns: u64) {
        let Some(container) = self.container(container_id) else { return };
        if container.program.is_some() {
            return;
        }
        container.program = Some(Program::new(process, now_ns));
        let id = container.id.clone();
        self.watched.insert(process.id, id.clone());
        // Without a network of its own a sandbox is only known now: one that comes after the pod had started, when
        // all else has ended, begins a start.
        let Some(known) = self.known.get_mut(pod.uid.as_str()) else { return };
        let Some(last) = known.starts.last_mut() else { return };
        if last.is_remade_by(&id)
            && let Some(container) = last.take(&id)
            && let Some(start) = self.start(&pod.uid, container.heard_ns, |_| true)
        {
            start.add(container);
        }
    }

    pub(super) fn process_ended(&mut self, id: ProcId, exit: &Exit) {
        let Some(container_id) = self.watched.remove(&id) else { return };
        let Some(container) = self.container(&container_id) else { return };
        container.process_ended(id, exit);
    }

    pub(super) fn process_lost(&mut self, id: ProcId) {
        if let Some(container_id) = self.watched.remove(&id)
            && let Some(container) = self.container(&container_id)
        {
            container.process_lost(id);
        }
    }

    /// A runtime begins to add a pod's network: the sandbox's id is known from here on.
    pub(super) fn network_begins(&mut self, call: &Call) {
        let (work, now_ns) = (&call.work, call.started_ns);
        let Some(uid) = work.pod.uid.clone().filter(|_| &*work.command == "ADD") else { return };
        let id = work.container_id.clone();
        let is_known = |last: &Start| last.sandboxes.contains(&id);
        let is_new =
            |last: &Start| last.cgroup_gone_ns.is_some() || (last.started_ns().is_some() && !is_known(last));
        let Some(start) = self.start(&uid, now_ns, is_new) else { return };
        start.sandbox(&id);
        // The sandbox's container may be there already (Docker), or come later (containerd).
        if self.unplaced.iter().any(|container| container.id == id) {
            self.place(&uid, &id, now_ns);
        }
    }
}

/// The pod or container whose own directory a cgroup is; `None` for those below: systemd's, conmon's, a workload's.
fn own_cgroup(cgroup: &Cgroup) -> Option<&PodRef> {
    let pod = cgroup.identity.pod()?;
    let (above, _) = cgroup.path.trim_end_matches('/').rsplit_once('/')?;
    let above = identify(if above.is_empty() { "/" } else { above });
    let is_same = |above: &PodRef| above.uid == pod.uid && above.container_id == pod.container_id;
    (!above.pod().is_some_and(is_same)).then_some(pod)
}

impl State {
    /// UID of the pod, and the container of it, that a runtime's process works on.
    pub fn served_container(&self, id: ProcId) -> Option<(Arc<str>, Arc<str>)> {
        let container_id = work_of(&self.processes, id)?.container_id?;
        let uid = self.pods.owners.get(&container_id)?.clone();
        Some((uid, container_id))
    }

    pub(super) fn pod_cgroup_made(&mut self, cgroup_id: u64, now_ns: u64) {
        let Some(pod) = self.cgroups.get(cgroup_id).and_then(own_cgroup) else { return };
        match &pod.container_id {
            Some(id) => self.pods.container_made(pod, id, now_ns),
            None => self.pods.pod_made(pod, now_ns),
        }
    }

    pub(super) fn pod_cgroup_gone(&mut self, cgroup_id: u64, now_ns: u64) {
        if let Some(pod) = self.cgroups.get(cgroup_id).and_then(own_cgroup) {
            self.pods.gone(pod, now_ns);
        }
    }

    /// The scan, or a keyframe, tells of a cgroup.
    pub(super) fn pod_cgroup_told(&mut self, cgroup_id: u64) {
        let Identity::Pod(pod) = self.cgroups.identity(cgroup_id) else { return };
        if self.pods.known.contains_key(pod.uid.as_str()) {
            return;
        }
        let uid: Arc<str> = pod.uid.as_str().into();
        if let Some(id) = &pod.container_id {
            self.pods.owners.insert(id.as_str().into(), uid.clone());
        }
        self.pods.old.insert(uid);
    }

    pub(super) fn pod_exec(&mut self, id: ProcId, now_ns: u64) {
        if let Some(work) = work_of(&self.processes, id) {
            if let Some(process) = self.processes.get(id) {
                self.pods.runtime_exec(process, &work, now_ns);
            }
            return;
        }
        let Some(process) = self.processes.get(id) else { return };
        if let Identity::Pod(pod) = self.cgroups.identity(process.cgroup_id)
            && let Some(container_id) = &pod.container_id
        {
            self.pods.container_exec(pod, container_id, process, now_ns);
        }
    }

    /// Counts the starts that are over into the totals, those that were seen from their begin.
    pub(super) fn settle_pods(&mut self, now_ns: u64) {
        let mut over = Vec::new();
        self.pods.settle(now_ns, |start| over.push(start.clone()));
        for start in over.iter().filter(|start| !start.cut_at_start) {
            let measured = phases::measure(self, start, now_ns);
            self.totals.pods.started(&measured);
        }
    }
}
