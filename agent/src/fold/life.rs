//! Lives of processes: spawned, became a program, ended, collected. In: those records. Out: the process
//! table kept true, and each spawn credited to its daemon's sync loop.

use super::daemons::{self, DaemonKey};
use super::failed::FailedKey;
use super::loops;
use super::{Sender, State};
use crate::decode;
use crate::enrich::{
    ProcId,
    argv_class::{CommandLine, argv_class},
    processes::Process,
    text,
};
use slowpod_ebpf::abi::{self, exec, exit::Exit, flood, reap::Reap, spawn, spawn::Spawn};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Longest path kept as text, in bytes.
const PATH_TEXT_BYTES: usize = 256;
/// Ended children remembered until their parent collects them.
const UNCOLLECTED_MAX: usize = 4_096;
/// How far up the tree a descendant's time is credited.
const TREE_DEPTH_MAX: usize = 16;

/// A process that was spawned under watch and has not ended.
#[derive(Clone, Debug)]
pub struct Child {
    /// Its times and spawner stack.
    pub timing: loops::Child,
    /// Its daemon; `None` when the spawner is not known.
    pub daemon: Option<DaemonKey>,
    /// Descendants that ended so far,
    pub tree_spawns: u64,
    /// and their time on a CPU.
    pub tree_on_cpu_ns: u64,
}

/// A process that ended in the window.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Who it was, as last known.
    pub process: Process,
    /// How it ended and where its time went.
    pub exit: Exit,
    /// Its daemon.
    pub daemon: Option<DaemonKey>,
}

/// Children that ended and were not yet collected, and collections that came before the end was seen (the
/// two happen on different CPUs), by (spawner's pid, the child's pid as the spawner sees it).
#[derive(Clone, Debug, Default)]
pub struct Uncollected {
    alive: BTreeMap<(u32, u32), ProcId>,
    ended: BTreeMap<(u32, u32), (loops::Child, DaemonKey, Arc<str>, u64)>,
    early: BTreeMap<(u32, u32), Reap>,
    order: VecDeque<(u32, u32)>,
}

/// Argv class of a process for the rows of a loop: a child that never called exec says so.
pub fn class_of(process: &Process) -> Arc<str> {
    if process.spawner.is_some() && process.exec_ns == 0 {
        format!("{} (no exec)", process.comm).into()
    } else {
        process.argv_class.clone()
    }
}

impl State {
    pub(super) fn spawn(&mut self, spawn: &Spawn) {
        let now_ns = spawn.header.ktime_ns;
        let spawner = self.known_or_stub(&spawn.spawner, &spawn.comm, spawn.cgroup_id);
        if spawn.flags & spawn::FLAG_THREAD != 0 {
            if let Some(process) = self.processes.get_mut(spawner) {
                process.threads_made += 1;
            }
            return;
        }
        let Some(parent) = self.processes.get(spawner) else { return };
        let begun_ns = if spawn.begun_ns > 0 { spawn.begun_ns.min(now_ns) } else { now_ns };
        let child = Process {
            id: ProcId::of(&spawn.child),
            exact: true,
            spawner: Some(spawner),
            spawned_ns: now_ns,
            begun_ns,
            exec_ns: 0,
            threads_made: 0,
            scanned_ppid: 0,
            cgroup_id: spawn.cgroup_id,
            inner_pid: spawn.inner_pid,
            ..parent.clone()
        };
        let id = child.id;
        self.processes.put(child);
        let timing =
            loops::Child { begun_ns, spawned_ns: now_ns, user_stack: spawn.user_stack, worker: false };
        let covered_from_ns = self.covered.0;
        let daemon = self.daemons.of(&self.processes, spawner, now_ns).map(|(key, daemon)| {
            daemon.series.spawn(id, &timing, covered_from_ns);
            key
        });
        // The spawner spawns without having called exec itself: it is a worker.
        if let Some(worker) = self.children.get_mut(&spawner)
            && self.processes.get(spawner).is_some_and(|p| p.exec_ns == 0)
        {
            worker.timing.worker = true;
        }
        self.children.insert(id, Child { timing, daemon, tree_spawns: 0, tree_on_cpu_ns: 0 });
        self.uncollected.spawned((spawn.spawner.tgid, spawn.inner_pid), id);
    }

    pub(super) fn exec(&mut self, exec: &decode::Exec<'_>) {
        let fixed = &exec.fixed;
        let id = self.known_or_stub(&fixed.task, &fixed.comm, fixed.cgroup_id);
        let script = fixed.flags & exec::FLAG_SCRIPT != 0;
        let argv_cut = fixed.flags & exec::FLAG_ARGV_CUT != 0;
        if self.window.holds(fixed.header.ktime_ns) {
            self.loss.argv_cut += u64::from(argv_cut);
            self.loss.path_cut += u64::from(fixed.flags & exec::FLAG_PATH_CUT != 0);
        }
        let Some(process) = self.processes.get_mut(id) else { return };
        process.exec_ns = fixed.header.ktime_ns;
        process.comm = text::comm(&fixed.comm).into();
        process.path = exec.path.into();
        process.argv = exec.argv.into();
        process.argv_class = argv_class(&CommandLine {
            path: exec.path,
            argv: exec.argv,
            comm: &fixed.comm,
            flags: fixed.flags,
        })
        .into();
        process.argv_cut = argv_cut;
        process.script = script;
        process.cgroup_id = fixed.cgroup_id;
        process.uid = fixed.uid;
    }

    pub(super) fn exec_fail(&mut self, fail: &decode::ExecFail<'_>) {
        let now_ns = fail.fixed.header.ktime_ns;
        let id = self.known_or_stub(&fail.fixed.task, &fail.fixed.comm, fail.fixed.cgroup_id);
        let daemon = daemons::key_of(&self.processes, id);
        if !self.window.holds(now_ns) {
            return;
        }
        let name = daemon.as_ref().map_or_else(|| "unknown".into(), |key| self.daemon_name(key, id));
        let errno = decode::errno::errno_name(fail.fixed.errno);
        *self.totals.exec_fails.row(&name, &errno.into()) += 1;
        let path = text::safe(fail.path, PATH_TEXT_BYTES).into();
        self.failed.add(FailedKey { daemon, path, errno: fail.fixed.errno });
    }

    pub(super) fn exit(&mut self, exit: &Exit) {
        let now_ns = exit.header.ktime_ns;
        let id = self.known_or_stub(&exit.task, &exit.comm, exit.cgroup_id);
        let in_window = self.window.holds(now_ns);
        if in_window {
            self.loss.split_partial += u64::from(exit.flags & abi::exit::FLAG_SPLIT_PARTIAL != 0);
        }
        let child = self.children.remove(&id).or_else(|| self.late_child(exit));
        let Some(process) = self.processes.get_mut(id) else { return };
        process.cgroup_id = exit.cgroup_id;
        let process = process.clone();
        let class = class_of(&process);
        let daemon = child.as_ref().and_then(|child| child.daemon.clone());
        if let Some(child) = &child
            && let Some(key) = &daemon
        {
            self.end_child(id, child, key, &class, exit);
        }
        self.credit_tree(&process, exit);
        if in_window {
            self.total_spawn(daemon.as_ref(), &class, exit);
            self.ended.push_back(Ended { process, exit: *exit, daemon });
            if self.ended.len() > self.limits.ended_max {
                self.ended.pop_front();
                self.loss.evict("ended_processes", 1);
            }
        }
        self.processes.end(id);
    }

    pub(super) fn reap(&mut self, reap: &Reap) {
        let pids = (reap.parent.tgid, reap.child_inner_pid);
        if let Some((child, key, class, ended_ns)) = self.uncollected.collected(pids, reap)
            && let Some(daemon) = self.daemons.get_mut(&key)
        {
            daemon.series.reap(&child, &class, ended_ns, reap);
        }
    }

    pub(super) fn flood(&mut self, flood: &flood::Flood) {
        let spawner = self.known_or_stub(&flood.key.spawner, &flood.comm, flood.cgroup_id);
        let binary = text::safe(cstr(&flood.key.binary), flood::BINARY_BYTES).into_owned();
        let class: Arc<str> = binary.into();
        let now_ns = flood.header.ktime_ns;
        let covered_from_ns = self.covered.0;
        let Some((_, daemon)) = self.daemons.of(&self.processes, spawner, now_ns) else { return };
        daemon.series.flood(&class, &flood.count, covered_from_ns);
        let name = daemon.name.clone();
        if self.window.holds(now_ns) {
            let row = self.totals.spawns.row(&name, &class);
            row.spawns += flood.count.spawns;
            row.failed += flood.count.failed;
            row.wall_ns += flood.count.wall_ns;
            row.split.on_cpu_ns += flood.count.on_cpu_ns;
            row.split.runnable_ns += flood.count.runnable_ns;
        }
    }

    /// The sender a thread's netlink traffic is summed under.
    pub(super) fn sender(&self, id: ProcId) -> Sender {
        let child = self.children.get(&id).and_then(|child| child.daemon.clone());
        match (child, self.processes.get(id)) {
            (Some(daemon), Some(process)) => Sender::Children(daemon, class_of(process)),
            _ => Sender::Process(id),
        }
    }

    /// The process of a task; a stub for one that neither the scan nor a spawn told of.
    pub(super) fn known_or_stub(&mut self, task: &abi::Task, comm: &[u8], cgroup_id: u64) -> ProcId {
        if let Some(id) = self.processes.resolve(task) {
            return id;
        }
        self.loss.unattributed += 1;
        let id = ProcId::of(task);
        let comm: Arc<str> = text::safe(cstr(comm), abi::COMM_BYTES).into();
        let (path, argv) = (Arc::default(), Arc::default());
        let class = comm.clone();
        self.processes.put(Process {
            id,
            exact: true,
            comm,
            path,
            argv,
            argv_class: class,
            cgroup_id,
            ..Process::default()
        });
        id
    }

    /// Name of a daemon for labels: as it was last seen spawning, else the process's own class.
    pub(super) fn daemon_name(&self, key: &DaemonKey, id: ProcId) -> Arc<str> {
        let spawning = self.daemons.get(key).map(|daemon| daemon.name.clone());
        spawning.or_else(|| self.processes.get(id).map(|p| p.argv_class.clone())).unwrap_or_default()
    }

    /// A child whose spawn was before the answer's first record, or was lost: its exit tells enough.
    fn late_child(&mut self, exit: &Exit) -> Option<Child> {
        let held = exit.header.ktime_ns.saturating_sub(exit.spawned_ns) < loops::CHILD_HOLD_NS;
        if exit.spawned_ns == 0 || !held {
            return None;
        }
        let spawner = self.processes.resolve(&exit.spawner)?;
        let timing = loops::Child {
            begun_ns: exit.spawned_ns,
            spawned_ns: exit.spawned_ns,
            user_stack: 0,
            worker: false,
        };
        let covered_from_ns = self.covered.0;
        let id = ProcId::of(&exit.task);
        let (key, daemon) = self.daemons.of(&self.processes, spawner, exit.header.ktime_ns)?;
        daemon.series.spawn(id, &timing, covered_from_ns);
        Some(Child { timing, daemon: Some(key), tree_spawns: 0, tree_on_cpu_ns: 0 })
    }

    fn end_child(&mut self, id: ProcId, child: &Child, key: &DaemonKey, class: &Arc<str>, exit: &Exit) {
        let Some(daemon) = self.daemons.get_mut(key) else { return };
        daemon.last_ns = daemon.last_ns.max(exit.header.ktime_ns);
        if let Some(own) = daemon.series.exit(id, &child.timing, class, exit) {
            let stats = own.class(class);
            stats.tree_spawns += child.tree_spawns;
            stats.tree_on_cpu_ns += child.tree_on_cpu_ns;
        }
        let inner = self.processes.get(id).map_or(exit.task.tgid, |p| p.inner_pid);
        let pids = (exit.spawner.tgid, inner);
        let ended_ns = exit.header.ktime_ns;
        if let Some(reap) = self.uncollected.ended(pids, (child.timing, key.clone(), class.clone(), ended_ns))
        {
            daemon.series.reap(&child.timing, class, ended_ns, &reap);
        }
    }

    /// Credits an ended process to its ancestors that are spawns themselves.
    fn credit_tree(&mut self, process: &Process, exit: &Exit) {
        let mut ancestor = process.spawner;
        for _ in 0..TREE_DEPTH_MAX {
            let Some(id) = ancestor else { return };
            let Some(child) = self.children.get_mut(&id) else { return };
            child.tree_spawns += 1;
            child.tree_on_cpu_ns += exit.threads.on_cpu_ns;
            ancestor = self.processes.get(id).and_then(|p| p.spawner);
        }
    }

    fn total_spawn(&mut self, daemon: Option<&DaemonKey>, class: &Arc<str>, exit: &Exit) {
        let name = daemon
            .and_then(|key| self.daemons.get(key))
            .map_or_else(|| "unknown".into(), |daemon| daemon.name.clone());
        let row = self.totals.spawns.row(&name, class);
        row.spawns += 1;
        row.failed += u64::from(exit.status != 0);
        row.wall_ns += exit.header.ktime_ns.saturating_sub(exit.spawned_ns);
        row.split.add(&exit.threads);
    }
}

impl Uncollected {
    fn spawned(&mut self, pids: (u32, u32), id: ProcId) {
        self.alive.insert(pids, id);
        self.ended.remove(&pids);
        self.early.remove(&pids);
    }

    /// A child ended; the collection that was seen before it, if any.
    fn ended(&mut self, pids: (u32, u32), child: (loops::Child, DaemonKey, Arc<str>, u64)) -> Option<Reap> {
        self.alive.remove(&pids);
        if let Some(early) = self.early.remove(&pids) {
            return Some(early);
        }
        self.ended.insert(pids, child);
        self.order.push_back(pids);
        if self.order.len() > UNCOLLECTED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        None
    }

    /// A child turned out to be gone without an end.
    pub(super) fn forget(&mut self, id: ProcId) {
        self.alive.retain(|_, alive| *alive != id);
    }

    /// A child was collected; the child, when its end has been seen.
    fn collected(
        &mut self,
        pids: (u32, u32),
        reap: &Reap,
    ) -> Option<(loops::Child, DaemonKey, Arc<str>, u64)> {
        if let Some(ended) = self.ended.remove(&pids) {
            return Some(ended);
        }
        if self.alive.contains_key(&pids) {
            self.early.insert(pids, *reap);
        }
        None
    }
}

/// Bytes up to the first NUL.
fn cstr(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
