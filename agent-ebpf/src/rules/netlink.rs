//! Reading netlink message headers: what to do with each header of a send, decided without touching memory.

use crate::abi::netlink::{TYPES, TypeCount};

/// Bytes of `struct nlmsghdr` (`linux/netlink.h`).
pub const HEADER_BYTES: usize = 16;
/// Most messages of one send that are walked: a batch of firewall rules may hold many, each costs some 100 ns.
pub const WALK_MAX: usize = 1024;
/// Protocols whose messages need more than the header (`linux/netlink.h`).
pub const NETLINK_NETFILTER: u16 = 12;
/// Generic netlink: the command is in the four bytes after the header.
pub const NETLINK_GENERIC: u16 = 16;
/// `NLMSG_ERROR`: an answer, positive or negative.
pub const NLMSG_ERROR: u16 = 2;
/// Types below this are control messages (NOOP, ERROR, DONE, OVERRUN).
pub const NLMSG_MIN_TYPE: u16 = 16;
/// nfnetlink batch markers: they frame messages, and are none themselves (`linux/netfilter/nfnetlink.h`).
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

/// System calls that send on a socket, by their place in
/// [`crate::abi::settings::globals::SEND_CALLS`]. What they have in common: the first argument is the socket.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendCall {
    /// The second argument is a `struct msghdr`.
    Sendmsg = 0,
    /// The second argument is the bytes, the third their number.
    Sendto = 1,
    /// Likewise.
    Write = 2,
    /// The second argument is an array of `struct iovec`, the third its length.
    Writev = 3,
    /// The second argument is an array of `struct mmsghdr`, the third its length.
    Sendmmsg = 4,
}

/// Whether a header stands for a request worth counting.
#[inline(always)]
pub const fn counts(protocol: u16, message_type: u16) -> bool {
    if protocol == NETLINK_NETFILTER
        && (message_type == NFNL_MSG_BATCH_BEGIN || message_type == NFNL_MSG_BATCH_END)
    {
        return false;
    }
    message_type >= NLMSG_MIN_TYPE
}

/// Offset of the next message after one of `len` bytes (netlink aligns messages to four bytes); `None` when
/// `len` cannot be a message's length, so the walk must end.
#[inline(always)]
pub const fn advance(len: u32) -> Option<u32> {
    if len < HEADER_BYTES as u32 || len > 1 << 24 { None } else { Some((len + 3) & !3) }
}

/// Adds one message to the slots. Returns false when no slot is left for its type.
#[inline(always)]
pub fn tally(types: &mut [TypeCount; TYPES], message_type: u16, command: u16) -> bool {
    let mut slot = 0;
    while slot < TYPES {
        let entry = &mut types[slot];
        if entry.messages == 0 {
            *entry = TypeCount { message_type, command, messages: 1 };
            return true;
        }
        if entry.message_type == message_type && entry.command == command {
            entry.messages += 1;
            return true;
        }
        slot += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_markers_and_control_messages_do_not_count() {
        assert!(!counts(NETLINK_NETFILTER, 16));
        assert!(!counts(NETLINK_NETFILTER, 17));
        assert!(counts(NETLINK_NETFILTER, 0x0609), "ipset's IPSET_CMD_ADD");
        assert!(counts(0, 24), "RTM_NEWROUTE");
        assert!(counts(0, 16), "RTM_NEWLINK is 16 in ROUTE");
        assert!(!counts(0, NLMSG_ERROR));
    }

    #[test]
    fn lengths_are_aligned_and_hostile_ones_end_the_walk() {
        assert_eq!(advance(16), Some(16));
        assert_eq!(advance(17), Some(20));
        assert_eq!(advance(0), None);
        assert_eq!(advance(15), None);
        assert_eq!(advance(u32::MAX), None);
    }

    #[test]
    fn types_fill_slots_and_the_fifth_is_told() {
        let mut types = [TypeCount::default(); TYPES];
        for kind in [24, 24, 25, 26, 27] {
            assert!(tally(&mut types, kind, 0));
        }
        assert!(!tally(&mut types, 28, 0));
        assert_eq!(types[0], TypeCount { message_type: 24, command: 0, messages: 2 });
    }
}
