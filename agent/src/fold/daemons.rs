//! Who spawns. In: spawner processes. Out: the daemon each belongs to, and that daemon's loops.
//!
//! A daemon is not always one process: a script started anew by the same parent every minute is one daemon
//! with a series of loops, and a worker that was forked without exec is its parent's program.

use super::loops::Series;
use super::netlink::NetlinkTable;
use crate::enrich::processes::{PATH_TEXT_BYTES, Process, Processes};
use crate::enrich::{ProcId, text};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Daemons kept; the one idle for longest makes room.
pub const DAEMONS_MAX: usize = 1_024;
/// Processes remembered per daemon.
pub const MEMBERS_MAX: usize = 64;
/// How far up a chain of forks without exec is followed.
const FORK_CHAIN_MAX: usize = 16;

/// What makes two spawner processes one daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DaemonKey {
    /// The process itself when it is older than the agent; else the process that spawned it.
    pub root: ProcId,
    /// Empty for a process older than the agent; else the argv class it was spawned as.
    pub argv_class: Arc<str>,
    /// Cgroup it runs in: equal commands of different pods are different daemons.
    pub cgroup_id: u64,
}

/// A daemon and what it did.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Its processes, latest last as far as [`MEMBERS_MAX`] allows; forks without exec are left out.
    pub members: BTreeSet<ProcId>,
    /// Processes it has had in all.
    pub member_count: u64,
    /// The member that last spawned, itself or by a fork.
    pub latest: ProcId,
    /// Kernel's name of it.
    pub comm: Arc<str>,
    /// Its argv class; its comm when it never called exec under watch.
    pub name: Arc<str>,
    /// Path of its program, any bytes; empty when not known.
    pub path: Arc<[u8]>,
    /// Its loops.
    pub series: Series,
    /// Netlink of its own, in the window.
    pub netlink: NetlinkTable,
    /// When it last did anything.
    pub last_ns: u64,
}

/// All daemons.
#[derive(Clone, Debug)]
pub struct Daemons {
    known: BTreeMap<DaemonKey, Daemon>,
    loops_max: usize,
    /// Daemons that had to make room.
    pub evicted: u64,
}

/// The process whose program a process runs: itself, or the one it was forked from without exec.
pub fn program_of(processes: &Processes, id: ProcId) -> Option<&Process> {
    let mut process = processes.get(id)?;
    for _ in 0..FORK_CHAIN_MAX {
        let forked_without_exec = process.spawner.is_some() && process.exec_ns == 0;
        let Some(parent) = process.spawner.filter(|_| forked_without_exec) else { break };
        let Some(parent) = processes.get(parent) else { break };
        process = parent;
    }
    Some(process)
}

/// The key of the daemon a process belongs to. `None` for a process that is not known.
pub fn key_of(processes: &Processes, id: ProcId) -> Option<DaemonKey> {
    let process = program_of(processes, id)?;
    Some(match process.spawner {
        Some(root) => {
            DaemonKey { root, argv_class: process.argv_class.clone(), cgroup_id: process.cgroup_id }
        }
        None => DaemonKey { root: process.id, cgroup_id: process.cgroup_id, ..DaemonKey::default() },
    })
}

impl Daemon {
    /// Its path as safe text.
    pub fn path_text(&self) -> String {
        text::safe(&self.path, PATH_TEXT_BYTES).into_owned()
    }

    fn new(loops_max: usize) -> Self {
        Daemon {
            members: BTreeSet::new(),
            member_count: 0,
            latest: ProcId::default(),
            comm: Arc::default(),
            name: Arc::default(),
            path: Arc::default(),
            series: Series::new(loops_max),
            netlink: NetlinkTable::default(),
            last_ns: 0,
        }
    }
}

impl Daemons {
    /// No daemons yet; the latest `loops_max` loops of each will be kept.
    pub fn new(loops_max: usize) -> Self {
        Daemons { known: BTreeMap::new(), loops_max, evicted: 0 }
    }

    /// The daemon of a spawner, made when new. `None` for a process that is not known.
    pub fn of(&mut self, processes: &Processes, id: ProcId, now_ns: u64) -> Option<(DaemonKey, &mut Daemon)> {
        let process = program_of(processes, id)?;
        let key = key_of(processes, id)?;
        if !self.known.contains_key(&key) {
            self.make_room();
        }
        let loops_max = self.loops_max;
        let daemon = self.known.entry(key.clone()).or_insert_with(|| Daemon::new(loops_max));
        daemon.last_ns = daemon.last_ns.max(now_ns);
        daemon.latest = process.id;
        // Each time, since a process older than the agent may become another program later.
        daemon.comm = process.comm.clone();
        daemon.path = process.path.clone();
        daemon.name = process.argv_class.clone();
        if daemon.members.insert(process.id) {
            daemon.member_count += 1;
            if daemon.members.len() > MEMBERS_MAX {
                daemon.members.pop_first();
            }
        }
        Some((key, daemon))
    }

    /// The daemon with this key.
    pub fn get(&self, key: &DaemonKey) -> Option<&Daemon> {
        self.known.get(key)
    }

    /// The same, to change.
    pub fn get_mut(&mut self, key: &DaemonKey) -> Option<&mut Daemon> {
        self.known.get_mut(key)
    }

    /// All, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&DaemonKey, &Daemon)> {
        self.known.iter()
    }

    /// All, by key, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&DaemonKey, &mut Daemon)> {
        self.known.iter_mut()
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn make_room(&mut self) {
        if self.known.len() < DAEMONS_MAX {
            return;
        }
        let idle = self.known.iter().min_by_key(|(_, d)| d.last_ns).map(|(key, _)| key.clone());
        if let Some(idle) = idle {
            self.known.remove(&idle);
            self.evicted += 1;
        }
    }
}
