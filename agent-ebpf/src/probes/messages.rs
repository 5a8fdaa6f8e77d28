//! Netlink messages where their sender has them: in its own memory, which the running system call's arguments
//! point to.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use slowpod_ebpf::{
    abi::netlink::{FLAG_UNREAD, FLAG_WALK_CUT, NetlinkSend, TYPES, TypeCount},
    rules::{
        netlink::{self as rules, HEADER_BYTES, NETLINK_GENERIC, SendCall, WALK_MAX},
        verifier::opaque,
    },
};

use super::{
    kernel::{OFF_REGS_ARG1, OFF_REGS_ARG2, OFF_REGS_SYSCALL, Regs},
    settings,
    text::user_value,
};

/// A record and the state of the walk that fills it.
#[repr(C)]
pub struct Sending {
    pub record: NetlinkSend,
    buffers: Buffers,
}

#[map]
static SEND_SCRATCH: PerCpuArray<Sending> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's record in the making, with no messages counted.
#[inline(always)]
pub fn sending() -> Option<&'static mut Sending> {
    // SAFETY: this CPU's scratch; one program of one rung uses it, and it does not interrupt itself.
    let sending = unsafe { &mut *SEND_SCRATCH.get_ptr_mut(0)? };
    sending.record.types = [TypeCount::default(); TYPES];
    sending.record.other_messages = 0;
    Some(sending)
}

/// In `struct msghdr`: the array of `struct iovec`, and its length.
const MSGHDR_IOV: u64 = 16;
const MSGHDR_IOVLEN: u64 = 24;
/// Size of `struct mmsghdr`.
const MMSGHDR_BYTES: u64 = 64;
/// Size of `struct iovec`.
const IOVEC_BYTES: u64 = 16;
/// Most pieces of a send that are looked into; the programs this is for use one, or one per page of messages.
const PIECES_MAX: usize = 16;

/// Which of the sending system calls is running; `None` when it is none of them.
#[inline(always)]
pub fn send_call(regs: *const Regs) -> Option<SendCall> {
    let number = OFF_REGS_SYSCALL.of(regs)? as u32;
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

/// Counts the messages of the send that is ending by type. Answers with flags for the record.
///
/// `index` is the message's place in a sendmmsg.
#[inline(always)]
pub fn count(sending: &mut Sending, regs: *const Regs, call: SendCall, index: u64, protocol: u16) -> u32 {
    let Some(buffers) = buffers(regs, call, index) else { return FLAG_UNREAD };
    sending.buffers = buffers;
    walk(protocol)
}

/// Type of the first message of a send that is going on.
#[inline(always)]
pub fn first_type(regs: *const Regs, call: SendCall) -> Option<u16> {
    let second = OFF_REGS_ARG1.of(regs)?;
    let at = match call {
        SendCall::Sendto | SendCall::Write => second,
        SendCall::Writev => user_value(second)?,
        SendCall::Sendmsg | SendCall::Sendmmsg => user_value(user_value(second + MSGHDR_IOV)?)?,
    };
    Some(user_value::<MessageHeader>(at)?.message_type)
}

/// Where the running system call received to; `None` when it is neither recvmsg nor recvfrom.
#[inline(always)]
pub fn received_into(regs: *const Regs) -> Option<u64> {
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
pub struct MessageHeader {
    pub len: u32,
    pub message_type: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}
const _: () = assert!(size_of::<MessageHeader>() == HEADER_BYTES);

/// Goes over the messages, a bounded number of them.
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
    let Some(sending) = SEND_SCRATCH.get_ptr_mut(0) else { return STEP_DONE };
    // SAFETY: this CPU's scratch; the caller holds no reference into it that it uses meanwhile.
    let Sending { record, buffers } = unsafe { &mut *sending };
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
