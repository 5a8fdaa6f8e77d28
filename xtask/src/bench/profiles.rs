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
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The limits.
const MAX_SWITCH_NS: f64 = 200.0;
const MAX_PIPE_RATIO: f64 = 1.10;
const MAX_COMPUTE_RATIO: f64 = 1.01;
const MAX_FIRST_GRAPH_S: f64 = 1.5;
const MAX_RENDER_S: f64 = 0.5;
/// Round trips of one run: about a second.
const ROUND_TRIPS: u64 = 100_000;
/// Where they are made.
const PIPE_CPU: u32 = 1;
/// Turns of the loop that computes: about two seconds.
const TURNS: u64 = 4_000_000;
/// Runs with the agent; odd, so that the median is one of them.
const RUNS: usize = 7;
/// What is attached in turn with the agent: run-queue latency, and time off the CPU by stack.
const PEERS: [&str; 2] = ["runqlat", "offcputime"];
/// Longer than any run, seconds.
const PEER_S: &str = "100";
const PEER_READY: Duration = Duration::from_secs(5);
const PEER_SETTLES: Duration = Duration::from_millis(500);
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
        std::thread::sleep(Duration::from_millis(500));
        let worked = work_s();
        let (status, _) = listening.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        if status != 200 {
            bail!("{path} answers {status}");
        }
        worked
    })
}

/// Seconds that two processes take to hand a byte to and fro, on one CPU: on several, where the scheduler puts the two
/// decides, and anything else that runs changes that.
fn pipe_s(bench: &Bench) -> anyhow::Result<f64> {
    let trips = (ROUND_TRIPS / bench.scale).to_string();
    let perf = sh::on_path("perf").context("no perf here: apt-get install linux-perf")?;
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", &PIPE_CPU.to_string()]).arg(perf);
    let answer = sh::read(pinned.args(["bench", "-f", "simple", "sched", "pipe", "-l", &trips]))?;
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

/// What kernel programs take per switch, while the pair of processes runs: the agent's, and in turn with them those of
/// peers that show less.
fn switches(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let statistics = enable_statistics()?;
    let (mut own, mut all) = (Vec::new(), Vec::new());
    let mut peers = PEERS.map(|peer| (peer, Vec::new()));
    for _ in 0..if bench.scale > 1 { 3 } else { RUNS } {
        let agent = Agent::attached(&bench.agent)?;
        let (switch_ns, all_ns) = per_switch(bench, agent.pid())?;
        agent.stop()?;
        own.push(switch_ns);
        all.push(all_ns);
        for (peer, figures) in &mut peers {
            let peer = Peer::attached(peer)?;
            figures.push(per_switch(bench, peer.0.id())?.1);
        }
    }
    drop(statistics);
    let ratio = |peer: &[f64]| all.iter().zip(peer).map(|(own, peer)| own / peer).collect();
    let mut figures = Vec::new();
    for (peer, per_switch) in peers {
        figures.push(Figure::new(format!("all programs / those of {peer}"), None, ratio(&per_switch)));
        figures.push(Figure::new(format!("programs of {peer}, ns per switch"), None, per_switch));
    }
    figures.push(Figure::new("program on sched_switch, ns per switch", Some(MAX_SWITCH_NS), own));
    figures.push(Figure::new("all programs, ns per switch", None, all));
    Ok(figures)
}

/// Nanoseconds per switch of a process's program on `sched_switch`, and of all its programs.
fn per_switch(bench: &Bench, pid: u32) -> anyhow::Result<(f64, f64)> {
    const SWITCH: &str = "sched_switch";
    let ids = program_ids(pid)?;
    let before = runs(&ids)?;
    pipe_s(bench)?;
    let (mut switches, mut switch_ns, mut all_ns) = (0, 0, 0);
    for (name, (count, time_ns)) in runs(&ids)? {
        let (count_before, before_ns) = before.get(&name).copied().unwrap_or_default();
        let ns = time_ns.saturating_sub(before_ns);
        all_ns += ns;
        if name == SWITCH {
            (switches, switch_ns) = (count.saturating_sub(count_before), ns);
        }
    }
    if switches == 0 {
        bail!("no switch was counted");
    }
    Ok((switch_ns as f64 / switches as f64, all_ns as f64 / switches as f64))
}

/// A tool of libbpf-tools that is attached; ended when dropped.
struct Peer(Child);

impl Peer {
    fn attached(tool: &str) -> anyhow::Result<Peer> {
        let program =
            sh::on_path(tool).with_context(|| format!("no {tool}: apt-get install libbpf-tools"))?;
        let child = Command::new(program).arg(PEER_S).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let peer = Peer(child);
        let until = Instant::now() + PEER_READY;
        while program_ids(peer.0.id())?.is_empty() {
            if Instant::now() > until {
                bail!("{tool} has not attached within {} s", PEER_READY.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // One program may come before the other.
        std::thread::sleep(PEER_SETTLES);
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
