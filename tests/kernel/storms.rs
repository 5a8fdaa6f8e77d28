//! Exec storms: every spawn is seen once, as what it was, and the storm takes the time its spawners say.

use crate::exact::{Ended, assert_near, busy_ns, class, daemon};
use harness::load::Load;
use harness::truth::{Truth, WitnessedChild};
use harness::{agent, workload};
use serde_json::json;

/// What the agent must see without a loss, from one spawner and from four.
const FULL: u64 = 5_000;
/// One child in so many is /bin/false.
const FAIL_EVERY: u64 = 100;

fn check(how: &str, spawners: u64, count: u64) {
    let agent = agent!();
    let storm =
        workload!("storm").option("--count", count).option("--spawners", spawners).option("--how", how);
    let truth = storm.option("--fail-every", FAIL_EVERY).run();
    let ended = Ended::by(&agent, truth.number("/end_ns"));

    let mut children = Vec::new();
    for (number, spawner) in truth.list("/spawners").iter().enumerate() {
        let own = spawner.children("/children");
        for (index, child) in own.iter().enumerate() {
            check_child(&ended, spawner.number("/pid"), &format!("storm {number}.{index}"), child);
        }
        children.extend(own);
    }
    assert_eq!(children.len() as u64, count);
    let mut pids: Vec<_> = truth.list("/spawners").iter().map(|spawner| spawner.number("/pid")).collect();
    pids.dedup();
    let seen: usize = pids.iter().map(|pid| ended.count_of_spawner(*pid)).sum();
    assert_eq!(seen as u64, count, "each child once");
    check_loop(&daemon(&agent, truth.number("/pid"), truth.number("/end_ns")), &truth, &children, how);
}

fn check_child(ended: &Ended, spawner: u64, tag: &str, child: &WitnessedChild) {
    let row = ended.row(child);
    let name = if child.status == 0 { "true" } else { "false" };
    assert_eq!(row.text("/argv"), format!("{name} {tag}"));
    assert_eq!(row.text("/path"), format!("/bin/{name}"));
    assert_eq!(row.text("/comm"), name);
    assert_eq!(row.number("/spawner/pid"), spawner);
    assert_eq!((row.number("/execs"), row.number("/exec_fails")), (1, 0));
    assert_eq!(row.number("/threads/count"), 1);
}

fn check_loop(daemon: &Truth, truth: &Truth, children: &[WitnessedChild], how: &str) {
    let loops = daemon.list("/latest_loops");
    let count = children.len() as u64;
    assert_eq!(loops.len(), 1, "{daemon}");
    let own = &loops[0];
    // Spawners that are processes of their own are forked first.
    let forked = if how == "threads" { 0 } else { truth.list("/spawners").len() as u64 };
    assert_eq!((own.number("/spawns"), own.number("/counted")), (count + forked, 0));
    let (good, bad) = (class(own, "true"), class(own, "false"));
    let failed = truth.number("/failed");
    assert_eq!(good.at("/exits"), &json!({ "ok": count - failed, "codes": {}, "signals": {} }));
    assert_eq!(bad.at("/exits"), &json!({ "ok": 0, "codes": { "1": failed }, "signals": {} }));

    let duration_ns = own.number("/duration_ns");
    let first_ns = children.iter().map(|child| child.spawn_ns).min().expect("children");
    let last_ns = children.iter().map(|child| child.reaped_ns).max().expect("children");
    assert_near("duration", duration_ns, last_ns - first_ns, 5, 0);
    assert_near("busy", own.number("/busy_ns"), busy_ns(children), 5, 0);
    let share = own.at("/share").as_f64().expect("a number");
    let witnessed = busy_ns(children) as f64 / (last_ns - first_ns) as f64;
    assert!((share - witnessed).abs() < 0.05, "share {share}, but the witness has {witnessed}");
    assert!(own.number("/waits/reaps") >= count, "{}", own.at("/waits"));
}

macro_rules! storms {
    ($($name:ident: $how:literal, $spawners:literal, $count:expr;)*) => {
        $(#[test]
        fn $name() {
            check($how, $spawners, $count);
        })*
    };
}

storms! {
    spawned_by_one: "spawn", 1, FULL;
    spawned_by_four: "spawn", 4, FULL;
    forked_by_one: "fork", 1, 500;
    forked_by_four: "fork", 4, 500;
    vforked_by_one: "vfork", 1, 500;
    vforked_by_four: "vfork", 4, 500;
    spawned_by_a_thread: "threads", 1, 500;
    spawned_by_four_threads: "threads", 4, 500;
}

/// Full speed is slower here, and the agent gets less of a CPU.
#[test]
fn spawned_on_a_busy_machine() {
    let _load = Load::start();
    check("spawn", 4, FULL);
}
