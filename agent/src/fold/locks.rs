//! Locks that several processes share: who waited, behind whom. In: waits for file locks. Out: per lock the
//! series of its waits, from which its convoys are told.

use super::waits::{Key, Sum, Thing};
use crate::enrich::{ProcId, cni::CniWork};
use slowpod_ebpf::abi::split::Cause;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Locks kept; a node has a handful that anyone waits for.
pub const LOCKS_MAX: usize = 64;
/// Waits kept of one lock: every one of five hundred pods' starts and ends.
pub const WAITS_MAX: usize = 4_096;

/// Which lock: whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockId {
    /// Device.
    pub dev: u32,
    /// Inode.
    pub ino: u64,
}

/// One wait for a lock, or several behind the same holder.
#[derive(Clone, Debug)]
pub struct LockWait {
    /// Who waited.
    pub waiter: ProcId,
    /// The CNI work it did.
    pub work: Option<Arc<CniWork>>,
    /// Who held the lock when the wait began.
    pub holder: Option<ProcId>,
    /// When it began,
    pub begun_ns: u64,
    /// and ended: then it had the lock.
    pub ended_ns: u64,
    /// Blocked in between.
    pub blocked_ns: u64,
    /// How many were before it when it began, the holder included.
    pub queue: u64,
}

/// One lock.
#[derive(Clone, Debug, Default)]
pub struct Lock {
    /// Path of its file as far as it is known.
    pub name: Arc<str>,
    /// Its waits, in the order they were told of.
    pub waits: VecDeque<LockWait>,
}

/// All locks that anyone waited for in the window.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    known: BTreeMap<LockId, Lock>,
    /// Waits that found no room.
    pub evicted: u64,
}

impl Locks {
    /// All, by lock.
    pub fn iter(&self) -> impl Iterator<Item = (&LockId, &Lock)> {
        self.known.iter()
    }

    /// Locks known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// None is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Takes in a wait; one that was not for a lock is left out.
    pub(super) fn add(&mut self, waiter: ProcId, work: Option<&Arc<CniWork>>, key: &Key, sum: &Sum) {
        let id = match key.thing {
            Thing::File { dev, ino } if key.cause() == Cause::FileLock => LockId { dev, ino },
            _ => return,
        };
        if self.known.len() >= LOCKS_MAX && !self.known.contains_key(&id) {
            self.evicted += 1;
            return;
        }
        let lock = self.known.entry(id).or_default();
        if lock.name.is_empty() {
            lock.name = sum.name.clone();
        }
        if lock.waits.len() >= WAITS_MAX {
            lock.waits.pop_front();
            self.evicted += 1;
        }
        lock.waits.push_back(LockWait {
            waiter,
            work: work.cloned(),
            holder: key.holder,
            begun_ns: sum.first_ns,
            ended_ns: sum.last_ns,
            blocked_ns: sum.blocked_ns,
            queue: sum.queue_max,
        });
    }
}
