//! What this machine allows, asked before anything is loaded: privileges, lockdown, tracefs.

use super::error::AttachError;
use std::{ffi::CString, fs, io, path::Path};

/// Where the kernel describes its types.
pub(super) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
/// Where classic tracepoints are listed.
const TRACEFS: &str = "/sys/kernel/tracing";

/// Capability numbers (`linux/capability.h`).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Refuses early, with a reason, what the kernel would refuse late, without one.
///
/// # Errors
/// Missing privilege or a locked-down kernel.
pub(super) fn check() -> Result<(), AttachError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(&status);
    if !missing.is_empty() {
        return Err(AttachError::MissingPrivilege { missing: missing.join(", ") });
    }
    // No such file: no lockdown in this kernel.
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if is_confidential(&lockdown) { Err(AttachError::LockedDown) } else { Ok(()) }
}

/// The capabilities that `/proc/PID/status` lacks. CAP_SYS_ADMIN stands for both.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |number: u32| effective & (1 << number) != 0;
    [("CAP_BPF", CAP_BPF), ("CAP_PERFMON", CAP_PERFMON)]
        .into_iter()
        .filter(|(_, number)| !has(*number) && !has(CAP_SYS_ADMIN))
        .map(|(name, _)| name)
        .collect()
}

/// Whether `/sys/kernel/security/lockdown` (`none [integrity] confidentiality`) marks the strictest mode.
fn is_confidential(lockdown: &str) -> bool {
    lockdown.contains("[confidentiality]")
}

/// tracefs, mounted for as long as this value lives if it was not mounted before.
#[derive(Debug)]
pub(super) struct TraceFs {
    ours: bool,
}

impl TraceFs {
    /// Makes sure that classic tracepoints can be found.
    ///
    /// # Errors
    /// When tracefs is not mounted and cannot be.
    pub(super) fn ensure() -> io::Result<TraceFs> {
        let is_there = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"]
            .into_iter()
            .any(|events| Path::new(events).is_dir());
        if is_there {
            return Ok(TraceFs { ours: false });
        }
        let text = |text: &str| CString::new(text).map_err(io::Error::other);
        let (kind, target) = (text("tracefs")?, text(TRACEFS)?);
        // SAFETY: NUL-terminated strings that outlive the call; no data argument.
        let failed =
            unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(TraceFs { ours: true }) }
    }
}

impl Drop for TraceFs {
    fn drop(&mut self) {
        if self.ours
            && let Ok(target) = CString::new(TRACEFS)
        {
            // SAFETY: a NUL-terminated string. Attached tracepoints do not need the mount.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_both_capabilities_or_the_old_one_will_do() {
        let status = |bits: u64| format!("Name:\tx\nCapEff:\t{bits:016x}\nCapBnd:\t0\n");
        assert_eq!(missing_capabilities(&status(0)), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_capabilities(&status(1 << CAP_BPF)), ["CAP_PERFMON"]);
        assert!(missing_capabilities(&status(1 << CAP_BPF | 1 << CAP_PERFMON)).is_empty());
        assert!(missing_capabilities(&status(1 << CAP_SYS_ADMIN)).is_empty());
        assert_eq!(missing_capabilities("garbage").len(), 2);
    }

    #[test]
    fn only_the_marked_mode_counts() {
        assert!(is_confidential("none integrity [confidentiality]\n"));
        assert!(!is_confidential("none [integrity] confidentiality\n"));
        assert!(!is_confidential(""));
    }
}
