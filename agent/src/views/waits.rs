//! What a call waited for, as blocks of an answer: the evidence behind the parts of its split.

use super::describe::{IdentityBlock, ProcessRef, ratio};
use crate::decode::netlink_names;
use crate::enrich::ProcId;
use crate::fold::State;
use crate::fold::grow::total;
use crate::fold::pressure::Growth;
use crate::fold::waits::{KernelLock, Key, Sum, Thing, Waits};
use serde::Serialize;
use slowpod_ebpf::abi::split::Cause;
use std::cmp::Reverse;
use std::sync::Arc;

/// Rows shown of one call.
const ROWS_SHOWN: usize = 12;

/// Waits for one thing.
#[derive(Clone, Debug, Serialize)]
pub(super) struct WaitBlock {
    /// Cause, as in `blocked_by`; `poll` for a program that waits for several descriptors.
    cause: &'static str,
    /// What was behind it: of a poll the connection it has.
    on: &'static str,
    /// The call it was in.
    op: &'static str,
    waits: u64,
    /// Blocked, over all threads.
    blocked_ns: u64,
    longest_ns: u64,
    /// Path of the file, as far as it is known: `…/` stands for more directories, `/` for the root of its file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceBlock>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    /// Holder of the lock, or the daemon at the socket's other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<HolderBlock>,
    /// Of a lock: most that were before it, the holder included.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<String>,
    /// The other end is the API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_server: Option<bool>,
    /// Of TCP: segments sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmits: Option<u64>,
    /// Of netlink: type of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Of netlink: it waited for this lock of the kernel: `rtnl`, which all changes to interfaces, addresses and routes take,
    /// or `nftables`, which all changes to packet filter rules take.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_lock: Option<&'static str>,
}

/// A device.
#[derive(Clone, Debug, Serialize)]
struct DeviceBlock {
    /// `major:minor`.
    number: String,
    /// Kernel's name; `null` for a file system without a device of its own.
    name: Option<String>,
}

/// Who has what others wait for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HolderBlock {
    process: ProcessRef,
    identity: IdentityBlock,
    /// The sandbox it did a CNI call for.
    #[serde(skip_serializing_if = "Option::is_none")]
    container_id: Option<Arc<str>>,
}

/// How busy the node's disks were around a call.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NodeIoBlock {
    /// The readings around it lie this far apart.
    span_ns: u64,
    /// Share of it in which some thread of the node waited for I/O (PSI).
    some: f64,
    /// Share of it in which nothing else ran meanwhile (PSI).
    full: f64,
    disks: Vec<DiskBlock>,
}

/// One device.
#[derive(Clone, Debug, Serialize)]
struct DiskBlock {
    name: String,
    /// Share of the time in which it had something to do.
    busy: f64,
    reads: u64,
    writes: u64,
}

/// Rows, the longest first.
pub(super) fn blocks(state: &State, waits: &Waits) -> Vec<WaitBlock> {
    let mut rows: Vec<_> = waits.rows().collect();
    rows.sort_by_key(|(_, sum)| Reverse(sum.blocked_ns));
    rows.into_iter().take(ROWS_SHOWN).map(|(key, sum)| block(state, key, sum)).collect()
}

fn block(state: &State, key: &Key, sum: &Sum) -> WaitBlock {
    let is_lock = key.cause() == Cause::FileLock;
    let (dev, inode) = match key.thing {
        Thing::File { dev, ino } => (Some(dev), (ino != 0).then_some(ino)),
        _ => (None, None),
    };
    let remote = match key.thing {
        Thing::Inet(remote) => Some(remote),
        _ => None,
    };
    WaitBlock {
        cause: key.cause().name(),
        on: key.kind().name(),
        op: key.op.name(),
        waits: sum.waits,
        blocked_ns: sum.blocked_ns,
        longest_ns: sum.longest_ns,
        path: (!sum.name.is_empty()).then(|| sum.name.clone()),
        device: dev.map(|dev| device(state, dev)),
        inode,
        holder: key.holder.map(|id| holder(state, id)),
        queue_max: is_lock.then_some(sum.queue_max),
        remote: remote.map(|remote| remote.to_string()),
        local: sum.local.map(|local| local.to_string()),
        api_server: remote.map(|remote| state.is_api_server(&remote)),
        retransmits: remote.map(|_| sum.retransmits),
        message: message(state, key),
        kernel_lock: key.kernel_lock().map(KernelLock::name),
    }
}

/// Name of the request that a netlink wait was for; `None` when it waited for an answer, or for something else.
pub(crate) fn message(state: &State, key: &Key) -> Option<String> {
    let Thing::Netlink { protocol, message_type } = key.thing else { return None };
    let family = |id: u16| state.genl.get(&id).map(String::as_str);
    (message_type != 0).then(|| netlink_names::message_name(protocol, message_type, 0, &family).into_owned())
}

fn device(state: &State, dev: u32) -> DeviceBlock {
    DeviceBlock {
        number: format!("{}:{}", dev >> 20, dev & 0xf_ffff),
        name: state.pressure.disk_name(dev).map(str::to_owned),
    }
}

/// Who has something.
pub(super) fn holder(state: &State, id: ProcId) -> HolderBlock {
    let process = state.processes.get(id);
    let work = process.and_then(|process| process.cni.as_ref());
    HolderBlock {
        process: ProcessRef::of(state, id),
        identity: process.map_or(IdentityBlock::Unknown, |process| IdentityBlock::of_process(state, process)),
        container_id: work.map(|work| work.container_id.clone()),
    }
}

/// The node's disks while a call ran; `None` when it did not wait for any.
pub(super) fn node_io(state: &State, from_ns: u64, until_ns: u64, waits: [&Waits; 2]) -> Option<NodeIoBlock> {
    let disk_ns = total(waits.map(|waits| waits.blocked_ns(|key| key.kind() == Cause::Disk)));
    let growth = state.pressure.over(from_ns, until_ns).filter(|_| disk_ns > 0)?;
    Some(node_io_block(&growth))
}

fn node_io_block(growth: &Growth) -> NodeIoBlock {
    let disk = |disk: &crate::decode::fact::Disk| DiskBlock {
        name: disk.name.clone(),
        busy: ratio(disk.busy_ms.saturating_mul(1_000_000), growth.span_ns).min(1.0),
        reads: disk.reads,
        writes: disk.writes,
    };
    NodeIoBlock {
        span_ns: growth.span_ns,
        some: ratio(growth.io_some_ns, growth.span_ns).min(1.0),
        full: ratio(growth.io_full_ns, growth.span_ns).min(1.0),
        disks: growth.disks.iter().take(4).map(disk).collect(),
    }
}
