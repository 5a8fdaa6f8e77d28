//! CNI calls on this machine's kernel: every plugin process seen once, with what its environment said.

use harness::agent;
use harness::agent::Agent;
use harness::netns::die_with_test;
use harness::truth::Truth;
use slowpod::client;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The calls of pods whose UID begins so, once `count` have ended, and the whole answer.
fn calls_of(agent: &Agent, pods: &str, count: usize) -> (Vec<Truth>, Truth) {
    let is_its = |call: &Truth| {
        let uid = call.at("/identity").get("pod_uid").and_then(|uid| uid.as_str());
        uid.is_some_and(|uid| uid.starts_with(pods))
    };
    let own = |answer: &Truth| answer.list("/calls").into_iter().filter(is_its).collect::<Vec<_>>();
    let answer = agent.view_when("/api/v1/cni?seconds=300&limit=20000", |answer| {
        own(answer).iter().filter(|call| call.text("/state") == "ended").count() >= count
    });
    (own(&answer), answer)
}

/// Pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Starts a plugin as a runtime would, with 40 variables beside its own, all in random order: env(1) passes them on
/// in the order of its arguments.
fn plugin(random: &mut Random, program: &Path, variables: &[(&str, String)]) -> Child {
    let mut words: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.extend((0..40).map(|at| format!("VARIABLE_{at}={}", "v".repeat(random.below(120)))));
    random.shuffle(&mut words);
    let mut command = Command::new("/usr/bin/env");
    command
        .arg("-i")
        .args(words)
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    die_with_test(&mut command).spawn().expect("the plugin starts")
}

fn collect(running: &mut Vec<Child>) {
    for mut child in running.drain(..) {
        child.wait().expect("the plugin ends");
    }
}

fn args(random: &mut Random, uid: &str, name: &str, sandbox: &str) -> String {
    let mut pairs = vec![
        "IgnoreUnknown=1".to_owned(),
        "K8S_POD_NAMESPACE=default".to_owned(),
        format!("K8S_POD_NAME={name}"),
        format!("K8S_POD_UID={uid}"),
        format!("K8S_POD_INFRA_CONTAINER_ID={sandbox}"),
    ];
    random.shuffle(&mut pairs);
    pairs.join(";")
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

#[test]
fn every_call_is_seen_once_with_its_pod_its_tree_and_its_end() {
    const PODS: usize = 40;
    let folder = tempfile::tempdir().expect("a folder");
    script(folder.path(), "ipam", "exit 0");
    let folder_text = folder.path().display();
    let bridge = script(
        folder.path(),
        "bridge",
        &format!("{folder_text}/ipam || exit 9\n/bin/true\n/bin/true\n/bin/sleep 0.02\nexit $PLUGIN_CODE"),
    );
    let agent = agent!();
    let mut random = Random(42);
    let marker = format!("{:08x}", std::process::id());
    let mut running = Vec::new();
    for pod in 0..PODS {
        let uid = format!("{marker}-0000-4000-8000-{pod:012x}");
        let sandbox = format!("{:064x}", 0xabc0_0000 + pod);
        let name = format!("web-{pod}");
        let variables = [
            ("CNI_COMMAND", "ADD".to_owned()),
            ("CNI_CONTAINERID", sandbox.clone()),
            ("CNI_NETNS", format!("/var/run/netns/cni-{pod}")),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", folder_text.to_string()),
            ("CNI_ARGS", args(&mut random, &uid, &name, &sandbox)),
            ("TRACEPARENT", format!("00-{pod:032x}-00f067aa0ba902b7-01")),
            ("PLUGIN_CODE", (pod % 4).to_string()),
        ];
        running.push(plugin(&mut random, &bridge, &variables));
        if running.len() == 8 {
            collect(&mut running);
        }
    }
    collect(&mut running);

    let (calls, answer) = calls_of(&agent, &marker, 2 * PODS);
    assert_eq!(calls.len(), 2 * PODS, "each plugin and its IPAM once");
    for pod in 0..PODS {
        let uid = format!("{marker}-0000-4000-8000-{pod:012x}");
        let own: Vec<&Truth> = calls.iter().filter(|call| call.text("/identity/pod_uid") == uid).collect();
        let named = |plugin: &str| {
            let found: Vec<_> = own.iter().filter(|call| call.text("/plugin") == plugin).collect();
            assert_eq!(found.len(), 1, "{plugin} of pod {pod}");
            *found[0]
        };
        let (call, ipam) = (named("bridge"), named("ipam"));
        let sandbox = format!("{:064x}", 0xabc0_0000 + pod);
        for (field, expected) in [
            ("/command", "ADD"),
            ("/container_id", &sandbox),
            ("/netns", &format!("/var/run/netns/cni-{pod}")),
            ("/ifname", "eth0"),
            ("/namespace", "default"),
            ("/pod", &format!("web-{pod}")),
            ("/identity/container_id", &sandbox),
            ("/identity/via", "cni_args"),
            ("/traceparent", &format!("00-{pod:032x}-00f067aa0ba902b7-01")),
            ("/path", &bridge.display().to_string()),
        ] {
            assert_eq!(call.text(field), expected, "{field} of pod {pod}");
        }
        assert_eq!(call.number("/exit/code"), pod as u64 % 4);
        assert_eq!(ipam.number("/exit/code"), 0);
        assert_eq!(ipam.number("/delegated_by"), call.number("/pid"));
        // ipam, twice true, sleep.
        assert_eq!(call.number("/tree/spawns"), 4, "{call}");
        assert!(call.number("/tree/busy_ns") >= 20_000_000, "{call}");
        let wall_ns = call.number("/wall_ns");
        assert!(call.number("/tree/busy_ns") <= wall_ns, "{call}");
        let split = |name: &str| call.number(&format!("/split/{name}"));
        let sum_ns = split("on_cpu_ns") + split("runnable_ns") + split("blocked_ns");
        assert!(sum_ns.abs_diff(wall_ns) * 100 <= wall_ns, "{sum_ns} of {wall_ns}");
    }
    let failed =
        calls.iter().filter(|call| call.at("/exit").get("code").is_some_and(|code| *code != 0)).count();
    assert_eq!(failed, PODS * 3 / 4);
    assert!(answer.at("/completeness/lost").as_object().is_some_and(serde_json::Map::is_empty), "{answer}");
    // Metrics renew every second.
    std::thread::sleep(Duration::from_secs(3));
    let metrics = client::get(agent.address(), "/metrics").expect("metrics");
    let metrics = String::from_utf8(metrics).expect("UTF-8");
    for series in [
        "slowpod_cni_call_duration_seconds_count{command=\"ADD\",plugin=\"bridge\"}",
        "slowpod_cni_calls_failed_total{command=\"ADD\",plugin=\"bridge\"}",
        "slowpod_cni_in_flight{command=\"ADD\",plugin=\"bridge\"}",
        "slowpod_cni_network_ready_seconds_count",
    ] {
        assert!(metrics.contains(series), "no {series}");
    }
}

#[test]
fn the_reference_plugins_are_seen_exactly_when_twenty_run_at_once() {
    const PODS: usize = 20;
    let plugins = Path::new("/usr/lib/cni/bridge");
    assert!(plugins.exists(), "no {}: apt-get install containernetworking-plugins", plugins.display());
    let agent = agent!();
    let folder = tempfile::tempdir().expect("a folder");
    let marker = format!("real{:08x}", std::process::id());
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--net", "--mount", "--propagation", "private", "/bin/bash"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/kernel/cni/node.sh")).arg(folder.path()).arg(&marker);
    let status = die_with_test(&mut command).status().expect("a shell");
    assert!(status.success(), "{status}");

    let (calls, answer) = calls_of(&agent, &marker, 4 * PODS);
    assert_eq!(calls.len(), 4 * PODS);
    for pod in 0..PODS {
        let sandbox = format!("{marker}-{pod}");
        for (command, delegated) in [("ADD", false), ("ADD", true), ("DEL", false), ("DEL", true)] {
            let is_it = |call: &&Truth| {
                call.text("/container_id") == sandbox
                    && call.text("/command") == command
                    && call.at("/delegated_by").is_u64() == delegated
            };
            let found: Vec<&Truth> = calls.iter().filter(is_it).collect();
            assert_eq!(found.len(), 1, "{command} of {sandbox}, delegated: {delegated}");
            let call = found[0];
            assert_eq!(call.text("/plugin"), if delegated { "host-local" } else { "bridge" });
            assert_eq!(call.number("/exit/code"), 0, "{call}");
            assert_eq!(call.text("/netns"), format!("/run/netns/n{pod}"));
            assert_eq!(call.text("/pod"), format!("web-{pod}"));
            let split = |name: &str| call.number(&format!("/split/{name}"));
            let parts_ns = split("on_cpu_ns") + split("runnable_ns") + split("blocked_ns");
            let (sum_ns, wall_ns) = (parts_ns + call.number("/ending_ns"), call.number("/wall_ns"));
            assert!(sum_ns.abs_diff(wall_ns) * 100 <= wall_ns, "{sum_ns} of {wall_ns}: {call}");
        }
    }
    let sandboxes = answer.list("/sandboxes");
    let own: Vec<&Truth> =
        sandboxes.iter().filter(|sandbox| sandbox.text("/container_id").starts_with(&marker)).collect();
    assert_eq!(own.len(), PODS);
    for sandbox in own {
        assert_eq!(sandbox.number("/retries"), 0);
        assert_eq!(sandbox.number("/network_ready_ns"), sandbox.number("/attempts/0/wall_ns"));
        assert_eq!(sandbox.number("/del_calls"), 1);
    }
    assert!(answer.number("/flow/peak_adds") > 1, "they ran at once");
    assert!(answer.at("/completeness/lost").as_object().is_some_and(serde_json::Map::is_empty), "{answer}");
}
