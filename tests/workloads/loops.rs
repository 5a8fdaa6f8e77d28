//! Daemons that come back to spawn again: bursts with gaps between and pauses inside, probes, a shell script.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::Result;
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::spawn::{Child, How, Program, busy_ns, children_json, start, sum_ns};
use crate::sys::{monotonic_ns, sleep_ns};

pub(crate) const LOOP_OPTIONS: &str = "[--bursts B] [--per-burst N] [--gap-ms G] [--pause-ms P] [--pauses K] \
     [--workers W] [--child-ms C] [--own-us U]";
pub(crate) const PROBE_OPTIONS: &str = "[--rounds R] [--period-ms P] [--per-round N]";
pub(crate) const SHELL_OPTIONS: &str = "[--count N]";

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_US: u64 = 1_000;
const BURSTS_MAX: u64 = 1_000;
const PER_BURST_MAX: u64 = 100_000;
const WORKERS_MAX: u64 = 64;

#[derive(Clone, Copy)]
struct Burst {
    per_burst: usize,
    /// Pauses inside the burst, evenly spaced, each so long.
    pauses: usize,
    pause_ns: u64,
    workers: usize,
    /// How long each child sleeps; 0 = /bin/true.
    child_ns: u64,
    /// Own computing between children.
    own_ns: u64,
}

/// B bursts of N children, G ms from the end of one to the start of the next. Children of the burst's stretches
/// run one after the other, or W at once.
pub(crate) fn prepare_loop(args: &mut Args) -> Result<Work> {
    let bursts = args.count("--bursts", 3, BURSTS_MAX)? as usize;
    let gap_ns = args.value("--gap-ms", 1000)? * NS_PER_MS;
    let burst = Burst {
        per_burst: args.count("--per-burst", 50, PER_BURST_MAX)? as usize,
        pauses: args.value("--pauses", 3)?,
        pause_ns: args.value("--pause-ms", 0)? * NS_PER_MS,
        workers: args.count("--workers", 1, WORKERS_MAX)? as usize,
        child_ns: args.value("--child-ms", 0)? * NS_PER_MS,
        own_ns: args.value("--own-us", 0)? * NS_PER_US,
    };
    Ok(Box::new(move || {
        let mut truths = Vec::new();
        for number in 0..bursts {
            if number > 0 {
                sleep_ns(gap_ns);
            }
            truths.push(burst.run(number)?);
        }
        Ok(json!({ "spawns": bursts * burst.per_burst, "bursts": truths }))
    }))
}

impl Burst {
    fn run(&self, number: usize) -> Result<Value> {
        let start_ns = monotonic_ns();
        let mut children = Vec::new();
        // K pauses cut the burst into K + 1 stretches.
        let stretches = if self.pause_ns == 0 { 1 } else { self.pauses + 1 };
        for stretch in 0..stretches {
            if stretch > 0 {
                sleep_ns(self.pause_ns);
            }
            let bound = |stretch: usize| self.per_burst * stretch / stretches;
            children.extend(self.stretch(number, bound(stretch)..bound(stretch + 1))?);
        }
        let end_ns = monotonic_ns();
        Ok(json!({
            "start_ns": start_ns,
            "end_ns": end_ns,
            "spawns": children.len(),
            "first_spawn_ns": children.iter().map(|child| child.spawn_ns).min(),
            "last_reap_ns": children.iter().map(|child| child.reaped_ns).max(),
            "exec_ns": sum_ns(&children),
            "exec_busy_ns": busy_ns(&children),
        }))
    }

    fn stretch(&self, burst: usize, indices: std::ops::Range<usize>) -> io::Result<Vec<Child>> {
        if self.workers == 1 {
            return indices.map(|index| self.one(burst, index)).collect();
        }
        let next = AtomicUsize::new(indices.start);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers)
                .map(|_| {
                    scope.spawn(|| {
                        std::iter::from_fn(|| Some(next.fetch_add(1, Relaxed)))
                            .take_while(|&index| index < indices.end)
                            .map(|index| self.one(burst, index))
                            .collect::<io::Result<Vec<_>>>()
                    })
                })
                .collect();
            let mut children = Vec::new();
            for worker in workers {
                children.extend(worker.join().map_err(|_| io::Error::other("a worker panicked"))??);
            }
            Ok(children)
        })
    }

    fn one(&self, burst: usize, index: usize) -> io::Result<Child> {
        let until = monotonic_ns() + self.own_ns;
        while monotonic_ns() < until {}
        let tag = format!("{burst}.{index}");
        let program = if self.child_ns == 0 {
            Program::new("/bin/true", &["true", "loop", &tag])
        } else {
            Program::new("/bin/sleep", &["sleep", &format!("{}", self.child_ns as f64 / 1e9)])
        };
        Child::run(|| start(How::Spawn, &program))?.expect_exit(0)
    }
}

/// As a shim under exec probes: every P ms, N short children one after the other.
pub(crate) fn prepare_probe_burst(args: &mut Args) -> Result<Work> {
    let rounds = args.count("--rounds", 5, BURSTS_MAX)?;
    let period_ns = args.count("--period-ms", 300, 60_000)? * NS_PER_MS;
    let per_round = args.count("--per-round", 3, PER_BURST_MAX)?;
    Ok(Box::new(move || {
        let mut truths = Vec::new();
        for round in 0..rounds {
            let start_ns = monotonic_ns();
            let children = (0..per_round)
                .map(|index| {
                    let program = Program::new("/bin/true", &["true", "probe", &format!("{round}.{index}")]);
                    Child::run(|| start(How::Spawn, &program))?.expect_exit(0)
                })
                .collect::<io::Result<Vec<_>>>()?;
            let end_ns = monotonic_ns();
            truths.push(json!({
                "start_ns": start_ns, "end_ns": end_ns, "children": children_json(&children),
            }));
            if round + 1 < rounds {
                sleep_ns((start_ns + period_ns).saturating_sub(end_ns));
            }
        }
        Ok(json!({ "spawns": rounds * per_round, "rounds": truths }))
    }))
}

/// Children of the shell per turn of its loop: `true`, and the two of a pipeline.
const SHELL_SPAWNS_PER_TURN: u64 = 3;

/// A shell script that spawns: N turns of a command and a pipeline.
pub(crate) fn prepare_shell(args: &mut Args) -> Result<Work> {
    let count = args.count("--count", 100, PER_BURST_MAX)?;
    Ok(Box::new(move || {
        let script = format!(
            "set -e; i=0; while [ $i -lt {count} ]; do /bin/true shell $i; \
             /bin/echo $i | /bin/cat > /dev/null; i=$((i + 1)); done"
        );
        let program = Program::shell(&script);
        let child = Child::run(|| start(How::Spawn, &program))?.expect_exit(0)?;
        Ok(json!({
            "shell": child.json(),
            "spawns": count * SHELL_SPAWNS_PER_TURN,
            "by_binary": { "true": count, "echo": count, "cat": count },
        }))
    }))
}
