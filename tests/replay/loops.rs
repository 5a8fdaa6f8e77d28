//! The loop rule: what is one sync loop, for every way a daemon may spawn.

use crate::{MS, S, class, daemon};
use harness::check::{answer, answer_of};
use harness::scene::{BEGIN_NS, Scene};
use serde_json::Value;

/// Loops of a daemon that pauses so long between two children.
fn loops_with_pause(pause: &str) -> u64 {
    let text = format!(
        "process d pid=100
         at 1s spawn d->a
         +10ms exit a
         +0ms reap d a
         +{pause} spawn d->b begun=0us
         +10ms exit b"
    );
    answer(&Scene::parse("pause", &text), "storms", "")["daemons"][0]["loops_total"].as_u64().unwrap()
}

#[test]
fn pauses_of_half_a_second_are_inside_a_loop() {
    assert_eq!(loops_with_pause("300ms"), 1);
    assert_eq!(loops_with_pause("500ms"), 1);
    assert_eq!(loops_with_pause("501ms"), 2);
    assert_eq!(loops_with_pause("1s"), 2);
}

#[test]
fn a_serial_daemon_has_one_loop_per_resync() {
    let answer = answer_of("serial", "storms", "");
    let proxy = daemon(&answer, "proxy");
    assert_eq!(proxy["loops_total"], 3);
    assert_eq!(proxy["series"]["gap_ns"]["p50"], S, "two resyncs 1 s apart are two");
    // Two halves of 400 ms around a pause of 300 ms; the last child is collected 21.2 ms into its 40 ms.
    let duration_ns = 700 * MS + 360 * MS + 212 * MS / 10;
    assert_eq!(proxy["series"]["duration_ns"]["max"], duration_ns);
    assert_eq!(proxy["series"]["period_ns"]["p50"], duration_ns + S);
    let iptables = class(&proxy["latest_loops"][0], "iptables -A");
    assert_eq!(iptables["busy_ns"], 20 * 212 * MS / 10);
    assert_eq!(iptables["exits"]["codes"]["4"], 10);
    assert_eq!(iptables["split"]["blocked_by"]["file_lock"], 20 * 19 * MS);
}

#[test]
fn four_threads_make_one_loop_of_overlapping_children() {
    let answer = answer_of("threads", "storms", "");
    let proxy = daemon(&answer, "proxy");
    assert_eq!(proxy["loops_total"], 1);
    assert_eq!(proxy["threads_made"], 3);
    let own = &proxy["latest_loops"][0];
    assert_eq!(own["spawns"], 100);
    assert_eq!(own["peak_alive"], 4);
    // The second thread's clone call began first, at 0.2 ms, and was seen second.
    assert_eq!(own["start"]["ktime_ns"], BEGIN_NS + S + 200_000);
    let tc = class(own, "tc filter add");
    assert_eq!(tc["spawns"], 100, "none is credited elsewhere");
    assert_eq!(tc["running"], 0);
    // From 0.2 ms to 19.7 ms of each 20.
    assert_eq!(tc["busy_ns"], 25 * 195 * MS / 10);
    // 18 + 18 + 17.4 + 16.6 ms of wall time in each 20.
    assert_eq!(tc["wall_ns"], 25 * 70 * MS);
    assert_eq!(tc["mode"], "overlapped");
    assert_eq!(tc["overlap"], 3.5897);
}

#[test]
fn forked_workers_are_their_daemon() {
    let answer = answer_of("forked_workers", "storms", "");
    assert_eq!(answer["daemons"].as_array().unwrap().len(), 1);
    let proxy = daemon(&answer, "proxy");
    assert_eq!(proxy["pids"], Value::from(vec![100]), "workers are not listed as daemons");
    assert_eq!(proxy["loops_total"], 2);
    let own = &proxy["latest_loops"][0];
    let ipset = class(own, "ipset del");
    assert_eq!(ipset["spawns"], 40);
    assert_eq!(ipset["busy_ns"], 10 * 101 * MS / 10, "four at once, ten times");
    let workers = class(own, "proxy (worker)");
    assert_eq!((&workers["spawns"], &workers["busy_ns"]), (&4.into(), &0.into()));
    assert_eq!(workers["tree_spawns"], 40);
    // What the loop waits for is its programs, not the workers that wait for them.
    assert_eq!(own["busy_ns"], ipset["busy_ns"]);
}

#[test]
fn workers_that_stay_hold_no_loop_open() {
    let answer = answer_of("worker_pool", "storms", "");
    let proxy = daemon(&answer, "proxy");
    assert_eq!(proxy["loops_total"], 4, "the fork, and three resyncs 1 s apart");
    assert_eq!(proxy["series"]["gap_ns"]["max"], 10_019 * MS / 10);
    for own in &proxy["latest_loops"].as_array().unwrap()[..3] {
        assert_eq!(own["spawns"], 20);
        assert_eq!(own["duration_ns"], 4_981 * MS / 10);
    }
    let fork = &proxy["latest_loops"][3];
    assert_eq!(fork["duration_ns"], MS / 10, "the worker's end, seconds later, is not its loop's");
}

#[test]
fn a_script_started_anew_is_one_daemon() {
    let answer = answer_of("shell_script", "storms", "");
    let script = daemon(&answer, "sync.sh");
    assert_eq!(script["processes"], 3);
    assert_eq!(script["loops_total"], 3);
    assert_eq!(script["root"]["comm"], "cron");
    assert_eq!(script["series"]["period_ns"]["p50"], 5 * S);
    let own = &script["latest_loops"][0];
    assert_eq!(class(own, "grep")["spawns"], 12, "run by a fork of the script, so by the script");
    assert_eq!(class(own, "ipset test")["spawns"], 12);
    assert_eq!(class(own, "sync.sh (worker)")["busy_ns"], 0);
    let cron = daemon(&answer, "cron");
    assert_eq!(cron["storm"], false, "one child per loop");
    assert_eq!(class(&cron["latest_loops"][0], "sync.sh")["tree_spawns"], 36);
}

#[test]
fn a_vfork_counts_from_the_clone_call() {
    let answer = answer_of("go_vfork", "storms", "");
    let own = &daemon(&answer, "kube-proxy")["latest_loops"][0];
    let conntrack = class(own, "conntrack -D");
    // Each from 0.3 ms to its collection at 2.6 ms; its program is in place at 1.1 ms.
    assert_eq!(conntrack["busy_ns"], 30 * 23 * MS / 10);
    assert_eq!(conntrack["spawn_cost"]["mean_ns"], 8 * MS / 10);
    assert_eq!(conntrack["stacks"][0]["spawns"], 30);
}

/// A spawner that is back from its clone call only after its child has ended: it may have had no CPU, or something
/// else to do.
#[test]
fn a_spawner_that_has_no_cpu_is_waiting_and_one_that_works_is_not() {
    let busy_ns = |own: &str| {
        let text = format!(
            "process d pid=100
             at 1s spawn d->a begun=0us
             at 1.005s exit a
             at 1.041s reap d a waited=1ms own={own}"
        );
        let answer = answer(&Scene::parse("late", &text), "storms", "");
        let own = &answer["daemons"][0]["latest_loops"][0];
        assert_eq!(own["duration_ns"], 41 * MS, "a collection is activity");
        own["busy_ns"].as_u64().unwrap()
    };
    assert_eq!(busy_ns("0ms"), 41 * MS, "it had no CPU");
    assert_eq!(busy_ns("2ms"), 39 * MS, "it had, for 2 ms that may lie after the child's end");
    assert_eq!(busy_ns("40ms"), 6 * MS, "it worked all the time, and waited for 1 ms");
}

#[test]
fn probe_bursts_of_a_shim_are_its_loops_with_all_that_runc_forks() {
    let answer = answer_of("shim_probes", "storms", "");
    let shim = daemon(&answer, "containerd-shim-runc-v2");
    assert_eq!(shim["loops_total"], 3);
    assert_eq!(shim["identity"]["unit"], "containerd.service");
    let runc = class(&shim["latest_loops"][0], "runc exec");
    assert_eq!(runc["spawns"], 5);
    // runc's first child and that one's child, which outlived it.
    assert_eq!(runc["tree_spawns"], 10);
    assert_eq!(runc["tree_on_cpu_ns"], 5 * (3 + 5) * MS);
    let probe = answer_of("shim_probes", "processes", "comm=grpc_health_pro&limit=1");
    assert_eq!(probe["processes"][0]["identity"]["kind"], "pod", "moved there before its exec");
}

#[test]
fn a_child_that_stays_does_not_hold_for_ever() {
    let answer = answer_of("long_child", "storms", "");
    let proxy = daemon(&answer, "proxy");
    assert_eq!(proxy["loops_total"], 3);
    let loops = proxy["latest_loops"].as_array().unwrap();
    assert_eq!(loops[0]["duration_ns"], loops[1]["duration_ns"]);
    assert_eq!(class(&loops[2], "helper")["running"], 1);
    assert_eq!(loops[2]["open"], false);
}

#[test]
fn a_child_younger_than_the_hold_keeps_its_loop_together() {
    let text = "process d pid=100
        at 1s spawn d->slow begun=0us
        at 1.001s exec slow /usr/sbin/iptables-restore argv=iptables-restore
        at 9s spawn d->b begun=0us
        at 9.01s exit b
        at 11s exit slow";
    let answer = answer(&Scene::parse("slow", text), "storms", "");
    let own = &answer["daemons"][0]["latest_loops"][0];
    assert_eq!(answer["daemons"][0]["loops_total"], 1);
    assert_eq!((&own["duration_ns"], &own["busy_ns"]), (&(10 * S).into(), &(10 * S).into()));
}

#[test]
fn a_long_child_that_ends_late_stretches_no_loop() {
    for end in ["at 60s exit helper", "at 60s reap d helper", "at 60s exit helper\n+1ms reap d helper"] {
        let text = format!("process d pid=100\nat 1s spawn d->helper\nat 50s spawn d->a\n+1ms exit a\n{end}");
        let answer = answer(&Scene::parse("late", &text), "storms", "");
        let loops = answer["daemons"][0]["latest_loops"].as_array().unwrap();
        assert_eq!(loops.len(), 2, "{end}");
        assert_eq!(loops[1]["duration_ns"], MS / 10, "{end}");
    }
}
