//! Netlink, live: messages, bytes, names, time inside and refusals, against the sender and other witnesses.

use crate::exact::{assert_near, assert_nothing_lost, path};
use harness::agent::{Agent, monotonic_ns};
use harness::netns::own_netns;
use harness::running::Running;
use harness::tools::Tool;
use harness::truth::Truth;
use harness::{agent, workload};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::Command;

/// What the children of one class sent whom this process spawned, up to an instant.
fn sender(agent: &Agent, name: &str, spawner: u32, ktime_ns: u64) -> Truth {
    let answer = agent.view_at(&path("netlink", ""), ktime_ns);
    assert_nothing_lost(&answer);
    let mut senders = answer.list("/senders");
    let spawner = u64::from(spawner);
    senders.retain(|row| row.text("/argv_class") == name && row.number("/process/pid") == spawner);
    assert_eq!(senders.len(), 1, "{answer}");
    senders.remove(0)
}

fn check(what: &str, call: &str, per_send: u64) {
    const COUNT: u64 = 600;
    let agent = agent!();
    let storm = workload!("netlink-storm").option("--count", COUNT).option("--what", what);
    let truth = storm.option("--call", call).option("--per-send", per_send).run();
    let sender = sender(&agent, "workload netlink-storm", std::process::id(), truth.number("/end_ns"));
    assert_eq!((sender.text("/sender"), sender.number("/spawns")), ("children", 1));
    let [message] = &sender.list("/messages")[..] else { panic!("{sender}") };
    let (family, subsystem) = match what {
        "getlink" | "newroute" | "duplicate" => ("ROUTE", json!(null)),
        "getfamily" => ("GENERIC", json!("nlctrl")),
        "gettable" | "newtable" => ("NETFILTER", json!("nftables")),
        "getconntrack" => ("NETFILTER", json!("conntrack")),
        other => panic!("no family is known of {other}"),
    };
    assert_eq!((message.text("/family"), message.at("/subsystem")), (family, &subsystem), "{what}");
    assert_eq!(message.at("/message"), truth.at("/message_type"));
    for field in ["/messages", "/sends", "/bytes"] {
        assert_eq!(message.at(field), truth.at(field), "{field}: {what} by {call}, {per_send} at a time");
    }
    // Where the kernel has no probe inside netlink, only the two usual calls can be timed: that is said, not guessed.
    let (untimed, sends) = (sender.number("/untimed_sends"), truth.number("/sends"));
    if untimed > 0 {
        assert!(matches!(call, "write" | "sendmmsg"), "{call} is timed: {sender}");
        assert_eq!((untimed, message.number("/inside_ns")), (sends, 0), "{sender}");
    } else {
        // The sender's clock is read around the call, and the CPU may be taken from it on the way to and fro.
        let around_ns = sends * 1_500 + truth.number("/runnable_ns");
        assert_near("inside", message.number("/inside_ns"), truth.number("/inside_ns"), 10, around_ns);
    }
    let refused = |errno: i32| truth.at("/errors").get(errno.to_string()).and_then(|count| count.as_u64());
    let by: BTreeMap<&str, u64> = [(libc::EEXIST, "EEXIST"), (libc::ENOENT, "ENOENT")]
        .into_iter()
        .filter_map(|(errno, name)| Some((name, refused(errno)?)))
        .collect();
    assert_eq!(message.number("/refused"), by.values().sum::<u64>(), "{message}");
    assert_eq!(sender.at("/refused_by"), &json!(by));
    assert_eq!(sender.number("/cut_sends"), 0);
}

#[test]
fn each_call_that_sends() {
    for call in ["sendto", "sendmsg", "sendmmsg", "write"] {
        check("newroute", call, 1);
    }
}

#[test]
fn several_messages_in_one_send() {
    check("newroute", "sendmsg", 20);
    check("getlink", "sendto", 7);
    check("getlink", "sendmmsg", 7);
    check("newroute", "write", 7);
}

#[test]
fn questions_and_refusals() {
    check("getlink", "sendmsg", 1);
    check("duplicate", "sendmsg", 1);
    check("duplicate", "sendto", 10);
}

#[test]
fn generic_netlinks_own_family() {
    check("getfamily", "sendmsg", 1);
    check("getfamily", "sendto", 7);
}

/// The markers around a batch are no messages.
#[test]
fn tables_of_nftables_asked_for_and_made() {
    check("gettable", "sendto", 1);
    check("gettable", "sendmsg", 9);
    check("newtable", "sendmsg", 1);
    check("newtable", "sendto", 20);
}

#[test]
fn connections_asked_for() {
    check("getconntrack", "sendmsg", 1);
    check("getconntrack", "sendto", 9);
}

/// Runs a script in a network namespace of its own, and gives its shell's pid and the instant of its end.
fn in_netns(script: &str) -> (u32, u64) {
    let mut command = Command::new("/bin/sh");
    let script = format!("set -e; PATH=$PATH:/usr/sbin:/sbin; {script}");
    own_netns(command.args(["-c", &script]));
    let shell = Running::start(command);
    let pid = shell.pid();
    let (_, status) = shell.finish();
    assert!(status.success(), "{script}: {status}");
    (pid, monotonic_ns())
}

/// The row of a message that a class of children sent.
fn message(agent: &Agent, name: &str, message: &str, (shell, ktime_ns): (u32, u64)) -> Truth {
    let sender = sender(agent, name, shell, ktime_ns);
    let messages = sender.list("/messages");
    let found = messages.into_iter().find(|row| row.text("/message") == message);
    found.unwrap_or_else(|| panic!("no {message} in {sender}"))
}

#[test]
fn ip_route_replace_is_a_newroute() {
    Tool::Ip.require();
    let agent = agent!();
    let shell = in_netns(
        "ip link add name bridge0 type bridge; ip link set bridge0 up; \
         for i in 1 2 3 4 5 6 7; do ip route replace 10.96.0.$i/32 dev bridge0; done",
    );
    let row = message(&agent, "ip route replace", "RTM_NEWROUTE", shell);
    assert_eq!((row.text("/family"), row.number("/messages"), row.number("/refused")), ("ROUTE", 7, 0));
}

#[test]
fn ipset_add_is_named_and_its_refusals_are_counted() {
    Tool::Ipset.require();
    let agent = agent!();
    let shell = in_netns(
        "ipset create s hash:ip; \
         for i in 1 2 3 4 5; do ipset add s 10.96.0.$i; done; \
         for i in 1 2 3; do ! ipset add s 10.96.0.$i 2> /dev/null; done",
    );
    let row = message(&agent, "ipset add", "IPSET_CMD_ADD", shell);
    assert_eq!((row.text("/family"), row.text("/subsystem")), ("NETFILTER", "ipset"));
    assert_eq!((row.number("/messages"), row.number("/refused")), (8, 3));
}

/// strace, which sees the same program's calls, agrees.
#[test]
fn strace_counts_the_same_sends() {
    let agent = agent!();
    let summary = tempfile::NamedTempFile::new().expect("a scratch file");
    let mut strace = Command::new(Tool::Strace.require());
    strace
        .args(["-f", "-qq", "-c", "-U", "calls,name", "-e", "trace=sendto,sendmsg,sendmmsg", "-o"])
        .arg(summary.path())
        .arg(env!("CARGO_BIN_EXE_workload"))
        .args(["netlink-storm", "--count", "321", "--per-send", "3"])
        .stdout(std::process::Stdio::null());
    let mut strace = strace.spawn().expect("strace runs");
    let tracer = strace.id();
    assert!(strace.wait().expect("a status").success());
    let text = std::fs::read_to_string(summary.path()).expect("a summary");
    let line = text.lines().find(|line| line.ends_with(" sendmsg")).expect("a row of sendmsg");
    let calls: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a count");
    let sender = sender(&agent, "workload netlink-storm", tracer, monotonic_ns());
    assert_eq!((sender.number("/total/sends"), sender.number("/total/messages")), (calls, 321));
}
