//! The tests' workload, run from here: children at full speed, with its own account of time and CPU.

use crate::sh;
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

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

/// The workload, without what cargo and rustup put into our environment: every exec's is looked through, and a daemon has
/// nothing of that.
fn plain(workload: &Path) -> Command {
    let mut command = Command::new(workload);
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| is_of_toolchain(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

/// Whether a variable of this name is the toolchain's, or cargo's for the programs it runs.
fn is_of_toolchain(name: &str) -> bool {
    name.starts_with("CARGO") || name.starts_with("RUST") || name == "LD_LIBRARY_PATH"
}

/// Spawns `/bin/true` this many times.
pub(super) fn storm(workload: &Path, spawns: u64, spawners: u32) -> anyhow::Result<Storm> {
    storm_of(workload, Path::new("/bin/true"), spawns, spawners)
}

/// Spawns a program this many times that exits with 0.
pub(super) fn storm_of(workload: &Path, program: &Path, spawns: u64, spawners: u32) -> anyhow::Result<Storm> {
    let mut command = plain(workload);
    command.args(["storm", "--brief", "--limit-s", LIMIT_S, "--program"]).arg(program);
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

/// A process that makes pods when it is told to. Dropping one that was not ended kills it.
pub(super) struct Adds {
    child: Child,
    told: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Adds {
    /// Starts it; it waits to be told.
    pub(super) fn start(workload: &Path) -> anyhow::Result<Adds> {
        let dir = sh::target_dir().join("bench-cni");
        std::fs::create_dir_all(&dir)?;
        let mut command = plain(workload);
        command.args(["adds", "--limit-s", LIMIT_S, "--dir"]).arg(dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let told = child.stdin.take();
        let says = BufReader::new(child.stdout.take().context("it was piped")?);
        Ok(Adds { child, told, says })
    }

    /// Lets so many pods come and go; wall and CPU time of each ADD, in nanoseconds.
    pub(super) fn run(&mut self, count: u64) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        let told = self.told.as_mut().context("it was ended")?;
        writeln!(told, "{count}")?;
        let mut answer = String::new();
        self.says.read_line(&mut answer)?;
        let said = || format!("the workload says {answer:?}");
        let block: serde_json::Value = serde_json::from_str(&answer).with_context(said)?;
        let of = |name: &str| -> Option<Vec<f64>> {
            block[name].as_array()?.iter().map(serde_json::Value::as_f64).collect()
        };
        Ok((of("wall_ns").with_context(said)?, of("cpu_ns").with_context(said)?))
    }

    /// Ends it.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        drop(self.told.take());
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the workload ended badly ({status})");
        }
        Ok(())
    }
}

impl Drop for Adds {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is how it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    fn a_daemon_has_nothing_of_the_toolchains() {
        assert!(
            ["CARGO_PKG_NAME", "CARGO", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"]
                .iter()
                .all(|name| is_of_toolchain(name))
        );
        assert!(!["PATH", "HOME", "KUBERNETES_SERVICE_HOST"].iter().any(|name| is_of_toolchain(name)));
    }

    #[test]
    fn reads_the_last_line() {
        let answer = "{\"ready\":true}\n{\"storm_start_ns\":5,\"storm_end_ns\":9,\"family_cpu_ns\":7}\n";
        let storm = parse(answer, 3).expect("all fields are there");
        assert_eq!((storm.spawns, storm.wall_ns, storm.cpu_ns), (3, 4.0, 7.0));
        assert!(parse("{}", 3).is_none());
    }
}
