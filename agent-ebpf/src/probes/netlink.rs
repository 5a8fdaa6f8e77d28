//! What programs ask of the kernel over netlink, and what it refuses.
//!
//! A send is stamped where it begins and reported where it ends. Its messages are read at the end, from the
//! sender's own buffers, which the system call's arguments point to; so every rung shares all but the hooks.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe, map, tracepoint},
    maps::PerCpuArray,
    programs::{
        BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext, TracePointContext,
    },
};
use slowpod_ebpf::{
    abi::{
        Header, Kind, Miss,
        netlink::{FLAG_UNREAD, FLAG_UNTIMED, FLAG_WALK_CUT, NetlinkError, NetlinkSend, TYPES, TypeCount},
    },
    rules::{
        cause::AF_NETLINK,
        netlink::{self as rules, HEADER_BYTES, NETLINK_GENERIC, NLMSG_ERROR, SendCall, WALK_MAX},
        verifier::opaque,
    },
};

use super::{
    kernel::{
        OFF_REGS_ARG1, OFF_REGS_ARG2, OFF_REGS_CALL_ARG0, OFF_REGS_CALL_RESULT, OFF_REGS_SYSCALL,
        OFF_SK_FAMILY, OFF_SK_PROTOCOL, OFF_SOCKET_SK, Regs, Sock, Socket, TaskStruct, address, cgroup_id,
        comm, current, entry_regs, identity, is_own, is_user, now_ns,
    },
    ring::{self, Ring},
    settings, tables,
    text::user_value,
};
use aya_ebpf::EbpfContext;

/// A record and the state of the walk that fills it.
#[repr(C)]
struct Whole {
    record: NetlinkSend,
    buffers: Buffers,
}

#[map]
static SEND_SCRATCH: PerCpuArray<Whole> = PerCpuArray::with_max_entries(1, 0);

/// In `struct msghdr`: the array of `struct iovec`, and its length.
const MSGHDR_IOV: u64 = 16;
const MSGHDR_IOVLEN: u64 = 24;
/// Size of `struct mmsghdr`.
const MMSGHDR_BYTES: u64 = 64;
/// Size of `struct iovec`.
const IOVEC_BYTES: u64 = 16;
/// Most pieces of a send that are looked into; the programs this is for use one, or one per page of messages.
const PIECES_MAX: usize = 16;
/// Most messages of one receive that are looked at: refusals come alone or first.
const ANSWERS_MAX: usize = 4;
/// `MSG_PEEK` of `linux/socket.h`: the message will be received again.
const MSG_PEEK: u32 = 2;

// The rungs of the send probe, best first.

#[fentry(function = "netlink_sendmsg")]
pub fn netlink_send_fentry(_: FEntryContext) -> i32 {
    begin_any();
    0
}

#[fexit(function = "netlink_sendmsg")]
pub fn netlink_send_fexit(ctx: FExitContext) -> i32 {
    let socket: *const Socket = ctx.arg(0);
    let result: i32 = ctx.arg(3);
    let protocol = OFF_SOCKET_SK.probe(socket).and_then(|sk| OFF_SK_PROTOCOL.probe(sk));
    end(current(), protocol.unwrap_or(0), result, Timed::Always);
    0
}

#[kprobe]
pub fn netlink_send_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(row) = begin_any() {
        let regs: *const Regs = ctx.as_ptr().cast_const().cast();
        row.send_socket = OFF_REGS_CALL_ARG0.probe(regs).unwrap_or(0);
    }
    0
}

#[kretprobe]
pub fn netlink_send_kretprobe(ctx: RetProbeContext) -> u32 {
    let task = current();
    let Some(row) = tables::task(address(task)) else { return 0 };
    let socket = row.send_socket as *const Socket;
    row.send_socket = 0;
    if socket.is_null() {
        return 0;
    }
    let regs: *const Regs = ctx.as_ptr().cast_const().cast();
    let result = OFF_REGS_CALL_RESULT.probe(regs).unwrap_or(0);
    let protocol = OFF_SOCKET_SK.probe(socket).and_then(|sk| OFF_SK_PROTOCOL.probe(sk));
    end(task, protocol.unwrap_or(0), result as i32, Timed::Always);
    0
}

#[tracepoint]
pub fn netlink_sendmsg_enter(_: TracePointContext) -> u32 {
    begin_if_tracked()
}

#[tracepoint]
pub fn netlink_sendto_enter(_: TracePointContext) -> u32 {
    begin_if_tracked()
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn netlink_send_length(ctx: BtfTracePointContext) -> i32 {
    let sk: *const Sock = ctx.arg(0);
    if OFF_SK_FAMILY.of(sk) != Some(AF_NETLINK) {
        return 0;
    }
    end(current(), OFF_SK_PROTOCOL.of(sk).unwrap_or(0), ctx.arg(1), Timed::SendmsgAndSendto);
    0
}

/// A send begins, for sure on a netlink socket: its thread is tracked from now on.
#[inline(always)]
fn begin_any() -> Option<&'static mut tables::TaskRow> {
    let task = current();
    if is_own(task) || !is_user(task) {
        return None;
    }
    let now = now_ns();
    let row = tables::track_current(task, now)?;
    row.send_begun_ns = now;
    Some(row)
}

/// A send begins on any socket. Threads that are not tracked are left alone: most never use netlink.
#[inline(always)]
fn begin_if_tracked() -> u32 {
    if let Some(row) = tables::task(address(current())) {
        row.send_begun_ns = now_ns();
    }
    0
}

/// Of which sends the hooks see the beginning.
#[derive(Clone, Copy, PartialEq)]
enum Timed {
    Always,
    SendmsgAndSendto,
}

/// A send on a netlink socket has ended.
#[inline(always)]
fn end(task: *const TaskStruct, protocol: u16, result: i32, timed: Timed) {
    if is_own(task) || !is_user(task) {
        return;
    }
    let now = now_ns();
    let Some(whole) = SEND_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's scratch; one program of one rung uses it, and it does not interrupt itself.
    let whole = unsafe { &mut *whole };
    let regs = entry_regs(task);
    let call = regs.and_then(|regs| send_call(OFF_REGS_SYSCALL.of(regs)? as u32));
    let mut flags = 0;
    let (mut inside_ns, mut index) = (0, 0);
    if let Some(row) = tables::track_current(task, now) {
        let begun = row.send_begun_ns;
        row.send_begun_ns = 0;
        let seen = timed == Timed::Always || matches!(call, Some(SendCall::Sendmsg | SendCall::Sendto));
        if seen && begun != 0 {
            inside_ns = now.wrapping_sub(begun);
        } else {
            flags |= FLAG_UNTIMED;
        }
        if call == Some(SendCall::Sendmmsg) {
            index = u64::from(row.sendmmsg_index);
            let count = regs.and_then(|regs| OFF_REGS_ARG2.of(regs)).unwrap_or(0);
            row.sendmmsg_index = if result < 0 || index + 1 >= count { 0 } else { index as u32 + 1 };
        }
    }
    whole.record.types = [TypeCount::default(); TYPES];
    whole.record.other_messages = 0;
    match regs.zip(call).and_then(|(regs, call)| buffers(regs, call, index)) {
        Some(buffers) => {
            whole.buffers = buffers;
            flags |= walk(protocol);
        }
        None => flags |= FLAG_UNREAD,
    }
    if flags & FLAG_UNREAD != 0 {
        ring::miss(Miss::UserRead);
    }
    let len = size_of::<NetlinkSend>() as u64;
    let record = &mut whole.record;
    record.header = Header { ktime_ns: now, kind: Kind::NetlinkSend as u32, len_bytes: len as u32 };
    record.task = identity(task);
    record.cgroup_id = cgroup_id(task);
    record.inside_ns = inside_ns;
    record.bytes = if result > 0 { result as u64 } else { 0 };
    record.sends = 1;
    record.failed_sends = u32::from(result < 0);
    record.protocol = protocol;
    record.errno = if result < 0 { result.unsigned_abs() as u16 } else { 0 };
    record.flags = flags;
    record.reserved = 0;
    record.comm = comm(task);
    ring::send_bytes(Ring::Netlink, Kind::NetlinkSend, (&raw const *record).cast(), len);
}

/// Which of the sending system calls a number is.
#[inline(always)]
fn send_call(number: u32) -> Option<SendCall> {
    let calls = settings::SET_SEND_CALLS.load();
    if number == calls[SendCall::Sendmsg as usize] {
        Some(SendCall::Sendmsg)
    } else if number == calls[SendCall::Sendto as usize] {
        Some(SendCall::Sendto)
    } else if number == calls[SendCall::Write as usize] {
        Some(SendCall::Write)
    } else if number == calls[SendCall::Writev as usize] {
        Some(SendCall::Writev)
    } else if number == calls[SendCall::Sendmmsg as usize] {
        Some(SendCall::Sendmmsg)
    } else {
        None
    }
}

/// Memory of the running process that holds messages: what is left of one piece, then more pieces.
#[repr(C)]
#[derive(Clone, Copy)]
struct Buffers {
    /// Where the next message begins.
    at: u64,
    /// End of the present piece.
    end: u64,
    /// The next `struct iovec`, and how many there are.
    next: u64,
    left: u64,
}

/// The buffers of the send that is ending.
#[inline(always)]
fn buffers(regs: *const Regs, call: SendCall, index: u64) -> Option<Buffers> {
    let (second, third) = (OFF_REGS_ARG1.of(regs)?, OFF_REGS_ARG2.of(regs)?);
    match call {
        SendCall::Sendmsg => message_buffers(second),
        SendCall::Sendmmsg => message_buffers(second + index * MMSGHDR_BYTES),
        SendCall::Writev => Some(Buffers { at: 0, end: 0, next: second, left: third }),
        SendCall::Sendto | SendCall::Write => {
            Some(Buffers { at: second, end: second + third, next: 0, left: 0 })
        }
    }
}

/// The buffers of a `struct msghdr`.
#[inline(always)]
fn message_buffers(header: u64) -> Option<Buffers> {
    Some(Buffers {
        at: 0,
        end: 0,
        next: user_value(header + MSGHDR_IOV)?,
        left: user_value(header + MSGHDR_IOVLEN)?,
    })
}

/// `struct nlmsghdr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MessageHeader {
    len: u32,
    message_type: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}
const _: () = assert!(size_of::<MessageHeader>() == HEADER_BYTES);

/// Counts the messages of a send by type. Answers with record flags.
#[inline(always)]
fn walk(protocol: u16) -> u32 {
    let mut step = 0;
    while step < (WALK_MAX + PIECES_MAX) as u64 {
        // Hidden, so that this stays a loop.
        step = opaque(step) + 1;
        match netlink_walk_step(u64::from(protocol)) {
            STEP_ON => {}
            STEP_DONE => return 0,
            _ => return FLAG_UNREAD,
        }
    }
    FLAG_WALK_CUT
}

const STEP_ON: u64 = 0;
const STEP_DONE: u64 = 1;
const STEP_UNREAD: u64 = 2;

/// Goes on to the next piece, or counts one message. A function of its own, and known to the kernel as such: it
/// is verified once, not for every state of every round.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn netlink_walk_step(protocol: u64) -> u64 {
    let Some(whole) = SEND_SCRATCH.get_ptr_mut(0) else { return STEP_DONE };
    // SAFETY: this CPU's scratch; the caller holds no reference into it that it uses meanwhile.
    let Whole { record, buffers } = unsafe { &mut *whole };
    if buffers.at + HEADER_BYTES as u64 > buffers.end {
        return next_piece(buffers);
    }
    let Some(header) = user_value::<MessageHeader>(buffers.at) else { return STEP_UNREAD };
    let Some(advance) = rules::advance(header.len) else { return STEP_DONE };
    let protocol = protocol as u16;
    if rules::counts(protocol, header.message_type) {
        let command = match protocol {
            NETLINK_GENERIC => user_value::<u8>(buffers.at + HEADER_BYTES as u64).unwrap_or(0),
            _ => 0,
        };
        if !rules::tally(&mut record.types, header.message_type, u16::from(command)) {
            record.other_messages += 1;
        }
    }
    buffers.at += u64::from(advance);
    STEP_ON
}

#[inline(always)]
fn next_piece(buffers: &mut Buffers) -> u64 {
    if buffers.left == 0 {
        return STEP_DONE;
    }
    let (Some(base), Some(len)) = (user_value::<u64>(buffers.next), user_value::<u64>(buffers.next + 8))
    else {
        return STEP_UNREAD;
    };
    // A message may go on in the next piece.
    buffers.at = base + buffers.at.saturating_sub(buffers.end);
    buffers.end = base + len;
    buffers.next += IOVEC_BYTES;
    buffers.left -= 1;
    STEP_ON
}

/// The start of an `NLMSG_ERROR` message: `struct nlmsghdr`, then `struct nlmsgerr` (an errno, and the header
/// of the request).
#[repr(C)]
#[derive(Clone, Copy)]
struct Answer {
    header: MessageHeader,
    error: i32,
    request: MessageHeader,
}

/// Something was received. From a netlink socket it may be the kernel's refusal of a request.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn netlink_recv_length(ctx: BtfTracePointContext) -> i32 {
    let sk: *const Sock = ctx.arg(0);
    if OFF_SK_FAMILY.of(sk) != Some(AF_NETLINK) {
        return 0;
    }
    let received: i32 = ctx.arg(1);
    let task = current();
    if received <= 0 || ctx.arg::<u32>(2) & MSG_PEEK != 0 || is_own(task) {
        return 0;
    }
    if let Some(at) = entry_regs(task).and_then(received_into) {
        answers(task, OFF_SK_PROTOCOL.of(sk).unwrap_or(0), at, at + received as u64);
    }
    0
}

/// Where the running system call received to.
#[inline(always)]
fn received_into(regs: *const Regs) -> Option<u64> {
    let number = OFF_REGS_SYSCALL.of(regs)? as u32;
    let second = OFF_REGS_ARG1.of(regs)?;
    let [recvmsg, recvfrom] = settings::SET_RECEIVE_CALLS.load();
    if number == recvmsg {
        user_value(user_value(second + MSGHDR_IOV)?)
    } else if number == recvfrom {
        Some(second)
    } else {
        None
    }
}

#[inline(always)]
fn answers(task: *const TaskStruct, protocol: u16, mut at: u64, end: u64) {
    let mut step = 0;
    while step < ANSWERS_MAX as u64 {
        step = opaque(step) + 1;
        if at + HEADER_BYTES as u64 > end {
            return;
        }
        let Some(header) = user_value::<MessageHeader>(at) else { return };
        if header.message_type == NLMSG_ERROR
            && let Some(answer) = user_value::<Answer>(at)
            && answer.error < 0
        {
            refused(task, protocol, answer);
        }
        let Some(advance) = rules::advance(header.len) else { return };
        at += u64::from(advance);
    }
}

#[inline(always)]
fn refused(task: *const TaskStruct, protocol: u16, answer: Answer) {
    ring::send::<NetlinkError>(Ring::Netlink, |record| {
        // SAFETY: the reserved record, written in full.
        unsafe {
            record.write(NetlinkError {
                header: ring::header::<NetlinkError>(now_ns()),
                task: identity(task),
                protocol,
                message_type: answer.request.message_type,
                errno: answer.error.unsigned_abs(),
                comm: comm(task),
            });
        }
    });
}
