//! Waits for a CPU: sums, percentiles, who ran instead, what held whom back.

use crate::{MS, S, named};
use harness::check::answer_of;
use serde_json::Value;

const WEB: &str = "11111111-1111-1111-1111-111111111111";
const API: &str = "22222222-2222-2222-2222-222222222222";

fn owner(answer: &Value, uid: &str) -> Value {
    let owners = answer["owners"].as_array().unwrap();
    owners.iter().find(|owner| owner["identity"]["pod_uid"] == uid).expect(uid).clone()
}

#[test]
fn the_node_is_the_sum_of_its_cpus_and_of_its_processes() {
    let answer = answer_of("run_queue", "sched", "");
    let sum = |list: &str| -> u64 {
        answer[list].as_array().unwrap().iter().map(|row| row["waits"].as_u64().unwrap()).sum()
    };
    assert_eq!(answer["node"]["waits"], 3_300);
    assert_eq!((sum("cpus"), sum("owners"), sum("processes")), (3_300, 3_300, 3_300));
    assert_eq!(answer["node"]["pressure_ns"], 7 * S);
    assert_eq!(answer["cpus"][0]["preempted"]["waits"], 1_000);
    assert_eq!(answer["cpus"][0]["woken"]["wait_ns"], 500 * 5 * MS);
}

#[test]
fn a_pod_that_others_push_aside_is_told_from_one_that_its_quota_holds_back() {
    let answer = answer_of("run_queue", "sched", "");
    let web = owner(&answer, WEB);
    assert_eq!((&web["held_by"], &web["throttled"]), (&"others".into(), &Value::Null));
    assert_eq!(web["long_wait_ns"], 4 * S);
    assert_eq!(web["ran_instead"][0]["identity"]["unit"], "noisy.service");
    assert_eq!(web["ran_instead"][0]["ns"], 3_900 * MS);
    assert_eq!(web["ran_instead"][1]["who"], "itself");
    let api = owner(&answer, API);
    assert_eq!(api["held_by"], "quota");
    assert_eq!(api["throttled"]["throttled"], 90);
    assert_eq!(api["throttled"]["throttled_ns"], 5_500 * MS);
    assert_eq!(api["ran_instead"][0]["who"], "nobody");
    let batch = owner(&answer, "33333333-3333-3333-3333-333333333333");
    assert_eq!(batch["held_by"], "itself");
}

#[test]
fn percentiles_stay_within_their_bucket() {
    let web = owner(&answer_of("run_queue", "sched", "scope=pod"), WEB);
    for field in ["p50_ns", "p90_ns", "p99_ns", "max_ns"] {
        let ns = web[field].as_u64().unwrap();
        assert!((8 * MS..=8 * MS + 1_024).contains(&ns), "{field} {ns}");
    }
}

#[test]
fn filters_leave_the_node_alone_and_parts_can_be_had_by_themselves() {
    let answer = answer_of("run_queue", "sched", &format!("pod={WEB}"));
    assert_eq!(answer["owners_matched"], 1);
    assert_eq!(answer["processes"].as_array().unwrap().len(), 1);
    assert_eq!(answer["node"]["waits"], 3_300);
    let of_process = answer_of("run_queue", "sched", "comm=noisy&scope=process");
    assert_eq!(of_process["processes_matched"], 1);
    assert_eq!(named(&of_process["processes"], "kind", "process")["waits"], 500);
    assert!(of_process.get("node").is_none() && of_process.get("owners").is_none());
    assert_eq!(answer_of("run_queue", "sched", "pid=4242")["processes_matched"], 0);
}

#[test]
fn the_heat_map_has_each_wait_once() {
    let count = |query: &str| -> u64 {
        let answer = answer_of("run_queue", "sched_heatmap", query);
        let slots = answer["slots"].as_array().unwrap();
        let rows = answer["wait_from_ns"].as_array().unwrap().len();
        slots
            .iter()
            .map(|slot| {
                let counts = slot["counts"].as_array().unwrap();
                assert_eq!(counts.len(), rows);
                counts.iter().map(|count| count.as_u64().unwrap()).sum::<u64>()
            })
            .sum()
    };
    assert_eq!(count(""), 3_300);
    assert_eq!(count(&format!("pod={WEB}")), 500);
    assert_eq!(count("comm=noisy"), 500);
    assert_eq!([count("cpu=0"), count("cpu=1"), count("cpu=7")], [1_500, 1_800, 0]);
}

#[test]
fn only_pods_that_are_held_back_by_what_can_be_mended_are_found() {
    let found = |scene: &str| -> Vec<String> {
        let answer = answer_of(scene, "findings", "");
        let findings = answer["findings"].as_array().unwrap();
        let of_rule = findings.iter().filter(|finding| finding["rule"] == "run_queue");
        of_rule.map(|finding| finding["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        found("run_queue"),
        [format!("run_queue/quota/pod-{API}"), format!("run_queue/others/pod-{WEB}")]
    );
    assert!(found("run_queue_calm").is_empty());
    let answer = answer_of("run_queue", "findings", &format!("pod={WEB}"));
    let finding = named(&answer["findings"], "rule", "run_queue");
    assert!(finding["detail"][0].as_str().unwrap().contains("noisy.service 98 %"), "{finding}");
    assert_eq!(finding["cost_ns"], 4 * S);
}
