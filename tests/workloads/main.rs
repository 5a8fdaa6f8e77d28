//! Workloads for the live-kernel tests: one program, one scenario per run, and the ground truth of it as one
//! line of JSON. Times are CLOCK_MONOTONIC, the clock of the kernel's own stamps; `pid` is this process.
//!
//! Every scenario bounds itself, cleans up, and fails (exit code 1, the reason on stderr) when it could not do
//! exactly what its line would say. Exit code 2 is bad usage.

mod adds;
mod args;
mod argv;
mod baton;
mod cgroup;
mod exec_kinds;
mod lineage;
mod loops;
mod naps;
mod netlink;
mod netlink_requests;
mod netlink_socket;
mod outcomes;
mod pid_recycle;
mod profile;
mod render;
mod shared;
mod spawn;
mod split;
mod split_fault;
mod split_rig;
mod storm;
mod symbolise;
mod sys;
mod threads;

use std::io::{BufRead, Write};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use args::Args;

/// Checks its options and returns the work; nothing is done before [`Scenario::prepare`] has accepted them all.
type Work = Box<dyn FnOnce() -> Result<Value>>;

/// One thing this program can do.
struct Scenario {
    name: &'static str,
    options: &'static str,
    prepare: fn(&mut Args) -> Result<Work>,
}

/// Options that every scenario takes.
const COMMON_OPTIONS: &str = "[--gate] [--limit-s SECONDS]";
/// Longest life of a run, unless --limit-s says otherwise.
const LIMIT_S: u32 = 120;

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "adds", options: adds::OPTIONS, prepare: adds::prepare },
    Scenario { name: "storm", options: storm::OPTIONS, prepare: storm::prepare },
    Scenario { name: "split", options: split::OPTIONS, prepare: split::prepare },
    Scenario { name: "argv", options: argv::OPTIONS, prepare: argv::prepare },
    Scenario { name: "exec-deleted", options: "", prepare: exec_kinds::prepare_deleted },
    Scenario { name: "exec-script", options: "", prepare: exec_kinds::prepare_script },
    Scenario { name: "exec-from-thread", options: "", prepare: exec_kinds::prepare_from_thread },
    Scenario { name: "exec-chain", options: exec_kinds::CHAIN_OPTIONS, prepare: exec_kinds::prepare_chain },
    Scenario {
        name: "path-search",
        options: exec_kinds::PATH_OPTIONS,
        prepare: exec_kinds::prepare_path_search,
    },
    Scenario { name: "exit-before-exec", options: "", prepare: lineage::prepare_exit_before_exec },
    Scenario { name: "fork-only", options: lineage::FORK_OPTIONS, prepare: lineage::prepare_fork_only },
    Scenario { name: "double-fork", options: "", prepare: lineage::prepare_double_fork },
    Scenario { name: "clone-parent", options: "", prepare: lineage::prepare_clone_parent },
    Scenario { name: "parent-dies-first", options: "", prepare: lineage::prepare_parent_dies_first },
    Scenario { name: "pid-recycle", options: pid_recycle::OPTIONS, prepare: pid_recycle::prepare },
    Scenario { name: "signal-death", options: "", prepare: outcomes::prepare_signals },
    Scenario { name: "exit-code", options: outcomes::EXIT_OPTIONS, prepare: outcomes::prepare_exit_code },
    Scenario { name: "threads", options: threads::OPTIONS, prepare: threads::prepare },
    Scenario { name: "loop", options: loops::LOOP_OPTIONS, prepare: loops::prepare_loop },
    Scenario { name: "probe-burst", options: loops::PROBE_OPTIONS, prepare: loops::prepare_probe_burst },
    Scenario { name: "shell", options: loops::SHELL_OPTIONS, prepare: loops::prepare_shell },
    Scenario { name: "shares", options: profile::SHARES_OPTIONS, prepare: profile::prepare_shares },
    Scenario { name: "deep", options: profile::DEEP_OPTIONS, prepare: profile::prepare_deep },
    Scenario { name: "crowd", options: profile::CROWD_OPTIONS, prepare: profile::prepare_crowd },
    Scenario { name: "naps", options: naps::OPTIONS, prepare: naps::prepare },
    Scenario { name: "baton", options: baton::OPTIONS, prepare: baton::prepare },
    Scenario { name: "render", options: render::OPTIONS, prepare: render::prepare },
    Scenario { name: "symbolise", options: symbolise::OPTIONS, prepare: symbolise::prepare },
    Scenario { name: "cgroup-churn", options: cgroup::OPTIONS, prepare: cgroup::prepare },
    Scenario { name: "netlink-storm", options: netlink::OPTIONS, prepare: netlink::prepare },
];

fn main() {
    let mut words = std::env::args_os().skip(1);
    let name = words.next().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == name) else {
        eprint!("{}", usage());
        std::process::exit(if name == "--help" { 0 } else { 2 });
    };
    let (common, work) = match prepare(scenario, words) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("workload {name}: {error:#}\nusage: workload {name} {}", scenario.options);
            std::process::exit(2);
        }
    };
    if let Err(error) = run(&name, common, work) {
        eprintln!("workload {name}: {error:#}");
        std::process::exit(1);
    }
}

/// What the common options ask for.
struct Common {
    gate: bool,
    limit_s: u32,
}

fn prepare(scenario: &Scenario, words: impl Iterator<Item = std::ffi::OsString>) -> Result<(Common, Work)> {
    let mut args = Args::new(words)?;
    let common = Common { gate: args.flag("--gate"), limit_s: args.value("--limit-s", LIMIT_S)? };
    if common.limit_s == 0 {
        bail!("--limit-s must not be 0");
    }
    let work = (scenario.prepare)(&mut args)?;
    args.finish()?;
    Ok((common, work))
}

fn run(name: &str, common: Common, work: Work) -> Result<()> {
    sys::end_after_seconds(common.limit_s);
    let pid = std::process::id();
    if common.gate {
        print_line(&json!({ "ready": true, "pid": pid }))?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).context("waiting at the gate")? == 0 {
            bail!("stdin closed before the word to go");
        }
    }
    let start_ns = sys::monotonic_ns();
    let mut truth = work()?;
    let end_ns = sys::monotonic_ns();
    let fields = truth.as_object_mut().context("a scenario's truth is an object")?;
    fields.insert("scenario".into(), json!(name));
    fields.insert("pid".into(), json!(pid));
    fields.insert("start_ns".into(), json!(start_ns));
    fields.insert("end_ns".into(), json!(end_ns));
    fields.insert("wall_ns".into(), json!(end_ns - start_ns));
    fields.insert("family_cpu_ns".into(), json!(sys::family_cpu_ns()));
    print_line(&truth)
}

fn print_line(line: &Value) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("stdout")
}

fn usage() -> String {
    let mut text = format!("usage: workload SCENARIO {COMMON_OPTIONS} [options]\n");
    for scenario in SCENARIOS {
        text += format!("  {:18} {}", scenario.name, scenario.options).trim_end();
        text += "\n";
    }
    text
}
