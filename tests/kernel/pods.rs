//! Whose a process is, followed live: cgroups made as kubelet and runtime make them, and removed again.

use crate::exact::{Ended, path};
use harness::agent::monotonic_ns;
use harness::running::Running;
use harness::truth::Truth;
use harness::{agent, workload};
use slowpod::capture::facts::cgroups::{Layout, Wanted};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const UID: &str = "8d3f6f0e-52c1-4a53-9a0e-1b1f4f0f7c55";

/// A container id made of one digit.
fn container(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// Path of a container's cgroup, below a root of this test's own.
fn container_path(digit: char) -> String {
    format!("slowpod-exact-{}/kubepods/burstable/pod{UID}/{}", std::process::id(), container(digit))
}

fn assert_is_pods(row: &Truth, digit: char) {
    assert_eq!(row.text("/identity/kind"), "pod", "{row}");
    assert_eq!(row.text("/identity/pod_uid"), UID);
    assert_eq!(row.text("/identity/container_id"), container(digit));
    assert_eq!(row.text("/identity/qos"), "burstable");
    assert_eq!(row.text("/cgroup"), format!("/{}", container_path(digit)));
}

/// Directories of a cgroup, removed innermost first.
struct Directories {
    made: Vec<PathBuf>,
}

impl Directories {
    fn make(mount: &Path, below: &str) -> Directories {
        let mut directories = Directories { made: Vec::new() };
        let mut directory = mount.to_path_buf();
        for name in below.split('/') {
            directory.push(name);
            fs::create_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
            directories.made.push(directory.clone());
        }
        directories
    }

    fn innermost(&self) -> &Path {
        self.made.last().expect("at least one")
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        for directory in self.made.iter().rev() {
            if let Err(error) = fs::remove_dir(directory) {
                eprintln!("left behind {}: {error}", directory.display());
            }
        }
    }
}

/// In each hierarchy of this machine that pods live in: a shell moves into a container's cgroup and is the pod's
/// while it lives, and so are its children; after the cgroup is gone, what is known of them stays.
#[test]
fn a_pods_processes_are_the_pods_in_each_hierarchy() {
    let wanted = [("v2", Wanted::V2), ("pids", Wanted::V1("pids".to_owned()))];
    let found = wanted.map(|(name, wanted)| (name, Layout::find(Path::new("/"), &wanted)));
    assert!(found.iter().any(|(_, layout)| layout.is_ok()), "no cgroup hierarchy at all");
    for (name, layout) in found.iter().filter_map(|(name, layout)| Some((name, layout.as_ref().ok()?))) {
        let agent = agent!("--cgroup-hierarchy", name);
        let directories = Directories::make(&layout.mount, &container_path('a'));
        let procs = directories.innermost().join("cgroup.procs");
        let script = format!("echo $$ > {} && /bin/true inside; read line", procs.display());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]);
        let shell = Running::start(command);
        let of_pod = path("processes", &format!("state=ended&pod={UID}"));
        let inside = agent.view_when(&of_pod, |answer| !answer.list("/processes").is_empty());
        let rows = inside.list("/processes");
        assert_eq!(rows.len(), 1, "{name}: {inside}");
        assert_eq!(rows[0].text("/argv"), "/bin/true inside");
        assert_is_pods(&rows[0], 'a');
        let alive =
            agent.view_at(&path("processes", &format!("state=alive&pid={}", shell.pid())), monotonic_ns());
        assert_is_pods(&alive.list("/processes")[0], 'a');

        let pid = shell.pid();
        let (_, status) = shell.finish();
        assert!(status.code().is_some(), "{status}");
        drop(directories);
        let removed_ns = monotonic_ns();
        let late = agent.view_at(&path("processes", &format!("state=ended&pid={pid}")), removed_ns);
        assert_is_pods(&late.list("/processes")[0], 'a');
        // Who watches is the host's.
        let test = path("processes", &format!("state=alive&pid={}", std::process::id()));
        assert_eq!(agent.view_at(&test, removed_ns).list("/processes")[0].text("/identity/kind"), "host");
    }
}

/// One path, many cgroups: each child is the pod's, whether it was born there or moved there before its exec, and
/// another container of the same pod is another.
#[test]
fn cgroups_that_come_back_are_told_apart() {
    let agent = agent!("--cgroup-hierarchy", "v2");
    for (how, digit) in [("move", 'b'), ("clone-into", 'c')] {
        let churn = workload!("cgroup-churn").option("--rounds", 5).option("--how", how);
        let truth = churn.option("--path", container_path(digit)).run();
        let ended = Ended::by(&agent, truth.number("/end_ns"));
        let rounds = truth.list("/rounds");
        let mut ids: Vec<_> = rounds.iter().map(|round| round.number("/cgroup_id")).collect();
        ids.dedup();
        assert_eq!(ids.len(), 5, "each has another id");
        for (number, round) in rounds.iter().enumerate() {
            let row = ended.row(&round.child("/child"));
            assert_eq!(row.text("/argv"), format!("true cgroup-{number}"));
            assert_is_pods(row, digit);
        }
    }
}
