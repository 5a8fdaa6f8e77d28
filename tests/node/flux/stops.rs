//! Runs that are interrupted at each stage, or killed and cleaned up after.

use super::bed::{Bed, Started, wait_until};
use super::contended::waiting_for;
use harness::netns::PrivateNet;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[test]
fn an_interrupt_half_way_takes_away_what_is_there() {
    let bed = Bed::new("half");
    let list = bed.slow(json!([{ "do": "sleep", "ms": 100 }]));
    let running = bed.start(&list, &["--pods", "2000", "--concurrency", "4"]);
    wait_until("six pods", || bed.log().len() >= 6);
    running.signal(libc::SIGINT);
    let report = running.finish().good();
    assert_eq!(report.at("/interrupted"), true);
    let (begun, deleted) = (report.number("/pods/begun"), report.number("/pods/deleted"));
    assert!((6..2000).contains(&begun) && begun == deleted, "{report}");
    bed.assert_nothing_left();
}

#[test]
fn an_interrupt_between_attempts_ends_the_series() {
    let bed = Bed::new("series");
    std::fs::create_dir(bed.path("state")).unwrap();
    let phase = json!({ "do": "fail", "code": 11, "msg": "no", "times": 99, "state": bed.path("state") });
    let options = ["--pods", "3", "--retries", "50", "--retry-backoff", "10m"];
    let running = bed.start(&bed.slow(json!([phase])), &options);
    wait_until("a first attempt each", || std::fs::read_dir(bed.path("state")).unwrap().count() == 3);
    running.signal(libc::SIGTERM);
    let report = running.finish().good();
    assert_eq!((report.number("/pods/ready"), report.number("/pods/deleted")), (0, 3));
    bed.assert_nothing_left();
}

#[test]
fn an_interrupt_while_a_control_address_is_mute_is_no_failure_of_the_network() {
    let bed = Bed::new("waiting");
    let options = ["--pods", "2", "--verify", "10.98.15.254", "--verify-timeout", "10m"];
    let running = bed.start(&bed.bridge(), &options);
    wait_until("two leases", || bed.leases().len() == 2);
    running.signal(libc::SIGINT);
    let report = running.finish().good();
    assert!(report.list("/failures").is_empty(), "{report}");
    assert_eq!(report.number("/pods/deleted"), 2);
    bed.assert_nothing_left();
}

#[test]
fn a_second_interrupt_does_not_wait_and_leaves_the_rest_to_clean() {
    let bed = Bed::new("giveup");
    let list = bed.slow(json!([{ "do": "sleep", "ms": 1 }, { "do": "hang" }]));
    let mut running = bed.start(&list, &["--pods", "2", "--timeout", "10m"]);
    wait_until("two plugins that hang", || bed.log().len() == 2);
    running.signal(libc::SIGINT);
    // Both signals at once would be one.
    assert!(running.first_words().starts_with("taking all pods away"));
    running.signal(libc::SIGINT);
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(1));
    let report = outcome.report();
    assert_eq!(report.list("/left_behind").len(), 2);
    assert_eq!(report.list("/failures")[0].text("/kind"), "given_up");
    let cleaned = bed.clean(&[]);
    assert_eq!((cleaned.code, cleaned.stdout), (Some(0), format!("run {}: 2 pods taken away\n", bed.run)));
    bed.assert_nothing_left();
}

#[test]
fn what_a_killed_run_leaves_is_cleaned_with_its_own_configuration() {
    let bed = Bed::new("killed");
    let list = bed.bridge();
    let running = bed.start(&list, &["--pods", "8", "--concurrency", "4", "--hold", "10m"]);
    wait_until("eight leases", || bed.leases().len() == 8);
    let early = bed.clean(&[]);
    assert_eq!(early.code, Some(1), "a run that goes on is left alone");
    assert!(early.stderr.contains("still going on"), "{}", early.stderr);
    assert_eq!((bed.leases().len(), bed.mounts().len()), (8, 8));
    running.signal(libc::SIGKILL);
    assert_eq!(running.finish().code, None);
    assert_eq!((bed.leases().len(), bed.mounts().len()), (8, 8));
    // The configuration it ran with is in its notes.
    std::fs::remove_file(list).unwrap();
    let cleaned = bed.clean(&["--run", &bed.run]);
    assert_eq!((cleaned.code, cleaned.stdout), (Some(0), format!("run {}: 8 pods taken away\n", bed.run)));
    bed.assert_nothing_left();
    assert_eq!(bed.clean(&[]).stdout, "no run has left anything\n");
    assert_eq!(bed.clean(&["--run", &bed.run]).code, Some(2));
}

#[test]
fn a_run_killed_amid_arrivals_is_cleaned_too() {
    let bed = Bed::new("amid");
    let running = bed.start(&bed.bridge(), &["--pods", "60", "--concurrency", "6"]);
    wait_until("some leases", || bed.leases().len() >= 5);
    running.signal(libc::SIGKILL);
    running.finish();
    let cleaned = bed.clean(&[]);
    assert_eq!(cleaned.code, Some(0), "{}", cleaned.stderr);
    bed.assert_nothing_left();
}

/// What holds up the slow plugin in each of these commands, until it is dropped.
struct Gate(File);

impl Gate {
    fn shut(bed: &Bed) -> Gate {
        let file = File::create(bed.path("gate")).unwrap();
        file.lock().unwrap();
        Gate(file)
    }

    fn conflist(&self, bed: &Bed, commands: &[&str]) -> PathBuf {
        let phase = json!({ "do": "lock", "path": bed.path("gate"), "ms": 0 });
        let plugin = json!({ "type": "slow-cni", "log": bed.path("log"), "on": commands, "slow": [phase] });
        bed.conflist(&json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": [plugin] }))
    }
}

/// Stages of a run: what it is called, its options, and the command that is on its way then; without one, pods are there.
const STAGES: [(&str, &[&str], Option<&str>); 5] = [
    ("rate", &["--pods", "50", "--rate", "2"], None),
    ("hold", &["--pods", "3", "--hold", "10m"], None),
    ("check", &["--pods", "12", "--concurrency", "2", "--check"], Some("CHECK")),
    ("rounds", &["--pods", "4", "--rounds", "50", "--concurrency", "2"], Some("DEL")),
    ("departures", &["--pods", "12", "--concurrency", "2"], Some("DEL")),
];

/// A run that is at this stage, and stays there as long as the gate is shut.
fn at_stage(bed: &Bed, (_, options, command): (&str, &[&str], Option<&str>)) -> (Started, Gate) {
    let gate = Gate::shut(bed);
    let running = bed.start(&gate.conflist(bed, command.as_slice()), options);
    match command {
        Some(_) => wait_until("the command", || waiting_for(&gate.0) > 0),
        None => wait_until("two pods", || bed.mounts().len() >= 2),
    }
    (running, gate)
}

/// Between arrivals, while pods are held or checked, and while they depart.
#[test]
fn an_interrupt_at_any_other_stage_leaves_nothing_either() {
    for stage in STAGES {
        let bed = Bed::new(stage.0);
        let (mut running, gate) = at_stage(&bed, stage);
        running.signal(libc::SIGINT);
        assert!(running.first_words().starts_with("taking all pods away"), "{stage:?}");
        drop(gate);
        let report = running.finish().good();
        assert_eq!(report.at("/interrupted"), true, "{stage:?}: {report}");
        assert_eq!(report.number("/pods/begun"), report.number("/pods/deleted"), "{stage:?}: {report}");
        bed.assert_nothing_left();
    }
}

#[test]
fn what_a_run_killed_at_any_stage_leaves_is_cleaned() {
    for stage in STAGES {
        let bed = Bed::new(&format!("{}-k", stage.0));
        let (running, gate) = at_stage(&bed, stage);
        running.signal(libc::SIGKILL);
        assert_eq!(running.finish().code, None, "{stage:?}");
        drop(gate);
        let cleaned = bed.clean(&[]);
        assert_eq!(cleaned.code, Some(0), "{stage:?}: {}", cleaned.stderr);
        bed.assert_nothing_left();
    }
}

/// Whether a connection is established in the network of one of the run's pods (`TCP_ESTABLISHED`, proc_pid_net(5)).
fn somebody_talks(bed: &Bed) -> bool {
    bed.mounts().iter().filter_map(|pod| PrivateNet::open(Path::new(pod)).ok()).any(|pod| {
        let table = pod.inside(|| fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
        table.lines().any(|line| line.split_whitespace().nth(3) == Some("01"))
    })
}

/// The run stands still from when its pods are seen to talk until it has its signal.
#[test]
fn an_interrupt_and_a_kill_during_the_traffic_check_leave_nothing() {
    for (name, signal) in [("talk", libc::SIGINT), ("talk-k", libc::SIGKILL)] {
        let bed = Bed::new(name);
        let running = bed.start(&bed.bridge(), &["--pods", "2", "--traffic", "--hold", "10m"]);
        wait_until("traffic", || {
            running.signal(libc::SIGSTOP);
            let talks = somebody_talks(&bed);
            if !talks {
                running.signal(libc::SIGCONT);
            }
            talks
        });
        running.signal(signal);
        running.signal(libc::SIGCONT);
        let outcome = running.finish();
        if signal == libc::SIGKILL {
            assert_eq!(outcome.code, None);
            let cleaned = bed.clean(&[]);
            let said = format!("run {}: 2 pods taken away\n", bed.run);
            assert_eq!((cleaned.code, cleaned.stdout), (Some(0), said), "{}", cleaned.stderr);
        } else {
            let report = outcome.good();
            assert_eq!(report.at("/interrupted"), true, "{report}");
            // On a machine that stood still too the check's second may be over.
            let is_whole = report.at("/traffic").is_object();
            assert!(is_whole || report.text("/traffic_failure") == "cut short by the user", "{report}");
            assert_eq!(report.number("/pods/deleted"), 2, "{report}");
        }
        bed.assert_nothing_left();
    }
}

/// A kill between the making of a namespace's file and its binding: the pod is in the notes, and its file is none of a namespace.
/// Debian's plugins refuse such a path.
#[test]
fn a_pod_whose_namespace_was_never_bound_is_cleaned() {
    let bed = Bed::new("unbound");
    let running = bed.start(&bed.bridge(), &["--pods", "1", "--hold", "10m"]);
    wait_until("a lease", || bed.leases().len() == 1);
    running.signal(libc::SIGKILL);
    running.finish();
    let notes = fs::read_dir(bed.path("notes")).unwrap().next().unwrap().unwrap().path();
    let (name, container_id) = (format!("flux-{}-1", bed.run), "1".repeat(64));
    let netns = Path::new("/run/netns").join(&name);
    let made = json!({ "made": { "name": name, "uid": "u", "container_id": container_id, "netns": netns } });
    let mut journal = OpenOptions::new().append(true).open(notes).unwrap();
    journal.write_all(format!("{made}\n").as_bytes()).unwrap();
    File::create_new(netns).unwrap();
    let cleaned = bed.clean(&[]);
    let said = format!("run {}: 2 pods taken away\n", bed.run);
    assert_eq!((cleaned.code, cleaned.stdout), (Some(0), said), "{}", cleaned.stderr);
    bed.assert_nothing_left();
}

/// While the plugins are asked which versions they speak there is no pod, and none is begun.
#[test]
fn an_interrupt_before_the_first_pod_begins_none() {
    let bed = Bed::new("first");
    let script = format!(
        "#!/bin/sh\n>{}\nwhile [ ! -e {} ]; do sleep 0.01; done\nexec {}\n",
        bed.path("asked").display(),
        bed.path("go").display(),
        env!("CARGO_BIN_EXE_slow-cni")
    );
    fs::write(bed.path("gated"), script).unwrap();
    fs::set_permissions(bed.path("gated"), fs::Permissions::from_mode(0o755)).unwrap();
    let list =
        bed.conflist(&json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": [{ "type": "gated" }] }));
    let folder = bed.path("");
    let mut running = bed.start(&list, &["--plugin-dir", folder.to_str().unwrap(), "--pods", "3"]);
    wait_until("the question", || bed.path("asked").exists());
    running.signal(libc::SIGINT);
    assert!(running.first_words().starts_with("taking all pods away"));
    fs::write(bed.path("go"), "").unwrap();
    let report = running.finish().good();
    assert_eq!((report.at("/interrupted"), report.number("/pods/begun")), (&json!(true), 0), "{report}");
    bed.assert_nothing_left();
}
