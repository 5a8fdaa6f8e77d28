//! One hollow pod's life: a namespace, attempts to add it to the network until one succeeds, proof that the network
//! works, and its end. Everything it does is timed and counted in the run's [`Tally`].

use super::journal::Journal;
use super::netns;
use super::network::{Call, Network, Verb};
use super::outcome::{CallFailure, FailureKind};
use super::sandbox::Sandbox;
use super::stop::{Stop, Wish};
use super::tally::{Measure, Place, Tally};
use super::verify;
use super::{Options, version};
use serde_json::Value;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What the pods of a run share.
pub(super) struct Site<'a> {
    pub(super) options: &'a Options,
    pub(super) network: &'a Network,
    pub(super) loopback: Option<&'a Network>,
    pub(super) journal: &'a Journal,
    pub(super) stop: &'a Stop,
    pub(super) tally: &'a Mutex<Tally>,
    pub(super) left: &'a Mutex<Vec<String>>,
}

/// A pod that has its network.
pub(super) struct Pod {
    pub(super) sandbox: Sandbox,
    result: Option<Value>,
    pub(super) addresses: Vec<String>,
}

impl Site<'_> {
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(self.tally)
    }

    /// Makes the pod and adds it to the network. One that does not get its network is taken away at once: `None`.
    pub(super) fn arrive(&self, number: usize) -> Option<Pod> {
        self.tally().begun += 1;
        let sandbox = match self.make(number) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                self.note("netns", &CallFailure::new(FailureKind::Netns, None, error.to_string()));
                return None;
            }
        };
        let begun = Instant::now();
        let mut pod = Pod { sandbox, result: None, addresses: Vec::new() };
        let Some(result) = self.attempts(&pod.sandbox) else {
            self.depart(pod);
            return None;
        };
        self.time(Measure::NetworkReady, begun);
        pod.addresses = version::addresses(&result);
        {
            let mut tally = self.tally();
            tally.ready += 1;
            tally.give(&pod.addresses);
        }
        self.warn(self.journal.ready(&pod.sandbox, &result));
        self.prove(&pod, &result, begun);
        pod.result = Some(result);
        Some(pod)
    }

    /// Takes the pod from the network and removes its namespace, whatever the plugins say.
    pub(super) fn depart(&self, pod: Pod) {
        let deleted = self.delete(&pod);
        let removed = netns::remove(&pod.sandbox.netns);
        if let Err(error) = &removed {
            self.note("netns", &CallFailure::new(FailureKind::Netns, None, error.to_string()));
        }
        let mut tally = self.tally();
        tally.take_back(&pod.addresses);
        if deleted && removed.is_ok() {
            tally.deleted += 1;
            drop(tally);
            self.warn(self.journal.gone(&pod.sandbox));
        } else {
            drop(tally);
            lock(self.left).push(pod.sandbox.name);
        }
    }

    /// The pod's names and namespace. Nothing is left of one that fails.
    fn make(&self, number: usize) -> io::Result<Sandbox> {
        let begun = Instant::now();
        let sandbox = Sandbox::new(&self.options.run, number, &self.options.netns_dir)?;
        self.journal.made(&sandbox)?;
        if let Err(error) = netns::make(&sandbox.netns) {
            self.warn(self.journal.gone(&sandbox));
            return Err(io::Error::new(error.kind(), format!("{}: {error}", sandbox.netns.display())));
        }
        self.time(Measure::Netns, begun);
        Ok(sandbox)
    }

    /// Tries to add the pod until it works, as often as the policy allows. A failed attempt is undone by DEL before the
    /// next one.
    fn attempts(&self, sandbox: &Sandbox) -> Option<Value> {
        for retry in 0..=self.options.retries {
            if let Some(result) = self.attempt(sandbox) {
                return Some(result);
            }
            if retry == self.options.retries || self.stop.is_winding_down() {
                break;
            }
            let _ = self.delete_once(sandbox, None);
            if !self.stop.sleep(self.options.retry_backoff) {
                break;
            }
        }
        None
    }

    /// The loopback first, then the chain, as CRI-O does it.
    fn attempt(&self, sandbox: &Sandbox) -> Option<Value> {
        self.tally().attempts += 1;
        if let Some(loopback) = self.loopback {
            let (calls, result) = loopback.add(sandbox, self.stop);
            self.tally().calls(&calls);
            result?;
        }
        let begun = Instant::now();
        let (calls, result) = self.network.add(sandbox, self.stop);
        if result.is_some() {
            self.time(Measure::Add, begun);
        }
        self.tally().calls(&calls);
        result
    }

    /// Waits until all control addresses answer, then CHECKs, as far as asked.
    fn prove(&self, pod: &Pod, result: &Value, begun: Instant) {
        let options = self.options;
        let mut reachable = true;
        for control in &options.verify {
            let answered = verify::wait(&pod.sandbox.netns, *control, options.verify_timeout, self.stop);
            if let Err(failure) = answered {
                reachable = false;
                // An interrupted wait says nothing about the network.
                if !self.stop.is_winding_down() {
                    self.note(&format!("verify {control}"), &failure);
                }
            }
        }
        if reachable && !options.verify.is_empty() {
            self.time(Measure::VerifiedReady, begun);
            self.tally().verified += 1;
        }
        if options.check {
            let calls = self.network.check(&pod.sandbox, result, self.stop);
            let mut tally = self.tally();
            tally.checked += u64::from(!calls.is_empty() && all_well(&calls));
            tally.calls(&calls);
        }
    }

    /// DEL until it works, as often as the policy allows. The user's wish to stop does not cut it short; that not to wait
    /// does.
    fn delete(&self, pod: &Pod) -> bool {
        for retry in 0..=self.options.retries {
            if self.stop.wish() == Wish::GiveUp {
                return false;
            }
            if retry > 0 {
                self.stop.sleep(self.options.retry_backoff);
            }
            let begun = Instant::now();
            if self.delete_once(&pod.sandbox, pod.result.as_ref()) {
                self.time(Measure::Del, begun);
                return true;
            }
        }
        false
    }

    fn delete_once(&self, sandbox: &Sandbox, result: Option<&Value>) -> bool {
        let mut calls = self.network.del(sandbox, result, self.stop);
        if let Some(loopback) = self.loopback {
            calls.extend(loopback.del(sandbox, None, self.stop));
        }
        self.tally().calls(&calls);
        all_well(&calls)
    }

    fn time(&self, measure: Measure, begun: Instant) {
        let span_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.tally().time(measure, span_ns);
    }

    fn note(&self, at: &str, failure: &CallFailure) {
        self.tally().failure(Place { verb: None::<Verb>, at: at.to_owned() }, failure);
    }

    /// A journal that cannot be written any more (a full /run) must not end a run that has pods to take away.
    fn warn(&self, noted: io::Result<()>) {
        if let Err(error) = noted {
            tracing::warn!(%error, path = %self.journal.path().display(), "cannot keep notes");
        }
    }
}

fn all_well(calls: &[Call]) -> bool {
    calls.iter().all(|call| call.failure.is_none())
}

/// Counts and lists stay whole when another worker panics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
