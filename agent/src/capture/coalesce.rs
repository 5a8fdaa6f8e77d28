//! Netlink sends of one sort, merged. In: a released batch, in time order. Out: the same batch with fewer
//! records.
//!
//! A daemon that talks netlink well sends thousands of messages a second, all alike. Sends merge when they
//! come from the same process with the same comm and cgroup, carry the same single message type of the same
//! protocol, ended the same way (errno), and lie within [`SPAN_NS`]. The merged record holds the sums and
//! stands where the last of them stood, so the batch stays in order. Anything else that the process does in
//! between (spawn, exec, reap, a refused request, a move to another cgroup) ends its runs: what came before
//! must not seem to come after. Everything else passes through untouched.

use crate::decode;
use slowpod_ebpf::abi::netlink::NetlinkSend;
use slowpod_ebpf::abi::{COMM_BYTES, Header, Kind, Task, prefix};
use zerocopy::IntoBytes;

/// Longest time from the first to the last send of one merged record. Short against a sync loop, so that its
/// start, end and gaps stay visible.
pub const SPAN_NS: u64 = 100_000_000;
/// Runs kept open at once; more and the one least recently added to is closed. Each is a process and a
/// message type that were active within a tenth of a second.
const RUNS_MAX: usize = 64;
/// Bytes of a record that can merge.
const RECORD_BYTES: usize = size_of::<NetlinkSend>();

/// Sends that may still be added to.
struct Run {
    alike: Alike,
    first_ns: u64,
    /// Where the record with the sums lies in the batch.
    start: usize,
}

/// What sends must have in common.
#[derive(PartialEq, Eq)]
struct Alike {
    tgid: u32,
    start_ns: u64,
    cgroup_id: u64,
    protocol: u16,
    message_type: u16,
    command: u16,
    errno: u16,
    flags: u32,
    comm: [u8; COMM_BYTES],
}

/// Merges what can be merged in a batch of whole records, back to back. Returns how many records went into
/// others. Bytes at the end that are no whole record stay as they are.
pub fn coalesce(batch: &mut Vec<u8>) -> u64 {
    let mut runs: Vec<Run> = Vec::new();
    let mut gone: Vec<usize> = Vec::new();
    let mut start = 0;
    while let Ok(header) = decode::header(&batch[start..]) {
        let end = start + header.len_bytes as usize;
        match Kind::from_u32(header.kind) {
            Some(Kind::NetlinkSend) => gone.extend(send(&mut batch[..end], start, &mut runs)),
            Some(
                Kind::Spawn
                | Kind::Exec
                | Kind::ExecFail
                | Kind::Exit
                | Kind::Reap
                | Kind::NetlinkError
                | Kind::CgroupMove,
            ) => end_runs(&batch[start..end], &mut runs),
            Some(
                Kind::Cgroup
                | Kind::Stack
                | Kind::Flood
                | Kind::Cni
                | Kind::Sample
                | Kind::RunQueue
                | Kind::Pushed
                | Kind::Wait
                | Kind::Output
                | Kind::Wakes
                | Kind::Fact,
            )
            | None => {}
        }
        start = end;
    }
    gone.sort_unstable();
    remove(batch, &gone);
    gone.len() as u64
}

/// Takes the send at `start` into a run, or opens one. Returns where the record lies whose sums it took over.
fn send(batch: &mut [u8], start: usize, runs: &mut Vec<Run>) -> Option<usize> {
    let (mut send, rest) = prefix::<NetlinkSend>(&batch[start..])?;
    if !rest.is_empty() {
        return None;
    }
    let Some(alike) = alike(&send) else {
        end_runs(&batch[start..], runs);
        return None;
    };
    let now_ns = send.header.ktime_ns;
    // The latest run is the likeliest, and stays at the end.
    if let Some(at) = runs.iter().rposition(|run| run.alike == alike) {
        let mut run = runs.remove(at);
        let merges = now_ns.saturating_sub(run.first_ns) <= SPAN_NS
            && prefix::<NetlinkSend>(&batch[run.start..]).is_some_and(|(before, _)| add(&mut send, &before));
        if merges {
            batch[start..].copy_from_slice(send.as_bytes());
            let before = std::mem::replace(&mut run.start, start);
            runs.push(run);
            return Some(before);
        }
    }
    if runs.len() == RUNS_MAX {
        runs.remove(0);
    }
    runs.push(Run { alike, first_ns: now_ns, start });
    None
}

/// What the send has in common with others like it; `None` when it holds several message types.
fn alike(send: &NetlinkSend) -> Option<Alike> {
    let single = send.other_messages == 0 && send.types[1..].iter().all(|count| count.messages == 0);
    single.then_some(Alike {
        tgid: send.task.tgid,
        start_ns: send.task.start_ns,
        cgroup_id: send.cgroup_id,
        protocol: send.protocol,
        message_type: send.types[0].message_type,
        command: send.types[0].command,
        errno: send.errno,
        flags: send.flags,
        comm: send.comm,
    })
}

/// Adds the sums of an earlier record to a later one. False, and nothing done, when one would overflow.
fn add(send: &mut NetlinkSend, before: &NetlinkSend) -> bool {
    let sums = || {
        Some((
            send.sends.checked_add(before.sends)?,
            send.failed_sends.checked_add(before.failed_sends)?,
            send.types[0].messages.checked_add(before.types[0].messages)?,
            send.bytes.checked_add(before.bytes)?,
            send.inside_ns.checked_add(before.inside_ns)?,
        ))
    };
    let Some((sends, failed_sends, messages, bytes, inside_ns)) = sums() else { return false };
    send.sends = sends;
    send.failed_sends = failed_sends;
    send.types[0].messages = messages;
    send.bytes = bytes;
    send.inside_ns = inside_ns;
    true
}

/// Closes the runs of the process that a record speaks of. The kinds it is called for all begin with a
/// header and the acting task.
fn end_runs(record: &[u8], runs: &mut Vec<Run>) {
    let task = record.get(size_of::<Header>()..).and_then(prefix::<Task>);
    if let Some((task, _)) = task {
        runs.retain(|run| (run.alike.tgid, run.alike.start_ns) != (task.tgid, task.start_ns));
    }
}

/// Takes out the records that begin at `gone` (sorted) and closes the gaps.
fn remove(batch: &mut Vec<u8>, gone: &[usize]) {
    let Some(first) = gone.first() else { return };
    let mut end = *first;
    for (at, start) in gone.iter().enumerate() {
        let until = gone.get(at + 1).copied().unwrap_or(batch.len());
        batch.copy_within(start + RECORD_BYTES..until, end);
        end += until - (start + RECORD_BYTES);
    }
    batch.truncate(end);
}

#[cfg(test)]
mod tests;
