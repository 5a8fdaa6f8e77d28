//! What each kernel program costs per run during a storm, by the kernel's own statistics.

use super::agent::Agent;
use super::figure::Figure;
use super::footprint::info_number;
use super::{Bench, workload};
use crate::sh;
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::time::Duration;

/// The limit, here for what can be accounted without comparing runs: far less noisy than the storm's figure, but
/// without what the hooks themselves cost.
const MAX_US_PER_PROCESS: f64 = 20.0;
/// Storms measured; odd, so that the median is one of them.
const STORMS: usize = 5;
/// The agent drains its rings every 50 to 100 ms; what it does then belongs to the storm.
const DRAIN: Duration = Duration::from_millis(300);
/// Children of the storm: thousands of runs of each program that a spawn concerns.
const SPAWNS: u64 = 5_000;
/// Programs that run less often than this say nothing about their cost.
const MIN_RUNS: u64 = 50;
/// Command and argument of bpf(2) (`enum bpf_cmd` and `enum bpf_stats_type` in `linux/bpf.h`).
const BPF_ENABLE_STATS: libc::c_int = 32;
const BPF_STATS_RUN_TIME: u32 = 0;

/// Runs storms with the kernel's statistics on.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let agent = Agent::attached(&bench.agent)?;
    let ids = program_ids(agent.pid())?;
    let statistics = enable_statistics()?;
    let mut per_run: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let (mut programs_us, mut all_us) = (Vec::new(), Vec::new());
    for _ in 0..STORMS {
        let (before, agent_before_ns) = (runs(&ids)?, agent.cpu_ns()?);
        let storm = workload::storm(&bench.workload, SPAWNS / bench.scale, 1)?;
        std::thread::sleep(DRAIN);
        let agent_ns = agent.cpu_ns()? - agent_before_ns;
        let mut programs_ns = 0;
        for (name, (count, time_ns)) in runs(&ids)? {
            let (count_before, before_ns) = before.get(&name).copied().unwrap_or_default();
            let (count, time_ns) = (count.saturating_sub(count_before), time_ns.saturating_sub(before_ns));
            programs_ns += time_ns;
            if count >= MIN_RUNS {
                per_run.entry(name).or_default().push(time_ns as f64 / count as f64);
            }
        }
        let per_process_us = |time_ns: u64| time_ns as f64 / storm.spawns as f64 / 1e3;
        programs_us.push(per_process_us(programs_ns));
        all_us.push(per_process_us(programs_ns + agent_ns));
    }
    drop(statistics);
    agent.stop()?;
    let name = |program: &str| format!("{program}, ns per run");
    let mut figures: Vec<_> =
        per_run.into_iter().map(|(program, samples)| Figure::new(name(&program), None, samples)).collect();
    figures.push(Figure::new("all programs, us per process", None, programs_us));
    figures.push(Figure::new("programs and agent, us per process", Some(MAX_US_PER_PROCESS), all_us));
    Ok(figures)
}

/// Switches the statistics on for as long as the file is open; the kernel switches them off by itself then.
pub(super) fn enable_statistics() -> anyhow::Result<File> {
    let attributes = BPF_STATS_RUN_TIME;
    // SAFETY: the kernel reads as many bytes at the pointer as the size says, which is the size of what is there.
    let descriptor = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const attributes, size_of_val(&attributes))
    };
    let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0);
    let descriptor =
        descriptor.with_context(|| format!("bpf statistics: {}", std::io::Error::last_os_error()))?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// Ids of the programs whose descriptors, or whose links' descriptors, a process holds.
pub(super) fn program_ids(pid: u32) -> anyhow::Result<BTreeSet<u64>> {
    let mut ids = BTreeSet::new();
    for descriptor in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let info = std::fs::read_to_string(descriptor?.path()).unwrap_or_default();
        ids.extend(info_number(&info, "prog_id:"));
    }
    Ok(ids)
}

/// Runs and nanoseconds so far, by program name.
pub(super) fn runs(ids: &BTreeSet<u64>) -> anyhow::Result<BTreeMap<String, (u64, u64)>> {
    let bpftool = sh::on_path("bpftool").context("no bpftool here: apt-get install bpftool")?;
    let answer = sh::read(std::process::Command::new(bpftool).args(["-j", "prog", "show"]))?;
    let answer: serde_json::Value = serde_json::from_str(&answer).context("bpftool's answer")?;
    let programs = answer.as_array().context("bpftool's answer is no list")?;
    let ours = programs.iter().filter(|program| program["id"].as_u64().is_some_and(|id| ids.contains(&id)));
    let number = |program: &serde_json::Value, field: &str| program[field].as_u64().unwrap_or(0);
    Ok(ours
        .map(|program| {
            let name = program["name"].as_str().unwrap_or("?").to_owned();
            (name, (number(program, "run_cnt"), number(program, "run_time_ns")))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_programs_has_no_ids() {
        let ids = program_ids(std::process::id()).expect("a process can read its own fdinfo");
        assert_eq!(ids, BTreeSet::new());
    }
}
