//! The witnesses' own trial: before slowpod is held against their figures, strace(1), the kernel's own listings
//! and plain arithmetic are. No eBPF here.

use std::collections::BTreeMap;
use std::process::Command;

use harness::serviceproxy::{ServiceProxy, build};
use harness::tools::Tool;
use harness::truth::Truth;
use harness::workload;

const NS_PER_MS: u64 = 1_000_000;

/// System calls of a command and all its descendants, by name: calls, and those that failed, as strace counts.
fn strace_counts(program: &str, args: &[&str]) -> BTreeMap<String, (u64, u64)> {
    let summary = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new(Tool::Strace.require())
        .args(["-f", "-qq", "-c", "-U", "calls,errors,name", "-o"])
        .arg(summary.path())
        .args(["-e", "trace=execve,execveat,clone,clone3,vfork,fork,sendto,sendmsg,sendmmsg"])
        .arg(program)
        .args(args)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{program} {args:?}");
    let text = std::fs::read_to_string(summary.path()).unwrap();
    let rows = text.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let calls = words.first()?.parse().ok()?;
        // The errors column is blank when there are none.
        let errors = if words.len() == 3 { words[1].parse().ok()? } else { 0 };
        Some((words.last()?.to_string(), (calls, errors)))
    });
    rows.filter(|(name, _)| name != "total").collect()
}

fn workload_counts(args: &[&str]) -> BTreeMap<String, (u64, u64)> {
    strace_counts(env!("CARGO_BIN_EXE_workload"), args)
}

#[test]
fn a_storm_makes_exactly_its_children_in_the_way_asked_for() {
    // The workload's own exec comes on top; processes that spawn are cloned themselves.
    for (how, calls) in [
        ("spawn", [("clone3", 60), ("clone", 2), ("execve", 61)].as_slice()),
        ("fork", &[("clone", 62), ("execve", 61)]),
        #[cfg(target_arch = "x86_64")]
        ("vfork", &[("vfork", 60), ("clone", 2), ("execve", 61)]),
        ("threads", &[("clone3", 62), ("execve", 61)]),
    ] {
        let counts = workload_counts(&["storm", "--count", "60", "--spawners", "2", "--how", how]);
        let expected = calls.iter().map(|&(name, calls)| (name.to_owned(), (calls, 0))).collect();
        assert_eq!(counts, expected, "{how}");
    }
}

#[test]
fn a_storms_truth_adds_up() {
    let truth = workload!("storm")
        .option("--count", 101)
        .option("--spawners", 4)
        .option("--fail-every", 5)
        .start_gated()
        .go()
        .finish();
    let spawners = truth.list("/spawners");
    let children: Vec<_> = spawners.iter().flat_map(|spawner| spawner.children("/children")).collect();
    assert_eq!(children.len(), 101);
    assert_eq!(
        children.iter().filter(|child| child.status == 1 << 8).count() as u64,
        truth.number("/failed")
    );
    assert_eq!(truth.number("/failed"), 5 + 3 * 5);
    for spawner in &spawners {
        let inside = spawner.number("/end_ns") - spawner.number("/start_ns");
        assert!(spawner.number("/exec_ns") <= inside, "{spawner}");
    }
    let mut pids: Vec<_> = children.iter().map(|child| child.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 101, "each child is a process of its own");
}

#[test]
fn searches_shells_and_netlink_make_exactly_their_calls() {
    let searched = workload_counts(&["path-search", "--count", "4"]);
    assert_eq!(searched["execve"], (1 + 4 * 6, 4 * 5));
    let shell = workload_counts(&["shell", "--count", "5"]);
    assert_eq!(shell["execve"], (1 + 1 + 5 * 3, 0));
    let netlink = workload_counts(&["netlink-storm", "--count", "70", "--per-send", "7"]);
    assert_eq!(netlink["sendmsg"], (10, 0));
}

#[test]
fn each_part_of_a_split_takes_its_time_where_it_says() {
    const ASKED_MS: u64 = 15;
    // Two busy cores and a lot of processes: what comes on top of a wait is not ours to bound tightly.
    const SLACK_MS: u64 = 200;
    let truth = workload!("split").option("--all-ms", ASKED_MS).option("--fsync-bytes", 100_000).run();
    let parts = truth.list("/parts");
    assert_eq!(parts.len(), 16);
    for part in &parts {
        let (on_cpu, wall) = (part.number("/on_cpu_ns"), part.number("/wall_ns"));
        match part.text("/part") {
            "fsync" => {}
            "cpu" | "runqueue" => assert!(on_cpu >= ASKED_MS * NS_PER_MS, "{part}"),
            // Waiting costs no more CPU than a few system calls (for child and vfork, a fork) do.
            _ => assert!(wall >= ASKED_MS * NS_PER_MS && on_cpu < 2 * NS_PER_MS, "{part}"),
        }
        assert!(wall < (4 * ASKED_MS + SLACK_MS) * NS_PER_MS, "{part}");
    }
    let in_parts: u64 = parts.iter().map(|part| part.number("/wall_ns")).sum();
    assert!(in_parts <= truth.child("/child").wall_ns());
    let competed = parts.iter().find(|part| part.text("/part") == "runqueue").unwrap();
    assert!(competed.number("/runnable_ns") > ASKED_MS * NS_PER_MS / 2, "{competed}");
}

#[test]
fn every_other_scenario_does_what_it_says() {
    let runs: &[&[&str]] = &[
        &["argv", "newline"],
        &["argv", "escape"],
        &["argv", "invalid-utf8"],
        &["argv", "huge"],
        &["argv", "many"],
        &["argv", "none"],
        &["argv", "empty-string"],
        &["exec-deleted"],
        &["exec-script"],
        &["exec-from-thread"],
        &["exec-chain"],
        &["path-search", "--missing"],
        &["exit-before-exec"],
        &["fork-only", "--count", "20"],
        &["fork-only", "--count", "20", "--how", "vfork"],
        &["double-fork"],
        &["clone-parent"],
        &["parent-dies-first"],
        &["pid-recycle"],
        &["signal-death"],
        &["exit-code", "42"],
        &["threads"],
        &["loop", "--bursts", "2", "--per-burst", "10", "--gap-ms", "20", "--pause-ms", "2"],
        &["loop", "--bursts", "1", "--per-burst", "20", "--workers", "4"],
        &["probe-burst", "--rounds", "2", "--period-ms", "50"],
        &["cgroup-churn"],
        &["cgroup-churn", "--how", "clone-into", "--path", "slowpod-witness/inner"],
        &["netlink-storm", "--what", "getlink", "--call", "write"],
        &["netlink-storm", "--what", "duplicate", "--call", "sendto", "--per-send", "10"],
    ];
    for words in runs {
        let workload = words[1..].iter().fold(workload!(words[0]), |workload, word| workload.word(word));
        let truth = workload.run();
        assert_eq!(truth.text("/scenario"), words[0]);
    }
}

#[test]
fn cgroups_come_back_under_one_name_with_another_id_and_go() {
    let truth = workload!("cgroup-churn").option("--rounds", 3).run();
    let rounds = truth.list("/rounds");
    let ids: std::collections::BTreeSet<_> = rounds.iter().map(|round| round.number("/cgroup_id")).collect();
    assert_eq!(ids.len(), 3);
    let directory = format!("{}{}", truth.text("/root"), truth.text("/cgroup_path"));
    assert!(!std::path::Path::new(&directory).exists(), "{directory} is left behind");
}

/// What the kernel holds in the daemon's namespace: members of both sets, and service routes.
fn listed_in_namespace(pid: u32) -> [usize; 3] {
    let list = |words: &[&str], mark: &str| {
        let output = Command::new(Tool::Nsenter.require())
            .args(["--net", "--target", &pid.to_string()])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.starts_with(mark)).count()
    };
    let (ipset, ip) = (Tool::Ipset.require(), Tool::Ip.require());
    let (ipset, ip) = (ipset.to_str().unwrap(), ip.to_str().unwrap());
    [
        list(&[ipset, "list", "proxy-svc-ips"], "10.96."),
        list(&[ipset, "list", "proxy-svc-ports"], "10.96."),
        list(&[ip, "route", "show"], "10.96."),
    ]
}

#[test]
fn the_proxy_puts_into_the_kernel_what_it_counts_in_both_modes() {
    for (mode, spawns, messages) in [("exec", 120, 0), ("batch", 2, 40)] {
        let mut proxy =
            ServiceProxy::start(&["-services", "40", "-mode", mode, "-resyncs", "0", "-idle-between", "60s"]);
        assert_eq!(listed_in_namespace(proxy.pid()), [0, 0, 0]);
        proxy.go();
        let resync = proxy.await_event("resync");
        assert_eq!(listed_in_namespace(proxy.pid()), [40, 40, 40], "{mode}");
        assert_eq!(resync.number("/spawns"), spawns, "{mode}");
        assert_eq!(resync.number("/netlink_messages"), messages, "{mode}");
        assert_eq!((resync.number("/failures"), resync.number("/netlink_errors")), (0, 0));
        proxy.stop();
    }
}

#[test]
fn the_proxys_children_are_all_that_strace_sees() {
    let counts = strace_counts(build().to_str().unwrap(), &["-services", "30", "-workers", "4"]);
    // Five children set up, three for each service; the daemon itself is exec'd twice.
    assert_eq!(counts["execve"], (2 + 5 + 3 * 30, 0));
}

#[test]
fn the_proxys_times_add_up() {
    let mut proxy = ServiceProxy::start(&["-services", "40", "-own-work", "1ms", "-phase-pause", "30ms"]);
    proxy.go();
    let lines = proxy.finish();
    let phases: Vec<&Truth> = lines.iter().filter(|line| line.text("/event") == "phase").collect();
    let resync = lines.iter().find(|line| line.text("/event") == "resync").unwrap();
    assert_eq!(phases.len(), 3);
    for field in ["/spawns", "/exec_ns", "/exec_busy_ns", "/start_calls_ns"] {
        let sum: u64 = phases.iter().map(|phase| phase.number(field)).sum();
        assert_eq!(resync.number(field), sum, "{field}");
    }
    // With one worker the children never overlap.
    assert_eq!(resync.number("/exec_ns"), resync.number("/exec_busy_ns"));
    let outside_children = resync.number("/wall_ns") - resync.number("/exec_busy_ns");
    assert!(outside_children >= (3 * 40 + 2 * 30) * NS_PER_MS, "{resync}");
}
