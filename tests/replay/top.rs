//! Who takes what: counts, ticks where there are no counts, and what children cost.

use crate::{MS, S, named};
use harness::check::answer_of;
use serde_json::Value;

fn process(answer: &Value, comm: &str) -> Value {
    let rows = answer["processes"].as_array().unwrap();
    rows.iter().find(|row| row["process"]["comm"] == comm).expect(comm).clone()
}

#[test]
fn what_never_leaves_its_cpu_is_told_by_ticks_and_the_rest_by_counts() {
    let answer = answer_of("top", "top", "");
    let batch = process(&answer, "batch");
    assert_eq!(batch["on_cpu_ns"], 10 * S, "all of a CPU, though it was counted for a millisecond");
    assert_eq!(batch["pod"], "shop/batch-0");
    assert!((batch["cpus_used"].as_f64().unwrap() - 1.0).abs() < 0.02, "{batch}");
    let proxy = process(&answer, "proxy");
    assert_eq!(proxy["on_cpu_ns"], 900 * MS, "counts are exact, ticks are not");
    assert_eq!((&proxy["runnable_ns"], &proxy["blocked_ns"]), (&(500 * MS).into(), &(1_500 * MS).into()));
    let idle = process(&answer, "idle");
    assert_eq!((&idle["blocked_ns"], &idle["blocked_by"]["poll"]), (&(10 * S).into(), &(10 * S).into()));
    let kernel = named(&answer["processes"], "kind", "kernel_threads");
    assert_eq!(kernel["on_cpu_ns"], 520 * MS, "a kernel thread's ticks are no process of their own");
}

#[test]
fn children_cost_who_spawned_them() {
    let answer = answer_of("top", "top", "sort=spawn_cost");
    let first = &answer["processes"][0];
    assert_eq!(first["process"]["comm"], "proxy");
    assert_eq!(first["spawns"], 50);
    assert_eq!(first["spawn_cost_ns"], 50 * 10 * MS, "from the clone call to the program");
    assert_eq!(first["children_ns"], 50 * 30 * MS + 50 * MS / 10, "until they are collected");
    assert_eq!(first["children_on_cpu_ns"], 50 * 15 * MS);
}

#[test]
fn owners_are_the_sums_of_their_processes_and_each_sort_has_its_first() {
    for (sort, owner, process) in [
        ("on_cpu", "pod", "batch"),
        ("runnable", "host", "proxy"),
        ("blocked", "host", "idle"),
        ("spawn_cost", "host", "proxy"),
    ] {
        let answer = answer_of("top", "top", &format!("sort={sort}"));
        assert_eq!(answer["owners"][0]["identity"]["kind"], owner, "{sort}");
        assert_eq!(answer["processes"][0]["process"]["comm"], process, "{sort}");
        for field in ["on_cpu_ns", "runnable_ns", "blocked_ns", "spawns"] {
            let sum = |list: &str| -> u64 {
                answer[list].as_array().unwrap().iter().map(|row| row[field].as_u64().unwrap()).sum()
            };
            assert_eq!(sum("owners"), sum("processes"), "{field}");
        }
    }
}

#[test]
fn filters_and_limits_hold_for_both_tables() {
    let answer = answer_of("top", "top", "pod=batch-0");
    assert_eq!((&answer["owners_matched"], &answer["processes_matched"]), (&1.into(), &1.into()));
    let answer = answer_of("top", "top", "limit=1");
    assert_eq!(answer["processes"].as_array().unwrap().len(), 1);
    assert_eq!(answer["processes_matched"], 5);
    assert_eq!(answer_of("top", "top", "pid=4242")["processes_matched"], 0);
}
