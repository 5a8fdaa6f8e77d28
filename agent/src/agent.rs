//! The agent: what attaches, the thread that runs the live loop, and how both end. In: [`Options`]. Out: a
//! running [`Agent`] whose [`Hub`] answers.

use crate::attach::{self, Hooks, error::AttachError, error::AttachErrorKind, verdict::Verdict};
use crate::capture::facts::{
    cgroups::Layout, cgroups::Wanted, clock, containers::Containers, node, proc, quota::Quotas,
};
use crate::capture::live::{LiveSource, Parts};
use crate::capture::queues::QueueReader;
use crate::capture::recent::Bounds;
use crate::capture::redact::ArgvMode;
use crate::capture::wakes::WakeReader;
use crate::capture::{CaptureError, tape};
use crate::decode::fact::{self, Fact};
use crate::failure::Failure;
use crate::memory;
use crate::pipeline::{Hub, KernelPulse, Live, ProgramCost};
use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often containers that have no names are looked for.
const NAMES_NS: u64 = 2_000_000_000;
/// How often processes that should be alive are looked for, in case their end was lost.
const SWEEP_NS: u64 = 10_000_000_000;
/// How often quotas and pressure are read.
const QUOTAS_NS: u64 = 1_000_000_000;
/// A child younger than this is not looked for: its end may be on its way.
const SWEEP_AGE_NS: u64 = 5_000_000_000;
/// Children looked for in one sweep.
const SWEEP_MAX: usize = 1_024;
/// How often a wait for readiness looks: it comes within the first turns of the loop.
const READY_LOOK: Duration = Duration::from_millis(2);

/// What an agent does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What is kept of arguments.
    pub argv_mode: ArgvMode,
    /// Bounds of the flight recorder.
    pub bounds: Bounds,
    /// Also write everything to this file.
    pub tape: Option<PathBuf>,
    /// A kernel object to load in place of the built-in one.
    pub bpf_object: Option<PathBuf>,
    /// Size of the ring for process life; `None` = the default.
    pub life_ring_bytes: Option<u32>,
    /// Rungs not to use.
    pub avoid: Vec<String>,
    /// Which cgroup hierarchy says whose a process is.
    pub cgroups: Wanted,
    /// Addresses of the API server, beside those that this node tells.
    pub api_servers: Vec<SocketAddr>,
    /// Name of this node in Kubernetes; `None` = the host's name.
    pub node_name: Option<String>,
    /// After this long the live loop panics, for the test of what is then left behind; `None` = never.
    pub panic_after: Option<Duration>,
}

/// A running agent. Detaches when stopped or dropped.
pub struct Agent {
    hub: Arc<Hub>,
    probes: Vec<fact::Probe>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), CaptureError>>>,
}

/// How the probes fare, and what that means for starting the agent.
pub struct Tried {
    /// One verdict per probe; empty when it did not come to that.
    pub probes: Vec<fact::Probe>,
    /// Whether the agent could run.
    pub outcome: Result<(), Failure>,
}

/// Attaches, scans, and starts the live loop.
///
/// # Errors
/// When the node cannot be attached to, or the tape cannot be made.
pub fn start(options: Options) -> Result<Agent, Failure> {
    let root = Path::new("/");
    let layout = layout(root, &options.cgroups);
    let attached = attach::attach(&attach_options(&options, layout.as_ref())?)?;
    // Not before: a tape that is there outlives an attach that fails.
    let tape = options.tape.as_deref().map(make_tape).transpose()?;
    let probes: Vec<fact::Probe> = attached.verdicts.iter().map(probe_fact).collect();
    let mut source = LiveSource::new(Parts {
        rings: attached.rings,
        counters: attached.counters,
        threads: attached.threads,
        sampler: attached.sampler,
        queues: QueueReader::new(attached.queues, clock::ktime_ns()),
        early: attached.early,
        argv_mode: options.argv_mode,
        unwind: attached.unwind.map(|maps| Box::new(maps) as _),
    });
    let name = options.node_name.clone().or_else(|| std::env::var("NODE_NAME").ok());
    let mut node = node::node(root, name.as_deref(), options.argv_mode.name());
    node.api_servers.extend(options.api_servers.iter().map(SocketAddr::to_string));
    source.tell([Fact::Node(node)]);
    source.tell(probes.iter().cloned().map(Fact::Probe));
    source.scan(root, layout.as_ref())?;

    // Reading the kernel's type description took some 20 MiB.
    memory::give_back();
    let hub = Arc::new(Hub::new(options.bounds));
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let (hub, stop, mut hooks) = (Arc::clone(&hub), Arc::clone(&stop), attached.hooks);
        let mut wakes = WakeReader::new(attached.wakes);
        let panic_at = options.panic_after.map(|span| Instant::now() + span);
        std::thread::Builder::new().name("slowpod-live".into()).spawn(move || {
            let asked_to_end = || {
                assert!(panic_at.is_none_or(|at| Instant::now() < at), "asked to panic");
                stop.load(Ordering::Relaxed)
            };
            let ended = run(&hub, &mut source, (&mut wakes, &mut hooks), tape, asked_to_end);
            drop(hooks);
            ended
        })?
    };
    Ok(Agent { hub, probes, stop, thread: Some(thread) })
}

/// Attaches and detaches at once.
pub fn try_probes(options: &Options) -> Tried {
    let attach_options = match attach_options(options, layout(Path::new("/"), &options.cgroups).as_ref()) {
        Ok(attach_options) => attach_options,
        Err(failure) => return Tried { probes: Vec::new(), outcome: Err(failure) },
    };
    let facts = |verdicts: &[Verdict]| verdicts.iter().map(probe_fact).collect();
    match attach::attach(&attach_options) {
        Ok(attached) => Tried { probes: facts(&attached.verdicts), outcome: Ok(()) },
        Err(error) => {
            let probes = if let AttachError::Required { all, .. } = &error { facts(all) } else { Vec::new() };
            Tried { probes, outcome: Err(error.into()) }
        }
    }
}

impl Agent {
    /// What readers share with the live loop.
    pub fn hub(&self) -> Arc<Hub> {
        Arc::clone(&self.hub)
    }

    /// One verdict per probe.
    pub fn probes(&self) -> &[fact::Probe] {
        &self.probes
    }

    /// Waits, no longer than this, until the start-up scan is in and questions can be answered.
    pub fn await_ready(&self, longest: Duration) {
        let begun = Instant::now();
        while !self.hub.pulse().ready && !self.failed() && begun.elapsed() < longest {
            std::thread::sleep(READY_LOOK);
        }
    }

    /// Whether the live loop ended on its own; [`Agent::stop`] then tells why.
    pub fn failed(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Takes in what is still on its way, detaches, and waits for the live loop's end.
    ///
    /// # Errors
    /// What the loop failed with.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.join()
    }

    fn join(&mut self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => Ok(ended?),
            Some(Err(_)) => Err(Failure::Failed("the live loop panicked; please report this".into())),
            None => Ok(()),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            tracing::error!(%error, "the live loop failed");
        }
    }
}

/// The live loop.
fn run(
    hub: &Hub,
    source: &mut LiveSource,
    (wakes, hooks): (&mut WakeReader, &mut Hooks),
    mut tape: Option<tape::Writer<BufWriter<File>>>,
    asked_to_end: impl Fn() -> bool,
) -> Result<(), CaptureError> {
    let mut live = Live::new(hub);
    let mut batch = Vec::new();
    let mut quotas = quotas();
    let mut containers = Containers::new(Path::new("/"));
    let (mut sweep_due_ns, mut quotas_due_ns, mut names_due_ns) = (0, 0, 0);
    loop {
        let last = asked_to_end();
        source.listen(hub.demand().hz());
        wakes.turn(clock::ktime_ns(), hub.demand(), hooks, |record| source.enter_record(record));
        batch.clear();
        let until_ns = if last { source.finish(&mut batch) } else { source.read(&mut batch)? };
        if let Some(tape) = &mut tape {
            tape.write(&batch).map_err(CaptureError::TapeWrite)?;
        }
        live.take(until_ns, &batch, || kernel_pulse(source));
        if last {
            break;
        }
        if until_ns >= quotas_due_ns
            && let Some(quotas) = &mut quotas
        {
            quotas_due_ns = until_ns + QUOTAS_NS;
            let waiters = source.take_waiters();
            let throttled = quotas.of_waiters(&waiters, &live.state().cgroups);
            source.tell(throttled.into_iter().chain(quotas.pressure()));
        }
        if until_ns >= names_due_ns {
            names_due_ns = until_ns + NAMES_NS;
            source.tell(containers.names(&live.state().cgroups));
        }
        if until_ns >= sweep_due_ns {
            sweep_due_ns = until_ns + SWEEP_NS;
            source.tell(gone(&live, until_ns));
        }
    }
    if let Some(tape) = tape {
        tape.finish().map_err(CaptureError::TapeWrite)?;
    }
    Ok(())
}

/// Who reads quotas; `None`, with a warning, where cgroups cannot be read.
fn quotas() -> Option<Quotas> {
    match Quotas::new(Path::new("/")) {
        Ok(quotas) => Some(quotas),
        Err(error) => {
            tracing::warn!(%error, "throttling by CPU quotas is not known");
            None
        }
    }
}

/// Children and CNI calls that should be alive and are not.
fn gone(live: &Live<'_>, now_ns: u64) -> Vec<Fact> {
    let tick_ns = fact::tick_ns(node::clk_tck());
    let state = live.state();
    let old = state.children.iter().filter(|(_, child)| child.timing.spawned_ns + SWEEP_AGE_NS < now_ns);
    // Nothing tells of the end of a CNI call that was there before the probes were.
    let calls = state.cni.live().map(|call| call.id).filter(|id| !state.children.contains_key(id));
    old.map(|(id, _)| *id)
        .take(SWEEP_MAX)
        .chain(calls.take(SWEEP_MAX))
        .filter(|id| !proc::alive(Path::new("/proc"), id.tgid, id.start_ns / tick_ns))
        .map(|id| Fact::Gone { tgid: id.tgid, start_ns: id.start_ns })
        .collect()
}

fn kernel_pulse(source: &LiveSource) -> KernelPulse {
    let counts = source.counts();
    KernelPulse {
        tallies: counts.tallies.iter().map(|(kind, tally)| (kind.name(), *tally)).collect(),
        programs: source
            .programs()
            .iter()
            .map(|program| ProgramCost {
                program: program.name.to_owned(),
                runs: program.runs,
                run_ns: program.run_ns,
                skipped: program.skipped,
            })
            .collect(),
        rings: source.ring_sizes(),
        symbols: source.symbols(),
    }
}

fn attach_options(options: &Options, layout: Option<&Layout>) -> Result<attach::Options, Failure> {
    let defaults = attach::Options::default();
    Ok(attach::Options {
        life_ring_bytes: options.life_ring_bytes.unwrap_or(defaults.life_ring_bytes),
        avoid: options.avoid.clone(),
        cgroups: layout.cloned(),
        object: options.bpf_object.as_deref().map(std::fs::read).transpose()?,
        ..defaults
    })
}

/// How cgroups are laid out; `None`, with a warning, where that cannot be told.
fn layout(root: &Path, wanted: &Wanted) -> Option<Layout> {
    match Layout::find(root, wanted) {
        Ok(layout) => Some(layout),
        Err(error) => {
            tracing::warn!(%error, "cgroups are not known: nothing will be attributed to pods");
            None
        }
    }
}

/// Makes the tape's file. It holds command lines, so only its owner may read it. A tape that is there is replaced,
/// not written into: it may have been made by others, or for others to read.
fn make_tape(path: &Path) -> Result<tape::Writer<BufWriter<File>>, Failure> {
    let cannot =
        |why: &dyn std::fmt::Display| Failure::Failed(format!("cannot write {}: {why}", path.display()));
    match path.symlink_metadata() {
        Ok(there) if there.is_file() => std::fs::remove_file(path).map_err(|error| cannot(&error))?,
        Ok(_) => return Err(cannot(&"it is no plain file, and nothing else is written through or replaced")),
        Err(_) => {}
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(|error| cannot(&error))?;
    tape::Writer::new(BufWriter::new(file)).map_err(|error| cannot(&error))
}

fn probe_fact(verdict: &Verdict) -> fact::Probe {
    fact::Probe {
        probe: verdict.probe.to_owned(),
        state: verdict.state,
        rung: verdict.rung.unwrap_or_default().to_owned(),
        why: verdict.why.join("; "),
        consequence: verdict.consequence.unwrap_or_default().to_owned(),
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        let text = error.to_string();
        match error.kind() {
            AttachErrorKind::Privilege => Failure::Privilege(text),
            AttachErrorKind::Kernel => Failure::Unsupported(text),
            AttachErrorKind::Defect => Failure::Failed(text),
        }
    }
}
