//! Hollow pods without the agent and with it: how much longer an ADD takes.
//!
//! `slowpod flux` makes the pods, by Debian's plugins, in a network namespace that goes with the run. As with the storm,
//! runs alternate and each with the agent is compared with the mean of its neighbours.

use super::Bench;
use super::agent::Agent;
use super::figure::Figure;
use crate::sh;
use anyhow::Context;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// The limit.
const MAX_ADD_RATIO: f64 = 1.03;
/// Pods of one run, one after the other: what waits for a CPU says more about the machine than about the agent.
const PODS: u64 = 40;
/// Rest after attaching: the agent has read what runs on the node by then, which it does once.
const SETTLE: Duration = Duration::from_secs(2);
/// Runs with the agent; odd, so that the median is one of them.
const RUNS: usize = 11;
/// Debian's plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// Latencies of ADD, in ns.
#[derive(Clone, Copy)]
struct Add {
    p50_ns: f64,
    p90_ns: f64,
}

/// ADD with the agent against ADD without.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (mut ratios, mut tails, mut noise, mut plain) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut before = adds(bench)?;
    for turn in 1..=if bench.scale > 1 { 3 } else { RUNS } {
        let agent = Agent::attached(&bench.agent)?;
        std::thread::sleep(SETTLE);
        let with = adds(bench)?;
        agent.stop()?;
        let after = adds(bench)?;
        let ratio = 2.0 * with.p50_ns / (before.p50_ns + after.p50_ns);
        eprintln!("run {turn}: ADD {:.2} ms without, x {ratio:.3} with", after.p50_ns / 1e6);
        ratios.push(ratio);
        tails.push(2.0 * with.p90_ns / (before.p90_ns + after.p90_ns));
        noise.push(after.p50_ns / before.p50_ns);
        plain.push(after.p50_ns / 1e6);
        before = after;
    }
    Ok(vec![
        Figure::new("ADD p50 with / without", Some(MAX_ADD_RATIO), ratios),
        Figure::new("ADD p90 with / without", None, tails),
        Figure::new("ADD p50 without / without", None, noise),
        Figure::new("ADD p50 without, ms", None, plain),
    ])
}

fn adds(bench: &Bench) -> anyhow::Result<Add> {
    let dir = sh::target_dir().join("bench-cni");
    std::fs::create_dir_all(&dir)?;
    let ipam = json!({
        "type": "host-local", "dataDir": dir.join("leases"), "ranges": [[{ "subnet": "10.96.0.0/16" }]],
    });
    let bridge =
        json!({ "type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true, "ipam": ipam });
    let list = json!({ "cniVersion": "1.0.0", "name": "bench", "plugins": [bridge] });
    let conflist = dir.join("bench.conflist");
    std::fs::write(&conflist, list.to_string())?;
    let pods = (PODS / bench.scale).max(1).to_string();
    let mut flux = Command::new("unshare");
    flux.arg("--net").arg(&bench.agent).args(["flux", "--output", "json", "--plugin-dir", PLUGINS]);
    flux.args(["--pods", &pods, "--concurrency", "1"]).arg("--conflist").arg(&conflist);
    let report = sh::read(flux.arg("--state-dir").arg(dir.join("notes")))?;
    let report: Value = serde_json::from_str(&report).context("the report of flux")?;
    let of =
        |name: &str| report["latency"]["add"][name].as_f64().with_context(|| format!("no {name}: {report}"));
    Ok(Add { p50_ns: of("p50_ns")?, p90_ns: of("p90_ns")? })
}
