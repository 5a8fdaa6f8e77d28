//! Chains of shell scripts that write down how they were called.

use super::*;
use std::fs;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A folder of plugins that note `COMMAND NAME STDIN` and then do as told.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    /// A plugin that does this for ADD, DEL and CHECK, and speaks 0.4.0 and 1.0.0.
    fn plugin(self, name: &str, body: &str) -> Bench {
        let log = self.dir.path().join("log");
        let script = format!(
            "#!/bin/sh\nif [ $CNI_COMMAND = VERSION ]; then\n\
             echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.4.0\",\"1.0.0\"]}}'; exit; fi\n\
             input=$(cat)\nprintf '%s %s %s\\n' $CNI_COMMAND {name} \"$input\" >> {}\n{body}\n",
            log.display()
        );
        let file = self.dir.path().join(name);
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn network(&self, list: Value) -> Result<Network, FluxError> {
        let means = Means {
            plugin_dirs: vec!["/does/not/exist".into(), self.dir.path().into()],
            ifname: "eth0".into(),
            capability_args: Map::new(),
            timeout: TIMEOUT,
        };
        Network::new(Conflist::from_value(&list).unwrap(), means)
    }

    /// What was called, in order: command, plugin, and what it read.
    fn calls(&self) -> Vec<(String, Value)> {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let split = |line: &str| {
            let at = line.find('{').unwrap();
            (line[..at].trim().to_owned(), serde_json::from_str(&line[at..]).unwrap())
        };
        log.lines().map(split).collect()
    }
}

fn list(kinds: &[&str], version: &str) -> Value {
    let plugins: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    json!({ "name": "net", "cniVersion": version, "plugins": plugins })
}

fn pod() -> Sandbox {
    Sandbox::new("t", 1, Path::new("/run/netns")).unwrap()
}

fn failures(calls: &[Call]) -> Vec<Option<FailureKind>> {
    calls.iter().map(|call| call.failure.as_ref().map(|failure| failure.kind)).collect()
}

#[test]
fn results_go_down_the_chain_and_back_with_del() {
    let bench = Bench::new()
        .plugin("one", "echo '{\"cniVersion\":\"1.0.0\",\"step\":1}'")
        .plugin("two", "echo '{\"step\":2}'");
    let network = bench.network(list(&["one", "two"], "1.0.0")).unwrap();
    let (pod, stop) = (pod(), Stop::default());
    let (calls, result) = network.add(&pod, &stop);
    assert_eq!(failures(&calls), [None, None]);
    let result = result.unwrap();
    assert_eq!(result, json!({ "cniVersion": "1.0.0", "step": 2 }));
    assert_eq!(network.check(&pod, &result, &stop).len(), 2);
    assert_eq!(failures(&network.del(&pod, Some(&result), &stop)), [None, None]);
    let seen = bench.calls();
    let order: Vec<&str> = seen.iter().map(|(call, _)| call.as_str()).collect();
    assert_eq!(order, ["ADD one", "ADD two", "CHECK one", "CHECK two", "DEL two", "DEL one"]);
    assert_eq!(seen[0].1, json!({ "type": "one", "name": "net", "cniVersion": "1.0.0" }));
    assert_eq!(seen[1].1["prevResult"], json!({ "cniVersion": "1.0.0", "step": 1 }));
    assert!(seen[2..].iter().all(|(_, stdin)| stdin["prevResult"] == result));
}

#[test]
fn old_versions_have_no_check_and_del_without_result() {
    let bench = Bench::new().plugin("one", "echo '{}'");
    let network = bench.network(list(&["one"], "0.3.1")).unwrap();
    let (pod, stop, result) = (pod(), Stop::default(), json!({ "cniVersion": "0.3.1" }));
    assert!(network.check(&pod, &result, &stop).is_empty());
    network.del(&pod, Some(&result), &stop);
    assert_eq!(bench.calls()[0].1, json!({ "type": "one", "name": "net", "cniVersion": "0.3.1" }));
}

#[test]
fn a_failure_ends_the_chain() {
    let bench = Bench::new()
        .plugin("bad", "echo '{\"code\":11,\"msg\":\"try again\"}'; exit 1")
        .plugin("two", "echo '{}'");
    let network = bench.network(list(&["bad", "two"], "1.0.0")).unwrap();
    let (calls, result) = network.add(&pod(), &Stop::default());
    assert_eq!((failures(&calls), result), (vec![Some(FailureKind::CniError)], None));
    // DEL goes the other way, so the good one comes first.
    assert_eq!(failures(&network.del(&pod(), None, &Stop::default())), [None, Some(FailureKind::CniError)]);
}

#[test]
fn the_environment_is_what_the_specification_says() {
    let bench = Bench::new().plugin(
        "env",
        "echo \"{\\\"got\\\":\\\"$CNI_CONTAINERID|$CNI_NETNS|$CNI_IFNAME|$CNI_ARGS|$CNI_PATH\\\"}\"",
    );
    let pod = pod();
    let network = bench.network(list(&["env"], "1.0.0")).unwrap();
    let (_, result) = network.add(&pod, &Stop::default());
    let expected = format!(
        "{}|/run/netns/flux-t-1|eth0|{}|/does/not/exist:{}",
        pod.container_id,
        pod.cni_args(),
        bench.dir.path().display()
    );
    assert_eq!(result.unwrap()["got"], expected);
}

/// As for the pod of a run that was killed before the namespace was bound to its file.
#[test]
fn del_without_a_namespace_says_so() {
    let bench =
        Bench::new().plugin("env", "echo \"{\\\"code\\\":9,\\\"msg\\\":\\\"($CNI_NETNS)\\\"}\"; exit 1");
    let network = bench.network(list(&["env"], "1.0.0")).unwrap();
    let words = |netns: PathBuf| {
        let calls = network.del(&Sandbox { netns, ..pod() }, None, &Stop::default());
        calls[0].failure.as_ref().unwrap().words.clone()
    };
    let file = bench.dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(words(file).contains("()"));
    assert!(words(PathBuf::from("/does/not/exist")).contains("()"));
    assert!(words(PathBuf::from("/proc/self/ns/net")).contains("(/proc/self/ns/net)"));
}

#[test]
fn networks_that_cannot_work_are_refused_before_anything_is_made() {
    let bench = Bench::new().plugin("one", "").plugin("mute", "");
    fs::write(bench.dir.path().join("mute"), "#!/bin/sh\necho hello\n").unwrap();
    fs::write(bench.dir.path().join("plain"), "not a program").unwrap();
    let refused = |kinds: &[&str], version: &str| {
        let network = bench.network(list(kinds, version));
        network.and_then(|network| network.try_versions(&Stop::default())).unwrap_err().to_string()
    };
    assert!(refused(&["unknown"], "1.0.0").starts_with("no plugin \"unknown\" in /does/not/exist, "));
    assert!(refused(&["plain"], "1.0.0").starts_with("no plugin \"plain\""));
    assert!(refused(&["one"], "1.1.0").contains("does not speak CNI 1.1.0"));
    assert!(refused(&["mute"], "1.0.0").contains("does not answer as a CNI plugin"));
    bench.network(list(&["one"], "0.4.0")).unwrap().try_versions(&Stop::default()).unwrap();
}
