//! Which processes and daemons an answer is about. In: a query's filters. Out: yes or no.

use super::Query;
use crate::enrich::cni::{CniWork, PodArgs};
use crate::enrich::{ProcId, processes::Process};
use crate::fold::cni::Call;
use crate::fold::daemons::{Daemon, DaemonKey, key_of};
use crate::fold::sched::{Row, Who};
use crate::fold::{Sender, State};

/// The filters of one query over one state.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    state: &'a State,
    query: &'a Query,
}

impl<'a> Filter<'a> {
    /// The filters of `query`.
    pub fn new(state: &'a State, query: &'a Query) -> Self {
        Filter { state, query }
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        let Query { pod, namespace, container, pid, comm, cgroup, .. } = self.query;
        let texts = [pod, namespace, container, comm, cgroup];
        pid.is_none() && texts.iter().all(|text| text.is_none())
    }

    /// Whether a process passes. One that does CNI work or brings up a container is its pod's, whatever its cgroup.
    pub fn process(&self, process: &Process) -> bool {
        self.query.pid.is_none_or(|pid| pid == process.id.tgid)
            && self.query.comm.as_deref().is_none_or(|comm| comm == &*process.comm)
            && match process.cni.as_deref().map(|work| &work.pod).filter(|pod| pod.uid.is_some()) {
                Some(pod) => self.of_pod(pod, pod.sandbox.as_deref()) && self.below(process.cgroup_id),
                None => match self.state.served_container(process.id) {
                    Some((uid, container)) => {
                        self.owned(Some(&uid), Some(&container)) && self.below(process.cgroup_id)
                    }
                    None => self.cgroup(process.cgroup_id),
                },
            }
    }

    /// Whether a pod with these containers passes the filters that are about pods.
    pub fn pod<'b>(&self, uid: &str, mut containers: impl Iterator<Item = &'b str>) -> bool {
        match self.query.container {
            Some(_) => containers.any(|id| self.owned(Some(uid), Some(id))),
            None => self.owned(Some(uid), None),
        }
    }

    /// Whether a daemon passes: by any of its processes' ids, forks without exec among them.
    pub fn daemon(&self, key: &DaemonKey, daemon: &Daemon) -> bool {
        let processes = &self.state.processes;
        let is_its = |pid: u32| {
            daemon.members.iter().any(|member| member.tgid == pid)
                || processes.lives_of(pid).any(|life| key_of(processes, life.id).as_ref() == Some(key))
        };
        self.query.pid.is_none_or(is_its)
            && self.query.comm.as_deref().is_none_or(|comm| comm == &*daemon.comm)
            && self.cgroup(key.cgroup_id)
    }

    /// Whether waits pass. Processes without a row of their own have no pid and no name.
    pub fn waits(&self, row: &Row) -> bool {
        let named = match row.who {
            Who::Process(id) => {
                self.query.pid.is_none_or(|pid| pid == id.tgid)
                    && self.query.comm.as_deref().is_none_or(|comm| {
                        self.state.processes.get(id).is_some_and(|process| *process.comm == *comm)
                    })
            }
            Who::ShortLived | Who::KernelThreads => self.query.pid.is_none() && self.query.comm.is_none(),
        };
        named && self.cgroup(row.cgroup_id)
    }

    /// Whether a netlink sender passes: children go by their daemon.
    pub fn sender(&self, sender: &Sender) -> bool {
        match sender {
            Sender::Process(id) => self.id(*id),
            Sender::Children(key, _) => match self.state.daemons.get(key) {
                Some(daemon) => self.daemon(key, daemon),
                None => self.is_empty(),
            },
        }
    }

    fn id(&self, id: ProcId) -> bool {
        self.state.processes.get(id).map_or(self.is_empty(), |process| self.process(process))
    }

    /// Whether a cgroup passes, whatever is asked of its processes.
    pub fn cgroup(&self, cgroup_id: u64) -> bool {
        let identity = self.state.cgroups.identity(cgroup_id);
        self.owned(identity.pod().map(|pod| pod.uid.as_str()), identity.container_id())
            && self.below(cgroup_id)
    }

    fn owned(&self, pod_uid: Option<&str>, container_id: Option<&str>) -> bool {
        let Query { pod, namespace, container, .. } = self.query;
        let names = pod_uid.and_then(|uid| self.state.pod_names.get(uid));
        let (name, of) = (names.map(|names| &*names.name), names.map(|names| &*names.namespace));
        pod.as_deref().is_none_or(|wanted| pod_uid == Some(wanted) || name == Some(wanted))
            && namespace.as_deref().is_none_or(|wanted| of == Some(wanted))
            && container
                .as_deref()
                .is_none_or(|wanted| container_id.is_some_and(|id| self.is_called(wanted, id)))
    }

    /// Whether a container is meant, by its id or its name.
    fn is_called(&self, wanted: &str, id: &str) -> bool {
        is_beginning(wanted, id) || self.state.container_names.get(id).is_some_and(|name| **name == *wanted)
    }

    /// The same for a pod that a CNI environment names.
    fn of_pod(&self, of: &PodArgs, container_id: Option<&str>) -> bool {
        let Query { pod, namespace, container, .. } = self.query;
        pod.as_deref()
            .is_none_or(|wanted| [&of.uid, &of.name].iter().any(|own| own.as_deref() == Some(wanted)))
            && namespace.as_deref().is_none_or(|wanted| of.namespace.as_deref() == Some(wanted))
            && container
                .as_deref()
                .is_none_or(|wanted| container_id.is_some_and(|id| self.is_called(wanted, id)))
    }

    /// Whether what a CNI call is for passes: its pod, and its sandbox as the container.
    pub fn work(&self, work: &CniWork) -> bool {
        self.of_pod(&work.pod, Some(&work.container_id))
    }

    /// Whether a CNI call passes: by what it is for, and by its own process.
    pub fn call(&self, call: &Call) -> bool {
        let process = self.state.processes.get(call.id);
        self.work(&call.work)
            && self.query.pid.is_none_or(|pid| pid == call.id.tgid)
            && self.query.comm.as_deref().is_none_or(|comm| process.is_some_and(|own| &*own.comm == comm))
            && (self.query.cgroup.is_none() || process.is_some_and(|process| self.below(process.cgroup_id)))
    }

    fn below(&self, cgroup_id: u64) -> bool {
        self.query.cgroup.as_deref().is_none_or(|prefix| {
            self.state.cgroups.get(cgroup_id).is_some_and(|cgroup| cgroup.path.starts_with(prefix))
        })
    }
}

/// Fewer digits of a container id are no name of it.
const CONTAINER_DIGITS_MIN: usize = 12;

/// Whether `wanted` is a container id or the beginning of it, as runtimes print it.
fn is_beginning(wanted: &str, id: &str) -> bool {
    wanted == id || (wanted.len() >= CONTAINER_DIGITS_MIN && id.starts_with(wanted))
}
