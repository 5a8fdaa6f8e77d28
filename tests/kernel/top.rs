//! Who takes what, against the kernel's own account (`/proc/PID/schedstat`) and the spawner's clock; and the verb that
//! shows it.

use crate::exact::{assert_near, path};
use crate::sched::{OLD_ENOUGH, schedstat, spinner};
use harness::agent::Agent;
use harness::truth::Truth;
use harness::{agent, workload};
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

const MS: u64 = 1_000_000;

fn slowpod_top(agent: &Agent, options: &[&str]) -> Command {
    let program = harness::agent::binary(env!("CARGO_BIN_EXE_workload"));
    let mut command = Command::new(program);
    command.args(["top", "--listen", agent.address()]).args(options);
    command
}

fn told(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the verb runs");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

fn row_of(answer: &Truth, pid: u64) -> Option<Truth> {
    let of_pid = |row: &Truth| row.at("/process").get("pid").and_then(|own| own.as_u64()) == Some(pid);
    answer.list("/processes").into_iter().find(of_pid)
}

/// Two shells share a CPU: what each had and waited for is what the kernel says.
#[test]
fn cpu_and_run_queue_are_the_kernels_own() {
    let agent = agent!();
    let mut spinners = [spinner(1_000_000, &[]), spinner(1_000_000, &[])];
    std::thread::sleep(OLD_ENOUGH);
    let before = [0, 1].map(|at: usize| schedstat(spinners[at].pid()));
    spinners.iter_mut().for_each(|shell| shell.say("go"));
    for (shell, before) in spinners.iter_mut().zip(before) {
        shell.next_line().expect("it spins and says so");
        let after = schedstat(shell.pid());
        let [on_cpu_ns, wait_ns] = [0, 1].map(|at| after[at] - before[at]);
        let pid = u64::from(shell.pid());
        let of_process = path("top", &format!("pid={pid}"));
        let answer = agent.view_when(&of_process, |answer| {
            row_of(answer, pid).is_some_and(|row| row.number("/on_cpu_ns") >= on_cpu_ns / 100 * 98)
        });
        let row = row_of(&answer, pid).expect("the row just seen");
        assert_near("on CPU", row.number("/on_cpu_ns"), on_cpu_ns, 2, 5 * MS);
        assert_near("runnable", row.number("/runnable_ns"), wait_ns, 2, 5 * MS);
    }
}

#[test]
fn children_and_their_cost_are_their_spawners() {
    let agent = agent!();
    let truth = workload!("storm").option("--count", 100).option("--how", "threads").word("--brief").run();
    let answer = agent.view_at(&path("top", "sort=spawn_cost"), truth.number("/end_ns"));
    let row = row_of(&answer, truth.number("/pid")).expect("the spawner");
    assert_eq!(row.number("/spawns"), 100);
    let of_spawner = path("processes", &format!("state=ended&spawner={}", truth.number("/pid")));
    let children = agent.view_at(&of_spawner, truth.number("/end_ns")).list("/processes");
    let cost_ns: u64 = children.iter().map(|child| child.number("/spawn_cost_ns")).sum();
    assert_eq!((children.len(), row.number("/spawn_cost_ns")), (100, cost_ns));
    let by_clock_ns: u64 = truth.list("/spawners").iter().map(|own| own.number("/exec_ns")).sum();
    let children_ns = row.number("/children_ns");
    assert!(cost_ns < children_ns && children_ns <= by_clock_ns, "{cost_ns} {children_ns} {by_clock_ns}");

    let json = told(&mut slowpod_top(&agent, &["--once", "-d", "60", "--sort", "spawn_cost", "-o", "json"]));
    let first =
        Truth::new(serde_json::from_str(&json).expect("one line of JSON")).list("/processes").remove(0);
    assert!(first.number("/spawn_cost_ns") >= cost_ns, "{first}");
}

#[test]
fn the_verb_draws_as_often_as_told_and_ends_with_its_reader() {
    let agent = agent!();
    // An agent that has just come knows of nobody yet.
    agent.view_when(&path("top", ""), |answer| !answer.list("/owners").is_empty());
    let lines = told(&mut slowpod_top(&agent, &["-n", "3", "--interval", "10ms", "-o", "json"]));
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let table = told(&mut slowpod_top(&agent, &["--once", "--limit", "3"]));
    assert!(table.contains("SPAWN COST") || table.contains("ON CPU"), "{table}");
    assert!(!table.contains('\x1b'), "{table:?}");
    let mut endless = slowpod_top(&agent, &["--interval", "10ms"]);
    let mut endless = endless.stdout(Stdio::piped()).spawn().expect("the verb runs");
    let mut first = String::new();
    let mut reader = BufReader::new(endless.stdout.take().expect("stdout was piped"));
    reader.read_line(&mut first).expect("a line");
    drop(reader);
    assert!(endless.wait().expect("it ends by itself").success(), "as `top | head` does");
}
