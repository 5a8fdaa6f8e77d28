//! Run-queue latency against `bpftrace`, which has hooks of its own at every wake-up and switch and a clock of its own:
//! each wait of a process that is preempted, and of one that sleeps and is woken.

use crate::exact::assert_near;
use crate::sched::{OLD_ENOUGH, row_of, spinner, times_init_ran};
use harness::agent;
use harness::netns::die_with_test;
use harness::running::Running;
use harness::tools::Tool;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Prints how long each wait of two threads was, as `runqlat` finds it. A thread that leaves the CPU ready waits from then
/// on, one that blocks from when it is woken. The kernel marks a preempted one beyond the states' own eight bits.
const SCRIPT: &str = r#"
BEGIN { printf("ready\n"); }
tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new
/args->pid == $1 || args->pid == $2/ { @since[args->pid] = nsecs; }
tracepoint:sched:sched_switch {
    if (args->prev_pid == $1 || args->prev_pid == $2) {
        delete(@since[args->prev_pid]);
        if ((args->prev_state & 0xff) == 0) { @since[args->prev_pid] = nsecs; }
    }
    if ((args->next_pid == $1 || args->next_pid == $2) && @since[args->next_pid]) {
        printf("%d %d\n", args->next_pid, nsecs - @since[args->next_pid]);
    }
}
END { clear(@since); printf("end\n"); }
"#;

/// A thread that preempts another when it is woken has waited for nothing by the kernel's account, which does not read
/// its clock twice for that (`rq_clock_skip_update`); the witness sees the time that the switch itself takes, here and
/// on a machine that lends its CPUs to others meanwhile.
const SAME_CLOCK_NS: u64 = 50_000;

/// The witness, attached.
struct Witness {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Witness {
    fn of(pids: [u32; 2]) -> Witness {
        let mut command = Command::new(Tool::Bpftrace.require());
        command.args(["-q", "-B", "line", "-e", SCRIPT]).args(pids.map(|pid| pid.to_string()));
        let mut child = die_with_test(&mut command).stdout(Stdio::piped()).spawn().expect("bpftrace runs");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout was piped")).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line == "ready");
        assert!(ready, "bpftrace attaches nothing");
        Witness { child, lines }
    }

    /// All waits of the two, nanoseconds, the shortest first.
    fn end(mut self, pids: [u32; 2]) -> [Vec<u64>; 2] {
        // SAFETY: plain numbers; the child is not yet reaped, so the pid is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) }, 0);
        let mut waits = [Vec::new(), Vec::new()];
        let mut ended = false;
        for line in self.lines.map_while(Result::ok) {
            ended |= line == "end";
            let numbers = line.split_once(' ');
            let Some((pid, ns)) =
                numbers.and_then(|(pid, ns)| Some((pid.parse::<u32>().ok()?, ns.parse().ok()?)))
            else {
                continue;
            };
            let of = pids.iter().position(|of| *of == pid).expect("one of the two");
            waits[of].push(ns);
        }
        assert!(ended && self.child.wait().expect("it ends").success(), "bpftrace lost its way");
        waits.each_mut().map(|waits| {
            waits.sort_unstable();
            std::mem::take(waits)
        })
    }
}

/// A shell that sleeps time and again on the spinners' CPU, without a child: it reads what never comes.
fn sleeper(turns: u32) -> Running {
    let script = format!(
        "exec 3<> <(:); echo '{{\"ready\":true}}'; read go; \
         for ((i = 0; i < {turns}; i++)); do read -t 0.004 -u 3 nothing; done; \
         echo '{{\"done\":true}}'; read end"
    );
    let mut command = Command::new("nice");
    command.args(["-n", "-20", "taskset", "-c", "0", "bash", "-c", &script]);
    let mut running = Running::start(command);
    running.next_line().expect("the shell is there");
    running
}

#[test]
fn waits_for_a_cpu_are_those_that_bpftrace_sees() {
    let agent = agent!();
    let mut shells = [spinner(1_500_000, &[]), sleeper(300)];
    let mut other = spinner(1_500_000, &[]);
    std::thread::sleep(OLD_ENOUGH);
    let pids = [shells[0].pid(), shells[1].pid()];
    let witness = Witness::of(pids);
    let init_ran = times_init_ran();
    other.say("go");
    shells.iter_mut().for_each(|shell| shell.say("go"));
    shells.iter_mut().for_each(|shell| drop(shell.next_line().expect("it does its turns and says so")));
    let waits = witness.end(pids);
    // Switches that are not reported to either (see `probes/split.rs`).
    let unseen = 3 + times_init_ran() - init_ran;
    for (pid, waits) in pids.into_iter().zip(waits) {
        let count = waits.len() as u64;
        assert!(count > 100, "{count} waits are too few to compare");
        let row = row_of(&agent, pid, count - count / 50 - unseen.min(count / 2));
        let (longest, sum) = (waits[waits.len() - 1], waits.iter().sum::<u64>());
        eprintln!("{pid}: {count} waits of {sum} ns, longest {longest}, {unseen} unseen; {row}");
        assert_near("waits", row.number("/waits"), count, 1, unseen);
        // The witness is asked a little after the kernel's own clock. What it has of waits that may be none by the
        // kernel's account may be told, or not.
        let certain: u64 = waits.iter().filter(|ns| **ns > SAME_CLOCK_NS).sum();
        let (told, slack) = (row.number("/wait_ns"), sum / 50 + unseen * (sum / count) + count * 2_000);
        assert!(
            (certain.saturating_sub(slack)..=sum + slack).contains(&told),
            "{told} of {certain} to {sum} ns"
        );
        for (field, thousandths) in [("/p50_ns", 500), ("/p90_ns", 900), ("/p99_ns", 990)] {
            let rank = (count * thousandths).div_ceil(1_000).max(1) as usize;
            let (told, witness) = (row.number(field), waits[rank - 1]);
            // The upper bound of a bucket is told, which is at most a quarter above; the clocks are read at two places.
            let slack = witness / 20 + SAME_CLOCK_NS;
            assert!(
                told + slack >= witness && told <= witness + witness / 4 + slack,
                "{field}: {told}, but the witness has {witness}"
            );
        }
        let told = row.number("/max_ns");
        // The longest is told exactly, or where the agent came too late for that, as its bucket's upper bound.
        assert!(told + SAME_CLOCK_NS >= longest && told <= longest + longest / 4 + SAME_CLOCK_NS, "{told}");
    }
    drop((shells, other));
}
