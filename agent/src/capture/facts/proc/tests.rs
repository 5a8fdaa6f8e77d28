use super::*;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A `/proc` of plain files.
struct Fake(TempDir);

impl Fake {
    fn new() -> Fake {
        let fake = Fake(tempfile::tempdir().expect("a directory"));
        for (name, text) in [("uptime", "1 2"), ("self/stat", ""), ("12x/stat", ""), ("+7/stat", "")] {
            fake.put(name, text.as_bytes());
        }
        fake
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, bytes).expect(name);
    }

    /// A process that started at tick 8123, with 3 threads.
    fn process(&self, pid: u32, comm: &[u8], state: char, ppid: u32, flags: u64) {
        let head = format!("{pid} (");
        let tail = format!(
            ") {state} {ppid} 1 1 0 -1 {flags} 5 6 7 8 9 10 11 12 20 0 3 0 8123 4567 89 \
             18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 256\n"
        );
        self.put(&format!("{pid}/stat"), &[head.as_bytes(), comm, tail.as_bytes()].concat());
        self.put(&format!("{pid}/status"), b"Name:\tx\nUid:\t1000\t0\t0\t0\nNSpid:\t7\t9\t5\n");
        self.put(&format!("{pid}/cgroup"), b"4:memory:/m:x\n0::/kubepods/pod1\n");
        self.put(&format!("{pid}/cmdline"), b"");
    }

    fn exe(&self, pid: u32, target: &str) {
        symlink(target, self.0.path().join(format!("{pid}/exe"))).expect("a link");
    }

    fn namespace(&self, pid: u32, name: &str, target: &str) {
        let directory = self.0.path().join(format!("{pid}/ns"));
        fs::create_dir_all(&directory).expect("a directory");
        symlink(target, directory.join(name)).expect("a link");
    }

    fn scan(&self) -> Vec<Process> {
        scan(self.0.path(), Some(0))
    }

    fn only(&self) -> Process {
        let mut all = self.scan();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

fn scan(proc: &Path, hierarchy: Option<u32>) -> Vec<Process> {
    let redact = |process: &mut Process| {
        let argv = &mut process.argv.0;
        if let Some(at) = argv.windows(6).position(|word| word == b"secret") {
            argv.splice(at..at + 6, *b"***");
        }
    };
    let reader = Reader { proc, clk_tck: 100, hierarchy, redact: &redact };
    let mut found = Vec::new();
    let cut = reader.all(|path| Some(path.len() as u64), |process| found.push(process)).expect("a scan");
    assert!(!cut);
    found
}

#[test]
fn every_field_of_a_process() {
    let fake = Fake::new();
    fake.process(42, b"ipset", 'S', 17, 0x400000);
    fake.put("42/cmdline", b"/sbin/ipset\0add\0secret\0");
    fake.exe(42, "/usr/sbin/ipset");
    for (name, target) in
        [("mnt", "mnt:[4026531841]"), ("pid", "pid:[4026532200]"), ("net", "net:[99999999999]")]
    {
        fake.namespace(42, name, target);
    }
    let expected = Process {
        tgid: 42,
        start_ns: 81_230_000_000,
        start_exact: false,
        ppid: 17,
        comm: "ipset".into(),
        path: "/usr/sbin/ipset".into(),
        argv: b"/sbin/ipset\0add\0***\0".as_slice().into(),
        cgroup_id: "/kubepods/pod1".len() as u64,
        inner_pid: 5,
        threads: 3,
        uid: 1000,
        // No kernel gives the third: it does not fit an inode number.
        namespaces: Namespaces { mount: 4_026_531_841, pid: 4_026_532_200, net: 0 },
        ..Process::default()
    };
    assert_eq!(fake.only(), expected);
    let cgroup_id = |hierarchy| scan(fake.0.path(), hierarchy)[0].cgroup_id;
    assert_eq!(cgroup_id(Some(4)), "/m:x".len() as u64, "a path may hold colons");
    assert_eq!((cgroup_id(Some(9)), cgroup_id(None)), (0, 0));
}

#[test]
fn comms_that_try_to_break_out() {
    for comm in [b"a) S 1 (b".as_slice(), b")", b"((", b"", b"new\nline", b"a b", b"\xff\xfe", b") R 2 3 4"] {
        let fake = Fake::new();
        fake.process(42, comm, 'S', 17, 0);
        let process = fake.only();
        assert_eq!((process.comm.0.as_slice(), process.ppid), (comm, 17), "{comm:?}");
    }
}

#[test]
fn the_kernels_threads_are_left_out_and_its_helpers_children_are_not() {
    let fake = Fake::new();
    fake.process(2, b"kthreadd", 'S', 0, 0x20_8040);
    fake.process(77, b"kworker/0:1", 'I', 2, 0x420_8060);
    // A usermode helper: child of a kernel thread, a process like any other.
    fake.process(78, b"modprobe", 'R', 2, 0x400000);
    let pids: Vec<u32> = fake.scan().iter().map(|process| process.tgid).collect();
    assert_eq!(pids, [78]);
}

#[test]
fn half_a_process_and_rubbish_are_left_out() {
    let fake = Fake::new();
    fs::create_dir(fake.0.path().join("50")).expect("a directory");
    for (pid, stat) in [(51, ""), (52, "52 (x"), (53, "53 (x) S"), (54, "54 (x) S a b c"), (55, "\u{0}")] {
        fake.put(&format!("{pid}/stat"), stat.as_bytes());
        fake.put(&format!("{pid}/status"), b"");
    }
    fake.process(60, b"no status", 'S', 1, 0);
    fs::remove_file(fake.0.path().join("60/status")).expect("it was there");
    fake.put("99999999999/stat", b"");
    assert_eq!(fake.scan(), []);

    fake.process(61, b"bare", 'S', 1, 0);
    for name in ["cmdline", "cgroup"] {
        fs::remove_file(fake.0.path().join("61").join(name)).expect("it was there");
    }
    fake.put("61/status", b"Uid:\tx\nNSpid:\n");
    let bare = fake.only();
    assert_eq!((bare.inner_pid, bare.uid, bare.cgroup_id), (61, 0, 0), "an old kernel has no NSpid");
    assert!(bare.argv.0.is_empty() && bare.path.0.is_empty());
}

#[test]
fn no_link_in_the_place_of_a_file_or_process_is_followed() {
    let fake = Fake::new();
    fake.process(42, b"x", 'S', 1, 0);
    let secret = fake.0.path().join("environ");
    fs::write(&secret, "PASSWORD=1").expect("a file");
    fs::remove_file(fake.0.path().join("42/cmdline")).expect("it was there");
    symlink(&secret, fake.0.path().join("42/cmdline")).expect("a link");
    symlink("42", fake.0.path().join("43")).expect("a link");
    assert!(fake.only().argv.0.is_empty());
}

#[test]
fn argv_is_cut_where_records_cut_it() {
    for (len, cut) in [(ARGV_BYTES, false), (ARGV_BYTES + 1, true), (100_000, true)] {
        let fake = Fake::new();
        fake.process(42, b"x", 'S', 1, 0);
        fake.put("42/cmdline", &vec![b'a'; len]);
        let process = fake.only();
        assert_eq!((process.argv.0.len(), process.argv_cut), (len.min(ARGV_BYTES), cut));
    }
}

#[test]
fn removed_files_and_scripts() {
    let argv =
        |words: &[&str]| words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect::<Vec<_>>();
    for (comm, exe, words, path, deleted, is_script) in [
        ("kubelet", "/bin/kubelet (deleted)", vec!["kubelet"], "/bin/kubelet", true, false),
        ("deploy.sh", "/bin/dash", vec!["/bin/sh", "/opt/deploy.sh", "now"], "/opt/deploy.sh", false, true),
        (
            "deploy.sh",
            "/bin/dash (deleted)",
            vec!["/bin/sh", "-e", "./deploy.sh"],
            "./deploy.sh",
            false,
            true,
        ),
        (
            "a-very-long-nam",
            "/bin/dash",
            vec!["sh", "/a-very-long-name.sh"],
            "/a-very-long-name.sh",
            false,
            true,
        ),
        // Given to the shell by hand, or renamed by itself: not executed as a script.
        ("sh", "/bin/dash", vec!["sh", "deploy.sh"], "/bin/dash", false, false),
        ("bash", "/bin/bash", vec!["bash", "x/bash"], "/bin/bash", false, false),
        ("worker", "/usr/bin/nginx", vec!["nginx: worker"], "/usr/bin/nginx", false, false),
        ("x", "/bin/dash", vec!["sh", "a", "b", "x"], "/bin/dash", false, false),
        ("", "/bin/dash", vec!["sh", ""], "/bin/dash", false, false),
    ] {
        let fake = Fake::new();
        fake.process(42, comm.as_bytes(), 'S', 1, 0);
        fake.put("42/cmdline", &argv(&words));
        fake.exe(42, exe);
        let process = fake.only();
        assert_eq!(process.path.to_string(), path, "{comm} {words:?}");
        assert_eq!((process.path_deleted, process.script), (deleted, is_script), "{comm} {words:?}");
    }
}

#[test]
fn alive_goes_by_pid_and_start() {
    let fake = Fake::new();
    fake.process(42, b"x", 'S', 1, 0);
    fake.process(43, b"main thread gone", 'Z', 1, 0);
    let alive = |pid, ticks| alive(fake.0.path(), pid, ticks);
    assert!(alive(42, 8123) && alive(43, 8123));
    assert!(!alive(42, 8124), "the pid was given to another");
    assert!(!alive(44, 8123), "no such pid");
    fake.put("45/stat", b"unreadable");
    assert!(alive(45, 8123), "not known is not gone");
    assert!(fake.scan().iter().all(|process| process.exited.is_none()));
}

/// A child of this test; ended and collected whatever happens.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to do about either error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &Path, words: &[&str]) -> Guard {
    let mut command = Command::new(program);
    let child = Guard(command.args(words).stdin(Stdio::piped()).spawn().expect("a child"));
    // A parent goes on before the exec is through: until then there is no argv.
    while live(child.0.id()).argv.0.is_empty() {
        std::thread::yield_now();
    }
    child
}

fn live(pid: u32) -> Process {
    let mut all = scan(Path::new("/proc"), None);
    let at = all.iter().position(|process| process.tgid == pid).expect("the child is there");
    all.swap_remove(at)
}

/// Ticks of a start that comes from `/proc`.
fn ticks(process: &Process) -> u64 {
    process.start_ns / tick_ns(100)
}

#[test]
fn a_real_child_until_it_is_collected() {
    let proc = Path::new("/proc");
    let mut child = start(Path::new("/bin/sh"), &["-c", "read line", "name", "secret"]);
    let pid = child.0.id();
    let process = live(pid);
    assert_eq!(process.ppid, std::process::id());
    assert_eq!(process.argv.0, b"/bin/sh\0-c\0read line\0name\0***\0");
    assert_eq!((process.comm.to_string().as_str(), process.threads, process.script), ("sh", 1, false));
    assert!(process.path.0.starts_with(b"/") && process.inner_pid > 0 && process.exited.is_none());
    assert!(alive(proc, pid, ticks(&process)) && !alive(proc, pid, ticks(&process) + 1));

    child.0.kill().expect("a kill");
    // Not collected: it stays a zombie.
    while live(pid).exited.is_none() {
        std::thread::yield_now();
    }
    let zombie = live(pid);
    assert_eq!(zombie.exited, Some(Exited { exit_ns: 0, status: 9 }));
    assert!(zombie.argv.0.is_empty() && !alive(proc, pid, ticks(&process)));
    child.0.wait().expect("a status");
    assert!(!alive(proc, pid, ticks(&process)));
}

#[test]
fn a_real_script_of_a_hostile_name_and_a_removed_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("a) S 1\n(b");
    let program = directory.path().join("gone");
    // By another process: a file that this one has open for writing while another test forks cannot be run.
    let make = "printf '#!/bin/sh\\nread line\\n' >\"$1\"; cp /bin/sh \"$2\"; chmod 755 \"$1\" \"$2\"";
    let made = Command::new("/bin/sh").args(["-c", make, "make"]).args([&script, &program]).status();
    assert!(made.expect("a shell").success());

    let child = start(&script, &["word"]);
    let process = live(child.0.id());
    assert_eq!(process.comm.0, b"a) S 1\n(b");
    assert!(process.script && !process.path_deleted);
    assert_eq!(process.path.0, script.as_os_str().as_encoded_bytes());

    let child = start(&program, &["-c", "read line"]);
    fs::remove_file(&program).expect("it was there");
    let process = live(child.0.id());
    assert_eq!(process.path.0, program.as_os_str().as_encoded_bytes());
    assert!(process.path_deleted && !process.script);
}

#[test]
fn of_an_environment_only_a_cni_call_s_variables_are_kept_and_only_of_young_processes() {
    let environ = b"PATH=/bin\0CNI_IFNAME=eth0\0SECRET=hunter2\0CNI_COMMAND=ADD\0CNI_ARGS=K8S_POD_NAME=web\0CNI_PATH=/x\0";
    let fake = Fake::new();
    fake.put("uptime", b"100.00 1.00");
    // It began at 81.23 s.
    fake.process(42, b"bridge", 'S', 17, 0);
    fake.put("42/environ", environ);
    let found = fake.only().cni_environment.expect("a call");
    assert_eq!((found.command.to_string(), found.ifname.to_string()), ("ADD".into(), "eth0".into()));
    assert_eq!(
        (found.args.to_string(), found.container_id.to_string()),
        ("K8S_POD_NAME=web".into(), String::new())
    );
    assert!(!format!("{:?}", fake.only()).contains("hunter2"));
    fake.put("42/environ", b"CNI_COMMANDS=ADD\0XCNI_COMMAND=ADD\0");
    assert_eq!(fake.only().cni_environment, None);
    fake.put("42/environ", environ);
    fake.put("uptime", b"5000.00 1.00");
    assert_eq!(fake.only().cni_environment, None, "too old");
}
