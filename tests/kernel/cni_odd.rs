//! CNI calls as they are not meant to be: arguments that make no sense, plugins that end in odd ways, sandboxes that come
//! again, and an agent that comes or goes in the middle.

use harness::agent;
use harness::agent::Agent;
use harness::netns::die_with_test;
use harness::truth::Truth;
use serde_json::{Value, json};
use slowpod::client;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for metrics, which are renewed every second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime in miniature: a folder with one plugin, which does what `DO` says.
pub(crate) struct Runtime {
    folder: tempfile::TempDir,
    mark: String,
}

impl Runtime {
    pub(crate) fn new() -> Runtime {
        let folder = tempfile::tempdir().unwrap();
        let plugin = folder.path().join("plugin");
        std::fs::write(&plugin, "#!/bin/sh\neval \"$DO\"\n").unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        Runtime { folder, mark: format!("odd{:08x}", std::process::id()) }
    }

    /// A gate, and a shell's words for waiting at it. One plugin may wait at each.
    pub(crate) fn gate(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        format!("read x < {}", path.display())
    }

    /// Lets the plugin pass that waits there.
    pub(crate) fn open(&self, name: &str) {
        let gate = OpenOptions::new().write(true).open(self.folder.path().join(name));
        gate.unwrap().write_all(b"\n").unwrap();
    }

    pub(crate) fn sandbox(&self, name: &str) -> String {
        format!("{}-{name}", self.mark)
    }

    /// Starts a call.
    pub(crate) fn start(&self, command: &str, sandbox: &str, args: impl AsRef<OsStr>, work: &str) -> Child {
        let mut plugin = Command::new(self.folder.path().join("plugin"));
        plugin.env_clear().env("CNI_COMMAND", command).env("CNI_CONTAINERID", self.sandbox(sandbox));
        plugin.env("CNI_IFNAME", "eth0").env("CNI_ARGS", args).env("DO", work);
        plugin.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        die_with_test(&mut plugin).spawn().unwrap()
    }

    /// A call for no pod, from start to end, with the variables that runtimes leave empty then: the plugin's pid, and what it
    /// said.
    fn podless(&self, command: &str, program: &Path, work: &str) -> (u32, Vec<u8>) {
        let mut plugin = Command::new(program);
        plugin.env_clear().env("CNI_COMMAND", command).env("DO", work).env("CNI_PATH", self.folder.path());
        for variable in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
            plugin.env(variable, "");
        }
        let config = self.folder.path().join("config");
        std::fs::write(&config, r#"{ "cniVersion": "1.0.0", "name": "odd", "type": "bridge" }"#).unwrap();
        plugin.stdin(File::open(config).unwrap()).stdout(Stdio::piped()).stderr(Stdio::null());
        let running = die_with_test(&mut plugin).spawn().unwrap();
        let pid = running.id();
        (pid, running.wait_with_output().unwrap().stdout)
    }

    /// A call from start to end.
    fn call(&self, command: &str, sandbox: &str, args: impl AsRef<OsStr>, work: &str) -> ExitStatus {
        self.start(command, sandbox, args, work).wait().unwrap()
    }

    /// The calls for a sandbox, once as many are in this state, and the whole answer.
    fn seen(&self, agent: &Agent, sandbox: &str, state: &str, count: usize) -> (Vec<Truth>, Truth) {
        let sandbox = self.sandbox(sandbox);
        let own = |answer: &Truth| -> Vec<Truth> {
            let calls = answer.list("/calls").into_iter();
            calls.filter(|call| call.text("/container_id") == sandbox).collect()
        };
        let answer = agent.view_when("/api/v1/cni?seconds=300&limit=20000", |answer| {
            own(answer).iter().filter(|call| call.text("/state") == state).count() >= count
        });
        let calls = own(&answer);
        assert_eq!(calls.len(), count, "{calls:?}");
        (calls, answer)
    }

    /// What is said of a sandbox's attempts.
    fn attempts(&self, answer: &Truth, sandbox: &str) -> Option<Truth> {
        let sandbox = self.sandbox(sandbox);
        answer.list("/sandboxes").into_iter().find(|row| row.text("/container_id") == sandbox)
    }
}

#[test]
fn arguments_that_make_no_sense_name_no_pod_and_lose_no_call() {
    /// More than is kept, and less than a variable may have (`MAX_ARG_STRLEN`).
    const HUGE_BYTES: usize = 100_000;
    let runtime = Runtime::new();
    let agent = agent!();
    let huge = [b"K8S_POD_UID=u-huge;K8S_POD_NAME=".as_slice(), &[b'x'; HUGE_BYTES]].concat();
    let cases: [(&str, &[u8], Value, Value); 6] = [
        ("empty", b"", Value::Null, Value::Null),
        ("malformed", b";;=;K8S_POD_NAME;=x;K8S_POD_UID", Value::Null, Value::Null),
        ("keyless", b"IgnoreUnknown=1;OTHER=2", Value::Null, Value::Null),
        (
            "hostile",
            b"K8S_POD_UID=u-\x1b[2J\xff;K8S_POD_NAME=\r\n",
            json!("u-\\x1b[2J\\xff"),
            json!("\\r\\n"),
        ),
        ("dots", b"K8S_POD_UID=../../etc;K8S_POD_NAME=..", json!("../../etc"), json!("..")),
        ("huge", &huge, json!("u-huge"), Value::Null),
    ];
    for (name, args, ..) in &cases {
        assert!(runtime.call("ADD", name, OsString::from_vec(args.to_vec()), "exit 0").success());
    }
    for (name, _, uid, pod) in &cases {
        let (calls, _) = runtime.seen(&agent, name, "ended", 1);
        let call = &calls[0];
        assert_eq!((call.number("/exit/code"), call.text("/command")), (0, "ADD"), "{name}");
        let told = call.at("/identity").get("pod_uid").cloned().unwrap_or_default();
        assert_eq!(&told, uid, "{name}: {call}");
        match *name {
            // What is kept of it, and nobody takes it for a name that fits.
            "huge" => assert!((100..1_024).contains(&call.text("/pod").len()), "{call}"),
            _ => assert_eq!(call.at("/pod"), pod, "{name}: {call}"),
        }
    }
    let (_, answer) = runtime.seen(&agent, "huge", "ended", 1);
    assert!(answer.number("/completeness/truncated/cni_environment") >= 1, "{answer}");
}

#[test]
fn plugins_that_end_in_odd_ways_are_told_as_they_end() {
    let runtime = Runtime::new();
    let agent = agent!();
    // One leaves a child behind; one is killed by a runtime that has had enough.
    assert!(runtime.call("ADD", "forks", "", &format!("({}) &", runtime.gate("child"))).success());
    let mut slow = runtime.start("ADD", "killed", "", &runtime.gate("never"));
    runtime.seen(&agent, "killed", "running", 1);
    slow.kill().unwrap();
    assert_eq!(slow.wait().unwrap().signal(), Some(libc::SIGKILL));

    let (calls, _) = runtime.seen(&agent, "forks", "ended", 1);
    assert_eq!((calls[0].number("/exit/code"), calls[0].number("/outlived_by")), (0, 1), "{}", calls[0]);
    runtime.open("child");
    let (calls, answer) = runtime.seen(&agent, "killed", "ended", 1);
    assert_eq!(calls[0].text("/exit/signal"), "SIGKILL", "{}", calls[0]);
    let attempts = runtime.attempts(&answer, "killed").unwrap();
    assert_eq!(attempts.text("/attempts/0/state"), "failed", "{attempts}");
}

#[test]
fn sandboxes_that_come_twice_again_or_only_go_are_kept_apart() {
    let runtime = Runtime::new();
    let agent = agent!();
    // The same id twice at once; a DEL of what was never added, twice; an id used again after it was deleted.
    let twins = ["one", "other"].map(|gate| (gate, runtime.start("ADD", "twice", "", &runtime.gate(gate))));
    runtime.seen(&agent, "twice", "running", 2);
    for (gate, mut twin) in twins {
        runtime.open(gate);
        assert!(twin.wait().unwrap().success());
    }
    for _ in 0..2 {
        assert!(runtime.call("DEL", "gone", "", "exit 0").success());
    }
    for (command, code) in [("ADD", 1), ("ADD", 0), ("DEL", 0), ("ADD", 0)] {
        let status = runtime.call(command, "again", "", &format!("exit {code}"));
        assert_eq!(status.code(), Some(code));
    }

    let (calls, answer) = runtime.seen(&agent, "twice", "ended", 2);
    assert_ne!(calls[0].number("/pid"), calls[1].number("/pid"));
    assert_eq!(runtime.attempts(&answer, "twice").unwrap().list("/attempts").len(), 2);
    let (_, answer) = runtime.seen(&agent, "gone", "ended", 2);
    assert!(runtime.attempts(&answer, "gone").is_none(), "{answer}");
    let (calls, answer) = runtime.seen(&agent, "again", "ended", 4);
    let last = calls.iter().max_by_key(|call| call.number("/start_ns")).unwrap();
    let attempts = runtime.attempts(&answer, "again").unwrap();
    // What came before the deletion was another network.
    assert_eq!((attempts.number("/retries"), attempts.list("/attempts").len()), (0, 1), "{attempts}");
    assert_eq!(attempts.number("/network_ready_ns"), last.number("/wall_ns"));
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_call_that_runs_as_the_agent_comes_or_goes_is_left_in_peace_and_told() {
    let runtime = Runtime::new();
    let args = "K8S_POD_UID=u-early;K8S_POD_NAME=early";
    let mut early = runtime.start("ADD", "early", args, &format!("{}; exit 7", runtime.gate("early")));
    let first = agent!();
    let (calls, _) = runtime.seen(&first, "early", "running", 1);
    assert_eq!((calls[0].text("/pod"), calls[0].text("/plugin")), ("early", "plugin"), "{}", calls[0]);
    assert!(calls[0].at("/cut_at_start") == true, "{}", calls[0]);
    // It goes on while that agent goes and another one comes.
    drop(first);
    assert!(alive(early.id()));
    let second = agent!();
    runtime.seen(&second, "early", "running", 1);
    runtime.open("early");
    assert_eq!(early.wait().unwrap().code(), Some(7));
    let (calls, answer) = runtime.seen(&second, "early", "ended", 1);
    let call = &calls[0];
    assert_eq!((call.number("/exit/code"), call.number("/pid")), (7, u64::from(early.id())), "{call}");
    // Nobody followed it from its beginning: there is no split, and that is said.
    assert!(call.at("/split").is_null() && call.at("/split_partial") == true, "{call}");
    assert!(call.text("/no_split").starts_with("not followed: it was there before"), "{call}");
    assert!(call.at("/cut_at_start") == true, "{call}");
    assert!(call.number("/wall_ns") > 0, "{call}");
    assert_eq!(runtime.attempts(&answer, "early").unwrap().text("/attempts/0/state"), "failed");
}

/// Whether a plugin is ready (STATUS), which versions it speaks, and that it is to drop what no pod has any more (GC).
#[test]
fn commands_for_no_pod_are_calls_of_none() {
    let runtime = Runtime::new();
    let agent = agent!();
    let own = runtime.folder.path().join("plugin");
    let asked = [("GC", 0), ("STATUS", 50), ("VERSION", 0)]
        .map(|(command, code)| (command, code, runtime.podless(command, &own, &format!("exit {code}")).0));
    // Debian's plugin is older than the command, and says so in its own words.
    let (refused, said) = runtime.podless("STATUS", Path::new("/usr/lib/cni/bridge"), "");
    let said: Value = serde_json::from_slice(&said).unwrap();

    let of = |answer: &Truth, pid: u32| -> Option<Truth> {
        let mut calls = answer.list("/calls").into_iter();
        calls.find(|call| call.number("/pid") == u64::from(pid) && call.text("/state") == "ended")
    };
    let answer =
        agent.view_when("/api/v1/cni?seconds=300&limit=20000", |answer| of(answer, refused).is_some());
    for (command, code, pid) in asked {
        let call = of(&answer, pid).unwrap_or_else(|| panic!("{command} is missing: {answer}"));
        assert_eq!((call.text("/command"), call.text("/plugin")), (command, "plugin"), "{call}");
        assert_eq!(call.number("/exit/code"), code, "{call}");
        assert_eq!((call.text("/container_id"), call.at("/pod")), ("", &Value::Null), "{call}");
        assert!(call.at("/identity").get("pod_uid").is_none(), "{call}");
        assert!(call.number("/wall_ns") > 0, "{call}");
    }
    let call = of(&answer, refused).unwrap();
    assert_eq!((call.text("/command"), call.text("/plugin")), ("STATUS", "bridge"), "{call}");
    assert_eq!(call.number("/exit/code"), 1, "{call}");
    assert_eq!((call.at("/output/error/code"), call.at("/output/error/msg")), (&said["code"], &said["msg"]));
    // None is an attempt to make a network, and nobody waits for one.
    assert!(answer.list("/sandboxes").iter().all(|row| !row.text("/container_id").is_empty()), "{answer}");
    let series = ["GC", "STATUS", "VERSION"].map(|command| {
        format!("slowpod_cni_call_duration_seconds_count{{command=\"{command}\",plugin=\"plugin\"}} 1\n")
    });
    let begun = Instant::now();
    loop {
        let metrics = String::from_utf8(client::get(agent.address(), "/metrics").unwrap()).unwrap();
        if series.iter().all(|line| metrics.contains(line)) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{metrics}");
        std::thread::sleep(PATIENCE / 100);
    }
}
