//! Counts and times of a run while it goes on. In: calls and the ends of pods' phases, from all workers. Out: a
//! [`Report`](super::report::Report).

use super::network::{Call, Verb};
use super::outcome::{CallFailure, FailureKind};
use super::report::{FailureRow, Latencies, PluginRow, Span};
use std::collections::{BTreeMap, HashMap};

/// Most different failures kept apart; more share one count. A chain of five plugins with ten codes each fits.
const FAILURES_MAX: usize = 64;

/// What can be measured of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    /// Making its network namespace.
    Netns,
    /// A successful ADD of the whole chain.
    Add,
    /// From the first attempt's begin to the first success.
    NetworkReady,
    /// From the first attempt's begin until all control addresses have answered from inside.
    VerifiedReady,
    /// A successful DEL of the whole chain.
    Del,
}

/// Where something failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The command, or none outside a plugin.
    pub verb: Option<Verb>,
    /// The plugin's `type`, or what else it was: `netns`, `verify`.
    pub at: String,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    times: BTreeMap<Measure, Vec<u64>>,
    plugins: BTreeMap<(Verb, String), Vec<u64>>,
    failures: BTreeMap<(Place, FailureKind, Option<u64>), (u64, String)>,
    failures_beyond: u64,
    live_addresses: HashMap<String, u64>,
    /// Addresses that a pod was given while another had them.
    pub address_conflicts: u64,
    /// Addresses given.
    pub addresses: u64,
    /// Attempts to ADD.
    pub attempts: u64,
    /// Pods whose arrival began.
    pub begun: u64,
    /// Pods that got their network.
    pub ready: u64,
    /// Pods whose control addresses all answered.
    pub verified: u64,
    /// Pods that were CHECKed well.
    pub checked: u64,
    /// Pods taken away in order.
    pub deleted: u64,
    /// Time in which pods arrived, nanoseconds.
    pub arriving_ns: u64,
}

impl Tally {
    /// Adds a measured time.
    pub(super) fn time(&mut self, measure: Measure, span_ns: u64) {
        self.times.entry(measure).or_default().push(span_ns);
    }

    /// Adds calls, and the failures among them.
    pub(super) fn calls(&mut self, calls: &[Call]) {
        for call in calls {
            self.plugins.entry((call.verb, call.plugin.clone())).or_default().push(call.wall_ns);
            if let Some(failure) = &call.failure {
                self.failure(Place { verb: Some(call.verb), at: call.plugin.clone() }, failure);
            }
        }
    }

    /// Adds a failure.
    pub(super) fn failure(&mut self, place: Place, failure: &CallFailure) {
        let key = (place, failure.kind, failure.code);
        if self.failures.len() >= FAILURES_MAX && !self.failures.contains_key(&key) {
            self.failures_beyond += 1;
            return;
        }
        let (count, _) = self.failures.entry(key).or_insert_with(|| (0, failure.words.clone()));
        *count += 1;
    }

    /// A pod has these addresses now.
    pub(super) fn give(&mut self, addresses: &[String]) {
        for address in addresses {
            let holders = self.live_addresses.entry(address.clone()).or_default();
            *holders += 1;
            self.addresses += 1;
            self.address_conflicts += u64::from(*holders > 1);
        }
    }

    /// A pod has them no longer.
    pub(super) fn take_back(&mut self, addresses: &[String]) {
        for address in addresses {
            if let Some(holders) = self.live_addresses.get_mut(address) {
                *holders -= 1;
                if *holders == 0 {
                    self.live_addresses.remove(address);
                }
            }
        }
    }

    /// Percentiles of what was measured.
    pub(super) fn latencies(&self) -> Latencies {
        let of = |measure| Span::of(self.times.get(&measure).map_or(&[], Vec::as_slice));
        Latencies {
            netns: of(Measure::Netns),
            add: of(Measure::Add),
            network_ready: of(Measure::NetworkReady),
            verified_ready: of(Measure::VerifiedReady),
            del: of(Measure::Del),
        }
    }

    /// One row per command and plugin.
    pub(super) fn plugin_rows(&self) -> Vec<PluginRow> {
        let row = |((command, plugin), times): (&(Verb, String), &Vec<u64>)| {
            Some(PluginRow { command: *command, plugin: plugin.clone(), wall: Span::of(times)? })
        };
        self.plugins.iter().filter_map(row).collect()
    }

    /// One row per place, kind and code, the most frequent first; and how many failures have no row.
    pub(super) fn failure_rows(&self) -> (Vec<FailureRow>, u64) {
        let row =
            |((place, kind, code), (count, words)): (&(Place, FailureKind, Option<u64>), &(u64, String))| {
                FailureRow {
                    command: place.verb,
                    stage: place.at.clone(),
                    kind: *kind,
                    code: *code,
                    count: *count,
                    message: words.clone(),
                }
            };
        let mut rows: Vec<FailureRow> = self.failures.iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        (rows, self.failures_beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_given_twice_at_once_is_a_conflict() {
        let mut tally = Tally::default();
        let address = ["10.0.0.2".to_owned()];
        tally.give(&address);
        tally.take_back(&address);
        tally.give(&address);
        assert_eq!((tally.addresses, tally.address_conflicts), (2, 0));
        tally.give(&address);
        tally.take_back(&address);
        tally.give(&address);
        assert_eq!((tally.addresses, tally.address_conflicts), (4, 2));
    }

    #[test]
    fn failures_are_counted_apart_up_to_a_bound() {
        let mut tally = Tally::default();
        let place = Place { verb: Some(Verb::Add), at: "bridge".into() };
        for code in (0..100).chain([0]) {
            tally.failure(place.clone(), &CallFailure::new(FailureKind::CniError, Some(code), "why"));
        }
        let (rows, beyond) = tally.failure_rows();
        assert_eq!((rows.len(), beyond), (FAILURES_MAX, 100 - FAILURES_MAX as u64));
        assert_eq!((rows[0].code, rows[0].count), (Some(0), 2));
    }
}
