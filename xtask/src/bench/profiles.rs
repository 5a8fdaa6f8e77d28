//! What profiles and scheduler views cost: a pair of processes that hand a byte to and fro, a loop that computes, the kernel
//! programs at each switch, and how soon there is a picture.
//!
//! Runs without and with the agent alternate, and each with it is compared with the mean of its neighbours.

use super::Bench;
use super::agent::Agent;
use super::figure::Figure;
use super::programs::{enable_statistics, program_ids, runs};
use super::workload;
use crate::sh;
use anyhow::{Context, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The limits.
const MAX_SWITCH_NS: f64 = 200.0;
const MAX_PIPE_RATIO: f64 = 1.10;
const MAX_COMPUTE_RATIO: f64 = 1.01;
const MAX_FIRST_GRAPH_S: f64 = 1.5;
const MAX_RENDER_S: f64 = 0.5;
/// Round trips of one run: about a second.
const ROUND_TRIPS: u64 = 60_000;
/// Turns of the loop that computes: about two seconds.
const TURNS: u64 = 4_000_000;
/// Runs with the agent; odd, so that the median is one of them.
const RUNS: usize = 7;
/// Longer than any run, so that the client listens to all of it.
const PROFILE_S: u64 = 8;

/// Measures all of it.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = compared(bench, "perf bench sched pipe", MAX_PIPE_RATIO, None, || pipe_s(bench))?;
    let computes = || compute_s(bench);
    figures.extend(compared(bench, "a loop that computes, at 99 Hz", MAX_COMPUTE_RATIO, Some(99), computes)?);
    figures.extend(switches(bench)?);
    let starts = if bench.scale > 1 { 3 } else { 9 };
    let first = (0..starts).map(|_| first_graph_s(bench)).collect::<anyhow::Result<_>>()?;
    figures.push(Figure::new("start to flame graph of 1 s, s", Some(MAX_FIRST_GRAPH_S), first));
    let drawn = (0..starts).map(|_| workload::render_s(&bench.workload)).collect::<anyhow::Result<_>>()?;
    figures.push(Figure::new("flame graph of 1,000,000 samples of 50 frames, s", Some(MAX_RENDER_S), drawn));
    Ok(figures)
}

/// The same work without the agent and with it, while a client listens at that rate, if any.
fn compared(
    bench: &Bench,
    name: &str,
    limit: f64,
    hz: Option<u32>,
    work_s: impl Fn() -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<Figure>> {
    let (mut ratios, mut noise) = (Vec::new(), Vec::new());
    let mut before_s = work_s()?;
    for turn in 1..=if bench.scale > 1 { 3 } else { RUNS } {
        let agent = Agent::attached(&bench.agent)?;
        let with_s = listened(&agent, hz, &work_s)?;
        agent.stop()?;
        let after_s = work_s()?;
        let ratio = 2.0 * with_s / (before_s + after_s);
        eprintln!("{name}, run {turn}: {after_s:.3} s without, x {ratio:.3} with");
        ratios.push(ratio);
        noise.push(after_s / before_s);
        before_s = after_s;
    }
    Ok(vec![
        Figure::new(format!("{name}, with / without"), Some(limit), ratios),
        Figure::new(format!("{name}, without / without"), None, noise),
    ])
}

/// Works while a client waits for a profile, which is given up when the work is done.
fn listened(
    agent: &Agent,
    hz: Option<u32>,
    work_s: &impl Fn() -> anyhow::Result<f64>,
) -> anyhow::Result<f64> {
    let Some(hz) = hz else { return work_s() };
    let path = format!("/debug/pprof/profile?seconds={PROFILE_S}&hz={hz}");
    std::thread::scope(|scope| {
        let listening = scope.spawn(|| agent.get(&path));
        // Until the agent has turned to it.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let worked = work_s();
        let (status, _) = listening.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        if status != 200 {
            bail!("{path} answers {status}");
        }
        worked
    })
}

/// Seconds that two processes take to hand a byte to and fro.
fn pipe_s(bench: &Bench) -> anyhow::Result<f64> {
    let trips = (ROUND_TRIPS / bench.scale).to_string();
    let perf = sh::on_path("perf").context("no perf here: apt-get install linux-perf")?;
    let answer = sh::read(Command::new(perf).args(["bench", "-f", "simple", "sched", "pipe", "-l", &trips]))?;
    answer.trim().parse().with_context(|| format!("perf bench says {answer:?}"))
}

/// Seconds of CPU that a loop takes which does nothing but compute.
fn compute_s(bench: &Bench) -> anyhow::Result<f64> {
    let turns = TURNS / bench.scale;
    let script = format!("i=0; while [ $i -lt {turns} ]; do i=$((i+1)); done");
    let before_s = children_s();
    let status = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).status()?;
    if !status.success() {
        bail!("the loop ended badly ({status})");
    }
    Ok(children_s() - before_s)
}

/// CPU time of all children that were waited for, seconds.
fn children_s() -> f64 {
    // SAFETY: all zeroes is a valid rusage, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// What all programs take together per switch, while the pair of processes runs.
fn switches(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    const SWITCH: &str = "sched_switch";
    let agent = Agent::attached(&bench.agent)?;
    let ids = program_ids(agent.pid())?;
    let statistics = enable_statistics()?;
    let (mut own, mut all) = (Vec::new(), Vec::new());
    for _ in 0..if bench.scale > 1 { 3 } else { RUNS } {
        let before = runs(&ids)?;
        pipe_s(bench)?;
        let grown = |name: &str, now: (u64, u64)| {
            let (count, time_ns) = before.get(name).copied().unwrap_or_default();
            (now.0.saturating_sub(count), now.1.saturating_sub(time_ns))
        };
        let after: Vec<(String, (u64, u64))> = runs(&ids)?.into_iter().collect();
        let grown: Vec<(&str, (u64, u64))> =
            after.iter().map(|(name, now)| (name.as_str(), grown(name, *now))).collect();
        let switch = grown.iter().find(|(name, _)| *name == SWITCH).map(|(_, grown)| *grown);
        let (count, switch_ns) = switch.filter(|(count, _)| *count > 0).context("no switch was counted")?;
        let all_ns: u64 = grown.iter().map(|(_, (_, time_ns))| time_ns).sum();
        own.push(switch_ns as f64 / count as f64);
        all.push(all_ns as f64 / count as f64);
    }
    drop(statistics);
    agent.stop()?;
    Ok(vec![
        Figure::new("program on sched_switch, ns per switch", Some(MAX_SWITCH_NS), own),
        Figure::new("all programs, ns per switch", None, all),
    ])
}

/// Seconds from the start of the agent until it has handed over the first flame graph of a second.
fn first_graph_s(bench: &Bench) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut agent = Agent::start(&bench.agent)?;
    agent.wait_until("attached", |agent| matches!(agent.get("/readyz"), Ok((200, _))))?;
    let (status, picture) = agent.get("/flamegraph/profile?seconds=1")?;
    let took_s = begun.elapsed().as_secs_f64();
    if status != 200 || !picture.contains("</svg>") {
        bail!("/flamegraph/profile answers {status}");
    }
    agent.stop()?;
    Ok(took_s)
}
