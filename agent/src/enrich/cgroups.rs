//! Cgroup ids to paths and identities. In: scan facts, mkdir and rmdir records. Out: [`Identity`] by id.
//!
//! The kernel reuses inode numbers, so an id may come to mean another directory. Each directory has a key of its own
//! ([`Cgroups::key`]), which is what everything that outlives a record holds: a process that ran in a removed pod is
//! not said to be of the pod that got its id. Removed directories stay as tombstones, a bounded number of them.

use super::identity::{Identity, identify};
use super::text;
use std::collections::{BTreeMap, VecDeque};

/// Directories remembered in all, tombstones included.
pub const CGROUPS_MAX: usize = 32_768;
/// Tombstones kept; a node churns through some ten thousand pods a day at most.
pub const TOMBSTONES_MAX: usize = 4_096;

/// Marks keys that are not the kernel's ids. Ids are inode numbers of kernfs, which counts up from 1.
const REUSED: u64 = 1 << 62;

/// Longest text of a path: what the kernel's records keep, and room for escapes.
const PATH_TEXT_BYTES: usize = 1_024;

/// One cgroup directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Cgroup {
    /// The kernel's id.
    pub id: u64,
    /// Path relative to the hierarchy's root, as safe text.
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
    /// By key.
    known: BTreeMap<u64, Cgroup>,
    /// Keys of the directories whose id was another's before, by id.
    reused: BTreeMap<u64, u64>,
    /// Keys given to such directories so far.
    reuses: u64,
    tombstones: VecDeque<u64>,
    /// Directories that found no room.
    pub refused: u64,
}

impl Cgroups {
    /// Adds a directory made at `made_ns`, or one that a scan found (0). An id whose directory was removed means this
    /// one from now on; so does one whose directory's end was lost, when another is made.
    pub fn made(&mut self, id: u64, path: &[u8], made_ns: u64) {
        let path = text::safe(path, PATH_TEXT_BYTES).into_owned();
        let before = self.known.get(&self.key(id));
        let is_same = |cgroup: &Cgroup| cgroup.gone_ns.is_none() && (made_ns == 0 || cgroup.path == path);
        let is_full = self.known.len() >= CGROUPS_MAX;
        let key = match before.map(is_same) {
            Some(true) => self.key(id),
            Some(false) => self.reuse(id, made_ns, is_full),
            None if is_full => {
                self.refused += 1;
                return;
            }
            None => id,
        };
        let identity = identify(&path);
        self.known.insert(key, Cgroup { id, path, identity, made_ns, gone_ns: None });
    }

    /// A new key for an id; what it meant is gone, whether we were told or not. In a full table the new takes its place.
    fn reuse(&mut self, id: u64, now_ns: u64, is_full: bool) -> u64 {
        self.gone(id, now_ns);
        if is_full {
            self.refused += u64::from(self.known.remove(&self.key(id)).is_some());
        }
        self.reuses += 1;
        let key = REUSED | self.reuses;
        self.reused.insert(id, key);
        key
    }

    /// Notes that a directory was removed.
    pub fn gone(&mut self, id: u64, gone_ns: u64) {
        let key = self.key(id);
        let Some(cgroup) = self.known.get_mut(&key).filter(|cgroup| cgroup.gone_ns.is_none()) else { return };
        cgroup.gone_ns = Some(gone_ns);
        self.tombstones.push_back(key);
        while self.tombstones.len() > TOMBSTONES_MAX {
            let Some(old) = self.tombstones.pop_front() else { break };
            let Some(removed) = self.known.remove(&old) else { continue };
            if self.key(removed.id) == old {
                self.reused.remove(&removed.id);
            }
        }
    }

    /// Key of the directory that an id means now, or meant last. What keeps a record's id for later must keep this
    /// instead.
    pub fn key(&self, id: u64) -> u64 {
        self.reused.get(&id).copied().unwrap_or(id)
    }

    /// The id of a key, for records; 0 when the id means another directory by now.
    pub fn id(&self, key: u64) -> u64 {
        let id = self.known.get(&key).map_or(key, |cgroup| cgroup.id);
        if self.key(id) == key { id } else { 0 }
    }

    /// The directory with this key.
    pub fn get(&self, key: u64) -> Option<&Cgroup> {
        self.known.get(&key)
    }

    /// Whose it is; [`Identity::Unknown`] for a key never given.
    pub fn identity(&self, key: u64) -> &Identity {
        self.known.get(&key).map_or(&Identity::Unknown, |cgroup| &cgroup.identity)
    }

    /// All directories that are there, by id.
    pub fn living(&self) -> impl Iterator<Item = (u64, &Cgroup)> {
        self.known.values().filter(|cgroup| cgroup.gone_ns.is_none()).map(|cgroup| (cgroup.id, cgroup))
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

    const POD: &[u8] = b"/kubepods/pod11111111-1111-1111-1111-111111111111";

    #[test]
    fn a_reused_id_is_the_new_directory_and_old_keys_stay_with_theirs() {
        let mut cgroups = Cgroups::default();
        cgroups.made(5, POD, 1);
        let pod = cgroups.key(5);
        cgroups.gone(5, 2);
        assert!(matches!(cgroups.identity(cgroups.key(5)), Identity::Pod(_)), "late records still find it");
        cgroups.made(5, b"/system.slice/cron.service", 3);
        let cron = cgroups.key(5);
        assert!(matches!(cgroups.identity(cron), Identity::Host(_)));
        assert!(matches!(cgroups.identity(pod), Identity::Pod(_)));
        assert_eq!((cgroups.id(cron), cgroups.id(pod)), (5, 0), "a record's 5 is cron's");
        assert_eq!(cgroups.living().map(|(id, own)| (id, own.made_ns)).collect::<Vec<_>>(), [(5, 3)]);
        // The end of cron's was lost.
        cgroups.made(5, POD, 4);
        assert!(matches!(cgroups.identity(cron), Identity::Host(_)));
        assert!(matches!(cgroups.identity(cgroups.key(5)), Identity::Pod(_)));
        assert_eq!((cgroups.living().count(), cgroups.len()), (1, 3));
    }

    #[test]
    fn a_directory_told_of_again_is_the_same() {
        let mut cgroups = Cgroups::default();
        cgroups.made(5, b"/kubepods/pod1", 1);
        let key = cgroups.key(5);
        cgroups.made(5, b"/kubepods/pod1", 2);
        // A record's path may have been cut; a scan's is whole.
        cgroups.made(5, POD, 0);
        assert_eq!((cgroups.key(5), cgroups.len()), (key, 1));
        assert!(matches!(cgroups.identity(key), Identity::Pod(_)));
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
        assert_eq!(cgroups.get(cgroups.key(1)).map(|c| c.path.as_str()), Some("/b"));
        assert!(cgroups.get(2).is_none() && cgroups.get(1).is_none(), "/a as well");
        cgroups.gone(1, 6);
        for id in 9_000_001..=(9_000_000 + TOMBSTONES_MAX as u64) {
            cgroups.made(id, b"/d", 7);
            cgroups.gone(id, 8);
        }
        assert!(cgroups.get(cgroups.key(1)).is_none());
        assert!(cgroups.reused.is_empty() && cgroups.len() == TOMBSTONES_MAX);
    }
}
