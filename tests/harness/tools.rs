//! Programs that tests run beside slowpod: what is installed, and what to install.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A program from a Debian package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Kernel sets of addresses.
    Ipset,
    /// iproute2.
    Ip,
    /// Packet filter rules.
    Iptables,
    /// The same by the kernel's older tables, behind a lock of its own.
    IptablesLegacy,
    /// Runs a command in another process's namespaces.
    Nsenter,
    /// Counts system calls: a witness.
    Strace,
    /// Traces with eBPF of its own: a witness.
    Bpftrace,
    /// Samples CPUs, and measures the scheduler: a witness.
    Perf,
    /// Checks metrics and rules.
    Promtool,
    /// Scrapes metrics.
    Prometheus,
    /// Go, which builds `tests/node/serviceproxy`.
    Go,
    /// Compiles C.
    Cc,
}

impl Tool {
    /// All tools, for a report of what is there.
    pub const ALL: [Tool; 12] = [
        Tool::Ipset,
        Tool::Ip,
        Tool::Iptables,
        Tool::IptablesLegacy,
        Tool::Nsenter,
        Tool::Strace,
        Tool::Bpftrace,
        Tool::Perf,
        Tool::Promtool,
        Tool::Prometheus,
        Tool::Go,
        Tool::Cc,
    ];

    /// Name of the program.
    pub const fn program(self) -> &'static str {
        match self {
            Tool::Ipset => "ipset",
            Tool::Ip => "ip",
            Tool::Iptables => "iptables",
            Tool::IptablesLegacy => "iptables-legacy",
            Tool::Nsenter => "nsenter",
            Tool::Strace => "strace",
            Tool::Bpftrace => "bpftrace",
            Tool::Perf => "perf",
            Tool::Promtool => "promtool",
            Tool::Prometheus => "prometheus",
            Tool::Go => "go",
            Tool::Cc => "cc",
        }
    }

    /// Debian package that has it.
    pub const fn package(self) -> &'static str {
        match self {
            Tool::Ipset => "ipset",
            Tool::Ip => "iproute2",
            Tool::Iptables | Tool::IptablesLegacy => "iptables",
            Tool::Nsenter => "util-linux",
            Tool::Strace => "strace",
            Tool::Bpftrace => "bpftrace",
            Tool::Perf => "linux-perf",
            Tool::Promtool | Tool::Prometheus => "prometheus",
            Tool::Go => "golang-go",
            Tool::Cc => "gcc",
        }
    }

    /// Where the program is, if it is installed.
    pub fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Root's tools are not on every PATH.
        let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
        directories
            .map(|directory| directory.join(self.program()))
            .find(|file| is_executable(file.as_os_str()))
    }

    /// Where the program is.
    ///
    /// # Panics
    /// When it is not installed, with the package to install.
    pub fn require(self) -> PathBuf {
        self.find().unwrap_or_else(|| {
            panic!("this test needs {}: apt-get install {}", self.program(), self.package())
        })
    }
}

fn is_executable(file: &OsStr) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_listed_once_and_has_a_package() {
        for (at, tool) in Tool::ALL.into_iter().enumerate() {
            assert!(!Tool::ALL[..at].contains(&tool), "{tool:?} twice");
            assert!(!tool.package().is_empty());
        }
    }

    #[test]
    fn what_is_found_can_be_run() {
        for file in Tool::ALL.into_iter().filter_map(Tool::find) {
            assert!(is_executable(file.as_os_str()), "{}", file.display());
        }
    }
}
