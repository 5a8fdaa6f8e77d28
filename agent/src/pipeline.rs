//! The one loop: a source's batches into a state. Live, replay and look-back differ in their source only.
//!
//! The live loop also feeds the flight recorder, an optional tape, and the [`Pulse`] that metrics and health
//! read. Readers fold their own state from the recorder's chunks, so the loop never waits for them.

mod retell;

use crate::capture::recent::{Bounds, Excerpt, Recent, Size};
use crate::capture::symbols::symboliser;
use crate::capture::{CaptureError, Progress, Source};
use crate::decode;
use crate::decode::fact::{self, Fact};
use crate::demand::Demand;
use crate::enrich::ProcId;
use crate::enrich::symbols::SymbolLoss;
use crate::fold::{Limits, Snapshot, State, Window, loss::Loss, totals::Totals};
use retell::Retell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often the pulse is renewed.
pub const PULSE_NS: u64 = 1_000_000_000;

/// What the live loop and its readers share.
pub struct Hub {
    demand: Arc<Demand>,
    recent: Mutex<Recent>,
    pulse: Mutex<Arc<Pulse>>,
}

/// Sums and sizes as of a moment ago, for metrics and health.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// When (monotonic ns); 0 before the first record was taken in.
    pub now_ns: u64,
    /// The start-up scan is in and the probes are attached.
    pub ready: bool,
    /// One verdict per probe.
    pub probes: Vec<fact::Probe>,
    /// The node.
    pub node: fact::Node,
    /// Sums since the start.
    pub totals: Totals,
    /// CNI calls in flight, by command and plugin.
    pub cni_in_flight: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// What was not seen since the start.
    pub loss: Loss,
    /// What became of stacks since the start.
    pub symbols: SymbolLoss,
    /// Rows in the live state's tables, by table: used and allowed.
    pub tables: BTreeMap<&'static str, (usize, usize)>,
    /// The flight recorder.
    pub recorder: Size,
    /// What the kernel side says of itself.
    pub kernel: KernelPulse,
}

/// What the kernel side says of itself.
#[derive(Clone, Debug, Default)]
pub struct KernelPulse {
    /// Per kind: happenings seen, records submitted, dropped, counted only. Since attach.
    pub tallies: BTreeMap<&'static str, slowpod_ebpf::abi::Tally>,
    /// Per kernel program: runs and nanoseconds, when the kernel keeps those statistics.
    pub programs: Vec<ProgramCost>,
    /// Per ring: most bytes seen waiting, and its size.
    pub rings: BTreeMap<&'static str, (u64, u64)>,
    /// Naming stacks.
    pub symbols: symboliser::Counts,
}

/// One kernel program's cost since attach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name.
    pub program: String,
    /// Times it ran.
    pub runs: u64,
    /// Nanoseconds it ran; 0 unless `kernel.bpf_stats_enabled` is set.
    pub run_ns: u64,
    /// Times the kernel skipped it because it was already running on that CPU.
    pub skipped: u64,
}

impl Hub {
    /// A hub with an empty recorder.
    pub fn new(bounds: Bounds) -> Self {
        Hub { demand: Arc::default(), recent: Mutex::new(Recent::new(bounds)), pulse: Mutex::default() }
    }

    /// Sums and sizes as of a moment ago.
    pub fn pulse(&self) -> Arc<Pulse> {
        lock(&self.pulse).clone()
    }

    /// Who wants CPU samples more often.
    pub fn demand(&self) -> &Arc<Demand> {
        &self.demand
    }

    /// Up to which instant records are in.
    pub fn recorded_until_ns(&self) -> u64 {
        lock(&self.recent).until_ns()
    }

    /// How long the recorder keeps records, at most.
    pub fn keep_ns(&self) -> u64 {
        lock(&self.recent).keep_ns()
    }

    /// What a window's answer is folded from. Holds the recorder for the copy of one open chunk at most.
    pub fn excerpt(&self, window: &Window) -> Excerpt {
        lock(&self.recent).excerpt(window)
    }
}

/// A panic elsewhere must not take the recorder with it: its data are plain and stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Folds an excerpt into the answer for a window.
pub fn answer(excerpt: &Excerpt, window: Window) -> Snapshot {
    let mut state = State::new(window, Limits::WINDOW);
    for chunk in excerpt.chunks() {
        match chunk {
            Some(records) => step_all(&mut state, &records),
            None => state.loss.evict("recorder_chunks", 1),
        }
    }
    // Records reach the recorder a little after they happen: what is not in yet is not covered.
    state.finish(window.until_ns.min(excerpt.until_ns.max(window.from_ns)))
}

/// Folds everything a source gives.
///
/// # Errors
/// What the source gives.
pub fn fold_all(source: &mut dyn Source, state: &mut State) -> Result<(), CaptureError> {
    let mut batch = Vec::new();
    loop {
        batch.clear();
        let progress = source.read(&mut batch)?;
        step_all(state, &batch);
        if progress == Progress::End {
            return Ok(());
        }
    }
}

/// Takes in whole records; stops at bytes that are none.
fn step_all(state: &mut State, mut records: &[u8]) {
    while let Ok(header) = decode::header(records) {
        let (record, rest) = records.split_at(header.len_bytes as usize);
        state.step(record);
        records = rest;
    }
    if !records.is_empty() {
        state.loss.garbled += 1;
    }
}

/// The live side of the loop: what one batch does.
pub struct Live<'a> {
    hub: &'a Hub,
    state: State,
    /// What the recorder's open chunk has been told.
    retell: Retell,
    pulse_due_ns: u64,
    told_ready: bool,
}

impl<'a> Live<'a> {
    /// Feeds `hub`.
    pub fn new(hub: &'a Hub) -> Self {
        Live {
            hub,
            state: State::new(Window::ALL, Limits::LIVE),
            retell: Retell::default(),
            pulse_due_ns: 0,
            told_ready: false,
        }
    }

    /// Takes in a batch of whole records that were released up to `now_ns`. `kernel` is asked when the pulse
    /// is due.
    pub fn take(&mut self, now_ns: u64, records: &[u8], kernel: impl FnOnce() -> KernelPulse) {
        step_all(&mut self.state, records);
        let whole = self.retell.complete(&self.state, records, now_ns);
        let evicted = {
            let mut recent = lock(&self.hub.recent);
            for piece in &whole.pieces {
                recent.push(piece, 0, now_ns);
            }
            recent.push(&whole.behind, whole.count, now_ns);
            if recent.wants_keyframe(now_ns) {
                self.retell = Retell::default();
                recent.begin_chunk(now_ns, &keyframe(&self.state, now_ns));
            }
            recent.take_evicted()
        };
        self.state.loss.recorder_evicted_records += evicted.evicted_records;
        self.state.loss.recorder_evicted_bytes += evicted.evicted_bytes;
        // The moment the scan is in is not left to the next renewal: whoever waits for readiness waits for it.
        let just_ready = self.state.scanned && !self.told_ready;
        if now_ns >= self.pulse_due_ns || just_ready {
            self.told_ready = self.state.scanned;
            self.pulse_due_ns = now_ns + PULSE_NS;
            self.state.settle(now_ns);
            *lock(&self.hub.pulse) = Arc::new(self.pulse(now_ns, kernel()));
        }
    }

    /// The state so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn pulse(&self, now_ns: u64, kernel: KernelPulse) -> Pulse {
        let state = &self.state;
        Pulse {
            now_ns,
            ready: state.scanned,
            probes: state.probes.values().cloned().collect(),
            node: state.node.clone().unwrap_or_default(),
            totals: state.totals.clone(),
            cni_in_flight: in_flight(state),
            symbols: state.symbols.loss,
            loss: state.loss.clone(),
            tables: state.table_sizes(),
            recorder: lock(&self.hub.recent).size(),
            kernel,
        }
    }
}

/// CNI calls in flight. A plugin that was in flight once stays, with 0, so that its series does not break off.
fn in_flight(state: &State) -> BTreeMap<(Arc<str>, Arc<str>), u64> {
    let ended = state.totals.cni.calls.rows();
    let mut rows: BTreeMap<(Arc<str>, Arc<str>), u64> =
        ended.map(|(command, plugin, _)| ((command.into(), plugin.into()), 0)).collect();
    for call in state.cni.live() {
        *rows.entry((call.command_label().into(), call.plugin.clone())).or_default() += 1;
    }
    rows
}

/// Records that rebuild who and what a state knows: the beginning of a chunk or of a tape. Stacks are told where they
/// are used.
pub fn keyframe(state: &State, now_ns: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut tell = |ktime_ns: u64, fact: &Fact| fact::encode(ktime_ns, fact, &mut out);
    if let Some(wall_unix_ns) = state.clock.wall_unix_ns(now_ns) {
        tell(now_ns, &Fact::Clock { wall_unix_ns });
    }
    if let Some(node) = &state.node {
        tell(now_ns, &Fact::Node(node.clone()));
    }
    for probe in state.probes.values() {
        tell(now_ns, &Fact::Probe(probe.clone()));
    }
    for (id, name) in &state.genl {
        tell(now_ns, &Fact::GenlFamily { id: *id, name: name.clone() });
    }
    for (uid, pod) in state.pod_names.iter() {
        let (uid, namespace, name) = (uid.to_string(), pod.namespace.to_string(), pod.name.to_string());
        tell(now_ns, &Fact::PodName { uid, namespace, name });
    }
    for (id, name) in state.container_names.iter() {
        tell(now_ns, &Fact::Container { id: id.to_string(), name: name.to_string(), pod: None });
    }
    for (id, cgroup) in state.cgroups.living() {
        tell(now_ns, &Fact::Cgroup { id, hierarchy: 0, path: cgroup.path.as_str().into() });
    }
    for process in state.processes.iter() {
        tell(now_ns, &Fact::Process(Box::new(process_fact(state, process))));
    }
    out
}

fn process_fact(state: &State, process: &crate::enrich::processes::Process) -> fact::Process {
    let known = |id: ProcId| fact::ProcessId { tgid: id.tgid, start_ns: id.start_ns };
    let cni = process.cni.as_deref().filter(|_| !process.gone).map(|work| {
        let environment = work.environment.clone();
        Box::new(fact::CniWork { call: known(work.call), parent: work.parent.map(known), environment })
    });
    fact::Process {
        tgid: process.id.tgid,
        start_ns: process.id.start_ns,
        start_exact: process.exact,
        ppid: process.scanned_ppid,
        spawner: process.spawner.map(known),
        cni,
        spawned_ns: process.spawned_ns,
        begun_ns: process.begun_ns,
        exec_ns: process.exec_ns,
        comm: (&*process.comm).into(),
        path: (&*process.path).into(),
        argv: (&*process.argv).into(),
        argv_cut: process.argv_cut,
        class_only: process.class_only,
        script: process.script,
        cgroup_id: state.cgroups.id(process.cgroup_id),
        inner_pid: process.inner_pid,
        uid: process.uid,
        namespaces: process.namespaces,
        exited: process.gone.then_some(fact::Exited { exit_ns: 0, status: 0 }),
        ..fact::Process::default()
    }
}
