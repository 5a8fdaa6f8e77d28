//! Programs that are started to do a CNI call, told by their environment. Every exec pays for the question whether
//! `CNI_COMMAND` may be there; only those where it may be are walked through, variable by variable.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str},
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
        env::{
            self, BLOCK_BYTES, BLOCKS_MAX, Block, Head, Key, PIECE_BYTES, Place, STRETCH_WORDS, STRETCHES,
            Walked,
        },
        verifier::{at_most, opaque},
    },
};

use super::{
    kernel::{
        OFF_MM_ENV_END, OFF_MM_ENV_START, OFF_TASK_MM, TaskStruct, cgroup_id, comm, identity, is_own, now_ns,
    },
    ring::{self, Ring},
    tables, wait,
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
    block: Block,
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
    if !may_be_call(whole, start, end) {
        return 0;
    }
    // In the map and not in registers: the verifier would follow each combination of bits on its own way.
    // SAFETY: this CPU's scratch; one program uses it, and it does not interrupt itself.
    let (found, cut) = unsafe { (&raw mut (*whole).fixed.found, &raw mut (*whole).fixed.cut) };
    // SAFETY: as above, for this and all that follows.
    unsafe {
        found.write_volatile(0);
        cut.write_volatile(0);
    }
    match env::walk(start, end, |place| Place(environment_pieces(place.0, end))) {
        Walked::Whole => {}
        // SAFETY: as above.
        Walked::Cut => unsafe { cut.write_volatile(cut.read_volatile() | FLAG_ENV_CUT) },
        Walked::Unread => ring::miss(Miss::UserRead),
    }
    // SAFETY: as above.
    if unsafe { found.read_volatile() } & Key::Command.bit() == 0 {
        return 0;
    }
    wait::follow(task);
    if tables::process_of(task).is_some_and(|process| process.detail == 0) {
        ring::only_count(Kind::Cni);
        return 0;
    }
    // SAFETY: as above.
    send(task, unsafe { &mut *whole });
    0
}

/// The first step of `rules::env`.
#[inline(always)]
fn may_be_call(whole: *mut Whole, start: u64, end: u64) -> bool {
    let mut at = start;
    for _ in 0..BLOCKS_MAX {
        if opaque(at) >= end {
            return false;
        }
        let rest = end - at;
        // SAFETY: this CPU's scratch, as large as said; the helper checks the source.
        let failed = unsafe {
            let to = &raw mut (*whole).piece;
            bpf_probe_read_user(to.cast(), at_most(rest, size_of::<Block>() as u64) as u32, at as *const _)
        };
        if failed != 0 {
            ring::miss(Miss::UserRead);
            return false;
        }
        if block_hints(rest, (at == start).into()) != 0 {
            return true;
        }
        at += BLOCK_BYTES as u64;
    }
    ring::miss(Miss::LongEnvironment);
    false
}

/// Whether the block in the scratch, with so many bytes of the environment from its beginning on, hints at a call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn block_hints(rest: u64, first: u64) -> u64 {
    let Some(whole) = CNI_SCRATCH.get_ptr(0) else { return 0 };
    // SAFETY: this CPU's scratch. Any bytes are words.
    if first != 0 && env::hints_at_start(unsafe { &(*whole).piece.block }) {
        return 1;
    }
    for stretch in 0..STRETCHES {
        if stretch * STRETCH_WORDS * 8 >= rest {
            break;
        }
        if stretch_hints(stretch) != 0 {
            return 1;
        }
    }
    0
}

/// Whether one stretch of it does.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stretch_hints(stretch: u64) -> u64 {
    let Some(whole) = CNI_SCRATCH.get_ptr(0) else { return 0 };
    // SAFETY: this CPU's scratch. Any bytes are words.
    u64::from(env::hints(unsafe { &(*whole).piece.block }, stretch))
}

/// Goes on with the second step of `rules::env`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn environment_pieces(place: u64, end: u64) -> u64 {
    env::go(Place(place), end, |place| environment_piece(place.0)).0
}

/// Reads the variable at a place and keeps its value, if it is one that is kept. Returns the bytes read, 0 for none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn environment_piece(place: u64) -> u64 {
    let place = Place(place);
    let Some(whole) = CNI_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's scratch; the piece is as large as said, and the helper checks the source.
    let (len, head) = unsafe {
        let piece = &raw mut (*whole).piece;
        let len = bpf_probe_read_user_str(piece.cast(), PIECE_BYTES as u32, place.address() as *const _);
        // Volatile, since the helper changes what looks like nobody does.
        (len, ptr::read_volatile(piece.cast::<Head>()))
    };
    if len <= 0 {
        return 0;
    }
    let len = len as u64;
    if place.begins()
        && let Some(key) = env::key(&head)
    {
        let name_bytes = key.text().len() as u64;
        // SAFETY: as above.
        unsafe {
            let fixed = &raw mut (*whole).fixed;
            if keep(whole, key, place.address().wrapping_add(name_bytes), len.wrapping_sub(1 + name_bytes)) {
                (*fixed).cut |= key.bit();
            }
            (*fixed).found |= key.bit();
        }
    }
    len
}

#[inline(always)]
fn environment(task: *const TaskStruct) -> Option<(u64, u64)> {
    let memory = OFF_TASK_MM.of(task)?;
    Some((OFF_MM_ENV_START.of(memory)?, OFF_MM_ENV_END.of(memory)?))
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
