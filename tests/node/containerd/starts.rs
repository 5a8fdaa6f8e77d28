//! Starts of real pods: their UIDs and containers are known to who asked for them, and so is when each was asked for.

use super::bed::Node;
use super::cri::{Cri, SandboxConfig};
use super::image::APP;
use harness::agent;
use harness::agent::{Agent, monotonic_ns};
use harness::truth::Truth;
use slowpod::cli::tables;
use slowpod::client;

/// Pods started at once.
const PODS: u32 = 8;
/// How long init containers run.
const INIT_MS: u64 = 100;

/// Columns of a start that is drawn.
const WIDTH: usize = 120;

/// A pod as who started it knows it.
struct Pod {
    uid: String,
    name: String,
    /// Before and after its cgroup was made.
    made_ns: (u64, u64),
    sandbox: String,
    init: String,
    /// When its program began and ended, as the program itself said.
    init_ns: (u64, u64),
    main: String,
    /// When the runtime was asked for its container, and when its program began.
    main_ns: (u64, u64),
}

fn uid(number: u32) -> String {
    format!("{number:08x}-52c1-4a53-9a0e-{:012x}", std::process::id())
}

/// Starts a pod as a kubelet does: cgroup, sandbox, an init container to its end, a container.
fn start(node: &Node, number: u32) -> Pod {
    let cri = node.cri().unwrap();
    let (uid, name) = (uid(number), format!("web-{number}"));
    let before_ns = monotonic_ns();
    let cgroup = node.pod_cgroup(&uid);
    let made_ns = (before_ns, monotonic_ns());
    let config = node.sandbox(&name, &uid, &cgroup, 0);
    let sandbox = run_sandbox(node, &cri, &config);
    let init = run_container(&cri, &sandbox, &config, "init", &[APP, &INIT_MS.to_string()]);
    while !cri.has_exited(&init).unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let before_ns = monotonic_ns();
    let main = run_container(&cri, &sandbox, &config, "main", &[APP]);
    let (said, began) = (node.times_ns(&uid, "init", 2), node.times_ns(&uid, "main", 1));
    let (init_ns, main_ns) = ((said[0], said[1]), (before_ns, began[0]));
    Pod { uid, name, made_ns, sandbox, init, init_ns, main, main_ns }
}

fn run_sandbox(node: &Node, cri: &Cri, config: &SandboxConfig) -> String {
    cri.run_sandbox(config).unwrap_or_else(|error| panic!("{error}\n{}", node.said()))
}

fn run_container(cri: &Cri, sandbox: &str, config: &SandboxConfig, name: &str, command: &[&str]) -> String {
    cri.run_container(sandbox, config, name, command).unwrap()
}

/// The one start of this pod, once the agent has read all up to an instant.
fn waterfall(agent: &Agent, uid: &str, at_ns: u64) -> Truth {
    let answer = agent.view_at(&format!("/api/v1/pods/{uid}?seconds=600&limit=1000"), at_ns);
    // What is lost is missing from the start, which must not be taken for the cause.
    let lost = answer.at("/completeness/lost");
    assert_eq!(lost.as_object().map(|lost| lost.len()), Some(0), "{}", answer.at("/completeness"));
    let starts = answer.list("/starts");
    assert_eq!(starts.len(), 1, "{answer}");
    starts[0].clone()
}

/// A start as `slowpod pod` draws it, for who reads the test's output, and for the README.
fn drawn(agent: &Agent, uid: &str) -> String {
    let body =
        client::get(agent.address(), &format!("/api/v1/pods/{uid}?seconds=600")).expect("the pod is there");
    tables::render("pod", &body, WIDTH).expect("the answer is JSON")
}

/// Checks that a start says what who started it knows.
fn check(start: &Truth, pod: &Pod) {
    assert_eq!(start.text("/state"), "started", "{start}");
    assert_eq!((start.text("/namespace"), start.text("/pod")), ("default", pod.name.as_str()));
    assert!(start.at("/cut_at_start") == false, "{start}");
    assert_eq!((start.number("/sandboxes"), start.number("/network_retries")), (1, 0), "{start}");
    assert_eq!((start.number("/containers"), start.number("/init_containers")), (2, 1), "{start}");
    let began_ns = start.number("/began/ktime_ns");
    assert!((pod.made_ns.0..=pod.made_ns.1).contains(&began_ns), "{began_ns} {:?}", pod.made_ns);
    let phases = ["before_sandbox", "network", "sandbox", "before_container", "container"];
    let parts: Vec<u64> = phases.iter().map(|phase| start.number(&format!("/phases/{phase}"))).collect();
    assert_eq!(parts.iter().sum::<u64>(), start.number("/wall_ns"));
    let containers = start.list("/containers_seen");
    let said: Vec<_> = containers.iter().map(|one| (one.text("/kind"), one.text("/container_id"))).collect();
    let known = [("sandbox", &pod.sandbox), ("init", &pod.init), ("container", &pod.main)];
    assert_eq!(said, known.map(|(kind, id)| (kind, id.as_str())));
    assert_eq!(containers.iter().map(|one| one.text("/program")).collect::<Vec<_>>(), ["/pause", APP, APP]);
    // A program runs from before it can say so until after it has said the last.
    let (ran_ns, ended_ns) = (containers[1].number("/ran/ktime_ns"), containers[1].number("/ended/ktime_ns"));
    assert!((pod.made_ns.1..=pod.init_ns.0).contains(&ran_ns), "{ran_ns} {:?}", pod.init_ns);
    assert!(
        (pod.init_ns.1..=pod.main_ns.0).contains(&ended_ns),
        "{ended_ns} {:?} {:?}",
        pod.init_ns,
        pod.main_ns
    );
    let ran_ns = containers[2].number("/ran/ktime_ns");
    assert!((pod.main_ns.0..=pod.main_ns.1).contains(&ran_ns), "{ran_ns} {:?}", pod.main_ns);

    let steps = start.list("/steps");
    for (id, kind) in [(&pod.sandbox, "sandbox"), (&pod.init, "init"), (&pod.main, "container")] {
        let own = steps.iter().filter(|step| step.at("/container_id").as_str() == Some(id));
        let runtime = own.filter(|step| ["shim_start", "create", "start"].contains(&step.text("/what")));
        let runtime: Vec<_> = runtime.collect();
        let what: Vec<_> = runtime.iter().map(|step| step.text("/what")).collect();
        assert_eq!(what, ["shim_start", "create", "start"], "{kind}: {start}");
        for step in &runtime {
            assert_eq!((step.text("/of"), step.text("/state")), (kind, "done"), "{step}");
            let split = ["on_cpu_ns", "runnable_ns", "blocked_ns"];
            let sum: u64 = split.iter().map(|part| step.number(&format!("/split/{part}"))).sum();
            assert!(sum <= step.number("/wall_ns"), "{step}");
        }
    }
    // The sandbox's program may get a CPU only when the runtime is at the first container: then nothing lies between.
    let of = |kind: &'static str| {
        steps.iter().filter(move |step| step.at("/of") == kind && step.text("/what") != "cni")
    };
    let up_ns = of("sandbox").map(|step| step.number("/offset_ns") + step.number("/wall_ns")).max();
    let is_late = of("init").map(|step| step.number("/offset_ns")).min() <= up_ns;
    for (phase, part_ns) in phases.iter().zip(&parts) {
        assert_eq!(
            *part_ns == 0,
            is_late && *phase == "before_container",
            "{phase} of a real start: {start}"
        );
    }
    let calls = steps.iter().filter(|step| step.text("/what") == "cni");
    let mut plugins: Vec<_> = calls.map(|step| step.text("/name")).collect();
    plugins.sort_unstable();
    assert_eq!(plugins, ["> host-local", "bridge", "loopback", "portmap"], "{start}");
}

/// In each hierarchy of this machine that pods live in.
#[test]
fn pods_in_parallel_have_whole_waterfalls() {
    let node = Node::up();
    for (round, hierarchy) in node.hierarchies().into_iter().enumerate() {
        let agent = agent!("--cgroup-hierarchy", hierarchy);
        let pods: Vec<Pod> = std::thread::scope(|scope| {
            let first = round as u32 * PODS;
            let node = &node;
            let threads: Vec<_> =
                (first..first + PODS).map(|number| scope.spawn(move || start(node, number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let done_ns = monotonic_ns();
        for pod in &pods {
            check(&waterfall(&agent, &pod.uid, done_ns), pod);
            eprintln!("{}", drawn(&agent, &pod.uid));
            let of_pod = format!("/api/v1/processes?seconds=600&limit=5000&state=ended&pod={}", pod.uid);
            let processes = agent.view_at(&of_pod, done_ns);
            for class in ["runc", "containerd-shim", "bridge", "host-local", "iptables"] {
                let is_class = |row: &Truth| row.text("/argv_class").starts_with(class);
                assert!(processes.list("/processes").iter().any(is_class), "{class}: {processes}");
            }
        }
        let all = agent.view_at("/api/v1/pods?seconds=600", done_ns);
        assert_eq!(all.number("/totals/started"), u64::from(PODS), "{hierarchy}: {all}");
        assert_eq!(all.number("/totals/cut_at_start"), 0, "earlier rounds' pods only live");
        assert_eq!(all.at("/completeness/lost").as_object().map(|lost| lost.len()), Some(0), "{all}");
    }
    node.down();
}

/// A sandbox on the node's network, one that gets its network at the second try, and one that was there before.
#[test]
fn starts_that_are_not_like_the_others() {
    let node = Node::up();
    let cri = node.cri().unwrap();
    let begin = |number: u32| {
        let uid = uid(number);
        let cgroup = node.pod_cgroup(&uid);
        (node.sandbox(&format!("odd-{number}"), &uid, &cgroup, 0), cgroup, uid)
    };
    let (early, _, early_uid) = begin(100);
    let early_sandbox = run_sandbox(&node, &cri, &early);
    let agent = agent!("--cgroup-hierarchy", "v2");

    let early_main = run_container(&cri, &early_sandbox, &early, "main", &[APP]);
    let (host, _, host_uid) = begin(101);
    let host = host.on_host_network();
    let host_sandbox = run_sandbox(&node, &cri, &host);
    let host_main = run_container(&cri, &host_sandbox, &host, "main", &[APP]);
    // The bridge's name is taken by something that is none: the plugin refuses.
    let (retry, cgroup, retry_uid) = begin(102);
    node.ip(&["link", "set", "bed0", "name", "bed1"]);
    node.ip(&["link", "add", "bed0", "type", "veth", "peer", "name", "bed2"]);
    let refused = cri.run_sandbox(&retry).expect_err("the network cannot be had").to_string();
    assert!(refused.contains("bed0"), "{refused}");
    node.ip(&["link", "delete", "bed0"]);
    node.ip(&["link", "set", "bed1", "name", "bed0"]);
    let retry = node.sandbox("odd-102", &retry_uid, &cgroup, 1);
    let retry_sandbox = run_sandbox(&node, &cri, &retry);
    let retry_main = run_container(&cri, &retry_sandbox, &retry, "main", &[APP]);
    let done_ns = monotonic_ns();

    let start = waterfall(&agent, &early_uid, done_ns);
    assert!((start.at("/cut_at_start") == true), "{start}");
    assert_eq!(start.list("/containers_seen")[0].text("/container_id"), early_main);

    let start = waterfall(&agent, &host_uid, done_ns);
    let kinds: Vec<_> =
        start.list("/containers_seen").iter().map(|one| one.text("/kind").to_owned()).collect();
    assert_eq!(kinds, ["sandbox", "container"], "{start}");
    assert_eq!(start.list("/containers_seen")[0].text("/container_id"), host_sandbox);
    assert_eq!(start.list("/containers_seen")[1].text("/container_id"), host_main);
    assert_eq!(start.number("/phases/network"), 0);

    let start = waterfall(&agent, &retry_uid, done_ns);
    assert_eq!((start.text("/state"), start.number("/sandboxes")), ("started", 2), "{start}");
    let attempts: Vec<_> =
        start.list("/steps").into_iter().filter(|step| step.text("/what") == "cni_attempt").collect();
    let ends: Vec<_> = attempts.iter().map(|attempt| attempt.text("/state")).collect();
    assert_eq!(ends, ["failed", "done"], "{start}");
    let between_ns = attempts[1].number("/offset_ns") - attempts[0].number("/offset_ns");
    assert!(start.number("/phases/network") >= between_ns, "the time to the retry is the network's: {start}");
    assert_eq!(start.list("/containers_seen").last().unwrap().text("/container_id"), retry_main);
    drop(agent);
    node.down();
}
