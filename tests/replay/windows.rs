//! Windows and clocks: what is asked for, what is covered, what time it was.

use crate::{MS, S, daemon, named};
use harness::check::{Records, answer_of, fold, render};
use harness::scene::{BEGIN_NS, Scene};
use serde_json::Value;
use slowpod::fold::Window;

#[test]
fn loops_at_the_edges_stay_whole_and_sums_are_those_inside() {
    let answer = answer_of("window", "storms", "");
    assert_eq!(answer["window"]["seconds"], 3.0);
    assert_eq!(answer["window"]["from_ktime_ns"], BEGIN_NS + 5 * S);
    let proxy = daemon(&answer, "proxy");
    assert_eq!((&proxy["loops_total"], &proxy["series"]["loops"]), (&4.into(), &2.into()));
    for own in proxy["latest_loops"].as_array().unwrap() {
        assert_eq!(own["spawns"], 20);
        assert_eq!(own["duration_ns"], 19_511 * MS / 10);
    }
    // Of the second loop the last ten sends (5.003 s on), of the third the first ten (to 7.903 s).
    let netlink = answer_of("window", "netlink", "");
    assert_eq!(netlink["total"]["messages"], 20);
    let processes = answer_of("window", "processes", "");
    // The first inside was spawned at 5.001 s, the last one at 7.901 s and ended at 7.951 s.
    assert_eq!((&processes["totals"]["spawned"], &processes["totals"]["ended"]), (&20.into(), &20.into()));
}

#[test]
fn a_window_before_the_records_says_that_it_is_not_covered() {
    let scene = Scene::load("window");
    let ask = |from_s: u64, until_s: u64| {
        let window = Window { from_ns: BEGIN_NS + from_s * S - 10 * S, until_ns: BEGIN_NS + until_s * S };
        let snapshot = fold(&mut Records::new(&scene.records, 100), window);
        serde_json::from_slice::<Value>(&render(&snapshot, "storms", "")).unwrap()
    };
    let answer = ask(0, 5);
    assert_eq!(
        (&answer["window"]["seconds"], &answer["window"]["covered_seconds"]),
        (&15.0.into(), &5.0.into())
    );
    assert_eq!(answer["completeness"]["complete"], false);
    let text = answer["completeness"]["degraded"][0].as_str().unwrap();
    assert!(text.contains("5.0 of the 15.0 seconds"), "{text}");
    assert_eq!(ask(10, 5)["completeness"]["complete"], true);
}

#[test]
fn a_look_back_begins_early_enough_for_whole_loops() {
    let scene = Scene::load("kube_router");
    // Inside the second resync, which began at 21 s; the recorder's second chunk began at 20 s or so.
    let window = Window { from_ns: BEGIN_NS + 26 * S, until_ns: BEGIN_NS + 27 * S };
    let snapshot = crate::same::recorded(&scene.records, window);
    let answer: Value = serde_json::from_slice(&render(&snapshot, "storms", "")).unwrap();
    assert_eq!(answer["window"]["covered_seconds"], 1.0);
    let kube = daemon(&answer, "kube-router");
    assert_eq!(kube["series"]["loops"], 1);
    let own = &kube["latest_loops"][0];
    assert_eq!((&own["spawns"], &own["cut_at_start"]), (&6_000.into(), &false.into()));
    assert_eq!(kube["comm"], "kube-router", "told by the keyframe: it is older than the chunk");
    // Only what ended inside is listed: one `ip` every 1,250 us.
    let processes: Value = serde_json::from_slice(&render(&snapshot, "processes", "state=ended")).unwrap();
    assert_eq!(processes["totals"]["ended"], 800);
}

#[test]
fn a_clock_step_moves_times_of_day_and_no_duration() {
    let answer = answer_of("clock_step", "storms", "");
    let loops = daemon(&answer, "proxy")["latest_loops"].as_array().unwrap();
    assert_eq!(loops[0]["start"]["time"], "2026-01-02T03:04:07.999900000Z");
    assert_eq!(loops[1]["start"]["time"], "2026-01-02T04:04:05.999900000Z");
    assert_eq!(loops[0]["duration_ns"], loops[1]["duration_ns"]);
    assert_eq!(daemon(&answer, "proxy")["series"]["period_ns"]["p50"], 2 * S);
}

#[test]
fn without_a_clock_there_is_no_time_of_day() {
    let answer = answer_of("threads", "storms", "");
    assert!(answer["window"]["from"].is_null());
    assert!(daemon(&answer, "proxy")["latest_loops"][0]["start"]["time"].is_null());
}

#[test]
fn a_child_that_is_alive_at_the_end_counts_as_running() {
    let scene = Scene::load("window");
    let window = Window { from_ns: BEGIN_NS + 4 * S, until_ns: BEGIN_NS + 5 * S + 30 * MS };
    let cut: Vec<u8> = until(&scene.records, window.until_ns);
    let snapshot = fold(&mut Records::new(&cut, 100), window);
    let answer: Value = serde_json::from_slice(&render(&snapshot, "storms", "")).unwrap();
    let own = &daemon(&answer, "proxy")["latest_loops"][0];
    assert_eq!((&own["open"], &own["spawns"]), (&true.into(), &11.into()));
    let ipset = named(&own["classes"], "argv_class", "ipset add");
    assert_eq!((&ipset["running"], &ipset["spawns"]), (&1.into(), &11.into()));
    // Ten whole ones of 51.1 ms, and the last up to the newest record, its send 3 ms into it.
    assert_eq!(ipset["busy_ns"], 10 * 511 * MS / 10 + 21 * MS / 10);
}

/// The records before an instant.
fn until(records: &[u8], until_ns: u64) -> Vec<u8> {
    let mut rest = records;
    while let Ok(header) = slowpod::decode::header(rest) {
        if header.ktime_ns >= until_ns {
            break;
        }
        rest = &rest[header.len_bytes as usize..];
    }
    records[..records.len() - rest.len()].to_vec()
}
