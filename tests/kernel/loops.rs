//! The loop rule, live: how many sync loops there were, of how many spawns, and how long they took.

use crate::exact::{Ended, assert_near, busy_ns, class, daemon};
use harness::truth::Truth;
use harness::{agent, workload};

const NS_PER_MS: u64 = 1_000_000;

/// The loops of a process's daemon, in time order.
fn loops(daemon: &Truth) -> Vec<Truth> {
    let mut loops = daemon.list("/latest_loops");
    loops.sort_by_key(|own| own.number("/number"));
    loops
}

fn check_bursts(workers: u64) {
    const PER_BURST: u64 = 30;
    let agent = agent!();
    let bursts = workload!("loop").option("--bursts", 3).option("--per-burst", PER_BURST);
    // Pauses inside a burst are shorter than the gap, and pauses between bursts longer.
    let bursts = bursts.option("--gap-ms", 1_000).option("--pause-ms", 200).option("--workers", workers);
    let truth = bursts.run();
    let daemon = daemon(&agent, truth.number("/pid"), truth.number("/end_ns"));
    let (seen, made) = (loops(&daemon), truth.list("/bursts"));
    assert_eq!(seen.len(), made.len(), "{daemon}");
    for (own, burst) in seen.iter().zip(&made) {
        assert_eq!(own.number("/spawns"), PER_BURST);
        let lasted_ns = burst.number("/last_reap_ns") - burst.number("/first_spawn_ns");
        assert_near("duration", own.number("/duration_ns"), lasted_ns, 5, 0);
        assert_near("busy", own.number("/busy_ns"), burst.number("/exec_busy_ns"), 5, 0);
        assert_near("start", own.number("/start/ktime_ns"), burst.number("/first_spawn_ns"), 0, NS_PER_MS);
        assert_eq!(own.at("/open"), false);
    }
    assert_eq!(daemon.number("/series/spawns_per_loop/p50"), PER_BURST);
    let between = |at: usize| made[at + 1].number("/first_spawn_ns") - made[at].number("/last_reap_ns");
    assert_near("gap", daemon.number("/series/gap_ns/max"), between(0).max(between(1)), 5, 0);
}

#[test]
fn bursts_of_one_after_the_other() {
    check_bursts(1);
}

#[test]
fn bursts_of_four_at_once() {
    check_bursts(4);
}

/// A resync whose children are slow: a child that lives for longer than the gap keeps its loop together.
#[test]
fn slow_children_are_one_loop() {
    let agent = agent!();
    let truth = workload!("loop")
        .option("--bursts", 1)
        .option("--per-burst", 4)
        .option("--workers", 2)
        .option("--child-ms", 700)
        .run();
    let daemon = daemon(&agent, truth.number("/pid"), truth.number("/end_ns"));
    let (seen, burst) = (loops(&daemon), &truth.list("/bursts")[0]);
    let [own] = &seen[..] else { panic!("{daemon}") };
    assert_eq!((own.number("/spawns"), own.number("/peak_alive")), (4, 2));
    let lasted_ns = burst.number("/last_reap_ns") - burst.number("/first_spawn_ns");
    assert_near("duration", own.number("/duration_ns"), lasted_ns, 5, 0);
    assert_eq!(class(own, "sleep").text("/mode"), "overlapped");
    // Its two threads did nothing but wait for them.
    let waits = |part: &str| own.number(&format!("/waits/{part}"));
    assert_eq!(waits("reaps"), 4);
    assert_near("waits", waits("wall_ns"), burst.number("/exec_ns"), 5, 0);
    assert_near("blocked in waits", waits("blocked_ns"), burst.number("/exec_ns"), 5, 0);
    let parts_ns = waits("on_cpu_ns") + waits("runnable_ns") + waits("blocked_ns");
    assert_near("parts of waits", parts_ns, waits("wall_ns"), 1, 0);
}

#[test]
fn a_shell_script_is_one_loop_of_the_shell() {
    const TURNS: u64 = 40;
    let agent = agent!();
    let truth = workload!("shell").option("--count", TURNS).run();
    let shell = truth.child("/shell");
    let daemon = daemon(&agent, shell.pid.into(), truth.number("/end_ns"));
    let seen = loops(&daemon);
    let [own] = &seen[..] else { panic!("{daemon}") };
    assert_eq!(own.number("/spawns"), truth.number("/spawns"));
    for (name, count) in truth.at("/by_binary").as_object().expect("an object") {
        assert_eq!(class(own, name).at("/spawns"), count, "{name}");
    }
    // Of the shell's life, all but its own start and end.
    assert_near("duration", own.number("/duration_ns"), shell.wall_ns(), 5, 4 * NS_PER_MS);
    // What it spawned is credited to whoever spawned the shell.
    let parent = crate::exact::daemon(&agent, truth.number("/pid"), truth.number("/end_ns"));
    let spawned = &parent.list("/classes")[0];
    assert_eq!((spawned.number("/spawns"), spawned.number("/tree_spawns")), (1, 3 * TURNS), "{parent}");
}

/// Probes that come more often than the gap are one loop, and that is said by what it does not fill.
#[test]
fn probes_in_short_succession() {
    let agent = agent!();
    let truth = workload!("probe-burst").option("--rounds", 6).option("--period-ms", 250).run();
    let end_ns = truth.number("/end_ns");
    let daemon = daemon(&agent, truth.number("/pid"), end_ns);
    let seen = loops(&daemon);
    let [own] = &seen[..] else { panic!("{daemon}") };
    assert_eq!(own.number("/spawns"), truth.number("/spawns"));
    let rounds = truth.list("/rounds");
    let children: Vec<_> = rounds.iter().flat_map(|round| round.children("/children")).collect();
    let lasted_ns = children[children.len() - 1].reaped_ns - children[0].spawn_ns;
    assert_near("duration", own.number("/duration_ns"), lasted_ns, 5, 0);
    assert_near("busy", own.number("/busy_ns"), busy_ns(&children), 5, NS_PER_MS);
    let ended = Ended::by(&agent, end_ns);
    children.iter().for_each(|child| assert_eq!(ended.row(child).text("/daemon"), "workload probe-burst"));
}

/// And apart, when they come less often.
#[test]
fn probes_at_leisure() {
    let agent = agent!();
    let truth = workload!("probe-burst").option("--rounds", 3).option("--period-ms", 900).run();
    let daemon = daemon(&agent, truth.number("/pid"), truth.number("/end_ns"));
    let (seen, made) = (loops(&daemon), truth.list("/rounds"));
    assert_eq!(seen.len(), made.len(), "{daemon}");
    for (own, round) in seen.iter().zip(&made) {
        let children = round.children("/children");
        assert_eq!(own.number("/spawns"), children.len() as u64);
        let lasted_ns = children[children.len() - 1].reaped_ns - children[0].spawn_ns;
        assert_near("duration", own.number("/duration_ns"), lasted_ns, 5, NS_PER_MS / 2);
    }
}
