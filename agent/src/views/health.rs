//! Whether the agent can answer, and which version it is. In: a [`Pulse`]. Out: the JSON of `/readyz` and
//! `/version`.

use crate::pipeline::Pulse;
use serde::Serialize;
use slowpod_ebpf::abi::{CONTRACT, probes::Need, probes::PROBES};

/// A pulse older than this means that the live loop hangs: it beats once a second.
pub const PULSE_AGE_MAX_NS: u64 = 10_000_000_000;

/// Whether the agent can answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readiness {
    /// It can.
    pub ready: bool,
    /// What is missing, one sentence each.
    pub missing: Vec<String>,
    /// Optional probes that could not be had: the agent answers, and says so in every answer.
    pub degraded: Vec<String>,
    /// Probes in use.
    pub probes_attached: usize,
    /// Seconds since the live loop last reported.
    pub pulse_age_seconds: f64,
}

/// Judges a pulse at `now_ns` on the kernel's monotonic clock.
pub fn readiness(pulse: &Pulse, now_ns: u64) -> Readiness {
    let mut missing = Vec::new();
    let mut degraded = Vec::new();
    let age_ns = now_ns.saturating_sub(pulse.now_ns);
    if pulse.now_ns == 0 {
        missing.push("nothing has come in yet".to_owned());
    } else if age_ns > PULSE_AGE_MAX_NS {
        missing.push(format!("the live loop has not reported for {:.0} seconds", age_ns as f64 / 1e9));
    }
    if !pulse.ready {
        missing.push("the start-up scan of processes and cgroups is not in".to_owned());
    }
    for probe in PROBES {
        let verdict = pulse.probes.iter().find(|verdict| verdict.probe == probe.name);
        let is_in_use = verdict.is_some_and(|verdict| verdict.state.is_on());
        let why = match verdict {
            Some(verdict) if !verdict.why.is_empty() => format!("{}: {}", verdict.state.name(), verdict.why),
            Some(verdict) => verdict.state.name().to_owned(),
            None => "no verdict yet".to_owned(),
        };
        match probe.need {
            Need::Required if !is_in_use => missing.push(format!("probe {} is {why}", probe.name)),
            Need::Optional if !is_in_use => degraded.push(format!("probe {} is {why}", probe.name)),
            Need::Required | Need::Optional => {}
        }
    }
    Readiness {
        ready: missing.is_empty(),
        missing,
        degraded,
        probes_attached: pulse.probes.iter().filter(|verdict| verdict.state.is_on()).count(),
        pulse_age_seconds: if pulse.now_ns == 0 { 0.0 } else { age_ns as f64 / 1e9 },
    }
}

/// Which version this is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Version {
    /// Of the agent.
    pub version: &'static str,
    /// Of its contract with the kernel side, which is also the version of its tapes; hexadecimal.
    pub contract: String,
    /// Instruction set it was built for.
    pub arch: &'static str,
}

/// The version of this agent.
pub fn version() -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION"),
        contract: format!("{CONTRACT:016x}"),
        arch: std::env::consts::ARCH,
    }
}

/// An answer about the agent itself as JSON, ended by a newline.
pub fn json(answer: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(answer).expect("answers hold nothing that JSON cannot");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fact::{Probe, ProbeState};

    fn pulse(states: &[(&str, ProbeState)]) -> Pulse {
        let state_of = |name: &str| {
            states.iter().find(|(probe, _)| *probe == name).map_or(ProbeState::Attached, |(_, state)| *state)
        };
        let verdict = |probe: &str| Probe {
            probe: probe.into(),
            state: state_of(probe),
            rung: String::new(),
            why: String::new(),
            consequence: String::new(),
        };
        let probes = PROBES.iter().map(|probe| verdict(probe.name)).collect();
        Pulse { now_ns: 100_000_000_000, ready: true, probes, ..Pulse::default() }
    }

    #[test]
    fn a_beating_agent_with_its_probes_is_ready() {
        let readiness = readiness(&pulse(&[("split", ProbeState::Degraded)]), 101_000_000_000);
        assert!(readiness.ready, "{readiness:?}");
        assert_eq!(readiness.probes_attached, PROBES.len());
        assert_eq!(readiness.pulse_age_seconds, 1.0);
    }

    #[test]
    fn what_is_missing_is_said_and_optional_probes_are_not() {
        let now_ns = 100_000_000_000;
        let without = |probe, state| readiness(&pulse(&[(probe, state)]), now_ns);
        assert_eq!(without("spawn", ProbeState::Denied).missing, ["probe spawn is denied"]);
        let optional = without("netlink_send", ProbeState::Unsupported);
        assert!(optional.ready);
        assert_eq!(optional.degraded, ["probe netlink_send is unsupported"]);
        assert!(readiness(&Pulse::default(), now_ns).missing.len() > 2);
        let unscanned = Pulse { ready: false, ..pulse(&[]) };
        assert!(readiness(&unscanned, now_ns).missing[0].contains("scan"));
    }

    #[test]
    fn a_loop_that_hangs_is_not_ready() {
        let hung = readiness(&pulse(&[]), 100_000_000_000 + PULSE_AGE_MAX_NS + 1);
        assert!(!hung.ready && hung.missing[0].contains("10 seconds"), "{hung:?}");
    }
}
