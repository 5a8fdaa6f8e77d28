//! A child whose time goes to known causes in known amounts, by its own clock.

use std::io;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::Work;
use crate::args::Args;
use crate::shared::{Shared, Stage};
use crate::spawn::Child;
use crate::split_rig::{PARTS, Part, PartInfo, Rig};
use crate::sys::{self, monotonic_ns, run_delay_ns, thread_cpu_ns};

pub(crate) const OPTIONS: &str = "[--all-ms N] [--fsync-bytes I] and any of [--cpu-ms N] [--sleep-ms N] \
     [--flock-ms N] [--fcntl-ms N] [--pipe-ms N] [--unix-ms N] [--tcp-ms N] [--futex-ms N] [--netlink-ms N] \
     [--poll-ms N] [--epoll-ms N] [--child-ms N] [--vfork-ms N] [--page-fault-ms N] [--runqueue-ms N]";

const NS_PER_MS: u64 = 1_000_000;
/// Longest single part.
const PART_MS_MAX: u64 = 30_000;
const FSYNC_BYTES_MAX: u64 = 1 << 30;

/// One part as asked for: nanoseconds, or bytes for fsync.
#[derive(Clone, Copy)]
struct Asked {
    info: &'static PartInfo,
    amount: u64,
}

/// What the child leaves of each part in shared memory, in this order.
const START_NS: usize = 0;
const END_NS: usize = 1;
const CPU_NS: usize = 2;
const RUNNABLE_NS: usize = 3;
const PART_WORDS: usize = 4;
/// What it leaves of itself, before the parts.
const FIRST_NS: usize = 0;
const LAST_NS: usize = 1;
const CHILD_CPU_NS: usize = 2;
const CHILD_RUNNABLE_NS: usize = 3;
const OWN_WORDS: usize = 4;

/// The parts asked for, one after the other, in one forked child (no exec). A second process holds the locks and
/// the other ends, and lets go when a part's time is up.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let all_ms: u64 = args.value("--all-ms", 0)?;
    let mut asked = Vec::new();
    for info in PARTS {
        let fsync = info.part == Part::Fsync;
        let amount: u64 = args.value(info.option, if fsync { 0 } else { all_ms })?;
        if amount > if fsync { FSYNC_BYTES_MAX } else { PART_MS_MAX } {
            bail!("{} {amount} is too much", info.option);
        }
        if amount > 0 {
            asked.push(Asked { info, amount: if fsync { amount } else { amount * NS_PER_MS } });
        }
    }
    if asked.is_empty() {
        bail!("no part asked for");
    }
    Ok(Box::new(move || run(&asked)))
}

fn run(asked: &[Asked]) -> Result<Value> {
    let rig = Rig::new()?;
    let shared = Shared::new(OWN_WORDS + asked.len() * PART_WORDS)?;
    let (stage, ready) = (Stage::new()?, Stage::new()?);
    let far_pid = sys::fork(|| exit_code("far end", far_end(&rig, asked, &stage, &ready)))?;
    let far = Helper { pid: far_pid };
    ready.wait_for(1);
    let child = Child::run(|| sys::fork(|| exit_code("child", near_end(&rig, asked, &stage, &shared))))?
        .expect_exit(0)
        .context("the child's parts")?;
    far.finish()?;

    let mut blocked_by = Map::new();
    let mut parts = Vec::new();
    for (asked, words) in asked.iter().zip(shared[OWN_WORDS..].chunks(PART_WORDS)) {
        let number = |at: usize| words[at].load(std::sync::atomic::Ordering::SeqCst);
        let wall_ns = number(END_NS) - number(START_NS);
        let blocked_ns = wall_ns.saturating_sub(number(CPU_NS) + number(RUNNABLE_NS));
        check_amount(asked, wall_ns, number(CPU_NS))?;
        if let Some(cause) = asked.info.cause {
            let sum = blocked_by.get(cause).and_then(Value::as_u64).unwrap_or_default();
            blocked_by.insert(cause.into(), json!(sum + blocked_ns));
        }
        parts.push(json!({
            "part": asked.info.name,
            "cause": asked.info.cause,
            "asked": asked.amount,
            "start_ns": number(START_NS),
            "end_ns": number(END_NS),
            "wall_ns": wall_ns,
            "on_cpu_ns": number(CPU_NS),
            "runnable_ns": number(RUNNABLE_NS),
            "blocked_ns": blocked_ns,
        }));
    }
    Ok(json!({
        "child": child.json(),
        "first_ns": shared.get(FIRST_NS),
        "last_ns": shared.get(LAST_NS),
        "on_cpu_ns": shared.get(CHILD_CPU_NS),
        "runnable_ns": shared.get(CHILD_RUNNABLE_NS),
        "blocked_by": blocked_by,
        "parts": parts,
    }))
}

/// Fails when a part was shorter than asked for.
fn check_amount(asked: &Asked, wall_ns: u64, cpu_ns: u64) -> Result<()> {
    let got = match asked.info.part {
        Part::Fsync => return Ok(()),
        Part::Cpu | Part::RunQueue => cpu_ns,
        _ => wall_ns,
    };
    if got < asked.amount {
        bail!("{}: {got} ns of {}", asked.info.name, asked.amount);
    }
    Ok(())
}

/// The helper process; killed if it is not waited for.
struct Helper {
    pid: sys::Pid,
}

impl Helper {
    fn finish(self) -> Result<()> {
        let status = sys::wait(self.pid)?;
        std::mem::forget(self);
        if status != 0 {
            bail!("the far end ended with status {status:#x}");
        }
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let killed = sys::kill(self.pid, libc::SIGKILL).and_then(|()| sys::wait(self.pid));
        if let Err(error) = killed {
            eprintln!("the far end, {}: {error}", self.pid);
        }
    }
}

fn exit_code(who: &str, result: io::Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{who}: {error}");
            1
        }
    }
}

/// The stage that a part's number stands for: begun, and done with.
fn stages(number: usize) -> (u32, u32) {
    (2 * number as u32 + 1, 2 * number as u32 + 2)
}

fn near_end(rig: &Rig, asked: &[Asked], stage: &Stage, shared: &Shared) -> io::Result<()> {
    sys::die_with_parent()?;
    shared.put(FIRST_NS, monotonic_ns());
    for (number, asked) in asked.iter().enumerate() {
        let (begun, done) = stages(number);
        let near = rig.near(asked.info.part)?;
        let (delay_before, cpu_before, start) = (run_delay_ns()?, thread_cpu_ns(), monotonic_ns());
        stage.raise(begun);
        near.spend(rig, asked.info.part, asked.amount)?;
        let (end, cpu_after, delay_after) = (monotonic_ns(), thread_cpu_ns(), run_delay_ns()?);
        stage.raise(done);
        near.restore()?;
        let at = OWN_WORDS + number * PART_WORDS;
        shared.put(at + START_NS, start);
        shared.put(at + END_NS, end);
        shared.put(at + CPU_NS, cpu_after - cpu_before);
        shared.put(at + RUNNABLE_NS, delay_after - delay_before);
    }
    shared.put(CHILD_RUNNABLE_NS, run_delay_ns()?);
    shared.put(CHILD_CPU_NS, thread_cpu_ns());
    shared.put(LAST_NS, monotonic_ns());
    Ok(())
}

fn far_end(rig: &Rig, asked: &[Asked], stage: &Stage, ready: &Stage) -> io::Result<()> {
    sys::die_with_parent()?;
    let held = rig.hold_locks()?;
    ready.raise(1);
    for (number, asked) in asked.iter().enumerate() {
        let (begun, done) = stages(number);
        stage.wait_for(begun);
        rig.far(asked.info.part, asked.amount, &held, || stage.now() >= done)?;
    }
    Ok(())
}
