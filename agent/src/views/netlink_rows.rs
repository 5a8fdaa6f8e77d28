//! Netlink sums as rows with names. In: a table by numbers. Out: rows by family and message.

use crate::decode::errno::errno_name;
use crate::decode::netlink_names::{self, family, message_name};
use crate::fold::State;
use crate::fold::netlink::{MessageKey, MessageSums, NetlinkTable};
use serde::Serialize;
use slowpod_ebpf::rules::netlink::NETLINK_GENERIC;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One message type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetlinkRow {
    /// Protocol family, as `linux/netlink.h` names it, without the prefix: `ROUTE`, `NETFILTER`, `GENERIC`.
    pub family: Cow<'static, str>,
    /// Netfilter's subsystem (`ipset`, `nftables`, `conntrack`) or generic netlink's family name.
    pub subsystem: Option<Cow<'static, str>>,
    /// The message's standard name: `RTM_NEWROUTE`, `IPSET_CMD_ADD`.
    pub message: Cow<'static, str>,
    /// Sums.
    #[serde(flatten)]
    pub sums: NetlinkSums,
}

/// Sums over messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetlinkSums {
    /// Messages.
    pub messages: u64,
    /// Send calls that carried them.
    pub sends: u64,
    /// Bytes of those calls.
    pub bytes: u64,
    /// Time inside those calls, where requests are carried out.
    pub inside_ns: u64,
    /// Of it, per message.
    pub mean_inside_ns: u64,
    /// Send calls that failed.
    pub failed_sends: u64,
    /// Requests the kernel refused.
    pub refused: u64,
}

impl From<&MessageSums> for NetlinkSums {
    fn from(sums: &MessageSums) -> Self {
        NetlinkSums {
            messages: sums.messages,
            sends: sums.sends,
            bytes: sums.bytes,
            inside_ns: sums.inside_ns,
            mean_inside_ns: sums.inside_ns.checked_div(sums.messages).unwrap_or(0),
            failed_sends: sums.failed_sends,
            refused: sums.refused,
        }
    }
}

/// What a sender sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetlinkBlock {
    /// All messages together.
    pub total: NetlinkSums,
    /// By message, in the order of their numbers.
    pub messages: Vec<NetlinkRow>,
    /// Why requests were refused, by errno.
    pub refused_by: BTreeMap<Cow<'static, str>, u64>,
    /// Messages of types that found no row; not in the rows.
    pub other_messages: u64,
    /// Sends that were not read to the end: the counts are lower bounds.
    pub cut_sends: u64,
    /// Sends whose time was not measured.
    pub untimed_sends: u64,
}

impl NetlinkBlock {
    /// A table with names; `None` when nothing was sent.
    pub fn of(state: &State, table: &NetlinkTable) -> Option<Self> {
        if table.is_empty() {
            return None;
        }
        let refused_by = table.errnos.iter().map(|(errno, count)| (errno_name(*errno), *count));
        Some(NetlinkBlock {
            total: NetlinkSums::from(&table.total()),
            messages: table.rows().map(|(key, sums)| row(state, key, sums)).collect(),
            refused_by: refused_by.collect(),
            other_messages: table.other_messages,
            cut_sends: table.cut_sends,
            untimed_sends: table.untimed_sends,
        })
    }
}

/// One row with its names.
pub fn row(state: &State, key: &MessageKey, sums: &MessageSums) -> NetlinkRow {
    NetlinkRow {
        family: family(key.protocol),
        subsystem: subsystem(state, key),
        message: message(state, key),
        sums: sums.into(),
    }
}

/// A message's standard name; `(unread)` for sends whose messages could not be read.
pub fn message(state: &State, key: &MessageKey) -> Cow<'static, str> {
    if key.message_type == 0 {
        return "(unread)".into();
    }
    let genl = |id: u16| state.genl.get(&id).map(String::as_str);
    message_name(key.protocol, key.message_type, key.command, &genl)
}

fn subsystem(state: &State, key: &MessageKey) -> Option<Cow<'static, str>> {
    if key.protocol == NETLINK_GENERIC {
        return state.genl.get(&key.message_type).map(|name| name.clone().into());
    }
    netlink_names::subsystem(key.protocol, key.message_type).map(Cow::Borrowed)
}
