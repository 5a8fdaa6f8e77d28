//! Which processes and daemons an answer is about. In: a query's filters. Out: yes or no.

use super::{Query, describe::IdentityBlock};
use crate::enrich::{ProcId, processes::Process};
use crate::fold::daemons::{Daemon, DaemonKey, key_of};
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
        let Query { pod, pid, comm, cgroup, .. } = self.query;
        pod.is_none() && pid.is_none() && comm.is_none() && cgroup.is_none()
    }

    /// Whether a process passes. One that does CNI work or brings up a container is its pod's, whatever its cgroup.
    pub fn process(&self, process: &Process) -> bool {
        self.query.pid.is_none_or(|pid| pid == process.id.tgid)
            && self.query.comm.as_deref().is_none_or(|comm| comm == &*process.comm)
            && self.below(process.cgroup_id)
            && self
                .query
                .pod
                .as_deref()
                .is_none_or(|pod| IdentityBlock::of_process(self.state, process).pod_uid() == Some(pod))
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

    fn cgroup(&self, cgroup_id: u64) -> bool {
        let pod = self.query.pod.as_deref();
        let is_pod = |uid: &str| {
            let identity = self.state.cgroups.identity(cgroup_id);
            identity.pod().is_some_and(|pod| pod.uid == uid)
        };
        pod.is_none_or(is_pod) && self.below(cgroup_id)
    }

    fn below(&self, cgroup_id: u64) -> bool {
        self.query.cgroup.as_deref().is_none_or(|prefix| {
            self.state.cgroups.get(cgroup_id).is_some_and(|cgroup| cgroup.path.starts_with(prefix))
        })
    }
}
