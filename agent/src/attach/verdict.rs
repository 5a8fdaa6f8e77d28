//! What became of each probe, judged from what was tried. Pure: no kernel is asked here.

pub use crate::decode::fact::ProbeState as State;
use serde::Serialize;
use slowpod_ebpf::abi::probes::{Need, PROBES, Probe};

/// One probe's verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The probe's name, as in [`PROBES`].
    pub probe: &'static str,
    /// How it stands.
    pub state: State,
    /// The rung it hangs on; absent when on none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rung: Option<&'static str>,
    /// Why it does not hang on a better rung, best first. Empty when it hangs on the best.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// What is lost, when it hangs on none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequence: Option<&'static str>,
}

/// One rung, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// The rung's name.
    pub rung: &'static str,
    /// What went wrong, if anything did.
    pub outcome: Result<(), Failure>,
}

/// Why a rung could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The user asked not to use it.
    Avoided,
    /// The kernel's structures lack these fields.
    MissingFields(Vec<&'static str>),
    /// There is no such hook in this kernel.
    NoHook {
        /// The hook, as in `tracepoint syscalls:sys_exit_waitid`.
        hook: String,
    },
    /// The kernel refused a program.
    Refused {
        /// The program's name.
        program: &'static str,
        /// The kernel's error number, when it gave one.
        errno: Option<i32>,
        /// The verifier's last words, or the error's text.
        detail: String,
    },
}

impl Failure {
    /// How a probe stands for which this was the reason.
    pub fn state(&self) -> State {
        match self {
            Failure::Avoided => State::Off,
            Failure::MissingFields(_) | Failure::NoHook { .. } => State::Unsupported,
            Failure::Refused { errno, detail, .. } => match errno {
                Some(libc::EPERM) => State::Denied,
                Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOENT | ENOTSUPP) => State::Unsupported,
                // A helper that an older kernel lacks is refused like a defect; only the log tells.
                _ if UNKNOWN_HELPER.iter().any(|text| detail.contains(text)) => State::Unsupported,
                _ => State::Broken,
            },
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Avoided => write!(f, "not wanted"),
            Failure::MissingFields(fields) => write!(f, "this kernel has no {}", fields.join(", ")),
            Failure::NoHook { hook } => write!(f, "this kernel has no {hook}"),
            Failure::Refused { program, detail, .. } => {
                write!(f, "the kernel refused program {program}: {detail}")
            }
        }
    }
}

/// The kernel's own `ENOTSUPP` (`linux/errno.h`), which libc does not name.
const ENOTSUPP: i32 = 524;
/// What the verifier says of a helper it does not know, or does not know for this type of program.
const UNKNOWN_HELPER: &[&str] = &["unknown func", "invalid func", "program of this type cannot use helper"];

/// The verdict on a probe whose rungs were tried in order; the last try is the one that counts.
pub fn judge(probe: &Probe, tries: &[Try]) -> Verdict {
    let failures: Vec<&Failure> = tries.iter().filter_map(|one| one.outcome.as_ref().err()).collect();
    let why = failures.iter().map(ToString::to_string).collect();
    match tries.iter().find(|one| one.outcome.is_ok()) {
        Some(got) => Verdict {
            probe: probe.name,
            state: if failures.is_empty() { State::Attached } else { State::Degraded },
            rung: Some(got.rung),
            why,
            consequence: None,
        },
        None => Verdict {
            probe: probe.name,
            state: worst(failures.iter().map(|failure| failure.state())),
            rung: None,
            why,
            consequence: Some(probe.gives),
        },
    }
}

/// The state that says most about why no rung was left: a defect before a prohibition before a lack.
fn worst(states: impl Iterator<Item = State>) -> State {
    let rank = |state: &State| match state {
        State::Broken => 4,
        State::Denied => 3,
        State::Unsupported => 2,
        State::Off => 1,
        State::Attached | State::Degraded => 0,
    };
    states.max_by_key(rank).unwrap_or(State::Off)
}

/// How the agent as a whole stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Every probe hangs on its best rung.
    Complete,
    /// Every probe delivers or was switched off, some by a lower rung.
    Degraded,
    /// An optional probe does not deliver.
    Partial,
    /// A required probe does not deliver: the agent is of no use.
    Useless,
}

/// The whole, from its parts.
pub fn health(verdicts: &[Verdict]) -> Health {
    let need =
        |verdict: &Verdict| PROBES.iter().find(|probe| probe.name == verdict.probe).map(|probe| probe.need);
    let one = |verdict: &Verdict| match verdict.state {
        State::Attached => Health::Complete,
        State::Degraded => Health::Degraded,
        State::Off if need(verdict) == Some(Need::Optional) => Health::Degraded,
        _ if need(verdict) == Some(Need::Required) => Health::Useless,
        State::Unsupported | State::Denied | State::Broken | State::Off => Health::Partial,
    };
    let rank = |health: &Health| match health {
        Health::Complete => 0,
        Health::Degraded => 1,
        Health::Partial => 2,
        Health::Useless => 3,
    };
    verdicts.iter().map(one).max_by_key(rank).unwrap_or(Health::Useless)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(name: &str) -> &'static Probe {
        PROBES.iter().find(|probe| probe.name == name).expect("a probe of the table")
    }

    fn refused(errno: i32, detail: &str) -> Failure {
        Failure::Refused { program: "p", errno: Some(errno), detail: detail.to_string() }
    }

    fn tries(probe: &Probe, outcomes: Vec<Result<(), Failure>>) -> Vec<Try> {
        probe.rungs.iter().zip(outcomes).map(|(rung, outcome)| Try { rung: rung.name, outcome }).collect()
    }

    #[test]
    fn a_failure_names_the_state() {
        for (failure, state) in [
            (refused(libc::EPERM, ""), State::Denied),
            (refused(libc::EACCES, "R1 invalid mem access"), State::Broken),
            (refused(libc::EINVAL, "unknown func bpf_task_pt_regs#175"), State::Unsupported),
            (
                refused(libc::EINVAL, "program of this type cannot use helper bpf_d_path#147"),
                State::Unsupported,
            ),
            (refused(libc::EINVAL, ""), State::Broken),
            (refused(ENOTSUPP, ""), State::Unsupported),
            (Failure::Refused { program: "p", errno: None, detail: String::new() }, State::Broken),
            (Failure::NoHook { hook: "x".into() }, State::Unsupported),
            (Failure::MissingFields(vec!["a.b"]), State::Unsupported),
            (Failure::Avoided, State::Off),
        ] {
            assert_eq!(failure.state(), state, "{failure:?}");
        }
    }

    #[test]
    fn the_first_rung_that_holds_decides() {
        let probe = probe("netlink_send");
        let best = judge(probe, &tries(probe, vec![Ok(())]));
        assert_eq!((best.state, best.rung, best.why.len()), (State::Attached, Some(probe.rungs[0].name), 0));
        assert_eq!(best.consequence, None);

        let third = judge(
            probe,
            &tries(
                probe,
                vec![
                    Err(refused(libc::EPERM, "not permitted")),
                    Err(Failure::NoHook { hook: "kprobes".into() }),
                    Ok(()),
                ],
            ),
        );
        assert_eq!((third.state, third.rung), (State::Degraded, Some(probe.rungs[2].name)));
        assert_eq!(third.why, ["the kernel refused program p: not permitted", "this kernel has no kprobes"]);
    }

    #[test]
    fn without_a_rung_the_gravest_reason_counts_and_the_loss_is_said() {
        let probe = probe("netlink_send");
        let none = judge(
            probe,
            &tries(
                probe,
                vec![Err(refused(libc::EPERM, "")), Err(refused(libc::EACCES, "")), Err(Failure::Avoided)],
            ),
        );
        assert_eq!((none.state, none.rung, none.consequence), (State::Broken, None, Some(probe.gives)));
        assert_eq!(judge(probe, &[]).state, State::Off);
    }

    #[test]
    fn health_is_that_of_the_weakest_probe_that_is_needed() {
        let verdict = |name: &str, state| Verdict {
            probe: probe(name).name,
            state,
            rung: None,
            why: Vec::new(),
            consequence: None,
        };
        for (states, expected) in [
            (vec![("spawn", State::Attached), ("reap", State::Attached)], Health::Complete),
            (vec![("spawn", State::Attached), ("netlink_send", State::Degraded)], Health::Degraded),
            (vec![("spawn", State::Attached), ("reap", State::Off)], Health::Degraded),
            (vec![("spawn", State::Attached), ("reap", State::Denied)], Health::Partial),
            (vec![("spawn", State::Unsupported), ("reap", State::Attached)], Health::Useless),
            (vec![("spawn", State::Off)], Health::Useless),
            (vec![], Health::Useless),
        ] {
            let verdicts: Vec<Verdict> = states.iter().map(|(name, state)| verdict(name, *state)).collect();
            assert_eq!(health(&verdicts), expected, "{states:?}");
        }
    }
}
