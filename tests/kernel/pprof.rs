//! Profiles of processes that have none, read by Go's own tool; and the storm of a stripped daemon under its own names.

use crate::proxy::waited_ns;
use harness::agent;
use harness::agent::{Agent, monotonic_ns};
use harness::netns::die_with_test;
use harness::serviceproxy::{ServiceProxy, build_stripped};
use harness::tools::Tool;
use slowpod::client;
use slowpod::views::profiles::{Kind, PROFILES};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Longest wait for an answer of a window.
const PATIENCE: Duration = Duration::from_secs(60);

/// `go tool pprof`, with nothing of this machine's user in it. The program itself: `go` would run it as a child of its
/// own, which outlives it.
fn pprof(folder: &Path, arguments: &[&str]) -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let told = Command::new(Tool::Go.require()).args(["tool", "-n", "pprof"]).output();
        let path = String::from_utf8(told.expect("go runs").stdout).expect("a path");
        PathBuf::from(path.trim_end())
    });
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    command.env("HOME", folder).env("PPROF_TMPDIR", folder).stdin(Stdio::null());
    command
}

/// What it prints.
pub(crate) fn print(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = pprof(folder, arguments).output().expect("go tool pprof runs");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "go tool pprof {arguments:?}: {stderr}");
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Its page of a profile, as it serves it to a browser.
fn page(folder: &Path, file: &str, path: &str) -> String {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("a port").port();
    let address = format!("127.0.0.1:{port}");
    let mut command = pprof(folder, &[&format!("-http={address}"), "-no_browser", file]);
    let mut serving = die_with_test(&mut command)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("go tool pprof runs");
    let begun = Instant::now();
    let page = loop {
        match ask(&address, path) {
            Ok(page) => break page,
            Err(error) => {
                assert!(begun.elapsed() < PATIENCE, "go tool pprof -http does not serve {file}: {error}")
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    serving.kill().and_then(|()| serving.wait()).expect("it ends");
    page
}

/// The body of a page that is there.
fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{path}: {}", answer.lines().next().unwrap_or_default());
    Ok(answer)
}

/// A process that does something of every kind, again and again until it is killed: it has a CNI environment, waits
/// for a file's lock that another holds, and computes.
fn everything(folder: &Path) -> Child {
    let lock = folder.join("lock").display().to_string();
    let script = format!(
        "while :; do
            CNI_COMMAND=ADD CNI_CONTAINERID=sandbox1 CNI_IFNAME=eth0 \\
            CNI_ARGS='K8S_POD_UID=11111111-2222-3333-4444-555555555555;K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop' \\
            /usr/bin/env sleep 0.02
            flock {lock} sleep 0.1 & flock {lock} true; wait
            i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
        done"
    );
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).stdin(Stdio::null());
    die_with_test(&mut command).spawn().expect("a shell")
}

/// The profile of a window that begins now, in a file.
fn fetch(agent: &str, folder: &Path, kind: &Kind, name: &str, query: &str) -> PathBuf {
    let path = format!("/debug/pprof/{}?{query}", kind.name);
    let body = client::get_within(agent, &path, PATIENCE).unwrap_or_else(|error| panic!("{path}: {error}"));
    let file = folder.join(name);
    std::fs::write(&file, body).expect("a file in a folder of its own");
    file
}

#[test]
fn go_tool_pprof_reads_every_kind() {
    let agent = agent!();
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let flags = ["-services", "60", "-resyncs", "0", "-idle-between", "100ms", "-own-work", "1ms"];
    let mut proxy = ServiceProxy::start(&flags);
    proxy.go();
    let mut everything = everything(folder);
    let pid = proxy.pid().to_string();
    // All at once, and each once more for comparison.
    std::thread::scope(|scope| {
        for kind in PROFILES {
            for name in ["base", "now"] {
                let file = format!("{}.{name}.pb.gz", kind.name);
                let address = agent.address();
                scope.spawn(move || fetch(address, folder, kind, &file, "seconds=4"));
            }
        }
    });
    everything.kill().and_then(|()| everything.wait()).expect("the shell ends");
    for kind in PROFILES {
        check(folder, kind, &pid);
    }
    proxy.stop();
    // Looked back at, by the pod that its CNI call named.
    fetch(
        agent.address(),
        folder,
        &slowpod::views::profiles::cni::KIND,
        "pod.pb.gz",
        "ago=30&pod=web&namespace=shop",
    );
    let top = print(folder, &["-top", "pod.pb.gz"]);
    assert!(top.contains("env ADD") && top.contains("[blocked: sleep]"), "{top}");
    let tags = print(folder, &["-tags", "pod.pb.gz"]);
    assert!(tags.contains("k8s.pod.name") && tags.contains("11111111-2222-3333-4444-555555555555"), "{tags}");
}

/// Rows of a table that `-top` prints.
fn rows(top: &str) -> usize {
    let below = top.lines().skip_while(|line| !line.trim_start().starts_with("flat "));
    below.skip(1).filter(|line| line.contains('%')).count()
}

fn check(folder: &Path, kind: &Kind, pid: &str) {
    let (base, now) = (format!("{}.base.pb.gz", kind.name), format!("{}.now.pb.gz", kind.name));
    let top = print(folder, &["-top", &now]);
    assert!(top.contains(&format!("Type: {}", kind.values[kind.default_value].name)), "{}: {top}", kind.name);
    assert!(rows(&top) > 0, "{}: nothing in it: {top}", kind.name);
    for value in kind.values {
        let other = print(folder, &["-top", &format!("-sample_index={}", value.name), &now]);
        assert!(other.contains(&format!("Type: {}", value.name)), "{}: {other}", kind.name);
    }
    assert!(print(folder, &["-tree", &now]).contains("flat%"), "{}", kind.name);
    let difference = print(folder, &["-top", &format!("-diff_base={now}"), &now]);
    assert!(difference.contains("Showing nodes accounting for 0, 0%"), "{}: {difference}", kind.name);
    assert!(print(folder, &["-top", &format!("-diff_base={base}"), &now]).contains("flat%"), "{}", kind.name);
    let comments = print(folder, &["-comments", &now]);
    assert!(
        comments.contains("completeness: {\"complete\":") && comments.contains("window: 4.000 s"),
        "{comments}"
    );
    if kind.name != "cni" {
        let focus = format!("-tagfocus=process.pid=^{pid}$");
        let focused = print(folder, &["-top", "-nodefraction=0", "-nodecount=500", &focus, &now]);
        assert!(rows(&focused) > 0, "{}: nothing of the proxy: {focused}", kind.name);
        // What was spawned is named first; samples of a machine that compiles beside us may wait for their names.
        let is_named = focused.contains("main.(*proxy)");
        assert!(is_named || kind.sampled, "{}: {focused}", kind.name);
    }
    let nobody = print(folder, &["-top", "-tagfocus=process.pid=^4194305$", &now]);
    assert_eq!(rows(&nobody), 0, "{}: {nobody}", kind.name);
    let rooted = print(folder, &["-traces", "-tagroot=process.executable.name", &now]);
    assert!(!rooted.is_empty(), "{}", kind.name);
    assert!(page(folder, &now, "/ui/flamegraph").contains("</html>"), "{}", kind.name);
}

/// Value of the folded lines that have all of these in them.
fn sum(folded: &str, parts: &[&str]) -> u64 {
    let lines = folded.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
    lines.map(|line| line.rsplit_once(' ').expect("a value").1.parse::<u64>().expect("a number")).sum()
}

/// The kube-router picture: a daemon without symbols, its own functions, what they ran, and how much of the resync that
/// is by the daemon's own clock.
#[test]
fn a_stripped_daemons_storm_stands_on_its_own_functions() {
    let agent = agent!();
    let mut proxy = ServiceProxy::start_program(
        build_stripped(),
        &["-services", "200", "-workers", "1", "-resyncs", "0", "-idle-between", "60s"],
    );
    let pid = proxy.pid();
    let set_up_ns = proxy.ready().number("/last_reap_ns");
    let from_ns = monotonic_ns().max(set_up_ns);
    let before_ns = waited_ns(pid);
    proxy.go();
    let resync = proxy.await_event("resync");
    let waited_ns = waited_ns(pid) - before_ns;
    proxy.stop();
    let end_ns = resync.number("/end_ns");
    let folded = folded(&agent, pid, from_ns, end_ns);
    let total_ns = sum(&folded, &[]);
    let busy_ns = resync.number("/exec_busy_ns");
    // The daemon's clock also runs before its clone calls and after its waits, and where it waits for a CPU there no hook
    // sees for what.
    let told = format!("{total_ns} ns; the daemon has {busy_ns} ns, and waited {waited_ns} ns\n{folded}");
    assert!(total_ns <= busy_ns + busy_ns / 20, "{told}");
    assert!(total_ns + waited_ns / 10 + busy_ns / 20 >= busy_ns, "{told}");
    eprintln!("exec {total_ns} ns, daemon {busy_ns} ns, waited {waited_ns} ns");
    let added_ns = sum(&folded, &["main.(*proxy).syncIPSets", "main.(*proxy).runIPSetAdd", ";ipset add;"]);
    assert_eq!(added_ns, sum(&folded, &[";ipset add;"]), "some are spawned from elsewhere\n{folded}");
    assert!(sum(&folded, &["main.(*proxy)", ";ip route replace;"]) > 0, "{folded}");
}

/// Folded stacks of a process's spawns from one instant to another, once the agent has read that far.
fn folded(agent: &Agent, pid: u32, from_ns: u64, until_ns: u64) -> String {
    agent.view_at("/api/v1/storms?seconds=1", until_ns);
    let begun = Instant::now();
    loop {
        let ago = (monotonic_ns() - from_ns) as f64 / 1e9;
        let seconds = (until_ns - from_ns) as f64 / 1e9;
        let path = format!("/flamegraph/exec?format=folded&ago={ago}&seconds={seconds}&pid={pid}");
        let body = client::get(agent.address(), &path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let folded = String::from_utf8(body).expect("UTF-8");
        // Names come a little later than stacks.
        if !folded.contains(";0x") || begun.elapsed() > PATIENCE {
            return folded;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Fifty clients in front of one agent: each gets its window, and a view is answered meanwhile.
#[test]
fn fifty_clients_at_once_are_all_served() {
    let agent = agent!();
    let kinds = PROFILES.iter().cycle().take(50);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = kinds
            .map(|kind| {
                let path = format!("/debug/pprof/{}?seconds=2", kind.name);
                let address = agent.address();
                scope.spawn(move || client::get_within(address, &path, PATIENCE))
            })
            .collect();
        let asked = Instant::now();
        agent.get("/api/v1/findings?seconds=5").expect("an answer while they wait");
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        for client in clients {
            let body = client.join().expect("no panic").expect("a profile");
            assert_eq!(body[..2], [0x1f, 0x8b], "gzip");
        }
    });
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let memory = agent.get("/debug/self").expect("its own account");
    assert!(memory.number("/memory/resident_bytes") < 400 << 20, "{memory}");
}

/// A profile recorded by attaching, and one by asking an agent that runs.
#[test]
fn record_writes_what_the_suffix_says() {
    let agent = agent!();
    let folder = tempfile::tempdir().expect("a folder");
    let program = harness::agent::binary(env!("CARGO_BIN_EXE_workload"));
    let record = |file: &str, more: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["record", "-d", "1s", "-o", file]).args(more).current_dir(folder.path());
        let Output { status, stderr, .. } = command.output().expect("slowpod runs");
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert!(status.success(), "{file} {more:?}: {stderr}");
        assert!(stderr.contains(&format!("wrote {file} (")), "{stderr}");
        std::fs::read(folder.path().join(file)).expect("the file")
    };
    let address = agent.address();
    for more in [&[][..], &["--listen", address]] {
        assert_eq!(record("cpu.pb.gz", more)[..2], [0x1f, 0x8b]);
        assert!(print(folder.path(), &["-top", "cpu.pb.gz"]).contains("Type: cpu"));
        let svg =
            String::from_utf8(record("wait.svg", &[more, &["--kind", "offcpu"]].concat())).expect("UTF-8");
        assert!(svg.contains("offcpu") && svg.contains("</svg>"));
        let text =
            String::from_utf8(record("exec.txt", &[more, &["--kind", "exec"]].concat())).expect("UTF-8");
        assert!(text.starts_with("exec profile: total "), "{text}");
        let folded =
            String::from_utf8(record("o.folded", &[more, &["-k", "offcpu", "--comm", "slowpod"]].concat()));
        let folded = folded.expect("UTF-8");
        assert!(folded.lines().all(|line| line.contains("slowpod")), "{folded}");
    }
    for (arguments, word) in [
        (&["-o", "x.png"][..], ".pb.gz, .svg"),
        (&["-o", "x.svg", "--kind", "heap"], "there are: profile"),
        (&["-o", "x.tape", "--listen", address], "leave out --listen"),
    ] {
        let output = Command::new(&program).arg("record").args(arguments).output().expect("slowpod runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(word), "{arguments:?}: {stderr}");
    }
}
