//! Each rule where it must find something, and where what looks alike must not be found.

use harness::check::answer_of;
use serde_json::Value;
use slowpod::findings::FINDINGS;
use slowpod::views::{Query, VIEWS, View};

fn rules(scene: &str) -> Vec<String> {
    let answer = answer_of(scene, "findings", "");
    let findings = answer["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
}

fn finding(scene: &str, rule: &str) -> Value {
    let answer = answer_of(scene, "findings", "");
    crate::named(&answer["findings"], "rule", rule).clone()
}

#[test]
fn every_rule_has_a_scene_that_it_finds_something_in() {
    let found: Vec<String> = harness::scene::all().iter().flat_map(|scene| rules(scene)).collect();
    for rule in FINDINGS {
        assert!(found.iter().any(|name| name == rule.name), "{} finds nothing anywhere", rule.name);
    }
}

#[test]
fn what_almost_stands_out_does_not() {
    let answer = answer_of("quiet", "findings", "");
    assert_eq!(answer["findings"], Value::Array(Vec::new()));
    let summary = answer["summary"].as_str().unwrap();
    assert!(summary.contains("132 spawns") && summary.ends_with("Nothing stood out."), "{summary}");
    assert_eq!(answer["looked_for"].as_array().unwrap().len(), FINDINGS.len());
}

#[test]
fn forks_are_no_exec_storm() {
    assert_eq!(rules("fork_no_exec"), ["fork_storm"]);
    let finding = finding("fork_no_exec", "fork_storm");
    assert_eq!(finding["numbers"]["forks"], 300);
    assert_eq!(finding["cost_ns"], 270_000_000_u64, "300 x 0.9 ms");
    assert_eq!(rules("forked_workers"), ["exec_storm"], "eight workers are no storm of forks");
}

#[test]
fn a_storm_inside_a_storm_is_told_once() {
    assert_eq!(rules("nested"), ["exec_storm"]);
    let finding = finding("nested", "exec_storm");
    let (detail, fix) = (finding["detail"].to_string(), finding["fix"].to_string());
    assert!(detail.contains("Each `sh -c` starts programs in turn: `iptables -A` 50 times."), "{detail}");
    assert!(fix.contains("iptables-restore --noflush"), "{fix}");
    // But a long-lived daemon is not part of the shell that once started it.
    assert_eq!(rules("double_fork"), ["exec_storm"]);
}

#[test]
fn a_path_search_is_told_with_its_ratio() {
    let finding = finding("path_search", "path_search");
    assert_eq!(finding["numbers"]["failed_execs"], 200);
    assert_eq!(finding["numbers"]["execs"], 40);
    assert_eq!(finding["numbers"]["paths"], 5);
    assert_eq!(finding["cost_ns"], 40_000_000, "40 x 1 ms from the clone call to the exec that worked");
    let detail = finding["detail"].to_string();
    assert!(detail.contains("ENOENT") && detail.contains("/sbin/ip"), "{detail}");
}

#[test]
fn a_large_parent_is_told_by_what_its_spawns_cost() {
    let finding = finding("spawn_cost", "spawn_cost");
    assert_eq!(
        finding["numbers"]["spawn_cost_mean_ns"], 45_000_000,
        "35 ms in the clone call, 10 ms to the exec"
    );
    assert_eq!(finding["numbers"]["life_ns"], 10 * 47_000_000_u64);
    assert!(finding["title"].as_str().unwrap().contains("96 % of their life"), "{finding}");
    assert!(!rules("kube_router").contains(&"spawn_cost".to_owned()), "0.4 ms each is what a spawn costs");
}

#[test]
fn refusals_are_told_by_reason() {
    let answer = answer_of("refused", "findings", "");
    let findings = answer["findings"].as_array().unwrap();
    let refused: Vec<&Value> =
        findings.iter().filter(|finding| finding["rule"] == "netlink_refused").collect();
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[0]["numbers"]["refused"], 135);
    assert_eq!(refused[0]["cost_ns"], 135 * 100_000);
    assert!(refused[0]["detail"].to_string().contains("EEXIST 120, ESRCH 15"), "{}", refused[0]);
    assert!(refused[1]["title"].as_str().unwrap().contains("`ipset add` of sets"), "{}", refused[1]);
    let fixes = refused[0]["fix"].to_string();
    assert!(fixes.contains("NLM_F_REPLACE") && fixes.contains("routes or rules that are gone"), "{fixes}");
}

#[test]
fn adds_that_wait_for_a_cpu_are_told_with_who_has_it() {
    let title = |scene: &str| finding(scene, "cni_cpu")["title"].as_str().unwrap().to_owned();
    assert!(title("cni_cpu").ends_with("81 % of their time) for a CPU: up to 6 ran at once on 2 CPUs"));
    assert!(title("cni_cpu_quota").ends_with("the CPU limit of containerd.service withholds it"));
    assert!(title("cni_cpu_others").ends_with("noisy.service (89 % of it) had it meanwhile"));
    assert_eq!(rules("cni_cpu_near"), [""; 0]);
}

#[test]
fn what_adds_wait_for_a_little_is_not_to_blame() {
    for scene in ["cni_locks_near", "cni_disk_fast", "cni_server_near", "cni_lock_free"] {
        let found = rules(scene);
        assert!(found.iter().all(|rule| rule == "cni_slow"), "{scene}: {found:?}");
    }
}

#[test]
fn what_makes_calls_slow_comes_first_when_that_is_asked_for() {
    let first = |query: &str| answer_of("cni_beside", "findings", query)["findings"][0]["rule"].clone();
    assert_eq!((first(""), first("focus=cni")), ("exec_storm".into(), "cni_slow".into()));
}

#[test]
fn losses_are_a_finding_and_said_in_the_summary() {
    for scene in ["flood", "losses"] {
        let answer = answer_of(scene, "findings", "");
        let last = answer["findings"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["rule"], &last["severity"]), (&"incomplete".into(), &"high".into()), "{scene}");
        assert!(
            answer["summary"].as_str().unwrap().ends_with("Data are missing: see completeness."),
            "{scene}"
        );
    }
}

/// What a path has in a view's places to fill; `None` when it is no path of that view.
fn places<'a>(view: &View, path: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
    let (own, asked): (Vec<_>, Vec<_>) = (view.path.split('/').collect(), path.split('/').collect());
    let is_place = |segment: &str| segment.starts_with('{');
    let fits = own.len() == asked.len()
        && own.iter().zip(&asked).all(|(own, asked)| is_place(own) && !asked.is_empty() || own == asked);
    let filled = own.iter().zip(asked).filter(|(own, _)| is_place(own)).map(|(_, asked)| asked);
    fits.then(|| view.in_path().zip(filled).collect())
}

#[test]
fn findings_are_ranked_by_cost_and_their_evidence_can_be_asked() {
    for scene in harness::scene::all() {
        let answer = answer_of(&scene, "findings", "seconds=60&ago=2m");
        let findings = answer["findings"].as_array().unwrap();
        let costs: Vec<u64> = findings.iter().map(|finding| finding["cost_ns"].as_u64().unwrap()).collect();
        assert!(costs.is_sorted_by(|one, next| one >= next), "{scene}: {costs:?}");
        for path in findings.iter().flat_map(|finding| finding["evidence"].as_array().unwrap()) {
            let (path, query) = path.as_str().unwrap().split_once('?').unwrap();
            let (view, in_path) =
                VIEWS.iter().find_map(|view| Some((view, places(view, path)?))).expect(path);
            let query = Query::parse_at(&in_path, query, view.params).expect(query);
            assert_eq!(query.seconds_ns, Some(60_000_000_000));
            assert_eq!(query.ago_ns, Some(120_000_000_000));
        }
    }
}
