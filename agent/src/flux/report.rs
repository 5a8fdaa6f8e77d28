//! What a run has measured, as programs read it (`-o json`). Times are nanoseconds of wall time.

use super::network::Verb;
use super::outcome::FailureKind;
use serde::Serialize;

/// The outcome of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the run.
    pub run: String,
    /// Name of the network.
    pub network: String,
    /// Version of the protocol that was spoken.
    pub cni_version: String,
    /// The plugins, in the order of ADD.
    pub chain: Vec<String>,
    /// Whether the user ended it early.
    pub interrupted: bool,
    /// What was asked for.
    pub asked: Asked,
    /// What became of the pods.
    pub pods: Pods,
    /// Pods that got their network per second in which pods arrived; zero when none did.
    pub pods_per_second: f64,
    /// Percentiles; those never measured are null.
    pub latency: Latencies,
    /// One row per command and plugin, failed calls included.
    pub plugins: Vec<PluginRow>,
    /// One row per place, kind and code, the most frequent first.
    pub failures: Vec<FailureRow>,
    /// Failures beyond the rows that are kept.
    pub failures_without_row: u64,
    /// The traffic check, when it was asked for.
    pub traffic: Option<Traffic>,
    /// Why the traffic check did not come about.
    pub traffic_failure: Option<String>,
    /// Names of pods that could not be taken away; `slowpod flux --clean` tries again.
    pub left_behind: Vec<String>,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Pods per round.
    pub pods: usize,
    /// Rounds.
    pub rounds: usize,
    /// Most pods arriving or departing at once.
    pub concurrency: usize,
    /// Arrivals per second; null when as fast as it goes.
    pub rate: Option<f64>,
    /// How often an ADD is tried again.
    pub retries: u32,
}

/// What became of the pods.
#[derive(Clone, Debug, Serialize)]
pub struct Pods {
    /// Pods whose arrival began.
    pub begun: u64,
    /// Attempts to ADD.
    pub attempts: u64,
    /// Pods that got their network.
    pub ready: u64,
    /// Pods whose control addresses all answered.
    pub verified: u64,
    /// Pods that were CHECKed well.
    pub checked: u64,
    /// Pods taken away in order.
    pub deleted: u64,
    /// Addresses given to pods.
    pub addresses: u64,
    /// Addresses given to a pod while another had them.
    pub address_conflicts: u64,
}

/// Percentiles by what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    /// Making the network namespace.
    pub netns: Option<Span>,
    /// A successful ADD of the whole chain.
    pub add: Option<Span>,
    /// From the first attempt's begin to the first success, retries included.
    pub network_ready: Option<Span>,
    /// The same until all control addresses have answered.
    pub verified_ready: Option<Span>,
    /// A successful DEL of the whole chain.
    pub del: Option<Span>,
}

/// Percentiles of a time, by nearest rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// How often it was measured.
    pub count: u64,
    /// Half of all took no longer.
    pub p50_ns: u64,
    /// Nine of ten took no longer.
    pub p90_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// One command of one plugin.
#[derive(Clone, Debug, Serialize)]
pub struct PluginRow {
    /// The command.
    pub command: Verb,
    /// The plugin's `type`.
    pub plugin: String,
    /// Its calls' wall time.
    pub wall: Span,
}

/// One way to fail.
#[derive(Clone, Debug, Serialize)]
pub struct FailureRow {
    /// The CNI command; null outside a plugin.
    pub command: Option<Verb>,
    /// The plugin's `type`, or `netns`, or `verify ADDRESS`.
    pub stage: String,
    /// How.
    pub kind: FailureKind,
    /// The plugin's error code, its exit code, or a signal.
    pub code: Option<u64>,
    /// How often.
    pub count: u64,
    /// What was said the first time.
    pub message: String,
}

/// The light check between two pods.
#[derive(Clone, Debug, Serialize)]
pub struct Traffic {
    /// Names of the two pods: client, server.
    pub between: [String; 2],
    /// TCP throughput in bytes per second.
    pub bytes_per_second: f64,
    /// Round trips of one byte over TCP.
    pub round_trip: Span,
}

impl Span {
    /// Percentiles of times; `None` of none.
    pub fn of(times_ns: &[u64]) -> Option<Span> {
        let mut sorted = times_ns.to_vec();
        sorted.sort_unstable();
        let max_ns = *sorted.last()?;
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        Some(Span { count: sorted.len() as u64, p50_ns: at(50), p90_ns: at(90), p99_ns: at(99), max_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<u64> = (1..=200).rev().collect();
        let span = Span { count: 200, p50_ns: 100, p90_ns: 180, p99_ns: 198, max_ns: 200 };
        assert_eq!(Span::of(&times), Some(span));
        assert_eq!(Span::of(&[7]), Some(Span { count: 1, p50_ns: 7, p90_ns: 7, p99_ns: 7, max_ns: 7 }));
        assert_eq!(Span::of(&[]), None);
    }
}
