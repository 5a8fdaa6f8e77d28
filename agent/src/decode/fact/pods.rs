//! What is told of pods and their cgroups.

use serde::{Deserialize, Serialize};

/// A pod, by all that it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name in there.
    pub name: String,
}

/// What a cgroup's `cpu.stat` grew by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttled {
    /// The cgroup, by its id in the hierarchy that tells pods apart.
    pub cgroup_id: u64,
    /// Periods of the quota in which it wanted to run (`nr_periods`).
    pub periods: u64,
    /// Of these, periods in which it was throttled (`nr_throttled`).
    pub throttled: u64,
    /// How long, summed over its CPUs, nanoseconds (`throttled_usec`, in v1 `throttled_time`).
    pub throttled_ns: u64,
}
