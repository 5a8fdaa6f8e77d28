//! Runs that are interrupted at each stage, or killed and cleaned up after.

use super::bed::{Bed, wait_until};
use serde_json::json;

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

/// Before the first pod, between arrivals, while pods are held, and while they depart.
#[test]
fn an_interrupt_at_any_other_stage_leaves_nothing_either() {
    let slow_del =
        json!({ "type": "slow-cni", "log": null, "on": ["DEL"], "slow": [{ "do": "sleep", "ms": 200 }] });
    for (stage, options) in [
        ("rate", vec!["--pods", "50", "--rate", "2"]),
        ("hold", vec!["--pods", "3", "--hold", "10m"]),
        ("rounds", vec!["--pods", "4", "--rounds", "50", "--concurrency", "2"]),
        ("departures", vec!["--pods", "12", "--concurrency", "2"]),
    ] {
        let bed = Bed::new(stage);
        let mut plugin = slow_del.clone();
        plugin["log"] = bed.path("log").to_str().into();
        let list = bed.conflist(&json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": [plugin] }));
        let running = bed.start(&list, &options);
        match stage {
            "departures" | "rounds" => wait_until("a departure", || !bed.log().is_empty()),
            _ => wait_until("two pods", || bed.mounts().len() >= 2),
        }
        running.signal(libc::SIGINT);
        let report = running.finish().good();
        assert_eq!(report.at("/interrupted"), true, "{stage}: {report}");
        assert_eq!(report.number("/pods/begun"), report.number("/pods/deleted"), "{stage}: {report}");
        bed.assert_nothing_left();
    }
}
