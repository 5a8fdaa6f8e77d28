//! `cargo xtask bench`: what the agent costs. In: a release agent and the tests' workload. Out: a table, and the same
//! as `target/bench.json`.
//!
//! Times on a shared machine wander, so whatever can be is a ratio of neighbours: the same work without the agent
//! and with it, in alternating order; the median of the pairs is the figure, and the range stands beside it.

mod agent;
mod attach;
mod cni;
mod favour;
mod figure;
mod footprint;
mod profiles;
mod programs;
mod storm;
mod symbols;
mod workload;

use crate::sh;
use anyhow::{Context, bail};
use figure::Figure;
use std::path::PathBuf;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A tenth of the work, to see that everything can be measured; the figures mean little.
    #[arg(long)]
    quick: bool,
    /// Measure only these: storm, cni, attach, footprint, programs, profiles, symbols.
    #[arg(long)]
    only: Vec<String>,
    /// Fail when a limit is missed.
    #[arg(long)]
    gate: bool,
}

/// What the measurements work with.
struct Bench {
    agent: PathBuf,
    workload: PathBuf,
    /// Divides the amount of work.
    scale: u64,
}

type Measure = fn(&Bench) -> anyhow::Result<Vec<Figure>>;

/// Everything that is measured.
const MEASURES: &[(&str, Measure)] = &[
    ("storm", storm::measure),
    ("cni", cni::measure),
    ("attach", attach::measure),
    ("footprint", footprint::measure),
    ("programs", programs::measure),
    ("profiles", profiles::measure),
    ("symbols", symbols::measure),
];

/// Measures and prints.
///
/// # Errors
/// When something cannot be measured at all, or, with `--gate`, when a limit is missed.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    if !sh::is_root() {
        bail!("the agent loads kernel programs: run as root");
    }
    let names: Vec<_> = MEASURES.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = options.only.iter().find(|only| !names.contains(&only.as_str())) {
        bail!("no measure {unknown:?}; there are: {}", names.join(", "));
    }
    sh::run(&mut sh::cargo(&["build", "--release", "--workspace", "--bin", "slowpod", "--bin", "workload"]))?;
    let release = sh::target_dir().join("release");
    let bench = Bench {
        agent: release.join("slowpod"),
        workload: release.join("workload"),
        scale: if options.quick { 10 } else { 1 },
    };
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("?");
    let favour = favour::Favour::ask();
    let mut figures = Vec::new();
    for (name, measure) in MEASURES {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            eprintln!("\n== {name}");
            figures.extend(measure(&bench).with_context(|| format!("measuring {name}"))?);
        }
    }
    drop(favour);
    print!("\n{}", figure::table(&figures));
    println!("load of the machine when it began: {load}");
    let json = serde_json::json!({ "load_1m": load, "figures": figures.iter().map(Figure::json).collect::<Vec<_>>() });
    let file = sh::target_dir().join("bench.json");
    std::fs::write(&file, serde_json::to_string_pretty(&json)? + "\n")?;
    println!("written to {}", file.display());
    let missed = figures.iter().filter(|figure| !figure.holds()).count();
    if options.gate && missed > 0 {
        bail!("{missed} limits missed");
    }
    Ok(())
}
