use super::*;
use std::collections::HashSet;
use std::fs;

#[test]
fn cgroups_then_processes_then_done() {
    let root = tempfile::tempdir().expect("a directory");
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a file");
    };
    let deep = "x".repeat(200);
    put("proc/self/cgroup", "0::/\n");
    put("proc/self/mountinfo", "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
    put(&format!("cg/{deep}/{deep}/{deep}/cgroup.procs"), "");
    for (pid, path) in [(5, format!("/{deep}")), (6, "/gone".to_owned()), (7, format!("/{deep}"))] {
        put(&format!("proc/{pid}/stat"), &format!("{pid} (x) S 1 1 1 0 -1 0 {} 3 0 8123 0", "0 ".repeat(10)));
        put(&format!("proc/{pid}/status"), "Uid:\t0\t0\t0\t0\n");
        put(&format!("proc/{pid}/cgroup"), &format!("0::{path}\n"));
    }

    let layout = Layout::find(root.path(), &cgroups::Wanted::Best).expect("a layout");
    let scan = Scan { root: root.path(), layout: Some(&layout), clk_tck: 100, redact: &|_| {} };
    let mut facts = Vec::new();
    scan.run(|fact| facts.push(fact)).expect("a scan");
    let names: Vec<&str> = facts
        .iter()
        .map(|fact| match fact {
            Fact::Cgroup { .. } => "cgroup",
            Fact::Process(_) => "process",
            Fact::ScanDone { .. } => "done",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["cgroup", "cgroup", "cgroup", "cgroup", "process", "process", "process", "done"]);

    let Fact::Cgroup { id: first_id, .. } = facts[1] else { panic!("{:?}", facts[1]) };
    let Fact::Cgroup { path: last, .. } = &facts[3] else { panic!("{:?}", facts[3]) };
    assert_eq!((last.0.len(), last.0.ends_with(deep.as_bytes())), (PATH_BYTES, true));
    let ids: Vec<u64> = facts[4..7]
        .iter()
        .map(|fact| match fact {
            Fact::Process(process) => process.cgroup_id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [first_id, 0, first_id]);
    assert!(
        matches!(facts[7], Fact::ScanDone { processes: 3, cgroups: 4, cut: false, .. }),
        "{:?}",
        facts[7]
    );
}

#[test]
fn no_proc_is_an_error_and_no_cgroups_are_not() {
    let root = tempfile::tempdir().expect("a directory");
    let scan = Scan { root: root.path(), layout: None, clk_tck: 100, redact: &|_| {} };
    assert!(scan.run(|fact| panic!("{fact:?}")).is_err());
    fs::create_dir(root.path().join("proc")).expect("a directory");
    let mut facts = Vec::new();
    scan.run(|fact| facts.push(fact)).expect("an empty scan");
    assert!(matches!(facts[..], [Fact::ScanDone { processes: 0, cgroups: 0, cut: false, .. }]), "{facts:?}");
}

#[test]
fn this_machine() {
    let root = Path::new("/");
    let layout = Layout::find(root, &cgroups::Wanted::Best).expect("a layout");
    let scan = Scan { root, layout: Some(&layout), clk_tck: node::clk_tck(), redact: &|_| {} };
    let (mut processes, mut cgroups, mut done) = (Vec::new(), HashSet::new(), None);
    scan.run(|fact| match fact {
        Fact::Process(process) => processes.push(*process),
        Fact::Cgroup { id, .. } => assert!(cgroups.insert(id), "{id} twice"),
        other => assert!(done.replace(other).is_none()),
    })
    .expect("a scan");
    assert!(matches!(done, Some(Fact::ScanDone { took_ns: 1.., .. })), "{done:?}");
    let own = processes.iter().find(|process| process.tgid == std::process::id()).expect("ourselves");
    assert_eq!(own.path.0, fs::read_link("/proc/self/exe").expect("a link").as_os_str().as_encoded_bytes());
    assert!(own.threads > 1 && own.start_ns > 0 && !own.argv.0.is_empty());
    if layout.sees_all() {
        assert!(cgroups.contains(&own.cgroup_id), "{own:?}");
    }
    assert!(processes.iter().all(|process| process.comm.0 != b"kthreadd"));
}
