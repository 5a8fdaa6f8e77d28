//! Loads the kernel object and hooks its programs. In: the object and this machine. Out: rings to read,
//! counters, and one verdict per probe.
//!
//! Nothing is pinned: all hooks are gone when [`Attached`] is dropped or the process ends, however it ends.

pub mod btf;
pub mod counters;
pub mod early;
pub mod error;
mod host;
mod offsets;
mod programs;
pub mod queues;
pub mod sampler;
pub mod syscalls;
pub mod threads;
pub mod unwind;
pub mod verdict;
pub mod wakes;

use crate::capture::facts::cgroups::Layout;
use crate::capture::ring::Rings;
use aya::{
    Ebpf, EbpfError, EbpfLoader, Endianness,
    maps::{MapData, RingBuf},
};
use btf::Btf;
use counters::{Counters, CountersError};
use early::Early;
use error::AttachError;
use host::TraceFs;
use offsets::Offsets;
use programs::{chain, errno};
use queues::Queues;
use sampler::Sampler;
use slowpod_ebpf::abi::{
    probes::{Hook, Need, PROBES, Probe, Program, Rung},
    settings::{AWAY_MIN_NS, LIFE_RING_BYTES, NETLINK_RING_BYTES, SAMPLES_RING_BYTES, globals},
};
use std::{fs, io, thread};
use threads::Threads;
use unwind::UnwindMaps;
use verdict::{Failure, Try, Verdict};
use wakes::WakeCounts;

/// The kernel object, as `cargo xtask ebpf` built it.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../agent-ebpf/built/slowpod.bpf.o");

/// What may be chosen at attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the ring for process life; a power of two and a multiple of the page size.
    pub life_ring_bytes: u32,
    /// Size of the ring for netlink, likewise.
    pub netlink_ring_bytes: u32,
    /// A process whose own doings are not watched (the agent); 0 = none.
    pub own_tgid: u32,
    /// Whether to take the call stacks of spawners.
    pub spawn_stacks: bool,
    /// An absence from the CPU shorter than this has no record, nanoseconds.
    pub away_min_ns: u64,
    /// The cgroup hierarchy that identifies containers; `None` = v2.
    pub cgroups: Option<Layout>,
    /// The kernel object to load; `None` = [`OBJECT`].
    pub object: Option<Vec<u8>>,
    /// Names of rungs not to use, as in [`PROBES`]: to try the ones below, or to switch a probe off.
    pub avoid: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            life_ring_bytes: LIFE_RING_BYTES,
            netlink_ring_bytes: NETLINK_RING_BYTES,
            own_tgid: own_tgid(),
            spawn_stacks: true,
            away_min_ns: AWAY_MIN_NS,
            cgroups: None,
            object: None,
            avoid: Vec::new(),
        }
    }
}

impl Options {
    fn avoids(&self, rung: &Rung) -> bool {
        self.avoid.iter().any(|name| name == rung.name)
    }
}

/// The agent's own pid as the kernel programs see it; 0 when it cannot be known, because `/proc` and pids are
/// those of a container.
fn own_tgid() -> u32 {
    // `PROC_PID_INIT_INO` of `linux/proc_ns.h`.
    const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
    match fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) if namespace.as_os_str() == FIRST_PID_NAMESPACE => std::process::id(),
        _ => 0,
    }
}

/// Everything that is attached. The parts may go to different threads.
pub struct Attached {
    /// One per probe, in the order of [`PROBES`].
    pub verdicts: Vec<Verdict>,
    /// The records.
    pub rings: Rings,
    /// The numbers beside them.
    pub counters: Counters,
    /// Every thread's slot.
    pub threads: Threads,
    /// Waits in run queues.
    pub queues: Queues,
    /// Processes from before, whose ends are wanted.
    pub early: Early,
    /// How closely the programs look.
    pub sampler: Sampler,
    /// Who wakes whom.
    pub wakes: WakeCounts,
    /// Tables for user stacks; `None` where the kernel walks those by itself.
    pub unwind: Option<UnwindMaps>,
    /// Keeps the programs hooked.
    pub hooks: Hooks,
}

/// The hooks; dropping them detaches and unloads everything.
pub struct Hooks {
    programs: Ebpf,
}

impl Drop for Hooks {
    /// For each program the kernel waits until no CPU can be inside it. Done at once for all of them this takes
    /// as long as for one; one after the other, most of a second.
    fn drop(&mut self) {
        thread::scope(|scope| {
            for (_, loaded) in self.programs.programs_mut() {
                // Without a thread the drop that follows unloads it.
                let _ = thread::Builder::new().spawn_scoped(scope, || programs::unload(loaded));
            }
        });
    }
}

/// Loads and hooks everything that can be.
///
/// # Errors
/// When the machine or its kernel cannot run slowpod at all, or a required probe cannot be had.
pub fn attach(options: &Options) -> Result<Attached, AttachError> {
    host::check()?;
    let bytes =
        fs::read(host::BTF_PATH).map_err(|error| AttachError::NoBtf { path: host::BTF_PATH, error })?;
    let btf = Btf::parse(&bytes)?;
    if btf.enumerator("bpf_map_type", "BPF_MAP_TYPE_RINGBUF").is_none() {
        return Err(AttachError::KernelTooOld { release: kernel_release() });
    }
    let offsets = Offsets::resolve(&btf);
    let (ebpf, kernel_types) = thread::scope(|scope| {
        // aya wants the types in a form of its own.
        let kernel_types = scope.spawn(|| aya::Btf::parse(&bytes, Endianness::Little));
        (load(options, &btf, &offsets), kernel_types.join())
    });
    let mut ebpf = ebpf?;
    let kernel_types = match kernel_types {
        Ok(types) => types.map_err(|error| object_error(&error.into()))?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    let counter_error = |error: CountersError| AttachError::Object { detail: error.to_string(), errno: None };
    let queues = Queues::take(&mut ebpf).map_err(counter_error)?;
    let early = Early::take(&mut ebpf).map_err(counter_error)?;
    let wakes = WakeCounts::take(&mut ebpf, &offsets).map_err(counter_error)?;
    // Where it is of no use the maps stay where they are: programs name them all the same.
    let unwind = has_pt_regs(&btf).then(|| UnwindMaps::take(&mut ebpf)).transpose().map_err(counter_error)?;
    let sampler = Sampler::take(&mut ebpf).map_err(|error| object_error(&error.into()))?;
    let mut ladder =
        Ladder { ebpf, kernel_types, offsets: &offsets, options, tracefs: TraceFs::ensure(), sampler };
    ladder.load_first_rungs();
    let verdicts: Vec<Verdict> = PROBES.iter().map(|probe| ladder.climb(probe)).collect();
    let useless =
        |(probe, verdict): &(&Probe, &Verdict)| probe.need == Need::Required && !verdict.state.is_on();
    if let Some((_, verdict)) = PROBES.iter().zip(&verdicts).find(useless) {
        return Err(AttachError::Required { verdict: verdict.clone(), all: verdicts });
    }
    let Ladder { mut ebpf, sampler, .. } = ladder;
    let threads = Threads::take(&mut ebpf).map_err(|detail| AttachError::Object { detail, errno: None })?;
    let mut counters = Counters::take(&mut ebpf).map_err(counter_error)?;
    counters.watch(&ebpf);
    let rings = Rings::new(
        (ring(&mut ebpf, "LIFE")?, options.life_ring_bytes),
        (ring(&mut ebpf, "NETLINK")?, options.netlink_ring_bytes),
        (ring(&mut ebpf, "SAMPLES")?, SAMPLES_RING_BYTES),
    )
    .map_err(|error| AttachError::Object { detail: chain(&error), errno: error.raw_os_error() })?;
    Ok(Attached {
        verdicts,
        rings,
        counters,
        threads,
        sampler,
        queues,
        early,
        wakes,
        unwind,
        hooks: Hooks { programs: ebpf },
    })
}

/// Creates the maps and prepares the programs, with this kernel's numbers in the globals.
fn load(options: &Options, btf: &Btf<'_>, offsets: &Offsets) -> Result<Ebpf, AttachError> {
    let known = |layout: &Layout| {
        let source = layout.source(|name| btf.enumerator("cgroup_subsys_id", name))?;
        Some((source, layout.hierarchy))
    };
    let (cgroup_source, cgroup_hierarchy) = options.cgroups.as_ref().and_then(known).unwrap_or((0, 0));
    let use_sched_info = u32::from(wants_sched_info(offsets, options));
    // Since 5.18 the fourth argument is the state `prev` had.
    let switch_has_state = u32::from(btf.tracepoint_arguments("sched_switch") >= Some(4));
    let words = [
        (globals::OWN_TGID, options.own_tgid),
        (globals::CGROUP_SOURCE, cgroup_source),
        (globals::CGROUP_HIERARCHY, cgroup_hierarchy),
        (globals::USE_SCHED_INFO, use_sched_info),
        (globals::HAVE_PT_REGS, u32::from(has_pt_regs(btf))),
        (globals::SWITCH_HAS_STATE, switch_has_state),
        (globals::SPAWN_STACKS, u32::from(options.spawn_stacks)),
    ];
    let long_words = [
        (globals::AWAY_MIN_NS, options.away_min_ns),
        (globals::LIFE_RING_BYTES, u64::from(options.life_ring_bytes)),
        (globals::NETLINK_RING_BYTES, u64::from(options.netlink_ring_bytes)),
    ];
    let (classes, ops) = (syscalls::classes(), syscalls::ops());
    let (sends, receives) = (syscalls::sends(), syscalls::receives());
    let mut loader = EbpfLoader::new();
    // Nothing is relocated by aya: the offsets above take the place of that.
    loader.btf(None);
    for (name, value) in words.iter().chain(offsets.globals()) {
        loader.override_global(name, value, true);
    }
    for (name, value) in &long_words {
        loader.override_global(name, value, true);
    }
    loader
        .override_global(globals::SYSCALL_CLASS, &classes, true)
        .override_global(globals::SYSCALL_OP, &ops, true)
        .override_global(globals::SEND_CALLS, &sends, true)
        .override_global(globals::RECEIVE_CALLS, &receives, true)
        .map_max_entries("LIFE", options.life_ring_bytes)
        .map_max_entries("NETLINK", options.netlink_ring_bytes)
        .load(options.object.as_deref().unwrap_or(OBJECT))
        .map_err(|error| object_error(&error))
}

/// Whether programs can have the registers that a thread entered the kernel with (5.15+).
fn has_pt_regs(btf: &Btf<'_>) -> bool {
    btf.enumerator("bpf_func_id", "BPF_FUNC_task_pt_regs").is_some()
}

/// Whether the rung that reads the kernel's own queue clock is to be used.
fn wants_sched_info(offsets: &Offsets, options: &Options) -> bool {
    let rung = PROBES.iter().find(|probe| probe.name == "split").and_then(|probe| probe.rungs.first());
    rung.is_some_and(|rung| offsets.missing(rung.fields).is_empty() && !options.avoids(rung))
}

/// What hooking a program takes.
struct Ladder<'a> {
    ebpf: Ebpf,
    kernel_types: aya::Btf,
    offsets: &'a Offsets,
    options: &'a Options,
    /// Mounted until all programs are hooked.
    tracefs: io::Result<TraceFs>,
    /// With timers once they run.
    sampler: Sampler,
}

impl Ladder<'_> {
    /// Why a rung is not even tried.
    fn excluded(&self, rung: &Rung) -> Option<Failure> {
        let missing = self.offsets.missing(rung.fields);
        if self.options.avoids(rung) {
            Some(Failure::Avoided)
        } else {
            (!missing.is_empty()).then_some(Failure::MissingFields(missing))
        }
    }

    /// Loads what most kernels will be found to take: the programs of each probe's first rung that can be tried.
    fn load_first_rungs(&mut self) {
        let first = |probe: &Probe| probe.rungs.iter().find(|rung| self.excluded(rung).is_none());
        let rungs = PROBES.iter().filter_map(first);
        let wanted: Vec<Program> = rungs.flat_map(|rung| rung.programs).copied().collect();
        programs::load_together(&mut self.ebpf, &self.kernel_types, &wanted);
    }

    /// Tries a probe's rungs until one holds.
    fn climb(&mut self, probe: &Probe) -> Verdict {
        let mut tries = Vec::new();
        for rung in probe.rungs {
            let outcome = match self.excluded(rung) {
                Some(failure) => Err(failure),
                None => self.hook_all(rung),
            };
            let done = outcome.is_ok();
            tries.push(Try { rung: rung.name, outcome });
            if done {
                break;
            }
        }
        verdict::judge(probe, &tries)
    }

    /// Hooks a rung's programs: all, or none.
    fn hook_all(&mut self, rung: &Rung) -> Result<(), Failure> {
        for program in rung.programs {
            match self.hook(program) {
                Ok(()) => {}
                Err(Failure::NoHook { .. }) if program.optional => {}
                Err(failure) => {
                    rung.programs.iter().for_each(|program| programs::unhook(&mut self.ebpf, program));
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    fn hook(&mut self, program: &Program) -> Result<(), Failure> {
        if let (Hook::Tracepoint(..), Err(error)) = (program.hook, &self.tracefs) {
            let hook = format!(
                "tracefs: it is not mounted, and mounting it failed ({error}); \
                 try `mount -t tracefs tracefs /sys/kernel/tracing`"
            );
            return Err(Failure::NoHook { hook });
        }
        if program.hook == Hook::CpuClock {
            return programs::sample(&mut self.ebpf, &mut self.sampler, program);
        }
        programs::hook(&mut self.ebpf, &self.kernel_types, program)
    }
}

fn ring(ebpf: &mut Ebpf, name: &str) -> Result<RingBuf<MapData>, AttachError> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| AttachError::Object { detail: format!("it has no map {name}"), errno: None })?;
    RingBuf::try_from(map).map_err(|error| object_error(&error.into()))
}

fn object_error(error: &EbpfError) -> AttachError {
    AttachError::Object { detail: chain(error), errno: errno(error) }
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |text| text.trim().into())
}
