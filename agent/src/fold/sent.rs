//! Netlink sends by the code that made them. In: sends, in the window. Out: rows that the `netlink` profile is
//! made from.
//!
//! A short-lived child is not where the decision was made: its sends stand under its spawner, from where it was
//! spawned, by its argv class.

use super::grow::Grow;
use super::netlink::{MessageKey, MessageSums, NetlinkTable};
use super::{Sender, State};
use crate::enrich::ProcId;
use slowpod_ebpf::abi::netlink::NetlinkSend;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who sent what, and from where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendKey {
    /// The sender; of a child its spawner.
    pub process: ProcId,
    /// Its user stack; 0 = none was taken.
    pub user_stack: u64,
    /// Of a child its argv class.
    pub child: Option<Arc<str>>,
    /// What was sent.
    pub message: MessageKey,
}

/// All rows of a window.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    rows: BTreeMap<SendKey, MessageSums>,
    rows_max: usize,
    /// Sends that found no row of their own and went to their sender's row without a stack.
    pub merged: u64,
}

impl Sent {
    /// No rows yet, and at most so many; with 0 none is kept, and none is missing.
    pub fn new(rows_max: usize) -> Self {
        Sent { rows_max, ..Sent::default() }
    }

    /// All rows, by key.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&SendKey, &MessageSums)> {
        self.rows.iter()
    }

    fn add(&mut self, key: SendKey, sums: &MessageSums) {
        if self.rows_max == 0 {
            return;
        }
        let room = self.rows.len() < self.rows_max || self.rows.contains_key(&key);
        let key = if room {
            key
        } else {
            self.merged.grow(sums.sends);
            let message = MessageKey { message_type: 0, command: 0, ..key.message };
            SendKey { user_stack: 0, child: None, message, ..key }
        };
        self.rows.entry(key).or_default().add(sums);
    }
}

impl State {
    /// A process sent something, in the window.
    pub(super) fn sent(&mut self, id: ProcId, send: &NetlinkSend) {
        let mut once = NetlinkTable::default();
        once.send(send);
        let (process, user_stack, child) = match self.sender(id, send.header.ktime_ns) {
            Sender::Process(id) => (id, 0, None),
            Sender::Children(_, class) => {
                let spawner = self.processes.get(id).and_then(|process| process.spawner);
                let stack = self.children.get(&id).map_or(0, |child| child.timing.user_stack);
                (spawner.unwrap_or(id), stack, Some(class))
            }
        };
        for (message, sums) in once.rows() {
            let key = SendKey { process, user_stack, child: child.clone(), message: *message };
            self.sent.add(key, sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_row_stays_in_the_sum_of_its_sender() {
        let mut sent = Sent::new(2);
        for user_stack in 1..=5 {
            let message = MessageKey { protocol: 0, message_type: 24, command: 0 };
            let process = ProcId { tgid: 1, start_ns: 1 };
            let key = SendKey { process, user_stack, child: None, message };
            sent.add(key, &MessageSums { sends: 1, inside_ns: 10, ..MessageSums::default() });
        }
        assert_eq!((sent.rows().len(), sent.merged), (3, 3));
        assert_eq!(sent.rows().map(|(_, sums)| sums.inside_ns).sum::<u64>(), 50);
    }
}
