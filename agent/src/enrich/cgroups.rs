//! Cgroup ids to paths and identities. In: scan facts, mkdir and rmdir records. Out: [`Identity`] by id.
//!
//! A mapping is dropped when its directory goes, since the kernel reuses inode numbers; it stays as a
//! tombstone for records about processes that ended in it, until the id is given to another directory.

use super::identity::{Identity, identify};
use super::text;
use std::collections::{BTreeMap, VecDeque};

/// Directories remembered in all, tombstones included.
pub const CGROUPS_MAX: usize = 32_768;
/// Tombstones kept; a node churns through some ten thousand pods a day at most.
pub const TOMBSTONES_MAX: usize = 4_096;

/// Longest path kept as text: what a record holds, with every byte escaped.
const PATH_TEXT_BYTES: usize = 4 * slowpod_ebpf::abi::cgroup::PATH_BYTES;

/// One cgroup directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Cgroup {
    /// Path relative to the hierarchy's root, made safe: a container may name its own directories.
    pub path: String,
    /// Whose it is.
    pub identity: Identity,
    /// When it was made (monotonic ns); 0 when it is older than the agent.
    pub made_ns: u64,
    /// When it was removed; `None` while it is there.
    pub gone_ns: Option<u64>,
}

/// All cgroup directories known.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    known: BTreeMap<u64, Cgroup>,
    tombstones: VecDeque<(u64, u64)>,
    /// Directories that found no room.
    pub refused: u64,
}

impl Cgroups {
    /// Adds a directory. An id seen before is another directory now.
    pub fn made(&mut self, id: u64, path: &[u8], made_ns: u64) {
        if self.known.len() >= CGROUPS_MAX && !self.known.contains_key(&id) {
            self.refused += 1;
            return;
        }
        let path = text::safe(path, PATH_TEXT_BYTES).into_owned();
        let identity = identify(&path);
        self.known.insert(id, Cgroup { path, identity, made_ns, gone_ns: None });
    }

    /// Notes that a directory was removed.
    pub fn gone(&mut self, id: u64, gone_ns: u64) {
        let Some(cgroup) = self.known.get_mut(&id) else { return };
        cgroup.gone_ns = Some(gone_ns);
        self.tombstones.push_back((id, gone_ns));
        while self.tombstones.len() > TOMBSTONES_MAX {
            let Some((old, when)) = self.tombstones.pop_front() else { break };
            if self.known.get(&old).is_some_and(|c| c.gone_ns == Some(when)) {
                self.known.remove(&old);
            }
        }
    }

    /// The directory with this id.
    pub fn get(&self, id: u64) -> Option<&Cgroup> {
        self.known.get(&id)
    }

    /// Whose it is; [`Identity::Unknown`] for an id never seen.
    pub fn identity(&self, id: u64) -> &Identity {
        self.known.get(&id).map_or(&Identity::Unknown, |cgroup| &cgroup.identity)
    }

    /// All directories that are there, by id.
    pub fn living(&self) -> impl Iterator<Item = (u64, &Cgroup)> {
        self.known.iter().filter(|(_, c)| c.gone_ns.is_none()).map(|(id, c)| (*id, c))
    }

    /// How many are known, tombstones included.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_id_is_the_new_directory() {
        let mut cgroups = Cgroups::default();
        cgroups.made(5, b"/kubepods/pod11111111-1111-1111-1111-111111111111", 1);
        cgroups.gone(5, 2);
        assert!(matches!(cgroups.identity(5), Identity::Pod(_)), "late records still find it");
        cgroups.made(5, b"/system.slice/cron.service", 3);
        assert!(matches!(cgroups.identity(5), Identity::Host(_)));
        assert_eq!(cgroups.living().count(), 1);
    }

    #[test]
    fn an_id_never_seen_is_unknown_and_not_host() {
        assert_eq!(*Cgroups::default().identity(9), Identity::Unknown);
    }

    #[test]
    fn old_tombstones_go_but_never_a_directory_made_again() {
        let mut cgroups = Cgroups::default();
        cgroups.made(1, b"/a", 1);
        cgroups.gone(1, 2);
        cgroups.made(1, b"/b", 3);
        for id in 2..=(TOMBSTONES_MAX as u64 + 10) {
            cgroups.made(id, format!("/c{id}").as_bytes(), 4);
            cgroups.gone(id, 5);
        }
        assert_eq!(cgroups.get(1).map(|c| c.path.as_str()), Some("/b"));
        assert!(cgroups.get(2).is_none());
    }
}
