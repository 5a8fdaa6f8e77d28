//! `run`: the agent. Attaches, answers over HTTP until stopped.

use super::live::{self, Signals, Until};
use super::{Failure, options};
use crate::agent::{self, Agent};
use crate::capture::facts::cgroups::Wanted;
use crate::capture::recent::Bounds;
use crate::capture::redact::ArgvMode;
use crate::web;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:6060", value_name = "ADDR")]
    listen: String,
    /// Listen on an address that others can reach, although there is no authentication.
    #[arg(long)]
    insecure_listen: bool,
    /// Names besides localhost under which browsers may ask (a Host header check against DNS rebinding).
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// How much of the past the flight recorder keeps.
    #[arg(long, default_value = "10m", value_parser = options::duration, value_name = "SPAN")]
    keep: Duration,
    /// Most memory the flight recorder takes, in MiB.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=4096))]
    keep_mib: u32,
    /// How the agent attaches and what it keeps.
    #[command(flatten)]
    attach: AttachArgs,
}

/// How the agent attaches and what it keeps; the same in every verb that attaches.
#[derive(Clone, Debug, clap::Args)]
pub struct AttachArgs {
    /// What is kept of arguments: their class only, all but what looks secret, or everything.
    #[arg(long, value_enum, default_value = "redacted")]
    argv: Argv,
    /// An address of the API server, beside those that the kubelet's configuration and the environment tell; may be
    /// repeated.
    #[arg(long, value_name = "ADDR:PORT")]
    api_server: Vec<SocketAddr>,
    /// Load this kernel object instead of the one built in.
    #[arg(long, env = "SLOWPOD_BPF_OBJECT", hide = true, value_name = "FILE")]
    bpf_object: Option<PathBuf>,
    /// A rung not to use, by its name in the probe table; may be repeated.
    #[arg(long, hide = true, value_name = "RUNG")]
    avoid: Vec<String>,
    /// The cgroup hierarchy that says whose a process is: v2, or the name of a v1 controller. The best one when
    /// not given.
    #[arg(long, hide = true, value_name = "v2|CONTROLLER")]
    cgroup_hierarchy: Option<String>,
    /// Size of the kernel's ring for process life, in KiB (a power of two).
    #[arg(long, hide = true, value_name = "KIB", value_parser = ring_kib)]
    ring_kib: Option<u32>,
    /// Panic in the live loop after this long: for the test that nothing stays attached then.
    #[arg(long, hide = true, value_parser = options::duration, value_name = "SPAN")]
    panic_after: Option<Duration>,
}

/// What is kept of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Argv {
    /// The argv class only.
    Class,
    /// All but what looks like a secret.
    Redacted,
    /// Everything, secrets included.
    Full,
}

/// Smallest ring: a page of the machines with the largest ones.
const RING_KIB_MIN: u32 = 64;
/// Largest ring.
const RING_KIB_MAX: u32 = 1 << 20;

/// A size that the kernel makes rings of.
fn ring_kib(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|kib: &u32| kib.is_power_of_two());
    size.filter(|kib| (RING_KIB_MIN..=RING_KIB_MAX).contains(kib))
        .ok_or_else(|| format!("must be a power of two from {RING_KIB_MIN} to {RING_KIB_MAX}"))
}

impl AttachArgs {
    /// As options of the agent.
    pub fn options(&self) -> agent::Options {
        let argv_mode = match self.argv {
            Argv::Class => ArgvMode::Class,
            Argv::Redacted => ArgvMode::Redacted,
            Argv::Full => ArgvMode::Full,
        };
        agent::Options {
            argv_mode,
            api_servers: self.api_server.clone(),
            bpf_object: self.bpf_object.clone(),
            avoid: self.avoid.clone(),
            cgroups: match self.cgroup_hierarchy.as_deref() {
                None => Wanted::Best,
                Some("v2") => Wanted::V2,
                Some(controller) => Wanted::V1(controller.to_owned()),
            },
            life_ring_bytes: self.ring_kib.map(|kib| kib.saturating_mul(1_024)),
            panic_after: self.panic_after,
            ..agent::Options::default()
        }
    }
}

/// Runs the agent until Ctrl-C or SIGTERM.
///
/// # Errors
/// What listening or attaching gives.
pub fn run(args: Args) -> Result<(), Failure> {
    let bounds = Bounds {
        keep_ns: u64::try_from(args.keep.as_nanos()).unwrap_or(u64::MAX),
        bytes_max: args.keep_mib as usize * (1 << 20),
    };
    // Listen first: a port that is taken should not cost an attach.
    let listen = web::Listen {
        address: args.listen.clone(),
        insecure: args.insecure_listen,
        allow_hosts: args.allow_host.clone(),
    };
    let bound = web::bind(&listen).map_err(|error| Failure::Failed(error.to_string()))?;
    let signals = Signals::catch()?;
    let agent = agent::start(agent::Options { bounds, ..args.attach.options() })?;
    live::print_probes(&agent);
    let serving = Serving::over(bound, &agent)?;
    eprintln!("listening on {}", serving.url());
    serve_until(serving, agent, signals)
}

/// Longest that clients wait for the start-up scan. After that they are told what is missing.
const READY_MAX: Duration = Duration::from_secs(5);

/// The HTTP side, on threads of its own.
pub struct Serving {
    server: web::Server,
}

impl Serving {
    /// Begins to answer at an address that was bound before, once there are answers: who has connected meanwhile waits
    /// for them, and is not told to come again.
    ///
    /// # Errors
    /// When there are no threads to be had.
    pub fn over(bound: web::Bound, agent: &Agent) -> Result<Serving, Failure> {
        agent.await_ready(READY_MAX);
        Ok(Serving { server: web::start(bound, agent.hub())? })
    }

    /// Where browsers find it.
    pub fn url(&self) -> String {
        format!("http://{}/", self.server.local_addr())
    }
}

/// Answers until a signal comes, then stops the server and detaches.
///
/// # Errors
/// What the agent failed with.
pub fn serve_until(serving: Serving, agent: Agent, signals: Signals) -> Result<(), Failure> {
    signals.wait(Until::Interrupted, &agent, |_| {});
    // Side by side: the kernel takes its time to let go of the hooks, and peers to take their answers.
    serving.server.begin_shutdown();
    let stopped = agent.stop();
    serving.server.shutdown();
    stopped
}
