//! Why the agent cannot attach, in sentences that say what to do, and in kinds that scripts can tell apart.

use super::{
    btf::BtfError,
    verdict::{State, Verdict},
};

/// Why nothing could be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Not root, and without the capabilities that would do.
    #[error(
        "slowpod needs root, or the capabilities CAP_BPF and CAP_PERFMON (missing: {missing}). \
         Run it with sudo, or grant them to the container"
    )]
    MissingPrivilege {
        /// Names of the missing capabilities.
        missing: String,
    },
    /// The kernel keeps BPF from reading its memory.
    #[error(
        "the kernel is locked down (mode confidentiality), which forbids BPF programs to read kernel memory. \
         Boot with lockdown=integrity or without lockdown"
    )]
    LockedDown,
    /// The kernel does not describe its types.
    #[error(
        "this kernel has no type description ({path}: {error}). slowpod needs a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y, as all current distributions' are"
    )]
    NoBtf {
        /// Where it should have been.
        path: &'static str,
        /// What reading it said.
        error: std::io::Error,
    },
    /// The description cannot be understood.
    #[error("the kernel's type description cannot be read: {0}")]
    BadBtf(#[from] BtfError),
    /// The kernel is older than the ring buffer.
    #[error("kernel {release} is too old: slowpod needs Linux 5.8 or newer, and 6.3 for every probe")]
    KernelTooOld {
        /// As `uname -r` shows it.
        release: String,
    },
    /// The kernel object as a whole could not be loaded: its maps or its own type description.
    #[error("the kernel object could not be loaded: {detail}")]
    Object {
        /// What went wrong, cause by cause.
        detail: String,
        /// The kernel's error number, when it gave one.
        errno: Option<i32>,
    },
    /// A probe without which the agent is of no use has no rung.
    #[error("probe {} is {}: {}", .verdict.probe, .verdict.state.name(), .verdict.why.join("; "))]
    Required {
        /// How it fares.
        verdict: Verdict,
        /// How all probes fare, it among them.
        all: Vec<Verdict>,
    },
}

/// What kind of remedy an [`AttachError`] needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachErrorKind {
    /// More privilege. Exit code 3.
    Privilege,
    /// Another kernel, or another kernel setting. Exit code 4.
    Kernel,
    /// A defect. Exit code 1.
    Defect,
}

impl AttachError {
    /// What kind of remedy it needs.
    pub fn kind(&self) -> AttachErrorKind {
        match self {
            AttachError::MissingPrivilege { .. } => AttachErrorKind::Privilege,
            AttachError::LockedDown
            | AttachError::NoBtf { .. }
            | AttachError::BadBtf(_)
            | AttachError::KernelTooOld { .. } => AttachErrorKind::Kernel,
            AttachError::Object { errno: Some(libc::EPERM | libc::EACCES), .. } => AttachErrorKind::Privilege,
            AttachError::Object { .. } => AttachErrorKind::Defect,
            AttachError::Required { verdict, .. } => match verdict.state {
                State::Denied => AttachErrorKind::Privilege,
                State::Unsupported => AttachErrorKind::Kernel,
                State::Attached | State::Degraded | State::Broken | State::Off => AttachErrorKind::Defect,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_asks_for_one_remedy_and_says_it() {
        let required = |state| {
            let verdict = Verdict {
                probe: "spawn",
                state,
                rung: None,
                why: vec!["this kernel has no hook".into()],
                consequence: Some("nothing is seen"),
            };
            AttachError::Required { all: vec![verdict.clone()], verdict }
        };
        for (error, kind, says) in [
            (AttachError::MissingPrivilege { missing: "CAP_BPF".into() }, AttachErrorKind::Privilege, "sudo"),
            (AttachError::LockedDown, AttachErrorKind::Kernel, "lockdown=integrity"),
            (
                AttachError::NoBtf { path: "/x", error: std::io::ErrorKind::NotFound.into() },
                AttachErrorKind::Kernel,
                "CONFIG_DEBUG_INFO_BTF",
            ),
            (AttachError::KernelTooOld { release: "4.19".into() }, AttachErrorKind::Kernel, "5.8"),
            (
                AttachError::Object { detail: "no".into(), errno: Some(libc::EPERM) },
                AttachErrorKind::Privilege,
                "no",
            ),
            (AttachError::Object { detail: "no".into(), errno: None }, AttachErrorKind::Defect, "no"),
            (required(State::Unsupported), AttachErrorKind::Kernel, "has no hook"),
            (required(State::Denied), AttachErrorKind::Privilege, "denied"),
            (required(State::Broken), AttachErrorKind::Defect, "broken"),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
