//! Hollow pods: network namespaces that go through CNI as real pods do, without kubelet, runtime or cluster, to
//! measure a CNI.
//!
//! This is no stage of the pipeline but a generator of load, and it does I/O. In: [`Options`]. Out: a [`Report`].
//! A round is: all its pods arrive, are held, and depart while the next round's arrive.

pub mod clean;
pub mod conflist;
mod crew;
pub mod error;
pub mod journal;
pub mod netns;
pub mod network;
pub mod outcome;
mod pod;
pub mod process;
pub mod report;
pub mod sandbox;
pub mod stop;
mod tally;
mod traffic;
pub mod verify;
pub mod version;

use conflist::Conflist;
use error::FluxError;
use journal::{Header, Journal};
use network::{Means, Network};
use pod::{Pod, Site, lock};
use report::{Asked, Pods, Report, Traffic};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use stop::Stop;
use tally::Tally;
use verify::Control;

/// Where programs of plugins are on most machines.
pub const PLUGIN_DIRS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// What a run does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the run: unique among those that go on.
    pub run: String,
    /// Pods per round.
    pub pods: usize,
    /// Rounds.
    pub rounds: usize,
    /// Most pods arriving or departing at once.
    pub concurrency: usize,
    /// Arrivals per second; `None` = as fast as it goes. Finite and above zero.
    pub rate: Option<f64>,
    /// How long a round's pods stay once all have arrived.
    pub hold: Duration,
    /// How often an ADD, or a DEL, is tried again.
    pub retries: u32,
    /// Rest before it is tried again.
    pub retry_backoff: Duration,
    /// Addresses that must answer from inside each pod.
    pub verify: Vec<Control>,
    /// Longest wait for one of them.
    pub verify_timeout: Duration,
    /// Whether each pod is CHECKed.
    pub check: bool,
    /// Whether the first round's pods are also used to look at traffic.
    pub traffic: bool,
    /// Whether the loopback plugin is run, as runtimes do.
    pub loopback: bool,
    /// How plugins are run.
    pub means: Means,
    /// Where namespaces are bound.
    pub netns_dir: PathBuf,
    /// Where notes for `--clean` are kept.
    pub journal_dir: PathBuf,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pods whose arrival began.
    pub begun: u64,
    /// Pods that got their network.
    pub ready: u64,
    /// Pods that were taken away in order, those without network included.
    pub deleted: u64,
}

/// A run that is checked and can begin.
#[derive(Debug)]
pub struct Flux {
    options: Options,
    network: Network,
    loopback: Option<Network>,
    tally: Mutex<Tally>,
}

impl Flux {
    /// Checks all that can be checked before anything is made: the configuration, the programs and their versions, and
    /// the right to make namespaces.
    ///
    /// # Errors
    /// What is wrong with any of it.
    pub fn prepare(options: Options, list: Conflist, stop: &Stop) -> Result<Flux, FluxError> {
        let network = Network::new(list, options.means.clone())?;
        let loopback = options.loopback.then(|| Network::loopback(&options.means)).transpose()?;
        netns::try_make().map_err(|error| FluxError::during("making a network namespace", &error))?;
        network.try_versions(stop)?;
        Ok(Flux { options, network, loopback, tally: Mutex::default() })
    }

    /// How far the run is.
    pub fn progress(&self) -> Progress {
        let tally = lock(&self.tally);
        Progress { begun: tally.begun, ready: tally.ready, deleted: tally.deleted }
    }

    /// Runs all rounds, or as much of them as the user lets it, and takes everything away.
    ///
    /// # Errors
    /// When the run cannot begin. Failures of pods are counted in the report.
    pub fn run(&self, stop: &Stop) -> Result<Report, FluxError> {
        let header = Header {
            conflist: self.network.list().to_value(),
            means: self.options.means.clone(),
            loopback: self.options.loopback,
            pid: std::process::id(),
        };
        let journal = Journal::begin(&self.options.journal_dir, &self.options.run, &header)?;
        let left = Mutex::new(Vec::new());
        let site = Site {
            options: &self.options,
            network: &self.network,
            loopback: self.loopback.as_ref(),
            journal: &journal,
            stop,
            tally: &self.tally,
            left: &left,
        };
        let traffic = self.rounds(&site)?;
        let mut left = left.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        left.sort();
        if left.is_empty() {
            let path = journal.path().to_owned();
            journal
                .end()
                .map_err(|error| FluxError::during(&format!("removing {}", path.display()), &error))?;
        }
        Ok(self.report(stop, traffic, left))
    }

    fn rounds(&self, site: &Site<'_>) -> Result<Option<Result<Traffic, String>>, FluxError> {
        let (options, mut live, mut traffic) = (&self.options, Vec::new(), None);
        for round in 0..options.rounds {
            let first = round * options.pods;
            live = phase(site, live, first..first + options.pods)?;
            if site.stop.is_winding_down() {
                break;
            }
            if round == 0 && options.traffic {
                traffic = Some(look_at_traffic(&live, site.stop));
            }
            site.stop.sleep(options.hold);
        }
        phase(site, live, 0..0)?;
        Ok(traffic)
    }

    fn report(
        &self,
        stop: &Stop,
        traffic: Option<Result<Traffic, String>>,
        left_behind: Vec<String>,
    ) -> Report {
        let (tally, options, list) = (lock(&self.tally), &self.options, self.network.list());
        let (failures, failures_without_row) = tally.failure_rows();
        let seconds = tally.arriving_ns as f64 / 1e9;
        let (traffic, traffic_failure) = match traffic {
            Some(Ok(traffic)) => (Some(traffic), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        Report {
            run: options.run.clone(),
            network: list.name.clone(),
            cni_version: list.version.name().to_owned(),
            chain: list.plugins.iter().map(|plugin| plugin.kind.clone()).collect(),
            interrupted: stop.is_winding_down(),
            asked: Asked {
                pods: options.pods,
                rounds: options.rounds,
                concurrency: options.concurrency,
                rate: options.rate,
                retries: options.retries,
            },
            pods: Pods {
                begun: tally.begun,
                attempts: tally.attempts,
                ready: tally.ready,
                verified: tally.verified,
                checked: tally.checked,
                deleted: tally.deleted,
                addresses: tally.addresses,
                address_conflicts: tally.address_conflicts,
            },
            pods_per_second: if seconds > 0.0 { tally.ready as f64 / seconds } else { 0.0 },
            latency: tally.latencies(),
            plugins: tally.plugin_rows(),
            failures,
            failures_without_row,
            traffic,
            traffic_failure,
            left_behind,
        }
    }
}

/// One phase. Pods that cannot get a worker to take them away are taken away here.
fn phase(site: &Site<'_>, live: Vec<Pod>, arrivals: std::ops::Range<usize>) -> Result<Vec<Pod>, FluxError> {
    crew::phase(site, live, arrivals).map_err(|(error, pods)| {
        pods.into_iter().for_each(|pod| site.depart(pod));
        FluxError::during("starting a thread", &error)
    })
}

/// Measures between the first two pods that have an address.
fn look_at_traffic(live: &[Pod], stop: &Stop) -> Result<Traffic, String> {
    let mut ends = live.iter().filter_map(|pod| Some((pod, pod.addresses.first()?.parse().ok()?)));
    let (Some((server, address)), Some((client, _))) = (ends.next(), ends.next()) else {
        return Err("it takes two pods with addresses".into());
    };
    traffic::between(&client.sandbox, &server.sandbox, address, stop).map_err(|error| {
        let (client, server) = (&client.sandbox.name, &server.sandbox.name);
        match error.kind() {
            io::ErrorKind::Interrupted => "cut short by the user".into(),
            _ => format!("{client} cannot talk to {server}: {error}"),
        }
    })
}
