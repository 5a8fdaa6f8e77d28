//! Where cgroups are mounted and which hierarchy tells pods apart. In: `/proc/self/mountinfo`,
//! `/proc/self/cgroup`, the cgroup file systems. Out: a [`Layout`], and the cgroups there are.
//!
//! `/proc/cgroups` is not asked: from Linux 6.14 on it leaves controllers out, so neither its order nor its
//! hierarchy column can be relied on. Formats: proc_pid_mountinfo(5), cgroups(7).

use crate::enrich::identity::is_pod_root;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Cgroups listed at most; a node of 500 pods of 4 containers has some 3,000.
pub const CGROUPS_MAX: usize = 16_384;
/// Directories looked through for the pods' root before it counts as absent. Each costs some 10 us.
const SEARCH_DIRS_MAX: usize = 4_096;
/// Controllers of v1 in order of preference: first those that every runtime joins every container to.
const PREFERRED: [&str; 8] = ["pids", "memory", "cpu", "cpuacct", "cpuset", "devices", "freezer", "blkio"];
/// Inode number of the initial cgroup namespace (`PROC_CGROUP_INIT_INO`, linux/proc_ns.h).
const INITIAL_CGROUP_NS: u64 = 0xEFFF_FFFB;

/// Which hierarchy to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The one that tells pods apart.
    #[default]
    Best,
    /// cgroup v2.
    V2,
    /// The v1 hierarchy of this controller.
    V1(String),
}

/// The hierarchy that says who a process belongs to, and where to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// A controller of the v1 hierarchy; `None` for v2.
    pub controller: Option<String>,
    /// Hierarchy id as in `/proc/PID/cgroup`; 0 for v2.
    pub hierarchy: u32,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The cgroup that is mounted there, as this process's `/proc/PID/cgroup` would print it.
    top: Vec<u8>,
    /// The same from the hierarchy's true root, without a `/` at the end; `None` when a cgroup namespace
    /// hides it.
    prefix: Option<Vec<u8>>,
}

/// Why there is no layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of `/proc` could not be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// None of either version.
    #[error("no cgroup hierarchy is mounted")]
    NoneMounted,
    /// Not the one asked for.
    #[error("no cgroup hierarchy with {0} is mounted")]
    NotMounted(String),
}

impl Layout {
    /// Decides which hierarchy tells pods apart. `root` is `/` but in tests.
    ///
    /// v2 if it is the only version, or holds the pods; else the v1 hierarchy that holds them. On a hybrid
    /// node without pods yet: v2 if something (systemd) places processes in it, else v1, which every runtime
    /// uses there. v1 hierarchies without a controller (`name=systemd`) cannot be read by kernel programs.
    pub fn find(root: &Path, wanted: &Wanted) -> Result<Layout, LayoutError> {
        let mut all = mounted(root)?;
        all.sort_by_key(Layout::preference);
        let v2 = all.iter().find(|layout| layout.hierarchy == 0);
        let mut v1 = all.iter().filter(|layout| layout.hierarchy != 0);
        match wanted {
            Wanted::V2 => v2.ok_or_else(|| LayoutError::NotMounted("version 2".to_owned())),
            Wanted::V1(name) => v1
                .find(|layout| layout.controller.as_ref() == Some(name))
                .ok_or_else(|| LayoutError::NotMounted(format!("controller {name}"))),
            Wanted::Best => v2
                .filter(|v2| v2.holds_pods())
                .or_else(|| v1.clone().find(|v1| v1.holds_pods()))
                .or_else(|| v2.filter(|v2| v2.is_populated() || v1.clone().next().is_none()))
                .or_else(|| v1.next())
                .ok_or(LayoutError::NoneMounted),
        }
        .cloned()
    }

    /// The value of [`slowpod_ebpf::abi::settings::globals::CGROUP_SOURCE`]. `subsys_id` finds the value of an
    /// enumerator of the kernel's `enum cgroup_subsys_id` (in BTF); `None` if it does not know the one needed.
    pub fn source(&self, subsys_id: impl FnOnce(&str) -> Option<u32>) -> Option<u32> {
        match self.controller.as_deref() {
            None => Some(0),
            // Its name in v1 stayed when the kernel renamed it.
            Some("blkio") => subsys_id("io_cgrp_id")?.checked_add(1),
            Some(name) => subsys_id(&format!("{name}_cgrp_id"))?.checked_add(1),
        }
    }

    /// Whether the whole hierarchy can be seen. If not, the agent sits in a cgroup namespace without the
    /// host's cgroup mount, and only cgroups made from now on will have names.
    pub fn sees_all(&self) -> bool {
        self.prefix.as_ref().is_some_and(Vec::is_empty)
    }

    /// Id of a cgroup by its path as printed in `/proc/PID/cgroup`; `None` if it is gone or out of sight.
    pub fn id(&self, path: &[u8]) -> Option<u64> {
        let metadata = fs::symlink_metadata(self.mount.join(OsStr::from_bytes(self.below(path)?))).ok()?;
        metadata.is_dir().then(|| metadata.ino())
    }

    /// The part of a printed path that is below the mount, without a `/` in front.
    fn below<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let rest = if self.top == b"/" { path } else { path.strip_prefix(self.top.as_slice())? };
        let rest = if rest.is_empty() { rest } else { rest.strip_prefix(b"/")? };
        (!rest.split(|byte| *byte == b'/').any(|name| name == b"..")).then_some(rest)
    }

    /// Hands over the id and path (from the hierarchy's root) of every cgroup in sight, parents first. True if
    /// there were more than [`CGROUPS_MAX`]. None at all where a cgroup namespace hides what they are below.
    pub fn walk(&self, mut each: impl FnMut(u64, &[u8])) -> io::Result<bool> {
        let Some(prefix) = self.prefix.as_deref() else { return Ok(false) };
        let top = if prefix.is_empty() { b"/" } else { prefix };
        each(fs::symlink_metadata(&self.mount)?.ino(), top);
        Ok(self.directories(CGROUPS_MAX - 1, |id, below| {
            each(id, &[prefix, b"/", below].concat());
            true
        }))
    }

    /// Whether the kubelet's pods are here.
    fn holds_pods(&self) -> bool {
        let mut found = false;
        self.directories(SEARCH_DIRS_MAX, |_, below| {
            let name = below.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            found |= std::str::from_utf8(name).is_ok_and(is_pod_root);
            !found
        });
        found
    }

    /// Whether any process is in a cgroup below the root (v2).
    fn is_populated(&self) -> bool {
        let children = fs::read_dir(&self.mount).into_iter().flatten().flatten();
        children
            .filter_map(|child| fs::read(child.path().join("cgroup.events")).ok())
            .any(|events| events.split(|byte| *byte == b'\n').any(|line| line == b"populated 1"))
    }

    /// Walks breadth first, so that a cut takes the deepest; `each` gets the id and the path below the mount,
    /// and says whether to go on. True if there were more than `max`. Symbolic links are not followed, and a
    /// directory removed under the walk is simply not there.
    fn directories(&self, max: usize, mut each: impl FnMut(u64, &[u8]) -> bool) -> bool {
        let mut seen = 0;
        let mut queue = VecDeque::from([Vec::new()]);
        while let Some(below) = queue.pop_front() {
            let entries = fs::read_dir(self.mount.join(OsStr::from_bytes(&below)));
            for entry in entries.into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if seen == max {
                    return true;
                }
                seen += 1;
                let separator = if below.is_empty() { b"".as_slice() } else { b"/" };
                let path = [&below, separator, entry.file_name().as_bytes()].concat();
                if !each(entry.ino(), &path) {
                    return false;
                }
                queue.push_back(path);
            }
        }
        false
    }

    fn preference(&self) -> usize {
        let name = self.controller.as_deref().unwrap_or_default();
        PREFERRED.iter().position(|known| *known == name).unwrap_or(PREFERRED.len())
    }
}

/// Every hierarchy that is mounted, once for each of its controllers.
fn mounted(root: &Path) -> Result<Vec<Layout>, LayoutError> {
    let read = |path: &str| {
        let path = root.join(path);
        fs::read(&path).map_err(|source| LayoutError::Unreadable { path, source })
    };
    let own = read("proc/self/cgroup")?;
    let mounts = read("proc/self/mountinfo")?;
    let mounts: Vec<Mount> = mounts.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect();
    // Before 4.6 there are no cgroup namespaces, and no such file.
    let namespace = fs::metadata(root.join("proc/self/ns/cgroup"));
    let whole = namespace.map_or(true, |namespace| namespace.ino() == INITIAL_CGROUP_NS);

    let mut layouts = Vec::new();
    for line in own.split(|byte| *byte == b'\n') {
        let Some((hierarchy, controllers, _)) = split_line(line) else { continue };
        for controller in controllers.split(',').filter(|name| !name.starts_with("name=")) {
            let controller = Some(controller.to_owned()).filter(|_| hierarchy != 0);
            let of_hierarchy = mounts.iter().filter(|mount| mount.holds(controller.as_deref()));
            // The mount that shows most; of several alike the last, which covers the others.
            if let Some(best) = of_hierarchy.max_by_key(|mount| mount.height()) {
                layouts.push(Layout {
                    controller,
                    hierarchy,
                    mount: root.join(best.at.strip_prefix("/").unwrap_or(&best.at)),
                    prefix: best.prefix(whole),
                    top: best.top.clone(),
                });
            }
        }
    }
    Ok(layouts)
}

/// Hierarchy id, controllers and path of a line of `/proc/PID/cgroup`.
pub fn split_line(line: &[u8]) -> Option<(u32, &str, &[u8])> {
    let mut fields = line.splitn(3, |byte| *byte == b':');
    let hierarchy = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    Some((hierarchy, std::str::from_utf8(fields.next()?).ok()?, fields.next()?))
}

/// A cgroup file system in `/proc/self/mountinfo`.
struct Mount {
    top: Vec<u8>,
    at: PathBuf,
    /// Super options of v1, which name its controllers; `None` for v2.
    options: Option<String>,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|byte| *byte == b' ');
        let top = unescape(fields.nth(3)?);
        let at = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
        // Mount options, any number of optional fields, then a lone dash.
        fields.find(|field| *field == b"-")?;
        let kind = fields.next()?;
        let options = String::from_utf8_lossy(fields.nth(1)?).into_owned();
        match kind {
            b"cgroup2" => Some(Mount { top, at, options: None }),
            b"cgroup" => Some(Mount { top, at, options: Some(options) }),
            _ => None,
        }
    }

    fn holds(&self, controller: Option<&str>) -> bool {
        match (controller, &self.options) {
            (None, None) => true,
            (Some(name), Some(options)) => options.split(',').any(|option| option == name),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    /// How much it shows: cgroups above the reader's own root, the root itself, a part below it.
    fn height(&self) -> (usize, bool) {
        let above = self.top.split(|byte| *byte == b'/').filter(|name| *name == b"..").count();
        (above, self.top == b"/")
    }

    /// See [`Layout::prefix`]. `whole`: the reader is in the initial cgroup namespace.
    fn prefix(&self, whole: bool) -> Option<Vec<u8>> {
        if whole {
            return Some(if self.top == b"/" { Vec::new() } else { self.top.clone() });
        }
        let names = self.top.split(|byte| *byte == b'/').skip(1);
        // Nobody mounts an ancestor of a container's cgroup but the root.
        let is_ancestor = names.clone().count() > 0 && names.clone().all(|name| name == b"..");
        is_ancestor.then(Vec::new)
    }
}

/// Undoes mountinfo's `\040` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let octal = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                at += 4;
            }
            None => {
                bytes.push(field[at]);
                at += 1;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
