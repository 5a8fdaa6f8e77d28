//! Netlink: what user space asked of the kernel's networking, and which requests it refused.

use super::{COMM_BYTES, Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many different message types of one send are told apart; the rest are in `other_messages`.
pub const TYPES: usize = 4;

/// One message type of a send and how often it occurs in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TypeCount {
    /// `nlmsg_type`. For NETFILTER the subsystem is the high byte; for GENERIC it is the family id.
    pub message_type: u16,
    /// Generic netlink's command (`genlmsghdr.cmd`); 0 for other protocols.
    pub command: u16,
    /// Messages of this type; 0 = slot not used.
    pub messages: u32,
}
const _: () = assert!(size_of::<TypeCount>() == 8);

/// One send on a netlink socket (one system call; it may carry several messages). The agent may merge
/// neighbouring sends of one process and one type into one record with `sends > 1` (capture/coalesce).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NetlinkSend {
    /// `header.ktime_ns` is the instant the send returned (the last one, when merged).
    pub header: Header,
    /// The thread that sent.
    pub task: Task,
    /// Its cgroup id.
    pub cgroup_id: u64,
    /// Time inside the send, nanoseconds. Netlink requests are carried out inside it. 0 when not measured.
    pub inside_ns: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Sends this record stands for.
    pub sends: u32,
    /// Of these, sends that failed as a system call.
    pub failed_sends: u32,
    /// Netlink protocol (`NETLINK_ROUTE` = 0, `NETLINK_NETFILTER` = 12, `NETLINK_GENERIC` = 16 ...).
    pub protocol: u16,
    /// Positive errno of the last failed send; 0 = none.
    pub errno: u16,
    /// Bits: [`FLAG_WALK_CUT`], [`FLAG_UNREAD`], [`FLAG_UNTIMED`].
    pub flags: u32,
    /// Message types, batch markers left out.
    pub types: [TypeCount; TYPES],
    /// Messages of types that found no slot.
    pub other_messages: u32,
    /// Zero.
    pub reserved: u32,
    /// The sender's comm.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<NetlinkSend>() == 128);

/// The send held more messages than the program walks: the counts are a lower bound.
pub const FLAG_WALK_CUT: u32 = 1;
/// The messages could not be read to the end: bytes are right, types are missing.
pub const FLAG_UNREAD: u32 = 2;
/// The start of the send was not seen (it was none of sendmsg and sendto, or the first one of its thread):
/// `inside_ns` was not measured.
pub const FLAG_UNTIMED: u32 = 4;

/// The kernel refused a request: an `NLMSG_ERROR` with a non-zero error that a process received.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NetlinkError {
    /// `header.ktime_ns` is the instant it was received.
    pub header: Header,
    /// The thread that received it.
    pub task: Task,
    /// Netlink protocol.
    pub protocol: u16,
    /// Type of the request that failed, as in [`TypeCount::message_type`].
    pub message_type: u16,
    /// Why, as a positive errno.
    pub errno: u32,
    /// The receiver's comm.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<NetlinkError>() == 56);
