//! Time attribution: (State, Event) to State. In: events in time order. Out: what views show.
//!
//! The same fold serves live, replay and look-back; it does no I/O, reads no clock and has one owner.

pub mod class;
pub mod class_sum;
pub mod cni;
pub mod daemons;
pub mod facts;
pub mod failed;
pub mod grow;
pub mod life;
pub mod locks;
pub mod loops;
pub mod loss;
mod nameless;
pub mod netlink;
pub mod pods;
pub mod pressure;
pub mod profile;
pub mod sched;
mod sends;
pub mod sent;
pub mod short;
pub mod spawned;
pub mod stacks;
pub mod storm;
pub mod totals;
mod uncollected;
pub mod union;
pub mod waits;
pub mod wakes;

use crate::decode::{Event, Fact, Garbled};
use crate::enrich::{
    ProcId, cgroups::Cgroups, clock::Clock, container_names::ContainerNames, pod_names::PodNames,
    processes::Processes, symbols::Symbols,
};
use daemons::{DaemonKey, Daemons};
use failed::Failed;
use life::Ended;
use loss::Loss;
use netlink::NetlinkTable;
use slowpod_ebpf::abi::{Header, Kind, settings::STACKS_MAX};
use stacks::Stacks;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use totals::Totals;

/// How much a state keeps. A window's answer keeps more than the state that runs all the time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Ended processes kept with all their details.
    pub ended_max: usize,
    /// Sync loops kept per daemon.
    pub loops_max: usize,
    /// CNI calls that ended, and sandboxes, kept.
    pub cni_calls_max: usize,
    /// Pods kept of which a start was seen.
    pub pods_max: usize,
    /// Rows kept of each table that a profile is made from: samples, spawned children, netlink sends.
    pub profile_rows_max: usize,
    /// Cells kept of run-queue waits by CPU and by process over time; 0 = of run queues only the totals.
    pub sched_cells_max: usize,
    /// Stacks kept. The live state keeps twice as many as the kernel remembers to have sent, so that it never lacks
    /// one that is not sent again.
    pub stacks_max: usize,
}

impl Limits {
    /// For the state that follows live: enough for late records and for collecting parents.
    pub const LIVE: Limits = Limits {
        ended_max: 1_024,
        loops_max: 16,
        cni_calls_max: 1_024,
        pods_max: 512,
        profile_rows_max: 0,
        sched_cells_max: 0,
        stacks_max: 2 * STACKS_MAX as usize,
    };
    /// For answering one query: every child of a 5,000-spawn storm with room to spare, and ten minutes of a
    /// daemon that resyncs every second; every plugin of a thousand pods' starts and ends; the profile of a minute on 16
    /// busy CPUs; and the waits of 500 processes in each of 128 slots of time.
    pub const WINDOW: Limits = Limits {
        ended_max: 16_384,
        loops_max: 640,
        cni_calls_max: 8_192,
        pods_max: 4_096,
        profile_rows_max: 65_536,
        sched_cells_max: 65_536,
        stacks_max: 32_768,
    };
}

/// The time an answer is about, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From, inclusive.
    pub from_ns: u64,
    /// Until, exclusive.
    pub until_ns: u64,
}

impl Window {
    /// All of time.
    pub const ALL: Window = Window { from_ns: 0, until_ns: u64::MAX };

    /// Whether an instant lies inside.
    pub fn holds(&self, ktime_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&ktime_ns)
    }
}

/// A netlink sender: a child is named by its daemon and class, since there are thousands of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// A process that is nobody's short-lived child.
    Process(ProcId),
    /// Children of a daemon, by argv class.
    Children(DaemonKey, Arc<str>),
}

/// Senders kept; the rest are counted as evicted.
pub const SENDERS_MAX: usize = 2_048;

/// What happened in the window, in numbers that no bound cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes spawned, told of one by one.
    pub spawned: u64,
    /// Processes that were only counted, under flood.
    pub counted: u64,
    /// Processes that ended, told of one by one.
    pub ended: u64,
    /// Threads made.
    pub threads_made: u64,
    /// Successful execs.
    pub execs: u64,
    /// Failed execs.
    pub exec_fails: u64,
}

/// Everything known at one instant.
#[derive(Clone, Debug)]
pub struct State {
    /// What the answer is about: only what lies inside is summed.
    pub window: Window,
    /// First and last record seen (monotonic ns); 0 while there is none.
    pub covered: (u64, u64),
    /// Monotonic to wall time.
    pub clock: Clock,
    /// The node, as the start-up fact described it.
    pub node: Option<facts::Node>,
    /// One verdict per probe.
    pub probes: BTreeMap<String, facts::Probe>,
    /// Names of generic netlink families, by id.
    pub genl: BTreeMap<u16, String>,
    /// Processes.
    pub processes: Processes,
    /// Cgroups.
    pub cgroups: Cgroups,
    /// Names of pods.
    pub pod_names: PodNames,
    /// Names of containers.
    pub container_names: ContainerNames,
    /// Daemons and their sync loops.
    pub daemons: Daemons,
    /// Processes spawned under watch that have not ended.
    pub children: BTreeMap<ProcId, life::Child>,
    /// Processes that ended in the window, oldest first.
    pub ended: VecDeque<Ended>,
    /// CNI calls: in flight, and ended in the window.
    pub cni: cni::Calls,
    /// Starts of pods.
    pub pods: pods::Pods,
    /// How busy the node's disks were.
    pub pressure: pressure::Readings,
    /// Locks that anyone waited for in the window.
    pub locks: locks::Locks,
    /// Netlink by sender, in the window.
    pub senders: BTreeMap<Sender, NetlinkTable>,
    /// The same by stack.
    pub sent: sent::Sent,
    /// Time in spawned children by the spawner's stack, in the window.
    pub spawned: spawned::Spawned,
    /// Failed execs, in the window.
    pub failed: Failed,
    /// What happened in the window, in numbers.
    pub counts: Counts,
    /// Stacks by id.
    pub stacks: Stacks,
    /// Where threads spent their time, by stack, in the window.
    pub profile: profile::Profile,
    /// Waits that are too short to be among those.
    pub short: short::Short,
    /// Run queues, in the window.
    pub sched: sched::Sched,
    /// Who woke whom, in the window.
    pub wakes: wakes::Wakes,
    /// Names for their frames.
    pub symbols: Symbols,
    /// Sums since the start, for metrics.
    pub totals: Totals,
    /// What was not seen.
    pub loss: Loss,
    /// The start-up scan is in.
    pub scanned: bool,
    limits: Limits,
    uncollected: uncollected::Uncollected,
}

impl State {
    /// A state that knows nothing yet.
    pub fn new(window: Window, limits: Limits) -> Self {
        State {
            window,
            covered: (0, 0),
            clock: Clock::default(),
            node: None,
            probes: BTreeMap::new(),
            genl: BTreeMap::new(),
            processes: Processes::new(limits.ended_max),
            cgroups: Cgroups::default(),
            pod_names: PodNames::default(),
            container_names: ContainerNames::default(),
            daemons: Daemons::new(limits.loops_max),
            children: BTreeMap::new(),
            ended: VecDeque::new(),
            cni: cni::Calls::new(limits.cni_calls_max),
            pods: pods::Pods::new(limits.pods_max),
            pressure: pressure::Readings::default(),
            locks: locks::Locks::default(),
            senders: BTreeMap::new(),
            sent: sent::Sent::new(limits.profile_rows_max),
            spawned: spawned::Spawned::new(limits.profile_rows_max),
            failed: Failed::default(),
            counts: Counts::default(),
            stacks: Stacks::new(limits.stacks_max),
            profile: profile::Profile::new(limits.profile_rows_max),
            short: short::Short::new(limits.profile_rows_max > 0),
            sched: sched::Sched::new(limits.sched_cells_max),
            wakes: wakes::Wakes::default(),
            symbols: Symbols::default(),
            totals: Totals::default(),
            loss: Loss::default(),
            scanned: false,
            limits,
            uncollected: uncollected::Uncollected::default(),
        }
    }

    /// Takes in one record's bytes.
    pub fn step(&mut self, bytes: &[u8]) {
        match crate::decode::event(bytes) {
            Ok((header, event)) => self.apply(&header, event),
            Err(
                Garbled::Short { .. }
                | Garbled::UnknownKind(_)
                | Garbled::Duration { .. }
                | Garbled::Number { .. }
                | Garbled::Fact(_),
            ) => self.loss.garbled += 1,
        }
    }

    fn apply(&mut self, header: &Header, event: Event<'_>) {
        let now_ns = header.ktime_ns;
        if self.covered.0 == 0 {
            self.covered.0 = now_ns;
        }
        self.covered.1 = self.covered.1.max(now_ns);
        if self.window.holds(now_ns)
            && let Some(kind) = Kind::from_u32(header.kind)
        {
            self.loss.received(kind);
        }
        match event {
            Event::Spawn(spawn) => self.spawn(&spawn),
            Event::Exec(exec) => self.exec(&exec),
            Event::ExecFail(fail) => self.exec_fail(&fail),
            Event::Exit(exit) => self.exit(&exit),
            Event::Reap(reap) => self.reap(&reap),
            Event::NetlinkSend(send) => self.netlink_send(&send),
            Event::NetlinkError(error) => self.netlink_error(&error),
            Event::Cgroup(cgroup) => self.cgroup(&cgroup),
            Event::CgroupMove(moved) => self.cgroup_move(&moved),
            Event::Stack(stack) => {
                if let Some(forgotten) = self.stacks.put(stack) {
                    self.symbols.forget(forgotten);
                }
            }
            Event::Flood(flood) => self.flood(&flood),
            Event::Cni(cni) => self.cni(&cni),
            Event::Sample(sample) => self.sample(&sample),
            Event::RunQueue(waits) => self.run_queue(&waits),
            Event::Pushed(pushed) => self.pushed(&pushed),
            Event::Wait(wait) => self.wait(&wait),
            Event::Output(output) => self.cni_said(&output),
            Event::Wakes(wakes) => self.wakes(&wakes),
            Event::Fact(fact) => self.fact(now_ns, *fact),
        }
    }

    /// Ends the answer: what is still going on is counted up to `until_ns`.
    pub fn finish(mut self, until_ns: u64) -> Snapshot {
        self.count_running(until_ns);
        let State {
            daemons,
            processes,
            loss,
            cgroups,
            failed,
            stacks,
            profile,
            sent,
            spawned,
            sched,
            short,
            cni,
            pods,
            locks,
            wakes,
            ..
        } = &mut self;
        for (_, daemon) in daemons.iter_mut() {
            daemon.series.finish(until_ns);
            loss.evict("loops", daemon.series.evicted);
        }
        loss.evict("daemons", daemons.evicted);
        loss.evict("processes", processes.refused);
        loss.evict("cgroups", cgroups.refused);
        loss.evict("failed_execs", failed.other);
        loss.evict("stacks", stacks.evicted);
        loss.evict("profile_rows", profile.merged);
        loss.evict("spawned_rows", spawned.merged);
        loss.evict("sent_rows", sent.merged);
        loss.evict("sched_rows", sched.evicted);
        loss.evict("short_wait_rows", short.evicted);
        loss.evict("sched_cells", sched.heat.evicted);
        loss.evict("cni_calls", cni.evicted);
        loss.evict("cni_sandboxes", cni.sandboxes.evicted);
        loss.evict("pods", pods.evicted);
        loss.evict("lock_waits", locks.evicted);
        loss.evict("wakes", wakes.evicted);
        let until_ns = until_ns.min(self.window.until_ns);
        Snapshot { window: Window { until_ns, ..self.window }, state: self }
    }

    /// Counts the loops that are over at `now_ns`, the sandboxes that have their network and the pods that have started,
    /// into the totals. For the state that runs all the time.
    pub fn settle(&mut self, now_ns: u64) {
        self.settle_pods(now_ns);
        self.cni.sandboxes.settle(now_ns, |ready_ns| self.totals.cni.network_ready.add(ready_ns, 0));
        for (_, daemon) in self.daemons.iter_mut() {
            let name = daemon.name.clone();
            daemon.series.settle(now_ns, |duration_ns, busy_ns| {
                self.totals.loops.row(&name, &Arc::default()).add(duration_ns, busy_ns);
            });
        }
    }

    /// Rows used and allowed, by table.
    pub fn table_sizes(&self) -> BTreeMap<&'static str, (usize, usize)> {
        let mut sizes = BTreeMap::from([
            ("processes", (self.processes.len(), crate::enrich::processes::PROCESSES_MAX)),
            ("cgroups", (self.cgroups.len(), crate::enrich::cgroups::CGROUPS_MAX)),
            ("cni_calls", (self.cni.in_flight(), cni::LIVE_MAX)),
            ("daemons", (self.daemons.len(), daemons::DAEMONS_MAX)),
            ("pods", (self.pods.len(), self.limits.pods_max)),
            ("locks", (self.locks.len(), locks::LOCKS_MAX)),
            ("netlink_senders", (self.senders.len(), SENDERS_MAX)),
            ("stacks", self.stacks.size()),
        ]);
        sizes.extend(self.symbols.sizes().map(|(table, used, max)| (table, (used, max))));
        sizes
    }

    /// Whether an address is one where the node looks for its API server.
    pub fn is_api_server(&self, address: &core::net::SocketAddr) -> bool {
        let servers = self.node.iter().flat_map(|node| &node.api_servers);
        servers
            .filter_map(|server| server.parse().ok())
            .any(|server: core::net::SocketAddr| server == *address)
    }

    fn fact(&mut self, now_ns: u64, fact: Fact) {
        facts::apply(self, now_ns, fact);
    }
}

/// What readers get: a state that will not change, and the window it answers.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The window asked for, its end brought back to the last instant there was.
    pub window: Window,
    /// Everything known.
    pub state: State,
}
