//! The proxy daemon in Go (`tests/node/serviceproxy`): built once, started at a gate, asked for what it did.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::go;
use crate::running::Running;
use crate::tools::Tool;
use crate::truth::Truth;

/// Path of the built daemon; the first call builds it, offline, with Debian's Go.
///
/// # Panics
/// When a tool it needs is missing or it does not build.
pub fn build() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build_as("serviceproxy", &[]))
}

/// Path of the daemon without symbols and debug information, as such daemons ship.
///
/// # Panics
/// As [`build`].
pub fn build_stripped() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build_as("serviceproxy-stripped", &["-ldflags=-s -w"]))
}

/// Builds the daemon under a name of its own, with these further options of `go build`.
///
/// # Panics
/// As [`build`].
pub fn build_as(name: &str, options: &[&str]) -> PathBuf {
    go::build("node/serviceproxy", name, options)
}

/// A started daemon. Dropping it kills it, and its network namespace goes with it.
pub struct ServiceProxy {
    running: Running,
    ready: Truth,
}

impl ServiceProxy {
    /// Starts the daemon with these flags and waits until its sets and device exist. It then waits for
    /// [`ServiceProxy::go`].
    ///
    /// # Panics
    /// When a tool is missing or the daemon does not come up.
    pub fn start(flags: &[&str]) -> ServiceProxy {
        ServiceProxy::start_program(build(), flags)
    }

    /// The same with another build of it.
    ///
    /// # Panics
    /// As [`ServiceProxy::start`].
    pub fn start_program(program: &Path, flags: &[&str]) -> ServiceProxy {
        Tool::Ipset.require();
        Tool::Ip.require();
        let mut command = Command::new(program);
        command.arg("-stdin-gate").args(flags);
        let mut running = Running::start(command);
        let ready =
            running.next_line().expect("serviceproxy ended before it was ready; its reason is on stderr");
        assert_eq!(ready.text("/event"), "ready");
        ServiceProxy { running, ready }
    }

    /// Pid of the daemon.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The daemon's `ready` line.
    pub fn ready(&self) -> &Truth {
        &self.ready
    }

    /// Lets the first resync begin.
    pub fn go(&mut self) {
        self.running.say("go");
    }

    /// Waits for the next line with this event (`phase`, `resync`), skipping others.
    ///
    /// # Panics
    /// When the daemon ends before it.
    pub fn await_event(&mut self, event: &str) -> Truth {
        std::iter::from_fn(|| self.running.next_line())
            .find(|line| line.text("/event") == event)
            .unwrap_or_else(|| panic!("serviceproxy ended without a {event} line"))
    }

    /// Asks it to stop (SIGTERM), and returns the lines not yet read.
    ///
    /// # Panics
    /// When it does not end, or not in order.
    pub fn stop(self) -> Vec<Truth> {
        self.running.signal(libc::SIGTERM);
        self.finish()
    }

    /// Waits until it has made its resyncs, and returns the lines not yet read.
    ///
    /// # Panics
    /// When it does not end, or something it did failed.
    pub fn finish(self) -> Vec<Truth> {
        let (lines, status) = self.running.finish();
        assert!(status.success(), "serviceproxy failed ({status}): {lines:?}");
        assert_eq!(lines.last().map(|line| line.text("/event")), Some("stopped"));
        lines
    }
}
