//! Runs that go well, against witnesses: host-local's leases, the mount table, the slow plugin's log, a listener.

use super::bed::{Bed, GATEWAY, wait_until};
use super::contended::waiting_for;
use harness::truth::Truth;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// The row of a command of a plugin.
fn calls(report: &Truth, command: &str, plugin: &str) -> u64 {
    let rows = report.list("/plugins");
    let of = |row: &&Truth| row.text("/command") == command && row.text("/plugin") == plugin;
    rows.iter().find(of).map_or(0, |row| row.number("/wall/count"))
}

#[test]
fn thirty_pods_get_addresses_of_their_own_from_debian_s_plugins_and_reach_the_gateway() {
    let bed = Bed::new("thirty");
    let options = ["--pods", "30", "--concurrency", "10", "--verify", GATEWAY, "--check", "--hold", "10m"];
    let running = bed.start(&bed.bridge(), &options);
    wait_until("30 leases", || bed.leases().len() == 30);
    assert_eq!(bed.mounts().len(), 30);
    assert_eq!(bed.leases().iter().collect::<BTreeSet<_>>().len(), 30);
    // The last pods may still be on their way to the hold: only begun arrivals are waited for on SIGINT.
    running.signal(libc::SIGINT);
    let report = running.finish().good();
    for (what, count) in
        [("begun", 30), ("ready", 30), ("deleted", 30), ("addresses", 30), ("address_conflicts", 0)]
    {
        assert_eq!(report.number(&format!("/pods/{what}")), count, "{what}: {report}");
    }
    for plugin in ["loopback", "bridge", "portmap"] {
        assert_eq!((calls(&report, "ADD", plugin), calls(&report, "DEL", plugin)), (30, 30), "{plugin}");
    }
    bed.assert_nothing_left();
}

#[test]
fn every_pod_is_verified_and_checked_and_times_are_nested() {
    let bed = Bed::new("nested");
    let server = bed.net.inside(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let port = server.local_addr().unwrap().port();
    let tcp = format!("{GATEWAY}:{port}");
    let options = ["--pods", "6", "--concurrency", "3", "--verify", GATEWAY, "--verify", &tcp, "--check"];
    let report = bed.run(&bed.bridge(), &options).good();
    for what in ["ready", "verified", "checked", "deleted"] {
        assert_eq!(report.number(&format!("/pods/{what}")), 6, "{what}: {report}");
    }
    // One connection per pod has really come.
    server.set_nonblocking(true).unwrap();
    assert_eq!((0..100).filter(|_| server.accept().is_ok()).count(), 6);
    let p = |name: &str, at: &str| report.number(&format!("/latency/{name}/{at}_ns"));
    for at in ["p50", "max"] {
        assert!(p("add", at) <= p("network_ready", at) && p("network_ready", at) <= p("verified_ready", at));
    }
    assert!(report.at("/pods_per_second").as_f64().unwrap() > 0.0);
    bed.assert_nothing_left();
}

#[test]
fn a_control_address_that_does_not_answer_is_a_failure() {
    let bed = Bed::new("mute");
    let mute = format!("{GATEWAY}:1");
    let outcome = bed.run(&bed.bridge(), &["--pods", "2", "--verify", &mute, "--verify-timeout", "300ms"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("in 2 of 2 pods the network did not work"), "{}", outcome.stderr);
    let report = outcome.report();
    assert_eq!((report.number("/pods/ready"), report.number("/pods/verified")), (2, 0));
    let row = &report.list("/failures")[0];
    assert_eq!((row.text("/kind"), row.text("/stage")), ("not_reachable", format!("verify {mute}").as_str()));
    assert_eq!(row.number("/count"), 2);
    bed.assert_nothing_left();
}

#[test]
fn arrivals_and_departures_go_together_from_the_second_round_on() {
    let bed = Bed::new("rounds");
    let plugin = json!({
        "type": "slow-cni", "log": bed.path("log"), "on": ["ADD", "DEL"], "slow": [{ "do": "sleep", "ms": 20 }]
    });
    let list = bed.conflist(&json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": [plugin] }));
    let report = bed.run(&list, &["--pods", "5", "--rounds", "3", "--concurrency", "2"]).good();
    assert_eq!((report.number("/pods/ready"), report.number("/pods/deleted")), (15, 15));
    let log = bed.log();
    let commands: String =
        log.iter().map(|line| if line.text("/command") == "ADD" { 'a' } else { 'd' }).collect();
    assert_eq!((commands.matches('a').count(), commands.matches('d').count()), (15, 15), "{commands}");
    assert!(commands.starts_with("aaaaa") && commands.ends_with("ddddd"), "{commands}");
    let between = &commands[5..25];
    assert!(!between.contains("aaaa") && !between.contains("dddd"), "they take turns: {commands}");
    bed.assert_nothing_left();
}

#[test]
fn arrivals_keep_to_the_rate() {
    let bed = Bed::new("rate");
    let options = ["--pods", "6", "--rate", "5", "--no-loopback"];
    bed.run(&bed.slow(json!([{ "do": "sleep", "ms": 1 }])), &options).good();
    let mut began: Vec<u64> = bed.log().iter().map(|line| line.number("/began_ns")).collect();
    began.sort_unstable();
    let span_ns = began[5] - began[0];
    // Five gaps of 200 ms; the first pod may be late by what it takes to start a plugin on a busy machine.
    assert!((600_000_000..10_000_000_000).contains(&span_ns), "{span_ns}");
}

#[test]
fn traffic_between_two_pods_is_measured() {
    let bed = Bed::new("traffic");
    let report = bed.run(&bed.bridge(), &["--pods", "2", "--traffic"]).good();
    assert!(report.at("/traffic/bytes_per_second").as_f64().unwrap() > 1e6, "{report}");
    assert_eq!(report.number("/traffic/round_trip/count"), 1_000);
    bed.assert_nothing_left();
    let report = bed.run(&bed.slow(json!([])), &["--pods", "2", "--traffic"]).good();
    assert_eq!(report.text("/traffic_failure"), "it takes two pods with addresses");
}

#[test]
fn the_slow_plugin_s_own_clock_agrees_with_the_time_of_add() {
    let bed = Bed::new("clock");
    let phases = json!([{ "do": "lock", "path": bed.path("lock"), "ms": 30 }, { "do": "burn", "ms": 10 },
        { "do": "fsync", "path": bed.path(""), "bytes": 100_000 }, { "do": "spawn", "program": "true", "times": 3 }]);
    // Kept from all of them until all wait, however far apart they were started.
    let lock = File::create(bed.path("lock")).unwrap();
    lock.lock().unwrap();
    let running = bed.start(&bed.slow(phases), &["--pods", "4", "--concurrency", "4"]);
    wait_until("all in the queue", || waiting_for(&lock) == 4);
    drop(lock);
    let report = running.finish().good();
    let log = bed.log();
    assert_eq!(log.len(), 16);
    let held: Vec<&Truth> = log.iter().filter(|line| line.text("/do") == "lock").collect();
    // Four pods share a lock that each keeps for 30 ms: the last has waited for three others.
    let longest_ns = held.iter().map(|line| line.number("/truth/waited_ns")).max().unwrap();
    assert!(longest_ns >= 90_000_000, "a convoy: {longest_ns}");
    let containers: BTreeSet<&str> = log.iter().map(|line| line.text("/container_id")).collect();
    let own_ns = containers.iter().map(|container| {
        let of = log.iter().filter(|line| line.text("/container_id") == *container);
        of.map(|line| line.number("/ended_ns") - line.number("/began_ns")).sum::<u64>()
    });
    let (longest_own_ns, longest_add_ns) = (own_ns.max().unwrap(), report.number("/latency/add/max_ns"));
    assert!(longest_own_ns <= longest_add_ns, "{longest_own_ns} {longest_add_ns}");
    bed.assert_nothing_left();
}

#[test]
fn the_slow_plugin_waits_as_long_as_those_it_asks_take() {
    fn answer(mut client: impl Read + Write, text: &[u8]) {
        // The question is read first: closing with unread bytes resets a TCP connection.
        client.read_exact(&mut [0; 4]).unwrap();
        std::thread::sleep(Duration::from_millis(81));
        client.write_all(text).unwrap();
    }
    let bed = Bed::new("late");
    let server = bed.net.inside(|| TcpListener::bind("127.0.0.1:0"));
    // The node's loopback is down in a new namespace; host addresses answer once it is up.
    assert!(bed.ip(&["link", "set", "lo", "up"]));
    let server = server.unwrap();
    let daemon = UnixListener::bind(bed.path("sock")).unwrap();
    let address = server.local_addr().unwrap().to_string();
    std::thread::spawn(move || answer(server.accept().unwrap().0, b"late"));
    std::thread::spawn(move || answer(daemon.accept().unwrap().0, b"later"));
    let phases = json!([{ "do": "tcp", "address": address }, { "do": "unix", "path": bed.path("sock") }]);
    bed.run(&bed.slow(phases), &["--pods", "1"]).good();
    let log = bed.log();
    for (line, (kind, bytes)) in log.iter().zip([("tcp", 4), ("unix", 5)]) {
        assert_eq!((line.text("/do"), line.number("/truth/bytes")), (kind, bytes));
        assert!(line.number("/truth/waited_ns") >= 80_000_000, "{line}");
    }
    assert_eq!(log.len(), 2);
    bed.assert_nothing_left();
}

#[test]
fn the_answer_for_programs_has_all_its_fields() {
    let bed = Bed::new("fields");
    let report = bed.run(&bed.slow(json!([])), &["--pods", "1", "--explain"]).good();
    for pointer in [
        "/run",
        "/network",
        "/cni_version",
        "/chain/0",
        "/interrupted",
        "/asked/pods",
        "/asked/rounds",
        "/asked/concurrency",
        "/asked/rate",
        "/asked/retries",
        "/pods/begun",
        "/pods/attempts",
        "/pods/ready",
        "/pods/verified",
        "/pods/checked",
        "/pods/deleted",
        "/pods/addresses",
        "/pods/address_conflicts",
        "/pods_per_second",
        "/latency/netns/p50_ns",
        "/latency/add/p90_ns",
        "/latency/network_ready/p99_ns",
        "/latency/verified_ready",
        "/latency/del/max_ns",
        "/plugins/0/command",
        "/plugins/0/plugin",
        "/plugins/0/wall/count",
        "/failures",
        "/failures_without_row",
        "/traffic",
        "/traffic_failure",
        "/left_behind",
        "/explained/findings/findings",
        "/explained/storms/daemons",
    ] {
        report.at(pointer);
    }
    bed.assert_nothing_left();
}
