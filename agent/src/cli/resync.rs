//! The daemon that `demo` watches: a small look-alike of a proxy daemon whose resync runs one command per
//! service. In a network namespace of its own, so that nothing on the node changes.

use super::Failure;
use std::io::{BufRead, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The sets a resync fills, as a proxy daemon keeps one per kind of address.
const SETS: [&str; 2] = ["DEMO-SERVICES", "DEMO-ENDPOINTS"];

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services, and so children per set and resync.
    #[arg(long, default_value_t = 200)]
    services: u32,
    /// Resyncs; the daemon waits for a line on standard input before the first.
    #[arg(long, default_value_t = 3)]
    resyncs: u32,
    /// Idle time between resyncs, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    idle_ms: u64,
}

/// Which command a resync runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ipset {
    /// The real one, at this path.
    Real(PathBuf),
    /// slowpod itself under that name, which does nothing and exits.
    StandIn,
}

/// The real `ipset` when it is installed.
pub fn find_ipset() -> Ipset {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let found = std::env::split_paths(&path).map(|dir| dir.join("ipset")).find(|file| file.is_file());
    found.map_or(Ipset::StandIn, Ipset::Real)
}

/// Whether this process was started to stand in for `ipset`.
pub fn is_stand_in() -> bool {
    std::env::args_os().next().is_some_and(|name| name == "ipset")
}

/// Runs the daemon until its resyncs are done or its parent is gone.
///
/// # Errors
/// When no child can be started at all.
pub fn run(args: Args) -> Result<(), Failure> {
    die_with_parent();
    let ipset = match (find_ipset(), own_network_namespace()) {
        (Ipset::Real(path), true) => Ipset::Real(path),
        _ => Ipset::StandIn,
    };
    for set in SETS {
        ipset_command(&ipset, &["create", set, "hash:ip", "-exist"]).status()?;
    }
    println!("ready {}", if ipset == Ipset::StandIn { "stand-in" } else { "ipset" });
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    for number in 0..args.resyncs {
        let begun = Instant::now();
        let in_children = sync_service_sets(&ipset, args.services)?;
        println!("resync {number} {} {}", begun.elapsed().as_nanos(), in_children.as_nanos());
        std::thread::sleep(Duration::from_millis(args.idle_ms));
    }
    println!("done");
    // Stay until the parent closes our input, so that the pages have a daemon to show.
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// One resync: one `ipset add` per service and set. Returns the time spent in children.
fn sync_service_sets(ipset: &Ipset, services: u32) -> Result<Duration, Failure> {
    let mut in_children = Duration::ZERO;
    for set in SETS {
        for service in 0..services {
            let address = format!("10.{}.{}.{}", 96 + service / 65_536, service / 256 % 256, service % 256);
            let begun = Instant::now();
            ipset_command(ipset, &["add", set, &address, "-exist"]).status()?;
            in_children += begun.elapsed();
        }
    }
    Ok(in_children)
}

fn ipset_command(ipset: &Ipset, words: &[&str]) -> Command {
    let mut command = match ipset {
        Ipset::Real(path) => Command::new(path),
        Ipset::StandIn => Command::new("/proc/self/exe"),
    };
    command.arg0("ipset").args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Moves this process into an empty network namespace, which ends with it. False without the privilege.
fn own_network_namespace() -> bool {
    // SAFETY: unshare takes a flag and touches no memory; the process has one thread here.
    unsafe { libc::unshare(libc::CLONE_NEWNET) == 0 }
}

/// Has the kernel end this process when its parent dies, however that happens.
fn die_with_parent() {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
}
