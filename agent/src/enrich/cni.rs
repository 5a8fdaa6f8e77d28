//! Whom a CNI call is for. In: the variables of its environment. Out: safe text, and the pod `CNI_ARGS` names.
//!
//! A plugin runs in the runtime's cgroup, so its environment is the only thing that names its pod. `CNI_ARGS` is
//! `K=V;K=V` in any order (libcni writes it from a Go map). What does not parse names nothing and is no error: the
//! plugin itself is the one to refuse it.

use super::ProcId;
use super::processes::same_tick;
use super::text::safe;
use crate::decode::cni::Environment;
use std::sync::Arc;

/// Longest text kept of one value. Names of pods have 253 bytes at most, container ids 64.
const VALUE_TEXT_BYTES: usize = 260;

/// The pod that `CNI_ARGS` names; containerd and CRI-O write all four.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodArgs {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: Option<Arc<str>>,
    /// `K8S_POD_NAME`.
    pub name: Option<Arc<str>>,
    /// `K8S_POD_UID`.
    pub uid: Option<Arc<str>>,
    /// `K8S_POD_INFRA_CONTAINER_ID`.
    pub sandbox: Option<Arc<str>>,
}

impl PodArgs {
    /// Reads `CNI_ARGS`. Of a key that is given twice the last counts, as with the CNI library's own parser; keys
    /// without a value are not there.
    pub fn parse(args: &[u8]) -> PodArgs {
        let mut pod = PodArgs::default();
        for pair in args.split(|byte| *byte == b';') {
            let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let place = match &pair[..equals] {
                b"K8S_POD_NAMESPACE" => &mut pod.namespace,
                b"K8S_POD_NAME" => &mut pod.name,
                b"K8S_POD_UID" => &mut pod.uid,
                b"K8S_POD_INFRA_CONTAINER_ID" => &mut pod.sandbox,
                _ => continue,
            };
            let value = &pair[equals + 1..];
            *place = (!value.is_empty()).then(|| safe(value, VALUE_TEXT_BYTES).into());
        }
        pod
    }
}

/// What a process does CNI work for. Children inherit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniWork {
    /// The nearest plugin process above it, or itself.
    pub call: ProcId,
    /// Of a delegated plugin: the plugin that runs it.
    pub parent: Option<ProcId>,
    /// The variables as they were.
    pub environment: Environment,
    /// `CNI_COMMAND`.
    pub command: Arc<str>,
    /// `CNI_CONTAINERID`; empty with STATUS, VERSION and GC.
    pub container_id: Arc<str>,
    /// `CNI_NETNS`; empty with a late DEL.
    pub netns: Arc<str>,
    /// `CNI_IFNAME`.
    pub ifname: Arc<str>,
    /// `TRACEPARENT`.
    pub traceparent: Arc<str>,
    /// The pod.
    pub pod: PodArgs,
}

impl CniWork {
    /// Whether this process is the call itself. The start of one that the scan found may have become exact since.
    pub fn is_of(&self, id: ProcId) -> bool {
        self.call.tgid == id.tgid && same_tick(self.call.start_ns, id.start_ns)
    }

    /// What an environment says.
    pub fn new(call: ProcId, parent: Option<ProcId>, environment: Environment) -> Self {
        let text = |value: &[u8]| -> Arc<str> { safe(value, VALUE_TEXT_BYTES).into() };
        CniWork {
            call,
            parent,
            command: text(&environment.command.0),
            container_id: text(&environment.container_id.0),
            netns: text(&environment.netns.0),
            ifname: text(&environment.ifname.0),
            traceparent: text(&environment.traceparent.0),
            pod: PodArgs::parse(&environment.args.0),
            environment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[u8]) -> [Option<String>; 4] {
        let PodArgs { namespace, name, uid, sandbox } = PodArgs::parse(args);
        [namespace, name, uid, sandbox].map(|value| value.map(|text| text.to_string()))
    }

    fn some(values: [&str; 4]) -> [Option<String>; 4] {
        values.map(|value| (!value.is_empty()).then(|| value.to_owned()))
    }

    #[test]
    fn the_pod_is_read_in_any_order() {
        let pairs = [
            "K8S_POD_NAMESPACE=default",
            "K8S_POD_NAME=web-0",
            "IgnoreUnknown=1",
            "K8S_POD_INFRA_CONTAINER_ID=5b1f",
            "K8S_POD_UID=ea59d2f4-0000-4000-8000-000000000001",
        ];
        let expected = some(["default", "web-0", "ea59d2f4-0000-4000-8000-000000000001", "5b1f"]);
        for turn in 0..pairs.len() {
            let mut turned = pairs;
            turned.rotate_left(turn);
            assert_eq!(parsed(turned.join(";").as_bytes()), expected);
            turned.reverse();
            assert_eq!(parsed(turned.join(";").as_bytes()), expected);
        }
    }

    #[test]
    fn what_makes_no_sense_names_nothing() {
        let nobody = some(["", "", "", ""]);
        for args in [
            &b""[..],
            b";;;",
            b"=",
            b"K8S_POD_NAME",
            b"K8S_POD_NAME=",
            b"k8s_pod_name=x",
            b"K8S_POD_NAMES=x",
            b" K8S_POD_NAME=x",
            b"IgnoreUnknown=1",
            b"\xff\xfe;\0=\0",
        ] {
            assert_eq!(parsed(args), nobody, "{args:?}");
        }
    }

    #[test]
    fn repeated_keys_values_with_equals_and_hostile_bytes() {
        assert_eq!(parsed(b"K8S_POD_NAME=a;K8S_POD_NAME=b"), some(["", "b", "", ""]));
        assert_eq!(parsed(b"K8S_POD_NAME=a;K8S_POD_NAME="), some(["", "", "", ""]));
        assert_eq!(parsed(b"K8S_POD_NAME=a=b"), some(["", "a=b", "", ""]));
        assert_eq!(parsed(b"K8S_POD_NAME=\x1b[2J\xff"), some(["", "\\x1b[2J\\xff", "", ""]));
        let huge = [b"K8S_POD_UID=".as_slice(), &b"u".repeat(1_000)].concat();
        assert!(parsed(&huge)[2].as_ref().is_some_and(|uid| uid.len() <= VALUE_TEXT_BYTES));
    }
}
