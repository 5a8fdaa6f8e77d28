//! Filters and limits of the views.

use crate::{daemon, fields};
use harness::check::answer_of;
use serde_json::Value;
use slowpod::views::{Query, VIEWS};

fn names(answer: &Value) -> Vec<&str> {
    fields(answer["daemons"].as_array().unwrap(), "name").iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn daemons_are_filtered_by_pod_pid_comm_and_cgroup() {
    let ask = |query: &str| answer_of("shim_probes", "storms", query);
    assert_eq!(names(&ask("")).len(), 2);
    assert_eq!(names(&ask("pid=300")), ["containerd-shim-runc-v2"]);
    assert_eq!(names(&ask("pid=10000")), ["runc exec"]);
    assert_eq!(names(&ask("pid=10001")), ["runc exec"], "a fork of runc is runc");
    assert_eq!(names(&ask("pid=7")), [""; 0]);
    assert_eq!(names(&ask("comm=runc")), ["runc exec"]);
    assert_eq!(names(&ask("cgroup=/system.slice/")).len(), 2);
    assert_eq!(names(&ask("cgroup=/kubepods")), [""; 0]);
    assert_eq!(
        names(&answer_of("kube_router", "storms", "pod=3d257a45-dcf3-4084-80a7-e6f469453ac6")),
        ["kube-router"]
    );
    assert_eq!(
        names(&answer_of("kube_router", "storms", "pod=3d257a45")),
        [""; 0],
        "a UID is whole or wrong"
    );
}

#[test]
fn limits_cut_lists_and_not_counts() {
    let answer = answer_of("shim_probes", "storms", "limit=1&loops=2");
    assert_eq!(answer["daemons_matched"], 2);
    assert_eq!(names(&answer).len(), 1);
    let shim = daemon(&answer, "containerd-shim-runc-v2");
    assert_eq!(shim["latest_loops"].as_array().unwrap().len(), 2);
    assert_eq!(shim["worst_loops"].as_array().unwrap().len(), 2);
    let none = answer_of("shim_probes", "storms", "loops=0");
    assert_eq!(daemon(&none, "runc exec")["latest_loops"], Value::Array(Vec::new()));
    let answer = answer_of("kube_router", "processes", "limit=3");
    assert_eq!(answer["processes_matched"], 12_001);
    assert_eq!(answer["processes"].as_array().unwrap().len(), 3);
}

#[test]
fn processes_are_filtered_by_state_spawner_and_whose_they_are() {
    let count = |query: &str| answer_of("forked_workers", "processes", query)["processes_matched"].clone();
    assert_eq!(count(""), 89, "2 x (4 workers + 40 children) and the daemon");
    assert_eq!(count("state=ended"), 88);
    assert_eq!(count("state=alive"), 1);
    assert_eq!(count("spawner=100"), 88, "what its forks spawn it spawns");
    assert_eq!(count("spawner=10000"), 10, "one worker's own");
    assert_eq!(count("comm=ipset"), 80);
    let pods = answer_of("shim_probes", "processes", "pod=814fd032-a5bf-4673-a821-9240f0569308");
    assert_eq!(pods["processes_matched"], 15, "the probes that were moved there");
}

#[test]
fn netlink_senders_are_filtered_with_their_sums() {
    let answer = answer_of("kube_router", "netlink", "pid=200");
    assert_eq!(answer["senders_matched"], 1);
    assert_eq!(answer["total"]["messages"], 2_000);
    let answer = answer_of("kube_router", "netlink", "comm=kube-router&limit=1");
    assert_eq!((&answer["senders_matched"], &answer["total"]["messages"]), (&2.into(), &12_000.into()));
    assert_eq!(answer["senders"].as_array().unwrap().len(), 1);
}

#[test]
fn findings_are_filtered_by_whom_they_are_about() {
    let count = |query: &str| answer_of("refused", "findings", query)["findings_matched"].clone();
    assert_eq!(count(""), 3);
    assert_eq!(count("pid=100"), 1);
    assert_eq!(count("pid=101"), 2);
    assert_eq!(count("comm=nobody"), 0);
    assert_eq!(
        answer_of("losses", "findings", "comm=nobody")["findings_matched"],
        1,
        "losses concern everyone"
    );
}

#[test]
fn views_refuse_words_they_do_not_know() {
    let processes = slowpod::views::named("processes").unwrap();
    let problem = Query::parse("state=zombie", processes.params).unwrap_err().to_string();
    assert_eq!(problem, r#"parameter "state": must be one of all, ended, alive"#);
    for view in VIEWS {
        assert!(Query::parse("nonsense=1", view.params).is_err(), "{}", view.name);
        assert!(Query::parse("limit=20000", view.params).is_ok(), "{}", view.name);
    }
}
