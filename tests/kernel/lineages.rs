//! Who spawned whom, where that is not who it seems; and processes of many threads.

use crate::exact::{Ended, assert_near, class, daemon};
use harness::{agent, workload};

const NS_PER_MS: u64 = 1_000_000;

#[test]
fn children_that_never_call_exec() {
    let agent = agent!();
    let truth = workload!("exit-before-exec").run();
    let ended = Ended::by(&agent, truth.number("/end_ns"));
    for of_kind in truth.list("/children") {
        let row = ended.row(&of_kind.child("/child"));
        let fails = u64::from(of_kind.text("/kind") == "exec-failed");
        assert_eq!((row.number("/execs"), row.number("/exec_fails")), (0, fails), "{of_kind}");
        assert_eq!(row.at("/spawn_cost_ns"), &serde_json::Value::Null);
        assert_eq!(row.at("/spawner/pid"), truth.at("/pid"));
    }
}

#[test]
fn forks_by_the_thousand() {
    for how in ["fork", "vfork"] {
        let agent = agent!();
        let truth = workload!("fork-only").option("--count", 1_000).option("--how", how).run();
        let ended = Ended::by(&agent, truth.number("/end_ns"));
        for child in truth.children("/children") {
            assert_eq!(ended.row(&child).number("/execs"), 0);
        }
        let pid = truth.number("/pid");
        assert_eq!(ended.count_of_spawner(pid), 1_000, "{how}");
        let daemon = daemon(&agent, pid, truth.number("/end_ns"));
        let row = class(&daemon, "workload (no exec)");
        assert_eq!((row.number("/spawns"), row.number("/exits/ok")), (1_000, 1_000), "{how}");
        assert_eq!(row.at("/spawn_cost"), &serde_json::Value::Null);
    }
}

#[test]
fn a_double_forks_daemon_is_its_middles_child() {
    let agent = agent!();
    let truth = workload!("double-fork").run();
    let ended = Ended::by(&agent, truth.number("/end_ns"));
    let row = ended.row(&truth.child("/daemon"));
    assert_eq!(row.at("/spawner/pid"), truth.at("/spawner_pid"));
    assert_eq!(row.text("/argv"), "true double-fork");
    assert_eq!(ended.row(&truth.child("/middle")).at("/spawner/pid"), truth.at("/pid"));
}

#[test]
fn a_sibling_by_clone_parent_is_its_makers_child() {
    let agent = agent!();
    let truth = workload!("clone-parent").run();
    let ended = Ended::by(&agent, truth.number("/end_ns"));
    assert_ne!(truth.number("/ppid"), truth.number("/spawner_pid"));
    let row = ended.row(&truth.child("/sibling"));
    assert_eq!(row.at("/spawner/pid"), truth.at("/spawner_pid"));
    assert_eq!(row.text("/argv"), "true clone-parent");
    assert_eq!(ended.row(&truth.child("/spawner")).at("/spawner/pid"), truth.at("/pid"));
}

#[test]
fn orphans_keep_their_parent() {
    let agent = agent!();
    let truth = workload!("parent-dies-first").run();
    let ended = Ended::by(&agent, truth.number("/end_ns"));
    ended.row(&truth.child("/parent"));
    for orphan in truth.children("/orphans") {
        let row = ended.row(&orphan);
        assert_eq!(row.at("/spawner/pid"), truth.at("/spawner_pid"));
        assert_eq!(row.text("/argv"), "true orphan");
    }
}

#[test]
fn one_pid_is_as_many_processes_as_had_it() {
    const TIMES: usize = 20;
    let agent = agent!();
    let truth = workload!("pid-recycle").option("--times", TIMES).run();
    let ended = Ended::by(&agent, truth.number("/end_ns"));
    let children = truth.children("/children");
    assert_eq!(children.len(), TIMES);
    for (time, child) in children.iter().enumerate() {
        assert_eq!(u64::from(child.pid), truth.number("/pid_recycled"));
        let row = ended.row(child);
        assert_eq!(row.text("/argv"), format!("true recycled-{time}"));
        assert_eq!(row.number("/execs"), 1);
    }
    let daemon = daemon(&agent, truth.number("/pid"), truth.number("/end_ns"));
    assert_eq!(class(&daemon, "true").number("/exits/ok"), TIMES as u64);
}

#[test]
fn threads_are_summed() {
    let agent = agent!();
    let threads = workload!("threads").option("--count", 12).option("--cpu-ms", 8).option("--sleep-ms", 20);
    let truth = threads.run();
    let ended = Ended::by(&agent, truth.number("/end_ns"));
    let row = ended.row(&truth.child("/child"));
    assert_eq!(row.at("/threads/count"), truth.at("/thread_count"));
    let threads = truth.list("/threads");
    let sum = |field: &str| threads.iter().map(|thread| thread.number(field)).sum::<u64>();
    // The main thread's part is not in the workload's sums, but in the row.
    let others = |part: &str| row.number(&format!("/threads{part}")) - row.number(part);
    assert_near("on CPU", others("/split/on_cpu_ns"), sum("/cpu_ns"), 5, 4 * NS_PER_MS);
    let lived_ns = row.number("/threads/thread_ns") - row.number("/wall_ns");
    // A thread reads its clock once it has a CPU for the first time, and lives on until it has one for the last time.
    let (witnessed_ns, ready_ns) = (sum("/end_ns") - sum("/start_ns"), others("/split/runnable_ns"));
    let told = format!("lifetimes of {lived_ns}, {ready_ns} of it ready; by their own clocks {witnessed_ns}");
    assert!(lived_ns + NS_PER_MS >= witnessed_ns, "{told}");
    assert!(lived_ns <= witnessed_ns + ready_ns + 12 * NS_PER_MS, "{told}");
    let slept_ns = row.number("/threads/split/blocked_by/sleep");
    assert_near("asleep", slept_ns, 12 * 20 * NS_PER_MS, 5, 12 * NS_PER_MS);
}
