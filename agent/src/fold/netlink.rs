//! Netlink sends, summed by protocol and message type. In: sends and refusals. Out: one row per type.

use super::grow::Grow;
use slowpod_ebpf::abi::netlink::{FLAG_UNREAD, FLAG_UNTIMED, FLAG_WALK_CUT, NetlinkError, NetlinkSend};
use std::collections::BTreeMap;

/// Rows kept per sender; the standard types of all protocols together are some 300.
pub const ROWS_MAX: usize = 128;

/// A message type of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageKey {
    /// Netlink protocol number.
    pub protocol: u16,
    /// `nlmsg_type`; 0 when the message could not be read.
    pub message_type: u16,
    /// Generic netlink's command; 0 elsewhere.
    pub command: u16,
}

/// Sums over one message type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageSums {
    /// Messages.
    pub messages: u64,
    /// Send calls that carried them; a call with several types counts for the first.
    pub sends: u64,
    /// Bytes of those calls.
    pub bytes: u64,
    /// Time inside those calls.
    pub inside_ns: u64,
    /// Send calls that failed.
    pub failed_sends: u64,
    /// Requests the kernel answered with an error.
    pub refused: u64,
}

impl MessageSums {
    /// Adds another sum.
    pub fn add(&mut self, other: &MessageSums) {
        self.messages.grow(other.messages);
        self.sends.grow(other.sends);
        self.bytes.grow(other.bytes);
        self.inside_ns.grow(other.inside_ns);
        self.failed_sends.grow(other.failed_sends);
        self.refused.grow(other.refused);
    }
}

/// What one sender sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetlinkTable {
    rows: BTreeMap<MessageKey, MessageSums>,
    /// Errors the kernel answered with, as positive errnos, and how often.
    pub errnos: BTreeMap<u32, u64>,
    /// Messages of types that found no row.
    pub other_messages: u64,
    /// Sends whose messages were more than are walked: counts are lower bounds.
    pub cut_sends: u64,
    /// Sends whose time was not measured.
    pub untimed_sends: u64,
}

impl NetlinkTable {
    /// Adds a send.
    pub fn send(&mut self, send: &NetlinkSend) {
        let mut carried = MessageSums {
            sends: u64::from(send.sends),
            bytes: send.bytes,
            inside_ns: send.inside_ns,
            failed_sends: u64::from(send.failed_sends),
            ..MessageSums::default()
        };
        if send.flags & (FLAG_WALK_CUT | FLAG_UNREAD) != 0 {
            self.cut_sends.grow(u64::from(send.sends));
        }
        if send.flags & FLAG_UNTIMED != 0 {
            self.untimed_sends.grow(u64::from(send.sends));
        }
        self.other_messages.grow(u64::from(send.other_messages));
        let key = |message_type, command| MessageKey { protocol: send.protocol, message_type, command };
        for slot in send.types.iter().filter(|slot| slot.messages > 0) {
            let sums = MessageSums { messages: u64::from(slot.messages), ..std::mem::take(&mut carried) };
            self.add(key(slot.message_type, slot.command), &sums);
        }
        if carried.sends > 0 {
            self.add(key(0, 0), &carried);
        }
    }

    /// Adds a refusal.
    pub fn refused(&mut self, error: &NetlinkError) {
        let key = MessageKey { protocol: error.protocol, message_type: error.message_type, command: 0 };
        // A generic-netlink refusal does not say which command it was: put it on that family's first row.
        let key = self
            .rows
            .range(key..=MessageKey { command: u16::MAX, ..key })
            .next()
            .map_or(key, |(found, _)| *found);
        self.add(key, &MessageSums { refused: 1, ..MessageSums::default() });
        *self.errnos.entry(error.errno).or_default() += 1;
    }

    /// Adds sums to a row.
    pub fn add(&mut self, key: MessageKey, sums: &MessageSums) {
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            self.other_messages.grow(sums.messages);
            return;
        }
        self.rows.entry(key).or_default().add(sums);
    }

    /// Adds another table.
    pub fn merge(&mut self, other: &NetlinkTable) {
        for (key, sums) in &other.rows {
            self.add(*key, sums);
        }
        for (errno, count) in &other.errnos {
            self.errnos.entry(*errno).or_default().grow(*count);
        }
        self.other_messages.grow(other.other_messages);
        self.cut_sends.grow(other.cut_sends);
        self.untimed_sends.grow(other.untimed_sends);
    }

    /// Rows by protocol and type.
    pub fn rows(&self) -> impl Iterator<Item = (&MessageKey, &MessageSums)> {
        self.rows.iter()
    }

    /// All rows together.
    pub fn total(&self) -> MessageSums {
        let mut total = MessageSums::default();
        self.rows.values().for_each(|sums| total.add(sums));
        total
    }

    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
