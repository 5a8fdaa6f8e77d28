//! Programs that are started to do a CNI call, told by their environment. Costs every exec one pass over its
//! variables, so nothing is copied and no record is made until `CNI_COMMAND` was there.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_user_str,
    macros::{btf_tracepoint, map},
    maps::PerCpuArray,
    programs::BtfTracePointContext,
};
use core::ptr;
use slowpod_ebpf::{
    abi::{
        Header, Kind, Miss,
        cni::{ARGS_BYTES, Cni, FLAG_ENV_CUT},
    },
    rules::{
        env::{self, Head, Key, PIECE_BYTES, Read, Walked},
        verifier::at_most,
    },
};

use super::{
    kernel::{
        OFF_MM_ENV_END, OFF_MM_ENV_START, OFF_TASK_MM, TaskStruct, cgroup_id, comm, identity, is_own, now_ns,
    },
    ring::{self, Ring},
    tables,
};

/// A record with room for its text, and for the piece that is looked at.
#[repr(C)]
struct Whole {
    fixed: Cni,
    /// With the NUL that the helper writes.
    args: [u8; ARGS_BYTES + 8],
    piece: Piece,
}

#[repr(C)]
union Piece {
    head: Head,
    bytes: [u8; PIECE_BYTES],
}

#[map]
static CNI_SCRATCH: PerCpuArray<Whole> = PerCpuArray::with_max_entries(1, 0);

/// Attached behind `process_exec` at the same tracepoint, so its record follows that one's.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec_cni(ctx: BtfTracePointContext) -> i32 {
    let task: *const TaskStruct = ctx.arg(0);
    if is_own(task) {
        return 0;
    }
    let Some((start, end)) = environment(task) else { return 0 };
    let Some(whole) = CNI_SCRATCH.get_ptr_mut(0) else { return 0 };
    // In the map and not in registers: the verifier would follow each combination of bits on its own way.
    // SAFETY: this CPU's scratch; one program uses it, and it does not interrupt itself.
    let (found, cut) = unsafe { (&raw mut (*whole).fixed.found, &raw mut (*whole).fixed.cut) };
    // SAFETY: as above, for this and all that follows.
    unsafe {
        found.write_volatile(0);
        cut.write_volatile(0);
    }
    let walked = env::walk(
        start,
        end,
        |at| read(whole, at),
        |key, at, len| {
            // SAFETY: as above.
            unsafe {
                if keep(whole, key, at, len) {
                    cut.write_volatile(cut.read_volatile() | key.bit());
                }
                found.write_volatile(found.read_volatile() | key.bit());
            }
        },
    );
    match walked {
        Walked::Whole => {}
        // SAFETY: as above.
        Walked::Cut => unsafe { cut.write_volatile(cut.read_volatile() | FLAG_ENV_CUT) },
        Walked::Unread => ring::miss(Miss::UserRead),
    }
    // SAFETY: as above.
    if unsafe { found.read_volatile() } & Key::Command.bit() == 0 {
        return 0;
    }
    if tables::process_of(task).is_some_and(|process| process.detail == 0) {
        ring::only_count(Kind::Cni);
        return 0;
    }
    // SAFETY: as above.
    send(task, unsafe { &mut *whole });
    0
}

#[inline(always)]
fn environment(task: *const TaskStruct) -> Option<(u64, u64)> {
    let memory = OFF_TASK_MM.probe(task)?;
    Some((OFF_MM_ENV_START.probe(memory)?, OFF_MM_ENV_END.probe(memory)?))
}

#[inline(always)]
fn read(whole: *mut Whole, at: u64) -> Option<Read> {
    // SAFETY: the piece is as large as said; the helper checks the source.
    unsafe {
        let piece = &raw mut (*whole).piece;
        let len = bpf_probe_read_user_str(piece.cast(), PIECE_BYTES as u32, at as *const _);
        // Volatile, since the helper changes what looks like nobody does.
        (len > 0).then(|| Read { len: len as u64, head: ptr::read_volatile(piece.cast::<Head>()) })
    }
}

/// Copies a value to its place. Whether it is longer than that.
///
/// # Safety
/// `whole` is this CPU's scratch.
#[inline(always)]
unsafe fn keep(whole: *mut Whole, key: Key, at: u64, len: u64) -> bool {
    // SAFETY: the caller promises it.
    let fixed = unsafe { &raw mut (*whole).fixed };
    macro_rules! copy {
        ($to:expr, $bytes:expr) => {{
            const BYTES: u32 = $bytes as u32;
            bpf_probe_read_user_str((&raw mut $to).cast(), BYTES, at as *const _);
            len > u64::from(BYTES) - 1
        }};
    }
    // SAFETY: each place in this CPU's scratch has the room said; the helper checks the source.
    unsafe {
        match key {
            Key::Command => copy!((*fixed).command, 16),
            Key::ContainerId => copy!((*fixed).container_id, 128),
            Key::NetNs => copy!((*fixed).netns, 256),
            Key::IfName => copy!((*fixed).ifname, 16),
            Key::TraceParent => copy!((*fixed).traceparent, 64),
            Key::Args => {
                (*fixed).args_len = at_most(len, ARGS_BYTES as u64) as u32;
                copy!((*whole).args, ARGS_BYTES + 1)
            }
        }
    }
}

#[inline(always)]
fn send(task: *const TaskStruct, whole: &mut Whole) {
    let fixed = &mut whole.fixed;
    let found = fixed.found;
    // The scratch holds what an earlier exec left.
    if found & Key::ContainerId.bit() == 0 {
        fixed.container_id[0] = 0;
    }
    if found & Key::NetNs.bit() == 0 {
        fixed.netns[0] = 0;
    }
    if found & Key::IfName.bit() == 0 {
        fixed.ifname[0] = 0;
    }
    if found & Key::TraceParent.bit() == 0 {
        fixed.traceparent[0] = 0;
    }
    if found & Key::Args.bit() == 0 {
        fixed.args_len = 0;
    }
    let args_len = at_most(u64::from(fixed.args_len), ARGS_BYTES as u64);
    let len = size_of::<Cni>() as u64 + args_len;
    fixed.header = Header { ktime_ns: now_ns(), kind: Kind::Cni as u32, len_bytes: len as u32 };
    fixed.task = identity(task);
    fixed.cgroup_id = cgroup_id(task);
    fixed.reserved = 0;
    fixed.comm = comm(task);
    ring::send_bytes(Ring::Life, Kind::Cni, (&raw const *whole).cast(), len);
}
