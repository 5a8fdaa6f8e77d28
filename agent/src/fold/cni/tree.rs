//! What the descendants of a plugin did. In: their exits. Out: sums, by delegated plugin and by argv class.

use crate::fold::grow::Grow;
use crate::fold::union::Union;
use crate::fold::waits::Waits;
use slowpod_ebpf::abi::{exit::Exit, split::Split};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest text of a plugin's name, in bytes.
pub(super) const NAME_BYTES: usize = 128;
/// Classes kept of one call; a plugin runs a handful of commands. The rest share one row.
pub const CLASSES_MAX: usize = 32;

/// Sums over the descendants of one call that have ended.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// How many.
    pub spawns: u64,
    /// Of these, only counted, under flood: their times are missing.
    pub counted: u64,
    /// Sum of wall times; descendants of descendants count beside them.
    pub wall_ns: u64,
    /// Sum of the splits of their main threads; adds up to `wall_ns`.
    pub split: Split,
    /// Time on a CPU, all their threads.
    pub on_cpu_ns: u64,
    /// When at least one was alive.
    pub busy: Union,
    /// What they waited for, all their threads.
    pub waits: Waits,
    /// By name: (delegated plugins, by base name; helpers, by argv class).
    pub classes: BTreeMap<(bool, Arc<str>), TreeClass>,
}

/// Sums over one sort of descendants.
#[derive(Clone, Debug, Default)]
pub struct TreeClass {
    /// How many ended.
    pub spawns: u64,
    /// Of these, not with exit code 0.
    pub failed: u64,
    /// Sum of wall times.
    pub wall_ns: u64,
    /// Sum of the splits of their main threads.
    pub split: Split,
}

impl Tree {
    /// Adds a descendant that ended.
    pub(super) fn add(&mut self, name: &Arc<str>, delegated: bool, exit: &Exit) {
        let wall_ns = exit.header.ktime_ns.saturating_sub(exit.spawned_ns);
        self.spawns.grow(1);
        self.wall_ns.grow(wall_ns);
        self.split.add(&exit.main);
        self.on_cpu_ns.grow(exit.threads.on_cpu_ns);
        self.busy.add(exit.spawned_ns, exit.header.ktime_ns);
        let class = self.class(name, delegated);
        class.spawns.grow(1);
        class.failed += u64::from(exit.status != 0);
        class.wall_ns.grow(wall_ns);
        class.split.add(&exit.main);
    }

    /// Adds descendants that were only counted.
    pub(super) fn count(&mut self, name: &Arc<str>, spawns: u64) {
        self.spawns.grow(spawns);
        self.counted.grow(spawns);
        self.class(name, false).spawns.grow(spawns);
    }

    fn class(&mut self, name: &Arc<str>, delegated: bool) -> &mut TreeClass {
        let mut key = (delegated, name.clone());
        if self.classes.len() >= CLASSES_MAX && !self.classes.contains_key(&key) {
            key = (delegated, crate::fold::totals::OTHER.into());
        }
        self.classes.entry(key).or_default()
    }
}
