//! What the agent takes when nothing happens and after much has happened: CPU when idle, memory after 100,000 children.

use super::Bench;
use super::agent::Agent;
use super::figure::Figure;
use super::workload;
use anyhow::Context;
use std::time::{Duration, Instant};

/// The limits.
const MAX_IDLE_PERCENT: f64 = 0.3;
const MAX_RSS_MIB: f64 = 64.0;
/// Children spawned before the memory is read; they take two minutes.
const SPAWNS: u64 = 100_000;
/// The idle agent is watched in slices, so that one burst of something else shows as one bad slice.
const SLICES: usize = 5;
const SLICE: Duration = Duration::from_secs(4);
/// Pause after the start and after the storm, until the agent has done what it still has to do.
const SETTLE: Duration = Duration::from_secs(2);

/// Watches one agent, idle first and then through a long storm.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let agent = Agent::attached(&bench.agent)?;
    std::thread::sleep(SETTLE);
    let idle = (0..SLICES).map(|_| idle_percent(&agent)).collect::<anyhow::Result<Vec<_>>>()?;
    let spawns = SPAWNS / bench.scale;
    workload::storm(&bench.workload, spawns, 4)?;
    std::thread::sleep(SETTLE);
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let resident = status_mib(&status, "VmRSS:").context("no VmRSS in /proc/PID/status")?;
    let peak = status_mib(&status, "VmHWM:").context("no VmHWM in /proc/PID/status")?;
    let maps = kernel_maps_mib(agent.pid())?;
    agent.stop()?;
    Ok(vec![
        Figure::new("idle CPU, % of one core", Some(MAX_IDLE_PERCENT), idle),
        Figure::new(
            format!("resident memory after {spawns} children, MiB"),
            Some(MAX_RSS_MIB),
            vec![resident],
        ),
        Figure::new("peak of resident memory, MiB", None, vec![peak]),
        Figure::new("kernel maps, MiB", None, vec![maps]),
    ])
}

fn idle_percent(agent: &Agent) -> anyhow::Result<f64> {
    let (started, before_ns) = (Instant::now(), agent.cpu_ns()?);
    std::thread::sleep(SLICE);
    let used_ns = agent.cpu_ns()? - before_ns;
    Ok(100.0 * used_ns as f64 / started.elapsed().as_nanos() as f64)
}

/// A field of `/proc/PID/status` that the kernel gives in kB (which are KiB).
fn status_mib(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// Memory of the kernel maps whose descriptors the process holds (`memlock` in fdinfo), each map once.
fn kernel_maps_mib(pid: u32) -> anyhow::Result<f64> {
    let mut maps = std::collections::BTreeMap::new();
    for descriptor in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor that is closed meanwhile was no map of a running agent.
        let info = std::fs::read_to_string(descriptor?.path()).unwrap_or_default();
        if let (Some(id), Some(bytes)) = (info_number(&info, "map_id:"), info_number(&info, "memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum::<u64>() as f64 / f64::from(1 << 20))
}

/// A number in an fdinfo text.
pub(super) fn info_number(info: &str, field: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(field)).and_then(|value| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let status = "Name:\tslowpod\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(status_mib(status, "VmRSS:"), Some(10.0));
        assert_eq!(status_mib(status, "VmSwap:"), None);
        assert_eq!(info_number("pos:\t0\nmap_id:\t12\nmemlock:\t4096\n", "memlock:"), Some(4096));
    }
}
