//! Plugins that fail: what is counted, what is tried again, and that nothing is left.

use super::bed::{Bed, Outcome};
use super::explained::adds;
use harness::truth::Truth;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Two pods against a plugin with this phase in ADD.
fn against(bed: &Bed, phase: Value, options: &[&str]) -> Outcome {
    let all: Vec<&str> = ["--pods", "2", "--retry-backoff", "50ms"].iter().chain(options).copied().collect();
    bed.run(&bed.slow(json!([phase])), &all)
}

fn only_failure(report: &Truth) -> (String, Value, u64, String) {
    let rows = report.list("/failures");
    assert_eq!(rows.len(), 1, "{report}");
    let row = &rows[0];
    assert_eq!((row.text("/command"), row.text("/stage")), ("ADD", "slow-cni"));
    (row.text("/kind").into(), row.at("/code").clone(), row.number("/count"), row.text("/message").into())
}

#[test]
fn an_add_that_fails_twice_is_ready_at_the_third_attempt() {
    let bed = Bed::new("third");
    std::fs::create_dir(bed.path("state")).unwrap();
    let phase = json!({ "do": "fail", "code": 11, "msg": "try again", "details": "the object has been modified",
        "times": 2, "state": bed.path("state") });
    let report = against(&bed, phase, &["--retries", "2"]).good();
    assert_eq!((report.number("/pods/ready"), report.number("/pods/attempts")), (2, 6));
    let told = "try again: the object has been modified".to_owned();
    assert_eq!(only_failure(&report), ("cni_error".into(), json!(11), 4, told));
    // Two rests of 50 ms are part of network-ready, and no part of ADD.
    let ready_ns = report.number("/latency/network_ready/p50_ns");
    assert!(ready_ns >= 100_000_000 + report.number("/latency/add/p50_ns"), "{report}");
    assert_eq!(report.number("/latency/add/count"), 2);
    bed.assert_nothing_left();
}

#[test]
fn retries_end() {
    let bed = Bed::new("ended");
    std::fs::create_dir(bed.path("state")).unwrap();
    let phase = json!({ "do": "fail", "code": 999, "msg": "no", "times": 99, "state": bed.path("state") });
    let outcome = against(&bed, phase, &["--retries", "1"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("2 of 2 pods got no network"), "{}", outcome.stderr);
    let report = outcome.report();
    assert_eq!((report.number("/pods/ready"), report.number("/pods/attempts")), (0, 4));
    assert_eq!(report.number("/pods/deleted"), 2);
    assert_eq!(only_failure(&report), ("cni_error".into(), json!(999), 4, "no".into()));
    assert_eq!(report.at("/latency/network_ready"), &Value::Null);
    bed.assert_nothing_left();
}

#[test]
fn a_plugin_that_hangs_is_killed_after_its_time() {
    let bed = Bed::new("hang");
    let begun = Instant::now();
    let outcome = against(&bed, json!({ "do": "hang" }), &["--timeout", "500ms"]);
    assert!(begun.elapsed() < Duration::from_secs(30));
    let (kind, code, count, _) = only_failure(&outcome.report());
    assert_eq!((outcome.code, kind.as_str(), code, count), (Some(1), "timed_out", Value::Null, 2));
    bed.assert_nothing_left();
}

/// The agent sees it end as it ended, with the children that were killed beside it.
#[test]
fn a_plugin_that_is_killed_after_its_time_is_told_as_killed() {
    let bed = Bed::new("killed");
    // A child that outlives any patience, and that the plugin waits for.
    let phase = json!({ "do": "spawn", "program": "sleep", "args": ["600"], "times": 1 });
    let report = against(&bed, phase, &["--timeout", "500ms", "--no-loopback", "--explain"]).report();
    assert_eq!(only_failure(&report).0, "timed_out");
    let calls = adds(&report);
    assert_eq!(calls.len(), 2, "{report}");
    for call in &calls {
        assert_eq!((call.text("/state"), call.text("/exit/signal")), ("ended", "SIGKILL"), "{call}");
        // The child was killed too; which of the two was gone first is up to the kernel.
        assert_eq!(call.number("/tree/spawns") + call.number("/outlived_by"), 1, "{call}");
        assert!(call.number("/wall_ns") >= 500_000_000, "{call}");
        let sandbox = call.text("/container_id");
        let sandboxes = report.list("/explained/cni/sandboxes");
        let its = sandboxes.iter().find(|row| row.text("/container_id") == sandbox).expect("its attempts");
        assert_eq!(its.text("/attempts/0/state"), "failed", "{its}");
    }
    bed.assert_nothing_left();
}

#[test]
fn each_way_to_fail_has_its_name() {
    let bed = Bed::new("ways");
    let cases = [
        (json!({ "do": "print", "text": "IP: 10.0.0.1" }), "garbage", Value::Null),
        (json!({ "do": "print", "text": "[1, 2]" }), "garbage", Value::Null),
        (json!({ "do": "print", "text": "{\"cniVersion\":\"9.9.9\"}" }), "garbage", Value::Null),
        (json!({ "do": "print", "text": "" }), "no_result", Value::Null),
        (json!({ "do": "exit", "code": 3 }), "exit_code", json!(3)),
        (json!({ "do": "die", "signal": 9 }), "killed", json!(9)),
        (json!({ "do": "tcp", "address": "127.0.0.1:1" }), "cni_error", json!(100)),
        (json!({ "do": "unknown" }), "cni_error", json!(7)),
    ];
    for (phase, kind, code) in cases {
        let outcome = against(&bed, phase.clone(), &[]);
        let (kind_told, code_told, count, message) = only_failure(&outcome.report());
        assert_eq!((outcome.code, kind_told.as_str(), code_told, count), (Some(1), kind, code, 2), "{phase}");
        assert!(!message.is_empty(), "{phase}");
        bed.assert_nothing_left();
    }
}

#[test]
fn a_del_that_never_works_is_told_and_forgotten_only_on_request() {
    let bed = Bed::new("nodel");
    let plugin = json!({ "type": "slow-cni", "on": ["DEL"], "slow": [{ "do": "exit", "code": 4 }] });
    let list = bed.conflist(&json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": [plugin] }));
    let outcome = bed.run(&list, &["--pods", "1", "--retries", "2", "--retry-backoff", "1ms"]);
    assert_eq!(outcome.code, Some(1));
    let report = outcome.report();
    assert_eq!(report.list("/left_behind").len(), 1);
    let row = &report.list("/failures")[0];
    assert_eq!((row.text("/command"), row.text("/kind"), row.number("/count")), ("DEL", "exit_code", 3));
    assert!(bed.mounts().is_empty(), "the namespace goes all the same");
    let cleaned = bed.clean(&[]);
    assert_eq!(cleaned.code, Some(1));
    assert!(cleaned.stderr.contains("DEL by slow-cni: exit code 4"), "{}", cleaned.stderr);
    assert_eq!(bed.clean(&["--forget"]).code, Some(1));
    bed.assert_nothing_left();
}
