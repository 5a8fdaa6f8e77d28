//! Cgroups as the containers of pods have them, and CPU quotas in them.

use slowpod::capture::facts::cgroups::{Layout, Wanted};
use std::fs;
use std::path::{Path, PathBuf};

/// Directories of cgroups, removed innermost first when dropped.
pub struct Directories(Vec<PathBuf>);

impl Directories {
    /// Makes those of a path below a mount that are not there.
    ///
    /// # Panics
    /// When one cannot be made.
    pub fn make(mount: &Path, below: &str) -> Directories {
        let mut made = Directories(Vec::new());
        let mut directory = mount.to_path_buf();
        for name in below.split('/') {
            directory.push(name);
            if !directory.exists() {
                fs::create_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
                made.0.push(directory.clone());
            }
        }
        made
    }

    /// The outermost of those made.
    pub fn outermost(&self) -> &Path {
        self.0.first().expect("at least one")
    }

    /// The innermost.
    pub fn innermost(&self) -> &Path {
        self.0.last().expect("at least one")
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            if let Err(error) = fs::remove_dir(directory) {
                eprintln!("left behind {}: {error}", directory.display());
            }
        }
    }
}

/// Path of the cgroup of a container of this pod, below a directory that is this test's own.
pub fn container_path(uid: &str) -> String {
    format!("slowpod-sched-{}/kubepods/burstable/pod{uid}/{}", std::process::id(), "a".repeat(64))
}

/// The hierarchy that tells pods apart, and its name for `--cgroup-hierarchy`.
///
/// # Panics
/// When this machine has none.
pub fn hierarchy() -> (Layout, &'static str) {
    match Layout::find(Path::new("/"), &Wanted::V1("pids".into())) {
        Ok(layout) => (layout, "pids"),
        Err(_) => (Layout::find(Path::new("/"), &Wanted::V2).expect("some hierarchy"), "v2"),
    }
}

/// A container of a pod with a quota of a fifth of a CPU, favoured over all else on the machine: whatever holds it back is
/// the quota.
pub struct Limited {
    /// In the hierarchy that tells pods apart, and in the one with quotas; or one that does both.
    directories: Vec<Directories>,
}

impl Limited {
    /// Makes it for a pod of this UID.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn make(uid: &str) -> Limited {
        let (pods, _) = hierarchy();
        let quotas = Layout::find(Path::new("/"), &Wanted::V1("cpu".into())).ok();
        let make = |layout: &Layout| Directories::make(&layout.mount, &container_path(uid));
        let directories: Vec<Directories> = [&pods].into_iter().chain(&quotas).map(make).collect();
        let write = |directory: &Path, file: &str, value: &str| {
            let path = directory.join(file);
            fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        };
        let limited = directories.last().expect("one at least");
        let (top, own) = (limited.outermost(), limited.innermost());
        if quotas.is_some() {
            write(top, "cpu.shares", "262144");
            write(own, "cpu.cfs_period_us", "100000");
            write(own, "cpu.cfs_quota_us", "20000");
        } else {
            write(top, "cpu.weight", "10000");
            write(own, "cpu.max", "20000 100000");
        }
        Limited { directories }
    }

    /// Files into which a process writes its pid to be in it.
    pub fn joins(&self) -> Vec<PathBuf> {
        self.directories.iter().map(|directory| directory.innermost().join("cgroup.procs")).collect()
    }

    /// What the kernel says of its quota: a line of `cpu.stat` by name.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn stat(&self, name: &str) -> u64 {
        let path = self.directories.last().expect("one at least").innermost().join("cpu.stat");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// How long the quota has withheld CPUs, nanoseconds.
    pub fn throttled_ns(&self) -> u64 {
        if self.directories.len() == 1 {
            self.stat("throttled_usec") * 1_000
        } else {
            self.stat("throttled_time")
        }
    }
}
