//! An exec storm without the agent and with it: how much longer it takes, and what each process costs more.
//!
//! Runs without and with the agent alternate, and begin and end without. Each run with it is compared with the mean of
//! its two neighbours, so that a steady drift of the machine cancels out; how far neighbours without it differ from one
//! another is shown too: nothing smaller than that is known.
//!
//! A storm of `/bin/true` differs from the next by more than the agent costs: most of it is the C library's start. So there
//! is one more, of a program that only exits, in which the agent's cost per process can be seen.
//!
//! What the agent does once, however many processes follow (it reads the names of the kernel's functions and those of
//! the spawner's program), it does in a small storm before the one that is measured, and is a figure of its own.

use super::Bench;
use super::agent::Agent;
use super::figure::Figure;
use super::workload::{self, Storm};
use crate::sh;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The issue's limits.
const MAX_WALL_RATIO: f64 = 1.05;
const MAX_US_PER_PROCESS: f64 = 20.0;
/// Children of one run: two to five seconds, far longer than what starts and ends it.
const SPAWNS: u64 = 5_000;
/// Runs with the agent; odd, so that the median is one of them.
const RUNS: usize = 11;
/// Children of the small storm before it.
const FIRST_SPAWNS: u64 = 100;
/// The agent drains its rings every 50 to 100 ms; what it does then belongs to the storm.
const DRAIN: Duration = Duration::from_millis(300);

/// Of the small program: its runs are short, and what is looked for is small.
const SMALL_RUNS: usize = 21;
/// A program that only exits, without a C library.
const SMALL: &str = r#"
void _start(void) {
#if defined(__x86_64__)
    __asm__ volatile("mov $60, %eax; xor %edi, %edi; syscall");
#elif defined(__aarch64__)
    __asm__ volatile("mov x8, #93; mov x0, #0; svc #0");
#endif
    __builtin_unreachable();
}
"#;

/// One run with the agent, between two without.
struct Triple {
    before: Storm,
    with: Attached,
    after: Storm,
}

/// A run with the agent.
struct Attached {
    storm: Storm,
    agent_cpu_ns: f64,
    /// The agent's CPU in the small storm before it.
    once_cpu_ns: f64,
    lost: f64,
}

/// Storms of one and of four spawners.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for spawners in [1, 4] {
        let runs = if bench.scale > 1 { 3 } else { RUNS };
        let triples = triples(bench, Path::new("/bin/true"), spawners, runs)?;
        let of = |value: fn(&Triple) -> f64| triples.iter().map(value).collect::<Vec<_>>();
        let name = |what: &str| format!("storm, {spawners} spawners: {what}");
        figures.extend([
            Figure::new(name("wall with / without"), Some(MAX_WALL_RATIO), of(Triple::wall_ratio)),
            Figure::new(name("wall without / without"), None, of(Triple::wall_noise)),
            Figure::new(name("extra CPU per process, us"), Some(MAX_US_PER_PROCESS), of(Triple::extra_us)),
            Figure::new(name("CPU without - without, us"), None, of(Triple::noise_us)),
            Figure::new(name("agent's CPU per process, us"), None, of(Triple::agent_us)),
            Figure::new(
                name("agent's CPU in its first storm, once, ms"),
                None,
                of(|triple| triple.with.once_cpu_ns / 1e6),
            ),
            Figure::new(name("CPU per process without, us"), None, of(|triple| triple.before.cpu_us())),
            Figure::new(name("records lost"), Some(0.0), of(|triple| triple.with.lost)),
        ]);
    }
    figures.extend(small(bench)?);
    Ok(figures)
}

/// A storm of programs that only exit.
fn small(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let program = built()?;
    let triples = triples(bench, &program, 1, if bench.scale > 1 { 3 } else { SMALL_RUNS })?;
    let of = |value: fn(&Triple) -> f64| triples.iter().map(value).collect::<Vec<_>>();
    let name = |what: &str| format!("storm of a program that only exits: {what}");
    Ok(vec![
        Figure::new(name("wall with / without"), None, of(Triple::wall_ratio)),
        Figure::new(name("extra CPU per process, us"), Some(MAX_US_PER_PROCESS), of(Triple::extra_us)),
        Figure::new(name("CPU without - without, us"), None, of(Triple::noise_us)),
        Figure::new(name("agent's CPU per process, us"), None, of(Triple::agent_us)),
        Figure::new(name("CPU per process without, us"), None, of(|triple| triple.before.cpu_us())),
        Figure::new(name("records lost"), Some(0.0), of(|triple| triple.with.lost)),
    ])
}

/// That program, built.
fn built() -> anyhow::Result<PathBuf> {
    let dir = sh::target_dir().join("bench-storm");
    std::fs::create_dir_all(&dir)?;
    let (source, program) = (dir.join("exits.c"), dir.join("exits"));
    std::fs::write(&source, SMALL)?;
    sh::run(Command::new("cc").args(["-O1", "-static", "-nostdlib", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

fn triples(bench: &Bench, program: &Path, spawners: u32, runs: usize) -> anyhow::Result<Vec<Triple>> {
    let spawns = SPAWNS / bench.scale;
    let without = || {
        // Both kinds of run start from the same rest.
        std::thread::sleep(DRAIN);
        workload::storm_of(&bench.workload, program, spawns, spawners)
    };
    let mut before = without()?;
    let mut triples = Vec::new();
    for turn in 1..=runs {
        let with = attached(bench, program, spawns, spawners)?;
        let after = without()?;
        let triple = Triple { before, with, after };
        let (ratio, extra_us) = (triple.wall_ratio(), triple.extra_us());
        eprintln!("{spawners} spawners, run {turn}: wall x {ratio:.3}, {extra_us:+.1} us per process");
        triples.push(triple);
        before = after;
    }
    Ok(triples)
}

fn attached(bench: &Bench, program: &Path, spawns: u64, spawners: u32) -> anyhow::Result<Attached> {
    let agent = Agent::attached(&bench.agent)?;
    // What attaching itself costs is measured elsewhere.
    std::thread::sleep(DRAIN);
    let begun_ns = agent.cpu_ns()?;
    workload::storm_of(&bench.workload, program, FIRST_SPAWNS, spawners)?;
    // Names are looked up behind everything else.
    std::thread::sleep(3 * DRAIN);
    let before_ns = agent.cpu_ns()?;
    let storm = workload::storm_of(&bench.workload, program, spawns, spawners)?;
    std::thread::sleep(DRAIN);
    let agent_cpu_ns = (agent.cpu_ns()? - before_ns) as f64;
    let lost = lost(&agent.json("/api/v1/storms?seconds=60")?);
    agent.stop()?;
    let once_cpu_ns = (before_ns - begun_ns) as f64;
    Ok(Attached { storm, agent_cpu_ns, once_cpu_ns, lost })
}

impl Triple {
    fn wall_ratio(&self) -> f64 {
        2.0 * self.with.storm.wall_ns / (self.before.wall_ns + self.after.wall_ns)
    }

    fn wall_noise(&self) -> f64 {
        self.after.wall_ns / self.before.wall_ns
    }

    /// CPU that each process costs more, the agent's own included.
    fn extra_us(&self) -> f64 {
        self.with.storm.cpu_us() + self.agent_us() - (self.before.cpu_us() + self.after.cpu_us()) / 2.0
    }

    fn noise_us(&self) -> f64 {
        self.after.cpu_us() - self.before.cpu_us()
    }

    fn agent_us(&self) -> f64 {
        self.with.agent_cpu_ns / self.with.storm.spawns as f64 / 1e3
    }
}

/// Records lost, of all kinds, as the answer's completeness block has them.
fn lost(answer: &serde_json::Value) -> f64 {
    match &answer["completeness"]["lost"] {
        serde_json::Value::Object(kinds) => {
            kinds.values().filter_map(serde_json::Value::as_f64).fold(0.0, |sum, lost| sum + lost)
        }
        number => number.as_f64().unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_cpu_counts() {
        let storm = |wall_ns, cpu_ns| Storm { spawns: 1000, wall_ns, cpu_ns };
        let with = Attached { storm: storm(5e9, 2.02e9), agent_cpu_ns: 5e6, once_cpu_ns: 0.0, lost: 0.0 };
        let triple = Triple { before: storm(3e9, 2e9), with, after: storm(5e9, 2.02e9) };
        assert_eq!((triple.wall_ratio(), triple.extra_us()), (1.25, 15.0));
        assert_eq!(triple.noise_us(), 20.0);
    }

    #[test]
    fn an_answer_without_losses_block_is_no_zero() {
        assert_eq!(lost(&serde_json::json!({"completeness": {"lost": {"exec": 2, "exit": 1}}})), 3.0);
        assert_eq!(lost(&serde_json::json!({"completeness": {"lost": {}}})), 0.0);
        assert!(lost(&serde_json::json!({})).is_nan());
    }
}
