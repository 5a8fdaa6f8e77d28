//! Facts: what the agent learns outside the kernel's rings. In: bytes of a [`Kind::Fact`] record. Out: a
//! [`Fact`].
//!
//! A fact record is an [`abi::Header`](Header) and JSON right behind it, without padding: `{"fact":"clock",
//! "wall_unix_ns":1718000000000000000}`. It is on tapes, so a field is never renamed nor given another meaning.
//! Every time is kernel monotonic (`CLOCK_MONOTONIC`) unless its comment says otherwise.

mod names;
pub mod namespaces;
pub mod pods;
pub mod pressure;
pub mod symbols;

pub use namespaces::Namespaces;
pub use pods::{PodRef, Throttled};
pub use pressure::{Disk, Pressure};

use super::raw_text::RawText;
use serde::{Deserialize, Serialize};
use slowpod_ebpf::abi::{self, Header, Kind, Miss};
use zerocopy::IntoBytes;

/// Longest fact record accepted, in bytes. The longest true one, a process whose path (`PATH_MAX`), argv and
/// comm are all bytes of five characters each in JSON, takes a third of it.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

/// Something learnt from outside the rings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The machine and the agent, once at the start.
    Node(Node),
    /// Wall time at the instant of the record's header; again every minute and after each clock step.
    Clock {
        /// Nanoseconds since 1970-01-01T00:00:00Z.
        wall_unix_ns: i64,
    },
    /// A process that was there before its spawn could be seen, or is there at a flight recorder's keyframe.
    Process(Box<Process>),
    /// A cgroup that was there before its making could be seen.
    Cgroup {
        /// Its id: the inode number of its directory.
        id: u64,
        /// Hierarchy it belongs to, as in [`abi::cgroup::Cgroup::hierarchy`].
        hierarchy: u32,
        /// Its path from the hierarchy's root; only the last [`abi::cgroup::PATH_BYTES`] of a longer one.
        path: RawText,
    },
    /// The start-up scan is through: what it did not find was not there.
    ScanDone {
        /// Processes found.
        processes: u32,
        /// Cgroups found.
        cgroups: u32,
        /// True when there were more processes or cgroups than the scan takes.
        cut: bool,
        /// How long it took, nanoseconds.
        took_ns: u64,
    },
    /// What became of one probe.
    Probe(Probe),
    /// Records of one kind that the kernel could not or did not send, since the previous such fact.
    Loss {
        /// Their kind.
        #[serde(with = "names::kind")]
        kind: Kind,
        /// Lost: the ring was full.
        dropped: u64,
        /// Only counted, on purpose: the ring was nearly full.
        counted: u64,
    },
    /// The kernel skipped a program because it was already running on that CPU, since the previous such fact about it:
    /// what it would have seen is lost.
    Skipped {
        /// The program.
        program: String,
        /// How often.
        count: u64,
    },
    /// A table in the kernel could not hold something, since the previous such fact.
    Miss {
        /// Why.
        #[serde(with = "names::miss")]
        reason: Miss,
        /// How often.
        count: u64,
    },
    /// What the agent's own intake lost or folded, since the previous such fact.
    Capture(Capture),
    /// How busy the disks are, every second.
    Pressure(Pressure),
    /// A generic netlink family of this kernel: message types below 16 mean nothing without it.
    GenlFamily {
        /// Its message type.
        id: u16,
        /// Its name (`ipvs`, `nl80211`).
        name: String,
    },
    /// What a pod is called; for a keyframe.
    PodName {
        /// Its UID.
        uid: String,
        /// Its namespace.
        namespace: String,
        /// Its name in there.
        name: String,
    },
    /// What a container is called.
    Container {
        /// Its id.
        id: String,
        /// Its name in its pod's specification; empty for a pod's sandbox.
        name: String,
        /// Its pod, where that is noted beside it.
        pod: Option<PodRef>,
    },
    /// A process believed alive is not: its exit was lost.
    Gone {
        /// Its pid.
        tgid: u32,
        /// Its start, as in [`abi::Task::start_ns`].
        start_ns: u64,
    },
    /// A cgroup was held back by its own CPU quota, since the previous such fact about it.
    Throttled(Throttled),
    /// Some thread of the node waited for a CPU, since the previous such fact (`/proc/pressure/cpu`).
    CpuPressure {
        /// For so long, nanoseconds.
        some_ns: u64,
    },
    /// Names for addresses in call stacks.
    Symbols(symbols::Symbols),
}

/// The machine and the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Kubernetes' name of the node if the agent was told, else the host name.
    pub node_name: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// CPUs online.
    pub cpus: u32,
    /// This boot's random id; monotonic times of another boot do not compare.
    pub boot_id: Option<String>,
    /// Version of the agent that wrote the record.
    pub agent_version: String,
    /// How much of an argv is kept: the value of `--argv`.
    pub argv_mode: String,
    /// Ticks per second of the times in `/proc` (`USER_HZ`).
    pub clk_tck: u32,
    /// False when `/proc` shows a container's pids: processes found there cannot be matched with records.
    pub host_pid_ns: bool,
    /// The agent's own pid; 0 where that is not told.
    #[serde(default)]
    pub agent_pid: u32,
    /// Where the API server is, as far as this node says: `10.96.0.1:443`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_servers: Vec<String>,
}

/// What became of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Its name in [`abi::probes::PROBES`].
    pub probe: String,
    /// Whether it works.
    pub state: ProbeState,
    /// The rung that attached; empty when none did.
    pub rung: String,
    /// Why not, or why not a better rung; empty when there is nothing to say.
    pub why: String,
    /// What is missing without it, a clause; empty when nothing is.
    pub consequence: String,
}

/// Whether a probe works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeState {
    /// By its best rung.
    Attached,
    /// By a lower rung: the same facts at a higher cost, or with less detail.
    Degraded,
    /// This kernel has no hook or field for it.
    Unsupported,
    /// The kernel has what it takes but does not permit it.
    Denied,
    /// It should have worked.
    Broken,
    /// Not wanted.
    Off,
}

impl ProbeState {
    /// Name in JSON, metrics and tables.
    pub const fn name(self) -> &'static str {
        match self {
            ProbeState::Attached => "attached",
            ProbeState::Degraded => "degraded",
            ProbeState::Unsupported => "unsupported",
            ProbeState::Denied => "denied",
            ProbeState::Broken => "broken",
            ProbeState::Off => "off",
        }
    }

    /// Whether the probe delivers.
    pub const fn is_on(self) -> bool {
        matches!(self, ProbeState::Attached | ProbeState::Degraded)
    }
}

/// A living process, or one that ended a moment ago.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub tgid: u32,
    /// Its start, nanoseconds since boot, as in [`abi::Task::start_ns`].
    pub start_ns: u64,
    /// False when `start_ns` comes from `/proc`, which cuts it to whole ticks: compare with [`same_start`].
    pub start_exact: bool,
    /// Its parent's pid at the time of the record.
    pub ppid: u32,
    /// Who spawned it; `None` when that was not seen.
    pub spawner: Option<ProcessId>,
    /// When it was spawned; 0 when that was not seen.
    pub spawned_ns: u64,
    /// When its spawner entered the clone call; 0 when that was not seen.
    pub begun_ns: u64,
    /// When its last exec finished; 0 when that was not seen or never happened.
    pub exec_ns: u64,
    /// Its comm.
    pub comm: RawText,
    /// The file it executes: as given to exec where that was seen, else as `/proc/PID/exe` says. For a script
    /// the script, not its interpreter. Empty when not known.
    pub path: RawText,
    /// True when the file has been removed or replaced since.
    pub path_deleted: bool,
    /// Its argv, NUL-separated, already redacted. At most [`abi::exec::ARGV_BYTES`].
    pub argv: RawText,
    /// True when its argv is longer than kept here.
    pub argv_cut: bool,
    /// True when `argv` holds only the words of the argv class (`--argv class`).
    #[serde(default)]
    pub class_only: bool,
    /// True when it is a `#!` script: argv starts with the interpreter, then the script.
    pub script: bool,
    /// Its cgroup's id; 0 when not known.
    pub cgroup_id: u64,
    /// Its pid as its innermost pid namespace counts it.
    pub inner_pid: u32,
    /// How many threads it has.
    pub threads: u32,
    /// Real user id.
    pub uid: u32,
    /// Its namespaces, as far as known.
    #[serde(default, skip_serializing_if = "Namespaces::is_unknown")]
    pub namespaces: Namespaces,
    /// The CNI work it does or is part of; `None` when it has nothing to do with any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni: Option<Box<CniWork>>,
    /// The variables of a CNI call in its environment, of a process that the start-up scan found. Its children have
    /// them too, so they say less than `cni`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_environment: Option<Box<super::cni::Environment>>,
    /// Its end, if it has ended and was not yet collected or forgotten.
    pub exited: Option<Exited>,
}

/// What a process does CNI work for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniWork {
    /// The nearest plugin process above it, or itself.
    pub call: ProcessId,
    /// Of a delegated plugin: the plugin that runs it.
    pub parent: Option<ProcessId>,
    /// The variables that say so.
    pub environment: super::cni::Environment,
}

/// A process of the past or present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id.
    pub tgid: u32,
    /// Its start, as in [`abi::Task::start_ns`].
    pub start_ns: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exited {
    /// When; 0 when not known.
    pub exit_ns: u64,
    /// Wait status, as in [`abi::exit::Exit::status`].
    pub status: u32,
}

/// Counters of the agent's intake; all are growth since the previous such fact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Records that came after younger ones had been passed on.
    pub late: u64,
    /// Records that could not be decoded.
    pub garbled: u64,
    /// Records folded into a sum because the pipeline fell behind.
    pub coalesced: u64,
    /// Records that the flight recorder forgot to stay within its bounds, and
    pub evicted_records: u64,
    /// their bytes.
    pub evicted_bytes: u64,
}

/// Whether an exact start and one cut to ticks (or two of either) are the same process's. `clk_tck` is
/// [`Node::clk_tck`].
pub fn same_start(one_ns: u64, other_ns: u64, clk_tck: u32) -> bool {
    let tick_ns = tick_ns(clk_tck);
    one_ns / tick_ns == other_ns / tick_ns
}

/// Nanoseconds of one tick of the times in `/proc`.
pub const fn tick_ns(clk_tck: u32) -> u64 {
    match clk_tck {
        0 => 10_000_000,
        hz => 1_000_000_000 / hz as u64,
    }
}

/// Why a fact record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FactError {
    /// Shorter than a header.
    #[error("{0} bytes are no record")]
    Short(usize),
    /// Another kind of record.
    #[error("kind {0} is not a fact")]
    Kind(u32),
    /// The header's length is not that of the record, or over [`RECORD_BYTES_MAX`].
    #[error("a fact of {header} bytes by its header, {found} by its size")]
    Length {
        /// What the header says.
        header: u32,
        /// What there is.
        found: usize,
    },
    /// Not JSON, or not a fact that this version knows.
    #[error("unreadable fact: {0}")]
    Json(#[from] serde_json::Error),
}

/// Appends the record of a fact learnt at `ktime_ns`.
pub fn encode(ktime_ns: u64, fact: &Fact, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; size_of::<Header>()]);
    serde_json::to_writer(&mut *out, fact).expect("names are strings, and a Vec takes every byte");
    let len_bytes = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    let header = Header { ktime_ns, kind: Kind::Fact as u32, len_bytes };
    out[start..start + size_of::<Header>()].copy_from_slice(header.as_bytes());
}

/// Reads one whole record, header included.
pub fn decode(record: &[u8]) -> Result<Fact, FactError> {
    let (header, json) = abi::prefix::<Header>(record).ok_or(FactError::Short(record.len()))?;
    if header.kind != Kind::Fact as u32 {
        return Err(FactError::Kind(header.kind));
    }
    if header.len_bytes as usize != record.len() || record.len() > RECORD_BYTES_MAX {
        return Err(FactError::Length { header: header.len_bytes, found: record.len() });
    }
    Ok(serde_json::from_slice(json)?)
}

#[cfg(test)]
mod tests;
