//! More than the rings hold: the answer says so, spawn counts stay exact, and it is over when it is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::truth::Truth;
use harness::{agent, workload};
use slowpod::client;

use super::{LOOK, daemon_of, loop_of, other_storm, spawns_in, spawns_of, stalled::Stalled, storm, until};

/// A metric's rows by their label values, parted by commas.
pub(super) fn metric(page: &str, name: &str, labels: &[&str]) -> BTreeMap<String, f64> {
    let rows = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    rows.map(|(labelled, value)| {
        let label = |name: &&str| {
            let (_, rest) = labelled.split_once(&format!("{name}=\"")).expect("the label");
            rest.split('"').next().expect("its value").to_owned()
        };
        (labels.iter().map(label).collect::<Vec<_>>().join(","), value.parse().expect("a number"))
    })
    .collect()
}

pub(super) fn metrics(agent: &Agent) -> String {
    String::from_utf8(client::get(agent.address(), "/metrics").expect("metrics")).expect("UTF-8")
}

/// What the kernel programs saw is what they sent, dropped and counted, kind by kind. The machine goes on while the
/// numbers are read, so each is held against the other as it was a little before and is a little later; what this
/// leaves open is far less than a flood.
fn conserved(agent: &Agent) {
    let before = metrics(agent);
    let begun = Instant::now();
    // Metrics are renewed once a second, the kernel's numbers twice.
    while begun.elapsed() < Duration::from_millis(2_500) {
        std::thread::sleep(LOOK);
    }
    let after = metrics(agent);
    for kind in ["spawn", "exec", "exec_fail", "exit", "reap", "stack", "netlink_error"] {
        let number = |page: &str, name: &str| metric(page, name, &["kind"]).get(kind).copied().unwrap_or(0.0);
        let seen = |page: &str| number(page, "slowpod_kernel_happenings_total");
        let told = |page: &str| {
            let lost = metric(page, "slowpod_records_lost_total", &["kind", "reason"]);
            let lost = lost.get(&format!("{kind},ring_full")).copied().unwrap_or(0.0);
            number(page, "slowpod_records_received_total")
                + lost
                + number(page, "slowpod_records_counted_total")
        };
        let numbers = [seen(&before), told(&before), seen(&after), told(&after)];
        assert!(
            numbers[0] <= numbers[3] && numbers[1] <= numbers[2],
            "{kind}: seen, told, later: {numbers:?}"
        );
    }
}

/// A storm's answer, once everything of it is in: counted spawns come by a slower way, and children whose end was lost
/// are alive until a sweep looks for them.
fn answer(agent: &Agent, storm: &Truth) -> Truth {
    let (pid, spawns) = (storm.number("/pid") as u32, storm.number("/spawns"));
    agent.view_at("/api/v1/storms?seconds=60", storm.number("/end_ns"));
    agent.view_when("/api/v1/storms?seconds=60", |storms| spawns_of(storms, pid, "true").0 >= spawns)
}

/// How many of a process's children the agent was told of one by one.
fn told(agent: &Agent, pid: u32) -> u64 {
    let processes = agent.get("/api/v1/processes?seconds=60&limit=20000").expect("processes");
    assert_eq!(
        processes.at("/completeness/evicted"),
        &serde_json::json!({}),
        "{}",
        processes.at("/completeness")
    );
    let rows = processes.list("/processes");
    let spawner = |row: &Truth| row.at("/spawner").get("pid").and_then(serde_json::Value::as_u64);
    rows.iter().filter(|row| spawner(row) == Some(pid.into())).count() as u64
}

/// Of its children, those whose end was lost and which a sweep found gone.
fn ends_lost_of(storms: &Truth, pid: u32) -> u64 {
    let daemon = daemon_of(storms, pid).expect("the storm's daemon");
    daemon.list("/classes").iter().map(|class| class.number("/ends_lost")).sum()
}

/// A later storm is seen whole: the next one, unless other work on the machine keeps so small a ring full.
fn recovers(agent: &Agent) {
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        let later = other_storm(100);
        let storms = agent.view_at("/api/v1/storms?seconds=60", later.number("/end_ns"));
        if loop_of(&storms, &later).is_some_and(|own| spawns_in(&own, "true") == (100, 0)) {
            return;
        }
        let counted = storms.at("/completeness")["counted_only"]["spawn"].as_u64();
        assert!(counted > Some(0), "a storm is neither seen whole nor counted: {storms}");
    }
    panic!("{TRIES} storms after the flood, none is seen whole");
}

#[test]
fn the_smallest_ring_keeps_exact_counts() {
    let agent = agent!("--ring-kib", "64");
    let first = storm(3_000);
    let storms = answer(&agent, &first);
    assert_eq!(spawns_of(&storms, first.number("/pid") as u32, "true").0, 3_000, "{storms}");
    conserved(&agent);
    recovers(&agent);
}

/// The agent gets no CPU at all for the length of a storm: what the ring holds is detail, the rest is counted, and
/// past a full ring records are dropped, ends among them.
#[test]
fn an_agent_that_stands_still_misses_detail_and_no_count() {
    for (ring_kib, drops) in [("1024", false), ("64", true)] {
        let agent = agent!("--ring-kib", ring_kib);
        let stalled = Stalled::new(agent.pid());
        let first = storm(3_000);
        drop(stalled);
        let storms = answer(&agent, &first);
        let pid = first.number("/pid") as u32;
        let (all, counted) = spawns_of(&storms, pid, "true");
        assert_eq!(all, 3_000, "{storms}");
        assert_eq!(spawns_of(&storms, pid, "workload").0, 0, "children without a program: {storms}");
        // A child whose end was lost is alive until a sweep looks for it, and in this list no more from then on.
        until("every spawn told of, only counted, or without its end", || {
            let storms = agent.get("/api/v1/storms?seconds=60").ok()?;
            (told(&agent, pid) + counted + ends_lost_of(&storms, pid) == 3_000).then_some(())
        });
        assert!(counted > 500 && counted < 3_000, "{counted} of 3,000 were only counted");
        let completeness = storms.at("/completeness");
        assert_eq!(completeness["complete"], false, "{completeness}");
        let lost = completeness["lost"]["spawn"].as_u64().unwrap_or(0);
        // A spawn that found the ring full is counted like one that was not sent on purpose. The machine's others
        // spawn as well.
        assert!(storms.number("/completeness/counted_only/spawn") + lost >= counted, "{completeness}");
        assert_eq!(lost > 0, drops, "ring of {ring_kib} KiB: {completeness}");
        conserved(&agent);
        recovers(&agent);
        let findings = agent.get("/api/v1/findings?seconds=60").unwrap();
        let said = findings.list("/findings");
        assert!(said.iter().any(|finding| finding.text("/rule") == "incomplete"), "{findings}");
    }
}

/// A netlink storm past its own ring: the messages that found no room are counted as lost, and the exec side is whole.
#[test]
fn a_netlink_flood_is_counted_and_hides_no_spawn() {
    const MESSAGES: u64 = 60_000;
    let agent = agent!();
    let stalled = Stalled::new(agent.pid());
    let netlink = workload!("netlink-storm").option("--count", MESSAGES).option("--what", "getlink").run();
    let spawns = storm(100);
    drop(stalled);
    assert_eq!(netlink.number("/messages"), MESSAGES);
    let answer = agent.view_at("/api/v1/netlink?seconds=60", spawns.number("/end_ns"));
    let lost = until("the loss", || {
        let lost = agent.get("/api/v1/netlink?seconds=60").ok()?;
        lost.at("/completeness")["lost"]["netlink_send"].as_u64()
    });
    let rows = answer.list("/messages");
    let row = rows.iter().find(|row| row.text("/message") == "RTM_GETLINK").expect("some of them are seen");
    let sent = row.number("/messages");
    // Others may send meanwhile, and lose as well.
    assert!(sent < MESSAGES && sent + lost >= MESSAGES, "{sent} seen, {lost} lost");
    let storms = agent.get("/api/v1/storms?seconds=60").unwrap();
    assert_eq!(spawns_of(&storms, spawns.number("/pid") as u32, "true"), (100, 0), "{storms}");
    conserved(&agent);
}
