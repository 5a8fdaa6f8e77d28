//! Starts of pods: what a scene tells, in the answers' own numbers.

use harness::check::{answer_of, render, snapshot};
use harness::scene::{self, Scene};
use serde_json::Value;

const MS: u64 = 1_000_000;

/// The start of this pod, by name or UID.
fn start<'a>(answer: &'a Value, pod: &str) -> Vec<&'a Value> {
    let starts = answer["pods"].as_array().unwrap().iter();
    starts.filter(|start| start["pod"] == pod || start["pod_uid"] == pod).collect()
}

fn phase_ms(start: &Value, phase: &str) -> u64 {
    start["phases"][phase].as_u64().unwrap() / MS
}

#[test]
fn the_phases_of_every_start_add_up_to_it_in_every_scene() {
    let mut starts = 0;
    for name in scene::all() {
        let answer: Value =
            serde_json::from_slice(&render(&snapshot(&Scene::load(&name)), "pods", "limit=1000")).unwrap();
        for start in answer["pods"].as_array().unwrap() {
            let phases = start["phases"].as_object().unwrap().values();
            let sum: u64 = phases.map(|phase| phase.as_u64().unwrap()).sum();
            assert_eq!(sum, start["wall_ns"].as_u64().unwrap(), "{name}: {start}");
            starts += 1;
        }
    }
    assert!(starts >= 15, "{starts}");
}

#[test]
fn a_start_is_cut_where_its_steps_say() {
    let answer = answer_of("pods", "pods", "");
    let web = start(&answer, "web-0")[0];
    assert_eq!(web["state"], "started");
    assert_eq!(phase_ms(web, "before_sandbox"), 60);
    assert_eq!(phase_ms(web, "network"), 85, "loopback's start to portmap's end");
    assert_eq!(phase_ms(web, "before_container"), 30);
    assert_eq!((web["containers"].as_u64(), web["init_containers"].as_u64()), (Some(2), Some(1)));
    let late = start(&answer, "web-2")[0];
    assert_eq!((late["state"].as_str(), late["longest"].as_str()), (Some("starting"), Some("network")));
    assert_eq!(start(&answer, "00000004-0000-4000-8000-000000000000")[0]["state"], "given_up");
}

#[test]
fn the_share_over_the_limit_counts_those_that_wait_still() {
    let answer = answer_of("pods", "pods", "");
    let totals = &answer["totals"];
    assert_eq!((totals["started"].as_u64(), totals["over"].as_u64()), (Some(2), Some(2)));
    assert_eq!(totals["over_share"].as_f64(), Some(0.6667), "two of three; one was given up");
    assert_eq!(
        (answer["blame"]["phase"].as_str(), answer["blame"]["slow"].as_bool()),
        (Some("network"), Some(true))
    );
    let patient = answer_of("pods", "pods", "over=6600ms");
    assert_eq!(patient["totals"]["over"].as_u64(), Some(1), "the limit is the caller's");
    let strict = answer_of("pods", "pods", "over=100ms");
    assert_eq!(strict["totals"]["over_share"].as_f64(), Some(1.0));
}

#[test]
fn every_runtimes_processes_belong_to_the_pod_they_serve() {
    let answer = answer_of("pods_runtimes", "processes", "limit=500");
    let mut served = 0;
    for process in answer["processes"].as_array().unwrap() {
        let argv = process["argv"].as_str().unwrap();
        let class = process["argv_class"].as_str().unwrap();
        // `5050...` is Docker's own container, and no pod's.
        let is_runtimes =
            ["runc", "crun", "conmon", "containerd-shim"].iter().any(|name| class.contains(name));
        if !is_runtimes || process["state"] == "alive" && argv == "runc init" {
            continue;
        }
        let pod = process["identity"]["kind"] == "pod";
        assert_eq!(pod, !argv.contains(&"50".repeat(32)), "{process}");
        served += u64::from(pod);
    }
    assert!(served >= 20, "{served}");
}

#[test]
fn sandboxes_are_told_from_containers_with_cni_and_without() {
    let answer = answer_of("pods_runtimes", "pods", "");
    for (pod, sandboxes, network_ms) in [
        ("crio-0", 1, 201),
        ("crio-1", 1, 151),
        ("docker-0", 1, 71),
        ("6507bf9d2d9d7fd3c49f452996d80897", 1, 0),
    ] {
        let start = start(&answer, pod)[0];
        assert_eq!(start["state"], "started", "{pod}");
        assert_eq!(start["containers"].as_u64(), Some(1), "{pod}");
        assert_eq!(start["sandboxes"].as_u64(), Some(sandboxes), "{pod}");
        assert_eq!(phase_ms(start, "network"), network_ms, "{pod}");
    }
    assert_eq!(answer["totals"]["starts"].as_u64(), Some(4), "Docker's own container is no pod");
}

#[test]
fn retries_are_one_start_and_comebacks_are_several() {
    let answer = answer_of("pods_again", "pods", "");
    let retry = start(&answer, "retry-0");
    assert_eq!(retry.len(), 1);
    assert_eq!(retry[0]["sandboxes"].as_u64(), Some(2));
    assert_eq!(phase_ms(retry[0], "network"), 3_483, "the kubelet's back-off is the network's");
    assert_eq!((retry[0]["restarts"].as_u64(), retry[0]["init_containers"].as_u64()), (Some(1), Some(0)));
    let back = start(&answer, "00000002-0000-4000-8000-000000000000");
    let numbers: Vec<u64> = back.iter().map(|start| start["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), 3, "{numbers:?}");
    assert_eq!(back.iter().filter(|start| start["cgroup_made"].is_null()).count(), 1, "it stayed once");
}

#[test]
fn what_began_before_is_flagged_and_in_no_percentile() {
    let answer = answer_of("pods_again", "pods", "");
    let early = start(&answer, "early-0")[0];
    assert_eq!((early["cut_at_start"].as_bool(), early["state"].as_str()), (Some(true), Some("started")));
    assert_eq!(answer["totals"]["cut_at_start"].as_u64(), Some(1));
    let only_it = answer_of("pods_again", "pods", "pod=00000008-0000-4000-8000-000000000000");
    assert!(only_it["start_ns"].is_null(), "{only_it}");
    // An exec probe in a container that was there before is no start.
    assert!(start(&answer, "00000009-0000-4000-8000-000000000000").is_empty());
}

#[test]
fn hollow_pods_have_a_network_and_are_not_slow() {
    let answer = answer_of("pods_again", "pods", "over=1ms");
    let flux = start(&answer, "flux-0")[0];
    assert_eq!((flux["state"].as_str(), phase_ms(flux, "network")), (Some("network_only"), 91));
    assert_eq!(flux["wall_ns"].as_u64(), Some(91 * MS));
}

#[test]
fn a_pod_is_found_by_uid_name_and_namespace() {
    for (asked, found) in [
        ("00000001-0000-4000-8000-000000000000", 1),
        ("web-0", 1),
        ("default/web-0", 1),
        ("other/web-0", 0),
        ("default/", 0),
        ("", 0),
    ] {
        let query = if asked.is_empty() { "seconds=60".to_owned() } else { format!("uid={asked}") };
        let answer = answer_of("pods", "pod", &query);
        assert_eq!(answer["starts"].as_array().unwrap().len(), found, "{asked:?}");
    }
}

#[test]
fn steps_and_gaps_leave_nothing_out() {
    let answer = answer_of("pods", "pod", "uid=web-0");
    let start = &answer["starts"][0];
    let steps = start["steps"].as_array().unwrap();
    let mut seen_ns = 0;
    for step in steps {
        let offset_ns = step["offset_ns"].as_u64().unwrap();
        assert!(offset_ns < seen_ns + MS, "{step} after {seen_ns}");
        seen_ns = seen_ns.max(offset_ns + step["wall_ns"].as_u64().unwrap());
    }
    assert!(seen_ns >= start["all_ran_ns"].as_u64().unwrap());
    let kinds: Vec<&str> = start["containers_seen"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["sandbox", "init", "container"]);
}
