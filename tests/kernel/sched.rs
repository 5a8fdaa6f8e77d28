//! Waits for a CPU, against the kernel's own account of each thread (`/proc/PID/schedstat`) and against cgroups that
//! are really pushed aside or throttled.

use crate::exact::{assert_near, path};
use harness::agent;
use harness::agent::Agent;
use harness::pod_cgroup::{Directories, Limited, container_path, hierarchy};
use harness::running::Running;
use harness::truth::Truth;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Younger processes have no row of their own.
pub(crate) const OLD_ENOUGH: Duration = Duration::from_millis(1_300);

/// A shell on one CPU that says when it is there, spins when told to, and says when it has. Favoured over whatever else
/// the machine does.
pub(crate) fn spinner(turns: u32, joins: &[PathBuf]) -> Running {
    let join: String = joins.iter().map(|procs| format!("echo $$ > {}; ", procs.display())).collect();
    let script = format!(
        "{join}echo '{{\"ready\":true}}'; read go; i=0; while [ $i -lt {turns} ]; do i=$((i+1)); done; \
         echo '{{\"done\":true}}'; read end"
    );
    let mut command = Command::new("nice");
    command.args(["-n", "-20", "taskset", "-c", "0", "sh", "-c", &script]);
    let mut running = Running::start(command);
    running.next_line().expect("the shell is there");
    running
}

/// Time on a CPU, time in run queues, and how often it got a CPU.
pub(crate) fn schedstat(pid: u32) -> [u64; 3] {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("a living process");
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    numbers.try_into().expect("three numbers")
}

/// How often threads of pid 1 got a CPU. Where a sandbox's init is of the kind that switches without being reported,
/// each time may hide a switch of somebody else.
pub(crate) fn times_init_ran() -> u64 {
    let threads = fs::read_dir("/proc/1/task").expect("pid 1 has threads").filter_map(Result::ok);
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .map(|text| {
            text.split_whitespace().nth(2).and_then(|times| times.parse::<u64>().ok()).expect("a number")
        })
        .sum()
}

pub(crate) fn row_of(agent: &Agent, pid: u32, waits: u64) -> Truth {
    let of_process = path("sched", &format!("scope=process&pid={pid}"));
    let answer = agent.view_when(&of_process, |answer| {
        answer.list("/processes").first().is_some_and(|row| row.number("/waits") >= waits)
    });
    answer.list("/processes").remove(0)
}

/// Two shells share a CPU: how often each got it and how long it waited is what the kernel itself says.
#[test]
fn a_processs_waits_are_the_kernels_own() {
    for rung in ["", "sched_switch with the kernel's queue clock"] {
        let agent = if rung.is_empty() { agent!() } else { agent!("--avoid", rung) };
        let mut spinners = [spinner(1_500_000, &[]), spinner(1_500_000, &[])];
        std::thread::sleep(OLD_ENOUGH);
        let before = [0, 1].map(|at: usize| schedstat(spinners[at].pid()));
        let init_ran = times_init_ran();
        spinners.iter_mut().for_each(|shell| shell.say("go"));
        for (shell, before) in spinners.iter_mut().zip(before) {
            shell.next_line().expect("it spins and says so");
            let after = schedstat(shell.pid());
            let [on_cpu_ns, wait_ns, waits] = [0, 1, 2].map(|at| after[at] - before[at]);
            assert!(waits > 20 && wait_ns > 100_000_000, "the two must share: {waits} waits of {wait_ns} ns");
            let init_ran = times_init_ran() - init_ran;
            let row = row_of(&agent, shell.pid(), waits - waits / 50 - init_ran);
            // Not every switch is reported (see `probes/split.rs`). By the kernel's clock such waits are found later
            // on, several as one; the wake-up hooks know of none.
            let unseen = if rung.is_empty() { 3 } else { 3 + init_ran };
            assert_near("waits", row.number("/waits"), waits, 1, unseen);
            // With wake-up hooks the clock is another one, read a little later.
            assert_near("time waited", row.number("/wait_ns"), wait_ns, 2, 2_000_000);
            assert_near("time on a CPU", row.number("/on_cpu_ns"), on_cpu_ns, 2, 5_000_000);
            let preempted = row.number("/preempted/waits");
            assert!(
                preempted + 5 + unseen >= waits,
                "{preempted} of {waits}: spinning shells only wait when preempted"
            );
        }
    }
}

/// Every switch to a thread is one wait, of a CPU and of somebody.
#[test]
fn cpus_and_processes_count_the_same_waits() {
    let agent = agent!();
    let mut shell = spinner(1_000_000, &[]);
    shell.say("go");
    shell.next_line().expect("it spins and says so");
    // Rows that hardly grow are told five seconds late.
    std::thread::sleep(Duration::from_secs(6));
    let answer = agent.get(&path("sched", "")).expect("an answer");
    let sum = |list: &str| -> u64 { answer.list(list).iter().map(|row| row.number("/waits")).sum() };
    assert_near("waits of processes", sum("/processes"), sum("/cpus"), 5, 500);
    assert_eq!(answer.number("/node/waits"), sum("/cpus"));
}

const QUIET_UID: &str = "11111111-52c1-4a53-9a0e-1b1f4f0f7c55";
const NOISY_UID: &str = "22222222-52c1-4a53-9a0e-1b1f4f0f7c55";

fn owner(agent: &Agent, uid: &str, long_wait_ns: u64) -> Truth {
    let of_pod = path("sched", &format!("scope=pod&pod={uid}"));
    let answer = agent.view_when(&of_pod, |answer| {
        answer.list("/owners").first().is_some_and(|row| row.number("/long_wait_ns") >= long_wait_ns)
    });
    answer.list("/owners").remove(0)
}

/// A pod that shares its CPU with another is held back by that one, by name.
#[test]
fn the_noisy_neighbour_is_named() {
    let (layout, name) = hierarchy();
    let quiet = Directories::make(&layout.mount, &container_path(QUIET_UID));
    let noisy = Directories::make(&layout.mount, &container_path(NOISY_UID));
    let agent = agent!("--cgroup-hierarchy", name);
    let procs = |of: &Directories| vec![of.innermost().join("cgroup.procs")];
    let mut waiter = spinner(1_500_000, &procs(&quiet));
    let mut others = [spinner(1_500_000, &procs(&noisy)), spinner(1_500_000, &procs(&noisy))];
    let ran_ns =
        |others: &[Running; 2]| -> u64 { others.iter().map(|shell| schedstat(shell.pid())[0]).sum() };
    let before_ns = ran_ns(&others);
    others.iter_mut().for_each(|shell| shell.say("go"));
    waiter.say("go");
    waiter.next_line().expect("it spins and says so");
    let noisy_ns = ran_ns(&others) - before_ns;
    let row = owner(&agent, QUIET_UID, noisy_ns / 2);
    assert_eq!(row.text("/held_by"), "others", "{row}");
    let ran = row.list("/ran_instead");
    let of_noisy =
        ran.iter().find(|ran| ran.at("/identity").get("pod_uid").is_some_and(|uid| uid == NOISY_UID));
    let of_noisy = of_noisy.unwrap_or_else(|| panic!("the noisy pod is not among those that ran: {row}"));
    // While the waiter waited they ran, and hardly at any other time. What a CPU does not remember is missing.
    let told_ns = of_noisy.number("/ns");
    let least_ns = noisy_ns.min(row.number("/long_wait_ns")) * 2 / 5;
    assert!(told_ns <= noisy_ns + 20_000_000 && told_ns >= least_ns, "{told_ns} of {noisy_ns}: {row}");
    others.iter_mut().for_each(|shell| drop(shell.next_line()));
    drop((waiter, others));
    // The noisy pod's directories hang below the quiet one's.
    drop(noisy);
    drop(quiet);
}

/// A pod with a quota of a fifth of a CPU is held back by that, and its throttling is what its cgroup says.
#[test]
fn a_quota_is_told_from_a_neighbour() {
    // First, so that it sees all of the cgroup's life.
    let agent = agent!("--cgroup-hierarchy", hierarchy().1);
    let limited = Limited::make(QUIET_UID);
    let mut shell = spinner(1_000_000, &limited.joins());
    shell.say("go");
    shell.next_line().expect("it spins and says so");
    let throttled = limited.stat("nr_throttled");
    assert!(throttled >= 5, "it was to be throttled: {throttled} times");
    let of_pod = path("sched", &format!("scope=pod&pod={QUIET_UID}"));
    let answer = agent.view_when(&of_pod, |answer| {
        answer.list("/owners").first().is_some_and(|row| {
            row.at("/throttled").get("throttled").and_then(|number| number.as_u64()) >= Some(throttled - 1)
        })
    });
    let row = answer.list("/owners").remove(0);
    assert_near("times throttled", row.number("/throttled/throttled"), throttled, 0, 1);
    assert_eq!(row.text("/held_by"), "quota", "{row}");
    drop(shell);
    std::thread::sleep(Duration::from_millis(50));
}
