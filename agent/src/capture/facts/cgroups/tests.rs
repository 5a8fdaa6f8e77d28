use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// `/proc/self/cgroup` and the cgroup lines of `/proc/self/mountinfo`, as systemd lays them out.
const V2: (&str, &str) =
    ("0::/init.scope\n", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
const HYBRID: (&str, &str) = (
    "12:pids:/\n7:cpu,cpuacct:/\n4:memory:/\n1:name=systemd:/\n0::/\n",
    "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
     32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 master:1 - cgroup cgroup rw,cpu,cpuacct\n\
     33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
     34 31 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
     35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
     36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
);
const V1: (&str, &str) = (
    "4:memory:/\n2:cpu,cpuacct:/\n1:name=systemd:/\n",
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
     33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
     35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n",
);

fn tree((own, mounts): (&str, &str), directories: &[&str]) -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for directory in directories {
        fs::create_dir_all(root.path().join(directory)).expect(directory);
    }
    fs::create_dir_all(root.path().join("proc/self/ns")).expect("proc");
    fs::write(root.path().join("proc/self/cgroup"), own).expect("cgroup");
    fs::write(root.path().join("proc/self/mountinfo"), mounts).expect("mountinfo");
    root
}

fn find(root: &TempDir, wanted: Wanted) -> Layout {
    Layout::find(root.path(), &wanted).expect("a layout")
}

/// Controller, hierarchy and mount of the best layout.
fn best(texts: (&str, &str), directories: &[&str]) -> (Option<String>, u32, String) {
    let root = tree(texts, directories);
    let layout = find(&root, Wanted::Best);
    let mount = layout.mount.strip_prefix(root.path()).expect("below the root").display().to_string();
    (layout.controller, layout.hierarchy, mount)
}

fn v1(controller: &str, hierarchy: u32, mount: &str) -> (Option<String>, u32, String) {
    (Some(controller.to_owned()), hierarchy, mount.to_owned())
}

fn v2(mount: &str) -> (Option<String>, u32, String) {
    (None, 0, mount.to_owned())
}

#[test]
fn the_only_version_wins() {
    assert_eq!(best(V2, &["sys/fs/cgroup/kubepods.slice"]), v2("sys/fs/cgroup"));
    assert_eq!(best(V2, &["sys/fs/cgroup"]), v2("sys/fs/cgroup"));
    assert_eq!(best(V1, &["sys/fs/cgroup/memory/kubepods"]), v1("memory", 4, "sys/fs/cgroup/memory"));
    assert_eq!(best(V1, &[]), v1("memory", 4, "sys/fs/cgroup/memory"));
}

#[test]
fn on_a_hybrid_node_the_pods_decide() {
    let kind = "sys/fs/cgroup/unified/docker/x/kubelet.slice/kubelet-kubepods.slice";
    for (directories, expected) in [
        (vec!["sys/fs/cgroup/unified/kubepods", "sys/fs/cgroup/pids/kubepods"], v2("sys/fs/cgroup/unified")),
        (vec![kind], v2("sys/fs/cgroup/unified")),
        (vec!["sys/fs/cgroup/pids/kubepods/burstable"], v1("pids", 12, "sys/fs/cgroup/pids")),
        (vec!["sys/fs/cgroup/cpu,cpuacct/kubepods.slice"], v1("cpu", 7, "sys/fs/cgroup/cpu,cpuacct")),
        // What only systemd's own hierarchy holds no kernel program can see.
        (vec!["sys/fs/cgroup/systemd/kubepods"], v1("pids", 12, "sys/fs/cgroup/pids")),
    ] {
        assert_eq!(best(HYBRID, &directories), expected, "{directories:?}");
    }
}

#[test]
fn on_a_hybrid_node_without_pods_the_one_in_use() {
    let root = tree(HYBRID, &["sys/fs/cgroup/unified/system.slice"]);
    assert_eq!(find(&root, Wanted::Best).controller.as_deref(), Some("pids"));
    let events = root.path().join("sys/fs/cgroup/unified/system.slice/cgroup.events");
    fs::write(&events, "populated 0\nfrozen 0\n").expect("events");
    assert_eq!(find(&root, Wanted::Best).controller.as_deref(), Some("pids"));
    fs::write(&events, "populated 1\nfrozen 0\n").expect("events");
    assert_eq!(find(&root, Wanted::Best).controller, None);
}

#[test]
fn the_one_asked_for_or_a_clear_no() {
    let root = tree(HYBRID, &["sys/fs/cgroup/unified/kubepods"]);
    assert_eq!(find(&root, Wanted::V1("cpuacct".to_owned())).hierarchy, 7);
    assert_eq!(find(&root, Wanted::V2).hierarchy, 0);
    let no = |wanted| Layout::find(root.path(), &wanted).expect_err("none such").to_string();
    assert_eq!(
        no(Wanted::V1("hugetlb".to_owned())),
        "no cgroup hierarchy with controller hugetlb is mounted"
    );
    assert_eq!(
        no(Wanted::V1("name=systemd".to_owned())),
        "no cgroup hierarchy with controller name=systemd is mounted"
    );
    let root = tree(V1, &[]);
    let no = Layout::find(root.path(), &Wanted::V2).expect_err("none such").to_string();
    assert_eq!(no, "no cgroup hierarchy with version 2 is mounted");
}

#[test]
fn nothing_mounted_and_nothing_readable() {
    let root = tree(("0::/\n", "22 27 0:21 / /proc rw - proc proc rw\n"), &[]);
    let error = Layout::find(root.path(), &Wanted::Best).expect_err("nothing");
    assert_eq!(error.to_string(), "no cgroup hierarchy is mounted");
    let empty = tempfile::tempdir().expect("a directory");
    let error = Layout::find(empty.path(), &Wanted::Best).expect_err("nothing").to_string();
    assert!(error.starts_with("cannot read") && error.contains("proc/self/cgroup"), "{error}");
    let root =
        tree(("\n:\nx:y:z\n0:\n0::/\n\u{fffd}", "- -\n1 2 3 4 5 -\n\n36 31 0:33 / /u rw - cgroup2"), &[]);
    assert!(Layout::find(root.path(), &Wanted::Best).is_err(), "rubbish is skipped");
}

#[test]
fn the_kernel_knows_controllers_by_other_names() {
    let layout = |controller: Option<&str>| Layout {
        controller: controller.map(str::to_owned),
        hierarchy: 3,
        mount: PathBuf::new(),
        top: b"/".to_vec(),
        prefix: None,
    };
    let ids =
        |name: &str| ["cpuset_cgrp_id", "io_cgrp_id"].iter().position(|id| *id == name).map(|id| id as u32);
    assert_eq!(layout(None).source(ids), Some(0));
    assert_eq!(layout(Some("cpuset")).source(ids), Some(1));
    assert_eq!(layout(Some("blkio")).source(ids), Some(2));
    assert_eq!(layout(Some("pids")).source(ids), None);
}

#[test]
fn odd_mount_points() {
    let mounts = "30 23 0:26 / /a\\040b\\134c rw - cgroup2 cgroup2 rw\n";
    assert_eq!(best(("0::/\n", mounts), &["a b\\c"]), v2("a b\\c"));
    assert_eq!(unescape(b"\\04"), b"\\04");
    assert_eq!(unescape(b"\\9zz\\011"), b"\\9zz\t");
}

#[test]
fn a_cgroup_namespace_hides_the_root_unless_the_hosts_mount_is_there() {
    let own = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let host = "31 23 0:26 /../../../.. /host/sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
    let directories = ["sys/fs/cgroup/child", "host/sys/fs/cgroup/kubepods/pod1"];

    let root = tree(("0::/\n", &[own, host].concat()), &directories);
    fs::write(root.path().join("proc/self/ns/cgroup"), "").expect("a namespace that is not the first");
    let layout = find(&root, Wanted::Best);
    assert!(layout.sees_all() && layout.mount.ends_with("host/sys/fs/cgroup"));
    let pod = fs::metadata(root.path().join(directories[1])).expect("made").ino();
    assert_eq!(layout.id(b"/../../../../kubepods/pod1"), Some(pod));
    assert_eq!(layout.id(b"/"), None, "the agent's own cgroup, wherever that is");
    let mut paths = Vec::new();
    layout.walk(|_, path| paths.push(String::from_utf8_lossy(path).into_owned())).expect("a walk");
    assert_eq!(paths, ["/", "/kubepods", "/kubepods/pod1"]);

    let root = tree(("0::/\n", own), &directories);
    fs::write(root.path().join("proc/self/ns/cgroup"), "").expect("a namespace that is not the first");
    let layout = find(&root, Wanted::Best);
    assert!(!layout.sees_all());
    assert!(layout.id(b"/child").is_some(), "an id is an id, whatever it is called");
    layout.walk(|_, path| panic!("{path:?} is not its name on the host")).expect("a walk");
}

#[test]
fn a_mounted_part_keeps_its_place_in_the_whole() {
    let mounts = "33 31 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let root = tree(("4:memory:/docker/abc\n", mounts), &["sys/fs/cgroup/memory/kubepods/pod1"]);
    let layout = find(&root, Wanted::Best);
    assert!(!layout.sees_all());
    let pod = fs::metadata(root.path().join("sys/fs/cgroup/memory/kubepods/pod1")).expect("made").ino();
    assert_eq!(layout.id(b"/docker/abc/kubepods/pod1"), Some(pod));
    for outside in [b"/docker/abcd".as_slice(), b"/docker", b"/kubepods/pod1", b"/docker/abc/../x", b"", b"x"]
    {
        assert_eq!(layout.id(outside), None, "{outside:?}");
    }
    let mut found = Vec::new();
    layout.walk(|id, path| found.push((id, path.to_vec()))).expect("a walk");
    assert_eq!(found.len(), 3);
    assert_eq!(found[2], (pod, b"/docker/abc/kubepods/pod1".to_vec()));
}

#[test]
fn a_walk_is_breadth_first_bounded_and_follows_no_link() {
    let root = tree(V2, &["sys/fs/cgroup/a/b/c", "sys/fs/cgroup/d/e", "elsewhere/f"]);
    let top = root.path().join("sys/fs/cgroup");
    symlink(root.path().join("elsewhere"), top.join("link")).expect("a link");
    fs::write(top.join("cgroup.procs"), "1\n").expect("a file");
    let layout = find(&root, Wanted::Best);

    let mut found = Vec::new();
    let cut = layout.walk(|id, path| found.push((path.to_vec(), id))).expect("a walk");
    assert!(!cut);
    let depth =
        |(path, _): &(Vec<u8>, u64)| path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
    assert!(found.is_sorted_by_key(depth), "{found:?}");
    assert_eq!(found.len(), 6);
    for (path, id) in found {
        let directory = top.join(OsStr::from_bytes(path.strip_prefix(b"/").expect("absolute")));
        assert_eq!(fs::metadata(directory).expect("it is there").ino(), id);
        assert_eq!(layout.id(&path), Some(id));
    }
    assert_eq!(layout.id(b"/link"), None);
    assert_eq!(layout.id(b"/cgroup.procs"), None);

    let mut seen = 0;
    assert!(
        layout.directories(4, |_, _| {
            seen += 1;
            true
        }),
        "there are five"
    );
    assert_eq!(seen, 4);
    assert!(!layout.directories(5, |_, _| true));
}

#[test]
fn this_machine() {
    let layout = Layout::find(Path::new("/"), &Wanted::Best).expect("Linux without cgroups?");
    let own = fs::read("/proc/self/cgroup").expect("a file of our own");
    let mut lines = own.split(|byte| *byte == b'\n').filter_map(split_line);
    let (_, _, path) = lines.find(|(hierarchy, ..)| *hierarchy == layout.hierarchy).expect("listed");
    let mut ids = std::collections::HashMap::new();
    layout.walk(|id, path| ids.extend([(path.to_vec(), id)])).expect("a walk");
    if layout.sees_all() {
        assert_eq!(layout.id(path), ids.get(path).copied(), "{}", String::from_utf8_lossy(path));
        assert!(layout.id(path).is_some());
    }
}
