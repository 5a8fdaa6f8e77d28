//! Whose a sample is: the process, its container, its pod. In: the fold's process and cgroup tables. Out: labels
//! by OpenTelemetry's names, and the frames that a flame graph has below all others.

use crate::enrich::identity::Identity;
use crate::enrich::{ProcId, processes::Process, text};
use crate::fold::State;
use std::sync::Arc;

/// Longest text of a process's name, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Digits of a container id that tell it from others: what runtimes themselves print.
const SHORT_ID: usize = 12;

/// A process as the owner of samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Process id; 0 when the samples are nobody's in particular.
    pub pid: u32,
    /// Base name of its program; its comm where no path is known.
    pub process: Arc<str>,
    /// Pod UID.
    pub pod_uid: Option<Arc<str>>,
    /// Name of the pod.
    pub pod_name: Option<Arc<str>>,
    /// Its namespace.
    pub namespace: Option<Arc<str>>,
    /// Container id, in a pod or outside.
    pub container_id: Option<Arc<str>>,
    /// The container's name in its pod's specification.
    pub container_name: Option<Arc<str>>,
    /// systemd unit, or path, of what belongs to the node itself.
    pub unit: Option<Arc<str>>,
    /// The stacks begin with its name themselves.
    pub in_stacks: bool,
}

impl Owner {
    /// A process, by what is known of it. One that does CNI work or brings up a container
    /// belongs to the pod it does it for.
    pub fn of(state: &State, id: ProcId) -> Owner {
        match state.processes.get(id) {
            Some(process) => Owner::of_process(state, process),
            None => Owner { pid: id.tgid, process: format!("pid {}", id.tgid).into(), ..Owner::default() },
        }
    }

    fn of_process(state: &State, process: &Process) -> Owner {
        let mut owner = Owner { pid: process.id.tgid, process: name(process), ..Owner::default() };
        match process.cni.as_deref().map(|work| &work.pod).filter(|pod| pod.uid.is_some()) {
            Some(pod) => (owner.pod_uid, owner.container_id) = (pod.uid.clone(), pod.sandbox.clone()),
            None => match state.served_container(process.id) {
                Some((uid, container)) => {
                    (owner.pod_uid, owner.container_id) = (Some(uid), Some(container));
                }
                None => owner.belong_to(state.cgroups.identity(process.cgroup_id)),
            },
        }
        if let Some(names) = owner.pod_uid.as_deref().and_then(|uid| state.pod_names.get(uid)) {
            (owner.pod_name, owner.namespace) = (Some(names.name.clone()), Some(names.namespace.clone()));
        }
        owner.container_name =
            owner.container_id.as_deref().and_then(|id| state.container_names.get(id).cloned());
        owner
    }

    fn belong_to(&mut self, identity: &Identity) {
        self.container_id = identity.container_id().map(Into::into);
        match identity {
            Identity::Pod(pod) => self.pod_uid = Some(pod.uid.as_str().into()),
            Identity::Host(host) => self.unit = Some(host.unit.as_str().into()),
            Identity::Unknown => {}
        }
    }

    /// Its labels: name and value.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, String)> {
        let text = |value: &Option<Arc<str>>| value.as_deref().map(str::to_owned);
        [
            ("k8s.namespace.name", text(&self.namespace)),
            ("k8s.pod.name", text(&self.pod_name)),
            ("k8s.pod.uid", text(&self.pod_uid)),
            ("k8s.container.name", text(&self.container_name)),
            ("container.id", text(&self.container_id)),
            ("host.unit", text(&self.unit)),
            ("process.executable.name", (!self.process.is_empty()).then(|| self.process.to_string())),
            ("process.pid", (self.pid > 0).then(|| self.pid.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Its frames below all others: pod, container and process; or the node's unit in place of the pod.
    pub fn roots(&self) -> Vec<String> {
        let mut roots = Vec::new();
        match (&self.pod_uid, &self.unit) {
            (Some(uid), _) => roots.push(match (&self.namespace, &self.pod_name) {
                (Some(namespace), Some(name)) => format!("pod {namespace}/{name}"),
                _ => format!("pod {uid}"),
            }),
            (None, Some(unit)) => roots.extend(["host".to_owned(), unit.to_string()]),
            (None, None) => roots.push("unknown".to_owned()),
        }
        if let Some(id) = &self.container_id {
            let name = self.container_name.as_deref();
            roots.push(format!("container {}", name.unwrap_or(id.get(..SHORT_ID).unwrap_or(id))));
        }
        if !self.in_stacks {
            roots.push(self.process.to_string());
        }
        roots
    }
}

/// What a process is called: by its program, since the kernel's own name of it is cut to 15 bytes.
fn name(process: &Process) -> Arc<str> {
    let base = text::base_name(&process.path);
    if base.is_empty() { process.comm.clone() } else { text::safe(base, NAME_BYTES_MAX).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<Arc<str>> {
        Some(text.into())
    }

    #[test]
    fn a_picture_of_the_node_reads_by_pod_then_container_then_process() {
        let id = "9a7e155c7e47b30278fe48ddcbd4c81fa9368fa0a01d70255f4616bbe32d3850";
        let in_pod = Owner {
            process: "kube-router".into(),
            pod_uid: some("u-1"),
            container_id: some(id),
            ..Owner::default()
        };
        assert_eq!(in_pod.roots(), ["pod u-1", "container 9a7e155c7e47", "kube-router"]);
        let named = Owner { pod_name: some("web"), namespace: some("shop"), ..in_pod.clone() };
        assert_eq!(named.roots()[0], "pod shop/web");
        let host = Owner { process: "routed".into(), unit: some("routed.service"), ..Owner::default() };
        assert_eq!(host.roots(), ["host", "routed.service", "routed"]);
        let unknown = Owner { process: "sh".into(), ..Owner::default() };
        assert_eq!(unknown.roots(), ["unknown", "sh"]);
    }

    #[test]
    fn what_is_not_known_has_no_label() {
        let owner = Owner { pid: 7, process: "sh".into(), ..Owner::default() };
        let labels: Vec<_> = owner.labels().map(|(name, _)| name).collect();
        assert_eq!(labels, ["process.executable.name", "process.pid"]);
    }
}
