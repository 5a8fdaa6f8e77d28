//! The command line: one file per verb. In: arguments. Out: what the user asked for, or a [`Failure`].

pub mod demo;
pub mod diagnose;
pub mod filters;
pub mod flux;
pub mod live;
pub mod options;
pub mod probes;
pub mod record;
pub mod replay;
pub mod resync;
pub mod run;
pub mod show;
pub mod tables;
pub mod top;

pub use crate::failure::Failure;

use clap::{Parser, Subcommand};

/// Says why a pod is slow to start and which daemon on this node burns the time, from outside the
/// processes and without touching them.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 missing privilege, \
                          4 this kernel cannot do it, 5 data are missing and --strict was given.";

/// What slowpod can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the agent: attach, and answer over HTTP until stopped.
    Run(run::Args),
    /// Attach, watch for a while, print ranked findings, leave nothing behind.
    Diagnose(diagnose::Args),
    /// Record into a file: a profile (.pb.gz, .svg, .folded, .txt), or everything that enters (.tape).
    Record(record::Args),
    /// Answer from a tape as a live agent would have.
    Replay(replay::Args),
    /// Ask a running agent which daemons spawn the most.
    Storms(show::Args),
    /// Ask a running agent what it finds wrong.
    Findings(show::Args),
    /// Ask a running agent for CNI calls: how long, for which pod, and what filled them.
    Cni(show::Args),
    /// Ask a running agent for pods' starts: how long, in which phase, and which phase is to blame.
    Pods(show::Pods),
    /// Ask a running agent for one pod's start, step by step.
    Pod(show::Pod),
    /// Ask a running agent for processes and their time splits.
    Processes(show::Args),
    /// Ask a running agent who talks netlink.
    Netlink(show::Args),
    /// Ask a running agent how long threads wait for a CPU, and who runs instead.
    Sched(show::Args),
    /// Ask a running agent who wakes whom, in what chains; it looks while you wait.
    Wakers(show::Args),
    /// Ask a running agent, again and again, who takes the CPUs, waits for them, blocks, and makes children.
    Top(top::Args),
    /// Try every probe on this kernel and say how each fares, without starting the agent.
    Probes(probes::Args),
    /// Measure a CNI with hollow pods, without kubelet or cluster.
    Flux(Box<flux::Args>),
    /// Show what slowpod does: run the agent, play a small proxy daemon's resync, print the finding.
    Demo(demo::Args),
    /// The daemon that `demo` watches.
    #[command(hide = true)]
    DemoDaemon(resync::Args),
}

/// Does what the arguments say.
///
/// # Errors
/// [`Failure`], which knows its exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.verb {
        Verb::Run(args) => run::run(args),
        Verb::Diagnose(args) => diagnose::run(args),
        Verb::Record(args) => record::run(args),
        Verb::Replay(args) => replay::run(args),
        Verb::Storms(args) => show::run("storms", args),
        Verb::Findings(args) => show::run("findings", args),
        Verb::Cni(args) => show::run("cni", args),
        Verb::Pods(args) => show::pods(args),
        Verb::Pod(args) => show::pod(args),
        Verb::Processes(args) => show::run("processes", args),
        Verb::Netlink(args) => show::run("netlink", args),
        Verb::Sched(args) => show::run("sched", args),
        Verb::Wakers(args) => show::run("wakers", args),
        Verb::Top(args) => top::run(args),
        Verb::Probes(args) => probes::run(args),
        Verb::Flux(args) => flux::run(*args),
        Verb::Demo(args) => demo::run(args),
        Verb::DemoDaemon(args) => resync::run(args),
    }
}
