//! `slowpod flux --explain` names what made a plugin slow, and its figures agree with the plugin's own clock.

use super::bed::{Bed, Outcome, wait_until};
use harness::truth::Truth;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// How far slowpod's figure may be from the plugin's own account, in percent.
const AGREES_PERCENT: u64 = 5;
/// And the least difference that counts: what lies between the plugin's readings beside the wait.
const AGREES_NS: u64 = 500_000;

/// A run against the slow plugin with these phases in ADD, explained.
pub(super) fn explained(bed: &Bed, phases: Value, pods: &str) -> (Outcome, Truth) {
    let list = bed.slow(phases);
    let outcome = bed.run(&list, &["--pods", pods, "--concurrency", pods, "--no-loopback", "--explain"]);
    let report = outcome.report();
    (outcome, report)
}

/// The first finding of all, which must be of this rule: whatever else goes on on this machine comes after what makes the
/// run slow.
pub(super) fn first(report: &Truth, rule: &str) -> Truth {
    let mut findings = report.list("/explained/findings/findings");
    assert!(!findings.is_empty(), "nothing was found: {report}");
    let first = findings.remove(0);
    assert_eq!(first.text("/rule"), rule, "{first}, {findings:?}");
    first
}

/// The same where the machine may be so busy that waiting for a CPU takes more than what the plugin waits for: the plugin's
/// own account decides, of all its waits for a CPU, as the finding is about whole calls. What is closer than figures agree
/// may come in either order.
pub(super) fn first_by_account(report: &Truth, log: &[Truth], rule: &str) {
    let removing_ns = |line: &Truth| line.at("/truth").get("removing_ns").and_then(Value::as_u64);
    let blocked_ns: u64 =
        log.iter().map(|line| line.number("/truth/blocked_ns") + removing_ns(line).unwrap_or(0)).sum();
    let mut queued: BTreeMap<u64, u64> = BTreeMap::new();
    for line in log {
        let in_all_ns = queued.entry(line.number("/pid")).or_default();
        *in_all_ns = line.number("/truth/queued_in_all_ns").max(*in_all_ns);
    }
    let queued_ns: u64 = queued.values().sum();
    let is_near = blocked_ns.abs_diff(queued_ns) * 100 <= blocked_ns.max(queued_ns) * AGREES_PERCENT;
    let is_told = report.text("/explained/findings/findings/0/rule") == rule;
    let by_rule = if is_near { is_told } else { blocked_ns > queued_ns };
    first(report, if by_rule { rule } else { "cni_cpu" });
}

/// ADD calls of the slow plugin.
pub(super) fn adds(report: &Truth) -> Vec<Truth> {
    let calls = report.list("/explained/cni/calls").into_iter();
    calls.filter(|call| call.text("/command") == "ADD" && call.text("/plugin") == "slow-cni").collect()
}

/// What the plugin with this process id wrote down of one phase.
fn phase(log: &[Truth], pid: u64, name: &str) -> Truth {
    let is_it = |line: &&Truth| line.number("/pid") == pid && line.text("/do") == name;
    log.iter().find(is_it).expect("a line per phase").clone()
}

/// The plugin's account has being blocked apart from running and from being ready, so it holds on a busy machine too.
fn assert_agrees(what: &str, told_ns: u64, truth_ns: u64) {
    let slack_ns = (truth_ns * AGREES_PERCENT / 100).max(AGREES_NS);
    let apart_ns = told_ns.abs_diff(truth_ns);
    assert!(apart_ns <= slack_ns, "{what}: slowpod says {told_ns} ns, the plugin {truth_ns} ns");
}

/// How long a call was blocked by a cause, as its split says.
fn blocked_ns(call: &Truth, cause: &str) -> u64 {
    call.at("/split/blocked_by").get(cause).and_then(Value::as_u64).unwrap_or(0)
}

/// Each call's time blocked by a cause, and in the evidence for it, agrees with what the plugin says of a phase.
pub(super) fn assert_each_agrees(bed: &Bed, report: &Truth, cause: &str, name: &str) {
    let (calls, log) = (adds(report), bed.log());
    assert!(!calls.is_empty());
    for call in &calls {
        let truth_ns = phase(&log, call.number("/pid"), name).number("/truth/blocked_ns");
        assert_agrees(&format!("blocked by {cause}"), blocked_ns(call, cause), truth_ns);
        let waits = call.list("/waits").into_iter().filter(|wait| wait.text("/on") == cause);
        let told_ns = waits.map(|wait| wait.number("/blocked_ns")).sum();
        assert_agrees(&format!("evidence of {cause}"), told_ns, truth_ns);
    }
}

#[test]
fn a_shared_lock_is_a_convoy_with_its_holder() {
    let bed = Bed::new("convoy");
    let phases = json!([{ "do": "lock", "path": bed.path("lock"), "ms": 120 }]);
    let (_, report) = explained(&bed, phases, "5");
    let finding = first(&report, "lock_convoy");
    assert!(finding.text("/title").contains("/lock: "), "{finding}");
    assert!(finding.text("/title").contains("held by slow-cni (pod slowpod-flux/"), "{finding}");
    // The first had it at once; of the others each waited behind one more.
    assert_eq!(finding.number("/numbers/waiters"), 4, "{finding}");
    assert_eq!(finding.number("/numbers/queue_max"), 4, "{finding}");
    let log = bed.log();
    let waited_ns: u64 = log.iter().map(|line| line.number("/truth/blocked_ns")).sum();
    assert_agrees("waiting for the lock", finding.number("/numbers/waited_ns"), waited_ns);
    assert_each_agrees(&bed, &report, "file_lock", "lock");
    // Who held it when the last one began to wait is the one that waited not at all.
    let lucky = log.iter().min_by_key(|line| line.number("/truth/waited_ns")).unwrap();
    let waits: Vec<Truth> = adds(&report).iter().flat_map(|call| call.list("/waits")).collect();
    for wait in waits.iter().filter(|wait| wait.text("/on") == "file_lock") {
        assert_eq!(wait.number("/holder/process/pid"), lucky.number("/pid"), "{wait}");
    }
    bed.assert_nothing_left();
}

#[test]
fn a_slow_disk_is_named_with_its_device() {
    let bed = Bed::new("disk");
    // Few and large: each is a wake-up, and a wake-up may be a wait for a CPU.
    const SYNCS: usize = 24;
    let phases = vec![json!({ "do": "fsync", "path": bed.path(""), "bytes": 4 << 20 }); SYNCS];
    let (_, report) = explained(&bed, json!(phases), "3");
    let log = bed.log();
    first_by_account(&report, &log, "cni_disk");
    let all = report.list("/explained/findings/findings");
    let finding = all.iter().find(|finding| finding.text("/rule") == "cni_disk").expect("the disk");
    assert!(finding.number("/numbers/fsyncs") >= 3 * SYNCS as u64, "{finding}");
    for call in &adds(&report) {
        let own = log.iter().filter(|line| line.number("/pid") == call.number("/pid"));
        let truth_ns: u64 = own.map(|line| line.number("/truth/blocked_ns")).sum();
        let waits = call.list("/waits").into_iter();
        let synced_ns: u64 =
            waits.filter(|wait| wait.text("/op") == "fsync").map(|wait| wait.number("/blocked_ns")).sum();
        assert_agrees("evidence of fsync", synced_ns, truth_ns);
        assert!(call.at("/node_io").is_object(), "{call}");
    }
    bed.assert_nothing_left();
}

/// Answers one line after a while, as often as it is asked.
fn answer_late(mut client: impl Read + Write) {
    client.read_exact(&mut [0; 4]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    client.write_all(b"late").unwrap();
}

#[test]
fn a_late_server_is_named_with_its_address() {
    let bed = Bed::new("server");
    let server = bed.net.inside(|| TcpListener::bind("127.0.0.1:0"));
    assert!(bed.ip(&["link", "set", "lo", "up"]));
    let server = server.unwrap();
    let address: SocketAddr = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in server.incoming() {
            std::thread::spawn(move || answer_late(client.unwrap()));
        }
    });
    let list = bed.slow(json!([{ "do": "tcp", "address": address.to_string() }]));
    let api_server = address.to_string();
    let options =
        ["--pods", "3", "--concurrency", "3", "--no-loopback", "--explain", "--api-server", &api_server];
    let report = bed.run(&list, &options).report();
    let finding = first(&report, "cni_server");
    assert!(finding.text("/title").contains(&format!("for the API server ({address})")), "{finding}");
    assert_each_agrees(&bed, &report, "inet", "tcp");
    bed.assert_nothing_left();
}

/// Has a listener keep one connection that nobody takes, and no more: who comes next is not answered until it is taken.
fn listen_to_one(listener: &TcpListener) {
    // SAFETY: plain numbers; the listener is open. Listening again sets the queue's length.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
}

/// Whether anybody in the network namespace waits for an answer to its connect (`TCP_SYN_SENT`, proc_pid_net(5)).
fn somebody_connects(bed: &Bed) -> bool {
    let table = bed.net.inside(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
    table.lines().any(|line| line.split_whitespace().nth(3) == Some("02"))
}

#[test]
fn a_slow_connect_and_a_late_answer_are_told_apart() {
    let bed = Bed::new("connect");
    assert!(bed.ip(&["link", "set", "lo", "up"]));
    let server = bed.net.inside(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    listen_to_one(&server);
    let address = server.local_addr().unwrap();
    let in_the_way = bed.net.inside(|| TcpStream::connect(address)).unwrap();
    let list = bed.slow(json!([{ "do": "tcp", "address": address.to_string() }]));
    let running = bed.start(&list, &["--pods", "1", "--no-loopback", "--explain"]);
    wait_until("a connect that is not answered", || somebody_connects(&bed));
    drop(in_the_way);
    drop(server.accept().unwrap());
    std::thread::spawn(move || answer_late(server.accept().unwrap().0));
    let report = running.finish().good();
    let finding = first(&report, "cni_server");
    assert!(finding.text("/title").contains(&address.to_string()), "{finding}");
    assert_each_agrees(&bed, &report, "inet", "tcp");
    let waits: Vec<Truth> = adds(&report).iter().flat_map(|call| call.list("/waits")).collect();
    let of = |op: &str| waits.iter().find(|wait| wait.text("/on") == "inet" && wait.text("/op") == op);
    let (connect, answer) = (of("connect").expect("the connect"), of("receive").expect("the answer"));
    assert_eq!(
        (connect.text("/remote"), answer.text("/remote")),
        (address.to_string().as_str(), address.to_string().as_str())
    );
    // The client asks again a second after the first time (RFC 6298); what it then waits for is the answer.
    assert!(connect.number("/blocked_ns") >= 900_000_000, "{waits:?}");
    assert!(answer.number("/retransmits").max(connect.number("/retransmits")) >= 1, "{waits:?}");
    bed.assert_nothing_left();
}

#[test]
fn a_slow_daemon_is_named_with_its_process() {
    let bed = Bed::new("daemon");
    let socket = bed.path("sock");
    let daemon = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for client in daemon.incoming() {
            std::thread::spawn(move || answer_late(client.unwrap()));
        }
    });
    let (_, report) = explained(&bed, json!([{ "do": "unix", "path": socket }]), "3");
    let finding = first(&report, "cni_daemon");
    let path = socket.to_str().unwrap();
    assert!(finding.text("/title").contains(path), "{finding}");
    assert_each_agrees(&bed, &report, "unix_socket", "unix");
    let waits: Vec<Truth> = adds(&report).iter().flat_map(|call| call.list("/waits")).collect();
    for wait in waits.iter().filter(|wait| wait.text("/on") == "unix_socket") {
        assert_eq!(wait.text("/path"), path);
        // The daemon at the other end is this test.
        assert_eq!(wait.number("/holder/process/pid"), u64::from(std::process::id()), "{wait}");
    }
    assert!(finding.at("/fix").to_string().contains("/debug/pprof/profile?pid="), "{finding}");
    bed.assert_nothing_left();
}

#[test]
fn forty_commands_in_each_add_are_an_exec_storm_of_the_plugin() {
    let bed = Bed::new("forty");
    let phases = json!([{ "do": "spawn", "program": "iptables", "args": ["--version"], "times": 40 }]);
    let (_, report) = explained(&bed, phases, "2");
    let finding = first(&report, "cni_exec_storm");
    assert_eq!(finding.number("/numbers/helpers"), 80, "{finding}");
    let log = bed.log();
    for call in &adds(&report) {
        let truth = phase(&log, call.number("/pid"), "spawn");
        assert_eq!(call.number("/tree/spawns"), 40);
        assert_agrees(
            "waiting for children",
            blocked_ns(call, "child_wait"),
            truth.number("/truth/blocked_ns"),
        );
        // A child is alive for as long as the plugin waits for it, and for no longer than the phase.
        let busy_ns = call.number("/tree/busy_ns");
        let (least_ns, most_ns) = (truth.number("/truth/blocked_ns"), truth.number("/truth/waited_ns"));
        assert!(
            busy_ns + AGREES_NS + least_ns * AGREES_PERCENT / 100 >= least_ns
                && busy_ns <= most_ns + AGREES_NS,
            "{busy_ns}: {truth}"
        );
    }
    bed.assert_nothing_left();
}

#[test]
fn a_plugin_that_fails_twice_is_told_in_its_own_words() {
    let bed = Bed::new("words");
    std::fs::create_dir(bed.path("state")).unwrap();
    let phases = json!([{ "do": "sleep", "ms": 60 }, { "do": "fail", "code": 11, "msg": "the object has been modified",
        "details": "409 token=hunter2", "times": 2, "state": bed.path("state") }]);
    let list = bed.slow(phases);
    let options = ["--pods", "3", "--retries", "2", "--retry-backoff", "50ms", "--no-loopback", "--explain"];
    let outcome = bed.run(&list, &options);
    assert!(!outcome.stdout.contains("hunter2") || outcome.report().list("/failures").len() == 1);
    let report = outcome.good();
    let finding = first(&report, "cni_retries");
    assert!(finding.text("/title").contains("CNI error 11, `the object has been modified`"), "{finding}");
    assert_eq!(
        (finding.number("/numbers/failed"), finding.number("/numbers/conflicts")),
        (6, 6),
        "{finding}"
    );
    let totals = report.at("/explained/cni/totals");
    assert_eq!((&totals["errors"]["11"], &totals["conflicts"]), (&json!(6), &json!(6)));
    let explained = report.at("/explained").to_string();
    assert!(!explained.contains("hunter2"), "a secret in an error's words");
    bed.assert_nothing_left();
}

#[test]
fn a_plugin_that_computes_or_sleeps_is_slow_by_itself() {
    let bed = Bed::new("sleeps");
    let (_, report) = explained(&bed, json!([{ "do": "sleep", "ms": 700 }]), "2");
    let finding = first(&report, "cni_slow");
    assert!(finding.text("/title").contains("of it sleep"), "{finding}");
    bed.assert_nothing_left();
}

#[test]
fn the_slow_plugin_of_a_chain_is_named() {
    let bed = Bed::new("chain");
    let slow = json!({ "type": "slow-cni", "log": bed.path("log"), "slow": [{ "do": "sleep", "ms": 800 }] });
    let bridge = serde_json::from_str::<Value>(&std::fs::read_to_string(bed.bridge()).unwrap()).unwrap();
    let list = json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": [bridge["plugins"][0], slow] });
    let list = bed.conflist(&list);
    let report = bed.run(&list, &["--pods", "2", "--concurrency", "1", "--no-loopback", "--explain"]).good();
    let finding = first(&report, "cni_slow");
    assert!(finding.text("/title").contains("of its chain with bridge"), "{finding}");
    assert!(finding.text("/title").starts_with("ADD of slow-cni"), "{finding}");
    bed.assert_nothing_left();
}

#[test]
fn the_reference_bridge_s_addresses_are_told_by_its_own_result() {
    let bed = Bed::new("result");
    let report = bed.run(&bed.bridge(), &["--pods", "3", "--no-loopback", "--explain"]).good();
    let calls = report.list("/explained/cni/calls");
    let of = |plugin: &str| {
        let is_its = |call: &&Truth| call.text("/plugin") == plugin && call.text("/command") == "ADD";
        calls.iter().filter(is_its).map(|call| call.at("/output").to_string()).collect::<Vec<_>>()
    };
    let said = of("bridge");
    assert!(!said.is_empty() && said.iter().all(|output| output.contains("\"10.98.0.")), "{said:?}");
    bed.assert_nothing_left();
}
