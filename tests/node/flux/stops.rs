//! Runs that are interrupted at each stage, or killed and cleaned up after.

use super::bed::{Bed, wait_until};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

#[test]
fn an_interrupt_half_way_takes_away_what_is_there() {
    let bed = Bed::new("half");
    let list = bed.slow(json!([{ "do": "sleep", "ms": 100 }]));
    let running = bed.start(&list, &["--pods", "200", "--concurrency", "4"]);
    wait_until("six pods", || bed.log().len() >= 6);
    running.signal(libc::SIGINT);
    let report = running.finish().good();
    assert_eq!(report.at("/interrupted"), true);
    let (begun, deleted) = (report.number("/pods/begun"), report.number("/pods/deleted"));
    assert!((6..200).contains(&begun) && begun == deleted, "{report}");
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
    let running = bed.start(&list, &["--pods", "2", "--timeout", "10m"]);
    wait_until("two plugins that hang", || bed.log().len() == 2);
    running.signal(libc::SIGINT);
    // Both signals at once would be one.
    std::thread::sleep(std::time::Duration::from_millis(300));
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

/// The slow plugin, which takes its time for these commands.
fn slow_on(bed: &Bed, commands: &[&str]) -> PathBuf {
    let phase = json!({ "do": "sleep", "ms": 200 });
    let plugin = json!({ "type": "slow-cni", "log": bed.path("log"), "on": commands, "slow": [phase] });
    bed.conflist(&json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": [plugin] }))
}

/// Stages of a run: what it is called, its options, and the command that is on its way then; without one, pods are there.
const STAGES: [(&str, &[&str], Option<&str>); 5] = [
    ("rate", &["--pods", "50", "--rate", "2"], None),
    ("hold", &["--pods", "3", "--hold", "10m"], None),
    ("check", &["--pods", "12", "--concurrency", "2", "--check"], Some("CHECK")),
    ("rounds", &["--pods", "4", "--rounds", "50", "--concurrency", "2"], Some("DEL")),
    ("departures", &["--pods", "12", "--concurrency", "2"], Some("DEL")),
];

/// Between arrivals, while pods are held or checked, and while they depart.
#[test]
fn an_interrupt_at_any_other_stage_leaves_nothing_either() {
    for (stage, options, command) in STAGES {
        let bed = Bed::new(stage);
        let running = bed.start(&slow_on(&bed, command.as_slice()), options);
        match command {
            Some(_) => wait_until("the command", || !bed.log().is_empty()),
            None => wait_until("two pods", || bed.mounts().len() >= 2),
        }
        running.signal(libc::SIGINT);
        let report = running.finish().good();
        assert_eq!(report.at("/interrupted"), true, "{stage}: {report}");
        assert_eq!(report.number("/pods/begun"), report.number("/pods/deleted"), "{stage}: {report}");
        bed.assert_nothing_left();
    }
}

#[test]
fn what_a_run_killed_at_any_stage_leaves_is_cleaned() {
    for (stage, options, command) in STAGES {
        let bed = Bed::new(&format!("{stage}-k"));
        let running = bed.start(&slow_on(&bed, command.as_slice()), options);
        match command {
            Some(_) => wait_until("the command", || !bed.log().is_empty()),
            None => wait_until("two pods", || bed.mounts().len() >= 2),
        }
        running.signal(libc::SIGKILL);
        assert_eq!(running.finish().code, None, "{stage}");
        let cleaned = bed.clean(&[]);
        assert_eq!(cleaned.code, Some(0), "{stage}: {}", cleaned.stderr);
        bed.assert_nothing_left();
    }
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
