//! Many pods at once, and an agent beside them: it misses none. Witnesses are the notes of the run, which tell each pod's
//! UID and container id, and host-local's leases.

use super::bed::{Bed, run, wait_until, with_niceness};
use harness::agent;
use harness::agent::monotonic_ns;
use harness::load::Load;
use harness::truth::Truth;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Pods, as many as the issue has.
const PODS: usize = 500;
/// At once.
const CONCURRENCY: &str = "20";
/// The chain, IPAM included, which runs once for each pod's ADD and once for its DEL.
const CHAIN: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

/// UIDs and container ids as the run's notes have them.
fn noted(bed: &Bed) -> BTreeMap<String, String> {
    let file = std::fs::read_dir(bed.path("notes")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let made = lines.filter_map(|line| line.get("made").cloned());
    let text = |pod: &Value, field: &str| pod[field].as_str().unwrap().to_owned();
    made.map(|pod| (text(&pod, "container_id"), text(&pod, "uid"))).collect()
}

/// Calls in the run's own namespaces: somebody else's may go on on this machine.
fn of_run(bed: &Bed, answer: &Truth) -> Vec<Truth> {
    let own = format!("/flux-{}-", bed.run);
    answer.list("/calls").into_iter().filter(|call| call.text("/netns").contains(&own)).collect()
}

/// How many calls of each plugin ended well, by container id and pod.
fn calls(of_run: &[Truth], command: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut calls: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for call in of_run.iter().filter(|call| call.text("/command") == command) {
        assert_eq!(call.number("/exit/code"), 0, "{call}");
        let pod = (call.text("/container_id").to_owned(), call.text("/identity/pod_uid").to_owned());
        assert!(calls.entry(pod).or_default().insert(call.text("/plugin").to_owned()), "twice: {call}");
        let parts =
            ["on_cpu_ns", "runnable_ns", "blocked_ns"].map(|part| call.number(&format!("/split/{part}")));
        let sum_ns = parts.iter().sum::<u64>() + call.number("/ending_ns");
        let wall_ns = call.number("/wall_ns");
        assert!(sum_ns.abs_diff(wall_ns) * 100 <= wall_ns, "the parts of a call are its wall time: {call}");
    }
    calls
}

#[test]
fn of_many_pods_every_call_is_seen_and_none_is_lost() {
    let bed = Bed::new("many");
    let list = bed.bridge();
    // Without masquerading: its 17 runs of iptables per pod are tested elsewhere, and take minutes here.
    let mut chain: Value = serde_json::from_str(&std::fs::read_to_string(&list).unwrap()).unwrap();
    chain["plugins"][0]["ipMasq"] = false.into();
    let list = bed.conflist(&chain);
    let agent = agent!("--keep", "30m", "--keep-mib", "256");
    let pods = PODS.to_string();
    let options = ["--pods", &pods, "--concurrency", CONCURRENCY, "--hold", "10m"];
    let running = bed.start(&list, &options);
    // A busy machine takes minutes for all, but none of them takes one.
    while bed.leases().len() < PODS {
        let before = bed.leases().len();
        wait_until("one more lease", || bed.leases().len() > before);
    }
    let noted = noted(&bed);
    assert_eq!(noted.len(), PODS);
    running.signal(libc::SIGINT);
    let report = running.finish().good();
    let done_ns = monotonic_ns();
    assert_eq!((report.number("/pods/ready"), report.number("/pods/deleted")), (PODS as u64, PODS as u64));

    // Asked once all is in: folding all of it takes a while on a busy machine.
    agent.view_at("/api/v1/probes?seconds=1", done_ns);
    let answer = agent.get("/api/v1/cni?seconds=1800&limit=20000").unwrap();
    let whole: BTreeSet<String> = CHAIN.map(str::to_owned).into();
    let own = of_run(&bed, &answer);
    for command in ["ADD", "DEL"] {
        let seen = calls(&own, command);
        let pods: BTreeMap<String, String> = seen.keys().cloned().collect();
        assert_eq!(pods, noted, "{command}");
        let odd = seen.iter().find(|(_, plugins)| **plugins != whole);
        assert!(odd.is_none(), "{command}: {odd:?}");
    }
    let mut others = own.iter().filter(|call| !["ADD", "DEL"].contains(&call.text("/command")));
    assert!(others.next().is_none(), "{answer}");
    let lost = answer.at("/completeness/lost");
    assert_eq!(lost.as_object().map(|lost| lost.len()), Some(0), "{lost}");
    let starts = agent.get("/api/v1/pods?seconds=1800&limit=1000").unwrap();
    let hollow = starts.list("/pods").into_iter().filter(|row| row.text("/state") == "network_only");
    let hollow: BTreeSet<String> = hollow.map(|row| row.text("/pod_uid").to_owned()).collect();
    assert!(noted.values().all(|uid| hollow.contains(uid)), "{starts}");
    drop(agent);
    bed.assert_nothing_left();
}

/// A plugin that has been woken and gets no CPU for a long while: what it waited for is told only then, which must not make
/// it late.
#[test]
fn waits_that_end_long_before_their_thread_gets_a_cpu_are_not_late() {
    let bed = Bed::new("queued");
    let agent = agent!();
    let load = Load::start();
    // Each is a wait for another thing than the one before it.
    let sleep = json!({ "do": "sleep", "ms": 1 });
    let sync = json!({ "do": "fsync", "path": bed.path(""), "bytes": 4096 });
    let list = bed.slow(json!(vec![[sleep, sync]; 20].concat()));
    let mut command = bed.flux(&list, &["--pods", "2", "--no-loopback"]);
    run(with_niceness(&mut command, 19)).good();
    drop(load);
    let answer = agent.view_at("/api/v1/cni?seconds=600&limit=1000", monotonic_ns());
    let calls = answer.list("/calls").into_iter().filter(|call| call.text("/plugin") == "slow-cni");
    let longest_ns = calls.map(|call| call.number("/split/runnable_ns")).max();
    // Longer than records may take to their ring, and than one drain to the next: or nothing was tried.
    assert!(longest_ns > Some(200_000_000), "{longest_ns:?}");
    let lost = answer.at("/completeness/lost");
    assert_eq!(lost.as_object().map(|lost| lost.len()), Some(0), "{lost}");
    drop(agent);
    bed.assert_nothing_left();
}
