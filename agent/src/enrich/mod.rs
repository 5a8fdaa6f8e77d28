//! Pure tables that say who an event speaks of: processes, cgroups, identities, argv classes.

pub mod argv_class;
pub mod cgroups;
pub mod clock;
pub mod cni;
pub mod container_names;
pub mod identity;
pub mod pod_names;
pub mod processes;
pub mod roots;
pub mod runtime;
pub mod symbols;
pub mod text;

use slowpod_ebpf::abi::Task;

/// One life of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcId {
    /// Process id in the host's pid namespace.
    pub tgid: u32,
    /// When it started (ns since boot).
    pub start_ns: u64,
}

impl ProcId {
    /// The process a task belongs to.
    pub fn of(task: &Task) -> ProcId {
        ProcId { tgid: task.tgid, start_ns: task.start_ns }
    }
}
