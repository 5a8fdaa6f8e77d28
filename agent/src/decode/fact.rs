//! Facts from outside the kernel's rings: what the world answered, as records. They are written to tapes as
//! JSON after the usual header, so that a tape replays without a kernel, `/proc` or a cluster.

use serde::{Deserialize, Serialize};
use slowpod_ebpf::abi::{Header, Kind};
use zerocopy::IntoBytes;

/// One fact. Field names are part of the tape format: add, never rename.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The node and the agent; once at the start of everything.
    Node(Node),
    /// At the record's monotonic time, the wall clock read this.
    Clock {
        /// Nanoseconds since 1970, UTC.
        wall_unix_ns: i64,
    },
    /// A process, as the start-up scan or the flight recorder's keyframe knows it.
    Process(Box<Process>),
    /// A cgroup directory that is there.
    Cgroup {
        /// Inode number of the directory.
        id: u64,
        /// Hierarchy (0 = v2).
        hierarchy: u32,
        /// Path relative to the hierarchy's root.
        path: String,
    },
    /// The start-up scan is done: from here on, what is not known is new.
    ScanDone {
        /// Processes found.
        processes: u64,
        /// Cgroups found.
        cgroups: u64,
        /// How long it took.
        took_ns: u64,
    },
    /// How a probe fared.
    Probe(Probe),
    /// Records of one kind that the kernel could not send, since the last such fact.
    Loss {
        /// Kind name.
        kind: String,
        /// Lost because the ring was full.
        dropped: u64,
        /// Only counted, on purpose, under flood.
        counted: u64,
    },
    /// What a kernel table could not hold, since the last such fact.
    Miss {
        /// Reason name.
        reason: String,
        /// How often.
        count: u64,
    },
    /// What the agent itself had to let go, since the last such fact.
    Capture(Capture),
    /// A generic netlink family's number on this node.
    GenlFamily {
        /// `nlmsg_type` of its messages.
        id: u16,
        /// Its name.
        name: String,
    },
    /// A sweep found a process gone whose end was never seen.
    Gone {
        /// Process id.
        tgid: u32,
        /// Its start time (ns since boot).
        start_ns: u64,
    },
}

/// The node and the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Node name: `NODE_NAME` or the host name.
    pub node_name: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// CPUs online.
    pub cpus: u32,
    /// The agent's version.
    pub agent_version: String,
    /// How argv is kept: `class`, `redacted` or `full`.
    pub argv_mode: String,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub tgid: u32,
    /// Start time, ns since boot.
    pub start_ns: u64,
    /// Whether `start_ns` is exact; the scan knows clock ticks only.
    pub exact: bool,
    /// Parent pid as `/proc` says.
    pub ppid: u32,
    /// Pid and start time of who spawned it, when that was seen.
    pub spawner: Option<(u32, u64)>,
    /// When it was spawned (monotonic ns); 0 when not seen.
    pub spawned_ns: u64,
    /// When the clone call was entered; 0 when not seen.
    pub begun_ns: u64,
    /// When its last exec was done; 0 when not seen.
    pub exec_ns: u64,
    /// Kernel's name of it, escaped.
    pub comm: String,
    /// Path of its program, escaped; empty when not readable.
    pub path: String,
    /// Its arguments, redacted and escaped, separated by blanks.
    pub argv: String,
    /// Its argv class.
    pub argv_class: String,
    /// Arguments were longer than what is kept.
    pub argv_cut: bool,
    /// Its program is a script.
    pub script: bool,
    /// Cgroup id; 0 when not known.
    pub cgroup_id: u64,
    /// Its pid as its own pid namespace counts it.
    pub inner_pid: u32,
    /// Real user id.
    pub uid: u32,
    /// It had already ended; it is told of because records about its children may follow.
    #[serde(default)]
    pub gone: bool,
}

/// How a probe fared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Probe name.
    pub probe: String,
    /// `attached`, `degraded`, `unsupported`, `denied`, `broken` or `off`.
    pub state: String,
    /// The rung that is in use; empty when none is.
    pub rung: String,
    /// Why not a better one; empty when there is nothing to say.
    pub why: String,
    /// What is lost without it; empty when nothing is.
    pub consequence: String,
}

/// What the agent itself had to let go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Records older than the reorder window.
    pub late: u64,
    /// Bytes from a ring that were no record.
    pub garbled: u64,
    /// Netlink sends merged into others: nothing is lost, but the record count is lower.
    pub coalesced: u64,
    /// Records the flight recorder dropped to stay in its bounds.
    pub evicted_records: u64,
    /// Bytes of those.
    pub evicted_bytes: u64,
}

/// Appends a fact as a record.
pub fn encode(ktime_ns: u64, fact: &Fact, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(Header { ktime_ns, kind: Kind::Fact as u32, len_bytes: 0 }.as_bytes());
    serde_json::to_writer(&mut *out, fact).expect("facts hold nothing that JSON cannot");
    let len_bytes = u32::try_from(out.len() - start).expect("facts are small");
    let header = Header { ktime_ns, kind: Kind::Fact as u32, len_bytes };
    out[start..start + size_of::<Header>()].copy_from_slice(header.as_bytes());
}

/// The fact after a record's header; the error says what did not parse.
pub fn decode(json: &[u8]) -> Result<Fact, String> {
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_the_tape() {
        let facts = [
            Fact::Clock { wall_unix_ns: -5 },
            Fact::Process(Box::new(Process { tgid: 1, comm: "a\"b\\x1b".into(), ..Process::default() })),
            Fact::Gone { tgid: 1, start_ns: 2 },
        ];
        for fact in facts {
            let mut bytes = vec![0xff; 3];
            encode(9, &fact, &mut bytes);
            let header = crate::decode::header(&bytes[3..]).unwrap();
            assert_eq!((header.ktime_ns, header.len_bytes as usize), (9, bytes.len() - 3));
            assert_eq!(decode(&bytes[3 + size_of::<Header>()..]), Ok(fact));
        }
    }

    #[test]
    fn what_is_no_fact_says_so() {
        assert!(decode(b"{").is_err());
        assert!(decode(br#"{"fact":"nonsense"}"#).unwrap_err().contains("nonsense"));
    }
}
