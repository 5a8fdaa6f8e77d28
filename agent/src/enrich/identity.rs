//! Who a cgroup belongs to. In: a cgroup path as the kernel prints it. Out: a pod, the host, or unknown.
//!
//! The outermost pod or container on a path wins: whatever a workload makes below its own cgroup, it stays
//! what the node's kubelet and runtime made it. Shapes come from the kubelet's cgroup manager, runc, CRI-O
//! and Podman, and are listed one by one in `tests/data/cgroup/paths.tsv`.

use Qos::{BestEffort, Burstable, Guaranteed};
use Runtime::{Containerd, CriO, Docker, Podman};

/// Who a cgroup belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A Kubernetes pod.
    Pod(PodRef),
    /// The node itself: a service, a login session, or a container that no pod owns.
    Host(HostUnit),
    /// Cannot be told from this path: not a path, or one whose telling part a cgroup namespace hides.
    Unknown,
}

/// A pod, as far as a path names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// UID with dashes as in the API; a static pod's 32 hexadecimal digits stay as they are.
    pub uid: String,
    /// The container; `None` for the pod's own cgroup and for the runtime's helpers in it (conmon).
    pub container_id: Option<String>,
    /// Quality-of-service class.
    pub qos: Qos,
    /// Container runtime; `None` where the path does not say (cgroupfs driver, bare container id).
    pub runtime: Option<Runtime>,
}

/// A part of the node outside every pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostUnit {
    /// The outermost systemd service, scope, mount, socket or swap unit on the path that is not itself a
    /// container; else the slice, when nothing but slices leads there; else the path, which starts with `/`.
    pub unit: String,
    /// Container outside every pod: plain Docker or Podman, or the container that plays a kind node.
    pub container_id: Option<String>,
    /// What runs that container, where the path says.
    pub runtime: Option<Runtime>,
}

/// Quality-of-service class of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// Requests equal limits; sits right below `kubepods`.
    Guaranteed,
    /// Some requests.
    Burstable,
    /// No requests.
    BestEffort,
    /// The level above the pod is not one the kubelet makes, or is hidden by a cgroup namespace.
    Unknown,
}

impl Qos {
    /// Name in JSON: the API's `status.qosClass` in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Guaranteed => "guaranteed",
            Burstable => "burstable",
            BestEffort => "best_effort",
            Qos::Unknown => "unknown",
        }
    }
}

/// Container runtimes that sign their cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runtime {
    /// containerd, under the kubelet or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Docker, alone or under cri-dockerd.
    Docker,
    /// Podman.
    Podman,
}

impl Runtime {
    /// Name in JSON and labels (OTel `container.runtime`).
    pub const fn name(self) -> &'static str {
        match self {
            Containerd => "containerd",
            CriO => "cri-o",
            Docker => "docker",
            Podman => "podman",
        }
    }
}

impl Identity {
    /// `pod`, `host` or `unknown`.
    pub const fn name(&self) -> &'static str {
        match self {
            Identity::Pod(_) => "pod",
            Identity::Host(_) => "host",
            Identity::Unknown => "unknown",
        }
    }

    /// The pod, if it is one.
    pub fn pod(&self) -> Option<&PodRef> {
        match self {
            Identity::Pod(pod) => Some(pod),
            Identity::Host(_) | Identity::Unknown => None,
        }
    }

    /// The container, in a pod or outside.
    pub fn container_id(&self) -> Option<&str> {
        match self {
            Identity::Pod(pod) => pod.container_id.as_deref(),
            Identity::Host(host) => host.container_id.as_deref(),
            Identity::Unknown => None,
        }
    }

    /// The container runtime, where the path says.
    pub fn runtime(&self) -> Option<Runtime> {
        match self {
            Identity::Pod(pod) => pod.runtime,
            Identity::Host(host) => host.runtime,
            Identity::Unknown => None,
        }
    }

    /// The host unit, if it is one.
    pub fn unit(&self) -> Option<&str> {
        match self {
            Identity::Host(host) => Some(&host.unit),
            Identity::Pod(_) | Identity::Unknown => None,
        }
    }
}

/// Says who a cgroup belongs to. `path` starts at the hierarchy's root, as in the third field of
/// `/proc/PID/cgroup`; v1 and v2 look alike. Never fails: what makes no sense is [`Identity::Unknown`].
pub fn identify(path: &str) -> Identity {
    // The kernel adds this to the v2 path of a zombie whose cgroup has been removed.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    if !path.starts_with('/') || path.contains(['\n', '\0']) {
        return Identity::Unknown;
    }
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    // A reader in a cgroup namespace sees what lies above its own root as leading "..".
    let hidden = segments.iter().take_while(|segment| **segment == "..").count();
    segments.drain(..hidden);
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return Identity::Unknown;
    }
    if let Some(pod) = pod_of(&segments) {
        return Identity::Pod(pod);
    }
    // Relative to some container's root only systemd's own top level tells the host from a neighbour.
    if hidden > 0 && !segments.first().is_some_and(|top| top.ends_with(".slice") || *top == "init.scope") {
        return Identity::Unknown;
    }
    Identity::Host(host_of(&segments))
}

/// Whether a directory of this name holds the kubelet's pods: `kubepods`, `kubepods.slice`, or
/// `kubelet-kubepods.slice` and the like where the kubelet has a `--cgroup-root`.
pub fn is_pod_root(segment: &str) -> bool {
    segment == "kubepods"
        || segment
            .strip_suffix(".slice")
            .and_then(|name| name.strip_suffix("kubepods"))
            .is_some_and(|root| root.is_empty() || root.ends_with('-'))
}

fn pod_of(segments: &[&str]) -> Option<PodRef> {
    for (at, segment) in segments.iter().enumerate() {
        // runc's cgroupfs manager, handed systemd's `slice:prefix:id`, makes one directory of that name.
        let (slice, inline) = match segment.split_once(':') {
            Some((slice, rest)) => (slice, Some(rest)),
            None => (*segment, None),
        };
        let Some((uid, qos)) = systemd_pod(slice).or_else(|| cgroupfs_pod(segment, &segments[..at])) else {
            continue;
        };
        let container = match inline {
            Some(rest) => rest.split_once(':').and_then(|(prefix, id)| signed(prefix, id)),
            None => segments.get(at + 1).and_then(|child| container(child)),
        };
        let (container_id, runtime) = container.map_or((None, None), |found| (found.id, found.runtime));
        return Some(PodRef { uid, container_id: container_id.map(str::to_owned), qos, runtime });
    }
    None
}

/// `[root-]kubepods[-burstable|-besteffort]-pod<uid>.slice`; systemd wants `_` for the dashes of a UID.
fn systemd_pod(slice: &str) -> Option<(String, Qos)> {
    let name = slice.strip_suffix(".slice")?;
    name.match_indices("kubepods-").find_map(|(at, root)| {
        if at > 0 && !name[..at].ends_with('-') {
            return None;
        }
        let rest = &name[at + root.len()..];
        let (rest, qos) = match rest.split_once('-') {
            Some(("burstable", rest)) => (rest, Burstable),
            Some(("besteffort", rest)) => (rest, BestEffort),
            _ => (rest, Guaranteed),
        };
        let uid = rest.strip_prefix("pod")?;
        is_uid_text(uid).then(|| (uid.replace('_', "-"), qos))
    })
}

/// `pod<uid>` below `kubepods` or one of its levels; anywhere else only if the UID cannot be anything else.
fn cgroupfs_pod(segment: &str, above: &[&str]) -> Option<(String, Qos)> {
    let uid = segment.strip_prefix("pod")?;
    let (in_kubepods, qos) = match above {
        [.., root, "burstable"] => (is_pod_root(root), Burstable),
        [.., root, "besteffort"] => (is_pod_root(root), BestEffort),
        ["burstable"] => (false, Burstable),
        ["besteffort"] => (false, BestEffort),
        [.., root] if is_pod_root(root) => (true, Guaranteed),
        _ => (false, Qos::Unknown),
    };
    if is_uuid(uid) {
        return Some((uid.replace('_', "-"), qos));
    }
    (is_hex(uid, 32) || (in_kubepods && is_uid_text(uid))).then(|| (uid.to_owned(), qos))
}

fn host_of(segments: &[&str]) -> HostUnit {
    let found = segments.iter().enumerate().find_map(|(at, segment)| {
        let parent = at.checked_sub(1).map_or("", |above| segments[above]);
        let mut found = container(segment)?;
        if found.id == Some(*segment) {
            found.runtime = match parent {
                "docker" => Some(Docker),
                "libpod_parent" => Some(Podman),
                _ => None,
            };
        }
        found.id.is_some().then_some((at, found))
    });
    let is_unit = |segment: &&&str| UNIT_SUFFIXES.iter().any(|suffix| segment.ends_with(suffix));
    let (before, after, container) = match found {
        Some((at, container)) => (&segments[..at], &segments[at + 1..], Some(container)),
        None => (segments, &segments[..0], None),
    };
    let unit = before.iter().chain(after).find(is_unit).map(|unit| (*unit).to_owned());
    let unit = unit.unwrap_or_else(|| match before.last() {
        Some(last) if before.iter().all(|segment| segment.ends_with(".slice")) => (*last).to_owned(),
        _ => format!("/{}", before.join("/")),
    });
    let (container_id, runtime) = container.map_or((None, None), |found| (found.id, found.runtime));
    HostUnit { unit, container_id: container_id.map(str::to_owned), runtime }
}

/// Kinds of systemd unit that hold processes themselves.
const UNIT_SUFFIXES: [&str; 5] = [".service", ".scope", ".mount", ".socket", ".swap"];

/// How runtimes sign the name of a container's cgroup.
const SIGNATURES: &[(&str, Option<Runtime>)] = &[
    ("cri-containerd-", Some(Containerd)),
    ("nerdctl-", Some(Containerd)),
    ("crio-", Some(CriO)),
    ("docker-", Some(Docker)),
    ("libpod-payload-", Some(Podman)),
    ("libpod-", Some(Podman)),
    // Kata keeps the sandbox's cgroup apart by this, whatever the runtime above it.
    ("kata_", None),
];
/// Likewise for the process that watches over a container from outside it.
const MONITORS: &[(&str, Option<Runtime>)] =
    &[("crio-conmon-", Some(CriO)), ("libpod-conmon-", Some(Podman))];

struct Container<'a> {
    /// `None` for a monitor.
    id: Option<&'a str>,
    runtime: Option<Runtime>,
}

/// A container's own directory: signed by its runtime, or nothing but the full id (cgroupfs driver).
fn container(segment: &str) -> Option<Container<'_>> {
    if is_hex(segment, 64) {
        return Some(Container { id: Some(segment), runtime: None });
    }
    // runc's cgroupfs manager again: `system.slice:docker:<id>`.
    if let Some((_, rest)) = segment.split_once(".slice:") {
        return rest.split_once(':').and_then(|(prefix, id)| signed(prefix, id));
    }
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    let find = |table: &[(&str, Option<Runtime>)]| {
        table.iter().find_map(|(prefix, runtime)| {
            Some((name.strip_prefix(prefix).filter(|id| is_container_id(id))?, *runtime))
        })
    };
    find(SIGNATURES)
        .map(|(id, runtime)| Container { id: Some(id), runtime })
        .or_else(|| find(MONITORS).map(|(_, runtime)| Container { id: None, runtime }))
}

/// The middle and last part of systemd's `slice:prefix:id`.
fn signed<'a>(prefix: &str, id: &'a str) -> Option<Container<'a>> {
    let (_, runtime) = SIGNATURES.iter().find(|(name, _)| name.strip_suffix('-') == Some(prefix))?;
    is_container_id(id).then_some(Container { id: Some(id), runtime: *runtime })
}

/// Hexadecimal, at least as long as the short form that runtimes print: 12 digits. All give 64.
fn is_container_id(text: &str) -> bool {
    text.len() >= 12 && is_hex(text, text.len())
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `8-4-4-4-12` hexadecimal digits, with `-` or systemd's `_` between them.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => matches!(byte, b'-' | b'_'),
            _ => byte.is_ascii_hexdigit(),
        })
}

/// What a manifest of a static pod may give as `metadata.uid`; the API server only makes UUIDs.
fn is_uid_text(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests;
