//! What processes of CNI calls write to descriptors 1 and 2: the plugin's own words.

use aya_ebpf::{
    EbpfContext,
    macros::{map, tracepoint},
    maps::PerCpuArray,
    programs::TracePointContext,
};
use core::ptr;
use slowpod_ebpf::{
    abi::{
        Header, Kind, Miss,
        output::{FLAG_CUT, FLAG_UNREAD, Output, STREAM_BYTES},
    },
    rules::verifier::at_most,
};

use super::{
    kernel::{TaskStruct, address, current, identity, now_ns},
    ring::{self, Ring},
    tables,
    text::{self, user_value},
    wait,
};

/// Pieces of a writev that are looked at.
const PIECES_MAX: u64 = 4;

/// A record with room for its text.
#[repr(C)]
struct Whole {
    fixed: Output,
    text: [u8; STREAM_BYTES + 8],
}

#[map]
static OUTPUT_SCRATCH: PerCpuArray<Whole> = PerCpuArray::with_max_entries(1, 0);

#[tracepoint]
pub fn write_enter(ctx: TracePointContext) -> u32 {
    let Some(writer) = writer(&ctx) else { return 0 };
    wrote(&writer, argument(&ctx, 1), argument(&ctx, 2));
    0
}

#[tracepoint]
pub fn writev_enter(ctx: TracePointContext) -> u32 {
    let Some(writer) = writer(&ctx) else { return 0 };
    let (pieces, count) = (argument(&ctx, 1), argument(&ctx, 2));
    let mut piece = 0;
    while piece < PIECES_MAX {
        if piece >= count {
            return 0;
        }
        /// Size of `struct iovec`.
        const IOVEC_BYTES: u64 = 16;
        let at = pieces + piece * IOVEC_BYTES;
        let (Some(base), Some(len)) = (user_value::<u64>(at), user_value::<u64>(at + 8)) else {
            ring::miss(Miss::UserRead);
            return 0;
        };
        wrote(&writer, base, len);
        piece += 1;
    }
    0
}

/// An argument of the system call: `long args[]`, in every `sys_enter_*` tracepoint's format.
#[inline(always)]
fn argument(ctx: &TracePointContext, index: usize) -> u64 {
    const ARGUMENTS_OFFSET: usize = 16;
    // SAFETY: inside the tracepoint's data, which the verifier checks.
    unsafe { ptr::read_volatile(ctx.as_ptr().cast::<u8>().add(ARGUMENTS_OFFSET + index * 8).cast::<u64>()) }
}

/// Who writes, and to which of the two.
struct Writer {
    task: *const TaskStruct,
    process: u64,
    fd: u32,
}

/// `None` for everyone but the processes of CNI calls. What all others pay, at each write of the machine, is a test of
/// the descriptor; and at those to 1 and 2 a look at who runs.
#[inline(always)]
fn writer(ctx: &TracePointContext) -> Option<Writer> {
    let fd = argument(ctx, 0);
    if fd != 1 && fd != 2 {
        return None;
    }
    let task = current();
    let key = address(task);
    let running = tables::running()?;
    if running.key == key && running.tracked == 0 {
        return None;
    }
    let row = tables::task(key)?;
    if row.evidence & wait::FOLLOWED == 0 || row.process == 0 {
        return None;
    }
    Some(Writer { task, process: row.process, fd: fd as u32 })
}

/// Sends what is written, as far as its stream has room.
#[inline(always)]
fn wrote(writer: &Writer, from: u64, len: u64) {
    let Some(process) = tables::process(writer.process) else { return };
    let written = if writer.fd == 1 { &mut process.stdout_bytes } else { &mut process.stderr_bytes };
    let room = STREAM_BYTES as u64 - at_most(u64::from(*written), STREAM_BYTES as u64);
    if room == 0 || len == 0 {
        return;
    }
    let Some(whole) = OUTPUT_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's scratch. The two programs that share it run in system calls and with preemption off.
    let whole = unsafe { &mut *whole };
    let mut kept = at_most(at_most(len, room), STREAM_BYTES as u64);
    *written += kept as u16;
    let mut flags = if kept < len { FLAG_CUT } else { 0 };
    // SAFETY: the text has the room.
    if !unsafe { text::user_bytes(whole.text.as_mut_ptr(), kept, from) } {
        ring::miss(Miss::UserRead);
        flags |= FLAG_UNREAD;
        kept = 0;
    }
    let bytes = size_of::<Output>() as u64 + kept;
    whole.fixed = Output {
        header: Header { ktime_ns: now_ns(), kind: Kind::Output as u32, len_bytes: bytes as u32 },
        task: identity(writer.task),
        fd: writer.fd,
        len: kept as u32,
        written: at_most(len, u64::from(u32::MAX)) as u32,
        flags,
    };
    ring::send_bytes(Ring::Life, Kind::Output, (&raw const *whole).cast(), bytes);
}
