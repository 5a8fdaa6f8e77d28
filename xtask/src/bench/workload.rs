//! The tests' workload, run from here: children at full speed, with its own account of time and CPU.

use crate::sh;
use anyhow::Context;
use std::path::Path;
use std::process::Command;

/// Longest run, above which the workload ends itself: 100,000 children take two minutes and a half at worst.
const LIMIT_S: &str = "900";

/// A storm's own account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storm {
    /// Children it made.
    pub(super) spawns: u64,
    /// From its first spawn to its last reap.
    pub(super) wall_ns: f64,
    /// CPU of the spawners and of all children.
    pub(super) cpu_ns: f64,
}

impl Storm {
    /// CPU of each process, its spawner's share included, in microseconds.
    pub(super) fn cpu_us(&self) -> f64 {
        self.cpu_ns / self.spawns as f64 / 1e3
    }
}

/// Spawns `/bin/true` this many times.
pub(super) fn storm(workload: &Path, spawns: u64, spawners: u32) -> anyhow::Result<Storm> {
    let mut command = Command::new(workload);
    command.args(["storm", "--brief", "--limit-s", LIMIT_S]);
    command.args(["--count", &spawns.to_string(), "--spawners", &spawners.to_string()]);
    let answer = sh::read(&mut command)?;
    parse(&answer, spawns).with_context(|| format!("the workload says {answer:?}"))
}

/// Seconds that drawing a flame graph of a million samples takes.
pub(super) fn render_s(workload: &Path) -> anyhow::Result<f64> {
    let answer = sh::read(Command::new(workload).args(["render", "--samples", "1000000", "--frames", "50"]))?;
    let truth: serde_json::Value = serde_json::from_str(&answer).context("what the workload says")?;
    let took_ns = truth["render_ns"].as_f64();
    Ok(took_ns.with_context(|| format!("the workload says {answer:?}"))? / 1e9)
}

fn parse(answer: &str, spawns: u64) -> Option<Storm> {
    let answer: serde_json::Value = serde_json::from_str(answer.lines().last()?).ok()?;
    let wall_ns = answer["storm_end_ns"].as_f64()? - answer["storm_start_ns"].as_f64()?;
    Some(Storm { spawns, wall_ns, cpu_ns: answer["family_cpu_ns"].as_f64()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_last_line() {
        let answer = "{\"ready\":true}\n{\"storm_start_ns\":5,\"storm_end_ns\":9,\"family_cpu_ns\":7}\n";
        let storm = parse(answer, 3).expect("all fields are there");
        assert_eq!((storm.spawns, storm.wall_ns, storm.cpu_ns), (3, 4.0, 7.0));
        assert!(parse("{}", 3).is_none());
    }
}
