//! Sums over several loops' argv classes. In: loops. Out: one sum per class.

use super::class::ClassStats;
use super::loops::Loop;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One argv class in one or more loops of one daemon.
#[derive(Clone, Debug, Default)]
pub struct ClassSum {
    /// Spawns of each loop that had any.
    pub per_loop: Vec<u64>,
    /// Sums over those loops.
    pub stats: ClassStats,
}

impl ClassSum {
    /// Adds one loop's sums.
    pub fn add(&mut self, stats: &ClassStats) {
        self.per_loop.push(stats.spawns());
        self.stats.add(stats);
    }

    /// The classes of several loops, by name.
    pub fn over<'a>(loops: impl Iterator<Item = &'a Loop>) -> BTreeMap<Arc<str>, ClassSum> {
        let mut classes: BTreeMap<Arc<str>, ClassSum> = BTreeMap::new();
        for (name, stats) in loops.flat_map(|own| &own.classes) {
            classes.entry(name.clone()).or_default().add(stats);
        }
        classes
    }
}
