//! Facts and cgroups, taken into the state.

use super::State;
use super::grow::Grow;
use crate::decode::{self, Fact};
use crate::enrich::argv_class::{CommandLine, argv_class};
use crate::enrich::{ProcId, cni::CniWork, processes::Process, text};
use slowpod_ebpf::abi::{self, cgroup::CgroupMove, exec};

pub use crate::decode::fact::{Node, Probe};

/// Longest text of a generic netlink family's name (`GENL_NAMSIZ` is 16), with every byte escaped.
const FAMILY_TEXT_BYTES: usize = 64;

pub(super) fn apply(state: &mut State, now_ns: u64, fact: Fact) {
    let in_window = state.window.holds(now_ns);
    match fact {
        Fact::Node(node) => state.node = Some(node),
        Fact::Clock { wall_unix_ns } => state.clock.anchor(now_ns, wall_unix_ns),
        Fact::Process(process) => state.scanned(now_ns, &process),
        Fact::Cgroup { id, hierarchy: _, path } => {
            state.cgroups.made(id, &path.0, 0);
            state.pod_cgroup_told(state.cgroups.key(id));
        }
        Fact::ScanDone { .. } => state.scanned = true,
        Fact::Probe(probe) => {
            state.probes.insert(probe.probe.clone(), probe);
        }
        Fact::Loss { kind, dropped, counted } if in_window => state.loss.lost(kind, dropped, counted),
        Fact::Skipped { program: _, count } if in_window => state.loss.skipped.grow(count),
        Fact::Miss { reason, count } if in_window => state.loss.missed(reason, count),
        Fact::Capture(capture) if in_window => {
            state.loss.late.grow(capture.late);
            state.loss.garbled.grow(capture.garbled);
            state.loss.recorder_evicted_records.grow(capture.evicted_records);
            state.loss.recorder_evicted_bytes.grow(capture.evicted_bytes);
        }
        Fact::Throttled(throttled) if in_window => state.throttled(&throttled),
        Fact::CpuPressure { some_ns } if in_window => {
            state.sched.pressure_ns.get_or_insert(0).grow(some_ns);
            state.totals.run_queue.pressure_ns.grow(some_ns);
        }
        Fact::Loss { .. }
        | Fact::Skipped { .. }
        | Fact::Miss { .. }
        | Fact::Capture(_)
        | Fact::Throttled(_)
        | Fact::CpuPressure { .. } => {}
        Fact::GenlFamily { id, name } => {
            state.genl.insert(id, text::safe(name.as_bytes(), FAMILY_TEXT_BYTES).into_owned());
        }
        Fact::PodName { uid, namespace, name } => state.pod_names.told(&uid, &namespace, &name),
        Fact::Container { id, name, pod } => {
            state.container_names.told(&id, &name);
            if let Some(pod) = pod {
                state.pod_names.told(&pod.uid, &pod.namespace, &pod.name);
            }
        }
        Fact::Pressure(reading) => state.pressure.add(now_ns, reading),
        Fact::Gone { tgid, start_ns } => state.gone(now_ns, ProcId { tgid, start_ns }),
        Fact::Symbols(symbols) => state.symbols(&symbols),
    }
}

impl State {
    fn symbols(&mut self, fact: &decode::fact::symbols::Symbols) {
        let State { symbols, stacks, processes, .. } = self;
        symbols.take(fact, |stack, mapped_ns| {
            // A stack's addresses mean nothing in another program that its process executed.
            let Some(stack) = stacks.get(stack).filter(|stack| stack.fixed.user != 0) else { return false };
            let process = processes.get(ProcId::of(&stack.fixed.task));
            let exec_ns = process.map_or(0, |process| process.exec_ns);
            let seen_ns = stack.fixed.header.ktime_ns;
            exec_ns > seen_ns.min(mapped_ns) && exec_ns <= seen_ns.max(mapped_ns)
        });
    }

    fn scanned(&mut self, now_ns: u64, fact: &decode::fact::Process) {
        let id = ProcId { tgid: fact.tgid, start_ns: fact.start_ns };
        let task = abi::Task { tgid: fact.tgid, tid: fact.tgid, start_ns: fact.start_ns };
        // A record may have told of it before the scan came by; records know more.
        let known = self.processes.resolve(&task).is_some()
            || (!fact.start_exact
                && self.processes.lives_of(id.tgid).any(|p| p.exact && p.id.start_ns >= id.start_ns));
        if known {
            return;
        }
        let argv_class = argv_class(&CommandLine {
            path: &fact.path.0,
            argv: &fact.argv.0,
            comm: &fact.comm.0,
            flags: if fact.script { exec::FLAG_SCRIPT } else { 0 }
                | if fact.argv_cut { exec::FLAG_ARGV_CUT } else { 0 }
                | if fact.class_only { exec::FLAG_CLASS_ONLY } else { 0 },
        });
        self.processes.put(Process {
            id,
            exact: fact.start_exact,
            spawner: fact.spawner.map(|id| ProcId { tgid: id.tgid, start_ns: id.start_ns }),
            spawned_ns: fact.spawned_ns,
            begun_ns: fact.begun_ns,
            exec_ns: fact.exec_ns,
            comm: text::safe(&fact.comm.0, abi::COMM_BYTES * 4).into(),
            path: fact.path.0.as_slice().into(),
            argv: fact.argv.0.as_slice().into(),
            argv_class: argv_class.into(),
            argv_cut: fact.argv_cut,
            class_only: fact.class_only,
            script: fact.script,
            cgroup_id: self.cgroups.key(fact.cgroup_id),
            inner_pid: fact.inner_pid,
            scanned_ppid: fact.ppid,
            uid: fact.uid,
            namespaces: fact.namespaces,
            threads_made: 0,
            cni: fact.cni.as_deref().map(|work| cni_work(work).into()),
            gone: false,
        });
        if let Some(exited) = &fact.exited {
            let known = Some(exited.exit_ns).filter(|exit_ns| *exit_ns > 0);
            self.processes.end(id, known.unwrap_or(now_ns));
        } else if let Some(environment) = &fact.cni_environment {
            self.cni_scanned(id, environment, now_ns);
        } else {
            self.cni_told(id, now_ns);
        }
    }

    pub(super) fn gone(&mut self, now_ns: u64, id: ProcId) {
        self.cni_lost(id, now_ns);
        self.pods.process_lost(id);
        if let Some(child) = self.children.remove(&id) {
            self.loss.ends_swept += 1;
            self.uncollected.forget(id);
            if let Some(process) = self.processes.get(id)
                && let Some(daemon) = child.daemon.as_ref().and_then(|key| self.daemons.get_mut(key))
            {
                let class = super::life::class_of(process, child.timing.worker);
                let nameless = process.exec_ns == 0 && !child.timing.worker;
                daemon.series.lost(id, &child.timing, &class, nameless);
            }
        }
        self.processes.end(id, now_ns);
    }

    pub(super) fn cgroup(&mut self, cgroup: &decode::Cgroup<'_>) {
        let fixed = &cgroup.fixed;
        if fixed.path_cut != 0 && self.window.holds(fixed.header.ktime_ns) {
            self.loss.path_cut += 1;
        }
        if fixed.made != 0 {
            self.cgroups.made(fixed.id, cgroup.path, fixed.header.ktime_ns);
            self.pod_cgroup_made(self.cgroups.key(fixed.id), fixed.header.ktime_ns);
        } else {
            self.pod_cgroup_gone(self.cgroups.key(fixed.id), fixed.header.ktime_ns);
            self.cgroups.gone(fixed.id, fixed.header.ktime_ns);
        }
    }

    pub(super) fn cgroup_move(&mut self, moved: &CgroupMove) {
        if let Some(id) = self.processes.resolve(&moved.task)
            && let Some(process) = self.processes.get_mut(id)
        {
            process.cgroup_id = self.cgroups.key(moved.cgroup_id);
        }
    }
}

fn cni_work(work: &decode::fact::CniWork) -> CniWork {
    let id = |id: decode::fact::ProcessId| ProcId { tgid: id.tgid, start_ns: id.start_ns };
    CniWork::new(id(work.call), work.parent.map(id), work.environment.clone())
}
