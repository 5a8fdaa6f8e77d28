//! The start-up scan against cgroups and processes of our own, in each hierarchy of this machine.

use slowpod::capture::facts::cgroups::{Layout, Wanted};
use slowpod::capture::facts::{Scan, node};
use slowpod::decode::fact::{Fact, Process};
use slowpod::enrich::identity::{Identity, identify};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{fs, process};

const UID: &str = "5f0c8a52-2f0e-4a7e-9c64-6d1f0a7e3b11";

/// A pod with one container, below a root of its own, and a process in it; all removed at the end.
struct Pod {
    directories: Vec<PathBuf>,
    child: Child,
}

impl Pod {
    fn make(mount: &Path) -> Pod {
        let container = "c0ffee".repeat(11)[..64].to_owned();
        let names =
            [format!("slowpod-test-{}", process::id()), "kubepods".into(), format!("pod{UID}"), container];
        let child = Command::new("/bin/sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn();
        let mut pod = Pod { directories: Vec::new(), child: child.expect("a child") };
        let mut path = mount.to_path_buf();
        for name in names {
            path.push(name);
            fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            pod.directories.push(path.clone());
        }
        fs::write(path.join("cgroup.procs"), pod.child.id().to_string()).expect("moved");
        pod
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // A cgroup can only be removed once its last process is collected.
        self.child.kill().expect("a kill");
        self.child.wait().expect("a status");
        for directory in self.directories.iter().rev() {
            fs::remove_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        }
    }
}

fn scan(layout: &Layout) -> (Vec<(u64, String)>, Vec<Process>) {
    let (mut cgroups, mut processes) = (Vec::new(), Vec::new());
    let scan = Scan { root: Path::new("/"), layout: Some(layout), clk_tck: node::clk_tck(), redact: &|_| {} };
    scan.run(|fact| match fact {
        Fact::Cgroup { id, path, .. } => cgroups.push((id, path.to_string())),
        Fact::Process(process) => processes.push(*process),
        _ => {}
    })
    .expect("a scan");
    (cgroups, processes)
}

/// Every hierarchy that kernel programs can read, but cpuset's: its cgroups take no process until configured.
fn layouts() -> Vec<Layout> {
    let v1 = ["pids", "memory", "cpu", "freezer"].map(|name| Wanted::V1(name.to_owned()));
    let all = v1.into_iter().chain([Wanted::V2]);
    all.filter_map(|wanted| Layout::find(Path::new("/"), &wanted).ok()).collect()
}

#[test]
fn a_pod_is_found_by_the_process_in_it_and_gone_when_removed() {
    let layouts = layouts();
    assert!(!layouts.is_empty(), "no cgroup hierarchy at all");
    for layout in layouts {
        assert!(layout.sees_all(), "{layout:?}");
        let pod = Pod::make(&layout.mount);
        let directory = pod.directories.last().expect("the container's").clone();
        let inode = fs::metadata(&directory).expect("it is there").ino();

        let (cgroups, processes) = scan(&layout);
        let process = processes.iter().find(|process| process.tgid == pod.child.id()).expect("the child");
        assert_eq!(process.cgroup_id, inode, "{layout:?}");
        let (_, path) = cgroups.iter().find(|(id, _)| *id == inode).expect("its cgroup");
        assert_eq!(layout.mount.join(&path[1..]), directory);
        let Identity::Pod(found) = identify(path) else { panic!("{path}") };
        assert_eq!(found.uid, UID);

        drop(pod);
        let (cgroups, _) = scan(&layout);
        assert!(cgroups.iter().all(|(id, _)| *id != inode), "{layout:?}");
    }
}
