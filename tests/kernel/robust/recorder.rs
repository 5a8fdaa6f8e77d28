//! The flight recorder, live: a look-back shows its window and nothing else, like netlink sends take little room, and
//! memory has a bound.

use std::time::{Duration, Instant};

use harness::truth::Truth;
use harness::{agent, workload};

use super::{LOOK, daemon_of, flood::metric, flood::metrics, other_storm, spawns_of, storm};

/// The agent's clock.
fn now_ns() -> u64 {
    slowpod::capture::facts::clock::ktime_ns()
}

#[test]
fn a_look_back_shows_its_window_only() {
    let agent = agent!();
    let first = storm(120);
    let quiet = Instant::now();
    // Longer than the gap that parts two loops.
    while quiet.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(LOOK);
    }
    let second = other_storm(80);
    agent.view_at("/api/v1/storms", second.number("/end_ns"));
    let pids = [&first, &second].map(|storm| storm.number("/pid") as u32);
    let window = |from_ns: u64, until_ns: u64| {
        let ago_ms = now_ns().saturating_sub(from_ns) / 1_000_000;
        let path = format!("/api/v1/storms?ago={ago_ms}ms&seconds={}ms", (until_ns - from_ns) / 1_000_000);
        agent.get(&path).unwrap()
    };
    let around = 300_000_000;
    let bounds = |storm: &Truth| (storm.number("/start_ns") - around, storm.number("/end_ns") + around);
    let (from_ns, until_ns) = bounds(&first);
    let answer = window(from_ns, until_ns);
    assert_eq!(spawns_of(&answer, pids[0], "true"), (120, 0), "{answer}");
    assert!(daemon_of(&answer, pids[1]).is_none(), "{answer}");
    let (from_ns, until_ns) = bounds(&second);
    let answer = window(from_ns, until_ns);
    assert_eq!(spawns_of(&answer, pids[1], "true"), (80, 0), "{answer}");
    assert!(daemon_of(&answer, pids[0]).is_none(), "{answer}");
    // Between them nothing of either.
    let answer = window(first.number("/end_ns") + around, second.number("/start_ns") - around);
    assert!(pids.iter().all(|pid| spawns_of(&answer, *pid, "true").0 == 0), "{answer}");
    // Of a time before the agent, nothing is covered, and the answer says so.
    let answer = agent.get("/api/v1/storms?ago=30m&seconds=60").unwrap();
    assert_eq!(answer.at("/window/covered_seconds"), 0.0, "{answer}");
    assert_eq!(answer.at("/completeness/complete"), false, "{answer}");
}

#[test]
fn sends_that_are_alike_are_kept_as_one() {
    const MESSAGES: u64 = 10_000;
    let agent = agent!();
    let sent = workload!("netlink-storm").option("--count", MESSAGES).option("--what", "getlink").run();
    let netlink = agent.view_at("/api/v1/netlink?seconds=60", sent.number("/end_ns"));
    let by_workload = |row: &Truth| row.text("/argv_class") == "workload netlink-storm";
    let sender = netlink.list("/senders").into_iter().find(by_workload).expect("the sender");
    assert_eq!(sender.number("/messages/0/messages"), MESSAGES, "{sender}");
    let received = metric(&metrics(&agent), "slowpod_records_received_total", &["kind"]);
    let records = received["netlink_send"];
    assert!(records > 0.0 && records < MESSAGES as f64 / 10.0, "{records} records of {MESSAGES} sends");
}

#[test]
fn what_went_early_is_told_and_memory_is_bounded() {
    const MEMORY_MAX_KIB: u64 = 64 << 10;
    let agent = agent!("--keep-mib", "1", "--keep", "20s");
    let first = other_storm(1_500);
    let begun = Instant::now();
    let value = |name: &str| {
        let page = metrics(&agent);
        let row =
            page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
        row.unwrap_or_else(|| panic!("no {name}"))
    };
    // Until there was more than may be kept.
    while value("slowpod_flight_recorder_evicted_bytes_total") == 0.0 {
        assert!(begun.elapsed() < super::PATIENCE, "nothing is ever evicted");
        storm(1_000);
    }
    let last = super::small_shell();
    agent.view_at("/api/v1/storms?seconds=60", last.number("/end_ns"));
    let answer = agent.get("/api/v1/storms?ago=120s&seconds=120").unwrap();
    assert_eq!(answer.at("/completeness/complete"), false, "{}", answer.at("/completeness"));
    let (seen, _) = spawns_of(&answer, first.number("/pid") as u32, "true");
    assert!(seen < 1_500, "{seen} of the first storm although its records are gone");
    assert_eq!(spawns_of(&answer, last.number("/shell/pid") as u32, "true"), (10, 0));
    // Of its own making; pages of its program are a debug build's for the most part.
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    let own_kib: u64 = own.and_then(|kib| kib.parse().ok()).expect("RssAnon");
    assert!(own_kib < MEMORY_MAX_KIB, "{own_kib} KiB");
    let page = metrics(&agent);
    assert!(
        metric(&page, "slowpod_records_lost_total", &["kind", "reason"]).values().all(|lost| *lost == 0.0)
    );
}
