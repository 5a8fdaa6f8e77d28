//! An exec storm without the agent and with it: how much longer it takes, and what each process costs more.

use super::Bench;
use super::agent::Agent;
use super::figure::Figure;
use super::workload::{self, Storm};
use std::time::Duration;

/// The limits.
const MAX_WALL_RATIO: f64 = 1.05;
const MAX_US_PER_PROCESS: f64 = 20.0;
/// Children of one run: two to five seconds, far longer than what starts and ends it.
const SPAWNS: u64 = 5_000;
/// Runs of each kind; odd, so that the median is one of them.
const PAIRS: usize = 9;
/// The agent drains its rings every 50 to 100 ms; what it does then belongs to the storm.
const DRAIN: Duration = Duration::from_millis(300);

/// One run with the agent, and its neighbour without.
struct Pair {
    without: Storm,
    with: Storm,
    agent_cpu_ns: f64,
    lost: f64,
}

/// Storms of one and of four spawners.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for spawners in [1, 4] {
        let pairs =
            (0..pairs(bench)).map(|turn| pair(bench, spawners, turn)).collect::<anyhow::Result<Vec<_>>>()?;
        let of = |value: fn(&Pair) -> f64| pairs.iter().map(value).collect::<Vec<_>>();
        let name = |what: &str| format!("storm, {spawners} spawners: {what}");
        figures.extend([
            Figure::new(name("wall with / without"), Some(MAX_WALL_RATIO), of(wall_ratio)),
            Figure::new(
                name("extra CPU per process, us, agent included"),
                Some(MAX_US_PER_PROCESS),
                of(extra_us),
            ),
            Figure::new(name("agent's CPU per process, us"), None, of(agent_us)),
            Figure::new(name("CPU per process without, us"), None, of(base_us)),
            Figure::new(name("records lost"), Some(0.0), of(|pair| pair.lost)),
        ]);
    }
    Ok(figures)
}

fn pairs(bench: &Bench) -> usize {
    if bench.scale > 1 { 3 } else { PAIRS }
}

/// Every other pair runs the other way round, so that a drift of the machine favours neither side.
fn pair(bench: &Bench, spawners: u32, turn: usize) -> anyhow::Result<Pair> {
    let spawns = SPAWNS / bench.scale;
    let without = || workload::storm(&bench.workload, spawns, spawners);
    let before = turn.is_multiple_of(2).then(without).transpose()?;
    let agent = Agent::attached(&bench.agent)?;
    // What attaching itself costs is measured elsewhere.
    std::thread::sleep(DRAIN);
    let cpu_before_ns = agent.cpu_ns()?;
    let with = workload::storm(&bench.workload, spawns, spawners)?;
    std::thread::sleep(DRAIN);
    let agent_cpu_ns = (agent.cpu_ns()? - cpu_before_ns) as f64;
    let lost = lost(&agent.json("/api/v1/storms?seconds=60")?);
    agent.stop()?;
    let without = before.map_or_else(without, Ok)?;
    let pair = Pair { without, with, agent_cpu_ns, lost };
    eprintln!(
        "{spawners} spawners, pair {}: wall x {:.3}, {:+.1} us per process",
        turn + 1,
        wall_ratio(&pair),
        extra_us(&pair)
    );
    Ok(pair)
}

/// Records lost, of all kinds, as the answer's completeness block has them.
fn lost(answer: &serde_json::Value) -> f64 {
    match &answer["completeness"]["lost"] {
        serde_json::Value::Object(kinds) => kinds.values().filter_map(serde_json::Value::as_f64).sum(),
        number => number.as_f64().unwrap_or(f64::NAN),
    }
}

fn wall_ratio(pair: &Pair) -> f64 {
    pair.with.wall_ns / pair.without.wall_ns
}

fn extra_us(pair: &Pair) -> f64 {
    (pair.with.cpu_ns + pair.agent_cpu_ns - pair.without.cpu_ns) / pair.with.spawns as f64 / 1e3
}

fn agent_us(pair: &Pair) -> f64 {
    pair.agent_cpu_ns / pair.with.spawns as f64 / 1e3
}

fn base_us(pair: &Pair) -> f64 {
    pair.without.cpu_ns / pair.without.spawns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_cpu_counts() {
        let storm = |wall_ns, cpu_ns| Storm { spawns: 1000, wall_ns, cpu_ns };
        let pair = Pair { without: storm(4e9, 2e9), with: storm(5e9, 2.01e9), agent_cpu_ns: 5e6, lost: 0.0 };
        assert_eq!((wall_ratio(&pair), extra_us(&pair)), (1.25, 15.0));
    }

    #[test]
    fn an_answer_without_losses_block_is_no_zero() {
        assert_eq!(lost(&serde_json::json!({"completeness": {"lost": {"exec": 2, "exit": 1}}})), 3.0);
        assert_eq!(lost(&serde_json::json!({"completeness": {"lost": {}}})), 0.0);
        assert!(lost(&serde_json::json!({})).is_nan());
    }
}
