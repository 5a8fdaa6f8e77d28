//! Failed execs, by who tried what and why it failed. A PATH search is a storm of its own.

use super::daemons::DaemonKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows kept; a PATH search makes one per directory and command.
pub const ROWS_MAX: usize = 2_048;

/// Who tried what, and why it failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailedKey {
    /// The daemon whose child tried, or which tried itself; `None` when not known.
    pub daemon: Option<DaemonKey>,
    /// Path tried, made safe.
    pub path: Arc<str>,
    /// Why, as a positive errno.
    pub errno: u32,
}

/// Counts of failed execs.
#[derive(Clone, Debug, Default)]
pub struct Failed {
    rows: BTreeMap<FailedKey, u64>,
    /// Failed execs that found no row.
    pub other: u64,
}

impl Failed {
    /// Counts one.
    pub fn add(&mut self, key: FailedKey) {
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            self.other += 1;
            return;
        }
        *self.rows.entry(key).or_default() += 1;
    }

    /// Rows, by key.
    pub fn rows(&self) -> impl Iterator<Item = (&FailedKey, u64)> {
        self.rows.iter().map(|(key, count)| (key, *count))
    }
}
