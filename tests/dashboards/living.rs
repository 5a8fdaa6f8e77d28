//! Every expression of the dashboard and the rules, asked of a Prometheus that scrapes a living agent: it
//! must parse, give something, and have the labels its legend shows. Once over a made-up node, and once over
//! the agent on this machine's kernel under load (root).

use crate::dashboard::{self, names};
use crate::prometheus::Prometheus;
use crate::promtool::check_metrics;
use harness::made_up::MadeUp;
use harness::netns::die_with_test;
use harness::pod_cgroup::{Limited, hierarchy};
use harness::workload;
use slowpod::client;
use slowpod::web::{self, Listen};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long an expression may stay empty: some need two scrapes of a loop that has ended.
const EMPTY_MAX: Duration = Duration::from_secs(40);

/// Checks everything against one agent.
fn check(address: SocketAddr) {
    let prometheus = Prometheus::scraping(address);
    let begun = Instant::now();
    loop {
        let wrong = wrong(&prometheus);
        if wrong.is_empty() {
            break;
        }
        let list = wrong.join("\n");
        assert!(begun.elapsed() < EMPTY_MAX, "{} expressions are wrong:\n{list}", wrong.len());
        std::thread::sleep(Duration::from_secs(1));
    }
    let page = client::get(&address.to_string(), "/metrics").unwrap();
    check_metrics(&String::from_utf8(page).unwrap()).unwrap();
}

/// What is wrong with expressions now, one line each.
fn wrong(prometheus: &Prometheus) -> Vec<String> {
    let mut wrong = Vec::new();
    let targets = dashboard::targets(&dashboard::read());
    assert!(targets.len() > 30, "the dashboard was read");
    for target in &targets {
        let problem = match prometheus.query(&target.concrete()) {
            Err(error) => Some(error),
            Ok(series) if series.is_empty() => Some("gives nothing".into()),
            Ok(series) => {
                let mut labels = target.legend_labels().into_iter();
                labels
                    .find(|label| series[0]["metric"][label].is_null())
                    .map(|label| format!("has no label {label}"))
            }
        };
        wrong.extend(
            problem.map(|problem| format!("panel {}: {problem}: {}", target.panel, target.expression)),
        );
    }
    let rules = prometheus.rules();
    assert!(rules.len() > 10, "the rules were read");
    for rule in &rules {
        let (name, query) = (dashboard::string(&rule["name"]), dashboard::string(&rule["query"]));
        if rule["health"] != "ok" {
            wrong.push(format!("rule {name}: {} {}", rule["health"], rule["lastError"]));
        }
        // An alert on a healthy node gives nothing; what it looks at must be there.
        let needed = if rule["type"] == "recording" { vec![name.as_str()] } else { names(&query) };
        for series in needed {
            if prometheus.query(series).is_ok_and(|found| found.is_empty()) {
                wrong.push(format!("rule {name}: there is no {series}"));
            }
        }
    }
    wrong
}

#[test]
fn a_made_up_node_fills_every_panel() {
    let node = MadeUp::alive(b"kube-router", 100);
    let bound = web::bind(&Listen { address: "0".into(), ..Listen::default() }).unwrap();
    let server = web::start(bound, node.hub.clone()).unwrap();
    check(server.local_addr());
    server.shutdown();
}

/// The agent as a process. Ended when dropped.
struct AgentProcess {
    child: Child,
    address: SocketAddr,
}

impl AgentProcess {
    /// Starts `slowpod run` with these further options on a free port and waits until it says where.
    fn start(options: &[&str]) -> AgentProcess {
        let mut command = Command::new(binary());
        command
            .args(["run", "--listen", "127.0.0.1:0"])
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = die_with_test(&mut command).spawn().expect("the agent starts");
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().expect("stderr was piped")).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            said.push_str(&format!("{line}\n"));
            line.split("http://").nth(1)?.trim_end_matches('/').parse().ok()
        });
        let address = address.unwrap_or_else(|| panic!("the agent does not say where it listens:\n{said}"));
        // Its further words go to the test's output, and never fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("agent: {line}")));
        AgentProcess { child, address }
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // SAFETY: plain numbers; the child is not yet reaped, so the pid is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

/// The agent's binary: the one the test run names, else the one built beside the workload.
fn binary() -> PathBuf {
    let beside = || Path::new(env!("CARGO_BIN_EXE_workload")).with_file_name("slowpod");
    std::env::var_os("SLOWPOD_BIN").map_or_else(beside, PathBuf::from)
}

/// A shell that runs a CNI plugin twice a second, for a new sandbox each time; every other time it fails and says that
/// somebody else was faster.
fn keep_plugging() -> Shell {
    let script = r#"i=0; while :; do i=$((i+1)); env CNI_COMMAND=ADD CNI_CONTAINERID=dashboards-$i CNI_IFNAME=eth0 \
                  /bin/sh -c '[ $1 = 0 ] || { echo "{\"code\":11,\"msg\":\"the object has been modified\"}"; exit 1; }' \
                  plugin $((i%2)); sleep 0.5; done"#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
    Shell(die_with_test(&mut command).spawn().expect("a shell"))
}

/// Ended when dropped.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HELD_UID: &str = "44444444-52c1-4a53-9a0e-1b1f4f0f7c55";

/// A shell that spins in the container of a pod, which a CNI plugin named.
fn keep_spinning(limited: &Limited) -> Shell {
    let mut named = Command::new("/usr/bin/env");
    named.arg("true").envs([("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "held"), ("CNI_IFNAME", "eth0")]);
    named.env("CNI_ARGS", format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=held;K8S_POD_UID={HELD_UID}"));
    assert!(named.status().expect("env is there").success());
    let joins: String =
        limited.joins().iter().map(|procs| format!("echo $$ > {}; ", procs.display())).collect();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{joins} while :; do :; done")]).stdin(Stdio::null());
    Shell(die_with_test(&mut command).spawn().expect("a shell"))
}

/// What a rule asks, with the last quarter of a minute in place of minutes: a test does not last as long.
fn of_late(prometheus: &Prometheus, rule: &str) -> String {
    let rules = prometheus.rules();
    let rule = rules.iter().find(|own| own["name"] == rule).unwrap_or_else(|| panic!("no rule {rule}"));
    dashboard::string(&rule["query"]).replace("[5m]", "[15s]")
}

/// The pod that its quota holds back, by the metric, the kernel's own count, and the alert.
fn check_throttled(address: SocketAddr, limited: &Limited) {
    const OF_POD: &str = "slowpod_pod_cpu_throttled_seconds_total{namespace=\"shop\",pod=\"held\"}";
    let page = || String::from_utf8(client::get(&address.to_string(), "/metrics").unwrap()).unwrap();
    let told_s = |page: &str| {
        let row = page.lines().find_map(|line| line.strip_prefix(OF_POD)?.trim().parse::<f64>().ok());
        row.unwrap_or_else(|| panic!("no {OF_POD} in {page}"))
    };
    let begun = Instant::now();
    let before_s = limited.throttled_ns() as f64 / 1e9;
    // It is read once a second, and told a moment later.
    while told_s(&page()) < before_s {
        assert!(begun.elapsed() < EMPTY_MAX, "{} of {before_s} s", told_s(&page()));
        std::thread::sleep(Duration::from_millis(200));
    }
    let (told_s, after_s) = (told_s(&page()), limited.throttled_ns() as f64 / 1e9);
    assert!(told_s <= after_s, "{told_s} of {after_s} s");

    let prometheus = Prometheus::scraping(address);
    let rate = of_late(&prometheus, "instance_pod:slowpod_pod_cpu_throttled_seconds:rate5m");
    let alert = of_late(&prometheus, "SlowpodPodThrottled")
        .replace("instance_pod:slowpod_pod_cpu_throttled_seconds:rate5m", &format!("({rate})"));
    let begun = Instant::now();
    loop {
        let series = prometheus.query(&alert).unwrap_or_else(|error| panic!("{alert}: {error}"));
        if let [held] = &series[..] {
            assert_eq!(
                (&held["metric"]["namespace"], &held["metric"]["pod"]),
                (&"shop".into(), &"held".into())
            );
            return;
        }
        assert!(begun.elapsed() < EMPTY_MAX, "{alert} gives {series:?}; {:?}", prometheus.query(&rate));
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn the_agent_under_load_fills_every_panel() {
    let agent = AgentProcess::start(&["--cgroup-hierarchy", hierarchy().1]);
    let limited = Limited::make(HELD_UID);
    let held = keep_spinning(&limited);
    let storm =
        workload!("loop").option("--bursts", 60).option("--per-burst", 40).option("--gap-ms", 1_000).start();
    let search = workload!("path-search").option("--count", 20).word("--missing").run();
    assert!(!search.to_string().is_empty());
    workload!("netlink-storm").option("--count", 200).option("--what", "duplicate").run();
    let plugins = keep_plugging();
    check(agent.address);
    check_throttled(agent.address, &limited);
    drop((storm, plugins, held));
}
