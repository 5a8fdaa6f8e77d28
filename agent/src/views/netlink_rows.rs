//! Netlink sums as rows with names. In: a table by numbers. Out: rows by family and message.

use crate::decode::{errno::errno_name, netlink_names::message_name};
use crate::fold::State;
use crate::fold::netlink::{MessageKey, MessageSums, NetlinkTable};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One message type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetlinkRow {
    /// Protocol family, as `linux/netlink.h` names it, without the prefix: `ROUTE`, `NETFILTER`, `GENERIC`.
    pub family: Cow<'static, str>,
    /// Netfilter's subsystem (`ipset`, `nftables`, `ctnetlink`) or generic netlink's family name.
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

/// A message's standard name.
pub fn message(state: &State, key: &MessageKey) -> Cow<'static, str> {
    let genl = |id: u16| state.genl.get(&id).map(String::as_str);
    message_name(key.protocol, key.message_type, key.command, &genl)
}

/// Netlink protocols by number (`linux/netlink.h`); an empty name is a number nobody uses.
const FAMILIES: [&str; 23] = [
    "ROUTE",
    "UNUSED",
    "USERSOCK",
    "FIREWALL",
    "SOCK_DIAG",
    "NFLOG",
    "XFRM",
    "SELINUX",
    "ISCSI",
    "AUDIT",
    "FIB_LOOKUP",
    "CONNECTOR",
    "NETFILTER",
    "IP6_FW",
    "DNRTMSG",
    "KOBJECT_UEVENT",
    "GENERIC",
    "",
    "SCSITRANSPORT",
    "ECRYPTFS",
    "RDMA",
    "CRYPTO",
    "SMC",
];
const NETFILTER: u16 = 12;
const GENERIC: u16 = 16;
/// Netfilter's subsystems by number, the high byte of a message type (`linux/netfilter/nfnetlink.h`), by
/// the names users know.
const SUBSYSTEMS: [&str; 13] = [
    "",
    "ctnetlink",
    "ctnetlink_exp",
    "queue",
    "log",
    "osf",
    "ipset",
    "acct",
    "ctnetlink_timeout",
    "cthelper",
    "nftables",
    "nft_compat",
    "hook",
];

fn family(protocol: u16) -> Cow<'static, str> {
    let name = FAMILIES.get(usize::from(protocol)).filter(|name| !name.is_empty());
    name.map_or_else(|| protocol.to_string().into(), |name| (*name).into())
}

fn subsystem(state: &State, key: &MessageKey) -> Option<Cow<'static, str>> {
    match key.protocol {
        NETFILTER if key.message_type > 0 => {
            let number = key.message_type >> 8;
            let name = SUBSYSTEMS.get(usize::from(number)).filter(|name| !name.is_empty());
            Some(name.map_or_else(|| number.to_string().into(), |name| (*name).into()))
        }
        GENERIC => state.genl.get(&key.message_type).map(|name| name.clone().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_subsystems_have_their_headers_numbers() {
        assert_eq!(family(0), "ROUTE");
        assert_eq!(family(NETFILTER), "NETFILTER");
        assert_eq!(family(GENERIC), "GENERIC");
        assert_eq!(family(22), "SMC");
        assert_eq!(family(17), "17");
        assert_eq!(family(999), "999");
        assert_eq!(SUBSYSTEMS[6], "ipset");
        assert_eq!(SUBSYSTEMS[10], "nftables");
    }
}
