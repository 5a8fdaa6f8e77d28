//! Phases of a pod's start. In: a start, and the attempts to give its sandboxes their network. Out: the time from its
//! begin to its first container's program, cut into phases that add up to it.
//!
//! ```text
//! begun            first CNI call        network ready and       first container   its program
//!   |              or runtime process    sandbox running         is made           runs
//!   |---before_sandbox---|---network + sandbox---|---before_container---|---container---|
//! ```
//!
//! What lies before the sandbox and between sandbox and container is the kubelet's and the runtime's own: volumes,
//! images, queues. None of that can be seen from processes, so it has the names of its place.

use super::Start;
use crate::fold::State;
use crate::fold::cni::attempts::Sandbox;
use crate::fold::union::Union;

/// One phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// From the pod's cgroup to the first thing a runtime does for it.
    BeforeSandbox,
    /// CNI: from a sandbox's first attempt to its first success, pauses between attempts included.
    Network,
    /// The sandbox without its network: shim, `runc create`, `runc start`, up to its program; and what the runtime does
    /// in between.
    Sandbox,
    /// From the sandbox to the first work on a container: image, volumes, the kubelet's own loop.
    BeforeContainer,
    /// From the first work on a container to the exec of its program.
    Container,
}

impl Phase {
    /// All, in the order of time.
    pub const ALL: [Phase; 5] =
        [Phase::BeforeSandbox, Phase::Network, Phase::Sandbox, Phase::BeforeContainer, Phase::Container];

    /// Name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::BeforeSandbox => "before_sandbox",
            Phase::Network => "network",
            Phase::Sandbox => "sandbox",
            Phase::BeforeContainer => "before_container",
            Phase::Container => "container",
        }
    }
}

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A container's program has run.
    Started,
    /// Not yet.
    Starting,
    /// Not, and it was given up.
    GivenUp,
    /// It has a network and nothing else, not even a cgroup: a hollow pod, as `slowpod flux` makes them.
    NetworkOnly,
}

impl Progress {
    /// Name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Progress::Started => "started",
            Progress::Starting => "starting",
            Progress::GivenUp => "given_up",
            Progress::NetworkOnly => "network_only",
        }
    }
}

/// A start, measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How far it has come.
    pub progress: Progress,
    /// Its end: the first container's program ran, it was given up, a hollow pod's network was ready, or the answer
    /// ends.
    pub until_ns: u64,
    /// By phase, in the order of [`Phase::ALL`]; adds up to the whole.
    pub phases_ns: [u64; 5],
}

impl Measured {
    /// The whole, in ns.
    pub fn wall_ns(&self) -> u64 {
        crate::fold::grow::total(self.phases_ns)
    }

    /// Whether it took longer than `over_ns`, or has not come to its end for longer.
    pub fn is_slow(&self, over_ns: u64) -> bool {
        match self.progress {
            Progress::Started | Progress::Starting => self.wall_ns() > over_ns,
            Progress::GivenUp | Progress::NetworkOnly => false,
        }
    }

    /// The longest phase.
    pub fn longest(&self) -> Phase {
        let of = |phase: &Phase| self.phases_ns[*phase as usize];
        // Of equals the earliest: what comes later may only wait for it.
        Phase::ALL.into_iter().rev().max_by_key(of).unwrap_or(Phase::BeforeSandbox)
    }
}

/// What the sandboxes of a start went through to get their network.
pub fn networks<'a>(state: &'a State, start: &'a Start) -> impl Iterator<Item = &'a Sandbox> {
    start.sandboxes.iter().filter_map(|id| state.cni.sandboxes.get(id))
}

/// A sandbox's way to its network.
struct NetworkSpan {
    /// Its first attempt's start.
    from_ns: u64,
    /// Its first success's end, or its last attempt's; the present while that runs.
    until_ns: u64,
    ready: bool,
}

impl NetworkSpan {
    fn of(sandbox: &Sandbox, now_ns: u64) -> Option<NetworkSpan> {
        let first = sandbox.attempts.first()?;
        let ready = sandbox.attempts.iter().find(|attempt| attempt.succeeded());
        let last = ready.or(sandbox.attempts.last())?;
        let until_ns = if last.running > 0 { now_ns } else { last.ended_ns };
        Some(NetworkSpan { from_ns: first.started_ns, until_ns, ready: ready.is_some() })
    }
}

/// Cuts a start into phases, as of `now_ns`.
pub fn measure(state: &State, start: &Start, now_ns: u64) -> Measured {
    let mut spans: Vec<NetworkSpan> =
        networks(state, start).filter_map(|sandbox| NetworkSpan::of(sandbox, now_ns)).collect();
    // One that got no network is followed by another, after the kubelet's back-off: that wait is the network's too.
    for at in 1..spans.len() {
        if !spans[at - 1].ready {
            spans[at - 1].until_ns = spans[at - 1].until_ns.max(spans[at].from_ns);
        }
    }
    let started_ns = start.started_ns();
    let is_hollow = start.cgroup_made_ns.is_none() && !start.cut_at_start && start.containers.is_empty();
    let hollow_ns = spans.iter().filter(|span| span.ready && is_hollow).map(|span| span.until_ns).min();
    let given_up_ns = start.cgroup_gone_ns.or_else(|| deleted_ns(state, start).filter(|_| is_hollow));
    let (progress, until_ns) = match (started_ns, hollow_ns, given_up_ns) {
        (Some(ns), ..) => (Progress::Started, ns),
        (None, Some(ns), _) => (Progress::NetworkOnly, ns),
        (None, None, Some(ns)) => (Progress::GivenUp, ns),
        (None, None, None) => (Progress::Starting, now_ns),
    };
    let begun_ns = start.begun_ns.min(until_ns);
    let sandboxes = || start.containers.iter().filter(|container| start.is_sandbox(container));
    // While nothing tells a sandbox's container from others, the first is taken for it: no runtime begins with another.
    let is_first = |at: usize| at == 0 && start.sandboxes.is_empty() && started_ns.is_none();
    let own = start.containers.iter().enumerate();
    let own = own.filter(|(at, container)| !start.is_sandbox(container) && !is_first(*at));
    let container_ns = own.map(|(_, container)| container.begun_ns()).min().unwrap_or(until_ns);
    let container_ns = container_ns.clamp(begun_ns, until_ns);
    let first = start.containers.iter().map(|container| container.begun_ns());
    let sandbox_ns = spans.iter().map(|span| span.from_ns).chain(first).min().unwrap_or(container_ns);
    let sandbox_ns = sandbox_ns.clamp(begun_ns, container_ns);
    let up = sandboxes().map(|container| container.worked_until_ns(until_ns));
    let up_ns = up.chain(spans.iter().map(|span| span.until_ns)).max();
    let is_up = started_ns.is_some() || !(sandboxes().next().is_none() && spans.is_empty());
    let up_ns =
        up_ns.unwrap_or(if is_up { sandbox_ns } else { container_ns }).clamp(sandbox_ns, container_ns);
    let mut network = Union::default();
    for span in &spans {
        network.add(span.from_ns.clamp(sandbox_ns, up_ns), span.until_ns.clamp(sandbox_ns, up_ns));
    }
    let network_ns = network.total_ns().min(up_ns - sandbox_ns);
    let phases_ns = [
        sandbox_ns - begun_ns,
        network_ns,
        up_ns - sandbox_ns - network_ns,
        container_ns - up_ns,
        until_ns - container_ns,
    ];
    Measured { progress, until_ns, phases_ns }
}

/// When the last of a pod's sandboxes was given up, if all were.
fn deleted_ns(state: &State, start: &Start) -> Option<u64> {
    let mut end_ns = None;
    for sandbox in networks(state, start) {
        end_ns = end_ns.max(Some(sandbox.deleted_ns?));
    }
    end_ns
}
