//! What programs ask of the kernel over netlink, and what it refuses.
//!
//! A send is stamped where it begins and reported where it ends. Its messages are read at the end, from the
//! sender's own buffers, which the system call's arguments point to; so every rung shares all but the hooks.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe, tracepoint},
    programs::{
        BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext, TracePointContext,
    },
};
use slowpod_ebpf::{
    abi::{
        Header, Kind, Miss,
        netlink::{FLAG_UNREAD, FLAG_UNTIMED, NetlinkError, NetlinkSend},
    },
    rules::{
        cause::AF_NETLINK,
        netlink::{self as rules, HEADER_BYTES, NLMSG_ERROR, SendCall},
        verifier::opaque,
    },
};

use super::{
    kernel::{
        OFF_REGS_ARG2, OFF_REGS_CALL_ARG0, OFF_REGS_CALL_RESULT, OFF_SK_FAMILY, OFF_SK_PROTOCOL,
        OFF_SOCKET_SK, Regs, Sock, Socket, TaskStruct, address, cgroup_id, comm, current, entry_regs,
        identity, is_own, is_user, now_ns,
    },
    messages::{self, MessageHeader},
    ring::{self, Ring},
    tables,
    text::user_value,
};

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
    let Some(sending) = messages::sending() else { return };
    let regs = entry_regs(task);
    let call = regs.and_then(messages::send_call);
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
    flags |= match regs.zip(call) {
        Some((regs, call)) => messages::count(sending, regs, call, index, protocol),
        None => FLAG_UNREAD,
    };
    if flags & FLAG_UNREAD != 0 {
        ring::miss(Miss::UserRead);
    }
    let len = size_of::<NetlinkSend>() as u64;
    let record = &mut sending.record;
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
    if let Some(at) = entry_regs(task).and_then(messages::received_into) {
        answers(task, OFF_SK_PROTOCOL.of(sk).unwrap_or(0), at, at + received as u64);
    }
    0
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
