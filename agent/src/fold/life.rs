//! Lives of processes: spawned, became a program, ended, collected. In: those records. Out: the process
//! table kept true, and each spawn credited to its daemon's sync loop.

use super::class::ClassStats;
use super::daemons::{self, DaemonKey};
use super::failed::FailedKey;
use super::grow::Grow;
use super::netlink::NetlinkTable;
use super::uncollected::{Collected, EndedChild};
use super::{State, loops};
use crate::decode;
use crate::enrich::{
    ProcId,
    argv_class::{CommandLine, argv_class},
    processes::Process,
    text,
};
use slowpod_ebpf::abi::{self, exec, exit::Exit, flood, reap::Reap, spawn, spawn::Spawn};
use std::sync::Arc;

/// Longest path kept as text, in bytes.
const PATH_TEXT_BYTES: usize = 256;
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
    /// What it sent over netlink so far.
    pub netlink: NetlinkTable,
}

impl Child {
    /// A child that has done nothing yet.
    fn new(timing: loops::Child, daemon: Option<DaemonKey>) -> Self {
        Child { timing, daemon, tree_spawns: 0, tree_on_cpu_ns: 0, netlink: NetlinkTable::default() }
    }

    /// Adds what is known of it beside its end to its class.
    fn add_to(&self, stats: &mut ClassStats) {
        stats.tree_spawns.grow(self.tree_spawns);
        stats.tree_on_cpu_ns.grow(self.tree_on_cpu_ns);
        stats.netlink.merge(&self.netlink);
    }
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
    /// What it sent over netlink.
    pub netlink: NetlinkTable,
}

/// Argv class of a process for the rows of a loop: a child that never called exec says so, and whether it
/// spawned others in its parent's stead.
pub fn class_of(process: &Process, worker: bool) -> Arc<str> {
    if process.spawner.is_none() || process.exec_ns > 0 {
        return process.argv_class.clone();
    }
    format!("{} ({})", process.comm, if worker { "worker" } else { "no exec" }).into()
}

impl State {
    pub(super) fn spawn(&mut self, spawn: &Spawn) {
        let now_ns = spawn.header.ktime_ns;
        let in_window = self.window.holds(now_ns);
        let spawner = self.known_or_stub(now_ns, &spawn.spawner, &spawn.comm, spawn.cgroup_id);
        if spawn.flags & spawn::FLAG_THREAD != 0 {
            self.counts.threads_made.grow(u64::from(in_window));
            if let Some(process) = self.processes.get_mut(spawner) {
                process.threads_made += 1;
            }
            return;
        }
        self.stacks.used(spawn.user_stack);
        self.stacks.used(spawn.kernel_stack);
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
            cgroup_id: self.cgroups.key(spawn.cgroup_id),
            inner_pid: spawn.inner_pid,
            gone: false,
            ..parent.clone()
        };
        let (id, forked) = (child.id, parent.exec_ns == 0);
        self.processes.put(child);
        self.counts.spawned.grow(u64::from(in_window));
        if self.processes.get(id).is_none() {
            return;
        }
        self.cni_spawned(id);
        // Before its first child is credited: that child must not find the loop held open by it.
        if forked {
            self.found_worker(spawner);
        }
        let mut timing =
            loops::Child { begun_ns, spawned_ns: now_ns, user_stack: spawn.user_stack, ..Default::default() };
        let covered_from_ns = self.covered.0;
        let daemon = self.daemons.of(&self.processes, spawner, now_ns).map(|(key, daemon)| {
            daemon.series.spawn(id, &mut timing, covered_from_ns);
            key
        });
        self.children.insert(id, Child::new(timing, daemon));
        self.uncollected.spawned((spawn.spawner.tgid, spawn.inner_pid), id);
    }

    /// A child spawns without having called exec itself: it is a worker of its daemon.
    fn found_worker(&mut self, id: ProcId) {
        let Some(worker) = self.children.get_mut(&id).filter(|child| !child.timing.worker) else { return };
        worker.timing.worker = true;
        if let Some(daemon) = worker.daemon.as_ref().and_then(|key| self.daemons.get_mut(key)) {
            daemon.series.is_worker(id, &worker.timing);
        }
    }

    pub(super) fn exec(&mut self, exec: &decode::Exec<'_>) {
        let fixed = &exec.fixed;
        let now_ns = fixed.header.ktime_ns;
        let id = self.known_or_stub(now_ns, &fixed.task, &fixed.comm, fixed.cgroup_id);
        let argv_cut = fixed.flags & exec::FLAG_ARGV_CUT != 0;
        if self.window.holds(now_ns) {
            self.counts.execs += 1;
            self.loss.argv_cut.grow(u64::from(argv_cut));
            self.loss.path_cut.grow(u64::from(fixed.flags & exec::FLAG_PATH_CUT != 0));
        }
        let Some(process) = self.processes.get_mut(id) else { return };
        process.exec_ns = now_ns;
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
        process.class_only = fixed.flags & exec::FLAG_CLASS_ONLY != 0;
        process.script = fixed.flags & exec::FLAG_SCRIPT != 0;
        process.cgroup_id = self.cgroups.key(fixed.cgroup_id);
        process.uid = fixed.uid;
        process.namespaces = exec.namespaces();
        self.pod_exec(id, now_ns);
    }

    pub(super) fn exec_fail(&mut self, fail: &decode::ExecFail<'_>) {
        let fixed = &fail.fixed;
        let id = self.known_or_stub(fixed.header.ktime_ns, &fixed.task, &fixed.comm, fixed.cgroup_id);
        let daemon = daemons::key_of(&self.processes, id);
        if !self.window.holds(fixed.header.ktime_ns) {
            return;
        }
        self.counts.exec_fails += 1;
        self.loss.path_cut.grow(u64::from(fixed.flags & exec::FLAG_PATH_CUT != 0));
        let name = daemon.as_ref().and_then(|key| self.daemon_label(key));
        let name = name.unwrap_or_else(|| "unknown".into());
        *self.totals.exec_fails.row(&name, &decode::errno::errno_name(fixed.errno).into()) += 1;
        let path = text::safe(fail.path, PATH_TEXT_BYTES).into();
        self.failed.add(FailedKey { daemon, path, errno: fixed.errno });
    }

    pub(super) fn exit(&mut self, exit: &Exit) {
        let now_ns = exit.header.ktime_ns;
        if exit.flags & abi::exit::FLAG_EARLY != 0 {
            return self.early_exit(exit);
        }
        let id = self.known_or_stub(now_ns, &exit.task, &exit.comm, exit.cgroup_id);
        let in_window = self.window.holds(now_ns);
        let mut child = self.children.remove(&id).unwrap_or_else(|| self.late_child(id, exit));
        let Some(process) = self.processes.get_mut(id) else { return };
        process.cgroup_id = self.cgroups.key(exit.cgroup_id);
        if process.exec_ns == 0 && exit.exec_ns > 0 {
            process.missed_exec(exit);
        }
        let process = process.clone();
        let class = class_of(&process, child.timing.worker);
        self.end_child(id, &child, &class, exit);
        self.credit_tree(&process, exit);
        self.cni_ended(&process, &class, exit);
        self.pods.process_ended(id, exit);
        if in_window {
            if let Some(spawner) = process.spawner.filter(|_| !child.timing.worker) {
                self.spawned_ended(spawner, &child, &class, exit);
            }
            self.counts.ended += 1;
            self.loss.split_partial.grow(u64::from(exit.flags & abi::exit::FLAG_SPLIT_PARTIAL != 0));
            self.total_spawn(child.daemon.as_ref(), &class, exit);
            let netlink = std::mem::take(&mut child.netlink);
            self.ended.push_back(Ended { process, exit: *exit, daemon: child.daemon, netlink });
            if self.ended.len() > self.limits.ended_max {
                self.ended.pop_front();
                self.loss.evict("ended_processes", 1);
            }
        }
        self.processes.end(id, exit.header.ktime_ns);
    }

    pub(super) fn reap(&mut self, reap: &Reap) {
        let pids = (reap.parent.tgid, reap.child_inner_pid);
        match self.uncollected.collected(pids, reap) {
            Collected::Ended(child) => {
                if let Some(daemon) = self.daemons.get_mut(&child.daemon) {
                    daemon.series.reap(&child.timing, &child.class, child.ended_ns, reap);
                }
                self.spawned_collected(&child, reap);
            }
            // Whether or not the exit still comes, the child is dead and holds its loop no longer.
            Collected::Early(id) => {
                if let Some(child) = self.children.get(&id)
                    && let Some(daemon) = child.daemon.as_ref().and_then(|key| self.daemons.get_mut(key))
                {
                    daemon.series.died(id, &child.timing, reap.header.ktime_ns);
                }
            }
            Collected::Unknown => {}
        }
    }

    pub(super) fn flood(&mut self, flood: &flood::Flood) {
        let now_ns = flood.header.ktime_ns;
        let spawner = self.known_or_stub(now_ns, &flood.key.spawner, &flood.comm, flood.cgroup_id);
        let binary = text::until_nul(&flood.key.binary);
        let class: Arc<str> = text::safe(binary, 4 * flood::BINARY_BYTES).into();
        self.cni_counted(spawner, &class, flood.count.spawns);
        let covered_from_ns = self.covered.0;
        let Some((_, daemon)) = self.daemons.of(&self.processes, spawner, now_ns) else { return };
        daemon.series.flood(&class, &flood.count, covered_from_ns);
        let name = daemon.name.clone();
        if self.window.holds(now_ns) {
            self.spawned_counted(spawner, &class, &flood.count);
            self.counts.counted.grow(flood.count.spawns);
            let row = self.totals.spawns.row(&name, &class);
            row.spawns.grow(flood.count.spawns.saturating_add(flood.count.lost_ends));
            row.failed.grow(flood.count.failed);
            row.wall_ns.grow(flood.count.wall_ns);
            row.split.on_cpu_ns.grow(flood.count.on_cpu_ns);
            row.split.runnable_ns.grow(flood.count.runnable_ns);
        }
    }

    /// The process of a task; a stub for one that neither the scan nor a spawn told of.
    pub(super) fn known_or_stub(
        &mut self,
        now_ns: u64,
        task: &abi::Task,
        comm: &[u8; abi::COMM_BYTES],
        cgroup_id: u64,
    ) -> ProcId {
        if let Some(id) = self.processes.resolve(task) {
            return id;
        }
        self.loss.unattributed.grow(u64::from(self.window.holds(now_ns)));
        let id = ProcId::of(task);
        let comm: Arc<str> = text::comm(comm).into();
        let (argv_class, cgroup_id) = (comm.clone(), self.cgroups.key(cgroup_id));
        self.processes.put(Process { id, exact: true, comm, argv_class, cgroup_id, ..Process::default() });
        id
    }

    /// Name of a daemon: as it was last seen spawning, else what its key says. `None` when nothing does.
    pub fn daemon_label(&self, key: &DaemonKey) -> Option<Arc<str>> {
        let spawning = self.daemons.get(key).map(|daemon| daemon.name.clone());
        let class = || (!key.argv_class.is_empty()).then(|| key.argv_class.clone());
        spawning.or_else(class).or_else(|| self.processes.get(key.root).map(|p| p.argv_class.clone()))
    }

    /// A child whose spawn was before the answer's first record, or was lost: its exit tells enough. One
    /// that lived long, or whose spawner is not known, belongs to no loop.
    fn late_child(&mut self, id: ProcId, exit: &Exit) -> Child {
        let spawner = self.processes.resolve(&exit.spawner);
        let mut timing = loops::Child {
            begun_ns: exit.spawned_ns,
            spawned_ns: exit.spawned_ns,
            loop_number: u64::MAX,
            ..Default::default()
        };
        if let Some(process) = self.processes.get_mut(id) {
            if process.spawner.is_none() {
                (process.spawner, process.spawned_ns, process.exec_ns) =
                    (spawner, exit.spawned_ns, exit.exec_ns);
            }
            if process.begun_ns > 0 {
                timing.begun_ns = process.begun_ns;
            }
        }
        let short = exit.header.ktime_ns.saturating_sub(exit.spawned_ns) < loops::CHILD_HOLD_NS;
        let now_ns = exit.header.ktime_ns;
        let Some(spawner) = spawner.filter(|_| exit.spawned_ns > 0) else { return Child::new(timing, None) };
        if !short {
            return Child::new(timing, daemons::key_of(&self.processes, spawner));
        }
        let covered_from_ns = self.covered.0;
        let daemon = self.daemons.of(&self.processes, spawner, now_ns).map(|(key, daemon)| {
            daemon.series.spawn(id, &mut timing, covered_from_ns);
            key
        });
        Child::new(timing, daemon)
    }

    fn end_child(&mut self, id: ProcId, child: &Child, class: &Arc<str>, exit: &Exit) {
        let Some(key) = &child.daemon else { return };
        let Some(daemon) = self.daemons.get_mut(key) else { return };
        let ended_ns = exit.header.ktime_ns;
        daemon.last_ns = daemon.last_ns.max(ended_ns);
        if let Some(stats) = daemon.series.exit(id, &child.timing, class, exit) {
            child.add_to(stats);
        }
        let process = self.processes.get(id);
        let inner = process.map_or(exit.task.tgid, |process| process.inner_pid);
        let spawner = process.and_then(|process| process.spawner);
        let pids = (exit.spawner.tgid, inner);
        let (timing, daemon_key, own_class) = (child.timing, key.clone(), class.clone());
        let ended = EndedChild { timing, spawner, daemon: daemon_key, class: own_class, ended_ns };
        if let Some(reap) = self.uncollected.ended(pids, ended) {
            daemon.series.reap(&child.timing, class, ended_ns, &reap);
        }
    }

    /// Children still alive at the end of the answer count as running. So do those that only a keyframe told
    /// of, though no loop of theirs is known.
    pub(super) fn count_running(&mut self, until_ns: u64) {
        for process in self.processes.iter().filter(|process| !process.gone) {
            if let Some(spawner) = process.spawner
                && !self.children.contains_key(&process.id)
            {
                let timing = loops::Child {
                    begun_ns: process.begun_ns,
                    spawned_ns: process.spawned_ns,
                    loop_number: u64::MAX,
                    ..Default::default()
                };
                let daemon = daemons::key_of(&self.processes, spawner);
                self.children.insert(process.id, Child::new(timing, daemon));
            }
        }
        for (id, child) in self.children.iter().filter(|(_, child)| !child.timing.worker) {
            if let Some(process) = self.processes.get(*id) {
                let class = class_of(process, false);
                self.spawned.running(process, &child.timing, &class, &self.window, until_ns);
            }
        }
        for (id, child) in &self.children {
            if let Some(process) = self.processes.get(*id)
                && let Some(daemon) = child.daemon.as_ref().and_then(|key| self.daemons.get_mut(key))
                && let Some(stats) =
                    daemon.series.running(&child.timing, &class_of(process, child.timing.worker), until_ns)
            {
                child.add_to(stats);
            }
        }
    }

    /// Credits an ended process to its ancestors that are spawns themselves.
    fn credit_tree(&mut self, process: &Process, exit: &Exit) {
        let mut ancestor = process.spawner;
        for _ in 0..TREE_DEPTH_MAX {
            let Some(id) = ancestor else { return };
            // One in between may have ended before: those above it are ancestors all the same.
            if let Some(child) = self.children.get_mut(&id) {
                child.tree_spawns += 1;
                child.tree_on_cpu_ns.grow(exit.threads.on_cpu_ns);
            }
            ancestor = self.processes.get(id).and_then(|p| p.spawner);
        }
    }

    fn total_spawn(&mut self, daemon: Option<&DaemonKey>, class: &Arc<str>, exit: &Exit) {
        let name = daemon
            .and_then(|key| self.daemons.get(key))
            .map_or_else(|| "unknown".into(), |daemon| daemon.name.clone());
        let row = self.totals.spawns.row(&name, class);
        row.spawns.grow(1);
        row.failed.grow(u64::from(exit.status != 0));
        row.wall_ns.grow(exit.header.ktime_ns.saturating_sub(exit.spawned_ns));
        row.split.add(&exit.threads);
    }
}
