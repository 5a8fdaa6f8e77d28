//! Facts about the world outside the rings. In: `/proc`, the cgroup file systems, clocks, one netlink dump.
//! Out: [`Fact`] values; whoever calls gives them their time and [encodes](crate::decode::fact::encode) them.

pub mod api_server;
pub mod blocked;
pub mod cgroups;
pub mod clock;
pub mod containers;
pub mod genl;
pub mod node;
pub mod pressure;
pub mod proc;
pub mod quota;

use crate::decode::fact::{Fact, Process};
use crate::decode::raw_text::RawText;
use cgroups::Layout;
use slowpod_ebpf::abi::cgroup::PATH_BYTES;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Instant;

/// The start-up scan: what was there before the probes were.
pub struct Scan<'a> {
    /// `/` but in tests.
    pub root: &'a Path,
    /// The hierarchy whose cgroups are wanted; `None` where none is mounted.
    pub layout: Option<&'a Layout>,
    /// Ticks per second of the times in `/proc`.
    pub clk_tck: u32,
    /// Takes out of a process's argv what must not be kept.
    pub redact: &'a dyn Fn(&mut Process),
}

impl Scan<'_> {
    /// Hands over every cgroup, every process, and a `ScanDone`. Run it after the probes are attached, or what
    /// starts in between is missed; what starts or ends meanwhile may then come twice, here and as records.
    ///
    /// # Errors
    /// When `/proc` itself or the cgroup mount cannot be read. What one process or cgroup refuses is left out.
    pub fn run(&self, mut emit: impl FnMut(Fact)) -> io::Result<()> {
        let begun = Instant::now();
        let (mut cgroups, mut processes, mut cut) = (0, 0, false);
        if let Some(layout) = self.layout {
            cut |= layout.walk(|id, path| {
                cgroups += 1;
                // As in the kernel's records: of a long path the end, which holds the container id.
                let path = RawText::from(&path[path.len().saturating_sub(PATH_BYTES)..]);
                emit(Fact::Cgroup { id, hierarchy: layout.hierarchy, path });
            })?;
        }
        let mut ids: HashMap<Vec<u8>, Option<u64>> = HashMap::new();
        let cgroup_id = |path: &[u8]| match ids.get(path) {
            Some(id) => *id,
            None => {
                let id = self.layout.and_then(|layout| layout.id(path));
                ids.insert(path.to_vec(), id);
                id
            }
        };
        let reader = proc::Reader {
            proc: &self.root.join("proc"),
            clk_tck: self.clk_tck,
            hierarchy: self.layout.map(|layout| layout.hierarchy),
            redact: self.redact,
        };
        cut |= reader.all(cgroup_id, |process| {
            processes += 1;
            emit(Fact::Process(Box::new(process)));
        })?;
        let took_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        emit(Fact::ScanDone { processes, cgroups, cut, took_ns });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
