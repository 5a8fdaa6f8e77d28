//! ADDs without the agent and with it: how much longer one takes, by the clock and in CPU time.
//!
//! One process makes pods with Debian's plugins, one after the other and all the time, in a network namespace of its own;
//! the agent comes and goes beside it. Short blocks of ADDs take turns: without, with, without, control, without... Each
//! block with the agent is compared with the two beside it, and so is each control, before which as much time goes by
//! without an agent: how far its ratio is from 1 is what this machine does by itself. ADDs while the agent comes are not
//! counted.

use super::Bench;
use super::agent::Agent;
use super::figure::{Figure, median};
use super::programs::{enable_statistics, program_ids, runs};
use super::workload::Adds;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The limit.
const MAX_ADD_RATIO: f64 = 1.03;
/// ADDs of one block: a third of a second, since machines drift. One after the other: what waits for a CPU says more about
/// the machine than about the agent.
const ADDS: u64 = 5;
/// ADDs before a block without the agent, which are not counted: it has just gone.
const WARM: u64 = 2;
/// After attaching: the agent has read what runs on the node by then, which it does once, and knows the programs that run.
const SETTLE: Duration = Duration::from_millis(500);
/// Blocks with the agent, and controls; odd, so that the median is one of them.
const RUNS: usize = 35;
/// ADDs while the kernel keeps statistics of its programs.
const COUNTED: u64 = 30;
/// The agent drains its rings every 50 to 100 ms; what it does then belongs to the ADDs.
const DRAIN: Duration = Duration::from_millis(300);

/// What one block's ADDs took, in the middle.
#[derive(Clone, Copy)]
struct Block {
    wall_ns: f64,
    cpu_ns: f64,
}

impl Block {
    fn run(adds: &mut Adds) -> anyhow::Result<Block> {
        let (wall_ns, cpu_ns) = adds.run(ADDS)?;
        Ok(Block { wall_ns: median(wall_ns), cpu_ns: median(cpu_ns) })
    }

    fn without(adds: &mut Adds) -> anyhow::Result<Block> {
        adds.run(WARM)?;
        Block::run(adds)
    }
}

/// Lets pods come and go for so long.
fn go_on(adds: &mut Adds, span: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < span {
        adds.run(1)?;
    }
    Ok(())
}

/// Ratios of blocks to their neighbours.
#[derive(Default)]
struct Ratios {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Ratios {
    fn add(&mut self, before: Block, block: Block, after: Block) {
        self.wall.push(2.0 * block.wall_ns / (before.wall_ns + after.wall_ns));
        self.cpu.push(2.0 * block.cpu_ns / (before.cpu_ns + after.cpu_ns));
    }
}

/// ADD with the agent against ADD without.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut adds = Adds::start(&bench.workload)?;
    let (mut with, mut control) = (Ratios::default(), Ratios::default());
    let mut before = Block::without(&mut adds)?;
    let mut without = vec![before];
    for turn in 1..=if bench.scale > 1 { 3 } else { RUNS } {
        let begun = Instant::now();
        let agent = Agent::start(&bench.agent)?;
        while !agent.is_attached() {
            adds.run(1)?;
        }
        go_on(&mut adds, SETTLE)?;
        let came = begun.elapsed();
        let block = Block::run(&mut adds)?;
        agent.stop()?;
        let between = Block::without(&mut adds)?;
        with.add(before, block, between);
        go_on(&mut adds, came)?;
        let block = Block::run(&mut adds)?;
        let after = Block::without(&mut adds)?;
        control.add(between, block, after);
        eprintln!(
            "run {turn}: ADD {:.2} ms without; x {:.3} with, x {:.3} control; CPU x {:.3} and x {:.3}",
            after.wall_ns / 1e6,
            with.wall[turn - 1],
            control.wall[turn - 1],
            with.cpu[turn - 1],
            control.cpu[turn - 1],
        );
        without.extend([between, after]);
        before = after;
    }
    let of = |part: fn(&Block) -> f64| without.iter().map(part).collect();
    let mut figures = vec![
        Figure::new("ADD with / without", Some(MAX_ADD_RATIO), with.wall),
        Figure::new("ADD control / without", None, control.wall),
        Figure::new("CPU of an ADD with / without", None, with.cpu),
        Figure::new("CPU of an ADD control / without", None, control.cpu),
        Figure::new("ADD without, ms", None, of(|block| block.wall_ns / 1e6)),
        Figure::new("CPU of an ADD without, ms", None, of(|block| block.cpu_ns / 1e6)),
    ];
    figures.extend(programs(bench, &mut adds)?);
    adds.end()?;
    Ok(figures)
}

/// What the agent's own parts take of it: kernel programs, by the kernel's statistics, and the agent. Of an ADD and the
/// DEL after it.
fn programs(bench: &Bench, adds: &mut Adds) -> anyhow::Result<Vec<Figure>> {
    let agent = Agent::attached(&bench.agent)?;
    std::thread::sleep(SETTLE);
    let ids = program_ids(agent.pid())?;
    let statistics = enable_statistics()?;
    adds.run(WARM)?;
    std::thread::sleep(DRAIN);
    let (before, agent_before_ns) = (runs(&ids)?, agent.cpu_ns()?);
    let count = (COUNTED / bench.scale).max(1);
    adds.run(count)?;
    std::thread::sleep(DRAIN);
    let agent_ns = agent.cpu_ns()? - agent_before_ns;
    let mut each: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (name, (ran, time_ns)) in runs(&ids)? {
        let (ran_before, before_ns) = before.get(&name).copied().unwrap_or_default();
        let per_add = |number: u64| number as f64 / count as f64;
        let took =
            (per_add(ran.saturating_sub(ran_before)), per_add(time_ns.saturating_sub(before_ns)) / 1e3);
        if took.0 > 0.0 {
            each.insert(name, took);
        }
    }
    drop(statistics);
    agent.stop()?;
    for (name, (ran, us)) in &each {
        eprintln!("{name}: {ran:.0} times per ADD and DEL, {us:.0} us");
    }
    let all_us = each.values().map(|(_, us)| us).sum();
    Ok(vec![
        Figure::new("all programs, us per ADD and DEL", None, vec![all_us]),
        Figure::new("agent's CPU, us per ADD and DEL", None, vec![agent_ns as f64 / count as f64 / 1e3]),
    ])
}
