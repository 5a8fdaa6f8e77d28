//! One start of a pod, and the containers in it.

use crate::enrich::ProcId;
use crate::enrich::processes::{PATH_TEXT_BYTES, Process};
use crate::enrich::runtime::Role;
use crate::enrich::text;
use slowpod_ebpf::abi::{exit::Exit, split::Split};
use std::sync::Arc;

/// Containers kept of one start. Pods have a handful; one that restarts its containers all day keeps the first ones,
/// which the start is about.
pub const CONTAINERS_MAX: usize = 64;
/// Steps kept of one container. There are three; a runtime that tries again makes a few more.
pub const STEPS_MAX: usize = 16;
/// Sandboxes kept of one start: retries of a kubelet, which backs off to one in five minutes.
pub const SANDBOXES_MAX: usize = 64;
/// What the program of a sandbox is called: nearly everywhere `pause`, on OpenShift `pod`.
const SANDBOX_PROGRAMS: [&[u8]; 2] = [b"pause", b"pod"];

/// One start of a pod.
#[derive(Clone, Debug)]
pub struct Start {
    /// When it began: its cgroup was made, or the first thing was done for it.
    pub begun_ns: u64,
    /// When its cgroup was made; `None` when that was not seen.
    pub cgroup_made_ns: Option<u64>,
    /// When its cgroup was removed.
    pub cgroup_gone_ns: Option<u64>,
    /// The pod's cgroup was there before the answer's first record, so nobody knows when this began.
    pub cut_at_start: bool,
    /// Ids of its sandboxes, as CNI calls name them, in the order they came.
    pub sandboxes: Vec<Arc<str>>,
    /// Its containers, sandboxes' own among them, in the order they were heard of.
    pub containers: Vec<Container>,
    /// Containers beyond [`CONTAINERS_MAX`], and sandboxes beyond [`SANDBOXES_MAX`].
    pub dropped: u64,
    /// Counted in the totals.
    pub(super) counted: bool,
}

impl Start {
    /// A start of which nothing more is known than that it has begun.
    pub(super) fn new(begun_ns: u64, cut_at_start: bool) -> Self {
        Start {
            begun_ns,
            cgroup_made_ns: None,
            cgroup_gone_ns: None,
            cut_at_start,
            sandboxes: Vec::new(),
            containers: Vec::new(),
            dropped: 0,
            counted: false,
        }
    }

    pub(super) fn add(&mut self, container: Container) {
        if self.containers.len() < CONTAINERS_MAX {
            self.containers.push(container);
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn sandbox(&mut self, id: &Arc<str>) {
        if self.sandboxes.contains(id) {
            return;
        }
        if self.sandboxes.len() < SANDBOXES_MAX {
            self.sandboxes.push(id.clone());
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn take(&mut self, id: &str) -> Option<Container> {
        let at = self.containers.iter().position(|container| &*container.id == id)?;
        Some(self.containers.remove(at))
    }

    /// Whether this container holds the pod's namespaces and runs nothing of the pod's own. CNI calls name it; in pods
    /// that have the node's network, which have none, its program does.
    pub fn is_sandbox(&self, container: &Container) -> bool {
        if self.sandboxes.is_empty() {
            container.program.as_ref().is_some_and(|program| program.is_pause)
        } else {
            self.sandboxes.contains(&container.id)
        }
    }

    /// Containers of the pod's own.
    pub fn own_containers(&self) -> impl DoubleEndedIterator<Item = &Container> {
        self.containers.iter().filter(|container| !self.is_sandbox(container))
    }

    /// When the first container's program ran: that is the end of the start.
    pub fn started_ns(&self) -> Option<u64> {
        self.own_containers().filter_map(|container| Some(container.program.as_ref()?.ran_ns)).min()
    }

    /// Whether this container is a sandbox made anew after the pod had started and all else in it had ended.
    pub(super) fn is_remade_by(&self, id: &str) -> bool {
        let others = || self.containers.iter().filter(|container| &*container.id != id);
        let is_pause = |container: &Container| container.program.as_ref().is_some_and(|p| p.is_pause);
        self.started_ns().is_some()
            && self.containers.iter().any(|container| &*container.id == id && is_pause(container))
            && others().all(|container| container.ended_ns.is_some())
    }

    /// Whether a container runs again what another one ran that has ended.
    pub fn is_restart(&self, container: &Container) -> bool {
        let begun_ns = container.begun_ns();
        let mut ended =
            self.own_containers().filter(|other| other.ended_ns.is_some_and(|ended_ns| ended_ns <= begun_ns));
        ended.any(|other| other.id != container.id && is_same_program(other, container))
    }

    /// Whether a container was an init container, as far as the order tells: it ended well before the next one was
    /// made, while no other ran. A container that runs the same program again is a restart, and tells nothing.
    pub fn is_init(&self, container: &Container) -> bool {
        let Some(ended_ns) = container.ended_ns.filter(|_| container.status == Some(0)) else { return false };
        let others = || self.own_containers().filter(|other| other.id != container.id);
        let Some(next) = others().filter(|other| other.begun_ns() >= ended_ns).min_by_key(|o| o.begun_ns())
        else {
            return false;
        };
        let was_alone = others().all(|other| {
            other.ended_ns.is_some_and(|ns| ns <= container.begun_ns()) || other.begun_ns() >= ended_ns
        });
        !is_same_program(container, next) && was_alone
    }
}

fn is_same_program(one: &Container, other: &Container) -> bool {
    let argv = |container: &Container| container.program.as_ref().map(|program| program.argv.clone());
    argv(one).is_some_and(|own| argv(other).is_some_and(|others| own == others))
}

/// One container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id.
    pub id: Arc<str>,
    /// When it was first heard of.
    pub heard_ns: u64,
    /// When its cgroup was made.
    pub cgroup_made_ns: Option<u64>,
    /// The runtime's processes that brought it up, in the order they began.
    pub steps: Vec<Step>,
    /// Steps beyond [`STEPS_MAX`].
    pub steps_dropped: u64,
    /// Its program, once it ran.
    pub program: Option<Program>,
    /// When its program ended, or its cgroup was removed.
    pub ended_ns: Option<u64>,
    /// Wait status of its program; `None` while it runs, or when its end was not seen.
    pub status: Option<u32>,
}

impl Container {
    pub(super) fn new(id: Arc<str>, heard_ns: u64) -> Self {
        Container {
            id,
            heard_ns,
            cgroup_made_ns: None,
            steps: Vec::new(),
            steps_dropped: 0,
            program: None,
            ended_ns: None,
            status: None,
        }
    }

    /// When work on it began.
    pub fn begun_ns(&self) -> u64 {
        self.steps
            .iter()
            .map(|step| step.started_ns)
            .chain(self.cgroup_made_ns)
            .min()
            .unwrap_or(self.heard_ns)
    }

    /// When the runtime was done bringing it up, or gave up; `now_ns` while it works on it.
    pub fn worked_until_ns(&self, now_ns: u64) -> u64 {
        let steps = || self.steps.iter().filter(|step| !step.end_lost);
        if self.program.is_none() && self.ended_ns.is_none() && steps().any(|step| step.ended_ns.is_none()) {
            return now_ns;
        }
        let ran_ns = self.program.as_ref().map(|program| program.ran_ns);
        steps().filter_map(|step| step.ended_ns).chain(ran_ns).max().unwrap_or(self.begun_ns())
    }

    pub(super) fn process_ended(&mut self, id: ProcId, exit: &Exit) {
        let now_ns = exit.header.ktime_ns;
        if self.program.as_ref().is_some_and(|program| program.id == id) {
            self.ended_ns = Some(now_ns);
            self.status = Some(exit.status);
        }
        if let Some(step) = self.steps.iter_mut().find(|step| step.id == id) {
            step.ended_ns = Some(now_ns);
            step.status = Some(exit.status);
            step.split = Some(exit.main);
        }
    }

    pub(super) fn process_lost(&mut self, id: ProcId) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.id == id) {
            step.end_lost = true;
        }
    }
}

/// One process of a runtime's that works on a container's start.
#[derive(Clone, Debug)]
pub struct Step {
    /// The process.
    pub id: ProcId,
    /// What it does.
    pub role: Role,
    /// When it was spawned.
    pub started_ns: u64,
    /// When it ended.
    pub ended_ns: Option<u64>,
    /// Its wait status.
    pub status: Option<u32>,
    /// Its main thread's time.
    pub split: Option<Split>,
    /// It is gone, and nobody saw how.
    pub end_lost: bool,
}

impl Step {
    pub(super) fn new(id: ProcId, role: Role, started_ns: u64) -> Self {
        Step { id, role, started_ns, ended_ns: None, status: None, split: None, end_lost: false }
    }
}

/// A container's program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its process.
    pub id: ProcId,
    /// When its exec was done.
    pub ran_ns: u64,
    /// Path as given to exec, as safe text.
    pub path: Arc<str>,
    /// Its argv class.
    pub argv_class: Arc<str>,
    /// Its arguments, NUL-separated, redacted as configured.
    pub argv: Arc<[u8]>,
    /// It is what a sandbox runs.
    pub is_pause: bool,
}

impl Program {
    pub(super) fn new(process: &Process, ran_ns: u64) -> Self {
        let name = text::base_name(&process.path);
        Program {
            id: process.id,
            ran_ns,
            path: text::safe(&process.path, PATH_TEXT_BYTES).into(),
            argv_class: process.argv_class.clone(),
            argv: process.argv.clone(),
            is_pause: SANDBOX_PROGRAMS.contains(&name),
        }
    }
}
